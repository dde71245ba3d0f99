"""The interface φ : uint8 (N, H, W, C) -> float32 (N, D), and the pictures a representation draws of its weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from lastlayer._arrays import Array, Float32, FloatArray, InputError, UInt8, check_images

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Template:
    """The weights of every class as pictures.

    Attributes
    ----------
    kind : str
        ``"pixels"``, ``"hog"`` or ``"colour"``.
    note : str
        How to read the pictures, one or two sentences.
    images : float32 (K, h, w, 3)
        Values in 0..1, ready to show.
    """

    kind: str
    note: str
    images: Float32


class Representation(ABC):
    """φ: a frozen dataclass that turns images into rows of features.

    Shapes
    ------
    images : uint8 (N, H, W, C), C = 1 or 3; features : float32 (N, D).

    A representation is fitted on training images alone; `fit` returns a new object. What becomes of an image never
    depends on the images beside it, so any cut into batches gives the same bits.
    """

    name: ClassVar[str]

    @property
    @abstractmethod
    def image_shape(self) -> Shape | None:
        """(H, W, C) of the images it was fitted on; None before `fit`."""

    @property
    @abstractmethod
    def n_features(self) -> int:
        """D. Raises InputError before `fit`."""

    @abstractmethod
    def fit(self, images: UInt8, rng: np.random.Generator) -> Self:
        """Return a fitted copy; `images` are training rows only (a memory map will do).

        Raises
        ------
        InputError
            When images of this shape give no features; names the size that is needed.
        """

    @abstractmethod
    def transform(self, images: UInt8) -> Float32:
        """Features (N, D) of images of the shape seen in `fit`; a new array each time.

        Raises
        ------
        InputError
            Before `fit`, and for images of another shape.
        """

    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """Return what the constructor takes, as JSON values; after `fit` with the choices that `fit` made."""

    @abstractmethod
    def arrays(self) -> dict[str, Array]:
        """Fitted arrays by name ([a-z0-9_.]+); empty where nothing is learned."""

    @abstractmethod
    def templates(self, W: FloatArray) -> tuple[Template, ...]:
        """Weights (D, K), one column a class, as pictures; () where there is nothing to show."""

    @abstractmethod
    def describe(self) -> str:
        """One line for the plan: what is computed, with its numbers."""


def check_fit_images(images: UInt8) -> Shape:
    """(H, W, C) of at least one image of at least one pixel."""
    check_images(images)
    height, width, channels = (int(size) for size in images.shape[1:])
    if height < 1 or width < 1 or len(images) < 1:
        raise InputError(f"images have shape {images.shape}; at least one image of one pixel is needed")
    return height, width, channels


def check_transform_images(images: UInt8, expected: Shape | None, name: str) -> Shape:
    """Refuse images before `fit` and images of another shape than in `fit`; return that shape."""
    shape = fitted_shape(expected, name)
    check_images(images)
    if tuple(images.shape[1:]) != shape:
        raise InputError(
            f"{name} was fitted on images of {_size(shape)} and met images of {_size(images.shape[1:])}",
            "Decode both with one image format",
        )
    return shape


def fitted_shape(shape: Shape | None, name: str) -> Shape:
    """Return the shape, or refuse what was never fitted."""
    if shape is None:
        raise InputError(f"{name} is not fitted", f"Call {name}.fit(images, rng) first and use what it returns")
    return shape


def check_weights(W: FloatArray, n_features: int, name: str) -> FloatArray:
    """Refuse weights that are not (D, K)."""
    if W.ndim != 2 or len(W) != n_features:
        raise InputError(f"weights of {name} have shape {W.shape}; ({n_features}, K) is needed")
    return W


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[0]}x{shape[1]} pixels, {shape[2]} channel{'s' if shape[2] != 1 else ''}"
