"""z = Z W + b, its transpose, and sums over rows.

Shapes
------
Z : (N, D) features, W : (D, K) weights, b : (K,) bias, scores : (N, K).
"""

from __future__ import annotations

import numpy as np

from lastlayer._arrays import FloatArray, InputError
from lastlayer.linear.examples import Examples, prepare
from lastlayer.linear.rows import Rows, tree_sum
from lastlayer.linear.threads import available_threads, parallel, single_blas_thread

SCORE_ROWS = 128

__all__ = [
    "Examples",
    "Rows",
    "available_threads",
    "parallel",
    "prepare",
    "scores",
    "single_blas_thread",
    "tree_sum",
]


def scores(Z: FloatArray, W: FloatArray, b: FloatArray) -> FloatArray:
    """Class scores ``Z W + b``.

    Every row is multiplied inside a block of the same number of rows (the last one filled up with zeros), so that its
    scores do not depend on the rows it came with, nor on the number of threads.

    Parameters
    ----------
    Z : (N, D) features; other types than float64 are multiplied as float32.
    W : (D, K) weights.
    b : (K,) bias.

    Returns
    -------
    (N, K) scores, of the type of the product.

    Raises
    ------
    InputError
        When the shapes do not fit.
    """
    if Z.ndim != 2 or Z.shape[1] != W.shape[0]:
        raise InputError(
            f"features have shape {Z.shape}, the weights {W.shape}",
            f"Give features of shape (N, {W.shape[0]})",
        )
    dtype = np.float64 if Z.dtype == np.float64 else np.float32
    weights = np.ascontiguousarray(W, dtype=dtype)
    out = np.empty((len(Z), W.shape[1]), dtype=dtype)

    def block(start: int) -> None:
        rows = Z[start : start + SCORE_ROWS]
        full = np.zeros((SCORE_ROWS, Z.shape[1]), dtype=dtype)
        full[: len(rows)] = rows
        out[start : start + len(rows)] = (full @ weights)[: len(rows)] + b

    with single_blas_thread():
        parallel(block, range(0, len(Z), SCORE_ROWS), available_threads())
    return out
