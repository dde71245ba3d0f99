"""Maps of first-layer responses, pooled over small cells and projected to a few channels, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from lastlayer._compiled import compiled
from lastlayer.representations.patch_kernels import ZERO, soft_bins, whitened_patches


@compiled
def response_maps(
    images: Any, size: int, mean: Any, V: Any, flat: Any, F: Any, threshold: Any,
    ends_y: Any, ends_x: Any, root: bool, mix: Any, out: Any,
) -> None:  # fmt: skip
    """Cells' means a of ``max(r - t, 0)`` and ``max(-r - t, 0)``, or their roots, times `mix`.

    Shapes
    ------
    images : float32 (n, H, W, C) in 0..1; mean : (d,); V : (d, p); F : (tiles, p, f); ends_y, ends_x : last row and
    column + 1 of the cells; mix : (2 · tiles · f, channels); out : (n, down, across, channels), overwritten.
    """
    tiles, p, f = F.shape
    positions = ends_y[-1] * ends_x[-1]
    down, across = ends_y.size, ends_x.size
    patches = np.empty((positions, V.shape[0]), np.float32)
    P = np.empty((positions, p), np.float32)
    responses = np.empty((positions, f), np.float32)
    sums = np.empty((down * across, 2 * f), np.float32)
    cells = np.empty((down * across, 2 * tiles * f), np.float32)
    for i in range(images.shape[0]):
        whitened_patches(images[i], size, mean, V, flat, patches, P)
        for tile in range(tiles):
            np.dot(P, F[tile], responses)
            soft_bins(responses, threshold, ends_y, ends_x, sums)
            _means(sums, ends_y, ends_x, root)
            for cell in range(down * across):
                cells[cell, tile * f : (tile + 1) * f] = sums[cell, :f]
                cells[cell, (tiles + tile) * f : (tiles + tile + 1) * f] = sums[cell, f:]
        np.dot(cells, mix, out[i].reshape(down * across, mix.shape[1]))


@compiled
def _means(sums: Any, ends_y: Any, ends_x: Any, root: bool) -> None:
    top = 0
    for by in range(ends_y.size):
        left = 0
        for bx in range(ends_x.size):
            scale = np.float32(1) / np.float32((ends_y[by] - top) * (ends_x[bx] - left))
            row = sums[by * ends_x.size + bx]
            for j in range(row.size):
                row[j] = np.sqrt(max(row[j] * scale, ZERO)) if root else row[j] * scale
            left = ends_x[bx]
        top = ends_y[by]
