"""All rows at a time, or a few? Batch and minibatch gradient descent on the 8 × 8 digits.

    python experiments/batch_or_stochastic.py [--out DIR]

For every batch size a constant rate is chosen by successive halving, by the objective after at most 9 epochs. Then each
runs for 30 epochs with its rate. An epoch looks at every row once, whatever the batch size; small batches make more
steps in it, and their noise keeps them from the optimum unless the rate falls. Accuracies are of 597 rows that no
solver saw.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_digits

import show
from lastlayer import figures
from lastlayer.linear import single_blas_thread
from lastlayer.losses import by_name
from lastlayer.objective import Objective
from lastlayer.selection.fit import fit_linear
from lastlayer.selection.learning_rate import search_learning_rate
from lastlayer.solvers import Solution, Solver
from lastlayer.solvers.directions import Plain
from lastlayer.solvers.schedules import constant, cosine
from lastlayer.solvers.stochastic import SGD

TRAIN, EPOCHS, L2 = 1200, 30, 1e-3
SIZES = (TRAIN, 128, 16, 2)
RATES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


class Row(NamedTuple):
    method: str
    rate: float
    steps: int
    after_1: float
    after_5: float
    after_all: float
    accuracy: str


def split() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    X, y = X[order] / 16.0, y[order]
    return X[:TRAIN], y[:TRAIN], X[TRAIN:], y[TRAIN:]


def solver(rate: float, size: int, falling: bool = False) -> Solver:
    """SGD; with a batch of all rows it is gradient descent. An epoch and its record are two passes."""
    schedule = cosine(rate, EPOCHS * -(-TRAIN // size)) if falling else constant(rate)
    return SGD(Plain(), schedule, size, EPOCHS, tol=0.0, keep_best=False)


def measure(sizes: Sequence[int] = SIZES) -> tuple[list[Row], dict[str, Solution], float]:
    """A row for each batch size and one for a falling rate, the solutions, and the exact optimum."""
    X, y, X_test, y_test = split()
    objective = Objective(X, y, 10, by_name("cross_entropy"), L2)
    best = fit_linear(X, y, 10, l2=L2, tol=1e-7).solution.value
    rows: list[Row] = []
    solutions: dict[str, Solution] = {}

    def run(name: str, rate: float, size: int, falling: bool = False) -> None:
        with single_blas_thread():
            solution = solver(rate, size, falling).minimise(objective)
        W, b = objective.to_outside(solution.params)
        right = int(((X_test @ W + b).argmax(axis=1) == y_test).sum())
        gaps = [record.value / best - 1.0 for record in solution.history]
        accuracy = f"{right}/{len(y_test)} = {100 * right / len(y_test):.1f}%"
        rows.append(Row(name, rate, -(-TRAIN // size), gaps[1], gaps[5], gaps[-1], accuracy))
        solutions[f"{name}, rate {rate:g}"] = solution

    for size in sizes:
        found = search_learning_rate(objective, lambda rate: solver(rate, size), RATES, budget=18, least=2)  # noqa: B023
        run("all rows" if size == TRAIN else f"batches of {size}", found.best, size)
    run("batches of 16, cosine", rows[list(sizes).index(16)].rate, 16, falling=True)
    return rows, solutions, best


def main(argv: Sequence[str] | None = None) -> int:
    out = show.options(__doc__, argv)
    rows, solutions, best = measure()
    head = ("method", "rate", "steps an epoch", "gap after 1", "after 5", f"after {EPOCHS} epochs", "accuracy")
    print(show.table(head, rows))
    figure = figures.learning_curve(solutions, x="iteration", y="gap", reference=best)
    figure.axes[0].set_xlabel("epochs (every row once)")
    show.save(figure, out, "batch_or_stochastic")
    return 0


if __name__ == "__main__":
    sys.exit(main())
