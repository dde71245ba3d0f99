"""What dual coordinate ascent needs of a problem: rows, labels and boxes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, final

from lastlayer._arrays import Array, Float64, FloatArray, IntArray
from lastlayer.solvers.base import Line, Point, Problem

DUAL = "a dual with a box for every row"


class DualRows(NamedTuple):
    """What the ascent visits.

    Attributes
    ----------
    X : ndarray
        Rows in C order, of uint8, float32 or float64.
    rows : ndarray
        (n,) the numbers of those in use.
    y : ndarray
        (n,) their labels.
    classes : ndarray
        (C,) the classes to be told from the rest.
    box : ndarray
        (n,) ``cᵢ = sᵢ/(λ Σ s)``, the upper bounds of α.
    centre : ndarray
        (D,) the columns' mean; zeros without an intercept.
    intercept : bool
    """

    X: Array
    rows: IntArray
    y: IntArray
    classes: IntArray
    box: Float64
    centre: Float64
    intercept: bool


class DualProblem(Problem):
    """C problems ``½‖w‖² + Σ cᵢ max(0, 1 - tᵢ (w·xᵢ + b))`` over the same rows; provides `DUAL`."""

    @property
    @abstractmethod
    def dual(self) -> DualRows:
        """Rows, labels and boxes."""

    @property
    @abstractmethod
    def unit(self) -> float:
        """What the sum of the C problems' values is multiplied with to be the value of this problem."""

    @abstractmethod
    def scores(self, W: Float64) -> FloatArray:
        """``W Xᵀ`` (C, n) for weights (C, D), in the products' type."""

    @abstractmethod
    def combine(self, A: Float64) -> Float64:
        """``A X`` (C, D) for numbers (C, n), summed in float64."""

    @abstractmethod
    def params_of(self, W: Float64, bias: Float64) -> Float64:
        """Parameters of the problem, from the weights (C, D) and biases (C,)."""

    @abstractmethod
    def count(self, passes: float) -> None:
        """Passes made by the solver itself."""

    @property
    @abstractmethod
    def threads(self) -> int:
        """Threads in use."""

    @abstractmethod
    def spread(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """``[function(i) for i in items]`` on the threads."""


@final
class ValuedPoint(Point):
    """A point whose value a certificate knows; its gradient costs a pass, and is made when asked for."""

    def __init__(self, problem: Problem, params: Float64, value: float) -> None:
        self.problem, self._params, self._value = problem, params, value

    @property
    def params(self) -> Float64:
        """The parameters."""
        return self._params

    @property
    def value(self) -> float:
        """The value there."""
        return self._value

    @property
    def gradient(self) -> Float64:
        """The problem's own."""
        return self.problem.at(self._params).gradient

    def line(self, direction: Float64) -> Line:
        """The problem's own."""
        return self.problem.at(self._params).line(direction)
