"""`LogisticRegression`: scikit-learn's estimator of that name, solved exactly."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Self, final

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning

from lastlayer._arrays import FloatArray, InputError
from lastlayer._progress import SILENT, stderr_progress
from lastlayer.estimators.fitting import Plan, earlier, keep, learn, nothing_learned
from lastlayer.estimators.parameters import check_count, check_flag, check_number, check_threads
from lastlayer.estimators.prediction import LinearPredictions, exponential, log_probabilities
from lastlayer.estimators.training import Training, read_training

SAME_OPTIMUM = ("lbfgs", "newton-cg", "newton-cholesky", "sag", "saga")
"""scikit-learn's solvers of the L2-penalised model: names for one and the same optimum."""


@final
class LogisticRegression(LinearPredictions, BaseEstimator):  # type: ignore[misc]
    """Multinomial logistic regression with an L2 penalty; a drop-in for scikit-learn's.

    Minimises ``C Σᵢ sᵢ L(W xᵢ + b, yᵢ) + ½ ‖W‖²`` with L the cross-entropy of the softmax, for two classes
    ``log(1 + exp(-tᵢ (w·xᵢ + b)))`` with t = -1 or 1; the intercept is not penalised. W = `coef_`, b = `intercept_`.

    Parameters
    ----------
    C : float
        Inverse strength of the penalty, positive; infinite for none.
    penalty : {"l2", None}
        None is ``C = inf``.
    l1_ratio : 0 or None
        Share of an L1 penalty; only 0 is solved here.
    dual : bool
        Only False.
    tol : float
        Relative gradient norm to be reached (1 at the best constant prediction, 0 at the optimum); a fit that ends
        earlier because no step changes a digit of J any more counts as converged.
    fit_intercept : bool
        Whether there is a b.
    intercept_scaling : float
        Only 1: the intercept is not penalised, and needs no scaling.
    class_weight : dict, "balanced" or None
        Factors for the weights of each class's rows; "balanced" gives all classes the same total weight.
    random_state : int, RandomState or None
        Taken for compatibility; nothing is random.
    solver : {"lbfgs", "newton-cg", "newton-cholesky", "sag", "saga"}
        Names of scikit-learn for the same optimum; one solver, Gram-preconditioned L-BFGS, answers to all of them.
    max_iter : int
        Most iterations.
    verbose : int
        Progress on stderr when positive.
    warm_start : bool
        Whether `fit` begins at the coefficients of the fit before.
    n_jobs : int or None
        Threads: None and -1 for all cores. Changes no digit of the result.

    Attributes
    ----------
    coef_ : ndarray
        (K, D), or (1, D) for two classes; float32 for features that float32 holds exactly, else float64.
    intercept_ : ndarray
        (K,) or (1,).
    classes_ : ndarray
        (K,) labels, sorted.
    n_iter_ : ndarray
        (1,) iterations, at least 1.
    n_features_in_ : int
        D.
    feature_names_in_ : ndarray
        Names of the columns, where X had any.

    Notes
    -----
    The optimum is scikit-learn's; `coef_` and `intercept_` agree as far as both tolerances allow. Different are:
    `tol` is relative, and tighter; `max_iter` is 1000 by default; columns are centred inside, so that features far
    from zero do no harm; all parameters are given by name; uint8 and integer images are taken as they are;
    sparse matrices, L1 penalties and the solver "liblinear" are refused by name; a class whose rows all have weight
    zero is not in `classes_`; `predict_log_proba` stays finite; an unpenalised fit of separable classes, which has no
    finite optimum, is refused.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from lastlayer.estimators import LogisticRegression
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = LogisticRegression(C=1.0).fit(X, y)
    >>> classifier.predict(X[:2])
    array([0, 0])
    >>> classifier.predict_proba(X[:1]).round(3)
    array([[0.982, 0.018, 0. ]])
    """

    def __init__(
        self,
        *,
        C: float = 1.0,
        penalty: str | None = "l2",
        l1_ratio: float | None = 0.0,
        dual: bool = False,
        tol: float = 1e-5,
        fit_intercept: bool = True,
        intercept_scaling: float = 1,
        class_weight: Mapping[Any, float] | str | None = None,
        random_state: int | np.random.RandomState | None = None,
        solver: str = "lbfgs",
        max_iter: int = 1000,
        verbose: int = 0,
        warm_start: bool = False,
        n_jobs: int | None = None,
    ) -> None:
        self.C = C
        self.penalty = penalty
        self.l1_ratio = l1_ratio
        self.dual = dual
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.intercept_scaling = intercept_scaling
        self.class_weight = class_weight
        self.random_state = random_state
        self.solver = solver
        self.max_iter = max_iter
        self.verbose = verbose
        self.warm_start = warm_start
        self.n_jobs = n_jobs

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
        C = check_number(self.C, "C", 0.0, above=True, infinite=True)
        data = read_training(self, X, y, sample_weight, self.class_weight, self._sparse_alternative)
        before = earlier(self, data) if self.warm_start else None
        plan = self._plan(data, C)
        if plan.max_iter == 0:
            found = before or nothing_learned(data)
            warnings.warn(
                "LL040 max_iter is 0, so the solver did not converge: the coefficients are those before the first "
                "step. Raise max_iter",
                ConvergenceWarning,
                stacklevel=2,
            )
        else:
            found = learn(data, plan, before)
        keep(self, data, found)
        self.n_iter_ = np.array([found.iterations], dtype=np.int32)
        return self

    def predict_proba(self, X: Any) -> FloatArray:
        """Class probabilities, (N, K): the softmax of the scores."""
        return exponential(self.predict_log_proba(X))

    def predict_log_proba(self, X: Any) -> FloatArray:
        """Logarithms of the class probabilities, (N, K); finite where the probabilities round to zero."""
        return log_probabilities(self.decision_function(X))

    @property
    def _sparse_alternative(self) -> str:
        return "scikit-learn's LogisticRegression"

    def _plan(self, data: Training, C: float) -> Plan:
        return Plan(
            loss="cross_entropy",
            solver="auto",
            l2=0.0 if self.penalty is None else 1.0 / C / data.total_weight(),
            tol=check_number(self.tol, "tol", 0.0),
            max_iter=check_count(self.max_iter, "max_iter"),
            fit_intercept=check_flag(self.fit_intercept, "fit_intercept"),
            threads=check_threads(self.n_jobs),
            progress=stderr_progress() if self.verbose else SILENT,
        )

    def _refuse_unsupported(self) -> None:
        """Refuse by name what scikit-learn has and this class has not."""
        check_flag(self.warm_start, "warm_start")
        check_count(int(self.verbose) if isinstance(self.verbose, bool) else self.verbose, "verbose")
        if self.penalty not in ("l2", None, "deprecated"):
            self._refuse("penalty", "Leave it at 'l2', or use scikit-learn's LogisticRegression(solver='saga')")
        if self.l1_ratio is not None and check_number(self.l1_ratio, "l1_ratio", 0.0) != 0.0:
            self._refuse("l1_ratio", "Leave it at 0, or use scikit-learn's LogisticRegression(solver='saga')")
        if check_flag(self.dual, "dual"):
            self._refuse("dual", "Leave it at False: the primal has the same optimum")
        if self.solver == "liblinear":
            self._refuse(
                "solver",
                "It penalises the intercept; leave solver at 'lbfgs' for the unpenalised intercept, or use "
                "scikit-learn's LogisticRegression(solver='liblinear')",
            )
        if self.solver not in SAME_OPTIMUM:
            self._refuse("solver", f"There are {', '.join(SAME_OPTIMUM)}, all with the same optimum")
        if check_number(self.intercept_scaling, "intercept_scaling", 0.0, above=True) != 1.0:
            self._refuse("intercept_scaling", "Leave it at 1: the intercept is not penalised")

    def _refuse(self, name: str, mend: str) -> None:
        raise InputError(f"LogisticRegression does not support {name}={getattr(self, name)!r}", mend)
