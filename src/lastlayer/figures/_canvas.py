"""What all figures share: an empty figure, colours that colour-blind readers tell apart, plain axes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

from lastlayer._arrays import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe & Ito (2008) without their yellow, which is too pale for a line on white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (1.5, 1.5)), (0, (7, 2, 1.5, 2)))
MARKERS = ("o", "^", "s", "D", "v", "P", "X")
GREY = "#6b6b6b"


def new_figure(width: float = 7.2, height: float = 4.2) -> Figure:
    """An empty figure of that many inches at 100 dots an inch, without pyplot and its global state."""
    try:
        from matplotlib.figure import Figure
    except ImportError as problem:
        raise InputError("Figures need matplotlib", "pip install lastlayer[figures]") from problem
    return Figure(figsize=(width, height), dpi=100, layout="constrained")


def plain_axes(axes: Any, xlabel: str, ylabel: str, title: str = "") -> None:
    """Labels, a light grid behind the data, no box."""
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    if title:
        axes.set_title(title, loc="left", fontsize=11)
    axes.grid(True, color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def line_styles(count: int) -> Iterator[dict[str, Any]]:
    """Colour and dashes of `count` lines: neighbours differ in both, and 28 lines are all different."""
    pairs = ((COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)]) for i in range(count))
    return ({"color": colour, "linestyle": dashes, "linewidth": 1.8} for colour, dashes in pairs)


def markers(count: int) -> Iterator[str]:
    """Shapes of `count` kinds of points."""
    return islice(cycle(MARKERS), count)


def legend(axes: Any, beside: bool) -> None:
    """A legend inside the axes, or beside them where it would cover lines."""
    if beside:
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)
    else:
        axes.legend(frameon=True, framealpha=0.9, edgecolor="none")


def is_long(rows: int) -> bool:
    """Whether a legend of so many rows belongs beside the axes, and the figure needs to be wider."""
    return rows > 5
