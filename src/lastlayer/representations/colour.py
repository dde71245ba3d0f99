"""Colour histograms over a grid: how much of each hue, saturation and value (or L*, a*, b*) is where.

For each region r of the grid and each channel c with its bins k::

    φ[r, c, k] = √( mean over the region's pixels of  a_c(pixel) · w_k(value of channel c) )

where w_k is 1 in bin k (hard), or the linear hat around its middle (soft), and a_c is 1 but for the hue, where it
is the saturation: gray has no hue to vote for. The square root is the Hellinger map.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, ClassVar, Self, final

import numpy as np

from lastlayer._arrays import Array, Float32, FloatArray, InputError, UInt8
from lastlayer.representations._batches import Scratch, batch_size, images_last, map_batches
from lastlayer.representations._checks import check_choice, check_flag, check_whole
from lastlayer.representations.base import (
    Representation,
    Shape,
    Template,
    check_fit_images,
    check_transform_images,
    check_weights,
    fitted_shape,
)
from lastlayer.representations.colour_spaces import linear_to_lab, rgb_to_hsv, srgb_to_linear
from lastlayer.representations.pooling import pool_regions

# photographs hold few colours further out; those count for the outermost bin
_LAB_REACH = 50.0


@final
@dataclass(frozen=True)
class Colour(Representation):
    """Histograms of each channel of a colour space over a grid.

    Parameters
    ----------
    space : {"hsv", "lab"}
        Hue, saturation, value; or CIE L*a*b* (white point D65), where a* and b* beyond ±50 count for the last bin.
    bins : int
        Bins of each channel.
    grid : int
        Regions down and across.
    soft : bool
        Share a pixel linearly between the two nearest bins, whose middles lie at both ends of the range.
    root : bool
        Take the square root of the histograms.

    Shapes
    ------
    Features are in C order (region row, region column, channel, bin). Gray images have one channel, their
    brightness.
    """

    space: str = "hsv"
    bins: int = 8
    grid: int = 4
    soft: bool = True
    root: bool = True
    image_shape: Shape | None = field(default=None, kw_only=True, repr=False)

    name: ClassVar[str] = "colour"

    def __post_init__(self) -> None:
        check_choice("colour", "space", self.space, ("hsv", "lab"))
        check_whole("colour", "bins", self.bins, 2, 256)
        check_whole("colour", "grid", self.grid, 1, 64)
        check_flag("colour", "soft", self.soft)
        check_flag("colour", "root", self.root)
        if self.image_shape is not None:
            self._check_shape(self.image_shape)

    def _check_shape(self, shape: Shape) -> None:
        height, width, _ = shape
        if min(height, width) < self.grid:
            raise InputError(
                f"colour: images of {height}x{width} pixels are smaller than the grid of {self.grid}x{self.grid}",
                f"They need at least {self.grid}x{self.grid} pixels; or give a coarser grid (colour:grid=)",
            )

    def fit(self, images: UInt8, rng: np.random.Generator) -> Self:
        """Bind to the image shape; nothing is learned."""
        return replace(self, image_shape=check_fit_images(images))

    def transform(self, images: UInt8) -> Float32:
        """Histograms (N, D), values in 0..1."""
        height, width, _ = check_transform_images(images, self.image_shape, self.name)
        return map_batches(self._kernel, images, self.n_features, batch_size(height, width))

    def _kernel(self, images: UInt8, scratch: Scratch) -> Float32:
        channels = self._positions(images_last(images, scratch))
        n = len(images)
        votes: Float32 = scratch("colour.votes", channels[0][0].shape)
        features = scratch("colour.features", (len(channels), self.bins, self.grid, self.grid, n))
        for c, (position, amount, circular) in enumerate(channels):
            for k in range(self.bins):
                _hat_votes(position, k, self.bins, circular, votes, scratch)
                if amount is not None:
                    votes *= amount
                pool_regions(votes, self.grid, features[c, k], scratch)
        if self.root:
            np.sqrt(features, out=features)
        return features.transpose(4, 2, 3, 0, 1).reshape(n, -1)

    def _positions(self, planes: Float32) -> list[tuple[Float32, Float32 | None, bool]]:
        """Each channel in units of bins, what a pixel counts for, and whether the channel is a circle."""
        if len(planes) == 1:
            return [(self._to_bins(planes[0] / np.float32(255)), None, False)]
        if self.space == "lab":
            light, a, b = linear_to_lab(_linear_levels().take(planes.astype(np.intp)))
            reach = np.float32(2 * _LAB_REACH)
            unit = (light / np.float32(100), a / reach + np.float32(0.5), b / reach + np.float32(0.5))
            return [(self._to_bins(channel), None, False) for channel in unit]
        hue, saturation, value = rgb_to_hsv(planes / np.float32(255))
        # the first hue bin lies around pure red when soft, and starts there when hard
        turn = hue * np.float32(self.bins)
        return [
            (turn if self.soft else np.floor(turn), saturation, True),
            (self._to_bins(saturation), None, False),
            (self._to_bins(value), None, False),
        ]

    def _to_bins(self, unit: Float32) -> Float32:
        """0..1 to positions: bin middles at 0 and 1 (soft), or bin edges there (hard)."""
        last = np.float32(self.bins - 1)
        position: Float32 = unit * last if self.soft else np.floor(unit * np.float32(self.bins))
        np.clip(position, np.float32(0), last, out=position)
        return position

    @property
    def n_features(self) -> int:
        """D = grid² · channels · bins."""
        channels = fitted_shape(self.image_shape, self.name)[2]
        return self.grid**2 * channels * self.bins

    def parameters(self) -> dict[str, Any]:
        """Return the constructor's parameters."""
        return {
            "space": self.space,
            "bins": self.bins,
            "grid": self.grid,
            "soft": self.soft,
            "root": self.root,
        }

    def arrays(self) -> dict[str, Array]:
        """Nothing is learned."""
        return {}

    def describe(self) -> str:
        """Space, grid and number of features."""
        gray = fitted_shape(self.image_shape, self.name)[2] == 1
        space = "brightness" if gray else {"hsv": "HSV", "lab": "L*a*b*"}[self.space]
        return f"colour: {space}, {self.bins} bins a channel, {self.grid}x{self.grid} grid, {self.n_features} features"

    def templates(self, W: FloatArray) -> tuple[Template, ...]:
        """The bins as swatches, sorted by their weight over the whole picture."""
        from lastlayer.representations.swatches import bin_swatches, draw_swatches

        channels = fitted_shape(self.image_shape, self.name)[2]
        weights = check_weights(W, self.n_features, self.name)
        mean = weights.reshape(self.grid**2, channels * self.bins, -1).mean(axis=0)
        space = self.space if channels == 3 else "gray"
        note = (
            "Colour bins sorted by their weight, averaged over the grid: those that speak for the class on top (blue "
            "bars), those against it at the bottom (red bars). A strip of all hues stands for a saturation."
        )
        return (Template("colour", note, draw_swatches(mean, bin_swatches(space, self.bins, _LAB_REACH))),)


def _hat_votes(position: Float32, k: int, bins: int, circular: bool, votes: Float32, scratch: Scratch) -> None:
    """Fill votes with max(0, 1 − |position − k|), on a circle of `bins` if circular."""
    np.subtract(position, np.float32(k), out=votes)
    np.abs(votes, out=votes)
    if circular and k == 0:
        around = np.subtract(np.float32(bins), position, out=scratch("colour.around", votes.shape))
        np.minimum(votes, around, out=votes)
    np.clip(votes, np.float32(0), np.float32(1), out=votes)
    np.subtract(np.float32(1), votes, out=votes)


@lru_cache(maxsize=1)
def _linear_levels() -> Float32:
    table = srgb_to_linear(np.arange(256, dtype=np.float32) / np.float32(255))
    table.flags.writeable = False
    return table
