"""Learning curves of any solver, from the history of its `Solution`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lastlayer._arrays import Float64, InputError
from lastlayer.figures._canvas import is_long, legend, line_styles, new_figure, plain_axes
from lastlayer.solvers.base import Solution, StopReason

if TYPE_CHECKING:
    from matplotlib.figure import Figure

X_LABELS = {"passes": "passes over the data", "iteration": "iteration", "seconds": "time (s)"}
Y_LABELS = {"value": "objective J", "gradient_norm": "relative gradient norm", "gap": ""}
LOG_FROM = 50.0
"""Values that span more than this factor get a logarithmic axis."""
ROOM_ABOVE = 10.0
"""How far above the highest start a curve that blows up is followed."""


def learning_curve(
    *solutions: Solution | Mapping[str, Solution],
    x: str = "passes",
    y: str = "value",
    reference: float | Solution | None = None,
    log_x: bool = False,
    title: str = "",
) -> Figure:
    """Draw what solvers did, one line each.

    Parameters
    ----------
    *solutions : Solution, or one mapping of str to Solution
        Answers of any solvers. Their names are those of the mapping, otherwise "run 1", "run 2", …
    x : {"passes", "iteration", "seconds"}
    y : {"value", "gradient_norm", "gap"}
        "gap" is ``(J - J*) / |J*|`` on a logarithmic axis, with J* the reference (``J - J*`` where J* is 0).
    reference : float or Solution, optional
        J*; the lowest value in any history when None, which then is off the axis.
    log_x : bool
        Whether x is logarithmic: for solvers whose costs differ by powers of ten. The start, at 0, is then drawn
        at the left edge.
    title : str

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        For nothing to draw, an unknown x or y, a reference that is not finite, and without matplotlib.

    Notes
    -----
    A run that diverged ends with a cross, where it leaves the figure at the top. A run without anything to draw, such
    as the gradient norms of a solver that has no gradient, is only named.
    """
    named = _named(solutions)
    if x not in X_LABELS or y not in Y_LABELS:
        raise InputError(f"x={x!r} and y={y!r}", f"x is one of {', '.join(X_LABELS)}; y one of {', '.join(Y_LABELS)}")
    best = _reference(named, reference)
    lines = {name: _line(solution, x, y, best) for name, solution in named.items()}
    if not any(len(heights) for _, heights in lines.values()):
        raise InputError("no record of any solution can be drawn", "Give solutions with a history above the reference")
    figure = new_figure(9.2 if is_long(len(lines)) else 7.2)
    axes = figure.subplots()
    label = Y_LABELS[y] or _gap_label(best, reference)
    plain_axes(axes, X_LABELS[x], label, title)
    if log_x:
        lines = _from_the_edge(lines)
        axes.set_xscale("log")
    ceiling = ROOM_ABOVE * max(float(heights[0]) for _, heights in lines.values() if len(heights))
    for (name, line), style in zip(lines.items(), line_styles(len(lines))):
        _draw(axes, line, ceiling, _with_reason(name, named[name]), named[name], style)
    _scale(axes, lines, ceiling, y)
    if not log_x:
        axes.set_xlim(left=0)
    legend(axes, is_long(len(lines)))
    return figure


def _named(solutions: tuple[Solution | Mapping[str, Solution], ...]) -> dict[str, Solution]:
    """Names and solutions, from either way of giving them."""
    named: dict[str, Solution] = {}
    for number, given in enumerate(solutions, 1):
        if isinstance(given, Mapping):
            named.update(given)
        else:
            named[f"run {number}"] = given
    if not any(solution.history for solution in named.values()):
        raise InputError("learning_curve has no history to draw", "Give the Solution of at least one solver")
    return named


def _reference(named: Mapping[str, Solution], reference: float | Solution | None) -> float:
    if isinstance(reference, Solution):
        best = reference.value
    elif reference is None:
        best = min(record.value for solution in named.values() for record in solution.history)
    else:
        best = float(reference)
    if not np.isfinite(best):
        raise InputError(f"the reference is {best}", "Give the objective's value at the optimum")
    return best


def _gap_label(best: float, reference: float | Solution | None) -> str:
    least = "J*" if reference is not None else "J min"
    return f"gap  (J − {least}) / |{least}|" if best else f"gap  J − {least}"


def _line(solution: Solution, x: str, y: str, best: float) -> tuple[Float64, Float64]:
    """Places and heights of the records that can be drawn."""
    places = np.array([getattr(record, x) for record in solution.history], dtype=np.float64)
    if y == "gap":
        heights = np.array([record.value - best for record in solution.history], dtype=np.float64) / (abs(best) or 1.0)
    else:
        heights = np.array([getattr(record, y) for record in solution.history], dtype=np.float64)
    drawn = np.isfinite(heights) if y == "value" else np.isfinite(heights) & (heights > 0)
    return places[drawn], heights[drawn]


def _from_the_edge(lines: dict[str, tuple[Float64, Float64]]) -> dict[str, tuple[Float64, Float64]]:
    """Zeros moved to half the smallest positive place, for a logarithmic axis."""
    positive = np.concatenate([places[places > 0] for places, _ in lines.values()])
    edge = 0.5 * float(positive.min()) if len(positive) else 1.0
    return {name: (np.maximum(places, edge), heights) for name, (places, heights) in lines.items()}


def _with_reason(name: str, solution: Solution) -> str:
    return f"{name} (diverged)" if solution.stop_reason is StopReason.DIVERGED else name


def _draw(
    axes: Any, line: tuple[Float64, Float64], ceiling: float, name: str, solution: Solution, style: dict[str, Any]
) -> None:
    """One curve; a lone record is a dot, a diverged run ends with a cross where it leaves the figure."""
    places, heights = line
    axes.plot(places, heights, label=name, marker="o" if len(places) <= 2 else None, markersize=5, **style)
    if solution.stop_reason is StopReason.DIVERGED and len(places):
        above = np.flatnonzero(heights > ceiling)
        last = int(above[0]) - 1 if len(above) and above[0] > 0 else len(heights) - 1
        axes.plot(places[last], heights[last], marker="x", markersize=8, color=style["color"], markeredgewidth=2)


def _scale(axes: Any, lines: Mapping[str, tuple[Float64, Float64]], ceiling: float, y: str) -> None:
    """Logarithmic where it helps, and no higher than a little above the starts."""
    drawn = np.concatenate([heights for _, heights in lines.values()])
    low, top = float(drawn.min()), float(drawn.max())
    if y != "value" or (low > 0 and top > LOG_FROM * low):
        axes.set_yscale("log")
    if 0 < ceiling < top:
        axes.set_ylim(top=ceiling)
