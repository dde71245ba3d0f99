"""Derivatives from values alone: one-sided and central finite differences.

``f'(x) ≈ (f(x + h) - f(x)) / h`` errs by ``½ h |f''|`` (truncation) and ``2 ε |f| / h`` (rounding, ε the relative
rounding of the values): the sum is smallest near ``h = √ε``, where half the digits are left. The central difference
``(f(x + h) - f(x - h)) / 2h`` errs by ``h² |f'''| / 6`` and ``ε |f| / h``: best near ``h = ∛ε``, two thirds of the
digits (Nocedal & Wright 2006, section 8.1). Both steps are scaled by ``max(1, |x|)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple, final

import numpy as np

from lastlayer._arrays import Array, Float64, InputError
from lastlayer.solvers.base import CURVATURE_BOUND, GRADIENT, ROWS, SMOOTH, Line, LineValue, Point, Problem

Scheme = Literal["one_sided", "central"]
"""One value more for each parameter and half the digits, or two values and two thirds of them."""

POWERS = {"one_sided": 1 / 2, "central": 1 / 3}


class Slopes(NamedTuple):
    """Difference quotients along one parameter: to the right, to the left, and between the two neighbours."""

    ahead: float
    behind: float
    central: float


def step_length(scheme: Scheme, rounding: float, x: float = 0.0) -> float:
    """The step h that balances truncation and rounding at x.

    Raises
    ------
    InputError
        For a scheme that is neither "one_sided" nor "central".

    Examples
    --------
    >>> round(step_length("central", 1e-15), 12)
    1e-05
    """
    if scheme not in POWERS:
        raise InputError(f"No difference scheme is called {scheme!r}", f"There are {' and '.join(POWERS)}")
    return float(rounding ** POWERS[scheme] * max(1.0, abs(x)))


def slopes(value: Callable[[Array], float], x: Array, index: tuple[int, ...], step: float, here: float) -> Slopes:
    """Difference quotients of `value` along one entry of x, the step as x's type represents it.

    Parameters
    ----------
    value : callable
        Array -> float.
    x : ndarray
        Where; left alone.
    index : tuple of int
        Which entry moves.
    step : float
        h.
    here : float
        ``value(x)``.
    """
    ahead, behind = moved(x, index, step), moved(x, index, -step)
    right, left = float(ahead[index]) - float(x[index]), float(x[index]) - float(behind[index])
    above, below = value(ahead) - here, here - value(behind)
    return Slopes(above / right, below / left, (above + below) / (right + left))


def moved(x: Array, index: tuple[int, ...], step: float) -> Array:
    """A copy of x with one entry changed by `step`."""
    out = x.copy()
    out[index] += step
    return out


def difference_gradient(
    value: Callable[[Float64], float],
    x: Float64,
    scheme: Scheme = "central",
    rounding: float = 1e-15,
    here: float | None = None,
) -> Float64:
    """The gradient of `value` at x by differences: n values one-sided (and one at x), 2 n central.

    Parameters
    ----------
    value : callable
        Array -> float.
    x : ndarray
        Where; of any shape.
    scheme : {"central", "one_sided"}
    rounding : float
        ε, the relative rounding of the values.
    here : float, optional
        ``value(x)`` where it is known; only the one-sided scheme needs it.

    Examples
    --------
    >>> difference_gradient(lambda x: float(x @ x), np.array([1.0, -2.0])).round(6)
    array([ 2., -4.])
    """
    gradient = np.empty(x.shape)
    if scheme == "one_sided" and here is None:
        here = value(x.copy())
    for index in np.ndindex(x.shape):
        h = step_length(scheme, rounding, float(x[index]))
        ahead = moved(x, index, h)
        behind = moved(x, index, -h) if scheme == "central" else x
        below = value(behind) if scheme == "central" else here
        assert below is not None
        gradient[index] = (value(ahead) - below) / float(ahead[index] - behind[index])
    return gradient


@final
@dataclass(frozen=True, eq=False)
class ValueProblem(Problem):
    """A plain function without derivatives; it provides nothing, for solvers that need nothing.

    Parameters
    ----------
    function : callable
        params -> value.
    begin : ndarray
        Where to start.
    rounding_error : float
        Relative rounding error (or noise) of the values.

    Examples
    --------
    >>> from lastlayer.solvers.gradient_descent import GradientDescent
    >>> from lastlayer.solvers.steps import Armijo
    >>> bowl = ValueProblem(lambda x: float((x - 3) @ (x - 3)), np.zeros(2))
    >>> GradientDescent(Armijo(), tol=1e-6).minimise(FiniteDifferenceProblem(bowl)).params.round(4)
    array([3., 3.])
    """

    function: Callable[[Float64], float]
    begin: Float64
    rounding_error: float = 1e-15
    _count: list[int] = field(default_factory=lambda: [0], repr=False)

    @property
    def name(self) -> str:
        """Name for refusals."""
        return "a plain function without a gradient"

    @property
    def provides(self) -> frozenset[str]:
        """Nothing."""
        return frozenset()

    @property
    def passes(self) -> float:
        """Evaluations so far."""
        return float(self._count[0])

    def start(self) -> Float64:
        """A copy of `begin`."""
        return np.array(self.begin, dtype=np.float64)

    def at(self, params: Float64) -> Point:
        """Evaluate there."""
        self._count[0] += 1
        params = np.array(params, dtype=np.float64)
        return _ValuePoint(params, float(self.function(params)))

    def norm(self, gradient: Float64) -> float:
        """The norm itself: there is no gradient to compare it with."""
        return float(np.linalg.norm(gradient))

    @property
    def rounding(self) -> float:
        """As declared."""
        return self.rounding_error

    def curvature_bound(self) -> float:
        """None is known."""
        return math.inf


def _no_gradient() -> InputError:
    return InputError(
        "A plain function without a gradient was asked for one",
        "Wrap it in FiniteDifferenceProblem, or use SPSA or EvolutionStrategy",
    )


@final
@dataclass(frozen=True, eq=False)
class _ValuePoint(Point):
    where: Float64
    height: float

    @property
    def params(self) -> Float64:
        return self.where

    @property
    def value(self) -> float:
        return self.height

    @property
    def gradient(self) -> Float64:
        raise _no_gradient()

    def line(self, direction: Float64) -> Line:
        raise _no_gradient()


@final
@dataclass(frozen=True, eq=False)
class FiniteDifferenceProblem(Problem):
    """A problem of which only values are known, with a gradient by differences, so that any first-order solver runs.

    A gradient of n parameters costs 2 n values (central) or n (one-sided) and is exact to about ``ε^⅔`` or ``√ε``
    of its size: no tolerance below that can be met. A slope along a line costs two values whatever n.

    A step function such as the zero-one loss has differences of zero almost everywhere and is refused where that is
    known (`SPSA` and `EvolutionStrategy` are for those).

    Parameters
    ----------
    problem : Problem
        Only ``problem.at(params).value`` is used.
    scheme : {"central", "one_sided"}
    smooth : bool
        Whether to say that the gradient is continuous when the problem itself says nothing.
    """

    problem: Problem
    scheme: Scheme = "central"
    smooth: bool = True

    def __post_init__(self) -> None:
        step_length(self.scheme, 1e-15)
        provides = self.problem.provides
        if ROWS in provides and GRADIENT not in provides:
            raise InputError(
                f"Differences of {self.problem.name} are zero almost everywhere: it is a step function",
                "Use SPSA or EvolutionStrategy, which look further",
            )

    @property
    def name(self) -> str:
        """Name for refusals."""
        return f"{self.problem.name} by differences"

    @property
    def provides(self) -> frozenset[str]:
        """A gradient; what the problem says of its smoothness and curvature, where it says something."""
        inner = self.problem.provides
        continuous = SMOOTH in inner if GRADIENT in inner else self.smooth
        return frozenset({GRADIENT} | ({SMOOTH} if continuous else set()) | (inner & {CURVATURE_BOUND}))

    @property
    def passes(self) -> float:
        """Those of the values."""
        return self.problem.passes

    def start(self) -> Float64:
        """The problem's own."""
        return self.problem.start()

    def at(self, params: Float64) -> Point:
        """The problem there, its value not yet computed."""
        return _DifferencePoint(self, np.array(params, dtype=np.float64))

    def value(self, params: Float64) -> float:
        """One value."""
        return self.problem.at(params.copy()).value

    def norm(self, gradient: Float64) -> float:
        """The problem's own where it has a gradient, else relative to the gradient at the start."""
        if GRADIENT in self.problem.provides:
            return self.problem.norm(gradient)
        return float(np.linalg.norm(gradient)) / self._yardstick

    @cached_property
    def _yardstick(self) -> float:
        return float(np.linalg.norm(self.at(self.start()).gradient)) or 1.0

    @property
    def rounding(self) -> float:
        """Relative rounding error of the values."""
        return self.problem.rounding

    def curvature_bound(self) -> float:
        """The problem's own."""
        return self.problem.curvature_bound()


