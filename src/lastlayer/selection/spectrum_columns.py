"""The spectrum of a ridge problem with more rows than columns, by the second moments of the columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from lastlayer._arrays import BoolArray, Float64, FloatArray
from lastlayer._threads import parallel
from lastlayer.linear.examples import Examples
from lastlayer.linear.rows import TILE, Rows
from lastlayer.selection.eigen import eigen
from lastlayer.selection.spectrum import NOISE, Residuals, Spectrum, Targets, inverse_of, smallest, units
from lastlayer.solvers import Preconditioner, PseudoInverse

SUM_ROWS = 1024
"""Rows whose products are summed in their own type before they are added in float64."""
WEAKEST = 32
"""Directions that say how far rounding goes."""


@final
@dataclass(frozen=True, eq=False)
class ColumnSpectrum(Spectrum):
    """By the second moments of the columns."""

    rows: Rows
    targets: Targets
    weights: FloatArray | None
    intercept: bool
    factors: Float64
    unit: float
    centre: FloatArray
    d: Float64
    V: Float64
    turn: FloatArray
    t: Float64

    @property
    def values(self) -> Float64:
        """d, (R,), ascending."""
        return self.d

    def inner(self, l2: FloatArray) -> Float64:
        """λ times the square of the columns' unit."""
        return np.asarray(l2 * self.unit**2, dtype=np.float64)

    @property
    def _floor(self) -> float:
        return smallest(self.d, self.rows.dtype)

    def rotated(self, start: int, stop: int) -> FloatArray:
        """``z̃ V``."""
        return np.asarray((self.rows.block(start, stop) - self.centre) @ self.turn)

    def residuals(self, q: FloatArray, start: int, stop: int, l2s: Float64) -> Residuals:
        """``ỹ - q (t / (d + λ))``, and the same divided by ``1 - h``."""
        filters = inverse_of(self.d, l2s, self._floor)
        y = self.targets.block(start, stop).astype(q.dtype)
        right = (self.t[:, None, :] * filters[:, :, None]).reshape(len(self.d), -1).astype(q.dtype)
        fitted = y[:, None, :] - (q @ right).reshape(len(q), len(l2s), -1)
        kept, undetermined = self._remainders(q, start, stop, l2s, filters)
        return Residuals(fitted, fitted / kept[:, :, None], undetermined)

    def _remainders(
        self, q: FloatArray, start: int, stop: int, l2s: Float64, filters: Float64
    ) -> tuple[FloatArray, BoolArray]:
        """``1 - h``, (n, l), not below its least possible value, nor below what rounding leaves of it.

        With ``c = share / (1 - share)`` and g the quadratic form of z̃ with the inverse of the others,
        ``1 - h = (1 - share) / (1 + c g)``, and ``g <= ‖z̃‖² / λ``.
        """
        n = len(self.rows)
        share = np.full(len(q), 1.0 / n) if self.weights is None else self.weights[start:stop].astype(np.float64) / n
        square = q * q
        form = (square @ filters.astype(q.dtype)).astype(np.float64)
        kept = 1.0 - share[:, None] * (form + float(self.intercept))
        norms = square.sum(axis=1, dtype=np.float64)
        alone = share / (1.0 - share) if self.intercept else share
        total = l2s + (alone * norms)[:, None]
        least = np.divide(l2s, total, out=np.ones_like(total), where=total > 0)
        least *= (1.0 - share * self.intercept)[:, None]
        noise = NOISE[q.dtype.name]
        kept = np.maximum(kept, least)
        undetermined = kept < noise
        return np.maximum(kept, noise).astype(q.dtype), undetermined

    def params(self, l2: Float64) -> Float64:
        """``V (t / (d + λ))``; without a penalty of least norm."""
        filters = inverse_of(self.d, l2.reshape(1), self._floor)
        weights = self.factors[:, None] * (self.V @ (self.t * filters))
        return np.vstack([weights, self.targets.mean])

    def rounding(self, l2: Float64) -> float:
        """Along the weakest directions the mean of q² is known to many more digits than an eigenvalue of S."""
        weak = np.ascontiguousarray(self.turn[:, :WEAKEST])

        def squares(start: int, stop: int) -> Float64:
            q = (self.rows.block(start, stop) - self.centre) @ weak
            return np.asarray(np.square(q, dtype=np.float64).T @ weights[start:stop])

        n = len(self.rows)
        weights = np.ones(n) if self.weights is None else self.weights.astype(np.float64)
        found = self.rows.sum_over(squares) / n
        total = found + l2
        error = np.abs(found - self.d[:WEAKEST])
        return float(np.divide(error, total, out=np.zeros_like(error), where=total > 0).max())

    def inverse(self, l2: Float64) -> Preconditioner:
        """``V diag(1 / (d + λ)) Vᵀ``."""
        keep = inverse_of(self.d, l2.reshape(1), self._floor)[:, 0] > 0
        return PseudoInverse(self.factors[:, None] * self.V[:, keep], self.d[keep] + l2, 1.0)


def second_moments(examples: Examples) -> Float64:
    """S (D, D), tile by tile, from rows centred before they are multiplied.

    The weakest directions decide how far a path may go, and what they are told apart by is the rounding of these sums:
    it is that of the centred values in short sums, a tenth of what centring afterwards would leave.
    """
    rows, w = examples.rows, examples.weights
    centre = examples.centre.astype(rows.dtype)
    d, leaves = rows.n_features, rows.leaves(SUM_ROWS)
    S = np.empty((d, d))

    def tile(corner: tuple[int, int]) -> None:
        left, right = (slice(c, min(c + TILE, d)) for c in corner)
        total = np.zeros((left.stop - left.start, right.stop - right.start))
        for start, stop in leaves:
            b = rows.block(start, stop, right) - centre[right]
            a = b if left == right else rows.block(start, stop, left) - centre[left]
            total += (a if w is None else a * w[start:stop, None]).T @ b
        S[left, right] = total
        S[right, left] = total.T

    starts = range(0, d, TILE)
    parallel(tile, [(i, j) for i in starts for j in starts if j >= i], rows.threads)
    S /= len(rows)
    return S


def by_columns(examples: Examples, targets: Targets) -> ColumnSpectrum:
    """Decompose; to be called inside `single_blas_thread`."""
    rows, n = examples.rows, len(examples.rows)
    factors, unit = units(examples)
    S = second_moments(examples)
    S *= factors[:, None] * factors
    d, V = eigen(S, rows.threads)
    del S
    w = examples.weights

    def moments(start: int, stop: int) -> Float64:
        y = targets.block(start, stop).T
        part = np.ascontiguousarray(y if w is None else y * w[start:stop], dtype=rows.dtype)
        return np.hstack([rows.back_product(part, start, stop), part.sum(axis=1, dtype=np.float64)[:, None]])

    sums = rows.sum_over(moments)
    cross = (sums[:, :-1] - np.outer(sums[:, -1], examples.centre)) * (factors / n)
    return ColumnSpectrum(
        rows,
        targets,
        w,
        examples.intercept,
        factors,
        unit,
        examples.centre.astype(rows.dtype),
        d,
        V,
        (factors[:, None] * V).astype(rows.dtype),
        V.T @ cross.T,
    )
