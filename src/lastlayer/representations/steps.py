"""The interface of preprocessing steps: uint8 images in, uint8 images out, as many as before."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np

from lastlayer._arrays import Array, UInt8, check_images
from lastlayer.representations._batches import batch_size
from lastlayer.representations._threads import spread
from lastlayer.representations.base import Shape


class ImageStep(ABC):
    """A frozen dataclass that turns images into images.

    Shapes
    ------
    images : uint8 (N, H, W, C), C = 1 or 3; result : uint8 (N, H', W', C).

    What becomes of an image never depends on the images beside it.
    """

    name: ClassVar[str]

    @abstractmethod
    def shape(self, given: Shape) -> Shape:
        """(H', W', C) of images of (H, W, C).

        Raises
        ------
        InputError
            When images of that shape cannot be used; names the size that is needed.
        """

    @abstractmethod
    def fit(self, images: UInt8, rng: np.random.Generator) -> Self:
        """Return a fitted copy, or the step itself where nothing is learned; `images` are training rows only."""

    @abstractmethod
    def transform(self, images: UInt8) -> UInt8:
        """Return new images."""

    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """Return what the constructor takes by position, as JSON values."""

    @abstractmethod
    def arrays(self) -> dict[str, Array]:
        """Fitted arrays by the constructor's names for them; empty where nothing is learned."""

    @abstractmethod
    def describe(self) -> str:
        """A few words for the plan."""


def map_images(kernel: Callable[[UInt8], Array], images: UInt8, shape: Shape) -> UInt8:
    """``kernel`` of batches of images, side by side on threads.

    Parameters
    ----------
    kernel : callable
        uint8 (n, H, W, C) -> numbers (n, H', W', C) in 0..255, each image from its own alone; other numbers than whole
        ones are rounded to the nearest.
    images : uint8 (N, H, W, C)
    shape : (H', W', C)
    """
    check_images(images)
    out = np.empty((len(images), *shape), np.uint8)
    rows = batch_size(*images.shape[1:3])

    def batch(start: int) -> None:
        found = kernel(np.asarray(images[start : start + rows]))
        out[start : start + rows] = found if found.dtype == np.uint8 else np.rint(found)

    spread(batch, range(0, len(images), rows))
    return out
