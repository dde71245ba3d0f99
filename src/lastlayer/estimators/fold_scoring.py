"""scikit-learn's scorers on a fold: of the scores that are known, or of a fitted estimator."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import make_scorer

from lastlayer._arrays import Array, Float64, FloatArray, IntArray
from lastlayer.estimators.fitting import Coefficients
from lastlayer.estimators.logistic_regression import LogisticRegression
from lastlayer.estimators.prediction import log_probabilities
from lastlayer.estimators.training import Training
from lastlayer.losses import by_name
from lastlayer.selection.cross_validation import HeldOut, Measure


def by_scores(scorer: Any, codes: IntArray, n_classes: int, given: Mapping[str, Any]) -> Measure:
    """A scorer of scikit-learn's by name: it meets class numbers, and no features; `given` are its further arguments.

    Those with an entry for every row are cut to the rows held out.
    """
    scorer = _told_labels(scorer, np.arange(n_classes))

    def measure(held: HeldOut) -> float:
        extra = _of_rows(given, held.rows, len(codes))
        return float(scorer(_StandIn(held.scores), np.empty((len(held.rows), 0)), codes[held.rows], **extra))

    return measure


class _StandIn(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """What scikit-learn's scorers ask: a classifier of class numbers, whose scores are already known."""

    def __init__(self, scores: FloatArray) -> None:
        self.scores = scores
        self.classes_ = np.arange(scores.shape[1])

    def decision_function(self, X: Any) -> FloatArray:
        """Scores known; X is not looked at."""
        return self.scores[:, 1] - self.scores[:, 0] if len(self.classes_) == 2 else self.scores

    def predict(self, X: Any) -> Array:
        """Class numbers."""
        decided = self.decision_function(X)
        return (decided > 0).astype(np.intp) if decided.ndim == 1 else decided.argmax(axis=1)

    def predict_proba(self, X: Any) -> FloatArray:
        """Class probabilities."""
        return np.exp(log_probabilities(self.decision_function(X).astype(np.float64)))


def _of_rows(given: Mapping[str, Any], rows: IntArray, n: int) -> dict[str, Any]:
    return {name: np.asarray(one)[rows] if _has_rows(one, n) else one for name, one in given.items()}


def _has_rows(one: Any, n: int) -> bool:
    return hasattr(one, "__len__") and not isinstance(one, str) and len(one) == n


def neg_log_loss(codes: IntArray, weights: Float64 | None) -> Measure:
    """Also where a fold's held-out rows lack a class, which scikit-learn's scorer refuses without the labels."""
    loss = by_name("cross_entropy")

    def measure(held: HeldOut) -> float:
        values = loss.values(held.scores.astype(np.float64), codes[held.rows])
        return -float(np.average(values, weights=None if weights is None else weights[held.rows]))

    return measure


def _told_labels(scorer: Any, labels: Array) -> Any:
    """Scorers that take `labels` are told all of them, for a fold's held-out rows may lack one, as in scikit-learn."""
    function = getattr(scorer, "_score_func", None)
    takes = () if function is None else inspect.signature(function).parameters
    if function is None or "labels" not in takes:
        return scorer
    told: dict[str, Any] = {"labels": labels}
    if len(labels) == 2 and "pos_label" in takes:
        told["pos_label"] = labels[-1]
    positive = scorer._sign == 1
    return make_scorer(
        function, greater_is_better=positive, response_method=scorer._response_method, **(told | scorer._kwargs)
    )


def by_estimator(scorer: Callable[..., float], data: Training, given: Mapping[str, Any]) -> Measure:
    """A caller's scorer meets a fitted `LogisticRegression`, the held-out features and their labels."""
    scorer = _told_labels(scorer, data.classes)

    def measure(held: HeldOut) -> float:
        W, b = held.model()
        found = as_coefficients(W, b)
        fitted = LogisticRegression()
        fitted.coef_, fitted.intercept_, fitted.classes_ = found.coef, found.intercept, data.classes
        fitted.n_features_in_ = data.X.shape[1]
        extra = _of_rows(given, held.rows, len(data.codes))
        return float(scorer(fitted, data.X[held.rows], data.classes[data.codes[held.rows]], **extra))

    return measure


def as_coefficients(W: Float64, b: Float64) -> Coefficients:
    """scikit-learn's view of a fit: one row of coefficients for two classes, intercepts of mean zero for more."""
    if W.shape[1] == 2:
        return Coefficients((W[:, 1:] - W[:, :1]).T.copy(), b[1:] - b[:1], 0)
    return Coefficients(np.ascontiguousarray(W.T), b - b.mean(), 0)
