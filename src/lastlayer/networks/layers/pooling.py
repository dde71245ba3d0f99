"""Pooling: largest, mean, or LeCun's trainable subsampling of small windows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

from lastlayer._errors import InputError
from lastlayer.networks import _checks as check
from lastlayer.networks import initialisation
from lastlayer.networks.base import Layer, Mode, Parameter, Shape


def _check(kind: str, kernel: int, stride: int, padding: int, ceil: bool) -> None:
    check.flag(kind, "ceil", ceil)
    check.whole(kind, "kernel", kernel, 1, 4096)
    check.whole(kind, "stride", stride, 0, 4096)
    check.whole(kind, "padding", padding, 0, 4096)
    if 2 * padding > kernel:
        raise InputError(f"{kind}: padding {padding} is more than half of the window {kernel}")


def _output(kind: str, shape: Shape, kernel: int, stride: int, padding: int, ceil: bool) -> Shape:
    """Places of the windows; with `ceil` also of those that reach over the edge but begin inside."""
    check.windows(kind, shape, kernel, stride, padding)
    height, width, maps = shape
    found = []
    for side in (height, width):
        left = side + 2 * padding - kernel
        count = (-(-left // stride) if ceil else left // stride) + 1
        found.append(count - (ceil and (count - 1) * stride >= side + padding))
    return found[0], found[1], maps


def _describe(kind: str, kernel: int, stride: int, padding: int) -> str:
    step = f", stride {stride}" if stride and stride != kernel else ""
    return f"{kind} {kernel}x{kernel}{step}" + (f", padding {padding}" if padding else "")


@final
@dataclass(frozen=True)
class MaxPool(Layer):
    """The largest value in each window; windows overlap where the stride is smaller than the kernel.

    A stride of 0 is the kernel: windows side by side. What is left over at the right and below is not seen, unless
    `ceil` lets windows reach over that edge.
    """

    kernel: int = 2
    stride: int = 0
    padding: int = 0
    ceil: bool = False

    kind: ClassVar[str] = "max_pool"

    def __post_init__(self) -> None:
        _check(self.kind, self.kernel, self.stride, self.padding, self.ceil)

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of the output; refuses what does not fit."""
        return _output(self.kind, shape, self.kernel, self.stride or self.kernel, self.padding, self.ceil)

    def parameters(self, shape: Shape) -> dict[str, Parameter]:
        """None."""
        return {}

    def forward(self, x: Any, parameters: Mapping[str, Any], mode: Mode) -> Any:
        """Apply it to a batch."""
        return check.functional().max_pool2d(
            x, self.kernel, self.stride or self.kernel, self.padding, ceil_mode=self.ceil
        )

    def multiply_adds(self, shape: Shape) -> int:
        """None."""
        return 0

    def describe(self) -> str:
        """Kind and settings."""
        return _describe("max pool", self.kernel, self.stride, self.padding)


@final
@dataclass(frozen=True)
class AveragePool(Layer):
    """The mean of each window; padding counts as zeros, what lies over the edge (`ceil`) does not count.

    A stride of 0 is the kernel.
    """

    kernel: int = 2
    stride: int = 0
    padding: int = 0
    ceil: bool = False

    kind: ClassVar[str] = "average_pool"

    def __post_init__(self) -> None:
        _check(self.kind, self.kernel, self.stride, self.padding, self.ceil)

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of the output; refuses what does not fit."""
        return _output(self.kind, shape, self.kernel, self.stride or self.kernel, self.padding, self.ceil)

    def parameters(self, shape: Shape) -> dict[str, Parameter]:
        """None."""
        return {}

    def forward(self, x: Any, parameters: Mapping[str, Any], mode: Mode) -> Any:
        """Apply it to a batch."""
        return check.functional().avg_pool2d(
            x, self.kernel, self.stride or self.kernel, self.padding, ceil_mode=self.ceil
        )

    def multiply_adds(self, shape: Shape) -> int:
        """None."""
        return 0

    def describe(self) -> str:
        """Kind and settings."""
        return _describe("average pool", self.kernel, self.stride, self.padding)


@final
@dataclass(frozen=True)
class Subsampling(Layer):
    """``y[c] = w[c] · (sum of the window) + b[c]``: two trainable numbers a map (LeCun et al. 1998, section II.B).

    Shapes
    ------
    weight, bias : (C,).
    """

    kernel: int = 2
    init: str = "lecun"

    kind: ClassVar[str] = "subsampling"

    def __post_init__(self) -> None:
        check.whole(self.kind, "kernel", self.kernel, 1, 4096)
        initialisation.check_rule(self.kind, self.init)
        if self.init == "dirac":
            raise InputError("subsampling: init dirac is for convolutions", "Use lecun")

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of the output; refuses what does not fit."""
        return *check.windows(self.kind, shape, self.kernel, self.kernel, 0), shape[2]

    def parameters(self, shape: Shape) -> dict[str, Parameter]:
        """Learned and fixed arrays, as in `Shapes`."""
        fan_in = self.kernel**2
        rule = initialisation.weights(self.init, fan_in, fan_in)
        bias = initialisation.biases(self.init, fan_in)
        return {"weight": Parameter((shape[2],), rule), "bias": Parameter((shape[2],), bias)}

    def forward(self, x: Any, parameters: Mapping[str, Any], mode: Mode) -> Any:
        """Apply it to a batch."""
        sums = check.functional().avg_pool2d(x, self.kernel, divisor_override=1)
        return sums * parameters["weight"].view(-1, 1, 1) + parameters["bias"].view(-1, 1, 1)

    def multiply_adds(self, shape: Shape) -> int:
        """Of one example."""
        rows, columns, maps = self.output_shape(shape)
        return rows * columns * maps

    def describe(self) -> str:
        """Kind and settings."""
        return f"subsampling {self.kernel}x{self.kernel}, trainable"
