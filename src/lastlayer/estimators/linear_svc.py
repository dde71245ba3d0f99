"""`LinearSVC`: scikit-learn's estimator of that name, solved to its optimum."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Self, final

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning

from lastlayer._arrays import InputError
from lastlayer._progress import SILENT, stderr_progress
from lastlayer.estimators.content import in_order_of_content
from lastlayer.estimators.fitting import Coefficients, Plan, keep, learn
from lastlayer.estimators.parameters import check_count, check_flag, check_number, check_seed
from lastlayer.estimators.prediction import LinearPredictions
from lastlayer.estimators.training import Training, read_training
from lastlayer.selection.hinge import fit_hinge
from lastlayer.solvers.base import StopReason

LOSSES = ("squared_hinge", "hinge")


@final
class LinearSVC(LinearPredictions, BaseEstimator):  # type: ignore[misc]
    """Linear support vector machine, one class against the rest; a drop-in for scikit-learn's.

    Minimises for every class ``½ ‖w‖² + C Σᵢ sᵢ max(0, 1 - tᵢ (w·xᵢ + b))²`` (without the square for
    ``loss="hinge"``), t = 1 for rows of the class and -1 for others. w = a row of `coef_`, b of `intercept_`.

    Parameters
    ----------
    penalty : {"l2"}
        L1 penalties are refused.
    loss : {"squared_hinge", "hinge"}
        The squared hinge is minimised by preconditioned L-BFGS, the hinge through its dual.
    dual : "auto" or bool
        Names of ways to the same optimum; taken for compatibility.
    tol : float
        Squared hinge: relative gradient norm to be reached (1 at the best constant prediction, 0 at the optimum).
        Hinge: relative duality gap, so that the objective is at most that share above the optimum.
    C : float
        Inverse strength of the penalty, positive.
    multi_class : {"ovr"}
        One class against the rest.
    fit_intercept : bool
        Whether there is a b.
    intercept_scaling : float
        Only 1: the intercept is not penalised, and needs no scaling.
    class_weight : dict, "balanced" or None
        Factors for the weights of each class's rows; "balanced" gives all classes the same total weight.
    verbose : int
        Progress on stderr when positive.
    random_state : int, RandomState or None
        Seeds the order in which the dual ascent visits rows; only the last digits depend on it.
    max_iter : int
        Most iterations (squared hinge) or visits of the rows (hinge).

    Attributes
    ----------
    coef_ : ndarray
        (K, D), or (1, D) for two classes; float32 for features that float32 holds exactly, else float64.
    intercept_ : ndarray
        (K,) or (1,).
    classes_ : ndarray
        (K,) labels, sorted.
    n_iter_ : int
        Iterations, at least 1.
    n_features_in_ : int
        D.
    feature_names_in_ : ndarray
        Names of the columns, where X had any.

    Notes
    -----
    scikit-learn's LinearSVC penalises the intercept as if it were a weight; here it is free, as in its
    SVC(kernel="linear"). Without an intercept (``fit_intercept=False``) both have the same optimum. Different are also:
    nothing is random in the squared hinge; columns are centred inside, so that features far from zero do no harm;
    `tol` is relative; sparse matrices, L1 penalties and ``multi_class="crammer_singer"`` are refused by name; a class
    whose rows all have weight zero is not in `classes_`.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from lastlayer.estimators.linear_svc import LinearSVC
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = LinearSVC(C=1.0).fit(X, y)
    >>> classifier.predict(X[:3])
    array([0, 0, 0])
    >>> round(classifier.score(X, y), 2)
    0.97
    """

    def __init__(
        self,
        penalty: str = "l2",
        loss: str = "squared_hinge",
        *,
        dual: bool | str = "auto",
        tol: float = 1e-4,
        C: float = 1.0,
        multi_class: str = "ovr",
        fit_intercept: bool = True,
        intercept_scaling: float = 1,
        class_weight: Mapping[Any, float] | str | None = None,
        verbose: int = 0,
        random_state: int | np.random.RandomState | None = None,
        max_iter: int = 1000,
    ) -> None:
        self.penalty = penalty
        self.loss = loss
        self.dual = dual
        self.tol = tol
        self.C = C
        self.multi_class = multi_class
        self.fit_intercept = fit_intercept
        self.intercept_scaling = intercept_scaling
        self.class_weight = class_weight
        self.verbose = verbose
        self.random_state = random_state
        self.max_iter = max_iter

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the coefficients.

        Parameters
        ----------
        X : (N, D) array-like of finite real numbers; uint8 and float32 are multiplied as float32.
        y : (N,) array-like of labels.
        sample_weight : (N,) array-like of numbers of at least 0, or None. A weight of 2 is a row given twice, a weight
            of 0 a row not given.

        Returns
        -------
        self

        Raises
        ------
        InputError
            For parameters of scikit-learn that are not supported (naming what to use), for features, labels or weights
            that cannot be used, and for fewer than two classes.

        Warns
        -----
        ConvergenceWarning
            LL040, once, when `tol` was not reached.
        """
        self._refuse_unsupported()
        C = check_number(self.C, "C", 0.0, above=True)
        tol = check_number(self.tol, "tol", 0.0, above=True)
        most = check_count(self.max_iter, "max_iter")
        intercept = check_flag(self.fit_intercept, "fit_intercept")
        seed = check_seed(self.random_state) if self.loss == "hinge" else 0
        progress = stderr_progress() if self.verbose else SILENT
        data = read_training(self, X, y, sample_weight, self.class_weight, self._sparse_alternative)
        plan = Plan(self.loss, "auto", 1.0 / C / data.total_weight(), tol, most, intercept, False, seed, None, progress)
        keep(self, data, learn(data, plan) if self.loss == "squared_hinge" else learn_hinge(data, plan))
        return self

    @property
    def _sparse_alternative(self) -> str:
        return "scikit-learn's LinearSVC"

    def _refuse_unsupported(self) -> None:
        """Refuse by name what scikit-learn has and this class has not."""
        check_count(int(self.verbose) if isinstance(self.verbose, bool) else self.verbose, "verbose")
        if self.penalty != "l2":
            self._refuse("penalty", "Leave it at 'l2', or use scikit-learn's LinearSVC(penalty='l1', dual=False)")
        if self.loss not in LOSSES:
            self._refuse("loss", f"There are {' and '.join(LOSSES)}")
        if self.dual != "auto":
            check_flag(self.dual, "dual")
        if self.multi_class != "ovr":
            self._refuse("multi_class", "Leave it at 'ovr', or use scikit-learn's LinearSVC for 'crammer_singer'")
        if check_number(self.intercept_scaling, "intercept_scaling", 0.0, above=True) != 1.0:
            self._refuse("intercept_scaling", "Leave it at 1: the intercept is not penalised")

    def _refuse(self, name: str, mend: str) -> None:
        raise InputError(f"LinearSVC does not support {name}={getattr(self, name)!r}", mend)


