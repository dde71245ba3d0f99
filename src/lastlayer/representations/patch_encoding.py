"""What the first and the second layer of patch features share: tiles of filters, power, mirror images, checks."""

from __future__ import annotations

from typing import Any

import numpy as np

from lastlayer._arrays import Float32, InputError

TILE = 256
"""Filters at a time: their responses to one image stay in the second-level cache."""


def tiles(F: Float32) -> Float32:
    """Filters (K, p) as (tiles, p, f), the last tile filled up with zeros."""
    f = min(TILE, len(F))
    count = -(-len(F) // f)
    padded = np.zeros((count * f, F.shape[1]), np.float32)
    padded[: len(F)] = F
    return np.ascontiguousarray(padded.reshape(count, f, -1).transpose(0, 2, 1))


def with_twins(chosen: Float32, signs: Float32, mirror: bool) -> Float32:
    """Filters (K, p), followed by their mirror images where wanted."""
    return np.vstack([chosen, chosen * signs]) if mirror else chosen


def finished(pooled: Float32, pool: int, power: float, mirror: bool) -> Float32:
    """Features (n, D) of pooled responses (n, pool², …, K): power, and the mean with those of the mirror image.

    The mirror image has the response of filter k in region (y, x) as that of k's mirror image in region (y, -x).
    """
    n, K = len(pooled), pooled.shape[-1]
    # sums of positive numbers in another order may fall below zero by a rounding error
    features = np.maximum(pooled, np.float32(0))
    if power != 1.0:
        features = np.sqrt(features) if power == 0.5 else features ** np.float32(power)
    if mirror:
        half = K // 2
        grid = features.reshape(n, pool, pool, -1, K)
        features = (grid[..., :half] + grid[:, :, ::-1, :, half:]) * np.float32(np.sqrt(0.5))
    return features.reshape(n, -1)


def check_real(owner: str, name: str, value: Any, low: float, high: float) -> float:
    """A number in low..high as a float."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise InputError(f"{owner}: {name} is {value!r}; a number from {low:g} to {high:g} is needed")
    return float(value)


def frozen(owner: str, name: str, array: Any) -> Float32:
    """A read-only float32 array of finite numbers."""
    if not isinstance(array, np.ndarray) or array.dtype != np.float32 or not np.isfinite(array).all():
        raise InputError(f"{owner}: the array {name} is not one of finite float32 numbers")
    out: Float32 = np.ascontiguousarray(array)
    out.flags.writeable = False
    return out
