"""Columns of mean 0 and standard deviation 1, and the way back to the columns as given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from lastlayer._arrays import Array, Float64, FloatArray, InputError
from lastlayer.estimators.training import Training

BLOCK_ROWS = 4096


@final
@dataclass(frozen=True, eq=False)
class Standardising:
    """``x ↦ (x - shift) / scale``; with it ``W x + b`` becomes ``(W scale)(x - shift)/scale + (b + W shift)``.

    Shapes
    ------
    shift, scale : (D,).
    """

    shift: Float64
    scale: Float64

    @classmethod
    def of(cls, data: Training, *, centre: bool) -> Standardising:
        """From the weighted mean and standard deviation of every column; constant columns keep their scale.

        Without an intercept (`centre` False) columns are scaled but not shifted, for a shift is an intercept.
        """
        X = data.X
        weights = np.ones(len(X)) if data.weights is None else data.weights / data.weights.max()
        used = np.flatnonzero(weights)
        parts = [used[start : start + BLOCK_ROWS] for start in range(0, len(used), BLOCK_ROWS)]
        total = weights.sum()
        with np.errstate(over="ignore", invalid="ignore"):
            mean = np.sum([weights[p] @ X[p].astype(np.float64) for p in parts], axis=0) / total
            variance = np.sum([weights[p] @ np.square(X[p] - mean) for p in parts], axis=0) / total
        if not np.isfinite(variance).all():
            column = int(np.flatnonzero(~np.isfinite(variance))[0])
            raise InputError(f"column {column} of X is too large to be squared", "Scale that column")
        live = np.any([(X[p] != X[used[0]]).any(axis=0) for p in parts], axis=0)
        scale = np.sqrt(np.where(live & (variance > 0), variance, 1.0))
        return cls(mean if centre else np.zeros_like(mean), scale)

    def apply(self, X: Array, dtype: np.dtype[np.floating]) -> FloatArray:
        """A standardised copy of X."""
        out = np.empty(X.shape, dtype=dtype)
        for start in range(0, len(X), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            out[rows] = (X[rows] - self.shift) / self.scale
        return out

    def to_given(self, W: Float64, b: Float64) -> tuple[Float64, Float64]:
        """Weights (D, K) and bias (K,) for the columns as given."""
        W = W / self.scale[:, None]
        return W, b - self.shift @ W

    def from_given(self, W: Float64, b: Float64) -> tuple[Float64, Float64]:
        """Weights (D, K) and bias (K,) for the standardised columns."""
        return W * self.scale[:, None], b + self.shift @ W
