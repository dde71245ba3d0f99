"""Standardised features rounded to bytes: a quarter of float32's memory, for many wide features.

    u = ⌊96.5 + 16 (z - μ)/σ⌋ cut to 0..255

Rounding adds 1/55 of a standard deviation of noise to each feature; values more than 6 standard deviations below the
mean or 10 above it are cut: features are seldom negative, and have their tails above. The bytes are the features:
what is fitted, scored and saved sees the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, final

import numpy as np

from lastlayer._arrays import Array, Float32, FloatArray, InputError, UInt8
from lastlayer.representations.base import Representation, Shape, Template, check_weights
from lastlayer.representations.standardise import Standardised

STEPS = 16.0
"""Steps to a standard deviation. A penalty on weights for bytes is 16² times one for standardised features."""
MIDDLE = 96.0


@final
@dataclass(frozen=True, eq=False)
class Rounded(Representation):
    """A standardised representation in steps of 1/16 of a standard deviation, as whole numbers 0..255.

    Parameters
    ----------
    base : Standardised
    """

    base: Standardised

    name: ClassVar[str] = "rounded"

    def __post_init__(self) -> None:
        if not isinstance(self.base, Standardised):
            raise InputError("rounded: the base is not standardised")

    @property
    def image_shape(self) -> Shape | None:
        """(H, W, C) of the base."""
        return self.base.image_shape

    @property
    def n_features(self) -> int:
        """D of the base."""
        return self.base.n_features

    def fit(self, images: UInt8, rng: np.random.Generator) -> Self:
        """Fit the base."""
        return replace(self, base=self.base.fit(images, rng))

    def transform(self, images: UInt8) -> Float32:
        """Whole numbers 0..255 (N, D), as float32."""
        return self._bytes(self.base.transform(images)).astype(np.float32)

    def encode(self, Z: Float32) -> UInt8:
        """Bytes (n, D) of features (n, D) that are not yet standardised."""
        return self._bytes(self.base.apply(Z))

    def _bytes(self, Z: Float32) -> UInt8:
        """Of standardised features, which are overwritten."""
        Z *= np.float32(STEPS)
        Z += np.float32(MIDDLE + 0.5)
        np.clip(Z, 0, 255, out=Z)
        return Z.astype(np.uint8)  # cuts off what follows the point: ½ was added before

    def parameters(self) -> dict[str, Any]:
        """Nothing beside the base."""
        return {}

    def arrays(self) -> dict[str, Array]:
        """The base's arrays with "base." before their names."""
        return {f"base.{name}": a for name, a in self.base.arrays().items()}

    def describe(self) -> str:
        """The base's line, and that it is rounded."""
        return f"{self.base.describe()}, rounded to bytes"

    def templates(self, W: FloatArray) -> tuple[Template, ...]:
        """Pictures of the weights as they act on standardised features."""
        return self.base.templates(check_weights(W, self.n_features, self.name) * np.float32(STEPS))
