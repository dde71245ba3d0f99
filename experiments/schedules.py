"""Every schedule of the learning rate on one figure, and what each does for SGD on the 8 × 8 digits.

    python experiments/schedules.py [--out DIR]

All schedules start from (or rise to) the same largest rate, 15 epochs of batches of 32 rows. The gap is relative to the
exact optimum; the constant rate is left hanging at its noise, the falling ones get closer.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NamedTuple

from sklearn.datasets import load_digits

import show
from lastlayer import figures
from lastlayer.linear import single_blas_thread
from lastlayer.losses import by_name
from lastlayer.objective import Objective
from lastlayer.selection.fit import fit_linear
from lastlayer.solvers import schedules as make
from lastlayer.solvers.directions import Plain
from lastlayer.solvers.schedules import Schedule
from lastlayer.solvers.stochastic import SGD

RATE, EPOCHS, BATCH, L2 = 2.0, 15, 32, 1e-2


class Row(NamedTuple):
    schedule: str
    last_rate: float
    gap: float


def every_schedule(steps: int, rate: float = RATE) -> dict[str, Schedule]:
    """All of them, stretched over `steps`."""
    return {
        "constant": make.constant(rate),
        "polynomial, power ½": make.polynomial_decay(rate, steps / 30, 0.5),
        "step drop": make.step_drop(rate, -(-steps // 3), 0.2),
        "exponential": make.exponential_decay(rate, 0.01 ** (1.0 / steps)),
        "1/t": make.inverse_time(rate, steps / 30),
        "cosine": make.cosine(rate, steps),
        "cosine with restarts": make.cosine_restarts(rate, T_0=-(-steps // 7), T_mult=2),
        "one cycle": make.one_cycle(rate, steps),
        "cosine after warm-up": make.warm_up(make.cosine(rate, steps - steps // 10), steps // 10),
    }


def measure() -> list[Row]:
    X, y = load_digits(return_X_y=True)
    objective = Objective(X / 16.0, y, 10, by_name("cross_entropy"), L2)
    best = fit_linear(X / 16.0, y, 10, l2=L2, tol=1e-7).solution.value
    steps = EPOCHS * -(-len(y) // BATCH)
    rows = []
    for name, schedule in every_schedule(steps).items():
        with single_blas_thread():
            solution = SGD(Plain(), schedule, BATCH, EPOCHS, keep_best=False).minimise(objective)
        rows.append(Row(name, schedule(steps - 1), solution.value / best - 1.0))
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    out = show.options(__doc__, argv)
    print(show.table(("schedule", "last rate", f"gap after {EPOCHS} epochs"), measure()))
    show.save(figures.schedule(every_schedule(700, 1.0), 700, panels=True), out, "schedules")
    return 0


if __name__ == "__main__":
    sys.exit(main())
