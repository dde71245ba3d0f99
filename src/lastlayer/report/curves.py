"""Figures beside the path: learning curve, reliability, risk–coverage, training of a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from lastlayer.evaluation.calibration import CalibrationError
from lastlayer.evaluation.learning_curve import LearningCurve
from lastlayer.report.data import Abstaining, Calibration, Epoch, Training
from lastlayer.report.figures import (
    LEFT,
    RIGHT,
    WIDTH,
    Bar,
    Curve,
    Dot,
    Panel,
    Tick,
    linear_axis,
    log_axis,
    nice_step,
    points_text,
)

_COUNTS = 0.16  # share of a reliability diagram's height for the bars that count
_FEWEST_EPOCHS = 2

Place = Callable[[float], float]


def x_axis(low: float, high: float, percent: bool = False) -> tuple[Place, tuple[Tick, ...]]:
    """Where a value stands on a linear x axis, and its ticks."""
    span = high - low or 1.0
    step = nice_step(span / 5)
    inside = WIDTH - RIGHT - LEFT

    def place(value: float) -> float:
        return LEFT + inside * (value - low) / span

    first = step * math.ceil(low / step - 1e-9)
    values = [first + k * step for k in range(int((high - first) / step + 1e-6) + 1)]
    return place, tuple(Tick(place(v), f"{100 * v:.0f}%" if percent else f"{v:g}") for v in values)


def learning_panel(curve: LearningCurve) -> Panel | None:
    """Measured accuracies with intervals, the fitted law with its band, and the law beyond the images there are."""
    if len(curve.points) < 2:
        return None
    N = curve.points[-1].n
    end = curve.law[-1].n if curve.law else float(N)
    x, _ = log_axis(curve.points[0].n, end)
    known = [p.accuracy for p in curve.points] + [p.accuracy for p in curve.law]
    y, y_ticks = linear_axis(min(a.low for a in known), max(a.high for a in known), percent=True)
    dots = tuple(
        Dot(
            x(p.n),
            y(p.accuracy.value),
            f"{p.n:,} images: {p.accuracy.percent()}, {len(p.draws)} {'draw' if len(p.draws) == 1 else 'draws'}",
            chosen=p.n == N,
            low=y(p.accuracy.low),
            high=y(p.accuracy.high),
        )
        for p in curve.points
    )
    curves = [Curve("measured", "main marks", points_text([(d.x, d.y) for d in dots]), dots)]
    band = ""
    if curve.law:
        upper = [(x(p.n), y(p.accuracy.high)) for p in curve.law]
        lower = [(x(p.n), y(p.accuracy.low)) for p in curve.law]
        band = points_text(upper + lower[::-1])
        line = points_text([(x(p.n), y(p.accuracy.value)) for p in curve.law])
        curves.insert(0, Curve("inverse power law", "second", line, ()))
    sizes = [p.n for p in curve.points] + ([2 * N, 4 * N] if curve.law else [])
    ticks = tuple(Tick(x(n), f"{n:,}") for n in sizes[:: max(1, math.ceil(len(sizes) / 8))])
    return Panel(
        "Accuracy on the same validation images",
        f"{curve.points[0].n:,} to {N:,} training images: {curve.points[0].accuracy.percent()} to "
        f"{curve.points[-1].accuracy.percent()}. {curve.sentence()}",
        ticks,
        y_ticks,
        band,
        tuple(curves),
        x(N),
        x_title="training images (logarithmic)",
        name="learning-curve",
        caption="; bars and band: 95% intervals; the vertical line: all training images there are",
    )


def reliability_panels(found: Calibration) -> tuple[Panel, ...]:
    """The reliability diagram before the temperature, and after it where there is one that changes something."""
    panels = [_reliability(found.before, "As the model says it", "calibration-before")]
    if found.after is not None and not found.already:
        panels.append(_reliability(found.after, f"After temperature {found.temperature:.2f}", "calibration-after"))
    return tuple(panels)


def _reliability(error: CalibrationError, title: str, name: str) -> Panel:
    x, x_ticks = x_axis(0.0, 1.0, percent=True)
    y, y_ticks = linear_axis(0.0, 1.0, percent=True)
    used = [cell for cell in error.bins if cell.accuracy.n]
    largest = max((cell.accuracy.n for cell in used), default=1)
    floor, room = y(0.0), (y(0.0) - y(1.0)) * _COUNTS
    bars = tuple(
        Bar(
            x(cell.low) + 1,
            floor - room * cell.accuracy.n / largest,
            max(1.0, x(cell.high) - x(cell.low) - 2),
            room * cell.accuracy.n / largest,
            f"{cell.accuracy.n:,} answers",
        )
        for cell in used
    )
    dots = tuple(
        Dot(
            x(cell.confidence),
            y(cell.accuracy.value),
            f"said {100 * cell.confidence:.0f}%, right {cell.accuracy}",
            low=y(cell.accuracy.low),
            high=y(cell.accuracy.high),
        )
        for cell in used
    )
    total = sum(cell.accuracy.n for cell in used)
    return Panel(
        title,
        f"Of {total:,} answers in {len(used)} bins; expected calibration error {100 * error.plain:.1f}%",
        x_ticks,
        y_ticks,
        "",
        (Curve("right", "main marks", points_text([(d.x, d.y) for d in dots]), dots),),
        x_title="probability said",
        name=name,
        caption=": share right against probability said; on the line they agree; grey bars count answers",
        diagonal=points_text([(x(0.0), y(0.0)), (x(1.0), y(1.0))]),
        bars=bars,
    )


def coverage_panel(found: Abstaining) -> Panel | None:
    """Accuracy of the surest answers against the share answered."""
    if len(found.coverage) < 2:
        return None
    x, x_ticks = x_axis(0.0, 1.0, percent=True)
    # a handful of answers says nothing: their share of right ones jumps
    first = min(20, found.n) / found.n
    pairs = [(c, 1.0 - r) for c, r in zip(found.coverage, found.risk) if c >= first] or [
        (found.coverage[-1], 1.0 - found.risk[-1])
    ]
    values = [value for _, value in pairs]
    y, y_ticks = linear_axis(min(values), max(values), percent=True)
    line = points_text([(x(c), y(v)) for c, v in pairs])
    marks = tuple(
        Dot(x(share), y(found.accuracy_at(share)), f"surest {100 * share:.0f}%: {100 * found.accuracy_at(share):.1f}%")
        for share in (0.5, 0.8, 0.9, 1.0)
        if share >= first
    )
    chosen = x(found.answered.value) if found.answered is not None and found.answered.n else None
    return Panel(
        "Accuracy of the answers given",
        f"Answering the surest half {100 * found.accuracy_at(0.5):.1f}% right, answering all "
        f"{100 * found.accuracy_at(1.0):.1f}%",
        x_ticks,
        y_ticks,
        "",
        (Curve("accuracy", "main", line, marks),),
        chosen,
        x_title="share answered, the surest first",
        name="risk-coverage",
        caption="; the vertical line: the threshold chosen on validation images" if chosen is not None else "",
    )


def training_panels(found: Training) -> tuple[Panel, ...]:
    """Losses and validation accuracy of a network's training, epoch by epoch."""
    rows = list(found.epochs)
    if len(rows) < _FEWEST_EPOCHS:
        return ()
    x, x_ticks = x_axis(rows[0].epoch, rows[-1].epoch)
    chosen = x(found.best_epoch) if found.best_epoch is not None else None
    series = [
        (name, style, kept)
        for name, style, field in (("validation", "main", "val_loss"), ("training", "second", "loss"))
        if len(kept := _measured(rows, field)) > 1
    ]
    panels = []
    if series:
        values = [value for _, _, kept in series for _, value in kept]
        y, y_ticks = linear_axis(min(0.0, *values), max(values), percent=False)
        curves = tuple(_curve(name, style, kept, x, y, "loss {:.4g}") for name, style, kept in series)
        text = " and ".join(f"{name} {kept[0][1]:.3g} to {kept[-1][1]:.3g}" for name, _, kept in series)
        caption = "; the vertical line: the epoch kept" if chosen is not None else ""
        panels.append(
            Panel("Loss", f"Over {len(rows)} epochs: {text}", x_ticks, y_ticks, "", curves, chosen, "epoch",
                  name="training-loss", caption=caption)
        )  # fmt: skip
    kept = _measured(rows, "val_accuracy")
    if len(kept) > 1:
        y, y_ticks = linear_axis(min(v for _, v in kept), max(v for _, v in kept), percent=True)
        curve = _curve("validation", "main", kept, x, y, "{:.2%}")
        best = max(v for _, v in kept)
        panels.append(
            Panel("Validation accuracy", f"Best {best:.2%}", x_ticks, y_ticks, "", (curve,), chosen, "epoch",
                  name="training-accuracy")
        )  # fmt: skip
    return tuple(panels)


def _measured(rows: Sequence[Epoch], field: str) -> list[tuple[float, float]]:
    pairs = [(row.epoch, getattr(row, field)) for row in rows]
    return [(epoch, float(value)) for epoch, value in pairs if value is not None and math.isfinite(value)]


def _curve(name: str, style: str, kept: list[tuple[float, float]], x: Place, y: Place, form: str) -> Curve:
    dots = tuple(Dot(x(e), y(v), f"epoch {e:g}: {name} {form.format(v)}") for e, v in kept)
    return Curve(name, style, points_text([(d.x, d.y) for d in dots]), dots if len(dots) <= 60 else ())
