"""Stochastic gradient descent: the gradient of a few rows in place of that of all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

from lastlayer._arrays import InputError
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
from lastlayer.solvers.minibatches import Plan, batch_curvature, check_settings, rows_of, run, steps_in_epoch
from lastlayer.solvers.schedules import Plateau, Schedule, cosine
from lastlayer.solvers.stopping import Score


@final
@dataclass(frozen=True, eq=False)
class SGD(Solver):
    """``x ← x + η d`` with d made of the gradients of random minibatches (Robbins & Monro 1951).

    Rows are drawn without replacement: every epoch takes each row once, in an order of its own. The gradients' noise
    keeps a constant rate at a distance from the optimum; a falling rate, or the mean of the parameters, gets closer.
    After each epoch the whole objective is recorded, which costs one pass (an epoch is two), and the relative gradient
    norm is compared with `tol`.

    Parameters
    ----------
    direction : Direction
        `Plain`, `Momentum`, `Nesterov` or `Adam`.
    schedule : callable or None
        Count of steps -> rate. When None half a cosine down to 0 over all epochs, from ``1 / L_b`` with L_b the
        expected smoothness of the batches (`minibatches.batch_curvature`), or from 0.001 with Adam.
    batch_size : int
        Rows in a batch.
    epochs : int
        Most epochs.
    seed : int
        Epoch e is shuffled by (seed, e): the same seed gives the same bits.
    average : float
        Share of the steps, from the last one back, over which the parameters are averaged: 1 for all of them (Polyak
        & Juditsky 1992; Ruppert 1988), ½ for the later half (Rakhlin, Shamir & Sridharan 2012), 0 for the last only.
    tol : float
        Relative gradient norm at which to stop.
    per_epoch : bool
        Give the schedule the count of epochs instead of steps.
    plateau : Plateau or None
        Multiplies the rate when a loss has stopped falling, looked at after every epoch.
    validation : callable or None
        params -> the loss that `plateau` looks at; the training objective when None.
    keep_best : bool
        Return the best parameters recorded; otherwise the last ones that had not diverged.

    Examples
    --------
    >>> from lastlayer.solvers.schedules import cosine_restarts
    >>> solver = SGD(Plain(), cosine_restarts(0.1, T_0=100), batch_size=32, epochs=10)
    """

    direction: Direction = field(default_factory=Plain)
    schedule: Schedule | None = None
    batch_size: int = 64
    epochs: int = 20
    seed: int = 0
    average: float = 0.0
    tol: float = 1e-4
    per_epoch: bool = False
    plateau: Plateau | None = None
    validation: Score | None = None
    keep_best: bool = True

    def __post_init__(self) -> None:
        check_settings(self.batch_size, self.epochs, self.tol)
        if not 0.0 <= self.average <= 1.0:
            raise InputError(f"average is {self.average:g}; a share from 0 to 1 is needed")

    @property
    def name(self) -> str:
        """Name for refusals."""
        return "sgd"

    @property
    def needs(self) -> frozenset[str]:
        """Rows and their gradients; without a schedule also the bound that the rate comes from."""
        own = self.schedule is not None or self.direction.own_rate is not None
        return frozenset({GRADIENT, ROWS} if own else {GRADIENT, ROWS, SMOOTH, CURVATURE_BOUND})

    def minimise(self, problem: Problem, start: Point | None = None, callback: Callback | None = None) -> Solution:
        """Minimise; Ctrl-C returns the best parameters so far."""
        rows = rows_of(self, problem, "loss cross_entropy with solver sgd, or a schedule of your own")
        total = self.epochs * steps_in_epoch(rows.n_rows, self.batch_size)
        plan = Plan(
            self.direction,
            self.schedule or self._own_schedule(rows, total),
            self.batch_size,
            self.epochs,
            self.seed,
            self.tol,
            average_from=int((1.0 - self.average) * total) if self.average > 0.0 else None,
            per_epoch=self.per_epoch,
            plateau=self.plateau,
            validation=self.validation,
            keep_best=self.keep_best,
        )
        return run(rows, plan, lambda point: rows.batch, start, callback)

    def _own_schedule(self, problem: RowProblem, total: int) -> Schedule:
        rate = self.direction.own_rate
        if rate is None:
            rate = 1.0 / batch_curvature(problem, self.batch_size, self.direction.gain)
        return cosine(rate, max(1, self.epochs if self.per_epoch else total))
