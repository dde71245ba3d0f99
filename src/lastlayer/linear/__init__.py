"""z = Z W + b, its transpose, and sums over rows.

Shapes
------
Z : (N, D) features, W : (D, K) weights, b : (K,) bias, scores : (N, K).
"""

from __future__ import annotations

import numpy as np

from lastlayer._arrays import Array, FloatArray, InputError
from lastlayer._threads import available_threads, parallel, single_blas_thread
from lastlayer.linear import device
from lastlayer.linear.examples import Examples, prepare
from lastlayer.linear.rows import Rows, tree_sum

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


def scores(Z: Array, W: FloatArray, b: FloatArray) -> FloatArray:
    """Class scores ``Z W + b``.

    A row's scores do not depend on the rows it came with, nor on the number of threads: every row is multiplied inside
    a block of the same number of rows (the last one filled up with zeros), by one BLAS thread, in float64. In float32
    BLAS treats the places within a block differently, and the same image would score differently in another batch.

    Parameters
    ----------
    Z : ndarray
        (N, D) features of any real type.
    W : ndarray
        (D, K) weights.
    b : ndarray
        (K,) bias.

    Returns
    -------
    ndarray
        (N, K) scores, float64 for float64 features, else float32; for a torch tensor a tensor on its device.

    Raises
    ------
    InputError
        When the shapes do not fit.
    """
    if device.is_tensor(Z):
        on_device: FloatArray = device.scores(Z, W, b)
        return on_device
    if Z.ndim != 2 or Z.shape[1] != W.shape[0]:
        raise InputError(
            f"features have shape {Z.shape}, the weights {W.shape}",
            f"Give features of shape (N, {W.shape[0]})",
        )
    weights = np.ascontiguousarray(W, dtype=np.float64)
    out = np.empty((len(Z), W.shape[1]), dtype=np.float64 if Z.dtype == np.float64 else np.float32)

    def block(start: int) -> None:
        rows = Z[start : start + SCORE_ROWS]
        full = np.zeros((SCORE_ROWS, Z.shape[1]))
        full[: len(rows)] = rows
        out[start : start + len(rows)] = (full @ weights)[: len(rows)] + b

    with single_blas_thread():
        parallel(block, range(0, len(Z), SCORE_ROWS), available_threads())
    return out
