"""A first convolution that whitens: its filters are the principal components of small patches of training images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from lastlayer._arrays import Float32
from lastlayer.networks import _checks as check
from lastlayer.networks.base import Layer, Mode, Parameter, Shape, zeros


@final
@dataclass(frozen=True)
class Whitening(Layer):
    """``y = [P x; -P x] + b`` of each small patch, with ``P = (Λ + εI)^-½ Vᵀ`` fixed and b learned (Page 2019).

    V and Λ are eigenvectors and eigenvalues of the patches' second moments, found on training images by `filters`.
    Both signs, since the ReLU-like function behind it keeps one only.

    Parameters
    ----------
    kernel : int
    epsilon : float
        Of images normalised to standard deviation 1.

    Shapes
    ------
    weight : (2 · kernel² · C, C, kernel, kernel), bias : (2 · kernel² · C,).
    """

    kernel: int = 2
    epsilon: float = 5e-4

    kind: ClassVar[str] = "whitening"

    def __post_init__(self) -> None:
        check.whole(self.kind, "kernel", self.kernel, 1, 16)
        check.number(self.kind, "epsilon", self.epsilon, 1e-12, 1e3)

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of the output; refuses what does not fit."""
        rows, columns = check.windows(self.kind, shape, self.kernel, 1, 0)
        return rows, columns, 2 * self.kernel**2 * shape[2]

    def parameters(self, shape: Shape) -> dict[str, Parameter]:
        """Learned and fixed arrays, as in `Shapes`."""
        maps = 2 * self.kernel**2 * shape[2]
        weight = Parameter((maps, shape[2], self.kernel, self.kernel), _unit_filters, learned=False)
        return {"weight": weight, "bias": Parameter((maps,), zeros)}

    def forward(self, x: Any, parameters: Mapping[str, Any], mode: Mode) -> Any:
        """Apply it to a batch."""
        return check.functional().conv2d(x, parameters["weight"], parameters["bias"])

    def multiply_adds(self, shape: Shape) -> int:
        """Of one example."""
        rows, columns, maps = self.output_shape(shape)
        return rows * columns * maps * self.kernel**2 * shape[2]

    def describe(self) -> str:
        """Kind and settings."""
        return f"whitening {self.kernel}x{self.kernel}, fixed filters"

    def filters(self, images: Float32) -> Float32:
        """The filters for normalised images (N, H, W, C), largest eigenvalue first.

        Shapes
        ------
        (2 · kernel² · C, C, kernel, kernel).
        """
        side, channels = self.kernel, images.shape[3]
        windows = np.lib.stride_tricks.sliding_window_view(images, (side, side), axis=(1, 2))  # N, H', W', C, k, k
        width = channels * side * side
        moments = np.zeros((width, width))
        count = 0
        for start in range(0, len(images), 256):
            patches = windows[start : start + 256].reshape(-1, width)
            moments += patches.T @ patches
            count += len(patches)
        eigenvalues, vectors = np.linalg.eigh(moments / count)
        whitened = (vectors / np.sqrt(eigenvalues + self.epsilon)).T[::-1]
        both = np.concatenate([whitened, -whitened]).astype(np.float32)
        return np.ascontiguousarray(both.reshape(2 * width, channels, side, side))


def _unit_filters(rng: np.random.Generator, shape: Shape) -> Float32:
    """Before any image was seen: each pixel of the patch, with both signs."""
    unit = np.eye(shape[0] // 2, dtype=np.float32)
    return np.concatenate([unit, -unit]).reshape(shape)
