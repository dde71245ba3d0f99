"""ReLU against tanh: epochs to 25 % training error on CIFAR-10 (Krizhevsky et al. 2012, figure 1, claims a factor 6).

    python experiments/relu_or_tanh.py DATA [--out DIR] [--seeds 5] [--rows 10000] [--choosing 3] [--images 0]
        [--initialisations AB] [--quick]

The architecture behind the figure is not published; this is cuda-convnet's: three 5 x 5 convolutions with 32, 32 and
64 maps and pooling behind them, one linear layer. SGD, batch 128, momentum 0.9, constant rate, biases at twice the
rate; no augmentation, decay, dropout or local normalisation. Two initialisations: A, the published small Gaussians; B,
LSUV (Mishkin & Matas 2016). Stage 1 chooses the rate of each (activation, initialisation) on `--rows` images with
`--choosing` seeds: the smallest median of epochs to 25 %, over half decades from the middle outwards, extended until
the best is not at the edge; a run is cut where the best median so far ends, since it cannot win any more. Stage 2 runs
fresh seeds on `--images` training images, 0 for all. Runs that never get there are censored at the cap and said. Ratio
of medians with a bootstrap interval over seeds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import network_runs as runs
from lastlayer._errors import InputError
from lastlayer.networks.architecture import Architecture
from lastlayer.networks.batches import Batches
from lastlayer.networks.forward import Model, choose_device, deterministic
from lastlayer.networks.lsuv import lsuv
from lastlayer.networks.plan import TrainingPlan
from lastlayer.networks.presets import parse
from lastlayer.networks.run import Run

TARGET, CAP, QUARTERS = 0.25, 60, 4
JUDGED = 2000
"""Images on which the error is measured, at least."""
RATES = (1e-3, 3.2e-3, 1e-2, 3.2e-2, 1e-1)
STEP = float(np.sqrt(10.0))
INITIALISATIONS = ("A", "B")


def crossing(errors: Sequence[tuple[float, float]], target: float = TARGET) -> float | None:
    """Epochs at which the error first passes `target`, on a line between the measurements around it.

    >>> crossing([(0.25, 0.5), (0.5, 0.2)], 0.35)
    0.375
    """
    before = errors[0]
    for epoch, error in errors:
        if error <= target:
            if error == before[1]:
                return epoch
            share = (before[1] - target) / (before[1] - error)
            return before[0] + share * (epoch - before[0])
        before = epoch, error
    return None


def network(activation: str, shape: tuple[int, ...], classes: int) -> Architecture:
    """cuda-convnet's three convolutions, without local normalisation."""
    return parse(f"cuda-convnet:18pct,act={activation},lrn=false").architecture(shape, classes)


