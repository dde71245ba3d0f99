"""What a layer is: a frozen value; its numbers live outside it in a dict of arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from lastlayer._arrays import Float32
from lastlayer.networks._checks import Shape as Shape

Start = Callable[[np.random.Generator, Shape], Float32]
"""Random numbers and a shape -> the array before training."""


@final
@dataclass(frozen=True)
class Mode:
    """How a forward pass is meant.

    Attributes
    ----------
    training : bool
        Whether units are dropped and batch normalisation uses the batch. Running statistics are then changed in
        place, in the tensors given.
    generator : torch.Generator, optional
        Decides which units are dropped; PyTorch's global one when None.
    """

    training: bool
    generator: Any = None


EVALUATION = Mode(training=False)
"""Nothing is dropped, nothing is changed."""


@final
@dataclass(frozen=True)
class Parameter:
    """One array of a layer.

    Attributes
    ----------
    shape : tuple of int
    start : callable
        Makes its values before training.
    learned : bool
        Whether gradients move it; False for running statistics and for filters or centres that are fixed.
    """

    shape: Shape
    start: Start
    learned: bool = True

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return int(np.prod([int(side) for side in self.shape], dtype=object)) if self.shape else 1


class Layer(ABC):
    """One function f_l of a network f = f_L ∘ … ∘ f_1.

    Shapes
    ------
    One example is (H, W, C) or (D,) in every method but `forward`, where a batch is a tensor (N, C, H, W), kept in
    channels-last memory, or (N, D).
    """

    kind: ClassVar[str]
    """Its name in model files."""

    @abstractmethod
    def output_shape(self, shape: Shape) -> Shape:
        """Shape of what comes out.

        Raises
        ------
        InputError
            For a shape that does not fit; names the layer and the shapes.
        """

    @abstractmethod
    def parameters(self, shape: Shape) -> dict[str, Parameter]:
        """Its arrays by name, for inputs of that shape: learned ones and fixed ones; {} where there are none."""

    @abstractmethod
    def forward(self, x: Any, parameters: Mapping[str, Any], mode: Mode) -> Any:
        """Apply it to a batch; `parameters` are tensors by the names of `parameters`."""

    @abstractmethod
    def multiply_adds(self, shape: Shape) -> int:
        """Multiplications followed by an addition, for one example; what is done per element counts as none."""

    @abstractmethod
    def describe(self) -> str:
        """A few words for the table of an architecture."""


def zeros(rng: np.random.Generator, shape: Shape) -> Float32:
    """A start of zeros."""
    return np.zeros(shape, dtype=np.float32)


def ones(rng: np.random.Generator, shape: Shape) -> Float32:
    """A start of ones."""
    return np.ones(shape, dtype=np.float32)
