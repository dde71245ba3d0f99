"""Gaussian blur: small shifts of strokes then change the pixels less. Weights exp(-k² / 2σ²), cut off at 3σ."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import numpy as np

from lastlayer._arrays import Array, Float32, UInt8
from lastlayer.representations.base import Shape
from lastlayer.representations.maps import check_number
from lastlayer.representations.steps import ImageStep, map_images


@final
@dataclass(frozen=True)
class Blur(ImageStep):
    """Weighted means of neighbours, rows and columns one after the other; the border goes on outside as it is.

    Parameters
    ----------
    sigma : float
        σ in pixels.
    """

    sigma: float = 1.0

    name: ClassVar[str] = "blur"

    def __post_init__(self) -> None:
        object.__setattr__(self, "sigma", check_number("blur", "sigma", self.sigma, 0.1, 64.0))

    def shape(self, given: Shape) -> Shape:
        """As given."""
        return given

    def fit(self, images: UInt8, rng: np.random.Generator) -> Self:
        """Nothing is learned."""
        return self

    def transform(self, images: UInt8) -> UInt8:
        """Blurred images."""
        return map_images(self._batch, images, images.shape[1:])

    def _batch(self, images: UInt8) -> Array:
        reach = math.ceil(3 * self.sigma)
        weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / self.sigma) ** 2)
        weights = (weights / weights.sum()).astype(np.float32)
        return _mean_along(_mean_along(images.astype(np.float32), 1, weights), 2, weights)

    def parameters(self) -> dict[str, Any]:
        """Return sigma."""
        return {"sigma": self.sigma}

    def arrays(self) -> dict[str, Array]:
        """Nothing is learned."""
        return {}

    def describe(self) -> str:
        """That images are blurred, and σ."""
        return f"blurred (σ = {self.sigma:g})"


def _mean_along(values: Float32, axis: int, weights: Float32) -> Float32:
    """``Σ weights[k] values[… + k - reach …]`` along one axis."""
    reach, size = len(weights) // 2, values.shape[axis]
    around = [(0, 0)] * values.ndim
    around[axis] = (reach, reach)
    padded = np.moveaxis(np.pad(values, around, mode="edge"), axis, 1)
    out = padded[:, :size] * weights[0]
    for k in range(1, len(weights)):
        out += padded[:, k : k + size] * weights[k]
    return np.moveaxis(out, 1, axis)
