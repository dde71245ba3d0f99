"""Exact nearest neighbours of uint8 images by blocked matrix products, in bounded memory."""

from __future__ import annotations

import numpy as np

from lastlayer._arrays import Float32, Float64, IntArray, UInt8
from lastlayer._progress import Progress

TRAIN_BLOCK, QUERY_BLOCK = 4_096, 1_024  # rows at most
BLOCK_ENTRIES = 4_194_304  # numbers in a block at most, whatever the size of the images
EXACT_FLOAT32 = 2**24


def nearest(train: UInt8, train_rows: IntArray, queries: UInt8, rows: IntArray, progress: Progress) -> IntArray:
    """Index into `train` of the closest of `train_rows` for each of `rows`."""
    centre = _mean_image(train, train_rows)
    search = _Search(rows.size)
    fitting = max(1, BLOCK_ENTRIES // max(1, train.shape[1]))
    train_step, query_step = min(TRAIN_BLOCK, fitting), min(QUERY_BLOCK, fitting)
    scratch = np.empty((query_step, train_step), np.float32)
    with progress.task("1-NN pixels", train_rows.size) as task:
        for start in range(0, train_rows.size, train_step):
            indices = train_rows[start : start + train_step]
            block = train[indices] - centre
            norms = np.einsum("nd,nd->n", block, block, dtype=np.float64)
            block *= -2  # exact, and one pass over the products fewer
            for low in range(0, rows.size, query_step):
                here = slice(low, low + query_step)
                search.block(here, queries[rows[here]] - centre, block, norms, indices, scratch)
            task.advance(len(indices))
    return search.found


class _Search:
    """The closest image so far of each query, by exact ranks ``‖b‖² − 2 a·b``."""

    def __init__(self, n: int) -> None:
        self.best = np.full(n, np.inf)
        self.found = np.zeros(n, np.int64)

    def block(
        self, here: slice, query: Float32, block: Float32, norms: Float64, indices: IntArray, scratch: Float32
    ) -> None:
        """Take in one block (already times −2) for the queries `here`; an equal later image replaces none."""
        ranks = scratch.reshape(-1)[: len(query) * len(block)].reshape(len(query), len(block))
        np.matmul(query, block.T, out=ranks)
        ranks += norms.astype(np.float32)
        nearest = ranks.argmin(axis=1)
        value = ranks[np.arange(len(query)), nearest].astype(np.float64)
        doubt = _rounding(query, norms)
        near = np.flatnonzero(value <= self.best[here] + doubt)
        if not near.size:
            return
        rounded = near[doubt[near] > 0]
        limit = np.nextafter((value + 2 * doubt)[rounded].astype(np.float32), np.float32(np.inf))
        unclear = rounded[(ranks[rounded] <= limit[:, None]).sum(axis=1) > 1]
        clear = np.setdiff1d(near, unclear, assume_unique=True)
        products = np.einsum("nd,nd->n", query[clear], block[nearest[clear]], dtype=np.float64)
        value[clear] = norms[nearest[clear]] + products
        if unclear.size:  # float64 holds these integers exactly
            exact = query[unclear].astype(np.float64) @ block.T.astype(np.float64) + norms
            nearest[unclear] = exact.argmin(axis=1)
            value[unclear] = exact.min(axis=1)
        closer = near[value[near] < self.best[here][near]]
        self.best[here][closer] = value[closer]
        self.found[here][closer] = indices[nearest[closer]]


def _rounding(query: Float32, norms: Float64) -> Float64:
    """Bound on the float32 error of each query's ranks; 0 where all values are integers below 2²⁴."""
    lengths = np.sqrt(np.einsum("nd,nd->n", query, query, dtype=np.float64))
    largest = norms.max() + 2 * lengths * np.sqrt(norms.max())
    # Higham 2002, section 3.1: an inner product of D terms in any order errs by at most ~D·u·Σ|a||b|.
    return np.where(largest < EXACT_FLOAT32, 0.0, (query.shape[1] + 4) * 2.0**-24 * largest)


def _mean_image(train: UInt8, rows: IntArray) -> Float32:
    """Mean of the training images rounded to whole grey levels, as float32 (D,)."""
    total = np.zeros(train.shape[1], np.int64)
    for start in range(0, rows.size, TRAIN_BLOCK):
        total += train[rows[start : start + TRAIN_BLOCK]].sum(axis=0, dtype=np.int64)
    return np.rint(total / rows.size).astype(np.float32)
