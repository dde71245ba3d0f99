"""The spectrum of a ridge problem with no more rows than columns, by the Gram matrix of the rows.

``B Bᵀ / n = U diag(d) Uᵀ`` with ``B = √w z̃`` has the same eigenvalues as the second moments. Then
``√w r = λ U (Uᵀ√w ỹ / (d + λ))`` and ``1 - h = λ U² · 1/(d + λ)``, sums without cancellation, so that rows which the
fit passes through (h = 1, λ = 0) have their leave-one-out residual too: the limit λ → 0 of the quotient.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import numpy as np

from lastlayer._arrays import Float64, FloatArray
from lastlayer._threads import parallel
from lastlayer.linear.examples import Examples
from lastlayer.linear.rows import TILE, Rows
from lastlayer.selection.eigen import eigen
from lastlayer.selection.spectrum import NOISE, Residuals, Spectrum, Targets, inverse_of, smallest, units
from lastlayer.solvers import Preconditioner, PseudoInverse

COLUMNS = 4096
"""Columns of the rows that enter the Gram matrix at a time."""


@final
@dataclass(frozen=True, eq=False)
class RowSpectrum(Spectrum):
    """By the Gram matrix of the rows, in float64."""

    rows: Rows
    targets: Targets
    roots: Float64
    factors: Float64
    unit: float
    centre: Float64
    d: Float64
    U: Float64
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
        return smallest(self.d, np.float64)

    def rotated(self, start: int, stop: int) -> FloatArray:
        """U: nothing is multiplied."""
        return self.U[start:stop]

    def residuals(self, q: FloatArray, start: int, stop: int, l2s: Float64) -> Residuals:
        """``λ U (t / (d + λ))``, and the quotient in which λ cancels."""
        filters = inverse_of(self.d, l2s, self._floor)
        dual, form = self._products(q, filters)
        undetermined = ~(form > 0)
        fitted, left_out = dual * l2s[:, None], dual / np.where(undetermined, 1.0, form)[:, :, None]
        for i in np.flatnonzero(l2s <= self._floor):
            # What lies outside the span of the rows stays as it is, and is the residual; elsewhere the limit.
            rest, share = self._products(q, (self.d <= self._floor).astype(np.float64)[:, None])
            free = share[:, 0] > NOISE["float64"]
            fitted[:, i] += rest[:, 0]
            left_out[free, i] = rest[free, 0] / share[free]
            undetermined[free, i] = False
        left_out[undetermined] = 0.0
        roots = self.roots[start:stop, None, None]
        return Residuals(fitted / roots, left_out / roots, undetermined)

    def _products(self, q: FloatArray, filters: Float64) -> tuple[Float64, Float64]:
        right = (self.t[:, None, :] * filters[:, :, None]).reshape(len(self.d), -1)
        return np.asarray((q @ right).reshape(len(q), filters.shape[1], -1)), np.asarray((q * q) @ filters)

    def params(self, l2: Float64) -> Float64:
        """``Z̃ᵀ √w U (t / (d + λ)) / n``; without a penalty of least norm."""
        filters = inverse_of(self.d, l2.reshape(1), self._floor)
        weights = self._combined(self.U @ (self.t * filters)) / len(self.roots)
        return np.vstack([self.factors[:, None] * weights, self.targets.mean])

    def rounding(self, l2: Float64) -> float:
        """None that float64 would mend."""
        return 0.0

    def inverse(self, l2: Float64) -> Preconditioner:
        """``V diag(1 / (d + λ)) Vᵀ`` with ``V = Z̃ᵀ √w U / √(n d)``."""
        keep = self.d > self._floor
        V = self._combined(self.U[:, keep] / np.sqrt(self.d[keep] * len(self.roots)))
        return PseudoInverse(self.factors[:, None] * V, self.d[keep] + l2, 1.0)

    def _combined(self, dual: Float64) -> Float64:
        """``Z̃ᵀ √w dual``, (D, k), for (N, k)."""
        dual = np.ascontiguousarray((self.roots[:, None] * dual).T)
        sums = self.rows.sum_over(lambda a, b: self.rows.back_product(dual[:, a:b], a, b))
        sums -= np.outer(dual.sum(axis=1), self.centre)
        return np.asarray((sums * self.factors).T)


def by_rows(examples: Examples, targets: Targets) -> RowSpectrum:
    """Decompose; to be called inside `single_blas_thread`."""
    # In float64: the products cost less than the eigendecomposition, and rows may be fitted exactly.
    rows, n = replace(examples.rows, in_float64=True), len(examples.rows)
    factors, unit = units(examples)
    roots = np.ones(n) if examples.weights is None else np.sqrt(examples.weights.astype(np.float64))
    G = _gram(rows, examples.centre, factors)
    G *= roots[:, None] * (roots / n)
    if examples.intercept:
        # √w is an eigenvector of the centred rows with eigenvalue 0. Moved to the top, it is alone there.
        top = 2.0 * float(np.abs(G).sum(axis=1).max()) or 1.0
        G += roots[:, None] * (roots * (top / n))
    d, U = eigen(G, rows.threads)
    if examples.intercept:
        d, U = d[:-1], np.ascontiguousarray(U[:, :-1])
    t = U.T @ (roots[:, None] * targets.block(0, n))
    return RowSpectrum(rows, targets, roots, factors, unit, examples.centre, d, U, t)


def _gram(rows: Rows, centre: Float64, factors: Float64) -> Float64:
    """``Z̃ Z̃ᵀ``, (N, N), tile by tile."""
    n, d = len(rows), rows.n_features
    total = np.empty((n, n))
    spans = [slice(c, min(c + COLUMNS, d)) for c in range(0, d, COLUMNS)]

    def tile(corner: tuple[int, int]) -> None:
        first, second = ((c, min(c + TILE, n)) for c in corner)
        part = np.zeros((first[1] - first[0], second[1] - second[0]))
        for span in spans:
            a, b = ((rows.block(*some, span) - centre[span]) * factors[span] for some in (first, second))
            part += a @ b.T
        total[first[0] : first[1], second[0] : second[1]] = part
        total[second[0] : second[1], first[0] : first[1]] = part.T

    starts = range(0, n, TILE)
    parallel(tile, [(i, j) for i in starts for j in starts if j >= i], rows.threads)
    return total
