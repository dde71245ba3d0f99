"""Sums over regions of the plane: whole cells (boxes), or hats that share each pixel between neighbouring cells.

Shapes
------
pixels : (H, W, n) -> cells : (H // rows of a cell, W // columns of a cell, n), images last.
"""

from __future__ import annotations

import numpy as np

from lastlayer._arrays import Float32, Float64
from lastlayer.representations._batches import Scratch, add_over


def pool(pixels: Float32, cell: tuple[int, int], out: Float32, scratch: Scratch) -> Float32:
    """Sum over whole cells into `out`; what fills no whole cell at the bottom and right is left out."""
    height, width, n = pixels.shape
    lines = scratch("pool.lines", (height // cell[0], width, n))
    _add_boxes(pixels, cell[0], lines)
    _add_boxes(lines.transpose(1, 0, 2), cell[1], out.transpose(1, 0, 2))
    return out


def pool_regions(pixels: Float32, grid: int, out: Float32, scratch: Scratch) -> Float32:
    """Mean over the regions of a `grid` × `grid` cut of the whole plane, (H, W, n) -> `out` (grid, grid, n).

    Where the sizes do not divide, regions differ by a pixel.
    """
    height, width, n = pixels.shape
    if height % grid == 0 and width % grid == 0:
        pool(pixels, (height // grid, width // grid), out, scratch)
        out *= np.float32(grid * grid / (height * width))
        return out
    rows = [i * height // grid for i in range(grid + 1)]
    columns = [j * width // grid for j in range(grid + 1)]
    line = scratch("pool.line", (width, n))
    for i in range(grid):
        add_over(pixels[rows[i] : rows[i + 1]], 0, line)
        for j in range(grid):
            add_over(line[columns[j] : columns[j + 1]], 0, out[i, j])
            out[i, j] /= np.float32((rows[i + 1] - rows[i]) * (columns[j + 1] - columns[j]))
    return out


def hat(size: int) -> list[tuple[int, float]]:
    """Offsets from a cell's first pixel and weights of the linear hat around the cell's middle.

    >>> hat(2)
    [(-1, 0.25), (0, 0.75), (1, 0.75), (2, 0.25)]
    """
    offsets = range(-size, 2 * size)
    weights = [1 - abs(offset + 0.5 - size / 2) / size for offset in offsets]
    return [(offset, weight) for offset, weight in zip(offsets, weights) if weight > 0]


def pooling_matrix(length: int, size: int, hats: bool) -> Float64:
    """Return the (cells, length) matrix of the sums along one axis."""
    cells = length // size
    matrix = np.zeros((cells, length))
    for cell in range(cells):
        for offset, weight in hat(size) if hats else [(i, 1.0) for i in range(size)]:
            if 0 <= cell * size + offset < length:
                matrix[cell, cell * size + offset] = weight
    return matrix


def _add_boxes(lines: Float32, size: int, out: Float32) -> None:
    groups = lines[: len(out) * size].reshape(len(out), size, *lines.shape[1:])
    np.copyto(out, groups[:, 0])
    for i in range(1, size):
        out += groups[:, i]
