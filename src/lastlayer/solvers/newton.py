"""Second order: Newton's method with the whole Hessian, and with conjugate gradients that only multiply by it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import final

import numpy as np

from lastlayer._arrays import Float64, InputError
from lastlayer.solvers.base import (
    GRADIENT,
    HESSIAN,
    Callback,
    CurvedPoint,
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
from lastlayer.solvers.steps import ExactLineSearch, StepRule

MOST_PARAMETERS = 3000
"""Above this the Hessian (72 MB) and its eigenvectors (about 10 s an iteration on two cores) are no longer small."""
STALLED = 5
"""Iterations without progress beyond rounding after which the precision is taken to be exhausted."""
FIRST_FORCING, LARGEST_FORCING = 0.1, 0.5
SPREAD = 1e8
GOLDEN = (1.0 + math.sqrt(5.0)) / 2.0

Towards = Callable[[CurvedPoint, Float64, float], Float64]
"""Point, gradient, relative norm -> direction."""


@final
@dataclass(frozen=True, eq=False)
class Newton(Solver):
    """``x ← x - t H⁻¹ ∇f(x)`` with the Hessian H in full; the error is squared at every step near the optimum.

    H is put together from n products with the unit vectors (n passes for n parameters) and taken apart into
    eigenvectors. Negative curvature counts as positive, so that the direction always descends (Nocedal & Wright 2006,
    section 3.4). Where curvature and slope are both rounding the direction is zero: softmax scores may all be raised
    by the same number, and with λ = 0 dependent columns are free, so their Hessian is singular. Where the curvature
    alone is rounding, the smallest that is not takes its place. A line search makes it safe far from the optimum.

    Parameters
    ----------
    tol : float
        Relative gradient norm. A promise ``½ gᵀ H⁻¹ g`` far below the rounding of the value counts as converged too.
    max_iter : int
        Steps, each of n + 1 passes.
    step : StepRule
        Tried from 1 on; `steps.Scheduled` with the constant 1 is the textbook's method without its safety.

    Raises
    ------
    InputError
        For more than 3000 parameters: `NewtonCG` and `LBFGS` need no matrix.
    """

    tol: float = 1e-10
    max_iter: int = 50
    step: StepRule = field(default_factory=lambda: ExactLineSearch(1.0, 0.1))

    @property
    def name(self) -> str:
        """Name for refusals."""
        return "newton"

    @property
    def needs(self) -> frozenset[str]:
        """First and second derivatives."""
        return frozenset({GRADIENT, HESSIAN})

    def minimise(self, problem: Problem, start: Point | None = None, callback: Callback | None = None) -> Solution:
        """Minimise; Ctrl-C returns the best parameters so far."""
        refuse_impossible(self, problem, "loss cross_entropy with solver newton")
        n = problem.start().size if start is None else start.params.size
        if n > MOST_PARAMETERS:
            raise InputError(
                f"Solver newton would need the Hessian of {n:,} parameters; it is for at most {MOST_PARAMETERS:,}",
                "Use newton_cg or lbfgs, which need no matrix",
            )

        def towards(point: CurvedPoint, gradient: Float64, norm: float) -> Float64:
            return _newton_direction(problem, hessian(point), gradient, self.tol)

        return _minimise(problem, start, Recorder(problem, callback), self.tol, self.max_iter, self.step, towards)


@final
@dataclass(frozen=True, eq=False)
class NewtonCG(Solver):
    """Truncated Newton: ``H d = -∇f(x)`` solved roughly by conjugate gradients, which only multiply by H.

    Nocedal & Wright (2006), algorithm 7.1, preconditioned (Steihaug 1983). How roughly is chosen by the second rule
    of Eisenstat & Walker (1996): the residual may be ``0.9 (|gₖ| / |gₖ₋₁|)^φ`` of the gradient, φ the golden ratio,
    both measured in the preconditioner's norm, so that early steps are cheap and the last ones superlinear. Negative
    curvature ends the inner iteration with what has been reached.

    With the features' second moments as preconditioner (`selection.inverses.preconditioner`) the inner iteration sees a
    Hessian whose eigenvalues lie close together, and needs few products.

    Parameters
    ----------
    preconditioner : Preconditioner or None
        An approximate inverse Hessian; the identity when None.
    tol : float
        Relative gradient norm. A promise far below the rounding of the value counts as converged too.
    max_iter : int
        Outer steps, each of one pass and one for every inner product.
    max_inner : int
        Most products with the Hessian in one outer step.
    forcing : float or None
        A constant share of the gradient for the residual, in place of Eisenstat and Walker's.
    step : StepRule
        Tried from 1 on.
    """

    preconditioner: Preconditioner | None = None
    tol: float = 1e-4
    max_iter: int = 200
    max_inner: int = 200
    forcing: float | None = None
    step: StepRule = field(default_factory=lambda: ExactLineSearch(1.0, 0.1))

    def __post_init__(self) -> None:
        if self.forcing is not None and not 0.0 < self.forcing < 1.0:
            raise InputError(f"forcing is {self.forcing}", "Give a number between 0 and 1, or None")
        if self.max_inner < 1:
            raise InputError(f"max_inner is {self.max_inner}", "At least one product with the Hessian is needed")

    @property
    def name(self) -> str:
        """Name for refusals."""
        return "newton_cg"

    @property
    def needs(self) -> frozenset[str]:
        """First and second derivatives."""
        return frozenset({GRADIENT, HESSIAN})

    def minimise(self, problem: Problem, start: Point | None = None, callback: Callback | None = None) -> Solution:
        """Minimise; Ctrl-C returns the best parameters so far."""
        refuse_impossible(self, problem, "loss cross_entropy with solver newton_cg")
        inner = _Inner(self.preconditioner, self.max_inner, self.forcing, self.tol)
        recorder = Recorder(problem, callback)
        return _minimise(problem, start, recorder, self.tol, self.max_iter, self.step, inner.direction)


def hessian(point: CurvedPoint) -> Float64:
    """The Hessian (n, n) at a point, from n products with the unit vectors: n passes.

    Parameters that the problem holds still (constant columns, no bias) get no coupling to the others.
    """
    shape, n = point.params.shape, point.params.size
    H = np.empty((n, n))
    unit = np.zeros(shape)
    for j in range(n):
        unit.flat[j] = 1.0
        H[:, j] = point.hessian_times(unit).ravel()
        unit.flat[j] = 0.0
    diagonal = H.diagonal().copy()
    np.fill_diagonal(H, 0.0)
    # A parameter that is held still answers to no other one, but its unit vector still moves the scores.
    H[:, ~H.any(axis=1)] = 0.0
    np.fill_diagonal(H, diagonal)
    return np.asarray(0.5 * (H + H.T))


def _unit_diagonal(diagonal: Float64) -> Float64:
    """What rows and columns of the Hessian are multiplied with where their sizes lie so far apart that digits get lost.

    A penalty carried over to scaled columns spans many orders of magnitude, and `eigh` is exact to the largest only.
    Otherwise ones, so that a step in a singular Hessian's range stays there (the solution of minimum norm).
    """
    sizes = np.abs(diagonal)
    sizes[sizes == 0.0] = 1.0
    if not len(sizes) or sizes.max() <= SPREAD * sizes.min():
        return np.ones(len(sizes))
    return np.asarray(np.exp2(-np.rint(0.5 * np.log2(sizes))))


def _newton_direction(problem: Problem, H: Float64, gradient: Float64, tol: float) -> Float64:
    """``-|H|⁻¹ g``, the eigenvalues that are rounding replaced or left out."""
    if not np.isfinite(H).all():
        return np.full_like(gradient, np.nan)
    g = gradient.ravel()
    coupled = np.count_nonzero(H, axis=1) > (H.diagonal() != 0.0)
    moving = np.flatnonzero(coupled | (g != 0.0))
    among = H[np.ix_(moving, moving)]
    scale = _unit_diagonal(among.diagonal())
    values, vectors = np.linalg.eigh(among * np.outer(scale, scale))
    parts = vectors.T @ (scale * g[moving])
    curvature = np.abs(values)
    floor = math.sqrt(len(H)) * max(problem.rounding, 1e-15) * float(curvature.max())
    flat = curvature <= floor
    if flat.any():
        there = np.zeros(g.size)
        there[moving] = (vectors[:, flat] @ parts[flat]) / scale
        if problem.norm(there.reshape(gradient.shape)) <= max(0.1 * tol, 10.0 * problem.rounding):
            parts[flat] = 0.0
        curvature[flat] = floor or 1.0
    direction = np.zeros(g.size)
    direction[moving] = -scale * (vectors @ (parts / curvature))
    return direction.reshape(gradient.shape)


@final
@dataclass
class _Inner:
    """Preconditioned conjugate gradients on the Newton equation, with the forcing's memory."""

    preconditioner: Preconditioner | None
    most: int
    forcing: float | None
    tol: float
    last_size: float = 0.0
    last_share: float = 0.0

    def apply(self, gradient: Float64) -> Float64:
        return gradient if self.preconditioner is None else self.preconditioner.apply(gradient)

    def share(self, size: float, norm: float) -> float:
        """What the residual may be, of the gradient's size."""
        if self.forcing is not None:
            return self.forcing
        share = FIRST_FORCING
        if self.last_size > 0.0:
            share = 0.9 * (size / self.last_size) ** GOLDEN
            kept = 0.9 * self.last_share**GOLDEN
            share = max(share, kept) if kept > 0.1 else share
        # No more exact than the tolerance asks for (Kelley 1995, section 6.3).
        share = min(max(share, 0.5 * self.tol / norm), LARGEST_FORCING)
        self.last_size, self.last_share = size, share
        return share

    def direction(self, point: CurvedPoint, gradient: Float64, norm: float) -> Float64:
        residual = gradient.copy()
        towards = self.apply(residual)
        product = float(np.vdot(residual, towards))
        found = np.zeros_like(gradient)
        p = -towards
        if not product > 0.0:
            return p
        enough = product * self.share(math.sqrt(product), norm) ** 2
        for _ in range(self.most):
            Hp = point.hessian_times(p)
            curvature = float(np.vdot(p, Hp))
            if not curvature > 0.0:
                break
            found += (product / curvature) * p
            residual += (product / curvature) * Hp
            towards = self.apply(residual)
            before, product = product, float(np.vdot(residual, towards))
            if not product > enough:
                break
            p = (product / before) * p - towards
        # Without one good product the preconditioned gradient is the best there is.
        return found if found.any() else p


