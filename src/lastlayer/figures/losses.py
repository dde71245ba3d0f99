"""The losses of two-class learning as functions of the margin, computed by the loss classes themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lastlayer._arrays import Float64, InputError
from lastlayer.figures._canvas import GREY, legend, line_styles, new_figure, plain_axes
from lastlayer.losses import by_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMULAS = {
    "zero_one": "0-1:  1 if m ≤ 0, else 0",
    "squared": "squared:  ½ (1 − m)²",
    "hinge": "hinge:  max(0, 1 − m)",
    "squared_hinge": "squared hinge:  max(0, 1 − m)²",
    "cross_entropy": "cross-entropy:  log(1 + exp(−m))",
    "perceptron": "perceptron:  max(0, −m)",
}
AGAINST_TARGET = ("squared", "hinge", "squared_hinge")
DEFAULT = ("zero_one", "squared", "hinge", "squared_hinge", "cross_entropy")


def margin_losses(name: str, margins: Float64) -> Float64:
    """``L(m)`` of a row with margin m, the score of its own class against the other's.

    The losses with a target of their own for every class see the own score ``z = (m)`` alone; the others, which
    compare two scores, see ``z = (0, m)`` with the second class the right one.

    >>> margin_losses("hinge", np.array([-1.0, 0.0, 2.0])).tolist()
    [2.0, 1.0, 0.0]

    Raises
    ------
    InputError
        For a name that is no loss.
    """
    m = np.asarray(margins, dtype=np.float64)
    if name in AGAINST_TARGET:
        scores, label = m[:, None].copy(), 0
    else:
        scores, label = np.stack([np.zeros_like(m), m], axis=1), 1
    return np.asarray(by_name(name).values(scores, np.full(len(m), label)), dtype=np.float64)


def losses(names: Sequence[str] = DEFAULT, *, low: float = -3.0, high: float = 4.0) -> Figure:
    """Draw losses against the margin on one figure.

    Left of 0 the answer is wrong. Right of 1 hinge and squared hinge are zero and cross-entropy fades, while the
    squared loss grows again: it punishes answers for being too right.

    Parameters
    ----------
    names : sequence of str
        Names of `lastlayer.losses.LOSSES`.
    low, high : float
        Margins shown.

    Raises
    ------
    InputError
        For no name, a name that is no loss, ``low >= high``, and without matplotlib.
    """
    if not names or not low < high:
        raise InputError(f"losses {list(names)} from {low} to {high}", "Give at least one loss, and low < high")
    margins = np.linspace(low, high, 1401)
    curves = {name: margin_losses(name, margins) for name in names}
    figure = new_figure(9.2, 4.6)
    axes = figure.subplots()
    axes.axvline(0.0, color=GREY, linewidth=1.0)
    for (name, values), style in zip(curves.items(), line_styles(len(curves))):
        # the losses that are learnt have colours; the one that is meant, and is none of them, is black
        change = {"color": "black", "linestyle": "-"} if name == "zero_one" else {}
        axes.plot(margins, values, label=FORMULAS[name], **{**style, **change})
    plain_axes(axes, "margin m: score of the right class against the other", "loss")
    axes.set_xlim(low, high)
    axes.set_ylim(-0.08, 4.0)
    if low < 0 < high:
        for x, text, side in ((-0.08, "← wrong", "right"), (0.08, "right →", "left")):
            axes.text(x, 3.95, text, color=GREY, ha=side, va="top")
    legend(axes, beside=True)
    return figure
