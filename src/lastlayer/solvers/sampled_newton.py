"""L-BFGS that changes to Newton steps on samples of the rows where that is faster."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import final

import numpy as np

from lastlayer._arrays import Float64, InputError
from lastlayer.solvers.base import (
    GRADIENT,
    SAMPLES,
    SMOOTH,
    Callback,
    CurvedPoint,
    LineValue,
    Point,
    Problem,
    Recorder,
    RowProblem,
    SampledPoint,
    Solution,
    Solver,
    StopReason,
    refuse_impossible,
)
from lastlayer.solvers.lbfgs import STALLED, Pairs, first_loop, inverse_hessian_times, remember, second_loop
from lastlayer.solvers.preconditioner import Preconditioner
from lastlayer.solvers.steps import search

ROWS_PER_COLUMN = 4
"""Fewer rows than this describe their own noise."""
SHORT = 0.5
"""Steps shorter than this say that the sample sees less than half of the curvature along them, where Newton's own step
is 1: it describes its rows rather than the function."""

LARGEST_SHARE = 0.5
"""Samples larger than this cost as much as they save."""


@final
@dataclass(frozen=True, eq=False)
class SampledNewton(Solver):
    """L-BFGS whose initial inverse Hessian becomes that of a sample of the rows when the preconditioner's is too rough.

    It begins as `LBFGS` with ``γ P⁻¹``. Where the decrease that is still promised falls slowly, the middle of the
    two-loop recursion is replaced by ``H_s⁻¹``: H_s the Hessian on rows drawn by how much they bend the function
    (`SampledPoint.sample`), applied by conjugate gradients preconditioned with P⁻¹ (Byrd, Chin, Neveitt & Nocedal
    2011; Xu, Roosta-Khorasani & Mahoney 2020). The pairs of L-BFGS repair what the sample gets wrong. After two short
    steps in a row L-BFGS takes over for a while, and samples come back three times as large.

    Parameters
    ----------
    preconditioner : Preconditioner
        P⁻¹.
    tol, gap, max_iter, memory, flatness
        As for `LBFGS`; an iteration is one pass and, with a sample, its products besides.
    share : float
        Rows in a sample, as a share of all.
    slow : float
        Factor an iteration by which the promise must fall for L-BFGS to go on as it is.
    patience : int
        Iterations over which that is judged.
    forcing : float
        Relative error at which conjugate gradients stop.
    max_inner : int
        Most of their iterations.
    seed : int
        Of the samples; that of iteration i is drawn by (seed, i).
    refine : callable or None
        Makes a better P⁻¹ of the point where samples first fail, or None; with it L-BFGS goes on to the end.
    """

    preconditioner: Preconditioner
    tol: float = 1e-4
    gap: float = math.inf
    max_iter: int = 1000
    memory: int = 10
    flatness: float = 0.9
    share: float = 0.1
    slow: float = 0.7
    patience: int = 2
    forcing: float = 0.3
    max_inner: int = 30
    seed: int = 0
    refine: Callable[[Point], Preconditioner | None] | None = None

    @property
    def name(self) -> str:
        """Name for refusals."""
        return "sampled_newton"

    @property
    def needs(self) -> frozenset[str]:
        """A continuous gradient, and second derivatives of samples."""
        return frozenset({GRADIENT, SMOOTH, SAMPLES})

    def minimise(self, problem: Problem, start: Point | None = None, callback: Callback | None = None) -> Solution:
        """Minimise; Ctrl-C returns the best parameters so far."""
        refuse_impossible(self, problem, "loss cross_entropy with solver sampled_newton")
        if not isinstance(problem, RowProblem):
            raise InputError(f"{problem.name} has no rows to draw from", "Give an objective over rows")
        recorder = Recorder(problem, callback)
        try:
            return self._run(problem, start, recorder)
        except KeyboardInterrupt:
            return recorder.solution(StopReason.INTERRUPTED)

    def _run(self, problem: RowProblem, start: Point | None, recorder: Recorder) -> Solution:
        point = start or problem.at(problem.start())
        gradient = point.gradient
        preconditioner = self.preconditioner
        applied = preconditioner.apply(gradient)
        pairs: Pairs = deque(maxlen=self.memory)
        norm = problem.norm(gradient)
        stop = recorder.add(0, point, norm, 0.0)
        scale = 1e-6 * abs(point.value)
        least = ROWS_PER_COLUMN * len(gradient) / problem.n_rows
        course = _Course(self.slow, self.patience, max(self.share, least))
        stalled = iteration = 0
        while not stop:
            if course.sampling:
                n_rows = math.ceil(course.share * problem.n_rows)
                direction = -self._sampled(point, gradient, pairs, preconditioner, iteration, n_rows)
            else:
                direction = -inverse_hessian_times(gradient, applied, pairs)
            slope = float(np.vdot(gradient, direction))
            promised, size = -0.5 * slope, max(abs(point.value), scale)
            if (norm <= self.tol and promised <= self.gap * size) or promised <= (10 * problem.rounding) ** 2 * size:
                return recorder.solution(StopReason.CONVERGED)
            if iteration >= self.max_iter:
                return recorder.solution(StopReason.MAX_ITER)
            if not course.sampling and course.too_slow(promised):
                pairs.clear()
                continue
            begin = LineValue(point.value, slope, math.nan)
            line = point.line(direction)
            step = search(line, begin, 1.0, self.flatness, problem.rounding) if slope < 0 else None
            if step is None:
                if not pairs and not course.sampling:
                    return recorder.solution(StopReason.PRECISION)
                course.go_back()
                pairs.clear()
                continue
            point = line.move(step)
            new_gradient = point.gradient
            new_applied = preconditioner.apply(new_gradient)
            remember(pairs, step * direction, new_gradient - gradient, new_applied - applied)
            gradient, applied = new_gradient, new_applied
            norm = problem.norm(gradient)
            iteration += 1
            stalled = 0 if recorder.improves(point.value, norm) else stalled + 1
            stop = recorder.add(iteration, point, norm, step)
            if course.took(step) and self.refine is not None:
                better = self.refine(point)
                if better is not None:
                    preconditioner, applied = better, better.apply(gradient)
                    pairs.clear()
                    course.settle()
            if stalled >= STALLED:
                return recorder.solution(StopReason.PRECISION)
        return recorder.solution(StopReason.CALLBACK)

    def _sampled(
        self, point: Point, gradient: Float64, pairs: Pairs, rough: Preconditioner, iteration: int, n_rows: int
    ) -> Float64:
        """The inverse Hessian times the gradient, the sample's in the middle."""
        assert isinstance(point, SampledPoint)
        sample = point.sample(n_rows, (self.seed, iteration))
        q, alphas = first_loop(gradient, pairs)
        return second_loop(self._solve(sample, q, rough), alphas, pairs)

    def _solve(self, sample: CurvedPoint, right: Float64, rough: Preconditioner) -> Float64:
        """``H_s⁻¹ right`` by preconditioned conjugate gradients (Hestenes & Stiefel 1952)."""
        x = np.zeros_like(right)
        r = right.copy()
        z = rough.apply(r)
        p = z
        size = first = float(np.vdot(r, z))
        for _ in range(self.max_inner):
            product = sample.hessian_times(p)
            curvature = float(np.vdot(p, product))
            if not curvature > 0.0:
                break
            x += (size / curvature) * p
            r -= (size / curvature) * product
            z = rough.apply(r)
            before, size = size, float(np.vdot(r, z))
            if not size > self.forcing**2 * first:
                break
            p = z + (size / before) * p
        return x if x.any() else rough.apply(right)


@final
@dataclass
class _Course:
    """Whether samples are used, and whether they should be."""

    slow: float
    patience: int
    share: float
    sampling: bool = False
    short: int = 0
    wait: int = 0
    promises: list[float] = field(default_factory=list)

    def too_slow(self, promised: float) -> bool:
        """Whether to begin sampling, from how the promise has fallen over the last iterations."""
        self.promises.append(promised)
        if self.share > LARGEST_SHARE or len(self.promises) <= self.patience + 1 + self.wait:
            return False
        self.sampling = promised > self.slow**self.patience * self.promises[-1 - self.patience]
        return self.sampling

    def took(self, step: float) -> bool:
        """Count short steps of the samples; True when they end the sampling."""
        if self.sampling:
            self.short = self.short + 1 if step < SHORT else 0
            if self.short >= 2:
                self.go_back()
                return True
        return False

    def settle(self) -> None:
        """No more samples."""
        self.share = math.inf

    def go_back(self) -> None:
        """To L-BFGS; the next samples are larger and come later."""
        self.sampling, self.short = False, 0
        self.share *= 3.0
        self.wait = 8 if self.wait == 0 else 3 * self.wait
        self.promises.clear()
