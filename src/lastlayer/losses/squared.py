"""Squared error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from lastlayer._arrays import Array, Float64, FloatArray
from lastlayer.losses._labels import add_to_own
from lastlayer.losses.base import Loss


def _subtract_target(Z: FloatArray, y: Array) -> None:
    if y.ndim == 1:
        add_to_own(Z, y, -1.0)
    else:
        np.subtract(Z, y, out=Z, casting="same_kind")


@final
@dataclass(frozen=True)
class Squared(Loss):
    """Half the squared error, ``L(z, t) = ½‖z - t‖²``.

    Labels stand for one-hot targets ``t = e_y``; real targets (N, K) may be given instead, which is linear
    regression. Gradient ``z - t``, Hessian the identity.

    Shapes
    ------
    Z : (N, K), y : (N,) integers or (N, K) real targets.
    """

    name: ClassVar[str] = "squared"
    has_gradient: ClassVar[bool] = True
    is_smooth: ClassVar[bool] = True
    is_quadratic: ClassVar[bool] = True
    curvature_bound: ClassVar[float] = 1.0

    def values(self, Z: FloatArray, y: Array) -> FloatArray:
        """Loss of each row."""
        return self.gradient(Z.copy(order="K"), y)

    def gradient(self, Z: FloatArray, y: Array) -> FloatArray:
        """Overwrite Z with ``z - t``; return the losses."""
        _subtract_target(Z, y)
        return np.asarray(0.5 * np.square(Z).sum(axis=1))

    def along(self, Z: FloatArray, V: FloatArray, y: Array) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Value, slope ``(z - t)·v`` and curvature ``v·v``."""
        losses = self.gradient(Z, y)
        Z *= V
        return losses, Z.sum(axis=1), np.square(V).sum(axis=1)

    def hessian_times(self, Z: FloatArray, V: FloatArray, y: Array) -> FloatArray:
        """The direction itself."""
        return V.copy()

    def trace(self, Z: FloatArray, y: Array) -> FloatArray:
        """K."""
        return np.full(len(Z), Z.shape[1], dtype=Z.dtype)

    def constant_scores(self, frequencies: Float64) -> Float64:
        """The shares themselves."""
        return frequencies.copy()

    def typical_curvature(self, n_classes: int) -> float:
        """The identity."""
        return 1.0
