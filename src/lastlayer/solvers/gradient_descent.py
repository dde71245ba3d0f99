"""Gradient descent, the reference."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from lastlayer.solvers.base import (
    CURVATURE_BOUND,
    GRADIENT,
    SMOOTH,
    Callback,
    LineValue,
    Point,
    Problem,
    Recorder,
    Solution,
    Solver,
    StopReason,
    refuse_impossible,
)
from lastlayer.solvers.steps import Scheduled, StepRule, constant


@final
@dataclass(frozen=True, eq=False)
class GradientDescent(Solver):
    """``x ← x - t ∇f(x)`` with the step t of a rule (Cauchy 1847).

    With a constant step below 2/L, L the bound on the curvature, the value falls at every step; above it the
    iteration may diverge, which is noticed and named. On a loss without a continuous gradient this is the
    subgradient method (Shor 1962): give a decaying schedule; the best point seen is returned.

    Parameters
    ----------
    step : StepRule or None
        Constant 1/L when None.
    tol : float
        Relative gradient norm.
    max_iter : int
        Steps.
    """

    step: StepRule | None = None
    tol: float = 1e-4
    max_iter: int = 1000

    @property
    def name(self) -> str:
        """Name for refusals."""
        return "gradient_descent"

    @property
    def needs(self) -> frozenset[str]:
        """A gradient; with the constant step 1/L also the bound that L is."""
        return frozenset({GRADIENT} if self.step is not None else {GRADIENT, SMOOTH, CURVATURE_BOUND})

    def minimise(self, problem: Problem, start: Point | None = None, callback: Callback | None = None) -> Solution:
        """Minimise; Ctrl-C returns the best parameters so far."""
        refuse_impossible(self, problem, "loss cross_entropy with solver gradient_descent")
        rule = self.step or Scheduled(constant(1.0 / problem.curvature_bound()))
        recorder = Recorder(problem, callback)
        try:
            return self._run(problem, rule, start, recorder)
        except KeyboardInterrupt:
            return recorder.solution(StopReason.INTERRUPTED)

    def _run(self, problem: Problem, rule: StepRule, start: Point | None, recorder: Recorder) -> Solution:
        point = start or problem.at(problem.start())
        gradient = point.gradient
        norm = problem.norm(gradient)
        stop = recorder.add(0, point, norm, 0.0)
        rises = 0
        for iteration in range(1, self.max_iter + 1):
            if norm <= self.tol:
                break
            if stop:
                return recorder.solution(StopReason.CALLBACK)
            line = point.line(-gradient)
            begin = LineValue(point.value, -float(np.vdot(gradient, gradient)), math.nan)
            step = rule.length(line, begin, iteration - 1, problem.rounding)
            if step is None:
                return recorder.solution(StopReason.PRECISION)
            before = point.value
            point = line.move(step)
            gradient = point.gradient
            rises = rises + 1 if not point.value <= before else 0
            if not math.isfinite(point.value) or (rises >= 5 and _blew_up(recorder, point.value)):
                return recorder.solution(StopReason.DIVERGED, _diverged(problem, step))
            norm = problem.norm(gradient)
            stop = recorder.add(iteration, point, norm, step)
        return recorder.solution(StopReason.CONVERGED if norm <= self.tol else StopReason.MAX_ITER)


def _blew_up(recorder: Recorder, value: float) -> bool:
    """Five rises in a row, and above twice where it began: not the wobble of a subgradient method."""
    return value > 2.0 * abs(recorder.history[0].value)


def _diverged(problem: Problem, step: float) -> str:
    """What went wrong, with the limit where there is one."""
    if CURVATURE_BOUND not in problem.provides:
        return f"Learning rate {step:.3g} is too large; the last good parameters are kept"
    limit = 2.0 / problem.curvature_bound()
    above = "is above" if step > limit else "is close to"
    return f"Learning rate {step:.3g} {above} 2/L = {limit:.3g}; the last good parameters are kept"
