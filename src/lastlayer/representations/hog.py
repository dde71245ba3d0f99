"""Histograms of oriented gradients (Dalal and Triggs 2005), in their form and in a shorter, stronger one.

    φ(x) = [ blocks normalised ( orientation histograms of cells ) ]

The defaults were chosen on validation data (BENCHMARKS.md): signed and unsigned directions, votes shared between
neighbours, each cell once (`compact`) with the square root taken, on cells of one, two and four times the size.

scikit-image's vector ``hog(image, orientations, pixels_per_cell, cells_per_block, block_norm, transform_sqrt=…,
feature_vector=True)`` comes out of `Hog.as_scikit_image`, which is the same as the text
``hog:cell=8,block=3,signed=false,interpolation=false,compact=false,root=false,levels=1``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self, final

import numpy as np

from lastlayer._arrays import Array, Float32, Float64, FloatArray, InputError, UInt8
from lastlayer.representations._batches import Scratch, map_batches
from lastlayer.representations._checks import as_pair, check_choice, check_flag, check_whole
from lastlayer.representations.base import (
    Representation,
    Shape,
    Template,
    check_fit_images,
    check_transform_images,
    check_weights,
    fitted_shape,
)
from lastlayer.representations.blocks import NORMS, block_features
from lastlayer.representations.gradients import cached_batch, cell_for, cell_histograms
from lastlayer.representations.pooling import pooling_matrix

# shares of the cells from one before to one after in a cell of twice the size
_LEVEL_HATS = np.array([0.25, 0.75, 0.75, 0.25], np.float32)
_LEVEL_BOXES = np.array([0, 1, 1, 0], np.float32)
_Grid = tuple[int, int]


@final
@dataclass(frozen=True)
class Hog(Representation):
    """Histograms of oriented gradients.

    Parameters
    ----------
    orientations : int
        Direction bins over 180°.
    pixels_per_cell : int or (int, int), optional
        Rows and columns of a cell. When not given, the smallest power of two (2 or more) that leaves at most 12
        cells along the longer side: 2 for 8 × 8 images, 4 for 32 × 32, 8 for 64 to 96.
    cells_per_block : int or (int, int)
        Cells that are normalised together.
    block_norm : {"L1", "L1-sqrt", "L2", "L2-Hys"}
        How (see `lastlayer.representations.blocks`).
    transform_sqrt : bool
        Take the square root of the intensities first.
    signed : bool
        Histograms over 360° (twice as many bins) before those over 180°.
    interpolation : bool
        Share each vote linearly between the nearest bins and cells.
    compact : bool
        Each cell once, as the mean of its normalised copies, with one number a copy for its strength.
    root : bool
        Square root of the mean copies; with `compact` only.
    levels : int
        Grids: each further one has cells of twice the size, as far as one whole cell remains.

    Shapes
    ------
    The features of a level are in C order (rows, columns, bins + b_r b_c) when compact, else
    (block rows, block columns, b_r, b_c, bins); bins are the 2 · orientations signed ones, then the unsigned ones.
    """

    orientations: int = 9
    pixels_per_cell: int | tuple[int, int] | None = None
    cells_per_block: int | tuple[int, int] = (2, 2)
    block_norm: str = "L2-Hys"
    transform_sqrt: bool = False
    signed: bool = True
    interpolation: bool = True
    compact: bool = True
    root: bool = True
    levels: int = 3
    image_shape: Shape | None = field(default=None, kw_only=True, repr=False)

    name: ClassVar[str] = "hog"

    def __post_init__(self) -> None:
        check_whole("hog", "orientations", self.orientations, 1, 180)
        if self.pixels_per_cell is not None:
            cell = as_pair("hog", "pixels_per_cell", self.pixels_per_cell, 4096)
            object.__setattr__(self, "pixels_per_cell", cell)
        object.__setattr__(self, "cells_per_block", as_pair("hog", "cells_per_block", self.cells_per_block, 16))
        check_choice("hog", "block_norm", self.block_norm, NORMS)
        for flag in ("transform_sqrt", "signed", "interpolation", "compact", "root"):
            check_flag("hog", flag, getattr(self, flag))
        check_whole("hog", "levels", self.levels, 1, 8)
        if self.root and not self.compact:
            raise InputError("hog: root=true needs compact=true", "Give root=false, or block_norm=L1-sqrt")
        if self.image_shape is not None:
            self._check_shape(self.image_shape)

    @classmethod
    def as_scikit_image(
        cls,
        orientations: int = 9,
        pixels_per_cell: int | tuple[int, int] = (8, 8),
        cells_per_block: int | tuple[int, int] = (3, 3),
        block_norm: str = "L2-Hys",
        transform_sqrt: bool = False,
    ) -> Hog:
        """Return the representation whose features are those of ``skimage.feature.hog`` with these parameters."""
        return cls(
            orientations,
            pixels_per_cell,
            cells_per_block,
            block_norm,
            transform_sqrt,
            signed=False,
            interpolation=False,
            compact=False,
            root=False,
            levels=1,
        )

    def _check_shape(self, shape: Shape) -> None:
        if self.pixels_per_cell is None:
            raise InputError("hog: an image shape without the cell that was chosen for it")
        height, width, _ = shape
        block = (1, 1) if self.compact else self._block
        need = self._cell[0] * block[0], self._cell[1] * block[1]
        if height < need[0] or width < need[1]:
            raise InputError(
                f"hog: images of {height}x{width} pixels are too small for cells of "
                f"{self._cell[0]}x{self._cell[1]} pixels in blocks of {block[0]}x{block[1]}",
                f"They need at least {need[0]}x{need[1]} pixels; or give smaller cells (hog:cell=)",
            )

    def fit(self, images: UInt8, rng: np.random.Generator) -> Self:
        """Choose the cell from the image size where it was not given; nothing is learned from the pixels."""
        shape = check_fit_images(images)
        cell = self.pixels_per_cell or (cell_for(*shape[:2]),) * 2
        fitted = replace(self, pixels_per_cell=cell, image_shape=shape)
        return replace(fitted, levels=len(fitted._grids()))

    def transform(self, images: UInt8) -> Float32:
        """Features (N, D); batches over threads."""
        height, width, _ = check_transform_images(images, self.image_shape, self.name)
        return map_batches(self._kernel, images, self.n_features, cached_batch(height, width))

    def _kernel(self, images: UInt8, scratch: Scratch) -> Float32:
        from lastlayer.representations import hog_kernels

        n, column = len(images), 0
        features: Float32 = scratch("hog.features", (n, self.n_features))
        cells = cell_histograms(
            images,
            2 * self.orientations if self.signed else self.orientations,
            self._cell,
            scratch,
            signed=self.signed,
            interpolation=self.interpolation,
            transform_sqrt=self.transform_sqrt,
            folded=self.signed,
        )
        pooled = _LEVEL_HATS if self.interpolation else _LEVEL_BOXES
        for level, (rows, columns) in enumerate(self._grids()):
            if level:
                coarse = scratch(f"hog.level{level}", (n, rows, columns, self._bins))
                hog_kernels.coarser(cells, pooled, coarse)
                cells = coarse
            block_features(cells, self._block, self.block_norm, self.compact, self.root, features, column, scratch)
            column += math.prod(self._level_shape(rows, columns))
        return features

    @property
    def _cell(self) -> tuple[int, int]:
        fitted_shape(self.image_shape, self.name)
        assert isinstance(self.pixels_per_cell, tuple)
        return self.pixels_per_cell

    @property
    def _block(self) -> tuple[int, int]:
        assert isinstance(self.cells_per_block, tuple)
        return self.cells_per_block

    @property
    def _bins(self) -> int:
        return 3 * self.orientations if self.signed else self.orientations

    def _grids(self) -> list[_Grid]:
        """Cells down and across of each level."""
        height, width, _ = fitted_shape(self.image_shape, self.name)
        least = (1, 1) if self.compact else self._block
        rows, columns = height // self._cell[0], width // self._cell[1]
        grids: list[_Grid] = []
        while len(grids) < self.levels and rows >= least[0] and columns >= least[1]:
            grids.append((rows, columns))
            rows, columns = rows // 2, columns // 2
        return grids

    def _level_shape(self, rows: int, columns: int) -> tuple[int, ...]:
        down, across = self._block
        if self.compact:
            return rows, columns, self._bins + down * across
        return rows - down + 1, columns - across + 1, down, across, self._bins

    @property
    def n_features(self) -> int:
        """D, over all levels."""
        return sum(math.prod(self._level_shape(*grid)) for grid in self._grids())

    def parameters(self) -> dict[str, Any]:
        """Return the constructor's parameters; after `fit` with the cell and the number of levels in use."""
        cell = self.pixels_per_cell
        return {
            "orientations": self.orientations,
            "pixels_per_cell": list(cell) if isinstance(cell, tuple) else cell,
            "cells_per_block": list(self._block),
            "block_norm": self.block_norm,
            "transform_sqrt": self.transform_sqrt,
            "signed": self.signed,
            "interpolation": self.interpolation,
            "compact": self.compact,
            "root": self.root,
            "levels": self.levels,
        }

    def arrays(self) -> dict[str, Array]:
        """Nothing is learned."""
        return {}

    def describe(self) -> str:
        """Cells, directions and number of features."""
        sizes = ", ".join(f"{self._cell[0] << level}x{self._cell[1] << level}" for level, _ in enumerate(self._grids()))
        signed = f"{2 * self.orientations} signed + " if self.signed else ""
        return f"hog: cells of {sizes} pixels, {signed}{self.orientations} directions, {self.n_features} features"

    def templates(self, W: FloatArray) -> tuple[Template, ...]:
        """One picture of strokes along the edges; positive weights beside negative ones."""
        from lastlayer.representations.glyphs import draw_glyphs

        note = (
            "Strokes lie along the edges a class looks for (left, blue) and the edges that speak against it "
            "(right, red), one cluster a cell; longer and darker means a larger weight, on one scale per class."
        )
        return (Template("hog", note, draw_glyphs(self.edge_weights(W))),)

    def edge_weights(self, W: FloatArray) -> Float64:
        """How much an edge in a cell of the finest level speaks for each class.

        A cell's copies in several blocks are summed; both contrasts of an edge (signed bins) are averaged and added
        to its unsigned bin; a coarser level counts by the share that the cell has in its larger cells.

        Returns
        -------
        float64 (rows, columns, orientations, K)
        """
        weights = check_weights(W, self.n_features, self.name).astype(np.float64)
        grids, row = self._grids(), 0
        total = np.zeros((*grids[0], self.orientations, weights.shape[1]))
        down, across = np.eye(grids[0][0]), np.eye(grids[0][1])
        for level, grid in enumerate(grids):
            if level:
                down = pooling_matrix(len(down), 2, self.interpolation) @ down / 2
                across = pooling_matrix(len(across), 2, self.interpolation) @ across / 2
            shape = self._level_shape(*grid)
            size = math.prod(shape)
            cells = self._unsigned(self._per_cell(weights[row : row + size].reshape(*shape, -1), grid))
            total += np.einsum("rf,cg,rcok->fgok", down, across, cells, optimize=True)
            row += size
        return total

    def _per_cell(self, weights: Float64, grid: _Grid) -> Float64:
        """Weights of one level as (rows, columns, bins, K)."""
        if self.compact:
            return weights[:, :, : self._bins]
        cells = np.zeros((*grid, self._bins, weights.shape[-1]))
        for i in range(self._block[0]):
            for j in range(self._block[1]):
                cells[i : i + weights.shape[0], j : j + weights.shape[1]] += weights[:, :, i, j]
        return cells

    def _unsigned(self, cells: Float64) -> Float64:
        bins = self.orientations
        if not self.signed:
            return cells
        return (cells[:, :, :bins] + cells[:, :, bins : 2 * bins]) / 2 + cells[:, :, 2 * bins :]
