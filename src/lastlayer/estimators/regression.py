"""Exact fits of the squared loss for the facade: reading real targets, one or many λ, predictions."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from scipy.sparse import issparse
from sklearn.base import MultiOutputMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted, validate_data

from lastlayer._arrays import Array, Float64, FloatArray, InputError
from lastlayer.estimators.prediction import decide
from lastlayer.estimators.training import _check_finite, _read_weights, read_features
from lastlayer.selection import LinearFit, fit_linear
from lastlayer.selection.ridge import ridge_path
from lastlayer.solvers.base import StopReason

MOST_STEPS = 1000
EIGENVECTORS_UP_TO = 512
"""Rows or columns, whichever are fewer, up to which a fit is made from eigenvectors: they cost nothing there, and tell
directions apart in which nothing varies, whatever the penalty."""


@final
@dataclass(frozen=True, eq=False)
class RegressionData:
    """Training data of a regressor.

    Attributes
    ----------
    X : ndarray
        (N, D) features of any real type.
    Y : ndarray
        (N, K) targets.
    flat : bool
        Whether the targets were given as (N,).
    weights : ndarray or None
        (N,) weights; None when all are 1.
    """

    X: Array
    Y: Float64
    flat: bool
    weights: Float64 | None

    def total_weight(self) -> float:
        """``Σᵢ sᵢ``."""
        return float(len(self.X)) if self.weights is None else total_of(self.weights)


def total_of(weights: Float64) -> float:
    """Their sum; `InputError` where it is infinite."""
    with np.errstate(over="ignore"):
        total = float(weights.sum())
    if not np.isfinite(total):
        raise InputError("the sum of the sample weights is infinite", "Divide them by their maximum")
    return total


def read_regression(estimator: Any, X: Any, y: Any, sample_weight: Any, instead: str) -> RegressionData:
    """Check everything that `fit` was given.

    Raises
    ------
    InputError
        For sparse, NaN or infinite features, and weights that are negative, all zero or of the wrong shape.
    """
    if issparse(X):
        read_features(estimator, X, instead)  # refuses
    X, y = validate_data(estimator, X, y, dtype="numeric", ensure_all_finite=False, multi_output=True, y_numeric=True)
    _check_finite(estimator, X)
    flat = y.ndim == 1
    Y = np.asarray(y.reshape(-1, 1) if flat else y, dtype=np.float64)
    return RegressionData(X, Y, flat, _read_weights(sample_weight, len(X)))


@final
@dataclass(frozen=True, eq=False)
class Solved:
    """W (D, K), b (K,), and the steps made: one, and those of the refinement."""

    W: Float64
    b: Float64
    steps: int


def result_type(X: Array) -> np.dtype[np.floating]:
    """Type of the coefficients: float32 for what float32 holds exactly, else float64."""
    return np.dtype(np.float32 if np.can_cast(X.dtype, np.float32) else np.float64)


def solve(
    X: Array,
    y: Array,
    n_outputs: int,
    l2: float | Float64,
    weights: Float64 | None,
    fit_intercept: bool,
) -> Solved:
    """The minimum of the squared loss: (N,) labels or (N, K) targets, one λ or one a target.

    Warns once, LL040, where the gradient stays above rounding; Ctrl-C is raised again.
    """
    if y.ndim == 1:
        return _answer(_fit(X, y, n_outputs, float(l2), weights, fit_intercept), X)
    # Column by column, so that one tolerance and one type serve targets of any size.
    low, high = y.min(axis=0), y.max(axis=0)
    shift = low + (high / 2 - low / 2) if fit_intercept else np.zeros(n_outputs)
    y = y - shift
    size = np.abs(y).max(axis=0)
    scale = np.exp2(np.rint(np.log2(np.where(size > 0, size, 1.0))))
    y /= scale
    each = np.broadcast_to(np.asarray(l2, dtype=np.float64), (n_outputs,))
    if (each == each[0]).all():
        found = _answer(_fit(X, y, n_outputs, float(each[0]), weights, fit_intercept), X)
    else:
        found = _solve_each(X, y, each, weights, fit_intercept)
    return Solved(found.W * scale, found.b * scale + shift, found.steps)


def _fit(X: Array, y: Array, n_outputs: int, l2: float, weights: Float64 | None, fit_intercept: bool) -> LinearFit:
    if l2 == 0 or min(X.shape) <= EIGENVECTORS_UP_TO:
        path = ridge_path(
            X,
            y,
            [l2],
            n_classes=n_outputs,
            sample_weight=weights,
            fit_intercept=fit_intercept,
            leave_one_out=False,
        )
        return path.fit(0)
    return fit_linear(
        X,
        y,
        n_outputs,
        "squared",
        l2=l2,
        sample_weight=weights,
        solver="closed_form",
        tol=1e-6 if result_type(X) == np.float32 else 1e-12,
        max_iter=MOST_STEPS,
        fit_intercept=fit_intercept,
    )


def _solve_each(X: Array, Y: Float64, each: Float64, weights: Float64 | None, fit_intercept: bool) -> Solved:
    """One eigendecomposition for all λ."""
    l2s, which = np.unique(each, return_inverse=True)
    path = ridge_path(X, Y, l2s, sample_weight=weights, fit_intercept=fit_intercept, leave_one_out=False)
    W, b, steps = np.empty((X.shape[1], len(each))), np.empty(len(each)), 1
    for i in range(len(l2s)):
        columns = which == i
        found = _answer(path.fit(i), X)
        W[:, columns], b[columns] = found.W[:, columns], found.b[columns]
        steps = max(steps, found.steps)
    return Solved(W, b, steps)


def _answer(fit: LinearFit, X: Array) -> Solved:
    solution, reason = fit.solution, fit.solution.stop_reason
    if reason is StopReason.INTERRUPTED:
        raise KeyboardInterrupt
    # The value is flat to the square of the gradient: below √ε no step of any length changes its digits.
    if not reason.converged and solution.gradient_norm > np.sqrt(np.finfo(result_type(X)).eps):
        warnings.warn(
            f"LL040 {fit.solver} did not converge ({reason.value} after {solution.iterations} iterations): relative "
            f"gradient norm {solution.gradient_norm:.2g}. Standardise the columns, or give them as float64",
            ConvergenceWarning,
            stacklevel=5,
        )
    return Solved(fit.weights, fit.bias, max(1, solution.iterations))


class RegressionPredictions(MultiOutputMixin, RegressorMixin, ABC):  # type: ignore[misc]
    """Mixin: predictions of a fitted linear model, ``X coef_ᵀ + intercept_``; needs `coef_` and `intercept_`."""

    coef_: FloatArray
    intercept_: Any

    @property
    @abstractmethod
    def _sparse_alternative(self) -> str:
        """What takes sparse matrices, for the refusal."""

    def predict(self, X: Any) -> FloatArray:
        """Predictions; a row's do not depend on the rows it comes with.

        Parameters
        ----------
        X : (N, D) array-like

        Returns
        -------
        (N,) where `coef_` is (D,), else (N, K).

        Raises
        ------
        InputError
            For sparse, NaN or infinite features.
        """
        check_is_fitted(self)
        X = read_features(self, X, self._sparse_alternative)
        out = decide(X, np.atleast_2d(self.coef_), np.atleast_1d(self.intercept_).astype(self.coef_.dtype))
        return out if self.coef_.ndim == 1 else out.reshape(len(X), -1)
