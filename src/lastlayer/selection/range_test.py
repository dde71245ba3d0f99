"""η read off a range test: the rate of SGD grows from step to step, and the loss is watched (Smith 2017)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np

from lastlayer._arrays import Float64, InputError, IntArray
from lastlayer.linear import single_blas_thread
from lastlayer.solvers.base import Point, RowProblem

SUGGESTED_SHARE = 0.1
CEILING = 4.0
"""Losses above this many times the start count as this much in the running mean."""


@final
@dataclass(frozen=True, eq=False)
class RangeTest:
    """What a range test saw.

    Attributes
    ----------
    rates, losses, smoothed : ndarray, (m,)
        Rate of each step, loss of its batch before the step, and a running mean of the losses.
    begin : float
        The objective at the start.
    suggestion : float or None
        A tenth of the rate where `smoothed` is lowest; None when that is not below `begin` by three times its noise.
    stopped : str
        Why the test ended.
    note : str
        One sentence where there is something to say.
    """

    rates: Float64
    losses: Float64
    smoothed: Float64
    begin: float
    suggestion: float | None
    stopped: str
    note: str = ""


def range_test(
    problem: RowProblem,
    low: float = 1e-6,
    high: float = 100.0,
    steps: int = 200,
    *,
    batch_size: int = 64,
    seed: int = 0,
    start: Point | None = None,
    blow_up: float = 4.0,
) -> RangeTest:
    """Let the rate of plain SGD grow from `low` to `high` and watch the loss (Smith 2017, WACV).

    Step i follows the gradient of a fresh batch with the rate ``low · (high / low)^(i / (steps - 1))``. Too small
    rates change nothing, good ones lower the loss, too large ones raise it. The suggestion is a tenth of the rate at
    the lowest smoothed loss: there the loss still falls, and ten times more would not yet have raised it.

    Parameters
    ----------
    problem : RowProblem
    low, high : float
        ``0 < low < high``.
    steps : int
        At least 10; about 25 for each factor of ten is plenty.
    batch_size : int
        Rows a step, drawn without replacement; epoch e is shuffled by (seed, e).
    seed : int
    start : Point, optional
        Where to begin; the problem's own start when None. Nothing there is changed.
    blow_up : float
        The test ends when a batch costs this many times the objective at the start, or is not finite.

    Raises
    ------
    InputError
        For rates, steps and batches that make no sense.

    Notes
    -----
    `smoothed` is a centred, weighted mean over about a twelfth of the steps; a mean of past losses alone would lag
    behind, and suggest rates that are too large. The suggestion is for SGD without momentum; momentum β multiplies the
    steps by 1 / (1 - β).
    """
    if not (0 < low < high < math.inf and steps >= 10 and batch_size >= 1 and blow_up > 1):
        raise InputError(
            f"a range test from {low} to {high} in {steps} steps, batches of {batch_size}, blow_up {blow_up}",
            "Give 0 < low < high, at least 10 steps, a batch of at least one row and blow_up > 1",
        )
    point = start or problem.at(problem.start())
    begin = point.value
    params = point.params.copy()
    rates = np.geomspace(low, high, steps)
    losses: list[float] = []
    stopped = "all rates were tried"
    try:
        with single_blas_thread(), np.errstate(over="ignore", invalid="ignore"):  # overflow is what the test looks for
            for rate, rows in zip(rates, _batches(problem.n_rows, batch_size, seed)):
                value, gradient = problem.batch(params, rows)
                if not (math.isfinite(value) and np.isfinite(gradient).all()):
                    stopped = f"the loss is no longer finite at rate {rate:.3g}"
                    break
                losses.append(value)
                if value > blow_up * begin:
                    stopped = f"the loss is above {blow_up:g} times its start at rate {rate:.3g}"
                    break
                params = params - rate * gradient
    except KeyboardInterrupt:
        stopped = "interrupted"
    return _range_result(rates[: len(losses)], np.array(losses), begin, steps, stopped)


def _batches(n_rows: int, batch_size: int, seed: int) -> Iterator[IntArray]:
    """Batches without end; each epoch is a new order of all rows."""
    size = min(batch_size, n_rows)
    epoch = 0
    while True:
        epoch += 1
        order = np.random.default_rng((seed, epoch)).permutation(n_rows)
        for first in range(0, n_rows - size + 1, size):
            yield order[first : first + size]


def _range_result(rates: Float64, losses: Float64, begin: float, steps: int, stopped: str) -> RangeTest:
    half_width = max(1, steps // 24)
    # a loss that explodes must not hide the ones before it
    smoothed = _smooth(np.minimum(losses, CEILING * begin) if begin > 0 else losses, half_width)
    if len(losses) == 0:
        return RangeTest(rates, losses, smoothed, begin, None, stopped, "No loss was finite; look at the start")
    lowest = int(smoothed.argmin())
    around = slice(0, lowest + half_width + 1)
    noise = 1.5 * float(np.median(np.abs(losses - smoothed)[around])) / math.sqrt(0.5 * half_width + 0.5)
    if not begin - smoothed[lowest] > 3.0 * noise:
        note = "a larger high, or larger batches" if len(losses) == steps else "a smaller low"
        return RangeTest(rates, losses, smoothed, begin, None, stopped, f"No rate clearly lowered the loss; try {note}")
    note = ""
    if len(losses) == steps and lowest >= steps - 1 - half_width:
        note = "The loss was still falling at the largest rates; try a larger high"
    return RangeTest(rates, losses, smoothed, begin, SUGGESTED_SHARE * float(rates[lowest]), stopped, note)


def _smooth(values: Float64, half_width: int) -> Float64:
    """Centred mean with weights that fall linearly to both sides, over what there is at the ends."""
    window = half_width + 1.0 - np.abs(np.arange(-half_width, half_width + 1))
    if len(values) == 0:
        return values
    total = np.convolve(values, window)[half_width : half_width + len(values)]
    return np.asarray(total / np.convolve(np.ones(len(values)), window)[half_width : half_width + len(values)])
