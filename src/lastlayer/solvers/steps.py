"""How far: a step rule turns a schedule, or a line search, into the length of the next step along a `Line`.

Schedules, plain functions of the step count, are in `schedules`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

from lastlayer._arrays import InputError
from lastlayer.solvers.base import Line, LineValue
from lastlayer.solvers.schedules import Schedule as Schedule
from lastlayer.solvers.schedules import constant as constant
from lastlayer.solvers.schedules import polynomial_decay as polynomial_decay


class StepRule(ABC):
    """How far to go along a direction."""

    @property
    @abstractmethod
    def needs_descent(self) -> bool:
        """Whether the value must fall along the direction at first, as line searches ask for."""

    @abstractmethod
    def length(self, line: Line, begin: LineValue, count: int, rounding: float) -> float | None:
        """The step, or None when no step lowers the value.

        Parameters
        ----------
        line : Line
        begin : LineValue
            Value and slope at step 0.
        count : int
            Steps made before.
        rounding : float
            Relative rounding error of the values.
        """


@final
@dataclass(frozen=True)
class Scheduled(StepRule):
    """A schedule, followed blindly."""

    schedule: Schedule

    @property
    def needs_descent(self) -> bool:
        """No: momentum may lead uphill."""
        return False

    def length(self, line: Line, begin: LineValue, count: int, rounding: float) -> float | None:
        """What the schedule says."""
        return self.schedule(count)


@final
@dataclass(frozen=True)
class Armijo(StepRule):
    """Backtracking until ``f(t) ≤ f(0) + decrease · t · f'(0)`` (Armijo 1966).

    Parameters
    ----------
    first : float
        First step tried.
    decrease, shrink : float
    """

    first: float = 1.0
    decrease: float = 1e-4
    shrink: float = 0.5

    @property
    def needs_descent(self) -> bool:
        """Yes."""
        return True

    def length(self, line: Line, begin: LineValue, count: int, rounding: float) -> float | None:
        """The first of ``first · shrinkⁱ`` that lowers the value enough."""
        step = self.first
        for _ in range(100):
            if line.evaluate(step).value <= begin.value + self.decrease * step * begin.slope:
                return step
            step *= self.shrink
        return None


@final
@dataclass(frozen=True)
class ExactLineSearch(StepRule):
    """The minimum along the line, to a slope of `flatness` times the first one (`search`)."""

    first: float = 1.0
    flatness: float = 1e-3

    @property
    def needs_descent(self) -> bool:
        """Yes."""
        return True

    def length(self, line: Line, begin: LineValue, count: int, rounding: float) -> float | None:
        """The step."""
        return search(line, begin, self.first, self.flatness, rounding)


@final
@dataclass(frozen=True)
class StrongWolfe(StepRule):
    """A step that lowers the value enough and flattens the slope enough (Wolfe 1969).

    ``f(t) ≤ f(0) + decrease · t · f'(0)`` and ``|f'(t)| ≤ curvature · |f'(0)|``, by bracketing and zooming with cubic
    interpolation (Nocedal & Wright 2006, algorithms 3.5 and 3.6, equation 3.59). Values that are not finite count as
    too high. Values are compared as far as they are exact (Hager & Zhang 2005): where rounding makes them alike, the
    slope decides.

    Parameters
    ----------
    first : float
        First step tried.
    decrease, curvature : float
        ``0 < decrease < curvature < 1``; a curvature of 0.1 suits directions that remember, such as momentum.
    trials : int
        Most evaluations; after them the lowest step found that fulfils the first condition is taken, if there is one.
    """

    first: float = 1.0
    decrease: float = 1e-4
    curvature: float = 0.9
    trials: int = 40

    def __post_init__(self) -> None:
        if not 0.0 < self.decrease < self.curvature < 1.0:
            raise InputError(
                f"decrease is {self.decrease:g} and curvature {self.curvature:g}",
                "Give 0 < decrease < curvature < 1: otherwise no step may fulfil both conditions",
            )
        if not (self.first > 0.0 and math.isfinite(self.first)):
            raise InputError(f"first is {self.first:g}; a number above 0 is needed")

    @property
    def needs_descent(self) -> bool:
        """Yes."""
        return True

    def length(self, line: Line, begin: LineValue, count: int, rounding: float) -> float | None:
        """The step; None when the direction leads uphill or rounding hides every fall."""
        if not begin.slope < 0.0:
            return None
        test = _Wolfe(begin, self.decrease, self.curvature, 2.0 * rounding * abs(begin.value))
        before, step = _Trial(0.0, begin.value, begin.slope), self.first
        for trial in range(self.trials):
            here = _Trial.at(line, step)
            if test.is_high(here) or (trial > 0 and here.value > before.value + test.rounding):
                return _zoom(line, test, before, here, self.trials - trial - 1)
            if test.is_flat(here):
                return step
            if here.slope >= 0.0:
                return _zoom(line, test, here, before, self.trials - trial - 1)
            before, step = here, 4.0 * step
        return before.step if before.value < begin.value else None


@final
@dataclass(frozen=True)
class _Trial:
    """A step with its value and slope, infinitely high where they are not finite."""

    step: float
    value: float
    slope: float

    @classmethod
    def at(cls, line: Line, step: float) -> _Trial:
        value, slope, _ = line.evaluate(step)
        sound = math.isfinite(value) and math.isfinite(slope)
        return cls(step, value if sound else math.inf, slope if sound else math.nan)


@final
@dataclass(frozen=True)
class _Wolfe:
    """Both conditions, for a line that begins at `begin`."""

    begin: LineValue
    decrease: float
    curvature: float
    rounding: float

    def is_high(self, here: _Trial) -> bool:
        line = self.begin.value + self.decrease * here.step * self.begin.slope
        return not here.value <= line + self.rounding

    def is_flat(self, here: _Trial) -> bool:
        return abs(here.slope) <= self.curvature * abs(self.begin.slope)


def _zoom(line: Line, test: _Wolfe, low: _Trial, high: _Trial, trials: int) -> float | None:
    """A step that fulfils both conditions, between the lowest so far, which falls towards `high`, and `high`."""
    for _ in range(trials):
        here = _Trial.at(line, _interpolate(low, high))
        if test.is_high(here) or here.value > low.value + test.rounding:
            high = here
        else:
            if test.is_flat(here):
                return here.step
            if here.slope * (high.step - low.step) >= 0.0:
                high = low
            low = here
        if abs(high.step - low.step) <= 1e-14 * max(high.step, low.step):
            break
    return low.step if low.value < test.begin.value else None


def _interpolate(low: _Trial, high: _Trial) -> float:
    """The minimum of the cubic through both values and slopes, kept a tenth away from the ends; else the middle."""
    a, b = low.step, high.step
    guess = 0.5 * (a + b)
    if math.isinf(high.value):
        return a + 0.1 * (b - a)
    d1 = low.slope + high.slope - 3.0 * (low.value - high.value) / (a - b)
    square = d1 * d1 - low.slope * high.slope
    if square >= 0.0:
        d2 = math.copysign(math.sqrt(square), b - a)
        bottom = high.slope - low.slope + 2.0 * d2
        guess = b - (b - a) * (high.slope + d2 - d1) / bottom if bottom != 0.0 else guess
    left, right = min(a, b), max(a, b)
    margin = 0.1 * (right - left)
    return min(max(guess, left + margin), right - margin)


def search(
    line: Line, begin: LineValue, step: float = 1.0, flatness: float = 0.1, rounding: float = 1e-15
) -> float | None:
    """A step where the slope has shrunk to `flatness` times its first size without a rise of the value.

    Newton's method in t where the curvature is known, the secant otherwise, inside a bracket that always holds a
    minimum. The step fulfils the strong Wolfe conditions, with the decrease tested only as far as the values are
    exact (Hager & Zhang 2005, "approximate Wolfe"): close to the optimum the slope is worth more than the value.

    Returns None when 40 trials find no lower point.
    """
    low, high = 0.0, math.inf
    slope_low, slope_high = begin.slope, math.nan
    allowed = begin.value + 4.0 * rounding * abs(begin.value)
    best: tuple[float, float] | None = None
    for _ in range(40):
        here = line.evaluate(step)
        sound = math.isfinite(here.value) and math.isfinite(here.slope)
        fell = sound and here.value <= max(begin.value + 1e-4 * step * begin.slope, allowed)
        if fell and abs(here.slope) <= flatness * abs(begin.slope):
            return step
        if sound and here.value < begin.value and (best is None or here.value < best[1]):
            best = (step, here.value)
        if not fell or here.slope > 0:
            high, slope_high = step, here.slope if sound else math.nan
        else:
            low, slope_low = step, here.slope
        if (math.isfinite(high) and high - low <= 1e-10 * high) or step > 1e30:
            break
        step = _next_step(here, step, (low, slope_low), (high, slope_high))
    return None if best is None else best[0]


def _next_step(here: LineValue, step: float, low: tuple[float, float], high: tuple[float, float]) -> float:
    """Newton or secant step, kept inside the bracket."""
    (a, slope_a), (b, slope_b) = low, high
    if not math.isfinite(here.value) or not math.isfinite(here.slope):
        return a + 0.1 * (b - a)
    if here.curvature > 0:
        guess = step - here.slope / here.curvature
    elif math.isfinite(slope_b) and slope_b > slope_a:
        guess = a - slope_a * (b - a) / (slope_b - slope_a)
    else:
        guess = math.inf
    if math.isinf(b):
        return min(max(guess, 1.5 * step), 10.0 * step)
    margin = 0.05 * (b - a)
    return min(max(guess, a + margin), b - margin)
