"""Learning rates: too small, good, too large; and two ways of choosing one.

    python experiments/learning_rates.py [--out DIR]

Gradient descent with a constant rate on the squared loss of the 8 × 8 digits, every pixel with variance 1: its
curvature L is known exactly, and above 2/L the iteration diverges, which the solver notices and names. Then two ways
to find a rate for cross-entropy, whose curvature shrinks as the classes become sure: the search over decades with
successive halving, for full gradients, and the range test, for minibatches.
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
from lastlayer.selection.learning_rate import RateSearch, decades, search_learning_rate
from lastlayer.selection.range_test import RangeTest, range_test
from lastlayer.solvers import GradientDescent, Scheduled, Solution
from lastlayer.solvers.steps import constant

SHARES = (0.01, 0.3, 1.0, 1.9, 2.1)
STEPS = 100
L2 = 1e-3


class Row(NamedTuple):
    share: float
    rate: float
    gap: float
    reason: str
    note: str


def pixels() -> tuple[np.ndarray, np.ndarray]:
    """Pixels that vary, with mean 0 and variance 1, and labels."""
    X, y = load_digits(return_X_y=True)
    X = X[:, X.std(axis=0) > 0]
    return (X - X.mean(axis=0)) / X.std(axis=0), y


def digits(loss: str) -> Objective:
    X, y = pixels()
    return Objective(X, y, 10, by_name(loss), L2)


def constant_rates() -> tuple[list[Row], dict[str, Solution], float]:
    """Rates as multiples of 1/L, what became of them, and the exact optimum."""
    objective = digits("squared")
    X, y = pixels()
    best = fit_linear(X, y, 10, "squared", l2=L2).solution.value
    bound = objective.curvature_bound()
    rows, solutions = [], {}
    for share in SHARES:
        rate = share / bound
        with single_blas_thread():
            solution = GradientDescent(Scheduled(constant(rate)), 1e-9, STEPS).minimise(objective)
        rows.append(Row(share, rate, solution.value / best - 1.0, solution.stop_reason.value, solution.note))
        solutions[f"{share:g}/L = {rate:.3g}"] = solution
    return rows, solutions, best


def search() -> RateSearch:
    """Full gradients: rates over decades, 36 passes for the best."""
    return search_learning_rate(
        digits("cross_entropy"),
        lambda rate: GradientDescent(Scheduled(constant(rate)), 1e-9, 10_000),
        decades(1e-4, 1e3),
        budget=36,
    )


def test() -> RangeTest:
    """Minibatches: one epoch and a bit, the rate growing from step to step."""
    return range_test(digits("cross_entropy"), 1e-5, 1e3, steps=200)


def main(argv: Sequence[str] | None = None) -> int:
    out = show.options(__doc__, argv)
    rows, solutions, best = constant_rates()
    print(show.table(("rate · L", "rate", f"gap after {STEPS} steps", "stopped", "the solver says"), rows))
    figure = figures.learning_curve(solutions, y="gap", reference=best, x="iteration")
    show.save(figure, out, "learning_rates")
    found = search()
    print(f"\nsearch: {found.best:g} chosen, {found.passes:g} passes in all. {found.note}\n{found.table()}")
    show.save(figures.learning_rates(found), out, "learning_rate_search")
    seen = test()
    print(f"\nrange test: {seen.suggestion:.3g} suggested; {seen.stopped}. {seen.note}")
    show.save(figures.learning_rates(seen), out, "learning_rate_range")
    return 0


if __name__ == "__main__":
    sys.exit(main())
