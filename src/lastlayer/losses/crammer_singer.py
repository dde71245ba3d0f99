"""The squared hinge loss of Crammer and Singer's support vector machine: one margin, to the strongest rival."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from lastlayer._arrays import Array, Float64, FloatArray
from lastlayer.losses._labels import own
from lastlayer.losses.base import Loss


def _towards(Z: FloatArray, y: Array) -> FloatArray:
    """Overwrite Z with ``e_r - e_y`` and return the shortfall ``m = max(0, 1 + z_r - z_y)``, (N,).

    Rivals that tie share the 1 among themselves: the mean of the subgradients, which favours no class.
    """
    rows = np.arange(len(y))
    at_own = own(Z, y)
    Z[rows, y] = -np.inf
    top = Z.max(axis=1)
    np.equal(Z, top[:, None], out=Z)
    count = Z.sum(axis=1)
    if (count > 1.0).any():
        Z /= count[:, None]
    Z[rows, y] = -1.0
    top -= at_own
    top += 1.0
    return np.asarray(np.maximum(top, 0.0))


@final
@dataclass(frozen=True)
class CrammerSinger(Loss):
    """Crammer & Singer's loss, squared, ``L(z, y) = m²`` with ``m = max(0, 1 + max_{k≠y} zₖ - z_y)``.

    The L2-loss multiclass SVM of Lee & Lin (2013, Neural Computation 25), after Crammer & Singer (2001), whose own
    loss is m. Zero where the own class leads every other by 1.

    Gradient ``2 m (e_r - e_y)`` with r the strongest rival; generalised Hessian ``2 (e_r - e_y)(e_r - e_y)ᵀ`` where
    m > 0, whose eigenvalue is 4. With two classes the loss is smooth; with more its gradient jumps where two rivals
    tie (unlike the squared hinge of one against the rest), so that no curvature bounds it and solvers that need a
    continuous gradient refuse it: they stop short of the optimum, where many rows tie. Lee & Lin solve the dual;
    `fit_linear` minimises a smoothed twin whose minimum is as near as asked for (`selection.smoothing`). At a tie the
    subgradient is the mean over the rivals that tie.

    Shapes
    ------
    Z : (N, K), y : (N,) integers.
    """

    name: ClassVar[str] = "crammer_singer"
    has_gradient: ClassVar[bool] = True
    is_smooth: ClassVar[bool] = False
    is_quadratic: ClassVar[bool] = False
    curvature_bound: ClassVar[float] = float("inf")

    def values(self, Z: FloatArray, y: Array) -> FloatArray:
        """Loss of each row."""
        return np.asarray(np.square(_towards(Z.copy(order="K"), y)))

    def gradient(self, Z: FloatArray, y: Array) -> FloatArray:
        """Overwrite Z with a subgradient; return the losses."""
        shortfall = _towards(Z, y)
        Z *= (2.0 * shortfall)[:, None]
        return np.asarray(np.square(shortfall))

    def along(self, Z: FloatArray, V: FloatArray, y: Array) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Value, slope ``2 m (v_r - v_y)`` and generalised curvature ``2 (v_r - v_y)²`` where m > 0."""
        shortfall = _towards(Z, y)
        Z *= V
        towards = Z.sum(axis=1)
        curvature = np.where(shortfall > 0.0, 2.0 * np.square(towards), 0.0).astype(Z.dtype, copy=False)
        return np.square(shortfall), 2.0 * shortfall * towards, curvature

    def hessian_times(self, Z: FloatArray, V: FloatArray, y: Array) -> FloatArray:
        """``2 (e_r - e_y) (v_r - v_y)`` where m > 0."""
        shortfall = _towards(Z, y)
        along = np.multiply(Z, V).sum(axis=1)
        return np.asarray(Z * np.where(shortfall > 0.0, 2.0 * along, 0.0)[:, None])

    def trace(self, Z: FloatArray, y: Array) -> FloatArray:
        """``2 ‖e_r - e_y‖²`` where m > 0."""
        shortfall = _towards(Z, y)
        return np.asarray(np.where(shortfall > 0.0, 2.0 * np.square(Z).sum(axis=1), 0.0))

    def constant_scores(self, frequencies: Float64) -> Float64:
        """``2 share - 1`` for a class with more than half the weight, 0 for the others, centred: the exact optimum.

        With t the lead of the largest score, the mean loss is ``f (1 - t)² + (1 - f) (1 + t)²``, t ≥ 0.
        """
        scores = np.maximum(2.0 * frequencies - 1.0, 0.0)
        return np.asarray(scores - scores.mean())

    def typical_curvature(self, n_classes: int) -> float:
        """Of use to a preconditioner alone; twice the share of rows that typically miss their margin, per class."""
        return min(0.1, 1.0 / n_classes)
