"""`LogisticRegressionCV`: scikit-learn's estimator of that name; every C in every fold, solved exactly."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, final

import numpy as np
from sklearn import get_config
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import get_scorer
from sklearn.model_selection import StratifiedGroupKFold, check_cv
from sklearn.utils import Bunch
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing

from lastlayer._arrays import Array, Float64, FloatArray, InputError, IntArray
from lastlayer._progress import SILENT, stderr_progress
from lastlayer.estimators.fitting import SMALL, Plan, learn
from lastlayer.estimators.fold_scoring import as_coefficients, by_estimator, by_scores, neg_log_loss
from lastlayer.estimators.logistic_regression import SAME_OPTIMUM
from lastlayer.estimators.parameters import check_count, check_flag, check_number, check_threads
from lastlayer.estimators.prediction import LinearPredictions, exponential, log_probabilities
from lastlayer.estimators.training import Training, read_training
from lastlayer.selection.cross_validation import CrossValidation, Measure, cross_validate

LOOSE = 0.1
"""Relative gradient norm for the fits in folds of large problems, where the share still to gain decides."""


@final
class LogisticRegressionCV(LinearPredictions, BaseEstimator):  # type: ignore[misc]
    """Multinomial logistic regression whose C is chosen by cross-validation; a drop-in for scikit-learn's.

    For every fold and every C it minimises ``C Σᵢ sᵢ L(W xᵢ + b, yᵢ) + ½ ‖W‖²`` over the fold's training rows, then
    over all rows at the C of the best mean score. See `LogisticRegression` for L and the intercept.

    Parameters
    ----------
    Cs : int or sequence of float
        Values of C, or how many from 1e-4 to 1e4, evenly in the logarithm.
    l1_ratios : None or sequence of zeros
        Shares of an L1 penalty; only 0 is solved here. None drops the axis from the attributes, as in scikit-learn.
    fit_intercept : bool
        Whether there is a b.
    cv : int, splitter, iterable of (train, test) or None
        Folds. A number, or None for 5, means scikit-learn's StratifiedKFold without shuffling, and StratifiedGroupKFold
        where `fit` is given groups.
    dual : bool
        Only False.
    penalty : "l2"
        Only "l2".
    scoring : str, callable or None
        What is best: a name of scikit-learn's, or ``scorer(estimator, X, y)``. None is the accuracy, scikit-learn's
        default until its version 1.11; "neg_log_loss" tells neighbouring values of C apart by fewer rows.
    solver : {"lbfgs", "newton-cg", "newton-cholesky", "sag", "saga"}
        Names of scikit-learn for the same optimum; one solver answers to all of them.
    tol : float
        For the fit of all rows as in `LogisticRegression`. In folds of more than a million numbers, the share of the
        objective that a further step may still promise.
    max_iter : int
        Most iterations of each fit.
    class_weight : dict, "balanced" or None
        Factors for the weights of each class's rows; "balanced" gives all classes the same total weight, over all
        folds.
    n_jobs : int or None
        Threads: None and -1 for all cores. Changes no digit of the result.
    verbose : int
        Progress on stderr when positive.
    refit : bool
        Whether `coef_` is the fit of all rows at the best C. Else it is the mean over folds of each at its own best C.
    intercept_scaling : float
        Only 1: the intercept is not penalised, and needs no scaling.
    random_state : int, RandomState or None
        Taken for compatibility; nothing is random.
    use_legacy_attributes : bool
        scikit-learn's two forms of `C_`, `scores_`, `coefs_paths_` and `n_iter_`; True is its default until 1.10.

    Attributes
    ----------
    coef_ : ndarray
        (K, D), or (1, D) for two classes; float32 for features that float32 holds exactly, else float64.
    intercept_ : ndarray
        (K,) or (1,).
    classes_ : ndarray
        (K,) labels, sorted.
    Cs_ : ndarray
        (L,) values of C in the order given.
    C_ : ndarray or float
        The best C, K times (once for two classes); a number without legacy attributes.
    scores_ : dict or ndarray
        Of each label (the second alone of two) (F, L); without legacy attributes (F, 1, L).
    coefs_paths_ : dict or ndarray
        Of each label (F, L, D + 1), intercepts last; without legacy attributes (F, 1, L, K, D + 1).
    n_iter_ : ndarray
        (1, F, L); without legacy attributes (F, 1, L).
    l1_ratios_, l1_ratio_ : ndarray or float
        0 or None, for compatibility.
    out_of_fold_ : ndarray
        (N, K) float32: class probabilities of every training row, at the C of the best mean score, by the fit of the
        fold that held the row out. Scores are averaged where several did; NaN where none. Not in scikit-learn.
    n_features_in_ : int
        D.
    feature_names_in_ : ndarray
        Names of the columns, where X had any.

    Notes
    -----
    Folds, scores and the optimum are scikit-learn's, as far as both tolerances allow. Different are: what
    `LogisticRegression` lists; ties go to the smaller C whatever the order of `Cs`; string scorings see class numbers
    instead of labels, so that "f1" and its like speak for the second of two classes; infinite values of C are
    refused; no warnings announce future defaults.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from lastlayer.estimators.logistic_regression_cv import LogisticRegressionCV
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = LogisticRegressionCV(scoring="neg_log_loss").fit(X, y)
    >>> classifier.C_[0].round(1)
    np.float64(166.8)
    >>> round(float((classifier.out_of_fold_.argmax(axis=1) == y).mean()), 3)
    0.973
    """

    def __init__(
        self,
        *,
        Cs: int | Sequence[float] = 10,
        l1_ratios: Sequence[float] | None = None,
        fit_intercept: bool = True,
        cv: Any = None,
        dual: bool = False,
        penalty: str = "l2",
        scoring: str | Callable[..., float] | None = None,
        solver: str = "lbfgs",
        tol: float = 1e-4,
        max_iter: int = 1000,
        class_weight: Mapping[Any, float] | str | None = None,
        n_jobs: int | None = None,
        verbose: int = 0,
        refit: bool = True,
        intercept_scaling: float = 1.0,
        random_state: int | np.random.RandomState | None = None,
        use_legacy_attributes: bool = True,
    ) -> None:
        self.Cs = Cs
        self.l1_ratios = l1_ratios
        self.fit_intercept = fit_intercept
        self.cv = cv
        self.dual = dual
        self.penalty = penalty
        self.scoring = scoring
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter
        self.class_weight = class_weight
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.refit = refit
        self.intercept_scaling = intercept_scaling
        self.random_state = random_state
        self.use_legacy_attributes = use_legacy_attributes

    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None, **params: Any) -> Self:
        """Choose C and fit the coefficients.

        Parameters
        ----------
        X : (N, D) array-like of finite real numbers; uint8 and float32 are multiplied as float32.
        y : (N,) array-like of labels.
        sample_weight : (N,) array-like of numbers of at least 0, or None; for fitting and for scoring.
        groups : (N,) array-like or None
            Given to the splitter; rows of one group are held out together.
        **params
            What the scorer and the splitter request, with scikit-learn's metadata routing enabled; what of it and of
            `sample_weight` the scorer gets is then its request's business.

        Returns
        -------
        self

        Raises
        ------
        InputError
            For parameters of scikit-learn that are not supported (naming what to use), for features, labels or weights
            that cannot be used, and for fewer than two classes, in all rows or in a fold's.

        Warns
        -----
        ConvergenceWarning
            LL040, once, when `tol` was not reached.
        """
        self._refuse_unsupported()
        routed = self._routed("fit", sample_weight, params)
        given = self._values()
        data = read_training(self, X, y, sample_weight, self.class_weight, self._sparse_alternative)
        data.total_weight()  # refuses what has no finite sum
        plan = self._plan()
        small = data.X.size <= SMALL
        # scikit-learn's C for two classes is that of one column: see `fitting`.
        share = 0.5 if len(data.classes) == 2 else 1.0
        done = cross_validate(
            data.X,
            data.codes,
            len(data.classes),
            "cross_entropy",
            (share * given).tolist(),
            self._folds(data, groups, routed.splitter.split),
            sample_weight=data.weights,
            measure=self._measure(data, routed.scorer.score),
            fit_intercept=plan.fit_intercept,
            tol=plan.tol if small else LOOSE,
            gap=0.1 * plan.tol if small else plan.tol,
            max_iter=plan.max_iter,
            keep_weights=True,
            threads=plan.threads,
            progress=plan.progress,
        )
        if done.interrupted:
            raise KeyboardInterrupt
        self._say_if_not_converged(done, plan)
        self._keep(done, data, given, share)
        if self.refit:
            best = done.C / share
            final = Plan(**{**vars(plan), "l2": 1.0 / best / data.total_weight()})
            found = learn(data, final, None if small else as_coefficients(done.fit.weights, done.fit.bias))
            self.coef_, self.intercept_ = found.coef, found.intercept
        return self

    def predict_proba(self, X: Any) -> FloatArray:
        """Class probabilities, (N, K): the softmax of the scores."""
        return exponential(self.predict_log_proba(X))

    def predict_log_proba(self, X: Any) -> FloatArray:
        """Logarithms of the class probabilities, (N, K); finite where the probabilities round to zero."""
        return log_probabilities(self.decision_function(X))

    # a named `sample_weight` would be a request of the classifier's own in scikit-learn's routing
    def score(self, X: Any, y: Any, **score_params: Any) -> float:  # type: ignore[override]
        """`scoring` of the predictions for X, as in scikit-learn; `score_params` are `sample_weight` or routed."""
        weights = score_params.pop("sample_weight", None)
        return float(self._scorer()(self, X, y, **self._routed("score", weights, score_params).scorer.score))

    def get_metadata_routing(self) -> MetadataRouter:
        """Which arguments go where with scikit-learn's metadata routing enabled."""
        split = MethodMapping().add(caller="fit", callee="split")
        judge = MethodMapping().add(caller="fit", callee="score").add(caller="score", callee="score")
        router = MetadataRouter(owner=self).add_self_request(self)
        return router.add(splitter=self.cv, method_mapping=split).add(scorer=self._scorer(), method_mapping=judge)

    def _routed(self, method: str, sample_weight: Any, params: Mapping[str, Any]) -> Any:
        """What the splitter and the scorer are given: by their requests, or the weights where nothing is routed.

        Raises
        ------
        ValueError
            For further arguments without routing, in scikit-learn's words.
        """
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        if get_config()["enable_metadata_routing"]:
            return process_routing(self, method, **weights, **params)
        if params:
            raise InputError(
                f"[{', '.join(sorted(params))}] are passed but are not explicitly set as requested: passing them to "
                f"{type(self).__name__}.{method} is only supported if enable_metadata_routing=True",
                "Call sklearn.set_config(enable_metadata_routing=True), and set the scorer's requests",
            )
        return Bunch(splitter=Bunch(split={}), scorer=Bunch(score=weights))

    @property
    def _sparse_alternative(self) -> str:
        return "scikit-learn's LogisticRegressionCV"

    def _values(self) -> Float64:
        """Values of C in the order given."""
        if isinstance(self.Cs, int | np.integer):
            return np.asarray(np.logspace(-4, 4, check_count(self.Cs, "Cs", 1)), dtype=np.float64)
        values = [check_number(C, f"Cs[{i}]", 0.0, above=True) for i, C in enumerate(np.ravel(self.Cs).tolist())]
        if not values:
            raise InputError("Cs is empty", "Give a number of values, or the values")
        return np.array(values)

    def _plan(self) -> Plan:
        return Plan(
            loss="cross_entropy",
            solver="auto",
            l2=0.0,
            tol=check_number(self.tol, "tol", 0.0),
            max_iter=check_count(self.max_iter, "max_iter"),
            fit_intercept=check_flag(self.fit_intercept, "fit_intercept"),
            threads=check_threads(self.n_jobs),
            progress=stderr_progress() if self.verbose else SILENT,
        )

    def _scorer(self) -> Any:
        name = "accuracy" if self.scoring is None else self.scoring
        try:
            return get_scorer(name)
        except (ValueError, TypeError):
            raise InputError(
                f"LogisticRegressionCV does not know scoring={name!r}",
                "Give a name of sklearn.metrics.get_scorer_names(), a callable, or None for the accuracy",
            ) from None

    def _folds(self, data: Training, groups: Any, given: Mapping[str, Any]) -> list[tuple[IntArray, IntArray]]:
        """As scikit-learn draws them; `given` are the splitter's further arguments."""
        labels = data.classes[data.codes]
        numbered = self.cv is None or isinstance(self.cv, int | np.integer)
        if groups is not None and numbered:
            return list(StratifiedGroupKFold(5 if self.cv is None else self.cv).split(data.X, labels, groups))
        further = {"groups": groups, **given}
        return list(check_cv(self.cv, labels, classifier=True).split(data.X, labels, **further))

    def _measure(self, data: Training, given: Mapping[str, Any]) -> Measure:
        """`scoring` as a function of a fold's scores; class weights do not count in it."""
        weights = given.get("sample_weight")
        if weights is not None:
            weights = np.broadcast_to(np.asarray(weights, dtype=np.float64), data.codes.shape)
            given = {**given, "sample_weight": weights}
        if callable(self.scoring):
            return by_estimator(self.scoring, data, given)
        if self.scoring == "neg_log_loss":
            return neg_log_loss(data.codes, weights)
        return by_scores(self._scorer(), data.codes, len(data.classes), given)

    def _keep(self, done: CrossValidation, data: Training, given: Float64, share: float) -> None:
        """Write the attributes; `coef_` and `intercept_` as without a refit."""
        self.C_: float | Float64
        self.l1_ratio_: float | Array
        self.scores_: Float64 | dict[Any, Float64]
        self.coefs_paths_: FloatArray | dict[Any, FloatArray]
        order = np.searchsorted(done.Cs, share * given)
        assert done.measures is not None
        assert done.fold_weights is not None
        assert done.fold_biases is not None
        scores, iterations = done.measures[:, order], np.maximum(done.iterations[:-1, order], 1)
        paths = _paths(done.fold_weights[:, order], done.fold_biases[:, order], bool(self.fit_intercept))
        pair, fitted = len(data.classes) == 2, data.classes[1:] if len(data.classes) == 2 else data.classes
        chosen = done.C / share
        self.classes_, self.Cs_ = data.classes, given
        self.out_of_fold_ = np.exp(log_probabilities(done.out_of_fold))
        if not self.refit:
            each = scores.argmax(axis=1)
            chosen = float(given[each].mean())
            mean = paths[np.arange(len(each)), each].mean(axis=0)
            d = data.X.shape[1]
            self.coef_ = np.ascontiguousarray(mean[:, :d])
            self.intercept_ = mean[:, d] if self.fit_intercept else np.zeros(len(mean), dtype=mean.dtype)
        none = self.l1_ratios is None
        self.l1_ratios_ = np.array([None]) if self.l1_ratios is None else np.zeros(len(np.ravel(self.l1_ratios)))
        ratios = len(self.l1_ratios_)
        if not self.use_legacy_attributes:
            self.C_, self.l1_ratio_ = chosen, 0.0
            self.scores_ = np.repeat(scores[:, None], ratios, axis=1)
            self.n_iter_ = np.repeat(iterations[:, None], ratios, axis=1).astype(np.int32)
            self.coefs_paths_ = np.repeat(paths[:, None], ratios, axis=1)
            return
        self.C_ = np.full(1 if pair else len(fitted), chosen)
        self.l1_ratio_ = np.full(1 if pair else len(fitted), None if none and self.refit else 0.0)
        if not none:
            scores, iterations = (np.repeat(a[..., None], ratios, axis=-1) for a in (scores, iterations))
            paths = np.repeat(paths[:, :, None], ratios, axis=2)
        self.scores_ = {label: scores.copy() for label in fitted}
        self.n_iter_ = iterations[None].astype(np.int32)
        self.coefs_paths_ = {label: np.ascontiguousarray(paths[..., k, :]) for k, label in enumerate(fitted)}

    def _say_if_not_converged(self, done: CrossValidation, plan: Plan) -> None:
        """Warn of the folds; of the fit of all rows `learn` warns itself."""
        missed = int(np.count_nonzero(~done.converged[:-1]))
        if missed and (not self.refit or done.converged[-1, done.best]):
            warnings.warn(
                f"LL040 {missed} of {done.converged[:-1].size} fits in folds did not converge (tol {plan.tol:g}, "
                f"max_iter {plan.max_iter}). Raise max_iter, standardise the columns, or leave out the largest Cs",
                ConvergenceWarning,
                stacklevel=3,
            )

    def _refuse_unsupported(self) -> None:
        """Refuse by name what scikit-learn has and this class has not."""
        saga = "or use scikit-learn's LogisticRegressionCV(solver='saga')"
        for name in ("dual", "refit", "use_legacy_attributes"):
            check_flag(getattr(self, name), name)
        check_count(int(self.verbose) if isinstance(self.verbose, bool) else self.verbose, "verbose")
        if self.penalty not in ("l2", "deprecated"):
            self._refuse("penalty", f"Leave it at 'l2', {saga}")
        if self.l1_ratios is not None and (not len(np.ravel(self.l1_ratios)) or np.any(np.ravel(self.l1_ratios) != 0)):
            self._refuse("l1_ratios", f"Leave it at None or (0,), {saga}")
        if self.dual:
            self._refuse("dual", "Leave it at False: the primal has the same optimum")
        if self.solver == "liblinear":
            self._refuse(
                "solver",
                "It penalises the intercept; leave solver at 'lbfgs' for the unpenalised intercept, or use "
                "scikit-learn's LogisticRegressionCV(solver='liblinear')",
            )
        if self.solver not in SAME_OPTIMUM:
            self._refuse("solver", f"There are {', '.join(SAME_OPTIMUM)}, all with the same optimum")
        if check_number(self.intercept_scaling, "intercept_scaling", 0.0, above=True) != 1.0:
            self._refuse("intercept_scaling", "Leave it at 1: the intercept is not penalised")

    def _refuse(self, name: str, mend: str) -> None:
        raise InputError(f"LogisticRegressionCV does not support {name}={getattr(self, name)!r}", mend)


def _paths(weights: FloatArray, biases: FloatArray, fit_intercept: bool) -> FloatArray:
    """(F, L, K or 1, D + 1) as scikit-learn has them, from (F, L, D, K) and (F, L, K)."""
    if weights.shape[-1] == 2:
        weights, biases = weights[..., 1:] - weights[..., :1], biases[..., 1:] - biases[..., :1]
    else:
        biases = biases - biases.mean(axis=-1, keepdims=True)
    rows = np.swapaxes(weights, -1, -2)
    if not fit_intercept:
        return np.ascontiguousarray(rows)
    return np.concatenate([rows, biases[..., None].astype(weights.dtype)], axis=-1)
