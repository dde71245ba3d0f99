"""Dictionaries of patch filters, learned without labels: unit vectors in the whitened space.

``patches``: whitened training patches as they are. ``kmeans``: spherical k-means of them (Coates & Ng 2012, "Learning
feature representations with k-means").
"""

from __future__ import annotations

import numpy as np

from lastlayer._arrays import Float32, InputError, IntArray
from lastlayer.representations._threads import spread

CHOICES = ("patches", "kmeans")
ROUNDS = 10
BLOCK = 1024
LEAST_NORM = 1e-3
"""Whitened patches shorter than this have no direction worth looking for."""


def choose_filters(
    whitened: Float32, k: int, how: str, rng: np.random.Generator, threads: int | None = None
) -> Float32:
    """`k` filters (k, p) of length one.

    Parameters
    ----------
    whitened : float32 (n, p)
        Whitened patches, many more than `k`.
    k : int
    how : {"patches", "kmeans"}
    rng : numpy.random.Generator
    threads : int, optional
        Changes no bit.
    """
    norms = np.sqrt(np.einsum("ij,ij->i", whitened, whitened))
    usable = np.flatnonzero(norms > LEAST_NORM)
    if len(usable) < k:
        raise InputError(
            f"patches: {len(usable)} of {len(whitened)} sampled patches are not flat; {k} filters need as many",
            f"Give patches:k={max(1, len(usable) // 2)} or fewer",
        )
    unit = whitened[usable] / norms[usable, None]
    filters = unit[np.sort(rng.choice(len(unit), k, replace=False))]
    if how == "kmeans":
        for _ in range(ROUNDS):
            filters = _moved(unit, filters, threads)
    return np.ascontiguousarray(filters)


def _moved(unit: Float32, filters: Float32, threads: int | None) -> Float32:
    """Each filter becomes the direction of the sum of the patches nearest to it; one without patches stays."""
    nearest = _nearest(unit, filters, threads)
    order = np.argsort(nearest, kind="stable")
    met, first = np.unique(nearest[order], return_index=True)
    sums = np.add.reduceat(unit[order].astype(np.float64), first, axis=0)
    length = np.sqrt(np.einsum("ij,ij->i", sums, sums))
    moved = filters.copy()
    some = length > LEAST_NORM
    moved[met[some]] = sums[some] / length[some, None]
    return moved


def _nearest(unit: Float32, filters: Float32, threads: int | None) -> IntArray:
    right, out = np.ascontiguousarray(filters.T), np.empty(len(unit), np.intp)

    def block(start: int) -> None:
        out[start : start + BLOCK] = (unit[start : start + BLOCK] @ right).argmax(axis=1)

    spread(block, range(0, len(unit), BLOCK), threads)
    return out
