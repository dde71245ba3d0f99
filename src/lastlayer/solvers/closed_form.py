"""The squared loss in closed form: the normal equations, refined until the gradient vanishes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from lastlayer.solvers.base import (
    GRADIENT,
    QUADRATIC,
    Callback,
    Point,
    Problem,
    Recorder,
    Solution,
    Solver,
    StopReason,
    refuse_impossible,
)
from lastlayer.solvers.preconditioner import Preconditioner


@final
@dataclass(frozen=True, eq=False)
class ClosedForm(Solver):
    """Newton's step on a quadratic, ``x - H⁻¹ ∇f(x)``, then conjugate gradients on what rounding left over.

    With the exact inverse Hessian the first step is the solution; each further step removes the error of the last
    one's products (iterative refinement, Wilkinson 1963, as preconditioned conjugate gradients, Hestenes & Stiefel
    1952). With λ = 0 and dependent columns a `PseudoInverse` gives the solution of minimum norm.

    Parameters
    ----------
    inverse : Preconditioner
        The inverse of the Hessian ``S + diag(λ)``, as exact as the second moments are.
    tol : float
        Relative gradient norm at which refining stops.
    max_iter : int
        Most steps.
    """

    inverse: Preconditioner
    tol: float = 1e-6
    max_iter: int = 100

    @property
    def name(self) -> str:
        """Name for refusals."""
        return "closed_form"

    @property
    def needs(self) -> frozenset[str]:
        """A quadratic form."""
        return frozenset({GRADIENT, QUADRATIC})

    def minimise(self, problem: Problem, start: Point | None = None, callback: Callback | None = None) -> Solution:
        """Solve; Ctrl-C returns the best parameters so far."""
        refuse_impossible(self, problem, "loss squared with solver closed_form")
        recorder = Recorder(problem, callback)
        try:
            return self._run(problem, start, recorder)
        except KeyboardInterrupt:
            return recorder.solution(StopReason.INTERRUPTED)

    def _run(self, problem: Problem, start: Point | None, recorder: Recorder) -> Solution:
        point = start or problem.at(problem.start())
        gradient = point.gradient
        norm = problem.norm(gradient)
        stop = recorder.add(0, point, norm, 0.0)
        direction, last = np.zeros_like(gradient), np.inf
        stalled = 0
        for iteration in range(1, self.max_iter + 1):
            if stop:
                return recorder.solution(StopReason.CALLBACK)
            if norm <= self.tol:
                return recorder.solution(StopReason.EXACT)
            towards = self.inverse.apply(gradient)
            size = float(np.vdot(gradient, towards))
            direction = (size / last) * direction - towards
            last = size
            line = point.line(direction)
            here = line.evaluate(0.0)
            if not (here.slope < 0.0 < here.curvature):
                return recorder.solution(StopReason.PRECISION)
            step = -here.slope / here.curvature
            point = line.move(step)
            gradient = point.gradient
            before, norm = norm, problem.norm(gradient)
            stop = recorder.add(iteration, point, norm, step)
            stalled = stalled + 1 if norm > 0.7 * before else 0
            if stalled >= 5 and norm > self.tol:
                return recorder.solution(StopReason.PRECISION)
        return recorder.solution(StopReason.EXACT if norm <= self.tol else StopReason.MAX_ITER)
