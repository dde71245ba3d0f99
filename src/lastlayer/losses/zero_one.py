"""The error itself, for reporting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from lastlayer._arrays import Array, Float64, FloatArray
from lastlayer.losses.base import Loss


@final
@dataclass(frozen=True)
class ZeroOne(Loss):
    """Zero-one loss: 1 where the first class of largest score is not the label, else 0.

    For reporting only: its gradient is zero wherever it exists, so no solver that follows a gradient may be given it.

    Shapes
    ------
    Z : (N, K), y : (N,) integers.
    """

    name: ClassVar[str] = "zero_one"
    has_gradient: ClassVar[bool] = False
    is_smooth: ClassVar[bool] = False
    is_quadratic: ClassVar[bool] = False
    curvature_bound: ClassVar[float] = float("inf")

    def values(self, Z: FloatArray, y: Array) -> FloatArray:
        """Loss of each row."""
        wrong: FloatArray = (Z.argmax(axis=1) != y).astype(Z.dtype)
        return wrong

    def gradient(self, Z: FloatArray, y: Array) -> FloatArray:
        """Overwrite Z with zeros, the gradient almost everywhere; return the losses."""
        losses = self.values(Z, y)
        Z[...] = 0.0
        return losses

    def along(self, Z: FloatArray, V: FloatArray, y: Array) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Value and zeros."""
        losses = self.values(Z, y)
        return losses, np.zeros_like(losses), np.zeros_like(losses)

    def hessian_times(self, Z: FloatArray, V: FloatArray, y: Array) -> FloatArray:
        """Zeros."""
        return np.zeros_like(V)

    def trace(self, Z: FloatArray, y: Array) -> FloatArray:
        """Zeros."""
        return np.zeros(len(Z), dtype=Z.dtype)

    def constant_scores(self, frequencies: Float64) -> Float64:
        """The most frequent class first."""
        return frequencies.copy()

    def typical_curvature(self, n_classes: int) -> float:
        """Of no use here."""
        return 1.0
