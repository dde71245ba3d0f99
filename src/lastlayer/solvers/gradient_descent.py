"""Gradient descent with all rows in every step: any direction, any step."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import final

import numpy as np

from lastlayer._arrays import Float64, InputError
from lastlayer.solvers.base import (
    CURVATURE_BOUND,
    GRADIENT,
    SMOOTH,
    Callback,
    Line,
    LineValue,
    Point,
    Problem,
    Recorder,
    Solution,
    Solver,
    StopReason,
    refuse_impossible,
)
from lastlayer.solvers.directions import Direction, Memory, Plain
from lastlayer.solvers.schedules import Plateau, PlateauState, constant
from lastlayer.solvers.steps import Scheduled, StepRule
from lastlayer.solvers.stopping import Score


@final
@dataclass(frozen=True, eq=False)
class GradientDescent(Solver):
    """``x ← x + t d`` with the direction d made of gradients (``-∇f(x)``, Cauchy 1847) and the step t of a rule.

    With d the negative gradient and a constant step below 2/L, L the bound on the curvature, the value falls at every
    step; above it the iteration may diverge, which is noticed and named. On a loss without a continuous gradient this
    is the subgradient method (Shor 1962): give a decaying schedule; the best point seen is returned.

    Line searches ask for a direction in which the value falls. Where momentum leads uphill, or no step along it lowers
    the value, its memory is cleared and the gradient followed (O'Donoghue & Candès 2015).

    Parameters
    ----------
    step : StepRule or None
        Constant 1/L when None; 0.001 with Adam.
    tol : float
        Relative gradient norm.
    max_iter : int
        Steps.
    direction : Direction
        `Plain`, `Momentum`, `Nesterov` or `Adam`.
    plateau : Plateau or None
        Multiplies the step when a loss has stopped falling, looked at after every step. Goes with schedules only.
    validation : callable or None
        params -> the loss that `plateau` looks at; the training objective when None.
    """

    step: StepRule | None = None
    tol: float = 1e-4
    max_iter: int = 1000
    direction: Direction = field(default_factory=Plain)
    plateau: Plateau | None = None
    validation: Score | None = None

    def __post_init__(self) -> None:
        if self.plateau is not None and self.step is not None and self.step.needs_descent:
            raise InputError("A plateau rule multiplies schedules; a line search finds its own step", "Leave one out")

    @property
    def name(self) -> str:
        """Name for refusals."""
        return "gradient_descent"

    @property
    def needs(self) -> frozenset[str]:
        """A gradient; with the constant step 1/L also the bound that L is."""
        own = self.step is not None or self.direction.own_rate is not None
        return frozenset({GRADIENT} if own else {GRADIENT, SMOOTH, CURVATURE_BOUND})

    def minimise(self, problem: Problem, start: Point | None = None, callback: Callback | None = None) -> Solution:
        """Minimise; Ctrl-C returns the best parameters so far."""
        refuse_impossible(self, problem, "loss cross_entropy with solver gradient_descent")
        rule = self.step or Scheduled(constant(self.direction.own_rate or 1.0 / problem.curvature_bound()))
        recorder = Recorder(problem, callback)
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # divergence is noticed below, by name
                return self._run(problem, rule, start, recorder)
        except KeyboardInterrupt:
            return recorder.solution(StopReason.INTERRUPTED)

    def _run(self, problem: Problem, rule: StepRule, start: Point | None, recorder: Recorder) -> Solution:
        point = start or problem.at(problem.start())
        gradient = point.gradient
        norm = problem.norm(gradient)
        stop = recorder.add(0, point, norm, 0.0)
        memory, plateau = Memory(), PlateauState()
        rises = 0
        for iteration in range(1, self.max_iter + 1):
            if norm <= self.tol:
                break
            if stop:
                return recorder.solution(StopReason.CALLBACK)
            found = self._step(point, gradient, memory, rule, iteration - 1, problem.rounding)
            if found is None:
                return recorder.solution(StopReason.PRECISION)
            line, step, memory = found
            plateau = self._look(plateau, point)
            step = step if self.plateau is None else self.plateau.rate(plateau, step)
            before = point.value
            point = line.move(step)
            gradient = point.gradient
            rises = rises + 1 if not point.value <= before else 0
            if not math.isfinite(point.value) or (rises >= 5 and self._blew_up(recorder, point.value)):
                return recorder.solution(StopReason.DIVERGED, too_large(problem, self.direction, step))
            norm = problem.norm(gradient)
            stop = recorder.add(iteration, point, norm, step)
        if norm <= self.tol:
            return recorder.solution(StopReason.CONVERGED)
        if _ended_high(problem, recorder, warm=start is not None):
            largest = max(record.step for record in recorder.history)
            return recorder.solution(StopReason.DIVERGED, too_large(problem, self.direction, largest))
        return recorder.solution(StopReason.MAX_ITER)

    def _step(
        self, point: Point, gradient: Float64, memory: Memory, rule: StepRule, count: int, rounding: float
    ) -> tuple[Line, float, Memory] | None:
        """The line to follow, how far, and the memory after it; None when not even the gradient's lowers the value."""
        for remembered in (memory, Memory()) if memory.gradients else (memory,):
            direction, after = self.direction.follow(gradient, remembered)
            slope = float(np.vdot(gradient, direction))
            if rule.needs_descent and not slope < 0.0:
                continue
            line = point.line(direction)
            step = rule.length(line, LineValue(point.value, slope, math.nan), count, rounding)
            if step is not None:
                return line, step, after
        return None

    def _look(self, state: PlateauState, point: Point) -> PlateauState:
        if self.plateau is None:
            return state
        return self.plateau.look(state, point.value if self.validation is None else self.validation(point.params))

    def _blew_up(self, recorder: Recorder, value: float) -> bool:
        """Five rises in a row, and far above where it began: not the wobble of a subgradient method.

        Momentum may first carry the value up by about the square of its gain, and come down all the same.
        """
        return value > 2.0 * self.direction.gain**2 * abs(recorder.history[0].value)


def _ended_high(problem: Problem, recorder: Recorder, warm: bool) -> bool:
    """Whether the last five values are above twice the first: losses of bounded slope hover instead of exploding."""
    last = recorder.history[-5:]
    lowest, begin = min(record.value for record in last), abs(recorder.history[0].value)
    if len(last) < 5 or lowest <= 2.0 * begin:
        return False
    # A good start says little about what is bad: compare with the problem's own.
    return not warm or lowest > 2.0 * abs(problem.at(problem.start()).value)


def too_large(problem: Problem, direction: Direction, rate: float) -> str:
    """What a divergence came from, with the limit where there is one.

    Parameters
    ----------
    problem : Problem
    direction : Direction
    rate : float
        The step to blame.
    """
    kept = "the last good parameters are kept"
    if CURVATURE_BOUND not in problem.provides or direction.limit is None:
        return f"Learning rate {rate:.3g} is too large; {kept}"
    limit = direction.limit.factor / problem.curvature_bound()
    above = "is above" if rate > limit else "is close to"
    return f"Learning rate {rate:.3g} {above} {direction.limit.text} = {limit:.3g}; {kept}"
