"""A+B: the features of several representations side by side, φ(x) = [φ₁(x), φ₂(x), …]."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, final

import numpy as np

from lastlayer._arrays import Array, Float32, FloatArray, InputError, UInt8
from lastlayer.representations._batches import batch_size
from lastlayer.representations.base import (
    Representation,
    Shape,
    Template,
    check_transform_images,
    check_weights,
)


@final
@dataclass(frozen=True)
class Concatenate(Representation):
    """Features of the parts, one after the other.

    Parameters
    ----------
    parts : tuple of Representation
        At least two.
    """

    parts: tuple[Representation, ...]

    name: ClassVar[str] = "concatenate"

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(self.parts))
        if len(self.parts) < 2:
            raise InputError(f"concatenate has {len(self.parts)} parts; two or more are needed")
        if len({part.image_shape for part in self.parts}) > 1:
            raise InputError("concatenate: the parts were fitted on images of different shapes")

    @property
    def image_shape(self) -> Shape | None:
        """(H, W, C), the same for all parts."""
        return self.parts[0].image_shape

    def fit(self, images: UInt8, rng: np.random.Generator) -> Self:
        """Fit the parts one after the other."""
        return replace(self, parts=tuple(part.fit(images, rng) for part in self.parts))

    def transform(self, images: UInt8) -> Float32:
        """Features (N, D) in the order of the parts."""
        shape = check_transform_images(images, self.image_shape, self.name)
        out = np.empty((len(images), self.n_features), np.float32)
        rows = 32 * batch_size(*shape[:2])  # blocks: the parts' own matrices stay small
        for start in range(0, len(images), rows):
            block = np.asarray(images[start : start + rows])
            for part, columns in self._columns():
                out[start : start + rows, columns] = part.transform(block)
        return out

    @property
    def n_features(self) -> int:
        """D, the sum over the parts."""
        return sum(part.n_features for part in self.parts)

    def parameters(self) -> dict[str, Any]:
        """Nothing beside the parts."""
        return {}

    def arrays(self) -> dict[str, Array]:
        """Arrays of the parts, each name after the part's number and a dot."""
        return {f"{i}.{name}": a for i, part in enumerate(self.parts) for name, a in part.arrays().items()}

    def describe(self) -> str:
        """Lines of the parts, joined."""
        return "; ".join(part.describe() for part in self.parts)

    def templates(self, W: FloatArray) -> tuple[Template, ...]:
        """Pictures of every part."""
        W = check_weights(W, self.n_features, self.name)
        return tuple(template for part, rows in self._columns() for template in part.templates(W[rows]))

    def _columns(self) -> Iterator[tuple[Representation, slice]]:
        start = 0
        for part in self.parts:
            yield part, slice(start, start + part.n_features)
            start += part.n_features
