"""Local products: what a linear classifier needs to see strokes, every pixel times its neighbours.

    φ(x) = (x(p), …, x(p) x(p + d), …),   d in the half of the square |d| ≤ r that is not its own mirror image

These are the terms of the quadratic kernel between pixels that lie near each other; the others say little about an
image, and there are too many of them. (Pairs of pixels as features of a linear classifier: the MNIST demonstration of
Vowpal Wabbit, Langford et al. 2007.)
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self, final

import numpy as np

from lastlayer._arrays import Array, Float32, FloatArray, InputError, UInt8
from lastlayer.representations._batches import Scratch, batch_size, map_batches
from lastlayer.representations._checks import check_whole
from lastlayer.representations.base import (
    Representation,
    Shape,
    Template,
    check_fit_images,
    check_transform_images,
    check_weights,
    fitted_shape,
)

_MOST = 16


@final
@dataclass(frozen=True)
class Products(Representation):
    """Pixels in 0..1, and products of two of the same channel that are near each other.

    Parameters
    ----------
    radius : int
        r: most rows and columns between the two.

    Shapes
    ------
    The H W C pixels, then for every offset (dy, dx) from (0, 1) on, row by row, the products of the pixels that have a
    partner, in C order (row, column, channel).
    """

    radius: int = 2
    image_shape: Shape | None = field(default=None, kw_only=True, repr=False)

    name: ClassVar[str] = "products"

    def __post_init__(self) -> None:
        check_whole("products", "radius", self.radius, 1, _MOST)
        if self.image_shape is not None:
            self._check_shape(self.image_shape)

    def _check_shape(self, shape: Shape) -> None:
        if self.radius >= min(shape[:2]):
            raise InputError(
                f"products: radius={self.radius} in images of {shape[0]}x{shape[1]} pixels",
                f"Images of at least {self.radius + 1}x{self.radius + 1} are needed; or give a smaller radius",
            )

    def fit(self, images: UInt8, rng: np.random.Generator) -> Self:
        """Bind to the image shape; nothing is learned."""
        return replace(self, image_shape=check_fit_images(images))

    def transform(self, images: UInt8) -> Float32:
        """Features (N, D)."""
        height, width, _ = check_transform_images(images, self.image_shape, self.name)
        return map_batches(self._kernel, images, self.n_features, max(1, batch_size(height, width) // 4))

    def _kernel(self, images: UInt8, scratch: Scratch) -> Float32:
        n, height, width, channels = images.shape
        values = scratch("values", images.shape)
        np.true_divide(images, np.float32(255), out=values, dtype=np.float32)
        out: Float32 = scratch("out", (n, self.n_features))
        at = height * width * channels
        out[:, :at] = values.reshape(n, -1)
        for dy, dx in self._offsets():
            rows, columns = height - dy, width - abs(dx)
            left = max(0, -dx)
            first = values[:, :rows, left : left + columns]
            second = values[:, dy:, left + dx : left + dx + columns]
            size = rows * columns * channels
            np.multiply(first, second, out=out[:, at : at + size].reshape(first.shape))
            at += size
        return out

    def _offsets(self) -> list[tuple[int, int]]:
        r = self.radius
        return [(dy, dx) for dy in range(r + 1) for dx in range(-r, r + 1) if dy > 0 or dx > 0]

    @property
    def n_features(self) -> int:
        """D."""
        height, width, channels = fitted_shape(self.image_shape, self.name)
        pairs = sum((height - dy) * (width - abs(dx)) for dy, dx in self._offsets())
        return (height * width + pairs) * channels

    def parameters(self) -> dict[str, Any]:
        """Return radius."""
        return {"radius": self.radius}

    def arrays(self) -> dict[str, Array]:
        """Nothing is learned."""
        return {}

    def describe(self) -> str:
        """Radius and number of features."""
        height, width, _ = fitted_shape(self.image_shape, self.name)
        return f"products of pixels up to {self.radius} apart: {height}x{width}, {self.n_features} features"

    def templates(self, W: FloatArray) -> tuple[Template, ...]:
        """Products of two pixels have no picture."""
        check_weights(W, self.n_features, self.name)
        return ()
