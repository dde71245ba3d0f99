"""Blocks of cells: contrast normalisation of histograms, as Dalal and Triggs (2005) and in a shorter form.

Blocks of b_r × b_c cells slide over the grid one cell at a time; each block v is divided by its own norm::

    L1       v / (‖v‖₁ + ε)               L2      v / √(‖v‖₂² + ε²)
    L1-sqrt  √(v / (‖v‖₁ + ε))            L2-Hys  L2, then clipped at 0.2, then L2 again

with ε = 1e-5. A cell is in b_r · b_c blocks and so has that many normalised copies.

A cell counted once keeps the mean of its copies, then the sum over directions of each copy: bins + b_r b_c numbers
in place of bins b_r b_c (Felzenszwalb, Girshick, McAllester and Ramanan 2010, "Object detection with discriminatively
trained part based models", section 6.2). Blocks then reach over the border, where cells are empty, so that every cell
is in the same number of blocks. The root of the mean is the Hellinger map: a linear classifier then compares
histograms by their Bhattacharyya coefficient.

Shapes
------
cells : float32 (n, rows, columns, bins); features of a level, in C order (rows, columns, bins + b_r b_c) when
compact, else (rows − b_r + 1, columns − b_c + 1, b_r, b_c, bins).
"""

from __future__ import annotations

from lastlayer._arrays import Float32
from lastlayer.representations._batches import Scratch

NORMS = ("L1", "L1-sqrt", "L2", "L2-Hys")


def block_features(
    cells: Float32,
    block: tuple[int, int],
    norm: str,
    compact: bool,
    root: bool,
    out: Float32,
    column: int,
    scratch: Scratch,
) -> None:
    """Fill `out` (n, D) from a column on with the normalised blocks of the cells, whose entries are not negative."""
    from lastlayer.representations import hog_kernels

    n, rows, columns, _ = cells.shape
    factors = scratch("blocks.factors", (n, 2, rows + block[0] - 1, columns + block[1] - 1))
    code = NORMS.index(norm)
    hog_kernels.block_factors(cells, block, code, factors)
    if compact:
        hog_kernels.compact_cells(cells, factors, block, code, root, out, column)
    else:
        hog_kernels.whole_blocks(cells, factors, block, code, out, column)
