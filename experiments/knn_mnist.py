"""k nearest neighbours on raw pixels: MNIST beside LeCun's rows, CIFAR-10 beside CS231n's.

    python experiments/knn_mnist.py --arrays FOLDER [--only mnist cifar] [--json FILE]

FOLDER holds {mnist,cifar}_{train,test}.npy (uint8) and {mnist,cifar}_{train,test}_y.npy. k is chosen by 5 folds of the
training rows, every class spread evenly (seed 0), one search a fold for all k; then all training rows vote on the test
rows, once. Published: LeCun, Bottou, Bengio & Haffner 1998 and the MNIST page (5.0% with L2, 3.09% by K. Wilder; 2.83%
with L3); CS231n's notes (1-NN on CIFAR-10, all rows: 38.6% right with L1, 35.4% with L2; k-NN from 5,000 training rows:
about 28% of 500 test rows).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

import show
from lastlayer._files import write_json
from lastlayer.estimators.k_neighbors import KNeighborsClassifier
from lastlayer.evaluation.intervals import Proportion

KS = (1, 3, 5, 8, 10, 12, 15, 20, 50, 100)
SEED = 0


class Arm(NamedTuple):
    """One row of the table.

    `ks` is a number or what is chosen from; `train` and `test` are numbers of rows, 0 for all.
    """

    data: str
    metric: str
    weights: str
    ks: int | tuple[int, ...]
    train: int
    test: int
    published: str


class Row(NamedTuple):
    data: str
    metric: str
    weights: str
    k: int
    held_out: str
    test: str
    published: str
    seconds: float


ARMS = (
    Arm("mnist", "l2", "uniform", KS, 0, 0, "5.0% wrong (LeCun), 3.09% (Wilder)"),
    Arm("mnist", "l2", "distance", KS, 0, 0, ""),
    Arm("mnist", "cosine", "distance", KS, 0, 0, ""),
    Arm("mnist", "l1", "distance", KS, 0, 0, ""),
    Arm("mnist", "l3", "distance", KS, 0, 0, "2.83% wrong"),
    Arm("cifar", "l2", "uniform", 1, 0, 0, "35.4% right"),
    Arm("cifar", "l1", "uniform", 1, 0, 0, "38.6% right"),
    Arm("cifar", "l2", "uniform", KS, 5000, 500, "about 28% right"),
    Arm("cifar", "l2", "distance", KS, 0, 0, ""),
    Arm("cifar", "cosine", "distance", KS, 0, 0, ""),
)


def load(folder: Path, name: str, side: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows of bytes in a seeded order, and their labels."""
    X, y = np.load(folder / f"{name}_{side}.npy"), np.load(folder / f"{name}_{side}_y.npy")
    order = np.random.default_rng(SEED).permutation(len(X))
    return X.reshape(len(X), -1)[order], y[order]


def measure(arm: Arm, folder: Path) -> Row:
    """Choose k on the training rows, then look at the test rows once."""
    X, y = load(folder, arm.data, "train")
    Q, t = load(folder, arm.data, "test")
    X, y, Q, t = (a[: count or None] for a, count in ((X, arm.train), (y, arm.train), (Q, arm.test), (t, arm.test)))
    start = time.perf_counter()
    voter = KNeighborsClassifier(arm.ks, metric=arm.metric, weights=arm.weights, random_state=SEED).fit(X, y)
    held_out = "k given"
    if not isinstance(arm.ks, int):
        table = voter.cv_results_
        held_out = _told(arm, int(table["right"].max()), int(table["rows"][0]))
    right = int(np.count_nonzero(voter.predict(Q) == t))
    seconds = time.perf_counter() - start
    size = f" ({arm.train:,} rows)" if arm.train else ""
    return Row(
        arm.data + size,
        arm.metric,
        arm.weights,
        voter.n_neighbors_,
        held_out,
        _told(arm, right, len(t)),
        arm.published,
        round(seconds, 1),
    )


def _told(arm: Arm, right: int, n: int) -> str:
    """Errors for MNIST, right answers for CIFAR-10: as they are published."""
    return f"{Proportion(n - right, n)} wrong" if arm.data == "mnist" else f"{Proportion(right, n)} right"


def describe(folder: Path, names: Sequence[str]) -> str:
    """What the figures depend on."""
    digests = [
        f"{name} {hashlib.sha256(np.load(folder / f'{name}_train.npy').tobytes()).hexdigest()[:12]}" for name in names
    ]
    versions = (
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}"
    )
    return f"seed {SEED}; {versions}; SHA-256 of the training pixels: {', '.join(digests)}"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arrays", type=Path, required=True, help="folder with the arrays")
    parser.add_argument("--only", nargs="+", choices=["mnist", "cifar"], default=["mnist", "cifar"])
    parser.add_argument("--metrics", nargs="+", choices=["l1", "l2", "l3", "cosine"], help="these metrics only")
    parser.add_argument("--json", type=Path, help="file for the rows")
    options = parser.parse_args(argv)
    rows = []
    for arm in ARMS:
        if arm.data in options.only and (options.metrics is None or arm.metric in options.metrics):
            rows.append(measure(arm, options.arrays))
            print(f"{rows[-1].data} {rows[-1].metric} {rows[-1].weights}: {rows[-1].test}", file=sys.stderr, flush=True)
    print(describe(options.arrays, options.only), "\n", sep="")
    print(show.table(Row._fields, rows))
    if options.json:
        write_json(options.json, [row._asdict() for row in rows])
    return 0


if __name__ == "__main__":
    sys.exit(main())
