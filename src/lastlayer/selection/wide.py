"""Second moments of so many columns that D² numbers are too many: known from a sample of the rows alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from lastlayer._arrays import FloatArray, IntArray
from lastlayer._threads import parallel
from lastlayer.linear.examples import Examples
from lastlayer.linear.inverse import inverse_factor
from lastlayer.linear.rows import TILE
from lastlayer.solvers.preconditioner import Preconditioner, SampledInverse

WIDE_FROM = 6144
"""Columns from which on second moments are sampled: one factorisation of D² numbers would take longer than the fit."""
MOST_ROWS = 4096
MOST_NUMBERS = 2**28
"""Numbers in the sample, 1 GB: with very many columns the sample has fewer rows."""
PROBES = 256
TINY = float(np.finfo(np.float32).tiny)


@final
@dataclass(frozen=True, eq=False)
class SampledMoments:
    """``S ≈ XᵀX + τ I``: m centred rows X, scaled by 1/√m, and what the other rows have outside of their span.

    Attributes
    ----------
    X : float32 (m, D)
    gram : float32 (m, m)
        X Xᵀ.
    tail : float
        τ: mean squared length outside of the span, of rows that are not in the sample, shared by m directions.
    threads : int
    """

    X: FloatArray
    gram: FloatArray
    tail: float
    threads: int

    @classmethod
    def of(cls, examples: Examples) -> SampledMoments:
        """From rows taken evenly, since data are often sorted by class; heavy rows are scaled by their weights."""
        D, n = examples.rows.n_features, len(examples.rows)
        probes = min(PROBES, n // 4)
        m = max(1, min(MOST_ROWS, n - probes, MOST_NUMBERS // D))
        numbers = np.linspace(0, n - 1, m + probes).astype(np.intp)
        held = np.linspace(0, len(numbers) - 1, probes).astype(np.intp)
        rest = np.delete(numbers, held)
        X = _centred(examples, rest, 1.0 / np.sqrt(len(rest)))
        threads = examples.rows.threads
        gram = _products(X, X, threads)
        probe = _centred(examples, numbers[held], 1.0)
        return cls(X, gram, _tail(X, gram, probe, threads), threads)

    def mean_square(self) -> float:
        """Mean of the diagonal of S."""
        return float(self.gram.diagonal().sum(dtype=np.float64)) / len(self.X[0]) + self.tail

    def inverse(self, curvature: float, strength: float, bias: float) -> Preconditioner:
        """``(α S + λ)⁻¹`` for α = `curvature` and λ = `strength`; 1/`bias` for the bias."""
        rest = strength + curvature * self.tail
        A = self.gram.copy()
        size = float(np.max(A.diagonal())) or 1.0
        floor = rest / curvature
        while True:
            A[np.diag_indices_from(A)] = self.gram.diagonal() + np.float32(max(floor, 1e-6 * size))
            try:
                return SampledInverse(self.X, inverse_factor(A, self.threads), max(rest, 1e-6 * size * curvature), bias)
            except np.linalg.LinAlgError:
                floor = max(10.0 * floor, 1e-6 * size)


def _centred(examples: Examples, numbers: IntArray, scale: float) -> FloatArray:
    """Rows less their centre, constant columns zero, times `scale` and the root of their weights."""
    X = np.array(examples.rows.pick(numbers), dtype=np.float32, order="C")
    X -= examples.centre.astype(np.float32)
    X[:, ~examples.live] = 0.0
    roots = np.full(len(X), scale) if examples.weights is None else scale * np.sqrt(examples.weights[numbers])
    X *= roots.astype(np.float32)[:, None]
    return X


def _products(A: FloatArray, B: FloatArray, threads: int) -> FloatArray:
    """``A Bᵀ`` by tiles, each on one thread."""
    out: FloatArray = np.empty((len(A), len(B)), np.float32)
    tiles = [(i, j) for i in range(0, len(A), TILE) for j in range(0, len(B), TILE)]
    if A is B:
        tiles = [(i, j) for i, j in tiles if j >= i]

    def tile(corner: tuple[int, int]) -> None:
        rows, columns = slice(corner[0], corner[0] + TILE), slice(corner[1], corner[1] + TILE)
        out[rows, columns] = A[rows] @ B[columns].T
        if A is B:
            out[columns, rows] = out[rows, columns].T

    parallel(tile, tiles, threads)
    return out


def _tail(X: FloatArray, gram: FloatArray, probe: FloatArray, threads: int) -> float:
    """τ, from how much of the probes' length the sample's rows do not explain."""
    if not len(probe):
        return 0.0
    small = 1e-4 * float(np.trace(gram, dtype=np.float64)) / len(gram)
    A = gram.copy()
    A[np.diag_indices_from(A)] += np.float32(max(small, TINY))
    M = inverse_factor(A, threads)
    explained = _products(M, _products(probe, X, threads), threads).astype(np.float64)
    whole = np.einsum("ij,ij->", probe, probe, dtype=np.float64)
    left = float(whole) - float(np.einsum("ij,ij->", explained, explained))
    return max(0.0, left) / len(probe) / len(X)


def moments(examples: Examples) -> FloatArray | SampledMoments:
    """Second moments for a preconditioner, whole where D² numbers are few enough."""
    if examples.rows.n_features < WIDE_FROM or examples.rows.dtype != np.float32:
        return examples.second_moments()
    return SampledMoments.of(examples)
