"""How the step changes: schedules are plain functions of the step count; a plateau is a rule fed with a loss.

A schedule is made by one of the functions below and called with the count of steps made before, from 0. The formulas
are those of PyTorch's schedulers of the same name, except that a schedule stays at its last value where PyTorch's
would raise or begin anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, final

from lastlayer._arrays import InputError

Schedule = Callable[[int], float]
"""Step count, from 0, to step length."""


def _number(name: str, value: float, low: float, high: float = math.inf) -> float:
    """Refuse what is not a finite number in (low, high]."""
    if not (math.isfinite(value) and low < value <= high):
        bounds = f"above {low:g}" + ("" if math.isinf(high) else f" and at most {high:g}")
        raise InputError(f"{name} is {value:g}; a number {bounds} is needed")
    return value


def _floor(floor: float, rate: float) -> float:
    """Refuse a last rate that is negative or above the first."""
    if not 0.0 <= floor <= rate:
        raise InputError(f"floor is {floor:g}; a number from 0 to the rate, {rate:g}, is needed")
    return floor


def _steps(name: str, value: int, least: int = 1) -> int:
    """Refuse what is not a whole number of at least `least`."""
    if isinstance(value, bool) or not math.isfinite(value) or value != int(value) or value < least:
        raise InputError(f"{name} is {value}; a whole number of at least {least} is needed")
    return int(value)


def _half_wave(begin: float, end: float, share: float) -> float:
    """From `begin` (share 0) to `end` (share 1) along half a cosine."""
    return end + 0.5 * (begin - end) * (1.0 + math.cos(math.pi * share))


def constant(rate: float) -> Schedule:
    """The same rate for ever.

    >>> constant(0.5)(7)
    0.5
    """
    _number("rate", rate, 0.0)
    return lambda count: rate


def polynomial_decay(rate: float, half_life: float = 1.0, power: float = 1.0) -> Schedule:
    """``rate / (1 + count / half_life)^power``.

    Power 1 suits strongly convex problems, ½ the others (Robbins & Monro 1951; Nesterov 2004, section 3.2).

    >>> polynomial_decay(1.0, half_life=2.0)(2)
    0.5
    """
    _number("rate", rate, 0.0)
    _number("half_life", half_life, 0.0)
    _number("power", power, 0.0)
    return lambda count: rate / (1.0 + count / half_life) ** power


def inverse_time(rate: float, shift: float = 1.0) -> Schedule:
    """1/t: ``rate · shift / (count + shift)``.

    The sum of the steps is infinite and that of their squares is not (Robbins & Monro 1951). With ``rate = 1/λ`` it is
    the schedule of Pegasos (Shalev-Shwartz et al. 2007).

    Parameters
    ----------
    rate : float
        The first step.
    shift : float
        After so many steps the rate has halved.

    Examples
    --------
    >>> [inverse_time(1.0)(count) for count in range(4)]
    [1.0, 0.5, 0.3333333333333333, 0.25]
    """
    _number("rate", rate, 0.0)
    _number("shift", shift, 0.0)
    return lambda count: rate * shift / (count + shift)


def step_drop(rate: float, every: int, factor: float = 0.1) -> Schedule:
    """``rate · factor^⌊count / every⌋``: a drop after every so many steps (PyTorch's StepLR).

    Parameters
    ----------
    rate : float
        The first step.
    every : int
        Steps between two drops.
    factor : float
        What a drop multiplies with, above 0 and at most 1.

    Examples
    --------
    >>> [step_drop(1.0, 2, 0.5)(count) for count in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    _number("rate", rate, 0.0)
    _number("factor", factor, 0.0, 1.0)
    every = _steps("every", every)
    return lambda count: rate * factor ** (count // every)


def exponential_decay(rate: float, factor: float) -> Schedule:
    """``rate · factor^count`` (PyTorch's ExponentialLR).

    The steps' sum is finite, ``rate / (1 - factor)`` in all: too small a factor ends the way before the optimum.

    >>> exponential_decay(1.0, 0.5)(3)
    0.125
    """
    _number("rate", rate, 0.0)
    _number("factor", factor, 0.0, 1.0)
    return lambda count: rate * factor**count


def cosine(rate: float, steps: int, floor: float = 0.0) -> Schedule:
    """``floor + ½ (rate - floor) (1 + cos(π count / steps))``, then `floor` (Loshchilov & Hutter 2017, equation 5).

    Parameters
    ----------
    rate, floor : float
        The first and the last step.
    steps : int
        Steps from the one to the other.

    Examples
    --------
    >>> [round(cosine(1.0, 4)(count), 3) for count in (0, 1, 2, 4, 9)]
    [1.0, 0.854, 0.5, 0.0, 0.0]
    """
    _number("rate", rate, 0.0)
    _floor(floor, rate)
    steps = _steps("steps", steps)
    return lambda count: _half_wave(rate, floor, min(count, steps) / steps)


def cosine_restarts(rate: float, T_0: int, T_mult: int = 1, floor: float = 0.0) -> Schedule:
    """Cosines of length T_0, T_0 · T_mult, T_0 · T_mult², …, each from `rate` down towards `floor`.

    ``floor + ½ (rate - floor) (1 + cos(π T_cur / T_i))`` with T_cur steps since the last restart and T_i the length
    of this cosine: SGDR (Loshchilov & Hutter 2017, equation 5; PyTorch's CosineAnnealingWarmRestarts). The rate is
    `rate` again at the restart itself; the step before it is the smallest of its cosine, and not quite `floor`.

    Parameters
    ----------
    rate, floor : float
        Largest and smallest step.
    T_0 : int
        Steps to the first restart.
    T_mult : int
        How many times longer each cosine is than the one before.

    Examples
    --------
    >>> schedule = cosine_restarts(1.0, T_0=2, T_mult=2)
    >>> [round(schedule(count), 3) for count in range(7)]
    [1.0, 0.5, 1.0, 0.854, 0.5, 0.146, 1.0]
    """
    _number("rate", rate, 0.0)
    _floor(floor, rate)
    T_0, T_mult = _steps("T_0", T_0), _steps("T_mult", T_mult)

    def schedule(count: int) -> float:
        length, since = T_0, count
        if T_mult == 1:
            since = count % T_0
        while since >= length:
            since -= length
            length *= T_mult
        return _half_wave(rate, floor, since / length)

    return schedule


def one_cycle(
    rate: float, steps: int, rise: float = 0.3, first: float = 1 / 25, last: float = 1 / 250_000, linear: bool = False
) -> Schedule:
    """Up to `rate` and down to almost nothing, once (Smith & Topin 2018).

    From ``first · rate`` to `rate` during the first ``rise · steps`` steps, from there to ``last · rate`` at the last
    one; along half cosines, or along lines. Defaults and positions are those of PyTorch's OneCycleLR (which has
    ``first = 1/div_factor`` and ``last = first/final_div_factor``). The momentum is not cycled.

    Parameters
    ----------
    rate : float
        The largest step.
    steps : int
        Steps in all.
    rise : float
        Share of the steps spent going up.
    first, last : float
        First and last step as a share of `rate`.
    linear : bool
        Straight lines instead of half cosines.

    Examples
    --------
    >>> [round(one_cycle(1.0, 11, rise=3 / 11)(count), 3) for count in (0, 1, 2, 6, 10)]
    [0.04, 0.52, 1.0, 0.5, 0.0]
    """
    _number("rate", rate, 0.0)
    _number("rise", rise, 0.0, 1.0)
    _number("first", first, 0.0, 1.0)
    _number("last", last, 0.0, 1.0)
    end = _steps("steps", steps, 2) - 1
    peak = max(0.0, rise * steps - 1.0)

    def between(begin: float, to: float, share: float) -> float:
        return begin + (to - begin) * share if linear else _half_wave(begin, to, share)

    def schedule(count: int) -> float:
        if count < peak:
            return between(first * rate, rate, count / peak)
        if count >= end:
            return last * rate if end > peak else rate
        return between(rate, last * rate, (count - peak) / (end - peak))

    return schedule


def warm_up(schedule: Schedule, steps: int) -> Schedule:
    """``schedule(0) · (count + 1) / (steps + 1)`` for the first steps, then `schedule` from its beginning.

    Small first steps, while gradients are large and averages of them are still forming (Goyal et al. 2017).

    Parameters
    ----------
    schedule : callable
        What follows.
    steps : int
        Steps of warming up.

    Examples
    --------
    >>> [warm_up(step_drop(1.0, 2, 0.5), 3)(count) for count in range(7)]
    [0.25, 0.5, 0.75, 1.0, 1.0, 0.5, 0.5]
    """
    steps = _steps("steps", steps, 0)
    return lambda count: schedule(0) * (count + 1) / (steps + 1) if count < steps else schedule(count - steps)


class PlateauState(NamedTuple):
    """Where a plateau rule is: the lowest loss, how often in a row it was missed, and what rates are multiplied by."""

    best: float = math.inf
    misses: int = 0
    multiplier: float = 1.0


@final
@dataclass(frozen=True)
class Plateau:
    """Multiply the rate by `factor` when a loss has not fallen for more than `patience` looks in a row.

    A loss has fallen when it is below ``best - threshold |best|`` (PyTorch's ReduceLROnPlateau). Not a function of
    the step count: it is fed with the training or the validation loss. The rule itself never changes; a solver
    carries its state along.

    Parameters
    ----------
    factor : float
        Above 0 and below 1.
    patience : int
        Looks without a fall that are endured.
    threshold : float
        Share of the best loss by which it must fall.
    minimum : float
        Rates are not multiplied to below this.

    Examples
    --------
    >>> rule, state = Plateau(factor=0.5, patience=1), PlateauState()
    >>> for loss in (1.0, 0.8, 0.8, 0.8):
    ...     state = rule.look(state, loss)
    >>> rule.rate(state, 0.2)
    0.1
    """

    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    minimum: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 < self.factor < 1.0:
            raise InputError(f"factor is {self.factor:g}; a number between 0 and 1 is needed")
        _steps("patience", self.patience, 0)
        if not 0.0 <= self.threshold < 1.0:
            raise InputError(f"threshold is {self.threshold:g}; a number from 0 to below 1 is needed")
        if not (math.isfinite(self.minimum) and self.minimum >= 0.0):
            raise InputError(f"minimum is {self.minimum:g}; a number of at least 0 is needed")

    def look(self, state: PlateauState, loss: float) -> PlateauState:
        """The state after one more loss; one that is not a number has not fallen."""
        limit = state.best - self.threshold * abs(state.best) if math.isfinite(state.best) else state.best
        if loss < limit:
            return PlateauState(loss, 0, state.multiplier)
        if state.misses < self.patience:
            return PlateauState(state.best, state.misses + 1, state.multiplier)
        return PlateauState(state.best, 0, state.multiplier * self.factor)

    def rate(self, state: PlateauState, rate: float) -> float:
        """The rate of a schedule, multiplied; no less than `minimum`, unless the schedule is."""
        return max(state.multiplier * rate, min(rate, self.minimum))
