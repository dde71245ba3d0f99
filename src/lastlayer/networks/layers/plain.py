"""Layers without numbers of their own: flatten, activation, dropout, scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from lastlayer._errors import InputError
from lastlayer.networks import _checks as check
from lastlayer.networks.activations import ACTIVATIONS, SLOPE
from lastlayer.networks.base import Layer, Mode, Parameter, Shape


@final
@dataclass(frozen=True)
class Flatten(Layer):
    """(H, W, C) to a row of H·W·C features, in that order: the order of the pixels outside."""

    kind: ClassVar[str] = "flatten"

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of the output; refuses what does not fit."""
        return (int(np.prod(shape, dtype=np.int64)),)

    def parameters(self, shape: Shape) -> dict[str, Parameter]:
        """None."""
        return {}

    def forward(self, x: Any, parameters: Mapping[str, Any], mode: Mode) -> Any:
        """Apply it to a batch."""
        # a view where the memory is channels last
        return x.permute(0, 2, 3, 1).flatten(1) if x.ndim == 4 else x.flatten(1)

    def multiply_adds(self, shape: Shape) -> int:
        """None."""
        return 0

    def describe(self) -> str:
        """Kind and settings."""
        return "flatten"


@final
@dataclass(frozen=True)
class Activation(Layer):
    """A nonlinearity of `activations`, element by element.

    Parameters
    ----------
    name : str
        ``step``, ``sigmoid``, ``tanh``, ``scaled_tanh``, ``relu``, ``leaky_relu``, ``gelu``, ``silu``, ``identity``.
    slope : float
        Below zero, of the leaky ReLU.
    """

    name: str
    slope: float = SLOPE

    kind: ClassVar[str] = "activation"

    def __post_init__(self) -> None:
        check.choice(self.kind, "name", self.name, tuple(ACTIVATIONS))
        check.number(self.kind, "slope", self.slope, 0.0, 1.0)

    def output_shape(self, shape: Shape) -> Shape:
        """The same shape."""
        return shape

    def parameters(self, shape: Shape) -> dict[str, Parameter]:
        """None."""
        return {}

    def forward(self, x: Any, parameters: Mapping[str, Any], mode: Mode) -> Any:
        """Apply it to a batch."""
        activation = ACTIVATIONS[self.name]
        if mode.training and not activation.has_gradient:
            refuse_gradient(self.name)
        return activation.forward(x, self.slope)

    def multiply_adds(self, shape: Shape) -> int:
        """None."""
        return 0

    def describe(self) -> str:
        """Kind and settings."""
        return f"leaky_relu, slope {self.slope:g}" if self.name == "leaky_relu" else self.name


def refuse_gradient(name: str) -> None:
    """Refuse to train through an activation whose derivative is zero."""
    raise InputError(
        f"Gradient training cannot go through the activation {name}: its derivative is zero almost everywhere",
        "Use sigmoid, tanh or relu; one threshold unit is learned by the perceptron rule (--solver perceptron)",
    )


@final
@dataclass(frozen=True)
class Dropout(Layer):
    """In training each value is zero with probability p, and the others are divided by 1 - p (Hinton et al. 2012)."""

    p: float = 0.5

    kind: ClassVar[str] = "dropout"

    def __post_init__(self) -> None:
        check.number(self.kind, "p", self.p, 0.0, 0.99)

    def output_shape(self, shape: Shape) -> Shape:
        """The same shape."""
        return shape

    def parameters(self, shape: Shape) -> dict[str, Parameter]:
        """None."""
        return {}

    def forward(self, x: Any, parameters: Mapping[str, Any], mode: Mode) -> Any:
        """Apply it to a batch."""
        if not mode.training or self.p == 0:
            return x
        kept = check.need_torch().empty_like(x).bernoulli_(1.0 - self.p, generator=mode.generator)
        return x * kept.div_(1.0 - self.p)

    def multiply_adds(self, shape: Shape) -> int:
        """None."""
        return 0

    def describe(self) -> str:
        """Kind and settings."""
        return f"dropout {self.p:g}"


@final
@dataclass(frozen=True)
class Scale(Layer):
    """``y = factor · x``, a fixed number: before the last layer it sets how fast scores grow."""

    factor: float

    kind: ClassVar[str] = "scale"

    def __post_init__(self) -> None:
        check.number(self.kind, "factor", self.factor, -1e6, 1e6)

    def output_shape(self, shape: Shape) -> Shape:
        """The same shape."""
        return shape

    def parameters(self, shape: Shape) -> dict[str, Parameter]:
        """None."""
        return {}

    def forward(self, x: Any, parameters: Mapping[str, Any], mode: Mode) -> Any:
        """Apply it to a batch."""
        return x * self.factor

    def multiply_adds(self, shape: Shape) -> int:
        """None."""
        return 0

    def describe(self) -> str:
        """Kind and settings."""
        return f"scale by {self.factor:g}"
