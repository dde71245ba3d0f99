"""SGDR against a step drop and a constant rate with the same budget (Loshchilov & Hutter 2017), on a small network.

    python experiments/restarts.py DATA [--network cuda-convnet:quick] [--seeds 5] [--epochs 31] [--out DIR] [--quick]

T_0 = 1 epoch, T_mult = 2, floor 0, the rate moved after every batch: cycles end after 1, 3, 7, 15, 31, 63 epochs, and
there all schedules are compared. Rivals: a constant rate; drops by 5 after 30, 60 and 80 % of the budget; one cosine
over the budget. Batch 128, momentum 0.9, flips and shifts as in the network's recipe. Every schedule has its own
largest rate, a half decade chosen with one seed on validation images; then fresh seeds. Mean and range over seeds,
validation images alone: test images are not read.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

import network_runs as runs
from lastlayer import figures
from lastlayer._errors import InputError
from lastlayer.figures._canvas import line_styles, new_figure, plain_axes
from lastlayer.networks.plan import TrainingPlan
from lastlayer.networks.presets import parse
from lastlayer.networks.schedules_text import parse_schedule
from lastlayer.networks.training import train_network

SCHEDULES = {
    "SGDR, T0 1, x2": "restarts:T0=1,T_mult=2",
    "step drop, /5 at 30, 60, 80 %": "piecewise:30%=0.2,60%=0.04,80%=0.008",
    "constant": "constant",
    "one cosine": "cosine",
}
RATES = (3.2e-3, 1e-2, 3.2e-2, 1e-1)


def cycle_ends(epochs: int) -> list[int]:
    """Epochs at which cycles of 1, 2, 4, … epochs end.

    >>> cycle_ends(31)
    [1, 3, 7, 15, 31]
    """
    return [end for end in (2**k - 1 for k in range(1, 20)) if end <= epochs]


def train(data: runs.Data, network: str, schedule: str, rate: float, seed: int, epochs: int) -> list[dict[str, Any]]:
    """The history of one run; [] for a rate that diverged."""
    preset = parse(network)
    recipe = {name: preset.defaults[name] for name in ("rates", "augmentation") if name in preset.defaults}
    plan = TrainingPlan(
        **recipe, epochs=epochs, batch_size=128, momentum=0.9, nesterov=False, weight_decay=5e-4, rate=rate,
        schedule=schedule, seed=seed,
    )  # fmt: skip
    architecture = preset.architecture(data.X.shape[1:], data.classes)
    try:
        trained = train_network(architecture, data.X, data.y, (data.X_val, data.y_val), plan)
    except InputError as problem:
        if problem.code not in ("LL042", "LL043"):
            raise
        return []
    return list(trained.history) if trained.stop_reason == "epochs" else []


def last_loss(history: Sequence[dict[str, Any]]) -> float:
    return history[-1]["val_loss"] if history else float("inf")


def measure(data: runs.Data, network: str, epochs: int, seeds: int, rates: Sequence[float] = RATES) -> dict[str, Any]:
    """Every schedule at its own rate."""
    found = {}
    for name, schedule in SCHEDULES.items():
        tried = {rate: last_loss(train(data, network, schedule, rate, 0, epochs)) for rate in rates}
        best = min(tried, key=lambda rate: (tried[rate], rate))
        histories = [train(data, network, schedule, best, 100 + seed, epochs) for seed in range(seeds)]
        found[name] = {
            "rate": best,
            "tried": {f"{rate:g}": None if loss == float("inf") else loss for rate, loss in tried.items()},
            "diverged": sum(not history for history in histories),
            "histories": [history for history in histories if history],
        }
        print(f"{name}: rate {best:g}", file=sys.stderr, flush=True)
    return found


def error_of(record: dict[str, Any]) -> float:
    """Validation error in percent."""
    return float(100 * (1 - record["val_correct"] / record["val_count"]))


def curves(found: dict[str, Any]) -> Any:
    """Validation error after every epoch: mean over seeds, and the range of them."""
    figure = new_figure(7.2)
    axes = figure.subplots()
    plain_axes(axes, "epoch", "validation error, %", "mean and range over seeds")
    trained = {name: one for name, one in found.items() if one["histories"]}
    for (name, one), style in zip(trained.items(), line_styles(len(trained))):
        errors = np.array([[error_of(record) for record in history] for history in one["histories"]])
        x = np.arange(1, errors.shape[1] + 1)
        axes.fill_between(x, errors.min(axis=0), errors.max(axis=0), color=style["color"], alpha=0.15, linewidth=0)
        axes.plot(x, errors.mean(axis=0), label=f"{name} (rate {one['rate']:g})", **style)
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    ticks = [tick for tick in (0.2, 0.5, 1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 80) if low <= tick <= high]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.legend(frameon=False)
    return figure


def rows_of(found: dict[str, Any], ends: Sequence[int]) -> list[tuple[object, ...]]:
    """Validation error in percent at the ends of cycles."""
    lines = []
    for name, one in found.items():
        errors = [[error_of(history[end - 1]) for history in one["histories"]] for end in ends]
        lines.append((name, one["rate"], *(runs.spread(at) if at else "-" for at in errors), one["diverged"]))
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    given = runs.options(__doc__, seeds=5, epochs=31, network="cuda-convnet:quick").parse_args(argv)
    data = runs.read(given.data)
    epochs, seeds = (3, 2) if given.quick else (given.epochs, given.seeds)
    found = measure(data, given.network, epochs, seeds, RATES[1:3] if given.quick else RATES)
    ends = cycle_ends(epochs)
    print(runs.table(("schedule", "rate", *(f"error %, {end} ep." for end in ends), "diverged"), rows_of(found, ends)))
    steps = 20 * epochs
    drawn = {name: parse_schedule(text).build(found[name]["rate"], steps, 20) for name, text in SCHEDULES.items()}
    given.out.mkdir(parents=True, exist_ok=True)
    runs.show.save(figures.schedule(drawn, steps, panels=True), given.out, "restarts")
    runs.show.save(curves(found), given.out, "restarts_errors")
    runs.save({"network": given.network, "epochs": epochs, "schedules": found}, data, given.out, "restarts")
    return 0


if __name__ == "__main__":
    sys.exit(main())
