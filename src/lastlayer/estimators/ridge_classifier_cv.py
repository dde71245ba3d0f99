"""`RidgeClassifierCV`: scikit-learn's estimator of that name, every alpha from one eigendecomposition."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self, final

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import check_scoring, get_scorer
from sklearn.model_selection import check_cv

from lastlayer._arrays import Array, Float64, FloatArray, InputError, IntArray
from lastlayer.estimators.parameters import check_flag, check_number
from lastlayer.estimators.ridge_classifier import (
    SignPredictions,
    attributes,
    fit_signs,
    make_targets,
    refuse_multilabel,
    signed,
)
from lastlayer.estimators.training import Training, _read_weights, read_training
from lastlayer.linear import scores, single_blas_thread
from lastlayer.selection.ridge import ridge_path

Score = Callable[[FloatArray, IntArray], float]


@final
class _Decided(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier whose features are its decisions, for scorers."""

    def __init__(self, classes: Array) -> None:
        self.classes = classes
        self.classes_ = classes

    def decision_function(self, X: FloatArray) -> FloatArray:
        return X

    def predict(self, X: FloatArray) -> Array:
        labels: Array = self.classes_[(X > 0).astype(np.intp) if X.ndim == 1 else X.argmax(axis=1)]
        return labels


@final
class RidgeClassifierCV(SignPredictions, BaseEstimator):  # type: ignore[misc]
    """Ridge classifier whose alpha is chosen by cross-validation; a drop-in for scikit-learn's.

    The model of `RidgeClassifier`. By default every row is left out in turn: exactly, for all alphas at once, from one
    eigendecomposition (`selection.ridge`). With folds, each has one eigendecomposition for all alphas.

    Parameters
    ----------
    alphas : array-like of float
        Values to try, positive when rows are left out in turn, else at least 0.
    fit_intercept : bool
        Whether there is an intercept.
    scoring : str, callable or None
        A scorer of scikit-learn; greater is better. None: the negative mean squared error of the targets -1 and 1 when
        rows are left out in turn, the accuracy with folds. Scorers given as callables get no weights.
    cv : int, splitter, iterable or None
        None leaves every row out in turn.
    class_weight : dict, "balanced" or None
        Factors for the weights of each class's rows; "balanced" gives all classes the same total weight.
    store_cv_results : bool
        Whether to keep `cv_results_`; with ``cv=None`` only.

    Attributes
    ----------
    alpha_ : float
        The first of the best.
    best_score_ : float
        Its score.
    cv_results_ : ndarray
        (N, K, L) squared errors (times the weights), or predictions with a `scoring`, of every row left out; K is 1
        for two classes. Where asked for.
    coef_ : ndarray
        (K, D), or (D,) for two classes; float32 for features that float32 holds exactly, else float64.
    intercept_ : ndarray
        (K,) or (1,); 0.0 without an intercept.
    classes_ : ndarray
        (K,) labels, sorted.
    n_features_in_ : int
        D.
    feature_names_in_ : ndarray
        Names of the columns, where X had any.

    Notes
    -----
    `alpha_`, `best_score_` and coefficients agree with scikit-learn's to rounding. Different are: with two classes and
    a `scoring`, scikit-learn's leave-one-out gives every alpha the score 1 (it compares the only column with itself),
    here the decisions are scored; with folds the held-out rows of a weighted fit are weighted too.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from lastlayer.estimators.ridge_classifier_cv import RidgeClassifierCV
    >>> X, y = load_iris(return_X_y=True)
    >>> RidgeClassifierCV(alphas=[0.01, 0.1, 1.0, 10.0]).fit(X, y).alpha_
    1.0
    """

    def __init__(
        self,
        alphas: Any = (0.1, 1.0, 10.0),
        *,
        fit_intercept: bool = True,
        scoring: Any = None,
        cv: Any = None,
        class_weight: Mapping[Any, float] | str | None = None,
        store_cv_results: bool = False,
    ) -> None:
        self.alphas = alphas
        self.fit_intercept = fit_intercept
        self.scoring = scoring
        self.cv = cv
        self.class_weight = class_weight
        self.store_cv_results = store_cv_results

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Choose alpha, and fit the coefficients to all rows.

        Parameters
        ----------
        X : (N, D) array-like of finite real numbers; uint8 and float32 are multiplied as float32.
        y : (N,) array-like of labels.
        sample_weight : (N,) array-like of numbers of at least 0, a number, or None. Rows of weight 0 neither train nor
            judge.

        Returns
        -------
        self

        Raises
        ------
        InputError
            For parameters, features, labels or weights that cannot be used, for fewer than two classes, and where the
            leave-one-out errors are lost in rounding for every alpha.
        """
        alphas = self._read_alphas()
        refuse_multilabel(self, y)
        fit_intercept = check_flag(self.fit_intercept, "fit_intercept")
        store = check_flag(self.store_cv_results, "store_cv_results")
        if store and self.cv is not None:
            raise InputError("store_cv_results=True needs cv=None", "With folds use scikit-learn's GridSearchCV")
        data = read_training(self, X, y, sample_weight, self.class_weight, self._sparse_alternative)
        score = self._scorer(data, _read_weights(sample_weight, len(data.X)))
        self.classes_ = data.classes
        with single_blas_thread():
            if self.cv is None:
                self._leave_out_in_turn(data, alphas, score, fit_intercept, store)
            else:
                self._leave_out_folds(data, alphas, score, fit_intercept)
        return self

    @property
    def _sparse_alternative(self) -> str:
        return "scikit-learn's RidgeClassifierCV"

    def _read_alphas(self) -> Float64:
        given = np.ravel(np.asarray(self.alphas, dtype=object)).tolist()
        if not given:
            raise InputError("alphas is empty", "Give at least one number")
        return np.array([check_number(a, f"alphas[{i}]", 0.0, above=self.cv is None) for i, a in enumerate(given)])

    def _scorer(self, data: Training, weights: Float64 | None) -> Score:
        """Score of the decisions on some rows."""
        scorer = get_scorer("accuracy") if self.scoring is None else check_scoring(self, scoring=self.scoring)
        weighted = weights is not None and not callable(self.scoring)
        judge, labels = _Decided(data.classes), data.classes[data.codes]

        def score(decisions: FloatArray, rows: IntArray) -> float:
            decisions = decisions[:, 0] if decisions.shape[1] == 1 else decisions
            extra = {"sample_weight": weights[rows]} if weighted and weights is not None else {}
            return float(scorer(judge, decisions, labels[rows], **extra))

        return score

    def _leave_out_in_turn(
        self, data: Training, alphas: Float64, score: Score, fit_intercept: bool, store: bool
    ) -> None:
        total, y = data.total_weight(), make_targets(data, fit_intercept=fit_intercept)
        path = ridge_path(
            data.X,
            y,
            alphas / total,
            n_classes=len(data.classes),
            sample_weight=data.weights,
            fit_intercept=fit_intercept,
            keep_predictions=store or self.scoring is not None,
        )
        loo = path.leave_one_out
        assert loo is not None
        decisions = None if loo.predictions is None else signed(loo.predictions, labels=y.ndim == 1, constant=1.0)
        if self.scoring is None:
            k = 1 if len(data.classes) == 2 else len(data.classes)
            # ½‖r‖² to the mean of squares over the columns: residuals of signs are twice those of one-hot targets, and
            # two classes have one column of signs, whose residual is the difference of the one-hot ones, twice each.
            factor = (4.0 if k == 1 else 8.0 / k) if y.ndim == 1 else 2.0 / k
            values = -factor * loo.loss * total / len(data.X)
        else:
            assert decisions is not None
            rows = np.arange(len(data.X)) if data.weights is None else np.flatnonzero(data.weights)
            values = np.array([score(out[rows], rows) for out in decisions])
            values[np.isnan(loo.loss)] = np.nan
        best = _first_best(values)
        self.alpha_, self.best_score_ = float(alphas[best]), float(values[best])
        if store and decisions is not None:
            self.cv_results_ = self._results(data, decisions)
        fit = path.fit(best)
        self.coef_, self.intercept_ = attributes(
            fit.weights, fit.bias, data.X, labels=y.ndim == 1, fit_intercept=fit_intercept
        )

    def _results(self, data: Training, decisions: FloatArray) -> FloatArray:
        if self.scoring is None:
            errors = np.square(decisions - make_targets(data, fit_intercept=False))
            decisions = errors if data.weights is None else errors * data.weights[:, None]
        return np.ascontiguousarray(decisions.transpose(1, 2, 0))

    def _leave_out_folds(self, data: Training, alphas: Float64, score: Score, fit_intercept: bool) -> None:
        y, each = make_targets(data, fit_intercept=fit_intercept), []
        splitter = check_cv(self.cv, data.classes[data.codes], classifier=True)
        weights = np.ones(len(data.X)) if data.weights is None else data.weights
        for train, test in splitter.split(data.X, data.classes[data.codes]):
            test = np.arange(len(weights))[test]
            test = test[weights[test] > 0]
            kept = np.zeros(len(weights))
            np.add.at(kept, np.arange(len(weights))[train], 1.0)
            kept *= weights
            path = ridge_path(
                data.X,
                y,
                alphas / kept.sum(),
                n_classes=len(data.classes),
                sample_weight=kept,
                fit_intercept=fit_intercept,
                leave_one_out=False,
            )
            fits = [path.weights(i) for i in range(len(alphas))]
            wide = scores(data.X[test], np.hstack([W for W, _ in fits]), np.concatenate([b for _, b in fits]))
            decisions = signed(wide.reshape(len(test), len(alphas), -1), labels=y.ndim == 1, constant=1.0)
            each.append([score(decisions[:, i], test) for i in range(len(alphas))])
        values = np.mean(each, axis=0)
        best = _first_best(values)
        self.alpha_, self.best_score_ = float(alphas[best]), float(values[best])
        self.coef_, self.intercept_, _ = fit_signs(data, self.alpha_, fit_intercept=fit_intercept)


def _first_best(values: Float64) -> int:
    if np.isnan(values).all():
        raise InputError(
            "no alpha can be judged: the fits pass through their rows, or the scorer gave no number",
            "Give larger alphas, or the features as float64",
        )
    return int(np.nanargmax(values))
