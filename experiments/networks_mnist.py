"""Networks on MNIST, each by its preset's own recipe, and the linear classifier that is trained beside every one.

    python experiments/networks_mnist.py DATA [--rows mlp lenet5 …] [--runs DIR] [--out JSON] [--quick]

DATA is a folder with train/DIGIT/* and test/DIGIT/*. A tenth of the training images is drawn as validation images: they
choose the epoch, the last layer and λ. Nothing is chosen on test images, which `lastlayer.train` scores once at the end
of a run. Printed are k/n = p% [95% interval] of the right answers and of the mistakes, seconds, and how the
linear classifier did. --quick makes two epochs of small networks, to see that everything runs.

* ``mlp``: 300 hidden units. Published for 28x28 pixels: 4.7% error (LeCun et al. 1998); 1.6% with 800 units and
  cross-entropy (Simard et al. 2003).
* ``mlp-shifts``: the same with training images moved by up to a pixel, and smoothed labels.
* ``lenet5``: LeCun et al. 1998, Figure 2, with its own radial outputs and without distortions; published 0.95%. A
  twentieth of the training images judges.
* ``distortions``: the same with distorted training images; published 0.8%.
* ``convnet``: a small modern network, images shifted but not mirrored.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import show
from lastlayer import train
from lastlayer._files import write_json
from lastlayer.evaluation.intervals import Proportion
from lastlayer.pipeline.environment import environment

VAL = 0.1
SEED = 0
ROWS: dict[str, dict[str, Any]] = {
    "mlp": {"phi": "mlp:300"},
    "mlp-shifts": {"phi": "mlp:300", "augment": "shift=1", "label_smoothing": 0.1},
    "lenet5": {"phi": "lenet5", "augment": "none", "refit_last_layer": "no", "val": 0.05},
    "distortions": {
        "phi": "lenet5",
        "augment": "shift=1,affine=10:0.1:0.1,elastic=5:20",
        "refit_last_layer": "no",
        "val": 0.05,
        "epochs": 60.0,
        "schedule": "cosine",
        "weight_decay": 0.0,
    },
    "convnet": {"phi": "convnet", "augment": "shift=2", "epochs": 13.0},
}
QUICK: dict[str, dict[str, Any]] = {
    "mlp": {"phi": "mlp:16", "epochs": 2.0},
    "lenet5": {"phi": "lenet5:modern", "epochs": 2.0, "augment": "none"},
}
HEAD = ("network", "correct", "mistakes", "validation", "epochs", "parameters", "s", "linear", "s", "p")


def one(data: str, name: str, settings: Mapping[str, Any], runs: Path, seed: int) -> dict[str, Any]:
    """Train one row and say what came of it."""
    run = train(data, **{"val": VAL, **settings}, seed=seed, runs=runs, progress=True)
    metrics = run.metrics
    found, side = metrics["network"], metrics["splits"][metrics["quote"]]["accuracy"]
    right = Proportion(side["k"], side["n"])
    kept = "exact" if found["last_layer"]["refitted"] else "own"
    linear = found["linear"]
    beside = None if linear is None else linear["sides"][metrics["quote"]]
    return {
        "row": name,
        "settings": dict(settings),
        "split": metrics["quote"],
        "correct": right,
        "mistakes": Proportion(right.n - right.k, right.n),
        "validation": _proportion(metrics["splits"]["val"]["accuracy"]),
        "epochs": f"{found['best_epoch']}/{found['epochs']} ({found['stop_reason']})",
        "parameters": found["n_parameters"],
        "seconds": found["seconds"],
        "last_layer": kept,
        "linear": None if beside is None else _proportion(beside["accuracy"]),
        "linear_seconds": None if linear is None else linear["seconds"],
        "p_value": None if beside is None else beside["p_value"],
        "look": metrics["look"],
        "data_sha256": metrics["data_sha256"],
        "run": str(run.folder),
    }


def _proportion(stored: Mapping[str, Any]) -> Proportion:
    return Proportion(stored["k"], stored["n"])


def cells(row: Mapping[str, Any]) -> tuple[object, ...]:
    """The line of a row in the table."""
    linear = row["linear"]
    return (
        f"{row['row']} ({row['settings']['phi']}, {row['last_layer']} last layer)",
        str(row["correct"]),
        f"{100 * row['mistakes'].value:.2f}% {row['mistakes'].interval()}",
        str(row["validation"]),
        row["epochs"],
        row["parameters"],
        f"{row['seconds']:.0f}",
        "" if linear is None else str(linear),
        "" if linear is None else f"{row['linear_seconds']:.0f}",
        "" if linear is None else (f"{row['p_value']:.2g}" if row["p_value"] > 0 else "< 1e-300"),
    )


def run_rows(doc: str | None, rows: Mapping[str, Any], quick: Mapping[str, Any], argv: Sequence[str] | None) -> None:
    """Read the command line, train the rows asked for, print and write them."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="folder with train/CLASS/* and test/CLASS/*")
    parser.add_argument("--rows", nargs="+", choices=list(rows), help="which rows [all]")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--time-limit", type=float, help="seconds for the training of each row [none]")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where run folders go")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    parser.add_argument("--quick", action="store_true", help="two epochs of small networks")
    given = parser.parse_args(argv)
    table = quick if given.quick else rows
    limit = {} if given.time_limit is None else {"time_limit": given.time_limit}
    found = []
    for name in [name for name in table if not given.rows or name in given.rows]:
        found.append(one(given.data, name, {**table[name], **limit}, given.runs, given.seed))
        print(f"{name}: {found[-1]['correct']}", file=sys.stderr, flush=True)
    if not found:
        parser.error("--quick has none of these rows")
    facts = environment()
    print(show.table(HEAD, [cells(row) for row in found]))
    print(f"\n{found[0]['split']} images, seed {given.seed}; validation {VAL:g} of the training images but where a row")
    print(f"has its own share; {facts['processor']}, {facts['cores']} cores;")
    print(f"lastlayer {facts['lastlayer']}, numpy {facts['numpy']}, torch {torch_version()}")
    print(f"images: sha256 {found[0]['data_sha256']}")
    if given.out:
        plain = [{key: str(v) if isinstance(v, Proportion) else v for key, v in row.items()} for row in found]
        write_json(given.out, {"rows": plain, "seed": given.seed, "environment": facts, "torch": torch_version()})


def torch_version() -> str:
    """Version of PyTorch, without importing it."""
    from importlib import metadata

    return metadata.version("torch")


def main(argv: Sequence[str] | None = None) -> None:
    run_rows(__doc__, ROWS, QUICK, argv)


if __name__ == "__main__":
    main()