def _minimise(
    problem: Problem,
    start: Point | None,
    recorder: Recorder,
    tol: float,
    max_iter: int,
    rule: StepRule,
    towards: Towards,
) -> Solution:
    try:
        return _run(problem, start, recorder, tol, max_iter, rule, towards)
    except KeyboardInterrupt:
        return recorder.solution(StopReason.INTERRUPTED)


def _run(
    problem: Problem,
    start: Point | None,
    recorder: Recorder,
    tol: float,
    max_iter: int,
    rule: StepRule,
    towards: Towards,
) -> Solution:
    """Directions and line searches until the gradient vanishes."""
    point = start or problem.at(problem.start())
    gradient = point.gradient
    norm = problem.norm(gradient)
    stop = recorder.add(0, point, norm, 0.0)
    scale = 1e-6 * abs(point.value)
    iteration = stalled = 0
    while not stop:
        if norm <= tol:
            return recorder.solution(StopReason.CONVERGED)
        if iteration >= max_iter:
            return recorder.solution(StopReason.MAX_ITER)
        if not isinstance(point, CurvedPoint):
            raise InputError(f"{problem.name} says that it provides {HESSIAN}, but its points have no products with it")
        direction = towards(point, gradient, norm)
        slope = float(np.vdot(gradient, direction))
        if not math.isfinite(slope):
            note = "Second derivatives are not finite there; the last good parameters are kept"
            return recorder.solution(StopReason.DIVERGED, note)
        if not slope < 0.0:
            return recorder.solution(StopReason.PRECISION, "The direction found does not descend")
        if -0.5 * slope <= (10.0 * problem.rounding) ** 2 * max(abs(point.value), scale):
            return recorder.solution(StopReason.CONVERGED)
        line = point.line(direction)
        step = rule.length(line, LineValue(point.value, slope, math.nan), iteration, problem.rounding)
        if step is None:
            return recorder.solution(StopReason.PRECISION)
        point = line.move(step)
        gradient = point.gradient
        if not (math.isfinite(point.value) and np.isfinite(gradient).all()):
            note = f"A step of {step:.3g} left the range of finite values; the last good parameters are kept"
            return recorder.solution(StopReason.DIVERGED, note)
        norm = problem.norm(gradient)
        iteration += 1
        stalled = 0 if recorder.improves(point.value, norm) else stalled + 1
        stop = recorder.add(iteration, point, norm, step)
        if stalled >= STALLED and norm > tol:
            return recorder.solution(StopReason.PRECISION)
    return recorder.solution(StopReason.CALLBACK)
