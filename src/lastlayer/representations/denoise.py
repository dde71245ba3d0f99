"""Noise removal on a black ground: values below a threshold become 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import numpy as np

from lastlayer._arrays import Array, UInt8
from lastlayer.representations._checks import check_whole
from lastlayer.representations.base import Shape
from lastlayer.representations.steps import ImageStep, map_images


@final
@dataclass(frozen=True)
class Denoise(ImageStep):
    """Small values are noise; `Median` removes single pixels instead.

    Parameters
    ----------
    below : int
        The first value that is kept.
    """

    below: int = 64

    name: ClassVar[str] = "denoise"

    def __post_init__(self) -> None:
        check_whole("denoise", "below", self.below, 1, 255)

    def shape(self, given: Shape) -> Shape:
        """As given."""
        return given

    def fit(self, images: UInt8, rng: np.random.Generator) -> Self:
        """Nothing is learned."""
        return self

    def transform(self, images: UInt8) -> UInt8:
        """Images without small values."""
        return map_images(lambda batch: batch * (batch >= self.below), images, images.shape[1:])

    def parameters(self) -> dict[str, Any]:
        """Return below."""
        return {"below": self.below}

    def arrays(self) -> dict[str, Array]:
        """Nothing is learned."""
        return {}

    def describe(self) -> str:
        """The threshold."""
        return f"values below {self.below} removed"
