"""What a learning-rate search or range test tried."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lastlayer._arrays import InputError
from lastlayer.figures._canvas import COLOURS, GREY, line_styles, markers, new_figure, plain_axes
from lastlayer.selection.learning_rate import DIVERGED, RateSearch, RateTrial
from lastlayer.selection.range_test import RangeTest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOG_FROM = 20.0


def learning_rates(result: RateSearch | RangeTest, *, title: str = "") -> Figure:
    """Draw the loss over the rates tried, with the choice marked.

    Parameters
    ----------
    result : RateSearch or RangeTest
        A search is drawn with one line a rung and its diverged rates as crosses at the top; a range test with the
        loss of each batch and the running mean.
    title : str

    Raises
    ------
    InputError
        For a test without a finite loss, and without matplotlib.
    """
    figure = new_figure()
    axes = figure.subplots()
    if isinstance(result, RateSearch):
        _draw_search(axes, result)
        plain_axes(axes, "learning rate", result.measure, title)
        chosen: float | None = result.best
    else:
        _draw_test(axes, result)
        plain_axes(axes, "learning rate of the step", "loss of the batch", title)
        chosen = result.suggestion
    axes.set_xscale("log")
    if chosen is not None:
        word = "chosen" if isinstance(result, RateSearch) else "suggested"
        axes.axvline(chosen, color=GREY, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1, label=f"{word}: {chosen:.3g}")
    axes.legend(frameon=True, framealpha=0.9, edgecolor="none")
    return figure


def _draw_search(axes: Any, result: RateSearch) -> None:
    rungs = sorted({trial.rung for trial in result.trials})
    for rung, style, marker in zip(rungs, line_styles(len(rungs)), markers(len(rungs))):
        mine = sorted((t for t in result.trials if t.rung == rung), key=lambda trial: trial.rate)
        sound = [t for t in mine if np.isfinite(t.value)]
        label = f"{mine[0].budget:.3g} passes each"
        axes.plot([t.rate for t in sound], [t.value for t in sound], marker=marker, label=label, zorder=3, **style)
    values = [t.value for t in result.trials if np.isfinite(t.value)]
    if values and min(values) > 0 and max(values) > LOG_FROM * min(values):
        axes.set_yscale("log")
    _mark_diverged(axes, [t for t in result.trials if t.outcome == DIVERGED])


def _mark_diverged(axes: Any, trials: list[RateTrial]) -> None:
    """Crosses along the upper edge: their values are not on any axis."""
    if trials:
        rates = sorted({trial.rate for trial in trials})
        place = axes.get_xaxis_transform()
        style = {"marker": "x", "markersize": 8, "markeredgewidth": 2, "linestyle": "", "color": COLOURS[6]}
        axes.plot(rates, [0.96] * len(rates), transform=place, label="diverged", **style)


def _draw_test(axes: Any, result: RangeTest) -> None:
    if not len(result.losses):
        raise InputError("the range test has no finite loss to draw", result.note)
    axes.plot(result.rates, result.losses, color=COLOURS[4], linewidth=0.9, alpha=0.9, label="one batch")
    axes.plot(result.rates, result.smoothed, color=COLOURS[0], linewidth=2.0, label="running mean")
    axes.axhline(result.begin, color=GREY, linewidth=0.8, linestyle=(0, (1, 2)), label="objective at the start")
    low = float(min(result.losses.min(), result.begin))
    axes.set_ylim(max(0.0, low - 0.1 * result.begin), 1.6 * max(result.begin, low))
