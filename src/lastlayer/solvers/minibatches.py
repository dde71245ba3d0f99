"""What solvers on random minibatches share: the walk over shuffled rows, its records, and the guard against divergence.

Every epoch takes each row once, in an order that belongs to (seed, epoch). After an epoch the whole objective is
evaluated, value and gradient: one pass, counted like any other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import final

import numpy as np

from lastlayer._arrays import Float64, InputError, IntArray
from lastlayer.solvers.base import (
    CURVATURE_BOUND,
    Callback,
    Point,
    Problem,
    Recorder,
    RowProblem,
    Solution,
    Solver,
    StopReason,
    refuse_impossible,
)
from lastlayer.solvers.directions import Direction, Memory
from lastlayer.solvers.gradient_descent import too_large
from lastlayer.solvers.schedules import Plateau, PlateauState, Schedule
from lastlayer.solvers.stopping import Score

Estimate = Callable[[Float64, IntArray], tuple[float, Float64]]
"""Parameters and row numbers to a value and an unbiased gradient."""

SAMPLE = 512
"""Rows that tell how the largest row compares with all of them."""


def row_curvature(problem: RowProblem) -> float:
    """The curvature of the steepest single row, ``L maxᵢ sᵢ‖xᵢ‖² / σ``, from an even sample of rows.

    σ is the largest eigenvalue of the sample's second moments: for scores that are linear in the parameters the
    ratio is that of the bounds of one row and of all.
    """
    rows = np.unique(np.linspace(0, problem.n_rows - 1, SAMPLE).astype(np.intp))
    X, _, weights = problem.take(rows)
    X = X * np.sqrt(weights)[:, None]
    largest_row = float(np.square(X).sum(axis=1).max())
    gram = X @ X.T if len(X) <= X.shape[1] else X.T @ X
    moment = float(np.linalg.eigvalsh(gram / len(X))[-1])
    bound = problem.curvature_bound()
    return bound * max(1.0, largest_row / moment) if moment > 0.0 else bound


def batch_curvature(problem: RowProblem, batch_size: int, gain: float = 1.0) -> float:
    """Expected smoothness of minibatch gradients; its inverse is a rate at which they go downhill.

    ``n (b - 1) / (b (n - 1)) · L + gain · (n - b) / (b (n - 1)) · L_row`` for batches of b of n rows without
    replacement (Gower et al. 2019, proposition 3.8): L for all rows at once, the steepest row's for single ones.
    Momentum multiplies the second part, which is noise, by its gain, and not the first.

    Parameters
    ----------
    problem : RowProblem
        One with a bound on its curvature.
    batch_size : int
    gain : float
        `Direction.gain`.
    """
    n, b = problem.n_rows, min(batch_size, problem.n_rows)
    if b == n:
        return problem.curvature_bound()
    together = n * (b - 1) / (b * (n - 1)) * problem.curvature_bound()
    return together + gain * (n - b) / (b * (n - 1)) * row_curvature(problem)


@final
@dataclass(frozen=True, eq=False)
class Plan:
    """The settings of a run on minibatches.

    Attributes
    ----------
    direction : Direction
    schedule : Schedule
        Of the count of steps, or of epochs where `per_epoch` says so.
    batch_size, epochs, seed, tol
        As in `SGD`.
    walks : int
        Times all rows are walked through in an epoch, that is, between two records.
    average_from : int or None
        Step from which on parameters are averaged.
    per_epoch : bool
    plateau, validation
        As in `SGD`.
    keep_best : bool
    """

    direction: Direction
    schedule: Schedule
    batch_size: int
    epochs: int
    seed: int
    tol: float
    walks: int = 1
    average_from: int | None = None
    per_epoch: bool = False
    plateau: Plateau | None = None
    validation: Score | None = None
    keep_best: bool = True


def steps_in_epoch(n_rows: int, batch_size: int) -> int:
    """``⌈n / b⌉``: the last batch takes what is left.

    >>> steps_in_epoch(10, 4)
    3
    """
    return -(-n_rows // batch_size)


def check_settings(batch_size: int, epochs: int, tol: float) -> None:
    """Refuse batches without rows, negative counts and tolerances."""
    if isinstance(batch_size, bool) or batch_size != batch_size // 1 or batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; a whole number of at least 1 is needed")
    if isinstance(epochs, bool) or epochs != epochs // 1 or epochs < 0:
        raise InputError(f"epochs is {epochs}; a whole number of at least 0 is needed")
    if not tol >= 0.0:
        raise InputError(f"tol is {tol:g}; a number of at least 0 is needed")


def rows_of(solver: Solver, problem: Problem, pair_that_works: str) -> RowProblem:
    """The problem as a sum over rows; refused, before any work, when it lacks what the solver needs."""
    refuse_impossible(solver, problem, pair_that_works)
    if not isinstance(problem, RowProblem):
        raise InputError(f"{problem.name} has no rows to look at", "Give an objective over rows")
    return problem


def run(
    problem: RowProblem,
    plan: Plan,
    estimator: Callable[[Point], Estimate],
    start: Point | None,
    callback: Callback | None,
) -> Solution:
    """Walk over the rows, epoch by epoch; Ctrl-C returns the best parameters so far.

    Parameters
    ----------
    problem : RowProblem
    plan : Plan
    estimator : callable
        The point at the beginning of an epoch to the estimate used during it.
    start, callback
        As in `Solver.minimise`.
    """
    recorder = Recorder(problem, callback)
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # divergence is noticed below, by name
            return _run(problem, plan, estimator, start, recorder)
    except KeyboardInterrupt:
        return recorder.solution(StopReason.INTERRUPTED)


def _run(
    problem: RowProblem, plan: Plan, estimator: Callable[[Point], Estimate], start: Point | None, recorder: Recorder
) -> Solution:
    point = start or problem.at(problem.start())
    norm = problem.norm(point.gradient)
    stop = recorder.add(0, point, norm, 0.0)
    guard = _Guard(problem, point.value, start is not None, 2.0 * plan.direction.gain**2)
    walk = _Walk(problem, plan, point.params.copy())
    for epoch in range(1, plan.epochs + 1):
        if norm <= plan.tol:
            break
        if stop:
            return recorder.solution(StopReason.CALLBACK)
        walk.look(point)
        if not walk.epoch(epoch, estimator(point), guard):
            return recorder.solution(StopReason.DIVERGED, _diverged(problem, plan, walk.largest))
        point = problem.at(walk.answer())
        if guard.blew_up(point.value):
            return recorder.solution(StopReason.DIVERGED, _diverged(problem, plan, walk.largest))
        norm = problem.norm(point.gradient)
        if not plan.keep_best:
            recorder.forget_best()
        stop = recorder.add(epoch, point, norm, walk.rate)
    if norm <= plan.tol:
        return recorder.solution(StopReason.CONVERGED)
    if guard.stayed_high:
        return recorder.solution(StopReason.DIVERGED, _diverged(problem, plan, walk.largest))
    return recorder.solution(StopReason.MAX_ITER)


@final
@dataclass
class _Walk:
    """Where the walk is: parameters, the direction's memory, and the running mean."""

    problem: RowProblem
    plan: Plan
    params: Float64
    memory: Memory = field(default_factory=Memory)
    plateau: PlateauState = field(default_factory=PlateauState)
    steps: int = 0
    rate: float = 0.0
    largest: float = 0.0
    mean: Float64 | None = None
    averaged: int = 0

    def epoch(self, epoch: int, estimate: Estimate, guard: _Guard) -> bool:
        """All rows once, or as often as planned; False when the values say that this leads nowhere."""
        size = self.plan.batch_size
        for walk in range((epoch - 1) * self.plan.walks + 1, epoch * self.plan.walks + 1):
            order = np.random.default_rng((self.plan.seed, walk)).permutation(self.problem.n_rows)
            for first in range(0, len(order), size):
                # In the order in which they lie in memory; which rows are in the batch is what chance decides.
                value, gradient = estimate(self.params, np.sort(order[first : first + size]))
                if not guard.is_sane(value):
                    return False
                self._step(gradient, epoch)
        return bool(np.isfinite(self.params).all())

    def _step(self, gradient: Float64, epoch: int) -> None:
        plan = self.plan
        rate = plan.schedule(epoch - 1 if plan.per_epoch else self.steps)
        self.rate = rate if plan.plateau is None else plan.plateau.rate(self.plateau, rate)
        self.largest = max(self.largest, self.rate)
        direction, self.memory = plan.direction.follow(gradient, self.memory)
        self.params = self.params + self.rate * direction
        if plan.average_from is not None and self.steps >= plan.average_from:
            self.averaged += 1
            self.mean = self.params if self.mean is None else self.mean + (self.params - self.mean) / self.averaged
        self.steps += 1

    def answer(self) -> Float64:
        """The parameters to judge: the mean once it has begun."""
        return (self.params if self.mean is None else self.mean).copy()

    def look(self, point: Point) -> None:
        """Show the plateau rule a loss."""
        plan = self.plan
        if plan.plateau is not None:
            loss = point.value if plan.validation is None else plan.validation(point.params)
            self.plateau = plan.plateau.look(self.plateau, loss)