def learn_hinge(data: Training, plan: Plan) -> Coefficients:
    """Fit the hinge through its dual, warn once when the gap asked for was not reached; Ctrl-C is raised again."""
    data = in_order_of_content(data)
    fit = fit_hinge(
        data.X,
        data.codes,
        len(data.classes),
        l2=plan.l2,
        sample_weight=data.weights,
        gap=plan.tol,
        max_iter=plan.max_iter,
        fit_intercept=plan.fit_intercept,
        seed=plan.seed,
        threads=plan.threads,
        progress=plan.progress,
    )
    solution, reason = fit.solution, fit.solution.stop_reason
    if reason is StopReason.INTERRUPTED:
        raise KeyboardInterrupt
    if not (reason.converged or reason is StopReason.PRECISION):
        warnings.warn(
            f"LL040 dual did not converge ({reason.value} after {solution.iterations} epochs): relative duality gap "
            f"{solution.gradient_norm:.2g}, tol {plan.tol:g}. Raise max_iter or tol, standardise the columns, lower C",
            ConvergenceWarning,
            stacklevel=3,
        )
    dtype = np.dtype(np.float32 if np.can_cast(data.X.dtype, np.float32) else np.float64)
    # Two classes are mirror images: the second one's column speaks for both.
    columns = slice(1, None) if len(data.classes) == 2 else slice(None)
    coef = np.ascontiguousarray(fit.weights.T[columns], dtype=dtype)
    return Coefficients(coef, fit.bias[columns].astype(dtype), max(1, solution.iterations))
