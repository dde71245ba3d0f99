"""Softmax cross-entropy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from lastlayer._arrays import Array, Float64, FloatArray
from lastlayer.losses._labels import add_to_own, own
from lastlayer.losses.base import Loss


def _row_sums(Z: FloatArray) -> Float64:
    """``Σₖ zₖ`` of each row in float64: with many classes a float32 sum is off by a thousand roundings, all one way."""
    return np.asarray(Z.sum(axis=1, dtype=np.float64))


def softmax(Z: FloatArray) -> FloatArray:
    """Row-wise ``exp(z) / Σ exp(z)``, in place, and the logarithm of the sum, (N,).

    The largest score is subtracted first, so that no exponent overflows.
    """
    top = Z.max(axis=1)
    Z -= top[:, None]
    np.exp(Z, out=Z)
    total = _row_sums(Z)
    Z /= total.astype(Z.dtype)[:, None]
    np.log(total, out=total)
    total += top
    return total.astype(Z.dtype)


@final
@dataclass(frozen=True)
class CrossEntropy(Loss):
    """Softmax cross-entropy, ``L(z, y) = log Σₖ exp(zₖ) - z_y``.

    Gradient ``p - e_y`` with ``p = softmax(z)``, Hessian ``diag(p) - p pᵀ``, whose eigenvalues are at most ½
    (Böhning 1992, Annals of the Institute of Statistical Mathematics 44). With two classes it is the logistic
    loss of ``z₁ - z₀``.

    Shapes
    ------
    Z : (N, K), y : (N,) integers.
    """

    name: ClassVar[str] = "cross_entropy"
    has_gradient: ClassVar[bool] = True
    is_smooth: ClassVar[bool] = True
    is_quadratic: ClassVar[bool] = False
    curvature_bound: ClassVar[float] = 0.5

    def values(self, Z: FloatArray, y: Array) -> FloatArray:
        """Loss of each row."""
        top = Z.max(axis=1)
        shifted = Z - top[:, None]
        at_own = own(shifted, y)
        np.exp(shifted, out=shifted)
        losses = np.log(_row_sums(shifted)) - at_own
        return losses.astype(Z.dtype)

    def gradient(self, Z: FloatArray, y: Array) -> FloatArray:
        """Overwrite Z with ``softmax(z) - e_y``; return the losses."""
        Z -= Z.max(axis=1)[:, None]
        at_own = own(Z, y)
        losses = softmax(Z)
        losses -= at_own
        add_to_own(Z, y, -1.0)
        return losses

    def along(self, Z: FloatArray, V: FloatArray, y: Array) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Value, slope ``p·v - v_y`` and curvature ``Σ p v² - (p·v)²``."""
        Z -= Z.max(axis=1)[:, None]
        at_own = own(Z, y)
        np.exp(Z, out=Z)
        total = _row_sums(Z)
        Z *= V
        mean = _row_sums(Z) / total
        Z *= V
        curvature = _row_sums(Z) / total - mean * mean
        parts = np.log(total) - at_own, mean - own(V, y), np.maximum(curvature, 0.0)
        return parts[0].astype(Z.dtype), parts[1].astype(Z.dtype), parts[2].astype(Z.dtype)

    def hessian_times(self, Z: FloatArray, V: FloatArray, y: Array) -> FloatArray:
        """``p ∘ v - p (p·v)``."""
        softmax(Z)
        mean = np.multiply(Z, V).sum(axis=1)
        return np.asarray(Z * (V - mean[:, None]))

    def trace(self, Z: FloatArray, y: Array) -> FloatArray:
        """``1 - ‖p‖²``: near zero where the prediction is sure."""
        softmax(Z)
        return np.asarray(1.0 - np.square(Z).sum(axis=1))

    def constant_scores(self, frequencies: Float64) -> Float64:
        """Logarithms of the shares, centred (shares of zero as if one row in a million had the class)."""
        logs = np.log(np.maximum(frequencies, 1e-6))
        return np.asarray(logs - logs.mean())

    def typical_curvature(self, n_classes: int) -> float:
        """Far below the bound ½: measured best near 0.05 for ten classes, 1/K for many."""
        return min(0.05, 1.0 / n_classes)
