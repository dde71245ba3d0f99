"""Schedules written as text, with times in epochs, made into functions of the step count (`solvers.schedules`).

    constant · linear · cosine:floor=0.01 · step:every=30,factor=0.1 · piecewise:30%=0.2,60%=0.04,80%=0.008
    exponential:factor=0.95 · inverse:shift=2 · polynomial:half_life=1,power=0.5 · restarts:T0=1,T_mult=2
    one-cycle:rise=0.23,first=0.2,last=0.07,linear=1 · plateau:factor=0.1,patience=3

Rates in the text (`floor`, `first`, `last`, a piecewise factor) are shares of the largest rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

from lastlayer._errors import InputError
from lastlayer.solvers import schedules as make
from lastlayer.solvers.schedules import Plateau, Schedule

_KEYS: dict[str, dict[str, float]] = {
    "constant": {},
    "linear": {"floor": 0.0},
    "cosine": {"floor": 0.0},
    "step": {"every": 0.0, "factor": 0.1},
    "exponential": {"factor": 0.95},
    "inverse": {"shift": 1.0},
    "polynomial": {"half_life": 1.0, "power": 1.0},
    "restarts": {"T0": 1.0, "T_mult": 2.0, "floor": 0.0},
    "one-cycle": {"rise": 0.3, "first": 1 / 25, "last": 1 / 250_000, "linear": 0.0},
    "plateau": {"factor": 0.1, "patience": 3.0, "threshold": 1e-4},
    "piecewise": {},
}
NAMES = tuple(_KEYS)


@final
@dataclass(frozen=True)
class ScheduleText:
    """A schedule's name and settings, as written.

    Attributes
    ----------
    name : str
        One of `NAMES`.
    settings : dict of str to float
        Times in epochs, rates as shares of the largest.
    drops : tuple of (float, bool, float)
        Of ``piecewise`` alone: when, whether that is a share of the whole, and the factor from then on.
    """

    name: str
    settings: Mapping[str, float]
    drops: tuple[tuple[float, bool, float], ...] = ()

    def plateau(self) -> Plateau | None:
        """The rule that looks at the validation loss, where the schedule is one."""
        if self.name != "plateau":
            return None
        given = self.settings
        return Plateau(given["factor"], int(given["patience"]), given["threshold"])

    def build(self, rate: float, steps: int, steps_per_epoch: int, warm_up: float = 0.0) -> Schedule:
        """The rate of every step.

        Parameters
        ----------
        rate : float
            The largest.
        steps : int
            Steps in all, warm-up included.
        steps_per_epoch : int
        warm_up : float
            Epochs during which the rate climbs to the schedule's first one.

        Raises
        ------
        InputError
            When the settings make no schedule, or the warm-up takes all steps.
        """
        warm = round(warm_up * steps_per_epoch)
        if warm and warm >= steps:
            raise InputError(
                f"the warm-up of {warm} steps leaves none of {steps}", "Give more epochs, or a lower warm_up"
            )
        schedule = _BUILD[self.name](self, rate, max(1, steps - warm), steps_per_epoch)
        return make.warm_up(schedule, warm) if warm else schedule


def parse_schedule(text: str) -> ScheduleText:
    """Take a schedule's text apart.

    Raises
    ------
    InputError
        For a name or setting that is not known, and a value that is no number.

    Examples
    --------
    >>> parse_schedule("restarts:T0=2").settings
    {'T0': 2.0, 'T_mult': 2.0, 'floor': 0.0}
    >>> round(parse_schedule("cosine").build(0.1, steps=100, steps_per_epoch=10)(50), 3)
    0.05
    """
    name, _, rest = (part.strip() for part in text.partition(":"))
    if name not in _KEYS:
        raise InputError(f"schedule {text!r} is not known", f"Known: {', '.join(NAMES)}")
    pairs = [_pair(text, part) for part in rest.split(",") if part.strip()]
    if name == "piecewise":
        return ScheduleText(name, {}, _drops(text, pairs))
    settings = dict(_KEYS[name])
    for key, value in pairs:
        if key not in settings:
            known = ", ".join(settings) or "none"
            raise InputError(f"schedule {text!r}: {key!r} is no setting of {name}", f"Its settings: {known}")
        settings[key] = value
    made = ScheduleText(name, settings)
    if made.plateau() is None:
        made.build(1.0, 1000, 10)  # values out of range are refused here, and not after the data were read
    return made


def _pair(text: str, part: str) -> tuple[str, float]:
    key, equals, value = (word.strip() for word in part.partition("="))
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not equals or not math.isfinite(number):
        raise InputError(f"schedule {text!r}: {part.strip()!r} is not of the form setting=number")
    return key, number


def _drops(text: str, pairs: list[tuple[str, float]]) -> tuple[tuple[float, bool, float], ...]:
    drops = []
    for key, factor in pairs:
        try:
            when = float(key.removesuffix("%"))
        except ValueError:
            when = math.nan
        if not (when >= 0 and factor > 0):
            raise InputError(
                f"schedule {text!r}: {key}={factor:g}", "Write EPOCH=FACTOR or SHARE%=FACTOR, as in 30%=0.2"
            )
        drops.append((when, key.endswith("%"), factor))
    if not drops:
        raise InputError(f"schedule {text!r} has no drops", "Write piecewise:30%=0.2,60%=0.04")
    return tuple(drops)


def _epochs(count: float, steps_per_epoch: int) -> int:
    return max(1, round(count * steps_per_epoch))


def _linear(text: ScheduleText, rate: float, steps: int, per_epoch: int) -> Schedule:
    floor = text.settings["floor"]
    if not 0 <= floor <= 1:
        raise InputError(f"floor is {floor:g}; a share of the rate, from 0 to 1, is needed")
    return lambda count: rate * (1.0 - (1.0 - floor) * min(count, steps) / steps)


def _cosine(text: ScheduleText, rate: float, steps: int, per_epoch: int) -> Schedule:
    return make.cosine(rate, steps, text.settings["floor"] * rate)


def _step(text: ScheduleText, rate: float, steps: int, per_epoch: int) -> Schedule:
    every = text.settings["every"]
    if every < 0:
        raise InputError(f"every is {every:g}; epochs above 0 are needed")
    return make.step_drop(rate, _epochs(every, per_epoch) if every else -(-steps // 3), text.settings["factor"])


def _piecewise(text: ScheduleText, rate: float, steps: int, per_epoch: int) -> Schedule:
    starts = [
        (round(when / 100 * steps) if share else round(when * per_epoch), factor) for when, share, factor in text.drops
    ]
    starts.sort(key=lambda start: start[0])

    def schedule(count: int) -> float:
        reached = [factor for start, factor in starts if count >= start]
        return rate * (reached[-1] if reached else 1.0)

    return schedule


def _exponential(text: ScheduleText, rate: float, steps: int, per_epoch: int) -> Schedule:
    factor = text.settings["factor"]
    if not 0 < factor <= 1:
        raise InputError(f"factor is {factor:g}; a number above 0 and at most 1 is needed")
    return make.exponential_decay(rate, factor ** (1.0 / per_epoch))


def _restarts(text: ScheduleText, rate: float, steps: int, per_epoch: int) -> Schedule:
    times = text.settings["T_mult"]
    if times != int(times):
        raise InputError(f"T_mult is {times:g}; a whole number is needed")
    if text.settings["T0"] <= 0:
        raise InputError(f"T0 is {text.settings['T0']:g}; epochs above 0 are needed")
    return make.cosine_restarts(
        rate, _epochs(text.settings["T0"], per_epoch), int(times), text.settings["floor"] * rate
    )


def _one_cycle(text: ScheduleText, rate: float, steps: int, per_epoch: int) -> Schedule:
    given = text.settings
    cycle_steps = max(2, steps)
    return make.one_cycle(rate, cycle_steps, given["rise"], given["first"], given["last"], bool(given["linear"]))


_BUILD: dict[str, Callable[[ScheduleText, float, int, int], Schedule]] = {
    "constant": lambda text, rate, steps, per_epoch: make.constant(rate),
    "plateau": lambda text, rate, steps, per_epoch: make.constant(rate),
    "linear": _linear,
    "cosine": _cosine,
    "step": _step,
    "piecewise": _piecewise,
    "exponential": _exponential,
    "inverse": lambda text, rate, steps, per_epoch: make.inverse_time(rate, text.settings["shift"] * per_epoch),
    "polynomial": lambda text, rate, steps, per_epoch: make.polynomial_decay(
        rate, text.settings["half_life"] * per_epoch, text.settings["power"]
    ),
    "restarts": _restarts,
    "one-cycle": _one_cycle,
}
