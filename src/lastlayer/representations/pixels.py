"""Pixels as they are: φ(x) = x / 255, flattened; smaller or gray on request.

gray = 0.299 R + 0.587 G + 0.114 B          (ITU-R BT.601, as Pillow's mode L)
size: each new pixel is the mean of the area it covers, parts of pixels included
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self, final

import numpy as np

from lastlayer._arrays import Array, Float32, FloatArray, InputError, UInt8
from lastlayer.representations._batches import Scratch, batch_size, images_last, map_batches
from lastlayer.representations._checks import check_choice, check_whole
from lastlayer.representations.base import (
    Representation,
    Shape,
    Template,
    check_fit_images,
    check_transform_images,
    check_weights,
    fitted_shape,
)

_LUMA = (0.299, 0.587, 0.114)


@final
@dataclass(frozen=True)
class Pixels(Representation):
    """Pixel values in 0..1, in C order (row, column, channel).

    Parameters
    ----------
    size : int, optional
        Rows and columns to reduce to, by exact area averages (which cannot alias); None keeps the decoded size.
        Never larger than the images.
    color : {"auto", "gray", "rgb"}
        "auto" keeps the channels that there are; "gray" weighs them.
    """

    size: int | None = None
    color: str = "auto"
    image_shape: Shape | None = field(default=None, kw_only=True, repr=False)

    name: ClassVar[str] = "pixels"

    def __post_init__(self) -> None:
        if self.size is not None:
            check_whole("pixels", "size", self.size, 1, 65_536)
        check_choice("pixels", "color", self.color, ("auto", "gray", "rgb"))
        if self.image_shape is not None:
            self._check_shape(self.image_shape)

    def _check_shape(self, shape: Shape) -> None:
        height, width, channels = shape
        if self.size is not None and self.size > min(height, width):
            raise InputError(
                f"pixels: size={self.size} is larger than the images of {height}x{width} pixels",
                f"Images of at least {self.size}x{self.size} are needed; or leave size out",
            )
        if self.color == "rgb" and channels == 1:
            raise InputError("pixels: color=rgb and the images are gray", "Leave color out")

    def fit(self, images: UInt8, rng: np.random.Generator) -> Self:
        """Bind to the image shape; nothing is learned."""
        return replace(self, image_shape=check_fit_images(images))

    def transform(self, images: UInt8) -> Float32:
        """Pixel values (N, D) in 0..1."""
        height, width, _ = check_transform_images(images, self.image_shape, self.name)
        return map_batches(self._kernel, images, self.n_features, batch_size(height, width))

    def _kernel(self, images: UInt8, scratch: Scratch) -> Float32:
        height, width, channels = self._out_shape()
        if (height, width, channels) == images.shape[1:]:
            values = np.true_divide(images, np.float32(255), dtype=np.float32)
            return values.reshape(len(images), -1)
        planes = images_last(images, scratch)
        if channels < len(planes):
            planes = _luma(planes)
        planes = _average(_average(planes, 1, height), 2, width) / np.float32(255)
        return planes.transpose(3, 1, 2, 0).reshape(len(images), -1)

    def _out_shape(self) -> Shape:
        height, width, channels = fitted_shape(self.image_shape, self.name)
        return self.size or height, self.size or width, 1 if self.color == "gray" else channels

    @property
    def n_features(self) -> int:
        """D = rows · columns · channels."""
        height, width, channels = self._out_shape()
        return height * width * channels

    def parameters(self) -> dict[str, Any]:
        """Return size and color."""
        return {"size": self.size, "color": self.color}

    def arrays(self) -> dict[str, Array]:
        """Nothing is learned."""
        return {}

    def describe(self) -> str:
        """Size, colours and number of features."""
        height, width, channels = self._out_shape()
        return f"pixels: {height}x{width} {'gray' if channels == 1 else 'RGB'}, {self.n_features} features"

    def templates(self, W: FloatArray) -> tuple[Template, ...]:
        """Weights of gray pixels as red and blue, of colour pixels as colours around gray."""
        from lastlayer.representations.glyphs import diverging, enlarge, per_class_scale

        weights = check_weights(W, self.n_features, self.name).reshape(*self._out_shape(), -1)
        scaled = per_class_scale(weights)
        if scaled.shape[2] == 1:
            note = "Blue pixels speak for the class when they are bright, red ones when they are dark."
            pictures = diverging(scaled[:, :, 0].transpose(2, 0, 1))
        else:
            note = (
                "Red, green and blue show the weights of the three channels around mid gray: the class looks for "
                "the colours seen, and against their complements."
            )
            pictures = np.clip(0.5 + 0.5 * scaled.transpose(3, 0, 1, 2), 0, 1).astype(np.float32)
        return (Template("pixels", note, enlarge(pictures)),)


def _luma(planes: Float32) -> Float32:
    gray: Float32 = planes[:1] * np.float32(_LUMA[0])
    for plane, weight in zip(planes[1:], _LUMA[1:]):
        gray += plane * np.float32(weight)
    return gray


def _average(planes: Float32, axis: int, size: int) -> Float32:
    """Area average along one axis of (C, H, W, n): new pixel i covers [i, i + 1) · length / size."""
    lines = np.moveaxis(planes, axis, 0)
    length = len(lines)
    if length == size:
        return planes
    out = np.zeros((size, *lines.shape[1:]), np.float32)
    for i in range(size):  # in whole numbers of 1/size pixels, so that the weights are exact
        start, stop = i * length, (i + 1) * length
        for line in range(start // size, -(-stop // size)):
            covered = min(stop, (line + 1) * size) - max(start, line * size)
            out[i] += lines[line] * np.float32(covered / length)
    return np.moveaxis(out, 0, axis)
