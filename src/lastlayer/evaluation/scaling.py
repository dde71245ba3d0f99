r"""Probabilities mended after the fit: one temperature, or one scale and one shift for every class.

    p = softmax(a ∘ z + b)        temperature scaling: a = 1/T, b = 0

Fitted on scores of rows that the weights were not fitted on: validation rows, or out-of-fold scores. Both lower the log
loss, which is convex in (a, b); a temperature changes no answer, a vector may.

Source: Guo, Pleiss, Sun & Weinberger 2017, "On calibration of modern neural networks".

Shapes
------
N : rows, K : classes. scores z : (N, K), labels : (N,), −1 without label.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from lastlayer._arrays import Float64, FloatArray, InputError, IntArray, first_not_finite

_LOWEST, _HIGHEST = -12.0, 12.0  # ln β: temperatures from 6e-6 to 160,000


@final
@dataclass(frozen=True, eq=False)
class Calibrator:
    """``p = softmax(scale ∘ z + shift)``; using it needs NumPy alone.

    Attributes
    ----------
    scale, shift : float64 (K,)
    """

    scale: Float64
    shift: Float64

    @property
    def temperature(self) -> float | None:
        """T where it is one temperature for all classes, else None."""
        plain = np.all(self.scale == self.scale[0]) and not self.shift.any()
        return 1.0 / float(self.scale[0]) if plain and self.scale[0] > 0 else None

    def probabilities(self, scores: FloatArray) -> Float64:
        """Return softmax(scale ∘ z + shift), (N, K), float64."""
        if scores.ndim != 2 or scores.shape[1] != self.scale.size:
            raise InputError(f"scores have shape {scores.shape}; (N, {self.scale.size}) is needed")
        return _softmax(scores * self.scale + self.shift)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"scale": self.scale.tolist(), "shift": self.shift.tolist()}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Calibrator:
        """Inverse of `to_dict`."""
        return cls(np.asarray(stored["scale"], np.float64), np.asarray(stored["shift"], np.float64))


def fit_temperature(scores: FloatArray, labels: IntArray) -> float:
    """T > 0 that minimises the mean of −log softmax(z / T)_y, by bisection of its slope in β = 1/T.

    The target is not quite one-hot but (N + 1) / (N + 2) for the label and the rest spread over the other classes,
    Platt's (1999) correction: a few rows that are all right must not lead to probabilities of exactly one. Whatever K
    is, two rows' worth of doubt are added (one a class would add ten to a hundred validation rows of ten classes).

    Raises
    ------
    InputError
        Without a labelled row, or when shapes do not fit together.
    """
    Z, y = _checked(scores, labels)
    N, K = Z.shape
    label, rest = Z[np.arange(N), y], Z.sum(axis=1)
    own = ((N + 1) * label + (rest - label) / (K - 1)) / (N + 2)
    shifted = Z - Z.max(axis=1, keepdims=True)

    def slope(beta: float) -> float:
        p = np.exp(beta * shifted)
        p /= p.sum(axis=1, keepdims=True)
        return float(np.mean((p * Z).sum(axis=1) - own))

    low, high = _LOWEST, _HIGHEST
    for _ in range(60):
        middle = 0.5 * (low + high)
        if slope(math.exp(middle)) < 0:
            low = middle
        else:
            high = middle
    return math.exp(-0.5 * (low + high))


def temperature_scaling(scores: FloatArray, labels: IntArray) -> Calibrator:
    """Fit one temperature (`fit_temperature`)."""
    K = scores.shape[1]
    return Calibrator(np.full(K, 1.0 / fit_temperature(scores, labels)), np.zeros(K))


def vector_scaling(scores: FloatArray, labels: IntArray, *, max_iter: int = 500) -> Calibrator:
    r"""Fit a scale and a shift for every class.

    .. math::
        \min_{a, b} \; \sum_i -\log p_i(y_i)
        + \frac{1}{2} \sum_k \Bigl(\frac{a_k T - 1}{\sigma}\Bigr)^2 + \frac{1}{2} \sum_k b_k^2, \qquad \sigma = 1

    starting from, and drawn towards, the best temperature T: with few rows of a class its scale stays near that of the
    others. The prior counts like a handful of rows and fades as N grows.

    Minimised by L-BFGS (SciPy, imported here), which the 2K numbers suit.
    """
    from scipy.optimize import minimize

    Z, y = _checked(scores, labels)
    N, K = Z.shape
    beta = 1.0 / fit_temperature(Z, y)
    Z = Z * beta  # in these units the temperature is 1 and the prior of every scale is centred on 1
    rows = np.arange(N)

    def objective(parameters: Float64) -> tuple[float, Float64]:
        a, b = parameters[:K], parameters[K:]
        u = Z * a + b
        u -= u.max(axis=1, keepdims=True)
        own = u[rows, y].copy()
        np.exp(u, out=u)
        total = u.sum(axis=1)
        value = float(np.sum(np.log(total) - own)) + 0.5 * float(np.sum((a - 1) ** 2) + np.sum(b**2))
        u /= total[:, None]
        u[rows, y] -= 1.0
        gradient = np.concatenate([(u * Z).sum(axis=0) + a - 1, u.sum(axis=0) + b])
        return value / N, gradient / N

    start = np.concatenate([np.ones(K), np.zeros(K)])
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": max_iter, "ftol": 1e-12})
    return Calibrator(found.x[:K] * beta, found.x[K:])


def _checked(scores: FloatArray, labels: IntArray) -> tuple[Float64, IntArray]:
    labels = np.asarray(labels)
    if scores.ndim != 2 or labels.shape != scores.shape[:1]:
        raise InputError(f"scores have shape {scores.shape} and labels {labels.shape}; (N, K) and (N,) are needed")
    kept = labels >= 0
    Z, y = np.asarray(scores[kept], np.float64), labels[kept].astype(np.intp)
    if not y.size:
        raise InputError("no labelled row to calibrate on", "Give validation rows")
    if first_not_finite(Z) is not None:
        raise InputError("a score is NaN or infinite", code="LL030")
    return Z, y


def _softmax(u: Float64) -> Float64:
    u -= u.max(axis=1, keepdims=True)
    np.exp(u, out=u)
    u /= u.sum(axis=1, keepdims=True)
    return u
