"""Limited-memory BFGS with a preconditioner as its first inverse Hessian."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import final

import numpy as np

from lastlayer._arrays import Float64
from lastlayer.solvers.base import (
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
from lastlayer.solvers.preconditioner import Preconditioner
from lastlayer.solvers.steps import search

STALLED = 12
"""Iterations without progress beyond rounding after which the products' precision is taken to be exhausted."""


@final
@dataclass(frozen=True, eq=False)
class LBFGS(Solver):
    """L-BFGS (Nocedal 1980; Liu & Nocedal 1989) started from ``γ P⁻¹`` instead of ``γ I``.

    ``γ = sᵀy / yᵀP⁻¹y`` of the last step, which is the usual scaling when P is the identity. The step comes from a
    line search to a flat enough slope, which costs no product where the problem keeps its scores (`Line`).

    Parameters
    ----------
    preconditioner : Preconditioner or None
        P⁻¹; the identity when None.
    tol : float
        Converged when the relative gradient norm is at most this, and
    gap : float
        the decrease that the model of the function still promises, ``½ gᵀ H g``, is at most this share of the value.
        The second test does not depend on the scale of the columns, and a warm start cannot deceive it. A promise
        far below the rounding of the value always counts as converged.
    max_iter : int
        Iterations, each of one pass.
    memory : int
        Pairs kept.
    flatness : float
        Share of the first slope that the line search may leave. Nearly exact steps save one iteration in ten, but
        a step of 1 costs half: its gradient is computed along with its value, while the rows are in the cache.
    """

    preconditioner: Preconditioner | None = None
    tol: float = 1e-4
    gap: float = math.inf
    max_iter: int = 1000
    memory: int = 10
    flatness: float = 0.9

    @property
    def name(self) -> str:
        """Name for refusals."""
        return "lbfgs"

    @property
    def needs(self) -> frozenset[str]:
        """A continuous gradient."""
        return frozenset({GRADIENT, SMOOTH})

    def minimise(self, problem: Problem, start: Point | None = None, callback: Callback | None = None) -> Solution:
        """Minimise; Ctrl-C returns the best parameters so far."""
        refuse_impossible(self, problem, "loss squared_hinge with solver lbfgs")
        recorder = Recorder(problem, callback)
        try:
            return self._run(problem, start, recorder)
        except KeyboardInterrupt:
            return recorder.solution(StopReason.INTERRUPTED)

    def _run(self, problem: Problem, start: Point | None, recorder: Recorder) -> Solution:
        point = start or problem.at(problem.start())
        gradient = point.gradient
        applied = self._apply(gradient)
        pairs: Pairs = deque(maxlen=self.memory)
        norm = problem.norm(gradient)
        stop = recorder.add(0, point, norm, 0.0)
        scale = 1e-6 * abs(point.value)
        stalled = 0
        iteration = 0
        while not stop:
            direction = -inverse_hessian_times(gradient, applied, pairs)
            slope = float(np.vdot(gradient, direction))
            promised, size = -0.5 * slope, max(abs(point.value), scale)
            if (norm <= self.tol and promised <= self.gap * size) or promised <= (10 * problem.rounding) ** 2 * size:
                return recorder.solution(StopReason.CONVERGED)
            if iteration >= self.max_iter:
                return recorder.solution(StopReason.MAX_ITER)
            line = point.line(direction)
            begin = LineValue(point.value, slope, math.nan)
            first = 1.0 if pairs or self.preconditioner else min(1.0, 1.0 / float(np.linalg.norm(gradient)))
            step = search(line, begin, first, self.flatness, problem.rounding) if slope < 0 else None
            if step is None:
                if not pairs:
                    return recorder.solution(StopReason.PRECISION)
                pairs.clear()  # the pairs' curvature was rounding noise: once more from the preconditioner alone
                continue
            point = line.move(step)
            new_gradient = point.gradient
            new_applied = self._apply(new_gradient)
            remember(pairs, step * direction, new_gradient - gradient, new_applied - applied)
            gradient, applied = new_gradient, new_applied
            norm = problem.norm(gradient)
            iteration += 1
            stalled = 0 if recorder.improves(point.value, norm) else stalled + 1
            stop = recorder.add(iteration, point, norm, step)
            if stalled >= STALLED:
                return recorder.solution(StopReason.PRECISION)
        return recorder.solution(StopReason.CALLBACK)

    def _apply(self, gradient: Float64) -> Float64:
        return gradient if self.preconditioner is None else self.preconditioner.apply(gradient)


def inverse_hessian_times(gradient: Float64, applied: Float64, pairs: Pairs) -> Float64:
    """The two-loop recursion with ``γ P⁻¹`` in its middle.

    P⁻¹ is linear: it is applied to gradients only (`applied` is P⁻¹ gradient), once each.
    """
    _, alphas = first_loop(gradient, pairs)
    r = applied.copy()
    for pair, alpha in zip(pairs, alphas):
        r -= alpha * pair.applied
    if pairs:
        r *= pairs[-1].gamma
    return second_loop(r, alphas, pairs)


def first_loop(gradient: Float64, pairs: Pairs) -> tuple[Float64, list[float]]:
    """What is left of the gradient when the pairs have taken their part, and the parts, oldest pair first."""
    q = gradient.copy()
    alphas = []
    for pair in reversed(pairs):
        alpha = float(np.vdot(pair.s, q)) / pair.product
        alphas.append(alpha)
        q -= alpha * pair.y
    return q, alphas[::-1]


def second_loop(r: Float64, alphas: list[float], pairs: Pairs) -> Float64:
    """The inverse Hessian times the gradient, from the initial inverse Hessian times what was left, overwritten."""
    for pair, alpha in zip(pairs, alphas):
        r += (alpha - float(np.vdot(pair.y, r)) / pair.product) * pair.s
    return r


def remember(pairs: Pairs, s: Float64, y: Float64, applied: Float64) -> None:
    """Keep a pair whose curvature is positive."""
    product = float(np.vdot(s, y))
    preconditioned = float(np.vdot(y, applied))
    if product > 0.0 and preconditioned > 0.0:
        pairs.append(Pair(s, y, applied, product, product / preconditioned))


@final
@dataclass(frozen=True, eq=False)
class Pair:
    """Step s, change y of the gradient, P⁻¹ y, s·y, and the scale γ."""

    s: Float64
    y: Float64
    applied: Float64
    product: float
    gamma: float


Pairs = deque[Pair]
