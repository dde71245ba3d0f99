"""Steps on images, a representation, maps of its features: φ(x) = (mₖ ∘ … ∘ m₁ ∘ φ₀ ∘ sⱼ ∘ … ∘ s₁)(x)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self, final

import numpy as np

from lastlayer._arrays import Array, Float32, FloatArray, InputError, UInt8
from lastlayer.representations.base import (
    Representation,
    Shape,
    Template,
    check_fit_images,
    check_transform_images,
    check_weights,
    fitted_shape,
)
from lastlayer.representations.maps import FeatureMap
from lastlayer.representations.steps import ImageStep

_FIT_NUMBERS = 2**28
"""Most features on which a map is fitted, 1 GiB: more rows are drawn from."""
_BLOCK_NUMBERS = 2**24
_LEAST_IMAGES, _MOST_IMAGES = 64, 4096
"""Of a block, which has as many as make `_BLOCK_NUMBERS` features."""
_MOST = 16


@final
@dataclass(frozen=True, eq=False)
class Chain(Representation):
    """A representation between steps on images and maps of features.

    Parameters
    ----------
    steps : tuple of ImageStep
        Applied to the images, the first one first.
    base : Representation
        φ₀.
    maps : tuple of FeatureMap
        Applied to the features, the first one first.
    image_shape : (H, W, C), optional
        Of the images given, before the steps; None before `fit`.
    """

    steps: tuple[ImageStep, ...]
    base: Representation
    maps: tuple[FeatureMap, ...]
    image_shape: Shape | None = field(default=None, kw_only=True, repr=False)

    name: ClassVar[str] = "chain"

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(self.steps))
        object.__setattr__(self, "maps", tuple(self.maps))
        if not self.steps and not self.maps:
            raise InputError("chain has neither steps nor maps")
        if len(self.steps) > _MOST or len(self.maps) > _MOST:
            raise InputError(f"chain has {len(self.steps)} steps and {len(self.maps)} maps; {_MOST} of each at most")
        if self.image_shape is None:
            return
        seen = self._inner_shape(self.image_shape)
        if self.base.image_shape != seen:
            raise InputError(f"chain: {self.base.name} was fitted on images of {self.base.image_shape}, not of {seen}")
        self._widths()

    def _inner_shape(self, shape: Shape) -> Shape:
        """What the base sees."""
        for step in self.steps:
            shape = step.shape(shape)
        return shape

    def _widths(self) -> list[int]:
        """D before and after every map."""
        widths = [self.base.n_features]
        for part in self.maps:
            widths.append(part.width(widths[-1]))
        return widths

    def fit(self, images: UInt8, rng: np.random.Generator) -> Self:
        """Fit steps, base and maps one after the other, each on what those before it give.

        Maps are fitted on as many rows, drawn at random, as make a gigabyte of features. What the steps make of all
        images is held at once.
        """
        shape = check_fit_images(images)
        self._inner_shape(shape)
        seen, steps = images, []
        for step in self.steps:
            steps.append(step.fit(seen, rng))
            seen = steps[-1].transform(seen)
        base = self.base.fit(seen, rng)
        return replace(
            self, steps=tuple(steps), base=base, maps=_fit_maps(self.maps, base, seen, rng), image_shape=shape
        )

    def transform(self, images: UInt8) -> Float32:
        """Features (N, D), block by block."""
        check_transform_images(images, self.image_shape, self.name)
        widths = self._widths()
        out = np.empty((len(images), widths[-1]), np.float32)
        rows = int(np.clip(_BLOCK_NUMBERS // max(widths), _LEAST_IMAGES, _MOST_IMAGES))
        for start in range(0, len(images), rows):
            seen = np.asarray(images[start : start + rows])
            for step in self.steps:
                seen = step.transform(seen)
            Z = self.base.transform(seen)
            for part in self.maps:
                Z = part.transform(Z)
            out[start : start + len(Z)] = Z
        return out

    @property
    def n_features(self) -> int:
        """D after the last map."""
        fitted_shape(self.image_shape, self.name)
        return self._widths()[-1]

    def parameters(self) -> dict[str, Any]:
        """Nothing beside the parts."""
        return {}

    def arrays(self) -> dict[str, Array]:
        """Arrays of the parts, after "step0.", "base." and "map0."."""
        found = {f"base.{name}": array for name, array in self.base.arrays().items()}
        links: dict[str, Sequence[ImageStep | FeatureMap]] = {"step": self.steps, "map": self.maps}
        for kind, parts in links.items():
            for i, part in enumerate(parts):
                found |= {f"{kind}{i}.{name}": array for name, array in part.arrays().items()}
        return found

    def describe(self) -> str:
        """What is done, in its order."""
        parts = [step.describe() for step in self.steps]
        parts += [self.base.describe(), *(part.describe() for part in self.maps)]
        return " → ".join(parts)

    def templates(self, W: FloatArray) -> tuple[Template, ...]:
        """Pictures of the base, where the maps are linear; they show images as they are after the steps."""
        V: FloatArray | None = check_weights(W, self.n_features, self.name)
        for part in reversed(self.maps):
            V = None if V is None else part.pull_back(V)
        if V is None:
            return ()
        after = f" Seen are images that were {' and '.join(s.describe() for s in self.steps)}." if self.steps else ""
        return tuple(replace(shown, note=shown.note + after) for shown in self.base.templates(V))


def _fit_maps(
    maps: Sequence[FeatureMap], base: Representation, images: UInt8, rng: np.random.Generator
) -> tuple[FeatureMap, ...]:
    """Fit every map on the features that come to it; nothing is computed for maps that learn nothing."""
    fitted: list[FeatureMap] = []
    ahead: list[FeatureMap] = []  # fitted, but Z has not gone through them
    Z: Float32 | None = None
    for part in maps:
        if part.learns:
            if Z is None:
                Z = base.transform(_drawn(images, base.n_features, rng))
            for before in ahead:
                Z = before.transform(_drawn(Z, before.width(Z.shape[1]), rng))
            ahead = []
            Z = _drawn(Z, Z.shape[1], rng)
            part = part.fit(Z, rng)
        fitted.append(part)
        ahead.append(part)
    return tuple(fitted)


def _drawn(rows: Array, width: int, rng: np.random.Generator) -> Array:
    """As many rows, in their order, as may have `width` features each."""
    most = max(1, _FIT_NUMBERS // width)
    return rows if len(rows) <= most else rows[np.sort(rng.choice(len(rows), most, replace=False))]
