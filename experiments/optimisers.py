"""Every optimiser on one ill-conditioned problem: values only, first derivatives, second derivatives.

    python experiments/optimisers.py [--out DIR]

Logistic regression with three classes on 500 rows of 8 features whose standard deviations fall from 1 to 1/30, so that
the curvatures span three orders of magnitude. A pass is one forward and one backward product with all rows; a value
alone costs half of one, a product with the Hessian one. SGD and SVRG record the whole objective after every epoch,
which is counted too. "never" means not within the passes given to it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

import show
from lastlayer import InputError, figures
from lastlayer.linear import single_blas_thread
from lastlayer.losses import by_name
from lastlayer.objective import Objective
from lastlayer.selection.fit import preconditioner
from lastlayer.solvers import LBFGS, ExactLineSearch, GradientDescent, Problem, Scheduled, Solution, Solver
from lastlayer.solvers.differences import FiniteDifferenceProblem
from lastlayer.solvers.directions import Adam, Momentum, Nesterov, Plain
from lastlayer.solvers.newton import Newton, NewtonCG
from lastlayer.solvers.schedules import constant, cosine
from lastlayer.solvers.stochastic import SGD
from lastlayer.solvers.variance_reduced import SVRG
from lastlayer.solvers.zeroth_order import SPSA, EvolutionStrategy

ROWS, FEATURES, CLASSES, L2 = 500, 8, 3, 1e-4
GAPS = (1e-1, 1e-3, 1e-6)
STEPS, EPOCHS, RATE = 400, 60, 4.0
SPSA_STEPS, GENERATIONS, DIFFERENCES = 2000, 400, 60


class Row(NamedTuple):
    order: str
    method: str
    passes: tuple[float | None, ...]
    stopped: str


def problem() -> Objective:
    rng = np.random.default_rng(3)
    Z = rng.standard_normal((ROWS, FEATURES)) * np.geomspace(1.0, 1 / 30, FEATURES)
    W = rng.standard_normal((FEATURES, CLASSES)) / np.geomspace(1.0, 1 / 30, FEATURES)[:, None] ** 0.5
    y = (Z @ W + 0.5 * rng.gumbel(size=(ROWS, CLASSES))).argmax(axis=1)
    return Objective(Z, y, CLASSES, by_name("cross_entropy"), L2)


def contestants(objective: Objective) -> dict[tuple[str, str], tuple[Problem, Solver]]:
    """Order and name to problem and solver."""
    bound = objective.curvature_bound()
    P = preconditioner(objective, objective.examples.second_moments())
    values = FiniteDifferenceProblem(objective)
    descend = Scheduled(constant(1.0 / bound))
    adam, batches = 0.1, EPOCHS * -(-ROWS // 32)
    return {
        ("zeroth", "SPSA"): (objective, SPSA(max_iter=SPSA_STEPS)),
        ("zeroth", "CMA-ES"): (objective, EvolutionStrategy(sigma=0.5, max_iter=GENERATIONS)),
        ("zeroth", "L-BFGS on central differences"): (values, LBFGS(tol=1e-7, max_iter=DIFFERENCES)),
        ("first", "gradient descent, 1/L"): (objective, GradientDescent(descend, 1e-6, STEPS)),
        ("first", "exact line search"): (objective, GradientDescent(ExactLineSearch(), 1e-6, STEPS)),
        ("first", "momentum 0.9"): (objective, GradientDescent(descend, 1e-6, STEPS, Momentum(0.9))),
        ("first", "Nesterov"): (objective, GradientDescent(descend, 1e-6, STEPS, Nesterov())),
        ("first", "Adam"): (objective, GradientDescent(Scheduled(cosine(adam, STEPS)), 1e-6, STEPS, Adam())),
        ("first", "SGD, cosine"): (objective, SGD(Plain(), cosine(RATE, batches), 32, EPOCHS)),
        ("first", "SGD, averaged"): (objective, SGD(Plain(), constant(RATE), 32, EPOCHS, average=0.5)),
        ("first", "SVRG"): (objective, SVRG(batch_size=16, epochs=EPOCHS)),
        ("second", "Newton"): (objective, Newton()),
        ("second", "Newton-CG"): (objective, NewtonCG(tol=1e-7)),
        ("second", "L-BFGS"): (objective, LBFGS(tol=1e-7)),
        ("second", "L-BFGS, preconditioned"): (objective, LBFGS(P, tol=1e-7)),
    }


def passes_to(solution: Solution, best: float, gap: float) -> float | None:
    """Passes until the objective was within `gap` of the optimum; None when it never was."""
    reached = [record.passes for record in solution.history if record.value <= best * (1.0 + gap)]
    return reached[0] if reached else None


def measure() -> tuple[list[Row], dict[str, Solution], float]:
    """The table, the solutions, and the optimum: Newton's, to rounding."""
    objective = problem()
    rows: list[Row] = []
    solutions: dict[str, Solution] = {}
    with single_blas_thread():
        best = Newton(tol=1e-12).minimise(objective).value
        for (order, name), (given, solver) in contestants(objective).items():
            try:
                solution = solver.minimise(given)
            except InputError as missing:  # a library that is not installed
                rows.append(Row(order, name, tuple(None for _ in GAPS), missing.what))
                continue
            solutions[name] = solution
            passes = tuple(passes_to(solution, best, gap) for gap in GAPS)
            rows.append(Row(order, name, passes, solution.stop_reason.value))
    return rows, solutions, best


def main(argv: Sequence[str] | None = None) -> int:
    out = show.options(__doc__, argv)
    rows, solutions, best = measure()
    head = ("order", "method", *(f"passes to {gap:g}" for gap in GAPS), "stopped")
    texts = [(r.order, r.method, *("never" if p is None else f"{p:g}" for p in r.passes), r.stopped) for r in rows]
    print(show.table(head, texts))
    figure = figures.learning_curve(solutions, y="gap", reference=best, log_x=True)
    figure.set_size_inches(10.0, 6.0)
    figure.axes[0].set_ylim(bottom=1e-9)
    show.save(figure, out, "optimisers")
    return 0


if __name__ == "__main__":
    sys.exit(main())
