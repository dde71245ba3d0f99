"""Smaller images: each new pixel is the mean of the area it covers, parts of pixels included."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import numpy as np

from lastlayer._arrays import Array, InputError, UInt8
from lastlayer.representations._checks import check_whole
from lastlayer.representations.base import Shape
from lastlayer.representations.pixels import _average
from lastlayer.representations.steps import ImageStep, map_images


@final
@dataclass(frozen=True)
class Resize(ImageStep):
    """Square images, never larger than given.

    Parameters
    ----------
    size : int
        Rows and columns.
    """

    size: int = 16

    name: ClassVar[str] = "resize"

    def __post_init__(self) -> None:
        check_whole("resize", "size", self.size, 1, 65_536)

    def shape(self, given: Shape) -> Shape:
        """(size, size, C)."""
        height, width, channels = given
        if self.size > min(height, width):
            raise InputError(
                f"resize: size={self.size} is larger than the images of {height}x{width} pixels",
                f"Images of at least {self.size}x{self.size} are needed",
            )
        return self.size, self.size, channels

    def fit(self, images: UInt8, rng: np.random.Generator) -> Self:
        """Nothing is learned."""
        return self

    def transform(self, images: UInt8) -> UInt8:
        """Smaller images."""
        return map_images(self._batch, images, self.shape((*map(int, images.shape[1:]),)))  # type: ignore[arg-type]

    def _batch(self, images: UInt8) -> Array:
        planes = images.transpose(3, 1, 2, 0).astype(np.float32)
        small = _average(_average(planes, 1, self.size), 2, self.size)
        return small.transpose(3, 1, 2, 0)

    def parameters(self) -> dict[str, Any]:
        """Return size."""
        return {"size": self.size}

    def arrays(self) -> dict[str, Array]:
        """Nothing is learned."""
        return {}

    def describe(self) -> str:
        """The size."""
        return f"reduced to {self.size}x{self.size}"
