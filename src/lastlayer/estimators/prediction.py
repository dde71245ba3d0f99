"""Decisions and probabilities from `coef_` and `intercept_`, one row at a time whatever the batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import check_is_fitted

from lastlayer._arrays import Array, FloatArray
from lastlayer.estimators.training import read_features
from lastlayer.linear import device, scores

CAST_ROWS = 8192
"""Rows converted at a time where X has another type than the coefficients; a multiple of the block of `scores`."""


class LinearPredictions(ClassifierMixin, ABC):  # type: ignore[misc]
    """Mixin: decisions of a fitted linear classifier.

    Needs `coef_` (K, D), `intercept_` (K,) and `classes_`; for two classes one row that speaks for ``classes_[1]``.
    """

    coef_: FloatArray
    intercept_: FloatArray
    classes_: Array

    @property
    @abstractmethod
    def _sparse_alternative(self) -> str:
        """What takes sparse matrices, for the refusal."""

    def decision_function(self, X: Any) -> FloatArray:
        """Scores ``X coef_ᵀ + intercept_``.

        A row's scores do not depend on the rows it comes with.

        Parameters
        ----------
        X : (N, D) array-like; a torch tensor is multiplied on its device.

        Returns
        -------
        (N, K) scores, a tensor on X's device for a tensor; (N,) for two classes, positive for ``classes_[1]``.

        Raises
        ------
        InputError
            For sparse, NaN or infinite features.
        """
        check_is_fitted(self)
        return decide(read_features(self, X, self._sparse_alternative), self.coef_, self.intercept_)

    def predict(self, X: Any) -> Array:
        """The class of the largest score.

        Parameters
        ----------
        X : (N, D) array-like or torch tensor

        Returns
        -------
        (N,) labels out of `classes_`; for a tensor a tensor on its device, unless the labels are no numbers.
        """
        decided = self.decision_function(X)
        if device.is_tensor(decided):
            there: Array = _labels_there(decided, self.classes_)
            return there
        picked = (decided > 0).astype(np.intp) if decided.ndim == 1 else decided.argmax(axis=1)
        labels: Array = self.classes_[picked]
        return labels

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Share of the rows whose class is predicted, weighted where weights are given."""
        found, right, weights = (device.on_host(a) for a in (self.predict(X), y, sample_weight))
        return float(accuracy_score(right, found, sample_weight=weights))


def _labels_there(decided: Any, classes: Array) -> Any:
    """Labels of the largest scores, a tensor beside them; an array for labels that are no numbers."""
    picked = (decided > 0).long() if decided.ndim == 1 else decided.argmax(dim=1)
    if classes.dtype.kind not in "fiub":
        return classes[device.on_host(picked)]
    # torch has no arithmetic for wide unsigned integers.
    labels = classes.astype(np.int64) if classes.dtype.kind == "u" else classes
    return decided.new_tensor(labels.tolist(), dtype=getattr(device.torch_module(), labels.dtype.name))[picked]


def decide(X: Array, coef: FloatArray, intercept: FloatArray) -> FloatArray:
    """Scores of X in the coefficients' type, wider where X is; (N,) for one row of coefficients."""
    if device.is_tensor(X):
        narrow = coef.dtype == np.float32 and np.can_cast(device.stored_type(X), np.float32)
        out: FloatArray = device.scores(X, coef.T, intercept, np.dtype(np.float32 if narrow else np.float64))
    elif X.dtype == coef.dtype or (coef.dtype == np.float32 and np.can_cast(X.dtype, np.float32)):
        out = scores(X, coef.T, intercept)
    else:
        blocks = [X[start : start + CAST_ROWS] for start in range(0, len(X), CAST_ROWS)]
        out = np.concatenate([scores(block.astype(np.float64), coef.T, intercept) for block in blocks])
    return out[:, 0] if len(coef) == 1 else out


def log_probabilities(decided: FloatArray) -> FloatArray:
    """Logarithm of the softmax of the scores, or of the logistic function for (N,) scores of two classes.

    Shapes
    ------
    decided : (N,) or (N, K); result (N, 2) or (N, K), rows summing to 1 after `exp`.

    >>> np.exp(log_probabilities(np.array([0.0])))
    array([[0.5, 0.5]])
    """
    if device.is_tensor(decided):
        there: FloatArray = _log_probabilities_there(decided)
        return there
    if decided.ndim == 1:
        return np.stack([-np.logaddexp(0.0, decided), -np.logaddexp(0.0, -decided)], axis=1).astype(decided.dtype)
    shifted = decided - decided.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _log_probabilities_there(decided: Any) -> Any:
    torch = device.torch_module()
    if decided.ndim == 2:
        return torch.log_softmax(decided, dim=1)
    zero = torch.zeros_like(decided)
    return torch.stack([-torch.logaddexp(zero, decided), -torch.logaddexp(zero, -decided)], dim=1)


def exponential(logs: FloatArray) -> FloatArray:
    """``exp`` of an array or a tensor."""
    there: Any = logs
    found: FloatArray = there.exp() if device.is_tensor(logs) else np.exp(logs)
    return found
