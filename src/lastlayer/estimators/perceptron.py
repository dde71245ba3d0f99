"""`Perceptron`: scikit-learn's estimator of that name, by Rosenblatt's rule."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Self, final

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning

from lastlayer._arrays import Float64, InputError
from lastlayer._progress import SILENT, Progress, stderr_progress
from lastlayer.estimators.content import in_order_of_content
from lastlayer.estimators.fitting import Coefficients, earlier, keep
from lastlayer.estimators.parameters import check_count, check_flag, check_number, check_seed, check_threads
from lastlayer.estimators.prediction import LinearPredictions
from lastlayer.estimators.training import Training, read_training
from lastlayer.linear import single_blas_thread
from lastlayer.losses import by_name
from lastlayer.objective import Objective
from lastlayer.solvers.base import Record, Solution, StopReason
from lastlayer.solvers.perceptron_rule import PerceptronRule


@final
class Perceptron(LinearPredictions, BaseEstimator):  # type: ignore[misc]
    """The perceptron (Rosenblatt 1958), averaged where it does not separate; a drop-in for scikit-learn's.

    A row x of class y that scores highest for another class r moves ``w_y`` by +eta0·x and ``w_r`` by -eta0·x. When an
    epoch makes no mistake the rule has separated the classes and ends; otherwise `coef_` is the average over all steps.

    Parameters
    ----------
    penalty : None
        The rule has no penalty; others are refused.
    alpha, l1_ratio : float
        Of the penalty; without one of no use, as in scikit-learn.
    fit_intercept : bool
        Whether there is a b.
    max_iter : int
        Most epochs.
    tol : float or None
        The rule also ends when the share of mistakes has not fallen by `tol` for `n_iter_no_change` epochs; None: only
        when the classes are separated.
    shuffle : bool
        Whether each epoch has its own order. Without it rows come as given, and weights that repeat prove that the
        classes are not separable, which the warning says.
    verbose : int
        Progress on stderr when positive.
    eta0 : float
        Size of the updates: a factor of the coefficients that changes no decision.
    n_jobs : int or None
        Threads for the scores; changes no digit of the result.
    random_state : int, RandomState or None
        Seeds the shuffles.
    early_stopping : bool
        Only False.
    validation_fraction : float
        Of no use without early stopping.
    n_iter_no_change : int
        See `tol`.
    class_weight : dict, "balanced" or None
        Factors for the weights of each class's rows, that is for the size of their updates.
    warm_start : bool
        Whether `fit` begins at the coefficients of the fit before.

    Attributes
    ----------
    coef_ : ndarray
        (K, D), or (1, D) for two classes; float32 for features that float32 holds exactly, else float64.
    intercept_ : ndarray
        (K,) or (1,).
    classes_ : ndarray
        (K,) labels, sorted.
    n_iter_ : int
        Epochs, at least 1.
    mistakes_ : tuple of int
        Mistakes in each epoch.
    n_features_in_ : int
        D.
    feature_names_in_ : ndarray
        Names of the columns, where X had any.

    Notes
    -----
    scikit-learn trains one perceptron for each class against the rest and keeps the last weights; here one perceptron
    tells all classes apart at once (Kesler's construction), columns are centred inside, and weights that have not
    separated the classes are averaged, which is steadier. Sparse matrices, penalties and early stopping are refused by
    name; there is no `partial_fit`.

    Examples
    --------
    >>> import numpy as np
    >>> from lastlayer.estimators.perceptron import Perceptron
    >>> X = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    >>> AND = Perceptron().fit(X, [0, 0, 0, 1])
    >>> AND.predict(X), AND.mistakes_[-1]
    (array([0, 0, 0, 1]), 0)
    """

    def __init__(
        self,
        *,
        penalty: str | None = None,
        alpha: float = 0.0001,
        l1_ratio: float = 0.15,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float | None = 1e-3,
        shuffle: bool = True,
        verbose: int = 0,
        eta0: float = 1.0,
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = 0,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        class_weight: Mapping[Any, float] | str | None = None,
        warm_start: bool = False,
    ) -> None:
        self.penalty = penalty
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.shuffle = shuffle
        self.verbose = verbose
        self.eta0 = eta0
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.class_weight = class_weight
        self.warm_start = warm_start

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn from mistakes.

        Parameters
        ----------
        X : (N, D) array-like of finite real numbers.
        y : (N,) array-like of labels.
        sample_weight : (N,) array-like of numbers of at least 0, or None: factors for the updates of each row.

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
            LL040, once, when `max_iter` epochs did neither separate the classes nor settle, or when a cycle was found.
        """
        self._refuse_unsupported()
        tol = None if self.tol is None else check_number(self.tol, "tol", 0.0)
        patience = check_count(self.n_iter_no_change, "n_iter_no_change", 1)
        rule = PerceptronRule(
            epochs=check_count(self.max_iter, "max_iter", 1),
            seed=check_seed(self.random_state),
            shuffle=check_flag(self.shuffle, "shuffle"),
            patience=None if tol is None else patience,
            tol=tol or 0.0,
        )
        eta = check_number(self.eta0, "eta0", 0.0, above=True)
        intercept, threads = check_flag(self.fit_intercept, "fit_intercept"), check_threads(self.n_jobs)
        warm = check_flag(self.warm_start, "warm_start")
        data = read_training(self, X, y, sample_weight, self.class_weight, "scikit-learn's Perceptron")
        start = earlier(self, data) if warm else None
        objective = _objective(in_order_of_content(data) if rule.shuffle else data, intercept, threads)
        solution = _follow(rule, objective, _begin(start, eta), stderr_progress() if self.verbose else SILENT)
        self.mistakes_ = solution.mistakes
        keep(self, data, _coefficients(data, objective, solution, eta))
        return self

    @property
    def _sparse_alternative(self) -> str:
        return "scikit-learn's Perceptron"

    def _refuse_unsupported(self) -> None:
        """Refuse by name what scikit-learn has and this class has not."""
        check_count(int(self.verbose) if isinstance(self.verbose, bool) else self.verbose, "verbose")
        if self.penalty is not None:
            self._refuse(
                "penalty", "The rule has none; use LinearSVC, LogisticRegression, or scikit-learn's Perceptron"
            )
        if check_flag(self.early_stopping, "early_stopping"):
            self._refuse("early_stopping", "Use tol and n_iter_no_change, or scikit-learn's Perceptron")
        for name in ("alpha", "l1_ratio", "validation_fraction"):
            check_number(getattr(self, name), name, 0.0)

    def _refuse(self, name: str, mend: str) -> None:
        raise InputError(f"Perceptron does not support {name}={getattr(self, name)!r}", mend)


def _objective(data: Training, intercept: bool, threads: int | None) -> Objective:
    return Objective(
        data.X, data.codes, len(data.classes), by_name("perceptron"), 0.0, data.weights, threads, intercept
    )


def _begin(start: Coefficients | None, eta: float) -> tuple[Float64, Float64] | None:
    """W (D, K) and b (K,) of updates of size 1, from an earlier fit's coefficients."""
    if start is None:
        return None
    W, b = start.coef.T.astype(np.float64) / eta, start.intercept.astype(np.float64) / eta
    return (np.hstack([-W, W]), np.concatenate([-b, b])) if W.shape[1] == 1 else (W, b)


def _follow(
    rule: PerceptronRule, objective: Objective, start: tuple[Float64, Float64] | None, progress: Progress
) -> Solution:
    """The rule's answer; warns once when it is not the end of the rule, and raises Ctrl-C again."""
    with single_blas_thread(), progress.task("fit", rule.epochs) as task:

        def report(record: Record, params: Float64) -> bool:
            if record.iteration:
                task.advance(1, f"loss {record.value:.4g}")
            return False

        point = None if start is None else objective.at(objective.to_inside(*start))
        solution = rule.minimise(objective, point, report)
    if solution.stop_reason is StopReason.INTERRUPTED:
        raise KeyboardInterrupt
    if not solution.stop_reason.converged:
        warnings.warn(
            f"LL040 perceptron did not converge after {solution.iterations} epochs: {solution.note}. "
            "Take a loss with a minimum, such as LinearSVC's, for classes that are not separable",
            ConvergenceWarning,
            stacklevel=3,
        )
    return solution


def _coefficients(data: Training, objective: Objective, solution: Solution, eta: float) -> Coefficients:
    """scikit-learn's view: for two classes half the difference, which one update moves by eta0·x."""
    W, b = objective.to_outside(solution.params)
    if len(data.classes) == 2:
        W, b = 0.5 * (W[:, 1:] - W[:, :1]), 0.5 * (b[1:] - b[:1])
    dtype = np.dtype(np.float32 if np.can_cast(data.X.dtype, np.float32) else np.float64)
    return Coefficients(
        np.ascontiguousarray(eta * W.T, dtype=dtype), (eta * b).astype(dtype), max(1, solution.iterations)
    )
