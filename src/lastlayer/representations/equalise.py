"""Histogram equalisation: grey values by their rank.

    new(v) = 255 (F(v) - F₀) / (n - F₀)

F(v) counts the image's values up to v, F₀ is the count of its smallest value, n of all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import numpy as np

from lastlayer._arrays import Array, UInt8
from lastlayer.representations.base import Shape
from lastlayer.representations.steps import ImageStep, map_images


@final
@dataclass(frozen=True)
class Equalise(ImageStep):
    """One histogram for all channels of an image; an image of a single value stays as it is."""

    name: ClassVar[str] = "equalise"

    def shape(self, given: Shape) -> Shape:
        """As given."""
        return given

    def fit(self, images: UInt8, rng: np.random.Generator) -> Self:
        """Nothing is learned."""
        return self

    def transform(self, images: UInt8) -> UInt8:
        """Equalised images."""
        return map_images(_equalise, images, images.shape[1:])

    def parameters(self) -> dict[str, Any]:
        """No parameters."""
        return {}

    def arrays(self) -> dict[str, Array]:
        """Nothing is learned."""
        return {}

    def describe(self) -> str:
        """That histograms are equalised."""
        return "histogram equalised"


def _equalise(images: UInt8) -> Array:
    n, size = len(images), images[0].size
    values = images.reshape(n, -1) + 256 * np.arange(n)[:, None]
    counts = np.bincount(values.ravel(), minlength=256 * n).reshape(n, 256)
    up_to = counts.cumsum(axis=1)
    smallest = np.take_along_axis(up_to, (counts > 0).argmax(axis=1)[:, None], axis=1)
    flat = (smallest == size).ravel()
    table = np.rint(255.0 * np.maximum(up_to - smallest, 0) / np.where(flat[:, None], 1, size - smallest))
    table[flat] = np.arange(256)
    return np.asarray(table.astype(np.uint8).ravel()[values].reshape(images.shape))
