"""Views of an image (its mirror image, small shifts), and features averaged over them.

    φ̄(x) = (1/V) Σ_v φ(v(x))

Scores are linear in the features, so that averaging scores over views is averaging features:
(1/V) Σ_v (φ(v(x)) W + b) = φ̄(x) W + b. A classifier with views is therefore one on φ̄, and nothing else changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, final

import numpy as np

from lastlayer._arrays import Array, Float32, FloatArray, InputError, UInt8
from lastlayer.representations._checks import check_flag, check_whole
from lastlayer.representations.base import Representation, Shape, Template

_LARGEST_SHIFT = 64
_ROWS = 1024  # images whose views are held at once


@final
@dataclass(frozen=True)
class Views:
    """Which views of an image are looked at beside itself.

    Parameters
    ----------
    flip : bool
        Left and right exchanged.
    shift : int
        Pixels by which it is moved up, down, left and right; what leaves is lost, and the edge is repeated where
        nothing comes in. 0: not moved.

    With both there are ten views: the image and its four shifts, each as it is and mirrored.

    Examples
    --------
    >>> Views.parse("flip,shift=2"), len(Views.parse("flip,shift=2"))
    (Views(flip=True, shift=2), 10)
    """

    flip: bool = False
    shift: int = 0

    def __post_init__(self) -> None:
        check_flag("views", "flip", self.flip)
        check_whole("views", "shift", self.shift, 0, _LARGEST_SHIFT)

    @classmethod
    def parse(cls, text: str) -> Views:
        """Read ``flip``, ``shift=1`` or both with a comma between; "" is the image alone."""
        given: dict[str, Any] = {}
        for part in text.split(",") if text.strip() else []:
            key, equals, value = (piece.strip() for piece in part.partition("="))
            if key in given or key not in ("flip", "shift") or (key == "flip") == bool(equals):
                raise InputError(f"views {text!r:.60} cannot be read", "Write flip, shift=1 or flip,shift=1")
            if key == "shift" and not (value.isascii() and value.isdecimal() and len(value) < 4):
                raise InputError(f"views {text!r:.60}: shift={value} is no number of pixels", "Write shift=1")
            given[key] = True if key == "flip" else int(value)
        return cls(**given)

    @property
    def text(self) -> str:
        """What `parse` reads."""
        return ",".join(["flip"] * self.flip + [f"shift={self.shift}"] * bool(self.shift))

    @property
    def moves(self) -> tuple[tuple[bool, int, int], ...]:
        """(mirrored, rows down, columns right) of every view; the image itself is the first."""
        s = self.shift
        shifts = [(0, 0), *([(-s, 0), (s, 0), (0, -s), (0, s)] if s else [])]
        return tuple((mirrored, *move) for mirrored in ([False, True] if self.flip else [False]) for move in shifts)

    def __len__(self) -> int:
        return len(self.moves)

    def of(self, images: UInt8) -> Iterator[UInt8]:
        """Every view of the images (N, H, W, C), each of that shape."""
        return (view(images, move) for move in self.moves)


def view(images: UInt8, move: tuple[bool, int, int]) -> UInt8:
    """The images (N, H, W, C), first moved by rows and columns, then mirrored."""
    mirrored, down, right = move
    for axis, by in ((1, down), (2, right)):
        if by:
            length = images.shape[axis]
            images = np.take(images, np.clip(np.arange(length) - by, 0, length - 1), axis=axis)
    return images[:, :, ::-1] if mirrored else images


def mean_of(parts: Iterator[Float32]) -> Float32:
    """Mean of the views' features in their order: additions one by one, so that it has the same bits everywhere."""
    total: Float32 = np.array(next(parts))
    count = 1
    for part in parts:
        total += part
        count += 1
    total /= np.float32(count)
    return total


@final
@dataclass(frozen=True, eq=False)
class Averaged(Representation):
    """Features averaged over views.

    Parameters
    ----------
    base : Representation
        φ.
    views : Views
        At least two.
    """

    base: Representation
    views: Views

    name: ClassVar[str] = "views"

    def __post_init__(self) -> None:
        if len(self.views) < 2:
            raise InputError("views: a single view is the image itself", "Give flip=true or a shift")

    @property
    def image_shape(self) -> Shape | None:
        """(H, W, C) of the base."""
        return self.base.image_shape

    @property
    def n_features(self) -> int:
        """D of the base."""
        return self.base.n_features

    def fit(self, images: UInt8, rng: np.random.Generator) -> Self:
        """Fit the base to the images as they are."""
        return replace(self, base=self.base.fit(images, rng))

    def transform(self, images: UInt8) -> Float32:
        """Mean features (N, D)."""
        out = np.empty((len(images), self.n_features), np.float32)
        for start in range(0, len(images), _ROWS):
            block = np.asarray(images[start : start + _ROWS])
            views = (np.ascontiguousarray(seen) for seen in self.views.of(block))
            out[start : start + _ROWS] = mean_of(self.base.transform(seen) for seen in views)
        return out

    def parameters(self) -> dict[str, Any]:
        """Return flip and shift."""
        return {"flip": self.views.flip, "shift": self.views.shift}

    def arrays(self) -> dict[str, Array]:
        """Arrays of the base with "base." before their names."""
        return {f"base.{name}": a for name, a in self.base.arrays().items()}

    def templates(self, W: FloatArray) -> tuple[Template, ...]:
        """Pictures of the base: the weights meet its features, averaged."""
        return self.base.templates(W)

    def describe(self) -> str:
        """The base's line, and the views."""
        return f"{self.base.describe()}, mean of {len(self.views)} views ({self.views.text})"
