"""The compiled sum of absolute differences."""

from __future__ import annotations

import numpy as np

from lastlayer._arrays import FloatArray
from lastlayer._compiled import compiled


def city_block(X: FloatArray, Z: FloatArray) -> FloatArray:
    """``‖x - z‖₁`` (n, m) for rows in C order and of one type."""
    out = np.empty((len(X), len(Z)), dtype=Z.dtype)
    _fill(X, Z, out)
    return out


@compiled
def _fill(X: FloatArray, Z: FloatArray, out: FloatArray) -> None:
    for i in range(X.shape[0]):
        for j in range(Z.shape[0]):
            total = out.dtype.type(0)
            for d in range(X.shape[1]):
                total += abs(X[i, d] - Z[j, d])
            out[i, j] = total
