"""An architecture with its numbers: class scores, features, the last layer, and what each layer makes of an image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, Self, final

import numpy as np

from lastlayer._arrays import Array, Float32
from lastlayer.networks._checks import need_torch
from lastlayer.networks.architecture import Architecture
from lastlayer.networks.base import EVALUATION
from lastlayer.networks.layers import Convolution, Linear, RadialOutputs, Whitening

_BLOCK_NUMBERS = 1 << 24
"""A block of images is so large that no layer's output has more numbers."""
_ROWS = 256


@final
@dataclass(frozen=True, eq=False)
class Network:
    """A network that gives scores.

    Parameters
    ----------
    architecture : Architecture
    arrays : mapping of str to float32 array
        ``conv1.weight``, …: learned numbers and fixed ones, with ``input.mean`` and ``input.std``.

    Raises
    ------
    InputError
        For arrays that are not the architecture's, by name and shape, or not finite.
    """

    architecture: Architecture
    arrays: Mapping[str, Float32]

    def __post_init__(self) -> None:
        self.architecture.check_arrays(self.arrays)

    def scores(self, images: Array) -> Float32:
        """Class scores (N, K) of images (N, H, W, C), uint8, or float32 in the same units.

        Computed in blocks of a fixed number of rows: another cut changes scores by rounding alone.

        Raises
        ------
        InputError
            For images of another shape.
        """
        return self._blocks(images, len(self.architecture.plan), self.architecture.n_classes)

    def features(self, images: Array) -> Float32:
        """What the last layer is given, (N, D)."""
        return self._blocks(images, len(self.architecture.plan) - 1, self.architecture.n_features)

    def head(self) -> tuple[Float32, Float32]:
        """The last layer as W (D, K) and b (K,): ``scores = features W + b``.

        For radial outputs that holds up to the number ``-½|x|²`` of each row, which no choice of a class sees.
        """
        name, last = self.architecture.layers[-1]
        weight = self.arrays[f"{name}.weight"]
        if isinstance(last, RadialOutputs):
            bias = -0.5 * np.square(weight, dtype=np.float64).sum(axis=1)
        else:
            bias = self.arrays.get(f"{name}.bias", np.zeros(len(weight), np.float32))
        return np.ascontiguousarray(weight.T, dtype=np.float32), np.array(bias, dtype=np.float32)

    def activations(self, image: Array) -> dict[str, Float32]:
        """What the normalised input and every layer give for one image: (H, W, C) or (D,), by the layer's name."""
        batch = np.asarray(image)[None]
        self.architecture.check_images(batch)
        torch = need_torch()
        found: dict[str, Float32] = {}
        with torch.inference_mode():
            for name, x in self._steps(torch.from_numpy(np.array(batch))):
                out = x.permute(0, 2, 3, 1) if x.ndim == 4 else x
                found[name] = np.array(out[0].numpy(), dtype=np.float32)
        return found

    def filters(self) -> Float32 | None:
        """The first layer's weights as pictures, float32 (n, h, w, 3) in 0..1 with 0 as middle grey.

        None where they are no pictures: after another layer than the pixels, or of one or three channels.
        """
        for name, layer in self.architecture.layers:
            if isinstance(layer, (Convolution, Whitening, Linear)):
                weight = self.arrays[f"{name}.weight"]
                pictures = self._pictures(layer, weight)
                return None if pictures is None else _grey(pictures)
            if layer.kind != "flatten":
                return None
        return None

    def _pictures(self, layer: Convolution | Whitening | Linear, weight: Float32) -> Float32 | None:
        height, width, channels = self.architecture.shapes()[0]
        if channels not in (1, 3) or (isinstance(layer, Convolution) and layer.table):
            return None
        if isinstance(layer, Linear):
            return weight.reshape(-1, height, width, channels) if min(height, width) > 1 else None
        return weight.transpose(0, 2, 3, 1) if weight.shape[1] == channels and weight.shape[2] > 1 else None

    def to_dict(self) -> dict[str, Any]:
        """What is no array, as JSON values."""
        return self.architecture.to_dict()

    @classmethod
    def from_dict(cls, spec: Any, arrays: Mapping[str, Array]) -> Self:
        """Make it from `to_dict`'s values and its arrays, which may be anybody's.

        Raises
        ------
        InputError
            For anything that does not fit exactly.
        """
        return cls(Architecture.from_dict(spec), dict(arrays))

    @cached_property
    def tensors(self) -> dict[str, Any]:
        """The arrays as tensors; filters in channels-last memory, as the images are."""
        torch = need_torch()
        found = {name: torch.from_numpy(np.array(array)) for name, array in self.arrays.items()}
        return {
            name: one.contiguous(memory_format=torch.channels_last) if one.ndim == 4 else one
            for name, one in found.items()
        }

    def _steps(self, images: Any) -> Iterator[tuple[str, Any]]:
        """The input and each layer's output, one after the other."""
        tensors = self.tensors
        x = self.architecture.input.forward(images, tensors["input.mean"], tensors["input.std"])
        yield "input", x
        for name, layer, keys in self.architecture.plan:
            x = layer.forward(x, {own: tensors[full] for own, full in keys}, EVALUATION)
            yield name, x

    def _blocks(self, images: Array, layers: int, width: int) -> Float32:
        self.architecture.check_images(images)
        torch = need_torch()
        largest = max(int(np.prod(shape, dtype=np.int64)) for shape in self.architecture.shapes())
        rows = max(1, min(_ROWS, _BLOCK_NUMBERS // largest))
        found = np.empty((len(images), width), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(images), rows):
                # a copy: PyTorch has no tensors that cannot be written, and a memory map may be one
                block = torch.from_numpy(np.array(images[start : start + rows]))
                _, last = next(islice(self._steps(block), layers, None))
                found[start : start + rows] = last.flatten(1).numpy()
        return found


def _grey(pictures: Float32) -> Float32:
    """Weights (n, h, w, 1 or 3) to 0..1, each picture by its own largest weight."""
    largest = np.abs(pictures).max(axis=(1, 2, 3), keepdims=True)
    shown = 0.5 + 0.5 * pictures / np.where(largest > 0, largest, 1.0)
    return np.ascontiguousarray(np.broadcast_to(shown, (*shown.shape[:3], 3)), dtype=np.float32)


__all__ = ["Architecture", "Network"]
