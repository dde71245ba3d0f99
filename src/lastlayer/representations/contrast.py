"""Contrast normalisation: every image has the same mean and spread. new = 128 + s (v - mean) / max(deviation, f)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import numpy as np

from lastlayer._arrays import Array, UInt8
from lastlayer.representations.base import Shape
from lastlayer.representations.maps import check_number
from lastlayer.representations.steps import ImageStep, map_images


@final
@dataclass(frozen=True)
class Contrast(ImageStep):
    """Mean and standard deviation over all pixels and channels of an image; values beyond 0 and 255 are cut off.

    Parameters
    ----------
    spread : float
        s, the deviation that images get.
    floor : float
        f, the deviation below which an image counts as flat: its noise is not made larger.
    """

    spread: float = 50.0
    floor: float = 8.0

    name: ClassVar[str] = "contrast"

    def __post_init__(self) -> None:
        object.__setattr__(self, "spread", check_number("contrast", "spread", self.spread, 1.0, 128.0))
        object.__setattr__(self, "floor", check_number("contrast", "floor", self.floor, 0.1, 128.0))

    def shape(self, given: Shape) -> Shape:
        """As given."""
        return given

    def fit(self, images: UInt8, rng: np.random.Generator) -> Self:
        """Nothing is learned."""
        return self

    def transform(self, images: UInt8) -> UInt8:
        """Images of the same contrast."""
        return map_images(self._batch, images, images.shape[1:])

    def _batch(self, images: UInt8) -> Array:
        rows = images.reshape(len(images), -1).astype(np.float64)
        mean = rows.mean(axis=1)  # sums of whole numbers: exact
        variance = np.maximum(np.square(rows).mean(axis=1) - mean**2, 0.0)
        scale = self.spread / np.maximum(np.sqrt(variance), self.floor)
        values = 128.0 + (rows - mean[:, None]) * scale[:, None]
        return np.asarray(np.clip(values, 0, 255).reshape(images.shape))

    def parameters(self) -> dict[str, Any]:
        """Return spread and floor."""
        return {"spread": self.spread, "floor": self.floor}

    def arrays(self) -> dict[str, Array]:
        """Nothing is learned."""
        return {}

    def describe(self) -> str:
        """The deviation."""
        return f"contrast normalised (deviation {self.spread:g})"
