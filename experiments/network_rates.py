"""The learning rate of a network on real images: too small, right, too large; step, plateau, cosine; batch or SGD.

    python experiments/network_rates.py DATA [--network mlp:100] [--epochs 15] [--seeds 3] [--out DIR] [--quick]

Three tables. (1) A constant rate over decades: the loss creeps, falls, hangs, or diverges, and a range test's
suggestion beside it. (2) The best of them with a step drop, a drop at a plateau of the validation loss, and a cosine.
(3) The same number of passes over the data with all images in a step (gradient descent), with batches of 128 and of 16,
each at its best rate: how often the weights move decides. Training and validation images alone; means and ranges over
seeds.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import network_runs as runs
from lastlayer._errors import InputError
from lastlayer.networks.plan import TrainingPlan
from lastlayer.networks.presets import parse
from lastlayer.networks.rate_search import find_rate
from lastlayer.networks.training import train_network

RATES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
SCHEDULES = ("constant", "step:factor=0.2", "plateau:factor=0.2,patience=1", "cosine")
BATCHES = {"all (gradient descent)": 0, "128": 128, "16": 16}


def plan_of(rate: float, batch: int, epochs: int, seed: int = 0, schedule: str = "constant") -> TrainingPlan:
    """Plain SGD: no momentum, no decay, so that the rate is all there is."""
    return TrainingPlan(
        epochs=epochs, batch_size=batch, rate=rate, momentum=0.0, nesterov=False, weight_decay=0.0, schedule=schedule,
        seed=seed,
    )  # fmt: skip


def train(data: runs.Data, network: str, plan: TrainingPlan) -> dict[str, Any]:
    """Last losses and accuracy of a run, or that it diverged."""
    architecture = parse(network).architecture(data.X.shape[1:], data.classes)
    try:
        trained = train_network(architecture, data.X, data.y, (data.X_val, data.y_val), plan)
    except InputError as problem:
        if problem.code not in ("LL042", "LL043"):
            raise
        return {"outcome": problem.what, "loss": math.inf, "val_loss": math.inf, "error": math.nan, "steps": 0}
    last = trained.history[-1]
    return {
        "outcome": trained.stop_reason,
        "loss": last["loss"] if trained.stop_reason == "epochs" else math.inf,
        "val_loss": last["val_loss"],
        "error": 100 * (1 - last["val_correct"] / last["val_count"]),
        "steps": last["steps"],
        "losses": [record["loss"] for record in trained.history],
    }


def best_rate(tried: dict[float, dict[str, Any]]) -> float:
    """The rate with the lowest training loss."""
    return min(tried, key=lambda rate: (tried[rate]["loss"], rate))


def measure(
    data: runs.Data, network: str, epochs: int, seeds: int, rates: Sequence[float] = RATES, batch: int = 128
) -> dict[str, Any]:
    """All three parts."""
    constant = {rate: train(data, network, plan_of(rate, batch, epochs)) for rate in rates}
    best = best_rate(constant)
    architecture = parse(network).architecture(data.X.shape[1:], data.classes)
    suggested, _ = find_rate(architecture, data.X, data.y, plan_of(best, batch, epochs))
    schedules = {
        text: [train(data, network, plan_of(best, batch, epochs, 100 + seed, text)) for seed in range(seeds)]
        for text in SCHEDULES
    }
    batches = {}
    for name, size in BATCHES.items():
        size = size or len(data.y)
        tried = constant if size == batch else {r: train(data, network, plan_of(r, size, epochs)) for r in rates}
        rate = best_rate(tried)
        batches[name] = [
            {"rate": rate, **train(data, network, plan_of(rate, size, epochs, 100 + s))} for s in range(seeds)
        ]
    return {"constant": constant, "suggested": suggested, "best": best, "schedules": schedules, "batches": batches}


def tables(found: dict[str, Any]) -> str:
    """The three tables."""
    one = [(f"{rate:g}", run["loss"], run["error"], run["outcome"][:60]) for rate, run in found["constant"].items()]
    two = [
        (text, runs.spread([run["loss"] for run in many]), runs.spread([run["error"] for run in many]))
        for text, many in found["schedules"].items()
    ]
    three = [
        (name, many[0]["rate"], many[0]["steps"], runs.spread([run["loss"] for run in many]),
         runs.spread([run["error"] for run in many]))
        for name, many in found["batches"].items()
    ]  # fmt: skip
    return "\n\n".join(
        [
            runs.table(("constant rate", "loss", "val. error %", "outcome"), one),
            f"a range test suggests {found['suggested']:g}; best of these: {found['best']:g}",
            runs.table(("schedule", "loss", "val. error %"), two),
            runs.table(("images a step", "rate", "steps", "loss", "val. error %"), three),
        ]
    )


def finite(value: Any) -> Any:
    """JSON has no infinite numbers: None."""
    if isinstance(value, dict):
        return {str(key): finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def main(argv: Sequence[str] | None = None) -> int:
    given = runs.options(__doc__, seeds=3, epochs=15, network="mlp:100").parse_args(argv)
    data = runs.read(given.data)
    if given.quick:
        found = measure(data, given.network, 2, 2, rates=(1e-4, 1e-2, 1e4), batch=32)
    else:
        found = measure(data, given.network, given.epochs, given.seeds)
    print(tables(found))
    runs.save(finite({"network": given.network, **found}), data, given.out, "network_rates")
    return 0


if __name__ == "__main__":
    sys.exit(main())
