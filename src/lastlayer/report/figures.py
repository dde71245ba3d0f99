"""Geometry of the figures, in the units of their SVG; the templates draw them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from lastlayer._arrays import UInt8
from lastlayer.evaluation.metrics import Confusion, Evaluation
from lastlayer.report.data import PathRow
from lastlayer.report.thumbnails import encode_png, enlarged

WIDTH, HEIGHT = 460, 270
LEFT, RIGHT, TOP, BOTTOM = 58, 16, 14, 44
LEVELS = 10
MARKS = 300
ACCURACY_SHOWN = 0.25  # below the best value
LOSS_SHOWN = 5.0  # times the smallest validation loss


class Tick(NamedTuple):
    """A tick of an axis: where, and its text."""

    at: float
    text: str


class Dot(NamedTuple):
    """One value of a curve: place, what it says, whether it was chosen, whether the solver converged, its interval."""

    x: float
    y: float
    text: str
    chosen: bool = False
    converged: bool = True
    low: float | None = None
    high: float | None = None


class Bar(NamedTuple):
    """A bar of a histogram, and what it counts."""

    x: float
    y: float
    width: float
    height: float
    text: str


@final
@dataclass(frozen=True)
class Curve:
    """One line of a panel; `points` and `dots` in SVG units."""

    name: str
    style: str
    points: str
    dots: tuple[Dot, ...]


@final
@dataclass(frozen=True)
class Panel:
    """One plot.

    `band` is a shaded polygon, `diagonal` a thin reference line, `chosen_x` a vertical line at what was chosen; `name`
    is the name of its file.
    """

    title: str
    description: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    band: str
    curves: tuple[Curve, ...]
    chosen_x: float | None = None
    x_title: str = "C (weaker regularisation →)"
    y_title: str = ""
    name: str = "figure"
    caption: str = ""
    diagonal: str = ""
    bars: tuple[Bar, ...] = ()
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def path_panels(rows: Sequence[PathRow], chosen: int | None) -> tuple[Panel, ...]:
    """Validation accuracy with its interval, and both losses, against C; none for fewer than two values.

    Rows with a non-finite value are left out of the curve they would break.
    """
    drawn = [row.C for row in rows if row.C > 0 and math.isfinite(row.C)]
    if len(set(drawn)) < 2:
        return ()
    x, x_ticks = log_axis(min(drawn), max(drawn))
    chosen_x = x(rows[chosen].C) if chosen is not None and rows[chosen].C in drawn else None
    panels = []
    measured = [(i, row) for i, row in enumerate(rows) if row.C in drawn and row.val_accuracy.n]
    if measured:
        panels.append(_accuracy_panel(measured, chosen, x, x_ticks, chosen_x))
    losses = [
        (name, style, [(i, row.C, getattr(row, key), row.converged) for i, row in enumerate(rows) if row.C in drawn])
        for name, style, key in (("validation", "main", "val_loss"), ("training", "second", "train_loss"))
    ]
    finite = [
        (name, style, kept)
        for name, style, points in losses
        if len(kept := [p for p in points if math.isfinite(p[2])]) > 1
    ]
    if finite:
        panels.append(_loss_panel(finite, chosen, x, x_ticks, chosen_x))
    return tuple(panels)


def _accuracy_panel(
    measured: list[tuple[int, PathRow]],
    chosen: int | None,
    x: Callable[[float], float],
    x_ticks: tuple[Tick, ...],
    chosen_x: float | None,
) -> Panel:
    shares = [row.val_accuracy for _, row in measured]
    # The choice happens near the top: far worse values may leave the frame below.
    floor = max(s.value for s in shares) - ACCURACY_SHOWN
    y, y_ticks = linear_axis(max(floor, min(s.low for s in shares)), max(s.high for s in shares), percent=True)
    upper = [(x(row.C), y(row.val_accuracy.high)) for _, row in measured]
    lower = [(x(row.C), y(row.val_accuracy.low)) for _, row in measured]
    dots = tuple(
        Dot(x(row.C), y(row.val_accuracy.value), f"C = {row.C:.3g}: {row.val_accuracy}", i == chosen, row.converged)
        for i, row in measured
    )
    best = max(shares, key=lambda s: s.value)
    text = f"Validation accuracy for {len(measured)} values of C, best {best}"
    curve = Curve("validation", "main", points_text([(d.x, d.y) for d in dots]), dots)
    return Panel(
        "Validation accuracy, 95% interval shaded",
        text,
        x_ticks,
        y_ticks,
        points_text(upper + lower[::-1]),
        (curve,),
        chosen_x,
        name="path-accuracy",
        caption="; the vertical line marks the value used" if chosen_x is not None else "",
    )


def _loss_panel(
    series: list[tuple[str, str, list[tuple[int, float, float, bool]]]],
    chosen: int | None,
    x: Callable[[float], float],
    x_ticks: tuple[Tick, ...],
    chosen_x: float | None,
) -> Panel:
    values = [value for _, _, points in series for _, _, value, _ in points]
    ceiling = LOSS_SHOWN * min(value for _, _, value, _ in series[0][2])
    y, y_ticks = linear_axis(min(0.0, *values), min(max(values), max(ceiling, 1e-12)), percent=False)
    curves = []
    for name, style, points in series:
        dots = tuple(
            Dot(x(C), y(value), f"C = {C:.3g}: {name} loss {value:.4g}", i == chosen, converged)
            for i, C, value, converged in points
        )
        curves.append(Curve(name, style, points_text([(d.x, d.y) for d in dots]), dots))
    text = " and ".join(f"{name} loss {points[0][2]:.3g} to {points[-1][2]:.3g}" for name, _, points in series)
    title, about = "Loss (mean per image)", f"Against C: {text}"
    return Panel(title, about, x_ticks, y_ticks, "", tuple(curves), chosen_x, name="path-loss")


def points_text(pairs: Sequence[tuple[float, float]]) -> str:
    """Pairs of SVG units as the attribute `points`."""
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in pairs)


def log_axis(low: float, high: float) -> tuple[Callable[[float], float], tuple[Tick, ...]]:
    """Where a value stands on a logarithmic x axis, and its ticks."""
    a, b = math.log10(low), math.log10(high)
    inside = WIDTH - RIGHT - LEFT - 24  # values keep clear of the frame

    def place(value: float) -> float:
        return LEFT + 12 + inside * (math.log10(value) - a) / (b - a)

    powers = [p for p in range(math.ceil(a - 1e-9), math.floor(b + 1e-9) + 1)]
    step = max(1, math.ceil(len(powers) / 7))
    if len(powers) < 2:  # less than two powers of ten on the axis: name the ends
        return place, tuple(Tick(place(value), f"{value:.2g}") for value in (low, high))
    return place, tuple(Tick(place(10.0**p), power_of_ten(p)) for p in powers[::step])


def power_of_ten(exponent: int) -> str:
    """Text of 10^exponent.

    >>> power_of_ten(-3), power_of_ten(0)
    ('10⁻³', '1')
    """
    if -1 <= exponent <= 2:
        return f"{10.0**exponent:g}"
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def linear_axis(low: float, high: float, percent: bool) -> tuple[Callable[[float], float], tuple[Tick, ...]]:
    """Where a value stands on the y axis, and its ticks; the ends are at ticks.

    >>> [tick.text for tick in linear_axis(1.0, 1.0, percent=True)[1]]
    ['98.0%', '98.5%', '99.0%', '99.5%', '100.0%']
    """
    span = max(high - low, 1e-9 + 1e-3 * abs(high)) if not percent else high - low
    if percent and span < 1e-3:  # differences of less than a tenth of a percent are not magnified
        span = 0.02
    step = nice_step(span / 4)
    bottom, top = step * math.floor(low / step + 1e-9), step * math.ceil(high / step - 1e-9)
    if percent:
        bottom, top = max(0.0, bottom), min(1.0, top)
    if top <= bottom and percent and bottom >= 1.0:
        bottom, top = 1.0 - 4 * step, 1.0  # everything is right: no share is larger
    elif top <= bottom:
        top = bottom + step
    inside = HEIGHT - BOTTOM - TOP

    def place(value: float) -> float:
        return HEIGHT - BOTTOM - inside * (value - bottom) / (top - bottom)

    count = int((top - bottom) / step + 1e-6)
    values = [bottom + i * step for i in range(count + 1)]
    decimals = max(0, -math.floor(math.log10(100 * step if percent else step) + 1e-9))
    texts = (f"{100 * v:.{decimals}f}%" if percent else f"{v:.{decimals}f}" for v in values)
    return place, tuple(Tick(place(v), text) for v, text in zip(values, texts, strict=True))


def nice_step(rough: float) -> float:
    """The next of 1, 2, 5 times a power of ten.

    >>> nice_step(0.013), nice_step(3)
    (0.02, 5.0)
    """
    power = math.floor(math.log10(rough))
    return next(float(f"{m}e{power}") for m in (1, 2, 5, 10) if float(f"{m}e{power}") >= rough * (1 - 1e-9))


def heat_level(count: int, total: int, largest: float) -> int:
    """Shade 0..10 of a cell: the square root of its share of its row, against the largest share drawn.

    The square root keeps rare confusions visible beside frequent ones. 0 is an empty cell alone.
    """
    if count == 0 or total == 0 or largest <= 0:
        return 0
    return max(1, min(LEVELS, math.ceil(LEVELS * math.sqrt(count / total / largest) - 1e-9)))


@final
@dataclass(frozen=True)
class HeatMap:
    """A K × K confusion matrix as one picture of K × K pixels, with rectangles that name the largest confusions."""

    K: int
    uri: str
    size: float
    marks: tuple[Confusion, ...]


def heat_map(evaluation: Evaluation) -> HeatMap:
    """Right answers blue, confusions orange, opacity by share of the class; transparent where empty."""
    K = len(evaluation.class_names)
    counts = evaluation.confusion
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    off = share * (1 - np.eye(K))
    alpha = np.where(np.eye(K) > 0, np.sqrt(share), np.sqrt(off / max(off.max(), 1e-12)))
    pixels: UInt8 = np.zeros((K, K, 4), np.uint8)
    pixels[:, :, :3] = (213, 94, 0)
    pixels[np.arange(K), np.arange(K), :3] = (0, 114, 178)
    pixels[:, :, 3] = np.where(counts > 0, np.rint(80 + 175 * np.clip(alpha, 0, 1)), 0)
    return HeatMap(K, encode_png(pixels), max(1.0, K / 150), evaluation.top_confusions(MARKS))


def confusion_picture(evaluation: Evaluation) -> bytes:
    """The confusion matrix as PNG, a square of whole pixels a cell, at least 480 pixels wide."""
    uri = heat_map(evaluation).uri
    return enlarged(uri, max(1, -(-480 // len(evaluation.class_names))))
