"""The nonlinearities of networks, each with its derivative."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lastlayer._arrays import InputError
from lastlayer.figures._canvas import COLOURS, new_figure, plain_axes
from lastlayer.networks.activations import ACTIVATIONS, SLOPE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEFAULT = ("step", "sigmoid", "tanh", "scaled_tanh", "relu", "leaky_relu", "gelu", "silu")


def activations(
    names: Sequence[str] = DEFAULT, *, low: float = -4.0, high: float = 4.0, slope: float = SLOPE
) -> Figure:
    """Draw each activation and its derivative, a panel each.

    What the derivative shows: the step's is zero everywhere, so no gradient passes; those of sigmoid and tanh fade
    on both sides, where units saturate; the ReLU's is 1 wherever the unit is on and 0 where it is off.

    Parameters
    ----------
    names : sequence of str
        Names of `lastlayer.networks.activations.ACTIVATIONS`.
    low, high : float
        Inputs shown.
    slope : float
        Of the leaky ReLU below zero.

    Raises
    ------
    InputError
        For no name, a name that is no activation, ``low >= high``, and without matplotlib.
    """
    unknown = [name for name in names if name not in ACTIVATIONS]
    if unknown or not names or not low < high:
        raise InputError(
            f"activations {list(names)} from {low} to {high}",
            f"Give low < high and at least one of {', '.join(ACTIVATIONS)}",
        )
    across = min(4, math.ceil(math.sqrt(len(names))))
    down = -(-len(names) // across)
    figure = new_figure(2.6 * across + 0.4, 2.3 * down + 0.8)
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel()
    # an odd number of points sees zero itself, where there are kinks
    x = np.linspace(low, high, 1601)
    for axes, name in zip(grid, names):
        one = ACTIVATIONS[name]
        plain_axes(axes, "", "", f"{name}\n{one.formula}")
        axes.plot(x, one.value(x, slope), color=COLOURS[0], linewidth=1.8, label="f(x)")
        axes.plot(x, one.derivative(x, slope), color=COLOURS[1], linewidth=1.8, linestyle=(0, (6, 2)), label="f′(x)")
    grid[0].set_xlim(low, high)
    grid[0].set_ylim(max(low, -2.2), min(high, 2.2))
    for axes in grid[len(names) :]:
        axes.set_axis_off()
    for axes in grid[max(0, len(names) - across) : len(names)]:
        axes.tick_params(labelbottom=True)
    figure.supxlabel("x", fontsize=10)
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower right", ncols=2, frameon=False)
    return figure
