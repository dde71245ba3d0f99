"""Products of rows with matrices, whose every row is the same bits whatever stands beside it.

Rows are multiplied in float64, in blocks of the same number of rows (the last one filled up with zeros), each by one
BLAS thread. In float32, or for another number of rows, BLAS treats the places within a block differently.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lastlayer._arrays import Float32, Float64, FloatArray
from lastlayer._threads import single_blas_thread
from lastlayer.representations._threads import spread

BLOCK_ROWS = 256


def map_rows(function: Callable[[Float64], FloatArray], Z: Float32, width: int) -> Float32:
    """``function`` of blocks of rows, over threads.

    Parameters
    ----------
    function : callable
        (BLOCK_ROWS, D) float64, which it may write to -> (BLOCK_ROWS, width).
    Z : (N, D)
    width : int

    Returns
    -------
    (N, width) float32
    """
    out = np.empty((len(Z), width), np.float32)

    def block(start: int) -> None:
        rows = Z[start : start + BLOCK_ROWS]
        full = np.zeros((BLOCK_ROWS, Z.shape[1]))
        full[: len(rows)] = rows
        out[start : start + len(rows)] = function(full)[: len(rows)]

    with single_blas_thread():
        spread(block, range(0, len(Z), BLOCK_ROWS))
    return out


def spectrum(Z: Float32) -> tuple[Float64, Float64, Float64]:
    """Mean, variances and directions of rows: ``(1/N) Σ (z - μ)(z - μ)ᵀ = V diag(λ) Vᵀ``.

    Returns
    -------
    mean : (D,)
    variances : (r,)
        λ, largest first, none negative; r = min(N, D).
    directions : (D, r)
        V; the entry of largest size in each column is positive.
    """
    with single_blas_thread():
        mean = Z.mean(axis=0, dtype=np.float64)
        if len(Z) < Z.shape[1]:
            _, lengths, rows = np.linalg.svd(Z - mean, full_matrices=False)
            values, vectors = lengths**2 / len(Z), rows.T
        else:
            values, vectors = np.linalg.eigh(_second_moments(Z, mean))
            values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)
    return mean, values, vectors * np.where(largest < 0, -1.0, 1.0)


def _second_moments(Z: Float32, mean: Float64) -> Float64:
    """(D, D) about the mean; stretches of rows side by side, whose number depends on D alone."""
    D = Z.shape[1]
    stretches = int(np.clip(2**25 // D**2, 1, 8))
    sums = np.zeros((stretches, D, D))
    bounds = np.linspace(0, len(Z), stretches + 1).astype(int)

    def stretch(i: int) -> None:
        for start in range(bounds[i], bounds[i + 1], 2048):
            rows = Z[start : min(start + 2048, bounds[i + 1])] - mean
            sums[i] += rows.T @ rows

    spread(stretch, range(stretches))
    for other in sums[1:]:
        sums[0] += other
    return np.asarray(sums[0] / len(Z))