def epochs_needed(data: runs.Data, activation: str, start: str, rate: float, seed: int, cap: float) -> dict[str, Any]:
    """Train until the error is at most 25 %, measured each quarter of an epoch on a fixed quarter of the images."""
    began = time.perf_counter()
    device = choose_device("auto")
    plan = TrainingPlan(
        epochs=cap, batch_size=128, rate=rate, momentum=0.9, nesterov=False, weight_decay=0.0, schedule="constant",
        rates="*.bias=2", seed=seed,
    )  # fmt: skip
    architecture = network(activation, data.X.shape[1:], data.classes)
    model = Model(architecture, device)
    errors: list[tuple[float, float]] = [(0.0, 1.0 - 1.0 / data.classes)]
    with deterministic(device):
        arrays = model.begin(data.X, seed)
        if start == "B":
            arrays = lsuv(architecture, arrays, data.X[:512])
        run = Run(model, arrays, Batches(data.X, data.y, 128, seed, device, ""), plan)
        run.set_epochs(cap)
        each = max(1, run.batches.per_epoch // QUARTERS)
        judged = run.batches.sample(max(JUDGED, len(data.y) // QUARTERS))
        X, y = data.X[judged], data.y[judged]
        diverged = False
        while run.step < run.total and errors[-1][1] > TARGET and not diverged:
            diverged = not run.advance()
            if run.step % each == 0 and not diverged:
                _, right = run.validate(X, y)
                errors.append((run.step / run.batches.per_epoch, 1.0 - right / len(y)))
    needed = crossing(errors)
    seconds = round(time.perf_counter() - began, 1)
    said = "diverged" if diverged else f"not in {cap:.3g} epochs" if needed is None else f"{needed:.2f} epochs"
    about = f"{activation} {start}, rate {rate:.3g}, seed {seed}, {len(data.y)} images"
    print(f"{about}: {said}, error {errors[-1][1]:.3f}, {seconds:.0f} s", file=sys.stderr, flush=True)
    return {
        "activation": activation,
        "initialisation": start,
        "rate": rate,
        "seed": seed,
        "epochs": needed,
        "diverged": diverged,
        "seconds": seconds,
        "errors": errors,
    }


def median_epochs(found: Sequence[dict[str, Any]], cap: float) -> float:
    """Median over seeds; a run that did not get there counts as infinite."""
    return float(np.median([np.inf if one["epochs"] is None else one["epochs"] for one in found]))


def choose_rate(
    attempt: Callable[[float, int, float], dict[str, Any]], rates: Sequence[float], seeds: Sequence[int], cap: float
) -> tuple[float, list[dict[str, Any]]]:
    """The rate with the smallest median; the grid grows while the best is at its edge, by three rates at most.

    A rate is tried up to the best median before it: with an odd number of seeds the choice is that of whole runs.
    """
    tried: dict[float, list[dict[str, Any]]] = {}

    def attempt_all(rate: float) -> None:
        limit = min([cap, *(median_epochs(found, cap) for found in tried.values())])
        tried[rate] = [attempt(rate, seed, limit) for seed in seeds]

    middle = np.log(sorted(rates)[len(rates) // 2])
    for rate in sorted(rates, key=lambda one: abs(np.log(one) - middle)):
        attempt_all(rate)
    for _ in range(3):
        grid = sorted(tried)
        medians = {rate: median_epochs(tried[rate], cap) for rate in grid}
        best = min(grid, key=lambda rate: (medians[rate], rate))
        if np.isfinite(medians[best]) and best not in (grid[0], grid[-1]):
            break
        attempt_all(grid[0] / STEP if best == grid[0] and np.isfinite(medians[best]) else grid[-1] * STEP)
    best = min(sorted(tried), key=lambda rate: median_epochs(tried[rate], cap))
    if not np.isfinite(median_epochs(tried[best], cap)):
        raise InputError(f"no rate of {sorted(tried)} reached {TARGET:.0%} error in {cap} epochs", "Raise the cap")
    return best, [one for rate in sorted(tried) for one in tried[rate]]


def ratio(tanh: Sequence[float], relu: Sequence[float], draws: int = 5000) -> tuple[float, tuple[float, float]]:
    """Median of tanh by median of ReLU, and the bootstrap interval over seeds."""
    rng = np.random.default_rng(0)
    a, b = np.asarray(tanh), np.asarray(relu)
    many = [np.median(rng.choice(a, len(a))) / np.median(rng.choice(b, len(b))) for _ in range(draws)]
    return float(np.median(a) / np.median(b)), runs.interval(many)


def measure(
    data: runs.Data,
    rows: int,
    seeds: int,
    rates: Sequence[float] = RATES,
    cap: float = CAP,
    choosing: int = 3,
    starts: Sequence[str] = INITIALISATIONS,
) -> dict[str, Any]:
    """Both stages for both activations and initialisations."""
    some, found = data.some(rows), dict[str, Any]()
    for start in starts:
        needed = {}
        for activation in ("relu", "tanh"):

            def attempt(
                rate: float, seed: int, limit: float, activation: str = activation, start: str = start
            ) -> dict[str, Any]:
                return epochs_needed(some, activation, start, rate, seed, limit)

            # fewer images, so that an epoch is shorter: as many steps as on all of them
            longer = cap * max(1.0, len(data.y) / len(some.y))
            rate, stage1 = choose_rate(attempt, rates, range(choosing), longer)
            stage2 = [epochs_needed(data, activation, start, rate, 100 + seed, cap) for seed in range(seeds)]
            needed[activation] = stage2
            found[f"{activation} {start}"] = {"rate": rate, "stage 1": stage1, "stage 2": stage2}
        epochs = {name: [one["epochs"] or cap for one in stage] for name, stage in needed.items()}
        value, interval = ratio(epochs["tanh"], epochs["relu"])
        found[f"ratio {start}"] = {"ratio": value, "interval": interval}
    return found


def rows_of(found: dict[str, Any]) -> list[tuple[object, ...]]:
    """Lines of the table."""
    lines = []
    for start in [start for start in INITIALISATIONS if f"ratio {start}" in found]:
        for activation in ("relu", "tanh"):
            stage = found[f"{activation} {start}"]
            epochs = [one["epochs"] for one in stage["stage 2"] if one["epochs"] is not None]
            censored = len(stage["stage 2"]) - len(epochs)
            seconds = float(np.median([one["seconds"] for one in stage["stage 2"]]))
            lines.append((start, activation, stage["rate"], runs.spread(epochs) if epochs else "-", censored, seconds))
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    parser = runs.options(__doc__, seeds=5, rows=10000, choosing=3, images=0, initialisations="AB")
    given = parser.parse_args(argv)
    starts = [start for start in INITIALISATIONS if start in given.initialisations]
    if not starts or set(given.initialisations) - set(INITIALISATIONS):
        parser.error(f"--initialisations is {given.initialisations!r}: A, B or AB is needed")
    data = runs.read(given.data)
    if given.images:
        data = data.some(given.images)
    if given.quick:
        found = measure(data, 200, 2, rates=(3.2e-3, 1e-2, 3.2e-2), cap=12, choosing=1, starts=starts)
    else:
        found = measure(data, given.rows, given.seeds, choosing=given.choosing, starts=starts)
    head = ("initialisation", "activation", "rate", "epochs to 25 % [range]", "censored", "seconds")
    print(runs.table(head, rows_of(found)))
    for start in starts:
        value, (low, high) = found[f"ratio {start}"]["ratio"], found[f"ratio {start}"]["interval"]
        print(f"\ninitialisation {start}: tanh needs {value:.2f} times the epochs of ReLU [{low:.2f}-{high:.2f}]")
    runs.save(found, data, given.out, "relu_or_tanh")
    return 0


if __name__ == "__main__":
    sys.exit(main())
