"""Median of the 3×3 neighbourhood: removes single pixels and keeps edges (Tukey 1977)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import numpy as np

from lastlayer._arrays import Array, UInt8
from lastlayer.representations.base import Shape
from lastlayer.representations.steps import ImageStep, map_images


@final
@dataclass(frozen=True)
class Median(ImageStep):
    """The middle one of nine neighbours, channel by channel; the border goes on outside as it is."""

    name: ClassVar[str] = "median"

    def shape(self, given: Shape) -> Shape:
        """As given."""
        return given

    def fit(self, images: UInt8, rng: np.random.Generator) -> Self:
        """Nothing is learned."""
        return self

    def transform(self, images: UInt8) -> UInt8:
        """Filtered images."""
        return map_images(_middle_of_nine, images, images.shape[1:])

    def parameters(self) -> dict[str, Any]:
        """No parameters."""
        return {}

    def arrays(self) -> dict[str, Array]:
        """Nothing is learned."""
        return {}

    def describe(self) -> str:
        """That there is a filter."""
        return "3x3 median"


def _middle_of_nine(images: UInt8) -> UInt8:
    """Sort each column of three; the median is that of the largest low, the middle middle and the smallest high."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    low, middle, high = _sorted(padded[:, :-2], padded[:, 1:-1], padded[:, 2:])
    lows, middles, highs = ([part[:, :, k : k + images.shape[2]] for k in range(3)] for part in (low, middle, high))
    largest_low = np.maximum(np.maximum(lows[0], lows[1]), lows[2])
    smallest_high = np.minimum(np.minimum(highs[0], highs[1]), highs[2])
    return _sorted(largest_low, _sorted(*middles)[1], smallest_high)[1]


def _sorted(a: UInt8, b: UInt8, c: UInt8) -> tuple[UInt8, UInt8, UInt8]:
    low, high = np.minimum(a, b), np.maximum(a, b)
    return np.minimum(low, c), np.maximum(low, np.minimum(high, c)), np.maximum(high, c)
