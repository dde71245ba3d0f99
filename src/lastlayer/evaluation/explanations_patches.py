"""Patch features spread over the pixels: from pooled responses back to positions, and from positions to pixels.

A feature is ``Σ_regions' √½ s^p`` over one region, or two that mirror each other, with the pooled response
``s = Σ_positions g aᵢ`` of activations aᵢ. Its term is shared among the positions as ``g aᵢ`` is among s, and a
position's share evenly among the pixels of its patch: both sums stay.
"""

from __future__ import annotations

import numpy as np

from lastlayer._arrays import Float64, IntArray, UInt8
from lastlayer.representations.patch_pooling import bin_ends, pooling
from lastlayer.representations.patches import Patches

TILE = 512
"""Filters at a time."""


def patch_map(phi: Patches, image: UInt8, terms: Float64) -> Float64:
    """The terms (D,) of an image's features over its pixels, (H, W)."""
    size = phi.size
    height, width = image.shape[0] - size + 1, image.shape[1] - size + 1
    F, P = _filters(phi), _whitened(phi, image)
    g = pooling(height, width, phi.pool, phi.shape).astype(np.float64)  # (regions, bins)
    bins = _bins_of_positions(height, width)
    pooled = np.zeros((g.shape[0], 2 if phi.encoding == "soft" else 1, phi.filters))
    tiles = [slice(start, min(start + TILE, phi.filters)) for start in range(0, phi.filters, TILE)]
    middle = _mean_distance(P, F, tiles) if phi.encoding == "triangle" else np.zeros((len(P), 1))
    for tile in tiles:
        for sign, a in enumerate(_activations(phi, P, F[tile], middle)):
            sums = np.zeros((g.shape[1], a.shape[1]))
            np.add.at(sums, bins, a)
            pooled[:, sign, tile] = g @ sums
    each = _per_response(phi, terms, pooled)
    share = np.zeros(len(P))
    for tile in tiles:
        for sign, a in enumerate(_activations(phi, P, F[tile], middle)):
            share += np.einsum("ik,ik->i", a, (g.T @ each[:, sign, tile])[bins])
    return _over_pixels(share.reshape(height, width), size)


def region_map(phi: Patches, terms: Float64, shape: tuple[int, int]) -> Float64:
    """Terms (D,) over the pixels of the regions that they are about, whatever is there, (H, W)."""
    height, width = shape[0] - phi.size + 1, shape[1] - phi.size + 1
    per_region = terms.reshape(phi.pool, phi.pool, -1).sum(axis=2)
    if phi.mirror:
        per_region = (per_region + per_region[:, ::-1]) / 2
    g = pooling(height, width, phi.pool, phi.shape).astype(np.float64)
    ends_y, ends_x = bin_ends(height), bin_ends(width)
    sizes = np.outer(np.diff(ends_y, prepend=0), np.diff(ends_x, prepend=0)).ravel()
    share = (per_region.ravel() / (g @ sizes)) @ g
    return _over_pixels(share[_bins_of_positions(height, width)].reshape(height, width), phi.size)


def _bins_of_positions(height: int, width: int) -> IntArray:
    """The bin of every position, (height · width,)."""
    ends_y, ends_x = bin_ends(height), bin_ends(width)
    rows = np.repeat(np.arange(len(ends_y)), np.diff(ends_y, prepend=0))[:, None] * len(ends_x)
    return np.asarray((rows + np.repeat(np.arange(len(ends_x)), np.diff(ends_x, prepend=0))).ravel())


def _filters(phi: Patches) -> Float64:
    """(K, p), mirror images included."""
    assert phi.chosen is not None and phi.signs is not None
    F = np.vstack([phi.chosen, phi.chosen * phi.signs]) if phi.mirror else phi.chosen
    return F.astype(np.float64)


def _whitened(phi: Patches, image: UInt8) -> Float64:
    """Whitened, contrast-normalised patches (positions, p)."""
    assert phi.mean is not None and phi.basis is not None
    windows = np.lib.stride_tricks.sliding_window_view(image / 255.0, (phi.size, phi.size), axis=(0, 1))
    patches = windows.transpose(0, 1, 3, 4, 2).reshape(-1, phi.size**2 * image.shape[2])
    P = (patches - phi.mean) @ phi.basis.astype(np.float64)
    return np.asarray(P / np.sqrt(np.square(P).mean(axis=1, keepdims=True) + phi.flat))


def _activations(phi: Patches, P: Float64, F: Float64, middle: Float64) -> tuple[Float64, ...]:
    """Of some filters, (positions, filters): both sides for the soft threshold, how much nearer for the triangle."""
    if phi.encoding == "soft":
        R = P @ F.T
        return np.maximum(R - phi.threshold, 0.0), np.maximum(-R - phi.threshold, 0.0)
    return (np.maximum(middle - _distances(P, F), 0.0),)


def _distances(P: Float64, F: Float64) -> Float64:
    """To centroids, which are √p times the unit filters."""
    radius = np.sqrt(P.shape[1])
    squares = np.square(P).sum(axis=1, keepdims=True) + radius**2 - 2 * radius * (P @ F.T)
    return np.asarray(np.sqrt(np.maximum(squares, 0.0)))


def _mean_distance(P: Float64, F: Float64, tiles: list[slice]) -> Float64:
    total = np.zeros((len(P), 1))
    for tile in tiles:
        total += _distances(P, F[tile]).sum(axis=1, keepdims=True)
    return total / len(F)


def _per_response(phi: Patches, terms: Float64, pooled: Float64) -> Float64:
    """Terms per unit of each pooled response: (regions, signs, K), from terms (D,)."""
    powered: Float64 = np.maximum(pooled, 0.0) ** phi.power
    if not phi.mirror:
        return np.divide(terms.reshape(powered.shape), pooled, out=np.zeros_like(pooled), where=pooled > 0)
    half, side = phi.filters // 2, phi.pool
    parts = powered.reshape(side, side, -1, phi.filters)
    whole: Float64 = parts[..., :half] + parts[:, ::-1, :, half:]
    per = np.divide(terms.reshape(whole.shape), whole, out=np.zeros_like(whole), where=whole > 0)
    shares: Float64 = parts * np.concatenate([per, per[:, ::-1]], axis=3)
    return np.divide(shares.reshape(pooled.shape), pooled, out=np.zeros_like(pooled), where=pooled > 0)


def _over_pixels(share: Float64, size: int) -> Float64:
    """Every position's share evenly over its patch."""
    height, width = share.shape
    out = np.zeros((height + size - 1, width + size - 1))
    for y in range(size):
        for x in range(size):
            out[y : y + height, x : x + width] += share
    return out / size**2
