"""Patch responses, encoded and pooled while they are in the cache, compiled.

The product ``P F`` is BLAS's; what follows it is a handful of operations a response, which would cost several times
the product if every response went to memory and back. BLAS must run on one thread here (`_threads`): the images are
spread over threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# numba's np.dot is this BLAS; loaded here, so that limits on its threads set afterwards find it
import scipy.linalg.cython_blas  # noqa: F401

from lastlayer._compiled import compiled

ZERO = np.float32(0)


@compiled
def encode_soft(
    images: Any, size: int, mean: Any, V: Any, flat: Any, F: Any, threshold: Any,
    ends_y: Any, ends_x: Any, pooling: Any, out: Any,
) -> None:  # fmt: skip
    """Two-sided soft threshold: regions' means of ``max(r - t, 0)`` and ``max(-r - t, 0)`` for responses r.

    Shapes
    ------
    images : float32 (n, H, W, C) in 0..1; mean : (d,); V : (d, p); F : (tiles, p, f); ends_y, ends_x : last row and
    column + 1 of the bins; pooling : (regions, bins); out : (n, regions, 2, tiles · f), overwritten.
    """
    tiles, p, f = F.shape
    positions = ends_y[-1] * ends_x[-1]
    bins, regions = pooling.shape[1], pooling.shape[0]
    patches = np.empty((positions, V.shape[0]), np.float32)
    P = np.empty((positions, p), np.float32)
    responses = np.empty((positions, f), np.float32)
    sums = np.empty((bins, 2 * f), np.float32)
    pooled = np.empty((regions, 2 * f), np.float32)
    for i in range(images.shape[0]):
        whitened_patches(images[i], size, mean, V, flat, patches, P)
        for tile in range(tiles):
            np.dot(P, F[tile], responses)
            soft_bins(responses, threshold, ends_y, ends_x, sums)
            np.dot(pooling, sums, pooled)
            for r in range(regions):
                out[i, r, 0, tile * f : (tile + 1) * f] = pooled[r, :f]
                out[i, r, 1, tile * f : (tile + 1) * f] = pooled[r, f:]


@compiled
def encode_triangle(
    images: Any, size: int, mean: Any, V: Any, flat: Any, F: Any, radius: Any,
    ends_y: Any, ends_x: Any, pooling: Any, out: Any,
) -> None:  # fmt: skip
    """Regions' means of ``max(mean_k(d_k) - d_k, 0)``, d_k the distance to centroid k (Coates, Ng & Lee 2011).

    Shapes
    ------
    As in `encode_soft`, with F : (p, K) of unit columns; centroid k is `radius` times column k; out : (n, regions, K).
    """
    p, K = F.shape
    positions = ends_y[-1] * ends_x[-1]
    patches = np.empty((positions, V.shape[0]), np.float32)
    P = np.empty((positions, p), np.float32)
    width = ends_x[-1]
    distances = np.empty((width, K), np.float32)
    sums = np.empty((pooling.shape[1], K), np.float32)
    for i in range(images.shape[0]):
        whitened_patches(images[i], size, mean, V, flat, patches, P)
        sums[:] = ZERO
        top = 0
        for by in range(ends_y.size):
            for y in range(top, ends_y[by]):
                np.dot(P[y * width : (y + 1) * width], F, distances)
                _triangle_row(P[y * width : (y + 1) * width], distances, radius, ends_x, sums, by * ends_x.size)
            top = ends_y[by]
        np.dot(pooling, sums, out[i])


@compiled
def whitened_patches(image: Any, size: int, mean: Any, V: Any, flat: Any, patches: Any, out: Any) -> None:
    """``w = Vᵀ (x - mean)``, ``out = w / sqrt(mean(w²) + flat)`` for every patch x, row after row of the image.

    Shapes
    ------
    image : float32 (H, W, C); patches : scratch (positions, d); out : (positions, p).
    """
    height, width, channels = image.shape
    run = size * channels
    position = 0
    for y in range(height - size + 1):
        for x in range(width - size + 1):
            row = patches[position]
            for dy in range(size):
                line = image[y + dy]
                for dx in range(size):
                    for c in range(channels):
                        j = dy * run + dx * channels + c
                        row[j] = line[x + dx, c] - mean[j]
            position += 1
    np.dot(patches, V, out)
    p = out.shape[1]
    for position in range(out.shape[0]):
        row = out[position]
        total = ZERO
        for j in range(p):
            total += row[j] * row[j]
        factor = np.float32(1) / np.sqrt(total / np.float32(p) + flat)
        for j in range(p):
            row[j] *= factor


@compiled
def soft_bins(responses: Any, threshold: Any, ends_y: Any, ends_x: Any, sums: Any) -> None:
    """Sums over bins of both sides of thresholded responses (positions, f) into (bins, 2f), overwritten."""
    f, width = responses.shape[1], ends_x[-1]
    sums[:] = ZERO
    top = 0
    for by in range(ends_y.size):
        left = 0
        for bx in range(ends_x.size):
            both = sums[by * ends_x.size + bx]
            for y in range(top, ends_y[by]):
                _add_run(responses, y * width + left, y * width + ends_x[bx], threshold, both[:f], both[f:])
            left = ends_x[bx]
        top = ends_y[by]


@compiled
def _add_run(responses: Any, start: int, stop: int, threshold: Any, above: Any, below: Any) -> None:
    """Three positions at a time: one load and store of the sums for three responses."""
    whole = start + (stop - start) // 3 * 3
    for i in range(start, whole, 3):
        r0, r1, r2 = responses[i], responses[i + 1], responses[i + 2]
        for j in range(above.size):
            u, v, w = r0[j], r1[j], r2[j]
            above[j] += max(u - threshold, ZERO) + max(v - threshold, ZERO) + max(w - threshold, ZERO)
            below[j] += max(-u - threshold, ZERO) + max(-v - threshold, ZERO) + max(-w - threshold, ZERO)
    for i in range(whole, stop):
        r0 = responses[i]
        for j in range(above.size):
            u = r0[j]
            above[j] += max(u - threshold, ZERO)
            below[j] += max(-u - threshold, ZERO)


@compiled
def _triangle_row(P: Any, distances: Any, radius: Any, ends_x: Any, sums: Any, first: int) -> None:
    """One row of positions: responses become distances, distances activations, added to the row's bins."""
    bx = 0
    for x in range(P.shape[0]):
        if x == ends_x[bx]:
            bx += 1
        row, total = distances[x], sums[first + bx]
        square = radius * radius
        for j in range(P.shape[1]):
            square += P[x, j] * P[x, j]
        mean = ZERO
        for k in range(row.size):
            row[k] = np.sqrt(max(square - np.float32(2) * radius * row[k], ZERO))
            mean += row[k]
        mean /= np.float32(row.size)
        for k in range(row.size):
            total[k] += max(mean - row[k], ZERO)
