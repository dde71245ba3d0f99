"""Training rows in an order, and in a number, that their content alone decides."""

from __future__ import annotations

import hashlib

import numpy as np

from lastlayer._arrays import Float64
from lastlayer.estimators.training import Training


def in_order_of_content(data: Training) -> Training:
    """Rows that are the same become one row of their weights' sum; all are put in the order of a hash.

    Solvers that visit rows one after the other, or whose path forks at ties, then cannot tell a weight of 2 from a
    row given twice, nor one order of the rows from another. The hash takes the row's bytes and its class.
    """
    weights = np.ones(len(data.X)) if data.weights is None else data.weights
    used = np.flatnonzero(weights)
    digests = np.array([_digest(data, row) for row in used.tolist()])
    _, first, group = np.unique(digests, return_index=True, return_inverse=True)
    total: Float64 = np.bincount(group, weights[used]).astype(np.float64)
    rows = used[first]
    return Training(data.X[rows], data.codes[rows], data.classes, total)


def _digest(data: Training, row: int) -> bytes:
    digest = hashlib.blake2b(data.X[row].tobytes(), digest_size=16)
    digest.update(int(data.codes[row]).to_bytes(8, "little"))
    return digest.digest()
