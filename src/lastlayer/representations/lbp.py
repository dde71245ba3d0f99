"""Local binary patterns (Ojala, Pietikäinen and Mäenpää 2002): how a pixel compares with its eight neighbours.

    code(p) = Σ_k 2^k [ v(neighbour k) ≥ v(p) ],   k = 0..7 around the pixel, from the right one, up and on

Codes whose ring of bits has at most two changes (edges, corners, spots, lines' ends) have a bin each, 58 in all; all
other codes share one more. Histograms over the regions of a grid, as shares of a region's pixels, then their square
root (the Hellinger map).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, ClassVar, Self, final

import numpy as np

from lastlayer._arrays import Array, Float32, FloatArray, InputError, IntArray, UInt8
from lastlayer.representations._batches import Scratch, map_batches
from lastlayer.representations._checks import check_flag, check_whole
from lastlayer.representations.base import (
    Representation,
    Shape,
    Template,
    check_fit_images,
    check_transform_images,
    check_weights,
    fitted_shape,
)
from lastlayer.representations.gradients import cached_batch

BINS = 59


@final
@dataclass(frozen=True)
class LocalBinaryPatterns(Representation):
    """Histograms of local binary patterns of the brightness, R + G + B for colour images.

    Parameters
    ----------
    grid : int
        Regions down and across. Pixels at the border of the image have no pattern.
    root : bool
        Take the square root of the histograms.

    Shapes
    ------
    D = grid² · 59, in C order (region row, region column, bin).
    """

    grid: int = 4
    root: bool = True
    image_shape: Shape | None = field(default=None, kw_only=True, repr=False)

    name: ClassVar[str] = "lbp"

    def __post_init__(self) -> None:
        check_whole("lbp", "grid", self.grid, 1, 64)
        check_flag("lbp", "root", self.root)
        if self.image_shape is not None and min(self.image_shape[:2]) < self.grid + 2:
            height, width, _ = self.image_shape
            raise InputError(
                f"lbp: images of {height}x{width} pixels are too small for {self.grid}x{self.grid} regions",
                f"They need at least {self.grid + 2}x{self.grid + 2} pixels; or give a coarser grid (lbp:grid=)",
            )

    def fit(self, images: UInt8, rng: np.random.Generator) -> Self:
        """Bind to the image shape; nothing is learned."""
        return replace(self, image_shape=check_fit_images(images))

    def transform(self, images: UInt8) -> Float32:
        """Histograms (N, D), values in 0..1."""
        height, width, _ = check_transform_images(images, self.image_shape, self.name)
        return map_batches(self._kernel, images, self.n_features, cached_batch(height, width))

    def _kernel(self, images: UInt8, scratch: Scratch) -> Float32:
        from lastlayer.representations import word_kernels

        height, width = images.shape[1:3]
        light = scratch("lbp.light", images.shape[:3], np.int32)
        np.copyto(light, images[..., 0])
        for c in range(1, images.shape[3]):
            light += images[..., c]
        # regions of the pixels that have a pattern
        rows, columns = (np.arange(side - 2) * self.grid // (side - 2) for side in (height, width))
        counts: Float32 = scratch("lbp.counts", (len(images), self.grid**2, BINS))
        word_kernels.count_patterns(light, _bin_of_code(), rows, columns, self.grid, counts)
        pixels = np.outer(np.bincount(rows), np.bincount(columns)).reshape(-1, 1)
        counts /= pixels.astype(np.float32)
        if self.root:
            np.sqrt(counts, out=counts)
        return counts.reshape(len(images), -1)

    @property
    def n_features(self) -> int:
        """D."""
        fitted_shape(self.image_shape, self.name)
        return self.grid**2 * BINS

    def parameters(self) -> dict[str, Any]:
        """Return the constructor's parameters."""
        return {"grid": self.grid, "root": self.root}

    def arrays(self) -> dict[str, Array]:
        """Nothing is learned."""
        return {}

    def describe(self) -> str:
        """Grid and number of features."""
        return f"lbp: {BINS} local binary patterns, {self.grid}x{self.grid} grid, {self.n_features} features"

    def templates(self, W: FloatArray) -> tuple[Template, ...]:
        """Nothing to show: a pattern is no direction and no colour."""
        check_weights(W, self.n_features, self.name)
        return ()


@lru_cache(maxsize=1)
def _bin_of_code() -> IntArray:
    """Bin (256,) of every code: the uniform ones in order of the code, then 58 for all others."""
    bits = (np.arange(256)[:, None] >> np.arange(8)) & 1
    uniform = (bits != np.roll(bits, 1, axis=1)).sum(axis=1) <= 2
    bins = np.where(uniform, np.cumsum(uniform) - 1, BINS - 1)
    bins.flags.writeable = False
    return bins
