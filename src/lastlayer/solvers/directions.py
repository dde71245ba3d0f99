"""Where to go: directions made of a gradient and of what earlier ones left behind.

A direction is a frozen component; what it remembers is a `Memory` that the solver carries from step to step. Full
gradients and those of minibatches are followed by the same components, with any schedule or step rule.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from lastlayer._arrays import Float64, InputError


class Memory(NamedTuple):
    """What a direction remembers: gradients seen since it began, and running sums of them."""

    gradients: int = 0
    sums: tuple[Float64, ...] = ()


class Limit(NamedTuple):
    """Above ``factor / L`` a constant step diverges on a quadratic of curvature L; `text` is how to write that."""

    factor: float
    text: str


class Direction(ABC):
    """A rule that turns gradients into directions; the solver moves by ``rate · direction``."""

    @abstractmethod
    def follow(self, gradient: Float64, memory: Memory) -> tuple[Float64, Memory]:
        """The direction for the newest gradient, and the memory for the next; ``Memory()`` is the beginning."""

    @property
    @abstractmethod
    def gain(self) -> float:
        """Length of the direction as a multiple of the gradient's, when the gradient stays the same."""

    @property
    @abstractmethod
    def limit(self) -> Limit | None:
        """Where constant steps begin to diverge, None where the curvature does not say."""

    @property
    @abstractmethod
    def own_rate(self) -> float | None:
        """A rate that usually suits without knowing the curvature, None where there is none."""


def _momentum(beta: float) -> None:
    if not 0.0 <= beta < 1.0:
        raise InputError(f"beta is {beta:g}; a number from 0 to below 1 is needed")


@final
@dataclass(frozen=True)
class Plain(Direction):
    """``d = -g`` (Cauchy 1847; Robbins & Monro 1951 for minibatches)."""

    def follow(self, gradient: Float64, memory: Memory) -> tuple[Float64, Memory]:
        """Against the gradient."""
        return -gradient, memory

    @property
    def gain(self) -> float:
        """1."""
        return 1.0

    @property
    def limit(self) -> Limit:
        """2/L."""
        return Limit(2.0, "2/L")

    @property
    def own_rate(self) -> None:
        """None."""
        return None


@final
@dataclass(frozen=True)
class Momentum(Direction):
    """The heavy ball, ``v ← β v + g``, ``d = -v`` (Polyak 1964; in the form of PyTorch's SGD).

    With a constant rate η this is ``x ← x - η g + β (x - x_before)``. For curvatures between μ and L the best pair is
    ``η = 4 / (√L + √μ)²``, ``β = ((√L - √μ) / (√L + √μ))²``.

    Parameters
    ----------
    beta : float
        From 0 to below 1.
    """

    beta: float = 0.9

    def __post_init__(self) -> None:
        _momentum(self.beta)

    def follow(self, gradient: Float64, memory: Memory) -> tuple[Float64, Memory]:
        """Against the sum of all gradients, older ones fading."""
        velocity = gradient if not memory.sums else self.beta * memory.sums[0] + gradient
        return -velocity, Memory(memory.gradients + 1, (velocity,))

    @property
    def gain(self) -> float:
        """``1 / (1 - β)``."""
        return 1.0 / (1.0 - self.beta)

    @property
    def limit(self) -> Limit:
        """``2 (1 + β) / L``."""
        return Limit(2.0 * (1.0 + self.beta), f"2(1 + {self.beta:g})/L")

    @property
    def own_rate(self) -> None:
        """None."""
        return None


@final
@dataclass(frozen=True)
class Nesterov(Direction):
    """Nesterov's accelerated gradient (1983), ``v ← β v + g``, ``d = -(g + β v)``.

    The parameters are those at which gradients are taken (his y), so that every gradient is one of the problem where
    the solver is. A constant β, best at ``(√L - √μ) / (√L + √μ)`` for curvatures between μ and L, is PyTorch's form
    (Sutskever et al. 2013). His own β grows, ``k / (k + 3)`` at the k-th step (as Su, Boyd & Candès 2016 write it):
    it needs no μ and brings the distance from the optimum's value down as ``2 L ‖x₀ - x*‖² / k²``. It is for full
    gradients, since it adds up the noise of minibatches.

    Parameters
    ----------
    beta : float or None
        From 0 to below 1; growing with the steps when None.
    """

    beta: float | None = 0.9

    def __post_init__(self) -> None:
        if self.beta is not None:
            _momentum(self.beta)

    def _beta(self, k: int) -> float:
        return k / (k + 3.0) if self.beta is None else self.beta

    def follow(self, gradient: Float64, memory: Memory) -> tuple[Float64, Memory]:
        """Against the gradient, and on along the way that brought us here."""
        k = memory.gradients
        velocity = gradient if not memory.sums else self._beta(k - 1) * memory.sums[0] + gradient
        return -(gradient + self._beta(k) * velocity), Memory(k + 1, (velocity,))

    @property
    def gain(self) -> float:
        """``1 / (1 - β)``; 10 when β grows, for the first dozens of steps."""
        return 10.0 if self.beta is None else 1.0 / (1.0 - self.beta)

    @property
    def limit(self) -> Limit:
        """``2 (1 + β) / ((1 + 2 β) L)``."""
        if self.beta is None:
            return Limit(4.0 / 3.0, "4/(3 L)")
        return Limit(
            2.0 * (1.0 + self.beta) / (1.0 + 2.0 * self.beta), f"2(1 + {self.beta:g})/((1 + 2·{self.beta:g})L)"
        )

    @property
    def own_rate(self) -> None:
        """None."""
        return None


@final
@dataclass(frozen=True)
class Adam(Direction):
    """``d = -m̂ / (√v̂ + eps)`` with running means m of g and v of g² (Kingma & Ba 2015, algorithm 1).

    ``m ← β₁ m + (1 - β₁) g``, ``v ← β₂ v + (1 - β₂) g²``, and ``m̂ = m / (1 - β₁ᵗ)``, ``v̂ = v / (1 - β₂ᵗ)`` take out
    that both began at zero. Each parameter moves by about the rate, whatever its gradient's size: the rate must fall
    for the parameters to settle.

    Parameters
    ----------
    beta1, beta2 : float
        From 0 to below 1.
    eps : float
        Above 0.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def __post_init__(self) -> None:
        _momentum(self.beta1)
        _momentum(self.beta2)
        if not (self.eps > 0.0 and math.isfinite(self.eps)):
            raise InputError(f"eps is {self.eps:g}; a number above 0 is needed")

    def follow(self, gradient: Float64, memory: Memory) -> tuple[Float64, Memory]:
        """Against the running mean, each parameter in its own measure."""
        first, second = memory.sums or (np.zeros_like(gradient), np.zeros_like(gradient))
        t = memory.gradients + 1
        first = self.beta1 * first + (1.0 - self.beta1) * gradient
        second = self.beta2 * second + (1.0 - self.beta2) * np.square(gradient)
        size = np.sqrt(second / (1.0 - self.beta2**t)) + self.eps
        return -(first / (1.0 - self.beta1**t)) / size, Memory(t, (first, second))

    @property
    def gain(self) -> float:
        """1."""
        return 1.0

    @property
    def limit(self) -> None:
        """None: the steps do not grow with the gradient."""
        return None

    @property
    def own_rate(self) -> float:
        """0.001, the paper's."""
        return 1e-3
