"""Landmarks: the rows against which a kernel is evaluated.

Uniform: rows drawn without replacement (Williams & Seeger 2001, NIPS 13). k-means: the centres of groups of rows, which
bounds the error of the Nyström approximation for kernels that are smooth in the distance (Zhang, Tsang & Kwok 2008,
"Improved Nyström low-rank approximation", ICML).
"""

from __future__ import annotations

import numpy as np

from lastlayer._arrays import Array, Float64, FloatArray, InputError, IntArray
from lastlayer.representations._threads import spread

CHOICES = ("kmeans", "uniform")
GROUPED_ROWS = 20
"""Most rows for each centre from which groups are formed."""
ROUNDS = 2
"""Lloyd's rounds: on MNIST the first makes nearly all of the difference to uniform landmarks, ten no more than that."""
BLOCK = 512
SMALL = 2**20
"""Numbers in X up to which groups are formed in float64 whatever its type."""


def choose_landmarks(
    X: Array, m: int, how: str, rng: np.random.Generator, weights: Float64 | None = None, threads: int | None = None
) -> FloatArray:
    """Landmarks (m, D) of float64 from the rows of X (N, D); all rows of positive weight where they are m or fewer.

    Parameters
    ----------
    X : (N, D) real numbers
    m : int
        Number of landmarks, at least 1.
    how : {"kmeans", "uniform"}
    rng : numpy.random.Generator
    weights : (N,) or None
        Rows of weight zero are absent; the centres of k-means are weighted means.
    threads : int, optional
        Changes no bit.
    """
    if how not in CHOICES:
        raise InputError(f"landmarks is {how!r}; one of {', '.join(CHOICES)} is needed")
    rows = np.arange(len(X)) if weights is None else np.flatnonzero(weights)
    if len(rows) <= m:
        return np.asarray(X[rows], dtype=np.float64)
    if how == "uniform":
        return np.asarray(X[np.sort(rng.choice(rows, m, replace=False))], dtype=np.float64)
    if len(rows) > GROUPED_ROWS * m:
        rows = np.sort(rng.choice(rows, GROUPED_ROWS * m, replace=False))
    ones = np.ones(len(rows)) if weights is None else weights[rows]
    return _centres(X[rows], m, ones / ones.max(), rng, threads)


def _centres(X: Array, m: int, weights: Float64, rng: np.random.Generator, threads: int | None) -> FloatArray:
    """Lloyd's rounds from rows drawn at random; a centre that loses all its rows stays where it is."""
    single = np.can_cast(X.dtype, np.float32) and X.size > SMALL
    dtype = np.dtype(np.float32 if single else np.float64)
    middle = X.mean(axis=0, dtype=np.float64).astype(dtype)
    moved: FloatArray = np.subtract(X, middle, dtype=dtype)
    centres = moved[np.sort(rng.choice(len(X), m, replace=False))]
    for _ in range(ROUNDS):
        nearest = _nearest(moved, centres, threads)
        order = np.argsort(nearest, kind="stable")
        met, first = np.unique(nearest[order], return_index=True)
        total = np.add.reduceat(weights[order], first)
        weighted = moved[order]
        weighted *= weights[order, None].astype(dtype)
        centres[met] = np.add.reduceat(weighted, first, axis=0) / total[:, None]
    # Means lie between the rows, but for rounding: a kernel of histograms must not meet a number below zero.
    low, high = X.min(axis=0).astype(np.float64), X.max(axis=0).astype(np.float64)
    return np.asarray(np.clip(centres.astype(np.float64) + middle, low, high))


def _nearest(X: FloatArray, centres: FloatArray, threads: int | None) -> IntArray:
    """Number of the nearest centre of each row: the largest ``x·c - ½‖c‖²``."""
    right, half = np.ascontiguousarray(centres.T), 0.5 * np.einsum("ij,ij->i", centres, centres)
    out = np.empty(len(X), dtype=np.intp)

    def block(start: int) -> None:
        out[start : start + BLOCK] = (X[start : start + BLOCK] @ right - half).argmax(axis=1)

    spread(block, range(0, len(X), BLOCK), threads)
    return out
