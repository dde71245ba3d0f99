"""Where the weights start: rules that keep the size of signals about equal from layer to layer.

=============  =================================================================  ==========================
``he``         normal, standard deviation √(2 / fan-in): for ReLU                 He et al. 2015
``glorot``     uniform within ±√(6 / (fan-in + fan-out)): for tanh                Glorot & Bengio 2010
``lecun``      uniform within ±2.4 / fan-in, biases too                           LeCun et al. 1998, appendix A
``fan_in``     uniform within ±1/√fan-in: PyTorch's own
``dirac``      the first filters copy their map, the rest ``fan_in``              Zagoruyko & Komodakis 2017
``normal:s``   normal, standard deviation s                                       Krizhevsky 2009
=============  =================================================================  ==========================
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from lastlayer._arrays import Float32
from lastlayer._errors import InputError
from lastlayer.networks._checks import Shape
from lastlayer.networks.base import Start

RULES = ("he", "glorot", "lecun", "fan_in", "dirac", "normal:0.01")


def check_rule(owner: str, rule: str) -> None:
    """Refuse what is no rule.

    Raises
    ------
    InputError
        Names the rules there are.
    """
    _deviation(owner, rule)


def weights(rule: str, fan_in: int, fan_out: int) -> Start:
    """The start of weights with so many inputs and outputs a unit.

    >>> start = weights("he", 8, 4)
    >>> start(np.random.default_rng(0), (4, 8)).std().round(1)
    np.float32(0.5)
    """
    return partial(_draw, rule=rule, fan_in=fan_in, fan_out=fan_out)


def biases(rule: str, fan_in: int, value: float = 0.0) -> Start:
    """The start of biases: ±2.4 / fan-in for ``lecun``, else the value."""
    return weights(rule, fan_in, fan_in) if rule == "lecun" else partial(_constant, value=value)


def _constant(rng: np.random.Generator, shape: Shape, value: float) -> Float32:
    return np.full(shape, value, dtype=np.float32)


def _draw(rng: np.random.Generator, shape: Shape, rule: str, fan_in: int, fan_out: int) -> Float32:
    deviation = _deviation("weights", rule)
    if deviation is not None or rule == "he":
        scale = deviation if deviation is not None else math.sqrt(2.0 / fan_in)
        drawn = rng.standard_normal(shape, dtype=np.float32)
        drawn *= np.float32(scale)
        return drawn
    limits = {"glorot": math.sqrt(6.0 / (fan_in + fan_out)), "lecun": 2.4 / fan_in}
    drawn = rng.random(shape, dtype=np.float32)
    drawn -= np.float32(0.5)
    drawn *= np.float32(2.0 * limits.get(rule, 1.0 / math.sqrt(fan_in)))
    return _dirac(drawn) if rule == "dirac" else drawn


def _dirac(filters: Float32) -> Float32:
    """Let the first filters (out, in, h, w) pass their map unchanged."""
    if filters.ndim != 4:
        raise InputError(f"init dirac is for convolutions; the weights have shape {filters.shape}")
    copied = min(filters.shape[:2])
    filters[:copied] = 0.0
    at = np.arange(copied)
    filters[at, at, filters.shape[2] // 2, filters.shape[3] // 2] = 1.0
    return filters


def _deviation(owner: str, rule: str) -> float | None:
    """S of ``normal:s``, None for the other rules."""
    if rule in RULES[:-1]:
        return None
    name, _, number = rule.partition(":") if isinstance(rule, str) else ("", "", "")
    try:
        deviation = float(number)
    except ValueError:
        deviation = math.nan
    if name != "normal" or not 0.0 <= deviation <= 100.0:
        raise InputError(f"{owner}: init is {rule!r:.60}", f"Choose one of {', '.join(RULES)}")
    return deviation
