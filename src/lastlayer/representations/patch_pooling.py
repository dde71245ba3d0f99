"""Where responses are averaged: bins of neighbouring positions, and soft regions made of bins.

Both are mirror images of themselves: the number of bins a side is odd, so that no border needs rounding at ½.
"""

from __future__ import annotations

import numpy as np

from lastlayer._arrays import Float32, Float64, IntArray

MOST_BINS = 9
SHAPES = ("tent", "box")


def bin_ends(n: int) -> IntArray:
    """Last position + 1 of each of at most 9 bins of n positions.

    >>> bin_ends(27).tolist()
    [3, 6, 9, 12, 15, 18, 21, 24, 27]
    >>> bin_ends(4).tolist()
    [1, 3, 4]
    """
    bins = min(MOST_BINS, n if n % 2 else n - 1)
    return np.floor(n * np.arange(1, bins + 1) / bins + 0.5).astype(np.int64)


def region_weights(n: int, regions: int, shape: str) -> Float64:
    """(regions, bins) weights with which sums over the bins of n positions make means over regions.

    ``box``: each region is its share of the length, bins on a border belong to both. ``tent``: weights fall linearly
    from a region's centre to the centres beside it, so that no feature jumps when the picture moves.
    """
    ends = bin_ends(n)
    starts = np.concatenate([[0], ends[:-1]])
    weights = np.zeros((regions, len(ends)))
    for r in range(regions):
        if shape == "box":
            low, high = r * n / regions, (r + 1) * n / regions
            weights[r] = np.clip(np.minimum(ends, high) - np.maximum(starts, low), 0.0, None) / (ends - starts)
        else:
            middle = np.clip((starts + ends) / (2 * n), 0.5 / regions, 1 - 0.5 / regions)
            weights[r] = np.clip(1.0 - np.abs(middle * regions - (r + 0.5)), 0.0, None)
    out: Float64 = weights / (weights @ (ends - starts))[:, None]
    return out


def pooling(height: int, width: int, regions: int, shape: str) -> Float32:
    """(regions², bins) weights over both directions."""
    return np.kron(region_weights(height, regions, shape), region_weights(width, regions, shape)).astype(np.float32)
