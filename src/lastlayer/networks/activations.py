"""The nonlinearities: value and derivative in NumPy, and the forward pass in PyTorch.

============  ==========================================  =====================================
step          1 for x ≥ 0, else 0                         Heaviside; McCulloch & Pitts 1943
sigmoid       σ(x) = 1 / (1 + exp(-x))
tanh          tanh(x) = 2σ(2x) - 1
scaled_tanh   1.7159 tanh(2x/3)                           LeCun et al. 1998, appendix A
relu          max(0, x)                                   Nair & Hinton 2010
leaky_relu    x for x ≥ 0, else a·x; a = 0.02             Maas et al. 2013
gelu          x Φ(x), Φ the normal distribution           Hendrycks & Gimpel 2016
silu          x σ(x)                                      Elfwing et al. 2018
identity      x
============  ==========================================  =====================================

The derivative of the step is zero wherever there is one: no gradient can train what is before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from lastlayer._arrays import Array, Float64
from lastlayer.networks._checks import functional, need_torch

SLOPE = 0.02
"""Of the leaky ReLU below zero."""
AMPLITUDE, STEEPNESS = 1.7159, 2.0 / 3.0
"""LeCun's tanh: f(±1) = ±1, and the second derivative is largest there."""


@final
@dataclass(frozen=True)
class Nonlinearity:
    """A function of one number.

    Attributes
    ----------
    name, formula : str
    limits : (float, float) or None
        What it tends to at both ends, where it saturates at both; None where it grows on one side.
    has_gradient : bool
        Whether the derivative is more than zero somewhere.
    """

    name: str
    formula: str
    limits: tuple[float, float] | None
    _value: Callable[[Float64, float], Float64]
    _derivative: Callable[[Float64, float], Float64]
    _forward: Callable[[Any, float], Any]
    has_gradient: bool = True

    def value(self, x: Array, slope: float = SLOPE) -> Float64:
        """f(x), float64."""
        return self._value(np.asarray(x, dtype=np.float64), slope)

    def derivative(self, x: Array, slope: float = SLOPE) -> Float64:
        """f'(x), float64; at a kink the derivative to the right."""
        return self._derivative(np.asarray(x, dtype=np.float64), slope)

    def forward(self, x: Any, slope: float = SLOPE) -> Any:
        """F of a tensor, with PyTorch's own derivative."""
        return self._forward(x, slope)


def _sigmoid(x: Float64) -> Float64:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, e) / (1.0 + e)


def _normal(x: Float64) -> tuple[Float64, Float64]:
    """Distribution and density of the standard normal."""
    from scipy.special import ndtr

    return ndtr(x), np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)


def _gelu_derivative(x: Float64, a: float) -> Float64:
    distribution, density = _normal(x)
    return distribution + x * density


def _silu_derivative(x: Float64, a: float) -> Float64:
    s = _sigmoid(x)
    return s * (1.0 + x * (1.0 - s))


_TABLE = (
    Nonlinearity(
        "step",
        "1 for x ≥ 0, else 0",
        (0.0, 1.0),
        lambda x, a: (x >= 0).astype(np.float64),
        lambda x, a: np.zeros_like(x),
        lambda x, a: (x >= 0).to(x.dtype),
        has_gradient=False,
    ),
    Nonlinearity(
        "sigmoid",
        "1 / (1 + exp(−x))",
        (0.0, 1.0),
        lambda x, a: _sigmoid(x),
        lambda x, a: _sigmoid(x) * _sigmoid(-x),
        lambda x, a: need_torch().sigmoid(x),
    ),
    Nonlinearity(
        "tanh",
        "tanh(x) = 2σ(2x) − 1",
        (-1.0, 1.0),
        lambda x, a: np.tanh(x),
        lambda x, a: 4.0 * _sigmoid(2.0 * x) * _sigmoid(-2.0 * x),
        lambda x, a: need_torch().tanh(x),
    ),
    Nonlinearity(
        "scaled_tanh",
        "1.7159 tanh(2x/3)",
        (-AMPLITUDE, AMPLITUDE),
        lambda x, a: AMPLITUDE * np.tanh(STEEPNESS * x),
        lambda x, a: 4.0 * AMPLITUDE * STEEPNESS * _sigmoid(2.0 * STEEPNESS * x) * _sigmoid(-2.0 * STEEPNESS * x),
        lambda x, a: need_torch().tanh(x * STEEPNESS) * AMPLITUDE,
    ),
    Nonlinearity(
        "relu",
        "max(0, x)",
        None,
        lambda x, a: np.maximum(x, 0.0),
        lambda x, a: (x >= 0).astype(np.float64),
        lambda x, a: functional().relu(x),
    ),
    Nonlinearity(
        "leaky_relu",
        "x for x ≥ 0, else a·x",
        None,
        lambda x, a: np.where(x >= 0, x, a * x),
        lambda x, a: np.where(x >= 0, 1.0, a),
        lambda x, a: functional().leaky_relu(x, a),
    ),
    Nonlinearity(
        "gelu",
        "x Φ(x)",
        None,
        lambda x, a: x * _normal(x)[0],
        _gelu_derivative,
        lambda x, a: functional().gelu(x),
    ),
    Nonlinearity(
        "silu",
        "x σ(x)",
        None,
        lambda x, a: x * _sigmoid(x),
        _silu_derivative,
        lambda x, a: functional().silu(x),
    ),
    Nonlinearity(
        "identity",
        "x",
        None,
        lambda x, a: x.copy(),
        lambda x, a: np.ones_like(x),
        lambda x, a: x,
    ),
)
ACTIVATIONS: Mapping[str, Nonlinearity] = {one.name: one for one in _TABLE}
"""All of them by name."""
