"""The locally connected layer: windows as in a convolution, with weights of their own at every place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from lastlayer._arrays import Float64, FloatArray
from lastlayer._errors import InputError
from lastlayer.networks import _checks as check
from lastlayer.networks import initialisation
from lastlayer.networks.base import Layer, Mode, Parameter, Shape

LARGEST_DENSE = 1 << 26
"""Most numbers that `LocallyConnected.dense` makes."""


@final
@dataclass(frozen=True)
class LocallyConnected(Layer):
    """``y[p, o] = b[p, o] + Σ w[p, o] · (window at place p)``: local as a convolution, and nothing is shared.

    Seen as a full layer its W is sparse: `dense` gives that matrix.

    Parameters
    ----------
    maps, kernel, stride, padding : int
    init : str
    bias : bool

    Shapes
    ------
    weight : (places, maps, C · kernel²), places row by row and the window in the order C, rows, columns;
    bias : (places, maps).
    """

    maps: int
    kernel: int
    stride: int = 1
    padding: int = 0
    init: str = "he"
    bias: bool = True

    kind: ClassVar[str] = "locally_connected"

    def __post_init__(self) -> None:
        for name in ("maps", "kernel", "stride"):
            check.whole(self.kind, name, getattr(self, name), 1, check.LARGEST if name == "maps" else 4096)
        check.whole(self.kind, "padding", self.padding, 0, self.kernel - 1)
        check.flag(self.kind, "bias", self.bias)
        initialisation.check_rule(self.kind, self.init)
        if self.init == "dirac":
            raise InputError("locally_connected: init dirac is for convolutions", "Use fan_in")

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of the output; refuses what does not fit."""
        return *check.windows(self.kind, shape, self.kernel, self.stride, self.padding), self.maps

    def parameters(self, shape: Shape) -> dict[str, Parameter]:
        """Learned and fixed arrays, as in `Shapes`."""
        rows, columns, _ = self.output_shape(shape)
        fan_in = shape[2] * self.kernel**2
        rule = initialisation.weights(self.init, fan_in, self.maps * self.kernel**2)
        found = {"weight": Parameter((rows * columns, self.maps, fan_in), rule)}
        if self.bias:
            found["bias"] = Parameter((rows * columns, self.maps), initialisation.biases(self.init, fan_in))
        return found

    def forward(self, x: Any, parameters: Mapping[str, Any], mode: Mode) -> Any:
        """Apply it to a batch."""
        rows = (x.shape[2] + 2 * self.padding - self.kernel) // self.stride + 1
        windows = check.functional().unfold(x, self.kernel, padding=self.padding, stride=self.stride)
        products = windows.permute(2, 0, 1) @ parameters["weight"].transpose(1, 2)  # places, N, maps
        if "bias" in parameters:
            products = products + parameters["bias"].unsqueeze(1)
        # places x N x maps to N, maps, rows, columns with the maps last in memory
        return products.permute(1, 0, 2).unflatten(1, (rows, -1)).permute(0, 3, 1, 2)

    def multiply_adds(self, shape: Shape) -> int:
        """Of one example."""
        rows, columns, maps = self.output_shape(shape)
        return rows * columns * maps * shape[2] * self.kernel**2

    def describe(self) -> str:
        """Kind and settings."""
        extra = f", stride {self.stride}" if self.stride > 1 else ""
        extra += f", padding {self.padding}" if self.padding else ""
        return f"locally connected {self.maps} @ {self.kernel}x{self.kernel}{extra}"

    def dense(self, shape: Shape, arrays: Mapping[str, FloatArray]) -> tuple[Float64, Float64]:
        """The same layer as a full one: ``flatten(y) = flatten(x) W + b`` with a sparse W.

        Shapes
        ------
        W : (H·W·C, rows · columns · maps), b : (rows · columns · maps,), both sides in the order rows, columns, maps.

        Raises
        ------
        InputError
            For a matrix of more than 2²⁶ numbers, or weights of another shape.
        """
        rows, columns, maps = self.output_shape(shape)
        height, width, channels = check.image(self.kind, shape)
        outputs, inputs = rows * columns * maps, height * width * channels
        if outputs * inputs > LARGEST_DENSE:
            raise InputError(f"{self.kind}: the dense matrix has {inputs} x {outputs} numbers", "Use smaller images")
        weight = np.asarray(arrays["weight"], dtype=np.float64)
        expected = self.parameters(shape)["weight"].shape
        if weight.shape != expected:
            raise InputError(f"{self.kind}: weight has shape {weight.shape}; {expected} is needed")
        windows = weight.reshape(rows, columns, maps, channels, self.kernel, self.kernel)
        W = np.zeros((height, width, channels, rows, columns, maps))
        for r, c, i, j in np.ndindex(rows, columns, self.kernel, self.kernel):
            y, x = r * self.stride - self.padding + i, c * self.stride - self.padding + j
            if 0 <= y < height and 0 <= x < width:
                W[y, x, :, r, c, :] = windows[r, c, :, :, i, j].T
        b = np.asarray(arrays.get("bias", np.zeros((rows * columns, maps))), dtype=np.float64)
        return W.reshape(inputs, outputs), b.reshape(outputs)
