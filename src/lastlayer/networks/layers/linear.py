"""The full layer, and why a stack of them is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from lastlayer._arrays import Float64, FloatArray
from lastlayer._errors import InputError
from lastlayer.networks import _checks as check
from lastlayer.networks import initialisation
from lastlayer.networks.base import Layer, Mode, Parameter, Shape


@final
@dataclass(frozen=True)
class Linear(Layer):
    """``y = x W + b``: every unit sees every input.

    Parameters
    ----------
    units : int
    init : str
        See `initialisation`.
    bias : bool
    initial_bias : float

    Shapes
    ------
    x : (D,), y : (units,); weight : (units, D), its rows are the units.
    """

    units: int
    init: str = "he"
    bias: bool = True
    initial_bias: float = 0.0

    kind: ClassVar[str] = "linear"

    def __post_init__(self) -> None:
        check.whole("linear", "units", self.units)
        check.flag("linear", "bias", self.bias)
        check.number("linear", "initial_bias", self.initial_bias, -100.0, 100.0)
        initialisation.check_rule("linear", self.init)
        if self.init == "dirac":
            raise InputError("linear: init dirac is for convolutions", "Use fan_in")

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of the output; refuses what does not fit."""
        if len(shape) != 1:
            raise InputError(f"linear needs rows of features and is given {check.size(shape)}", "Put `flatten` before")
        return (self.units,)

    def parameters(self, shape: Shape) -> dict[str, Parameter]:
        """Learned and fixed arrays, as in `Shapes`."""
        fan_in = shape[0]
        found = {"weight": Parameter((self.units, fan_in), initialisation.weights(self.init, fan_in, self.units))}
        if self.bias:
            found["bias"] = Parameter((self.units,), initialisation.biases(self.init, fan_in, self.initial_bias))
        return found

    def forward(self, x: Any, parameters: Mapping[str, Any], mode: Mode) -> Any:
        """Apply it to a batch."""
        return check.functional().linear(x, parameters["weight"], parameters.get("bias"))

    def multiply_adds(self, shape: Shape) -> int:
        """Of one example."""
        return shape[0] * self.units

    def describe(self) -> str:
        """Kind and settings."""
        return f"linear {self.units}"


def collapse(layers: Sequence[Linear], arrays: Sequence[Mapping[str, FloatArray]]) -> tuple[Float64, Float64]:
    """The one linear layer that a stack of linear layers is: ``x W₁ W₂ … + b``, in float64.

    ``(x W₁ + b₁) W₂ + b₂ = x (W₁ W₂) + (b₁ W₂ + b₂)``: depth adds nothing without a nonlinearity between.

    Parameters
    ----------
    layers : sequence of Linear
    arrays : sequence of mapping
        ``{"weight": (units, D), "bias": (units,)}`` of each layer.

    Returns
    -------
    W : (D, K), b : (K,)

    Raises
    ------
    InputError
        For no layer, something else than a linear layer, and shapes that do not follow each other.

    Examples
    --------
    >>> W, b = collapse([Linear(1), Linear(1)], [{"weight": np.array([[2.0, 1.0]]), "bias": np.array([1.0])},
    ...                                          {"weight": np.array([[3.0]]), "bias": np.array([4.0])}])
    >>> W.tolist(), b.tolist()
    ([[6.0], [3.0]], [7.0])
    """
    if not layers or len(layers) != len(arrays):
        raise InputError(f"{len(layers)} layers with {len(arrays)} sets of arrays", "Give the arrays of each layer")
    for layer in layers:
        if not isinstance(layer, Linear):
            raise InputError(f"{type(layer).__name__} is not linear", "Only a stack of linear layers is one layer")
    width = np.shape(arrays[0]["weight"])[1]
    W, b = np.eye(width), np.zeros(width)
    for layer, own in zip(layers, arrays):
        step = np.asarray(own["weight"], dtype=np.float64).T
        if step.shape != (W.shape[1], layer.units):
            raise InputError(f"linear {layer.units} has weights {step.T.shape} after {W.shape[1]} features")
        W, b = W @ step, b @ step + np.asarray(own.get("bias", 0.0), dtype=np.float64)
    return W, b