@final
@dataclass
class _Guard:
    """Notices divergence: values that are not finite, that explode, or that keep rising above where all began.

    High values alone are not enough to stop: a falling schedule may begin with steps that are far too long, as that
    of Pegasos does, and come down from there.
    """

    problem: Problem
    begin: float
    warm: bool
    far: float
    """How many times the beginning is far, for a direction that may go up at first."""
    last: float = math.inf
    high: int = 0
    """Epochs in a row above twice the beginning,"""
    rises: int = 0
    """and how many of the last of them were rises."""

    def is_sane(self, value: float) -> bool:
        """For a batch, which may hold a rare and badly wrong row: far beyond anything but divergence."""
        return math.isfinite(value) and value <= 1e12 * (abs(self.begin) or 1.0)

    def blew_up(self, value: float) -> bool:
        """For the whole objective, once an epoch."""
        if not self.is_sane(value):
            return True
        if self.warm and value > 2.0 * abs(self.begin):
            # A good start says little about what is bad: compare with the problem's own from here on.
            self.begin, self.warm = max(abs(self.begin), abs(self.problem.at(self.problem.start()).value)), False
        is_high = value > 2.0 * abs(self.begin)
        self.high = self.high + 1 if is_high else 0
        self.rises = self.rises + 1 if is_high and value >= self.last else 0
        self.last = value
        return self.rises >= 3 and value > self.far * abs(self.begin)

    @property
    def stayed_high(self) -> bool:
        """Whether the last three epochs were above twice the beginning."""
        return self.high >= 3


def _diverged(problem: RowProblem, plan: Plan, rate: float) -> str:
    """What went wrong; for batches below the limit of all rows together, with what the batches' noise allows."""
    limit = plan.direction.limit
    if limit is None or CURVATURE_BOUND not in problem.provides or rate > limit.factor / problem.curvature_bound():
        return too_large(problem, plan.direction, rate)
    allowed = 1.0 / batch_curvature(problem, plan.batch_size, plan.direction.gain)
    everything = limit.factor / problem.curvature_bound()
    return (
        f"Learning rate {rate:.3g} is too large for batches of {plan.batch_size}: {limit.text} = {everything:.3g} is "
        f"for all rows together, about {allowed:.3g} suits these; the last good parameters are kept"
    )
