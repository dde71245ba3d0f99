"""Cropping: the same margin cut off on all four sides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import numpy as np

from lastlayer._arrays import Array, InputError, UInt8, check_images
from lastlayer.representations._checks import check_whole
from lastlayer.representations.base import Shape
from lastlayer.representations.steps import ImageStep


@final
@dataclass(frozen=True)
class Crop(ImageStep):
    """The middle of the image.

    Parameters
    ----------
    margin : int
        Pixels cut off on each side.
    """

    margin: int = 2

    name: ClassVar[str] = "crop"

    def __post_init__(self) -> None:
        check_whole("crop", "margin", self.margin, 1, 65_536)

    def shape(self, given: Shape) -> Shape:
        """(H - 2 margin, W - 2 margin, C)."""
        height, width, channels = given
        if min(height, width) <= 2 * self.margin:
            raise InputError(
                f"crop: nothing is left of images of {height}x{width} pixels without margins of {self.margin}",
                f"At least {2 * self.margin + 1} rows and columns are needed",
            )
        return height - 2 * self.margin, width - 2 * self.margin, channels

    def fit(self, images: UInt8, rng: np.random.Generator) -> Self:
        """Nothing is learned."""
        return self

    def transform(self, images: UInt8) -> UInt8:
        """The middle of each image."""
        check_images(images)
        self.shape((int(images.shape[1]), int(images.shape[2]), int(images.shape[3])))
        inside = slice(self.margin, -self.margin)
        return np.ascontiguousarray(images[:, inside, inside])

    def parameters(self) -> dict[str, Any]:
        """Return margin."""
        return {"margin": self.margin}

    def arrays(self) -> dict[str, Array]:
        """Nothing is learned."""
        return {}

    def describe(self) -> str:
        """The margin."""
        return f"without margins of {self.margin}"
