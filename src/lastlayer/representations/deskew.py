"""Deskewing: a shear and a shift that put what is bright upright and in the middle (LeCun et al. 1998, section III.A).

    m = Σ v(p),   (x̄, ȳ) = Σ v(p) p / m,   a = cov(x, y) / var(y)       weighted by the intensities v
    new(x, y) = v(x̄ + (x - x₀) + a (y - y₀),  ȳ + (y - y₀))             (x₀, y₀) the middle of the image

Values between pixels are bilinear. The slant of a handwritten digit is the slope of its intensities over the rows:
after the shear they are uncorrelated with the row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import numpy as np

from lastlayer._arrays import Array, Float32, Float64, UInt8
from lastlayer.representations._checks import check_choice
from lastlayer.representations.base import Shape
from lastlayer.representations.steps import ImageStep, map_images


@final
@dataclass(frozen=True)
class Deskew(ImageStep):
    """Upright and centred; an image without intensity stays as it is.

    Parameters
    ----------
    ground : {"black", "white"}
        What lies around the object, and comes in from outside the image: the intensities are values on black, and
        255 minus the value on white. Those of all channels are added.
    """

    ground: str = "black"

    name: ClassVar[str] = "deskew"

    def __post_init__(self) -> None:
        check_choice("deskew", "ground", self.ground, ("black", "white"))

    def shape(self, given: Shape) -> Shape:
        """As given."""
        return given

    def fit(self, images: UInt8, rng: np.random.Generator) -> Self:
        """Nothing is learned."""
        return self

    def transform(self, images: UInt8) -> UInt8:
        """Deskewed images."""
        return map_images(self._batch, images, images.shape[1:])

    def _batch(self, images: UInt8) -> Array:
        white = self.ground == "white"
        light = np.subtract(255, images, dtype=np.uint8) if white else images
        out = _resampled(light, *_moments(light))
        return np.subtract(np.float32(255), out, out=out) if white else out

    def parameters(self) -> dict[str, Any]:
        """Return ground."""
        return {"ground": self.ground}

    def arrays(self) -> dict[str, Array]:
        """Nothing is learned."""
        return {}

    def describe(self) -> str:
        """That images are deskewed."""
        return "deskewed"


def _moments(images: UInt8) -> tuple[Float64, Float64, Float64]:
    """Middle row, middle column and slant of every image (n,); sums of whole numbers, exact in float64."""
    mass = images.sum(axis=3, dtype=np.float64)
    rows, columns = (np.arange(size, dtype=np.float64) for size in mass.shape[1:])
    by_row = mass.sum(axis=2)
    total = by_row.sum(axis=1)
    empty = total == 0
    total = np.where(empty, 1.0, total)
    y = (by_row * rows).sum(axis=1) / total
    x = (mass.sum(axis=1) * columns).sum(axis=1) / total
    variance = (by_row * rows**2).sum(axis=1) / total - y**2
    covariance = ((mass * columns).sum(axis=2) * rows).sum(axis=1) / total - x * y
    slant = np.divide(covariance, variance, out=np.zeros_like(y), where=variance > 1e-9)
    return np.where(empty, (len(rows) - 1) / 2, y), np.where(empty, (len(columns) - 1) / 2, x), slant


def _resampled(images: UInt8, y: Float64, x: Float64, slant: Float64) -> Float32:
    """Bilinear values of the sheared and shifted images, 0 beyond their borders.

    The way from a new row to the old ones, and along a row, is the same for all its pixels: two rows are mixed, then
    neighbours within them.
    """
    n, height, width, channels = images.shape
    padded = np.zeros((n, height + 4, width + 4, channels), np.float32)
    padded[:, 2:-2, 2:-2] = images
    away = np.arange(height) - (height - 1) / 2
    first, share = _whole_and_rest(y[:, None] + away, height)
    number = np.arange(n)[:, None]
    mixed = padded[number, first] * (1 - share)[:, :, None, None]
    mixed += padded[number, first + 1] * share[:, :, None, None]
    shift = x[:, None] - (width - 1) / 2 + slant[:, None] * away
    whole = np.floor(shift)
    share = (shift - whole).astype(np.float32)[:, :, None, None]
    first = np.clip(whole[:, :, None] + np.arange(width), -2, width).astype(np.intp) + 2
    lines = (n * height, width + 4, channels)
    at = np.arange(n * height)[:, None]
    flat, first = mixed.reshape(lines), first.reshape(n * height, width)
    out: Float32 = flat[at, first].reshape(images.shape)
    out *= 1 - share
    out += flat[at, first + 1].reshape(images.shape) * share
    return out


def _whole_and_rest(place: Float64, size: int) -> tuple[Array, Float32]:
    """Number of the padded line at or before a place, and how far the place is towards the next."""
    whole = np.floor(place)
    return np.clip(whole, -2, size).astype(np.intp) + 2, (place - whole).astype(np.float32)
