"""The hinge losses of support vector machines, one class against the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from lastlayer._arrays import Array, Float64, FloatArray
from lastlayer.losses._labels import own
from lastlayer.losses.base import Loss


def _shortfall(Z: FloatArray, y: Array) -> None:
    """Overwrite Z with ``max(0, 1 - t z)``, negative for the row's own class (the sign of -t is kept apart).

    For the other classes (t = -1) the entry is ``max(0, 1 + z)``, for the own class ``-max(0, 1 - z)``: in both
    cases minus t times the shortfall, which is the direction of the gradient.
    """
    at_own = own(Z, y)
    Z += 1.0
    np.maximum(Z, 0.0, out=Z)
    Z[np.arange(len(y)), y] = -np.maximum(1.0 - at_own, 0.0)


@final
@dataclass(frozen=True)
class Hinge(Loss):
    """Hinge loss, one against the rest, ``L(z, y) = Σₖ max(0, 1 - tₖ zₖ)`` with ``t_y = 1`` and -1 elsewhere.

    Subgradient ``-tₖ`` where the margin is missed, 0 elsewhere and at the kink (Cortes & Vapnik 1995; Rifkin &
    Klautau 2004 for one-versus-rest).

    Shapes
    ------
    Z : (N, K), y : (N,) integers.
    """

    name: ClassVar[str] = "hinge"
    has_gradient: ClassVar[bool] = True
    is_smooth: ClassVar[bool] = False
    is_quadratic: ClassVar[bool] = False
    curvature_bound: ClassVar[float] = float("inf")

    def values(self, Z: FloatArray, y: Array) -> FloatArray:
        """Loss of each row."""
        return self.gradient(Z.copy(order="K"), y)

    def gradient(self, Z: FloatArray, y: Array) -> FloatArray:
        """Overwrite Z with a subgradient; return the losses."""
        _shortfall(Z, y)
        losses = np.abs(Z).sum(axis=1)
        np.sign(Z, out=Z)
        return np.asarray(losses)

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
        """Each class's majority answer: 1 above a share of one half, else -1."""
        return np.where(frequencies > 0.5, 1.0, -1.0)

    def typical_curvature(self, n_classes: int) -> float:
        """Of no use here."""
        return 1.0


@final
@dataclass(frozen=True)
class SquaredHinge(Loss):
    """Squared hinge loss, one against the rest, ``L(z, y) = Σₖ max(0, 1 - tₖ zₖ)²``.

    Gradient ``-2 tₖ max(0, 1 - tₖ zₖ)``, generalised Hessian ``2`` where the margin is missed (Mangasarian 2002).
    The same scaling as LIBLINEAR's L2-loss SVM.

    Shapes
    ------
    Z : (N, K), y : (N,) integers.
    """

    name: ClassVar[str] = "squared_hinge"
    has_gradient: ClassVar[bool] = True
    is_smooth: ClassVar[bool] = True
    is_quadratic: ClassVar[bool] = False
    curvature_bound: ClassVar[float] = 2.0

    def values(self, Z: FloatArray, y: Array) -> FloatArray:
        """Loss of each row."""
        return self.gradient(Z.copy(order="K"), y)

    def gradient(self, Z: FloatArray, y: Array) -> FloatArray:
        """Overwrite Z with the gradient; return the losses."""
        _shortfall(Z, y)
        losses = np.square(Z).sum(axis=1)
        Z *= 2.0
        return np.asarray(losses)

    def along(self, Z: FloatArray, V: FloatArray, y: Array) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Value, slope and generalised curvature ``2 Σ v²`` over the missed margins."""
        losses = self.gradient(Z, y)
        missed = Z != 0.0
        Z *= V
        slope = Z.sum(axis=1)
        np.multiply(V, missed, out=Z)
        return losses, slope, 2.0 * np.square(Z).sum(axis=1)

    def hessian_times(self, Z: FloatArray, V: FloatArray, y: Array) -> FloatArray:
        """``2 v`` where the margin is missed, 0 elsewhere."""
        _shortfall(Z, y)
        return np.asarray(np.where(Z != 0.0, 2.0 * V, 0.0))

    def trace(self, Z: FloatArray, y: Array) -> FloatArray:
        """Twice the number of missed margins."""
        _shortfall(Z, y)
        return np.asarray(2.0 * np.count_nonzero(Z, axis=1).astype(Z.dtype))

    def constant_scores(self, frequencies: Float64) -> Float64:
        """``2 share - 1``, the exact optimum of a constant."""
        return np.asarray(2.0 * frequencies - 1.0)

    def typical_curvature(self, n_classes: int) -> float:
        """Twice the share of margins that are typically missed, measured best at 0.1 for ten classes."""
        return min(0.1, 1.0 / n_classes)
