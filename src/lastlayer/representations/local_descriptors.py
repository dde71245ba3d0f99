"""Descriptors of small squares all over an image: edges (HOG) or colours of b × b neighbouring cells, side by side.

The squares begin every `step` pixels, so that cells overlap where the step is smaller than a cell.

Sources: Xiao, Hays, Ehinger, Oliva and Torralba (2010), "SUN database", section 4.1 (HOG of 2 × 2 cells, stacked to 124
numbers); Perronnin, Sánchez and Mensink (2010), "Improving the Fisher kernel for large-scale image classification",
section 4.1, after Clinchant et al. 2007 (mean and spread of each channel in every cell).

Shapes
------
images : uint8 (n, H, W, C) -> descriptors : float32 (n, P, b² · numbers of a cell); middles : (P, 2), row and column.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np

from lastlayer._arrays import Float32, Float64, UInt8
from lastlayer.representations._batches import Scratch
from lastlayer.representations.blocks import block_features
from lastlayer.representations.gradients import cell_histograms

KINDS = ("edges", "colour")
ORIENTATIONS = 9
EDGE_NUMBERS = 3 * ORIENTATIONS + 4
"""Of a cell: signed and unsigned directions, and the strength in each of four blocks (see `representations.hog`)."""


@final
@dataclass(frozen=True)
class LocalDescriptors:
    """What is computed where.

    Parameters
    ----------
    kind : {"edges", "colour"}
    cell, step, stack : int
        Pixels of a cell, pixels between neighbouring squares (at most a cell), cells along a square.
    height, width, channels : int
    """

    kind: str
    cell: int
    step: int
    stack: int
    height: int
    width: int
    channels: int

    @property
    def per_cell(self) -> int:
        """Numbers of a cell."""
        return EDGE_NUMBERS if self.kind == "edges" else 2 * self.channels

    @property
    def numbers(self) -> int:
        """Numbers of a descriptor."""
        return self.stack**2 * self.per_cell

    def middles(self) -> Float64:
        """Rows and columns (P, 2) of the middles of all squares, in the order of the descriptors."""
        half = self.stack * self.cell / 2
        places = [
            (top + r * self.cell + half, left + c * self.cell + half)
            for top, left, rows, columns in self._grids()
            for r in range(rows)
            for c in range(columns)
        ]
        return np.array(places, dtype=np.float64).reshape(-1, 2)

    def __call__(self, images: UInt8, scratch: Scratch) -> Float32:
        """Descriptors (n, P, numbers) of a batch, in the scratch memory."""
        n, b, k = len(images), self.stack, self.per_cell
        places = sum(rows * columns for _, _, rows, columns in self._grids())
        out: Float32 = scratch("local.out", (n, places, self.numbers))
        start = 0
        for top, left, rows, columns in self._grids():
            cells = self._cells(images[:, top:, left:], scratch)
            squares = out[:, start : start + rows * columns].reshape(n, rows, columns, b, b, k)
            for i in range(b):
                for j in range(b):
                    squares[:, :, :, i, j] = cells[:, i : i + rows, j : j + columns]
            start += rows * columns
        return out

    def _grids(self) -> Iterator[tuple[int, int, int, int]]:
        """Top and left, rows and columns of squares, of every grid of whole cells."""
        for top in range(0, self.cell, self.step):
            for left in range(0, self.cell, self.step):
                rows = (self.height - top) // self.cell - self.stack + 1
                columns = (self.width - left) // self.cell - self.stack + 1
                if rows > 0 and columns > 0:
                    yield top, left, rows, columns

    def _cells(self, images: UInt8, scratch: Scratch) -> Float32:
        n, height, width, _ = images.shape
        rows, columns = height // self.cell, width // self.cell
        cells: Float32 = scratch("local.cells", (n, rows * columns * self.per_cell))
        if self.kind == "colour":
            from lastlayer.representations import word_kernels

            own = scratch("local.images", images.shape, np.uint8)
            np.copyto(own, images)
            grid: Float32 = cells.reshape(n, rows, columns, self.per_cell)
            word_kernels.colour_cells(own, self.cell, grid)
            return grid
        votes = cell_histograms(
            images,
            2 * ORIENTATIONS,
            (self.cell, self.cell),
            scratch,
            signed=True,
            interpolation=True,
            transform_sqrt=False,
            folded=True,
        )
        block_features(votes, (2, 2), "L2-Hys", True, True, cells, 0, scratch)
        return cells.reshape(n, rows, columns, self.per_cell)
