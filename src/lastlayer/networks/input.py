"""What becomes of pixels before the first layer: padding, and numbers of about mean 0 and variance 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from lastlayer._arrays import Array, Float32
from lastlayer._errors import InputError
from lastlayer.networks import _checks as check
from lastlayer.networks.base import Parameter, Shape, ones, zeros

WAYS = ("channel", "pixel", "lecun")
BACKGROUND, FOREGROUND = -0.1, 1.175
"""What LeCun et al. (1998) make of empty and of full pixels: mean about 0, variance about 1 on digits."""


@final
@dataclass(frozen=True)
class Input:
    """``x = (pixels - mean) / std``, after a frame of zeros around the image.

    Parameters
    ----------
    normalise : {"channel", "pixel", "lecun"}
        Mean and standard deviation of each channel, or of each pixel, over the training images; or the fixed ones
        that send 0..255 to -0.1..1.175.
    padding : int
        Width of the frame: 2 makes 28x28 images 32x32.

    Shapes
    ------
    mean, std : (C,), with ``pixel`` (H, W, C); in units of 0..255.
    """

    normalise: str = "channel"
    padding: int = 0

    kind: ClassVar[str] = "input"

    def __post_init__(self) -> None:
        check.choice(self.kind, "normalise", self.normalise, WAYS)
        check.whole(self.kind, "padding", self.padding, 0, 4096)
        if self.padding and self.normalise == "pixel":
            raise InputError("input: padding with statistics of every pixel", "Normalise by channel")

    def output_shape(self, shape: Shape) -> Shape:
        """Shape after padding."""
        height, width, channels = check.image(self.kind, shape)
        return height + 2 * self.padding, width + 2 * self.padding, channels

    def parameters(self, shape: Shape) -> dict[str, Parameter]:
        """Mean and std, which are not learned."""
        of = tuple(shape) if self.normalise == "pixel" else tuple(shape[2:])
        return {"mean": Parameter(of, zeros, learned=False), "std": Parameter(of, ones, learned=False)}

    def statistics(self, images: Array) -> dict[str, Float32]:
        """Mean and std of training images (N, H, W, C), in float64 sums."""
        channels = images.shape[3]
        if self.normalise == "lecun":
            unit = 255.0 / (FOREGROUND - BACKGROUND)
            return {
                "mean": np.full(channels, -BACKGROUND * unit, np.float32),
                "std": np.full(channels, unit, np.float32),
            }
        if not len(images):
            raise InputError("There are no training images", "Give at least one")
        axes = (0,) if self.normalise == "pixel" else (0, 1, 2)
        sums, squares, count = np.zeros(()), np.zeros(()), 0
        for start in range(0, len(images), 1024):
            block = np.asarray(images[start : start + 1024], dtype=np.float64)
            sums = sums + block.sum(axis=axes)
            squares = squares + np.square(block).sum(axis=axes)
            count += int(np.prod([block.shape[axis] for axis in axes]))
        mean = sums / count
        std = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
        std[std <= 1e-6 * np.abs(mean)] = 1.0  # no spread but rounding: only centred
        return {"mean": mean.astype(np.float32), "std": std.astype(np.float32)}

    def normalised(self, images: Array, arrays: Mapping[str, Array]) -> Float32:
        """Images (N, H, W, C) as the first layer sees them, in NumPy."""
        frame = self.padding
        padded = np.pad(images, ((0, 0), (frame, frame), (frame, frame), (0, 0))) if frame else images
        return ((padded.astype(np.float32) - arrays["mean"]) / arrays["std"]).astype(np.float32)

    def forward(self, images: Any, mean: Any, std: Any) -> Any:
        """Tensor (N, H, W, C) of uint8 or floating pixels -> (N, C, H, W) in channels-last memory."""
        if self.padding:
            images = check.functional().pad(images, (0, 0, *(self.padding,) * 4))
        x = images.to(mean.dtype).sub(mean)
        return x.div_(std).permute(0, 3, 1, 2)

    def describe(self) -> str:
        """A few words for the table of an architecture."""
        frame = f", {self.padding} pixels of padding" if self.padding else ""
        return f"input, normalised by {self.normalise}{frame}"
