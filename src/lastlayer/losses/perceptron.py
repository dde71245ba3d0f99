"""The perceptron's loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from lastlayer._arrays import Array, Float64, FloatArray
from lastlayer.losses._labels import add_to_own, own
from lastlayer.losses.base import Loss


@final
@dataclass(frozen=True)
class Perceptron(Loss):
    """Perceptron loss in its multiclass form, ``L(z, y) = maxₖ zₖ - z_y``.

    Zero exactly when the row's own class has the largest score. Subgradient ``e_r - e_y`` with r the first class of
    largest score, which is Kesler's construction (Duda & Hart 1973, section 5.12; Collins 2002). Its minimum is
    zero at W = 0: the loss trains only through the mistake-driven rule (`solvers.PerceptronRule`).

    Shapes
    ------
    Z : (N, K), y : (N,) integers.
    """

    name: ClassVar[str] = "perceptron"
    has_gradient: ClassVar[bool] = True
    is_smooth: ClassVar[bool] = False
    is_quadratic: ClassVar[bool] = False
    has_mistake_rule: ClassVar[bool] = True
    curvature_bound: ClassVar[float] = float("inf")

    def values(self, Z: FloatArray, y: Array) -> FloatArray:
        """Loss of each row."""
        return np.asarray(Z.max(axis=1) - own(Z, y))

    def gradient(self, Z: FloatArray, y: Array) -> FloatArray:
        """Overwrite Z with a subgradient; return the losses."""
        rival = Z.argmax(axis=1)
        losses = own(Z, rival) - own(Z, y)
        Z[...] = 0.0
        add_to_own(Z, rival, 1.0)
        add_to_own(Z, y, -1.0)
        return losses

    def along(self, Z: FloatArray, V: FloatArray, y: Array) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Value, slope and zero curvature."""
        losses = self.gradient(Z, y)
        Z *= V
        return losses, Z.sum(axis=1), np.zeros_like(losses)

    def hessian_times(self, Z: FloatArray, V: FloatArray, y: Array) -> FloatArray:
        """Zeros."""
        return np.zeros_like(V)

    def trace(self, Z: FloatArray, y: Array) -> FloatArray:
        """Zeros."""
        return np.zeros(len(Z), dtype=Z.dtype)

    def constant_scores(self, frequencies: Float64) -> Float64:
        """Zeros."""
        return np.zeros_like(frequencies)

    def typical_curvature(self, n_classes: int) -> float:
        """Of no use here."""
        return 1.0
