"""Picking and changing the score of each row's own class, in any memory order."""

from __future__ import annotations

import numpy as np

from lastlayer._arrays import Array, FloatArray


def own(Z: FloatArray, y: Array) -> FloatArray:
    """The scores ``Z[i, y[i]]`` as a new array, (N,)."""
    picked: FloatArray = Z[np.arange(len(y)), y]
    return picked


def add_to_own(Z: FloatArray, y: Array, amount: FloatArray | float) -> None:
    """``Z[i, y[i]] += amount[i]`` in place."""
    Z[np.arange(len(y)), y] += amount
