"""SVRG: minibatch gradients whose noise vanishes as the optimum comes near."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

from lastlayer._arrays import Float64, InputError, IntArray
from lastlayer.solvers.base import (
    CURVATURE_BOUND,
    GRADIENT,
    ROWS,
    SMOOTH,
    Callback,
    Point,
    Problem,
    RowProblem,
    Solution,
    Solver,
)
from lastlayer.solvers.directions import Direction, Plain
from lastlayer.solvers.minibatches import Estimate, Plan, batch_curvature, check_settings, rows_of, run
from lastlayer.solvers.schedules import Schedule, constant


@final
@dataclass(frozen=True, eq=False)
class SVRG(Solver):
    """Stochastic variance-reduced gradient (Johnson & Zhang 2013).

    ``g = ∇f_B(x) - ∇f_B(x̃) + ∇f(x̃)`` for a batch B and the parameters x̃ at the beginning of the epoch. The estimate is
    unbiased and its noise falls with the distance of x and x̃ from the optimum, so that a constant rate converges, at a
    linear rate where the objective is strongly convex. An epoch costs one pass for the full gradient, which the record
    and the stopping rule use as well, and two passes a walk.

    Parameters
    ----------
    rate : float, callable or None
        A constant, or a schedule of the count of steps; ``1 / L_b`` when None, L_b the expected smoothness of the
        batches (`minibatches.batch_curvature`).
    batch_size : int
    epochs : int
        Most epochs, each of one full gradient and `walks` walks over the shuffled rows.
    seed : int
        Of the shuffles.
    tol : float
        Relative gradient norm at which to stop.
    walks : int
        Walks over the rows between two full gradients; 2 is Johnson & Zhang's choice.
    direction : Direction
        What to make of the estimates.
    """

    rate: float | Schedule | None = None
    batch_size: int = 16
    epochs: int = 100
    seed: int = 0
    tol: float = 1e-4
    walks: int = 2
    direction: Direction = field(default_factory=Plain)

    def __post_init__(self) -> None:
        check_settings(self.batch_size, self.epochs, self.tol)
        if isinstance(self.walks, bool) or self.walks != self.walks // 1 or self.walks < 1:
            raise InputError(f"walks is {self.walks}; a whole number of at least 1 is needed")

    @property
    def name(self) -> str:
        """Name for refusals."""
        return "svrg"

    @property
    def needs(self) -> frozenset[str]:
        """Rows and a continuous gradient; without a rate also the bound that it comes from."""
        base = frozenset({GRADIENT, ROWS, SMOOTH})
        return base if self.rate is not None else base | {CURVATURE_BOUND}

    def minimise(self, problem: Problem, start: Point | None = None, callback: Callback | None = None) -> Solution:
        """Minimise; Ctrl-C returns the best parameters so far."""
        rows = rows_of(self, problem, "loss cross_entropy with solver svrg")
        plan = Plan(
            self.direction,
            self._schedule(rows),
            self.batch_size,
            self.epochs,
            self.seed,
            self.tol,
            walks=self.walks,
        )
        return run(rows, plan, lambda point: _anchored(rows, point), start, callback)

    def _schedule(self, problem: RowProblem) -> Schedule:
        if callable(self.rate):
            return self.rate
        if self.rate is not None:
            return constant(self.rate)
        return constant(1.0 / batch_curvature(problem, self.batch_size, self.direction.gain))


def _anchored(problem: RowProblem, anchor: Point) -> Estimate:
    """The batch's gradient, corrected by what the same batch gets wrong at the anchor."""
    params, gradient = anchor.params.copy(), anchor.gradient

    def estimate(x: Float64, rows: IntArray) -> tuple[float, Float64]:
        value, here = problem.batch(x, rows)
        _, there = problem.batch(params, rows)
        return value, here - there + gradient

    return estimate
