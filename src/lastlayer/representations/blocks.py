"""Blocks of cells: contrast normalisation of histograms, as Dalal and Triggs (2005) and in a shorter form.

Blocks of b_r × b_c cells slide over the grid one cell at a time; each block v is divided by its own norm::

    L1       v / (‖v‖₁ + ε)               L2      v / √(‖v‖₂² + ε²)
    L1-sqrt  √(v / (‖v‖₁ + ε))            L2-Hys  L2, then clipped at 0.2, then L2 again

with ε = 1e-5. A cell is in b_r · b_c blocks and so has that many normalised copies.

Shapes
------
grid : float32 (rows, columns, bins, n), images last;
blocks : float32 (rows − b_r + 1, columns − b_c + 1, b_r, b_c, bins, n).
"""

from __future__ import annotations

import numpy as np

from lastlayer._arrays import Float32
from lastlayer.representations._batches import Scratch, add_over

NORMS = ("L1", "L1-sqrt", "L2", "L2-Hys")
_EPS = 1e-5
_CLIP = 0.2


def normalised_blocks(grid: Float32, block: tuple[int, int], norm: str, scratch: Scratch) -> Float32:
    """Every block of the grid, normalised, in the scratch memory; the entries of `grid` are not negative."""
    rows, columns, (bins, n) = grid.shape[0] - block[0] + 1, grid.shape[1] - block[1] + 1, grid.shape[2:]
    blocks: Float32 = scratch("blocks", (rows, columns, *block, bins, n))
    for i in range(block[0]):
        for j in range(block[1]):
            np.copyto(blocks[:, :, i, j], grid[i : i + rows, j : j + columns])
    cells: Float32 = scratch("blocks.cells", (*grid.shape[:2], n))
    if norm in ("L1", "L1-sqrt"):
        size = _block_sums(add_over(grid, 2, cells), block, scratch)
        size += np.float32(_EPS)
        blocks /= size[:, :, None, None, None]
        return np.sqrt(blocks, out=blocks) if norm == "L1-sqrt" else blocks
    squares = np.multiply(grid, grid, out=scratch("blocks.squares", grid.shape))
    _divide(blocks, _block_sums(add_over(squares, 2, cells), block, scratch))
    if norm == "L2-Hys":
        np.clip(blocks, np.float32(0), np.float32(_CLIP), out=blocks)
        flat = blocks.reshape(rows, columns, -1, n)
        squares = np.multiply(flat, flat, out=scratch("blocks.squares", flat.shape))
        _divide(blocks, add_over(squares, 2, scratch("blocks.energy", (rows, columns, n))))
    return blocks


def _divide(blocks: Float32, energy: Float32) -> None:
    energy += np.float32(_EPS**2)
    np.sqrt(energy, out=energy)
    blocks /= energy[:, :, None, None, None]


def compact_cells(
    grid: Float32, block: tuple[int, int], norm: str, root: bool, scratch: Scratch, out: Float32
) -> Float32:
    """Each cell once: the mean of its normalised copies, then the sum over directions of each copy.

    bins + b_r · b_c numbers a cell in place of bins · b_r · b_c (Felzenszwalb, Girshick, McAllester and Ramanan
    2010, "Object detection with discriminatively trained part based models", section 6.2). Blocks may reach over
    the border, where cells are empty, so that every cell is in the same number of blocks.

    Parameters
    ----------
    root : bool
        Take the square root of the mean: the Hellinger map, after which a linear classifier compares histograms by
        their Bhattacharyya coefficient.
    out : float32 (rows, columns, bins + b_r · b_c, n)
        Where the result goes.
    """
    rows, columns, bins, n = grid.shape
    over, beside = block[0] - 1, block[1] - 1
    padded = scratch("blocks.padded", (rows + 2 * over, columns + 2 * beside, bins, n))
    padded[...] = 0
    padded[over : over + rows, beside : beside + columns] = grid
    blocks = normalised_blocks(padded, block, norm, scratch)
    mean = out[:, :, :bins]
    mean[...] = 0
    for i in range(block[0]):
        for j in range(block[1]):
            copy = blocks[over - i : over - i + rows, beside - j : beside - j + columns, i, j]
            mean += copy
            add_over(copy, 2, out[:, :, bins + i * block[1] + j])
    mean /= np.float32(block[0] * block[1])
    if root:
        np.sqrt(mean, out=mean)
    return out


def _block_sums(cells: Float32, block: tuple[int, int], scratch: Scratch) -> Float32:
    """Sum (rows, columns, n) over sliding blocks."""
    rows, columns, n = cells.shape[0] - block[0] + 1, cells.shape[1] - block[1] + 1, cells.shape[2]
    down = scratch("blocks.down", (rows, cells.shape[1], n))
    np.copyto(down, cells[:rows])
    for i in range(1, block[0]):
        down += cells[i : i + rows]
    total: Float32 = scratch("blocks.sums", (rows, columns, n))
    np.copyto(total, down[:, :columns])
    for j in range(1, block[1]):
        total += down[:, j : j + columns]
    return total
