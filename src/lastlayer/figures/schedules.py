"""Schedules of the learning rate over the steps."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lastlayer._arrays import Float64, InputError
from lastlayer.figures._canvas import COLOURS, is_long, legend, line_styles, new_figure, plain_axes
from lastlayer.solvers.steps import Schedule

if TYPE_CHECKING:
    from matplotlib.figure import Figure


TITLE = 26
"""Letters that fit above a panel."""


def schedule(
    schedules: Schedule | Mapping[str, Schedule],
    steps: int,
    *,
    panels: bool = False,
    log: bool = False,
    title: str = "",
) -> Figure:
    """Draw one schedule, or several by name, over steps ``0 .. steps - 1``.

    Parameters
    ----------
    schedules : callable or mapping of str to callable
        Step count, from 0, to step length.
    steps : int
        How many steps to draw, at least 1.
    panels : bool
        A small panel for each schedule, all on the same scales, instead of lines on top of each other.
    log : bool
        Whether the rates get a logarithmic axis.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
        Yours to save: ``figure.savefig("schedule.png")``.

    Raises
    ------
    InputError
        For no schedule, no step, a rate that is not a finite number of at least 0, and without matplotlib.
    """
    named = schedules if isinstance(schedules, Mapping) else {"": schedules}
    if steps < 1 or not named:
        raise InputError(f"{len(named)} schedules over {steps} steps", "Give at least one schedule and one step")
    rates = {name: _rates(name, function, steps) for name, function in named.items()}
    if panels:
        return _panels(rates, log, title)
    figure = new_figure(9.2 if is_long(len(rates)) else 7.2)
    axes = figure.subplots()
    plain_axes(axes, "step", "learning rate", title)
    for (name, values), style in zip(rates.items(), line_styles(len(rates))):
        axes.step(np.arange(steps), values, where="post", label=name, **style)
    _scale(axes, steps, log)
    if isinstance(schedules, Mapping):
        legend(axes, is_long(len(rates)))
    return figure


def _panels(rates: Mapping[str, Float64], log: bool, title: str) -> Figure:
    """One panel a schedule, with the axes named once at the edges."""
    across = min(4, math.ceil(math.sqrt(len(rates))))
    down = -(-len(rates) // across)
    figure = new_figure(2.4 * across + 0.4, 1.8 * down + 0.5)
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, (name, values) in zip(grid, rates.items()):
        plain_axes(axes, "", "", textwrap.fill(name, TITLE))
        axes.step(np.arange(len(values)), values, where="post", color=COLOURS[0], linewidth=1.8)
    _scale(grid[0], len(next(iter(rates.values()))), log)
    for axes in grid[len(rates) :]:
        axes.set_axis_off()
    for axes in grid[max(0, len(rates) - across) : len(rates)]:
        axes.tick_params(labelbottom=True)
    figure.supxlabel("step", fontsize=10)
    figure.supylabel("learning rate", fontsize=10)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def _scale(axes: Any, steps: int, log: bool) -> None:
    if log:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0.0)
    axes.set_xlim(0, max(1, steps - 1))


def _rates(name: str, function: Schedule, steps: int) -> Float64:
    values = np.array([function(count) for count in range(steps)], dtype=np.float64)
    wrong = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
    if len(wrong):
        called = f"schedule {name}" if name else "the schedule"
        raise InputError(
            f"{called} gives {values[wrong[0]]} at step {wrong[0]}", "Rates are finite numbers of at least 0"
        )
    return values
