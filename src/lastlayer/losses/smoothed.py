"""Crammer and Singer's squared hinge with its kinks rounded off: what gradient solvers can minimise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from lastlayer._arrays import Array, Float64, FloatArray, InputError
from lastlayer.losses._labels import own
from lastlayer.losses.base import Loss
from lastlayer.losses.crammer_singer import CrammerSinger


@final
@dataclass(frozen=True)
class SmoothedCrammerSinger(Loss):
    """Crammer & Singer's squared loss, smoothed by ``μ`` (Nesterov 2005, Mathematical Programming 103).

    With ``aₖ = 1 + zₖ - z_y`` for the rivals k ≠ y, the loss ``max(0, maxₖ aₖ)²`` is a maximum over non-negative shares
    of the rivals, from which a strongly concave term is taken away:

        L_μ(z, y) = max_{β ≥ 0}  Σ βₖ aₖ - ¼ (Σ βₖ)² - (μ/2) Σ βₖ²

    The best shares are ``βₖ = max(0, aₖ - τ)/μ`` with ``Σ βₖ = 2τ``, found by sorting, as a projection on the simplex.
    They are the gradient, ``∂L_μ/∂zₖ = βₖ`` and ``-2τ`` for the own class, which is continuous. As the shares sum to at
    most 2m, m the shortfall, what is taken away is at most ``2 μ m²``:

        L_μ ≤ L ≤ (1 + 2μ) L_μ

    Shapes
    ------
    Z : (N, K), y : (N,) integers.

    Parameters
    ----------
    mu : float
        μ > 0.
    """

    mu: float
    name: ClassVar[str] = "smoothed_crammer_singer"
    has_gradient: ClassVar[bool] = True
    is_smooth: ClassVar[bool] = True
    is_quadratic: ClassVar[bool] = False
    curvature_bound: ClassVar[float] = float("inf")  # K/μ: it depends on the number of classes

    def __post_init__(self) -> None:
        if not (np.isfinite(self.mu) and self.mu > 0):
            raise InputError(f"mu is {self.mu!r}; a finite number greater than 0 is needed")

    def _excess(self, Z: FloatArray, y: Array) -> tuple[FloatArray, Array]:
        """Overwrite Z with ``max(0, aₖ - τ)``, zero for the own class; return τ and the number of rivals above it."""
        rows = np.arange(len(y))
        Z -= (own(Z, y) - 1.0)[:, None]
        Z[rows, y] = -np.inf
        falling = np.sort(Z, axis=1)[:, :0:-1]
        levels = np.cumsum(falling, axis=1) / (np.arange(1, Z.shape[1]) + 2.0 * self.mu)
        above = (falling > levels).sum(axis=1)
        short = above > 0
        tau = np.where(short, levels[rows, np.maximum(above, 1) - 1], 0.0).astype(Z.dtype, copy=False)
        Z -= np.where(short, tau, np.inf).astype(Z.dtype, copy=False)[:, None]
        np.maximum(Z, 0.0, out=Z)
        return tau, above

    def _value(self, excess: FloatArray, tau: FloatArray) -> FloatArray:
        return np.asarray(np.square(excess).sum(axis=1) * (0.5 / self.mu) + np.square(tau))

    def values(self, Z: FloatArray, y: Array) -> FloatArray:
        """Loss of each row."""
        excess = Z.copy(order="K")
        tau, _ = self._excess(excess, y)
        return self._value(excess, tau)

    def gradient(self, Z: FloatArray, y: Array) -> FloatArray:
        """Overwrite Z with the shares of the rivals; return the losses."""
        tau, _ = self._excess(Z, y)
        losses = self._value(Z, tau)
        Z /= self.mu
        Z[np.arange(len(y)), y] = -2.0 * tau
        return losses

    def along(self, Z: FloatArray, V: FloatArray, y: Array) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Value, slope and curvature, those of the rivals above τ."""
        moved = V - own(V, y)[:, None]
        tau, above = self._excess(Z, y)
        slope = np.multiply(Z, moved).sum(axis=1) * (1.0 / self.mu)
        moved *= Z > 0.0
        total = moved.sum(axis=1)
        curvature = np.square(moved).sum(axis=1) - np.square(total) / (above + 2.0 * self.mu)
        curvature = np.maximum(curvature / self.mu, 0.0).astype(Z.dtype, copy=False)
        return self._value(Z, tau), slope, curvature

    def hessian_times(self, Z: FloatArray, V: FloatArray, y: Array) -> FloatArray:
        """``(v_k - v_y - τ')/μ`` for the rivals above τ, and what balances them for the own class."""
        moved = V - own(V, y)[:, None]
        _, above = self._excess(Z, y)
        active = Z > 0.0
        moved *= active
        level = (moved.sum(axis=1) / (above + 2.0 * self.mu)).astype(Z.dtype, copy=False)
        moved -= level[:, None] * active
        moved /= self.mu
        moved[np.arange(len(y)), y] = -moved.sum(axis=1)
        return np.asarray(moved)

    def trace(self, Z: FloatArray, y: Array) -> FloatArray:
        """``(m - m/(m + 2μ))/μ`` of the m rivals above τ, and ``2m/(m + 2μ)`` of the own class."""
        _, above = self._excess(Z, y)
        m = above.astype(Z.dtype)
        return np.asarray((m - m / (m + 2.0 * self.mu)) / self.mu + 2.0 * m / (m + 2.0 * self.mu))

    def constant_scores(self, frequencies: Float64) -> Float64:
        """Those of the loss itself."""
        return CrammerSinger().constant_scores(frequencies)

    def typical_curvature(self, n_classes: int) -> float:
        """That of the loss itself: ties are few."""
        return CrammerSinger().typical_curvature(n_classes)
