"""How far: constants, schedules and line searches.

A schedule is a plain function of the step count. A step rule turns it, or a line search, into what a solver asks for:
the length of the next step along a `Line`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from lastlayer.solvers.base import Line, LineValue

Schedule = Callable[[int], float]
"""Step count, from 0, to step length."""


def constant(rate: float) -> Schedule:
    """The same rate for ever.

    >>> constant(0.5)(7)
    0.5
    """
    return lambda count: rate


def polynomial_decay(rate: float, half_life: float = 1.0, power: float = 1.0) -> Schedule:
    """``rate / (1 + count / half_life)^power``.

    Power 1 suits strongly convex problems, ½ the others (Robbins & Monro 1951; Nesterov 2004, section 3.2).

    >>> polynomial_decay(1.0, half_life=2.0)(2)
    0.5
    """
    return lambda count: rate / (1.0 + count / half_life) ** power


class StepRule(ABC):
    """How far to go along a descent direction."""

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

    def length(self, line: Line, begin: LineValue, count: int, rounding: float) -> float | None:
        """The step."""
        return search(line, begin, self.first, self.flatness, rounding)


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