@final
@dataclass(frozen=True, eq=False)
class _DifferencePoint(Point):
    problem: FiniteDifferenceProblem
    where: Float64

    @property
    def params(self) -> Float64:
        return self.where

    @cached_property
    def _value(self) -> float:
        return self.problem.value(self.where)

    @property
    def value(self) -> float:
        return self._value

    @cached_property
    def _gradient(self) -> Float64:
        problem = self.problem
        here = self.value if problem.scheme == "one_sided" else None
        return difference_gradient(problem.value, self.where, problem.scheme, problem.rounding, here)

    @property
    def gradient(self) -> Float64:
        return self._gradient

    def line(self, direction: Float64) -> Line:
        return _DifferenceLine(self, direction)


@final
@dataclass(frozen=True, eq=False)
class _DifferenceLine(Line):
    begin: _DifferencePoint
    direction: Float64

    def evaluate(self, step: float) -> LineValue:
        """Three values (two one-sided): the slope is a difference along the line, not a gradient."""
        problem = self.begin.problem
        x = self.begin.where + step * self.direction
        size = float(np.abs(self.direction).max()) or 1.0
        h = step_length(problem.scheme, problem.rounding, float(np.abs(x).max(initial=0.0))) / size
        here, ahead = problem.value(x), problem.value(x + h * self.direction)
        if problem.scheme == "one_sided":
            return LineValue(here, (ahead - here) / h, math.nan)
        behind = problem.value(x - h * self.direction)
        return LineValue(here, (ahead - behind) / (2.0 * h), math.nan)

    def move(self, step: float) -> Point:
        return self.begin.problem.at(self.begin.where + step * self.direction)
