"""The interface of feature maps: float32 features (N, D) in, float32 features (N, D') out."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import numpy as np

from lastlayer._arrays import Array, Float32, FloatArray, InputError

WIDEST = 2**24
"""Most features that a map may give."""


class FeatureMap(ABC):
    """A frozen dataclass that turns rows of features into rows of features.

    Shapes
    ------
    Z : float32 (N, D); result : float32 (N, D').

    What becomes of a row never depends on the rows beside it, to the bit.
    """

    name: ClassVar[str]
    learns: ClassVar[bool]
    """Whether `fit` looks at the features."""

    @abstractmethod
    def fit(self, Z: Float32, rng: np.random.Generator) -> Self:
        """Return a copy fitted to training rows.

        Raises
        ------
        InputError
            When features like these cannot be mapped.
        """

    @abstractmethod
    def transform(self, Z: Float32) -> Float32:
        """Return new features; a new array each time."""

    @abstractmethod
    def width(self, n_inputs: int) -> int:
        """D' for D.

        Raises
        ------
        InputError
            Before `fit`, and for another D than there was in `fit`.
        """

    @abstractmethod
    def pull_back(self, W: FloatArray) -> FloatArray | None:
        """Weights (D, K) of the inputs that give the scores of weights W (D', K) of the outputs, but for a constant.

        None where the map is not linear.
        """

    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """Return what the constructor takes by position, as JSON values; after `fit` with the choices made there."""

    @abstractmethod
    def arrays(self) -> dict[str, Array]:
        """Fitted arrays by the constructor's names for them; empty where nothing is learned."""

    @abstractmethod
    def describe(self) -> str:
        """A few words for the plan."""


def check_number(owner: str, name: str, value: Any, low: float, high: float) -> float:
    """A finite number between two bounds, included; whole numbers become floats.

    Raises
    ------
    InputError
        For anything else; True and False are no numbers here.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not low <= value <= high:
        raise InputError(f"{owner}: {name} is {value!r}; a number from {low:g} to {high:g} is needed")
    return float(value)


def check_inputs(name: str, Z: FloatArray, n_inputs: int) -> None:
    """Refuse anything but rows of D features."""
    if Z.ndim != 2 or Z.shape[1] != n_inputs:
        raise InputError(f"{name}: features have shape {Z.shape}; (N, {n_inputs}) is needed")


def check_training(name: str, Z: FloatArray) -> None:
    """Refuse anything but at least one row of at least one finite feature."""
    if Z.ndim != 2 or not Z.size:
        raise InputError(f"{name}: features have shape {Z.shape}; at least one row and one column are needed")
    for start in range(0, len(Z), 4096):
        if not np.isfinite(Z[start : start + 4096]).all():
            raise InputError(f"{name}: the features hold NaN or infinite numbers")


def check_width(name: str, n_inputs: int, expected: int | None) -> None:
    """Refuse another number of inputs than in `fit`; None: it was never fitted."""
    if expected is None:
        raise InputError(f"{name} is not fitted", f"Call {name}.fit(features, rng) first and use what it returns")
    if n_inputs != expected:
        raise InputError(f"{name} was fitted on {expected} features and meets {n_inputs}")


def frozen(owner: str, name: str, array: Any, dtype: type[np.floating[Any]], ndim: int) -> Any:
    """A read-only copy in C order of a finite array of that type and number of axes, none of them empty."""
    fits = isinstance(array, np.ndarray) and array.dtype == dtype and array.ndim == ndim and array.size > 0
    if not fits or not np.isfinite(array).all():
        raise InputError(f"{owner}: {name} is no finite {np.dtype(dtype)} array of {ndim} axes")
    if array.flags.c_contiguous and not array.flags.writeable:
        return array
    array = np.array(array, order="C")
    array.flags.writeable = False
    return array
