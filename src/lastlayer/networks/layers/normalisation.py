"""Batch normalisation and local response normalisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

from lastlayer._errors import InputError
from lastlayer.networks import _checks as check
from lastlayer.networks.base import Layer, Mode, Parameter, Shape, ones, zeros


@final
@dataclass(frozen=True)
class BatchNorm(Layer):
    """``y = weight · (x - mean) / √(variance + epsilon) + bias``, channel by channel (Ioffe & Szegedy 2015).

    In training mean and variance are the batch's, and the running ones move towards them in place; in evaluation the
    running ones are used.

    Parameters
    ----------
    momentum : float
        Share of the batch in each move of the running statistics.
    scale : bool
        Whether the weight is learned; it stays at 1 otherwise.
    epsilon : float

    Shapes
    ------
    weight, bias, mean, variance : (C,).
    """

    momentum: float = 0.1
    scale: bool = True
    epsilon: float = 1e-5

    kind: ClassVar[str] = "batch_norm"

    def __post_init__(self) -> None:
        check.number(self.kind, "momentum", self.momentum, 0.0, 1.0)
        check.flag(self.kind, "scale", self.scale)
        check.number(self.kind, "epsilon", self.epsilon, 1e-12, 1.0)

    def output_shape(self, shape: Shape) -> Shape:
        """The same shape."""
        return shape

    def parameters(self, shape: Shape) -> dict[str, Parameter]:
        """Learned and fixed arrays, as in `Shapes`."""
        width = shape[-1:]
        found = {"weight": Parameter(width, ones)} if self.scale else {}
        return {
            **found,
            "bias": Parameter(width, zeros),
            "mean": Parameter(width, zeros, learned=False),
            "variance": Parameter(width, ones, learned=False),
        }

    def forward(self, x: Any, parameters: Mapping[str, Any], mode: Mode) -> Any:
        """Apply it to a batch."""
        # rows of channels, a view of channels-last memory: twice as fast on a CPU
        rows = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]) if x.ndim == 4 else x
        y = check.functional().batch_norm(
            rows,
            parameters["mean"],
            parameters["variance"],
            parameters.get("weight"),
            parameters["bias"],
            mode.training,
            self.momentum,
            self.epsilon,
        )
        return y.view(x.shape[0], *x.shape[2:], -1).permute(0, 3, 1, 2) if x.ndim == 4 else y

    def multiply_adds(self, shape: Shape) -> int:
        """None."""
        return 0

    def describe(self) -> str:
        """Kind and settings."""
        return "batch norm" + ("" if self.scale else ", scale 1")


@final
@dataclass(frozen=True)
class LocalResponseNorm(Layer):
    """``y_c = x_c / (k + α Σ_j x_j²)^β``, j over `neighbours` maps around c (Krizhevsky et al. 2012, section 3.3).

    Their text has k = 2, n = 5, α = 1e-4, β = 0.75, with the plain sum over the maps. `within` sums over a window of
    `neighbours` rows and columns of the same map instead (cuda-convnet's rnorm).
    """

    neighbours: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 2.0
    within: bool = False

    kind: ClassVar[str] = "local_response_norm"

    def __post_init__(self) -> None:
        check.whole(self.kind, "neighbours", self.neighbours, 1, 4095)
        check.number(self.kind, "alpha", self.alpha, 0.0, 1e3)
        check.number(self.kind, "beta", self.beta, 0.0, 10.0)
        check.number(self.kind, "k", self.k, 1e-6, 1e3)
        check.flag(self.kind, "within", self.within)
        if self.within and self.neighbours % 2 == 0:
            raise InputError(f"{self.kind}: a window of {self.neighbours} has no middle", "Give an odd number")

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of the output; refuses what does not fit."""
        check.image("local response norm", shape)
        return shape

    def parameters(self, shape: Shape) -> dict[str, Parameter]:
        """None."""
        return {}

    def forward(self, x: Any, parameters: Mapping[str, Any], mode: Mode) -> Any:
        """Apply it to a batch."""
        if self.within:
            sums = check.functional().avg_pool2d(
                x.square(), self.neighbours, 1, self.neighbours // 2, divisor_override=1
            )
            return x * (self.k + self.alpha * sums) ** -self.beta
        # PyTorch divides alpha by the number of maps
        return check.functional().local_response_norm(
            x, self.neighbours, self.alpha * self.neighbours, self.beta, self.k
        )

    def multiply_adds(self, shape: Shape) -> int:
        """None."""
        return 0

    def describe(self) -> str:
        """Kind and settings."""
        what = f"{self.neighbours}x{self.neighbours} places" if self.within else f"{self.neighbours} maps"
        return f"local response norm over {what}"
