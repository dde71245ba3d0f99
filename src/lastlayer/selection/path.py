"""λ chosen on validation data, over a warm-started path from strong to weak."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import final

import numpy as np

from lastlayer._arrays import Array, BoolArray, Float64, FloatArray, InputError, IntArray
from lastlayer._progress import SILENT, Progress
from lastlayer.linear import scores, single_blas_thread
from lastlayer.linear.device import on_host
from lastlayer.losses import Loss, by_name
from lastlayer.objective import Objective, ObjectivePoint
from lastlayer.selection.coupled import CoupledHessian
from lastlayer.selection.fit import (
    LinearFit,
    finish,
    refuse_one_class,
    rotation_pays,
    solver_name,
    too_wide,
)
from lastlayer.selection.inverses import exact_inverse, preconditioner
from lastlayer.selection.thin import ThinBasis, thin
from lastlayer.selection.wide import SampledMoments, moments
from lastlayer.solvers import LBFGS, ClosedForm, Solution, Solver, StopReason

INTERRUPTED = "interrupted"


@final
@dataclass(frozen=True)
class PathPoint:
    """One value of C: what it cost and what it is worth.

    Attributes
    ----------
    C, l2 : float
        ``l2 = 1 / (C Σ s)``.
    train_loss : float
        Mean training loss without the penalty.
    val_accuracy : tuple of int
        ``(k, n)``: k of n validation rows right.
    val_loss : float
        Mean validation loss.
    passes, seconds : float
        What this value cost, validation included.
    stop_reason : str
        The solver's, as text.
    converged : bool
    """

    C: float
    l2: float
    train_loss: float
    val_accuracy: tuple[int, int]
    val_loss: float
    passes: float
    seconds: float
    stop_reason: str
    converged: bool


@final
@dataclass(frozen=True, eq=False)
class PathResult:
    """The path and its best point.

    Attributes
    ----------
    points : tuple of PathPoint
        From strong to weak regularisation (small C to large C).
    best : int
        Index of the point chosen: lowest validation loss, ties to the stronger regularisation.
    solution : LinearFit
        Weights and bias at the best point, fitted to the path's tolerance.
    at_edge : bool
        Whether the best C is the first or last of its grid, so that a wider grid may be better.
    skipped : tuple of float
        Values of C not tried, because validation had clearly worsened.
    note : str
        One sentence on how the path ended, empty when all of it was walked.
    """

    points: tuple[PathPoint, ...]
    best: int
    solution: LinearFit
    at_edge: bool
    skipped: tuple[float, ...] = ()
    note: str = ""

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the path."""
        return self.note == INTERRUPTED


def regularisation_path(
    Z_train: Array,
    y_train: Array,
    Z_val: FloatArray,
    y_val: Array,
    n_classes: int,
    loss: str,
    Cs: Sequence[float],
    *,
    sample_weight: Array | None = None,
    max_iter: int = 200,
    tol: float = 1e-4,
    patience: int = 2,
    threads: int | None = None,
    progress: Progress = SILENT,
) -> PathResult:
    """Fit every C from strong to weak regularisation and choose by validation loss.

    Each fit begins at the one before, with its scores; second moments are computed once. The path ends early when the
    validation loss has risen for `patience` values in a row.

    The loss chooses, not the accuracy: it uses how sure every answer is, so that a few hundred validation rows tell
    neighbouring values apart where their counts of right answers tie or differ by chance. The accuracy gets no worse
    by it (BENCHMARKS.md, "Which validation score chooses C").

    Parameters
    ----------
    Z_train, y_train : ndarray
        (N, D) features and (N,) labels 0..K-1.
    Z_val, y_val : ndarray
        The rows that choose.
    n_classes : int
        K.
    loss : str
        One with a penalty: cross_entropy, squared, squared_hinge.
    Cs : sequence of float
        Inverse strengths, ``λ = 1 / (C Σ s)``.
    sample_weight : ndarray, optional
        (N,) for the training rows; validation rows count alike.
    max_iter : int
        Iterations for each C.
    tol : float
        Share of the objective that a further step may still promise. Loose: a refit with the C chosen is exact.
    patience : int
        See above.
    threads : int, optional
        Threads in use; changes no bit.
    progress : Progress

    Raises
    ------
    InputError
        For an empty or non-positive C, for losses without a path, and as `fit_linear`.
    """
    grid = check_grid(Cs)
    _check_validation(Z_train, Z_val, y_val)
    with single_blas_thread(), progress.task("path", len(grid)) as task:
        walk = Walk.begin(
            Z_train,
            y_train,
            n_classes,
            loss,
            sample_weight=sample_weight,
            gap=tol,
            max_iter=max_iter,
            threads=threads,
        )
        points: list[PathPoint] = []
        best = 0
        kept: LinearFit | None = None
        try:
            for C in grid:
                clock = time.perf_counter()
                fit, train_loss, l2 = walk.step(C)
                point = judge(fit, C, l2, train_loss, Z_val, y_val, walk.first.loss, clock)
                points.append(point)
                if kept is None or point.val_loss < points[best].val_loss:
                    best, kept = len(points) - 1, fit
                task.advance(1, f"C = {C:g}: {point.val_accuracy[0]}/{point.val_accuracy[1]} right")
                note = _reason_to_stop(points, patience, fit.solution.stop_reason)
                if note and len(points) < len(grid):
                    return _result(points, best, kept, grid, note)
        except KeyboardInterrupt:  # between two fits; inside one the solver returns its best so far
            if kept is None:
                raise
            return _result(points, best, kept, grid, INTERRUPTED)
    assert kept is not None
    return _result(points, best, kept, grid, "")


def _result(points: list[PathPoint], best: int, kept: LinearFit, grid: list[float], note: str) -> PathResult:
    at_edge = len(grid) > 1 and best in (0, len(grid) - 1)
    return PathResult(tuple(points), best, kept, at_edge, tuple(grid[len(points) :]), note)


def check_grid(Cs: Sequence[float]) -> list[float]:
    """Values of C in ascending order, each once; `InputError` where one is not positive and finite."""
    grid = sorted({float(c) for c in Cs})
    if not grid or not grid[0] > 0 or not np.isfinite(grid[-1]):
        raise InputError(f"C is {list(Cs)}; positive numbers are needed")
    return grid


def _check_validation(Z_train: Array, Z_val: Array, y_val: Array) -> None:
    if Z_val.ndim != 2 or len(Z_val) == 0 or Z_val.shape[1] != Z_train.shape[1] or len(y_val) != len(Z_val):
        raise InputError(
            f"validation features have shape {Z_val.shape} with {len(y_val)} labels; training features {Z_train.shape}",
            "Give at least one validation row, with the same columns",
        )


def _reason_to_stop(points: Sequence[PathPoint], patience: int, reason: StopReason) -> str:
    return INTERRUPTED if reason is StopReason.INTERRUPTED else reason_to_stop(points, patience)


def reason_to_stop(points: Sequence[PathPoint], patience: int) -> str:
    """Why to end a path here, or nothing."""
    recent = [point.val_loss for point in points[-patience - 1 :]]
    if len(recent) > patience and all(a < b for a, b in pairwise(recent)):
        return f"validation loss rose for {patience} values of C in a row"
    return ""


@final
@dataclass
class Walk:
    """Fits of the same rows for one C after the other, each begun at the one before.

    Attributes
    ----------
    first : Objective
        Rows, weights and loss; the λ of it is not used.
    basis : ThinBasis or None
        Where the features were rotated into the span of their rows.
    total : float
        ``Σ s``, so that ``λ = 1 / (C Σ s)``.
    S : ndarray
        Second moments, for the inverse Hessian of every λ.
    tol, gap : float
        Relative gradient norm to be reached, and share of the objective that a further step may still promise.
    max_iter : int
        Iterations for each C.
    point : ObjectivePoint
        Where the next fit begins.
    hessian : CoupledHessian or None
        The Hessian around an earlier solution, where somebody has found it worth knowing better than from S.
    """

    first: Objective
    basis: ThinBasis | None
    total: float
    S: FloatArray | SampledMoments
    tol: float
    gap: float
    max_iter: int
    point: ObjectivePoint
    hessian: CoupledHessian | None = None

    @classmethod
    def begin(
        cls,
        Z: Array,
        y: Array,
        n_classes: int,
        loss: str,
        *,
        sample_weight: Array | None = None,
        held: BoolArray | None = None,
        fit_intercept: bool = True,
        tol: float = 0.1,
        gap: float = 1e-4,
        max_iter: int = 1000,
        threads: int | None = None,
    ) -> Walk:
        """Check the rows and prepare what all fits share; `InputError` for losses without a path.

        Rows that are `held` (N,) stay in Z with weight zero, so that nothing is copied.
        """
        if solver_name("auto", loss) not in ("lbfgs", "closed_form"):
            raise InputError(
                f"There is no path for the {loss} loss", "Paths are for cross_entropy, squared and squared_hinge"
            )
        basis: ThinBasis | None = None
        if fit_intercept and rotation_pays(Z):
            Z, basis = thin(Z)
        first = Objective(Z, y, n_classes, by_name(loss), 0.0, sample_weight, threads, fit_intercept)
        s = np.ones(len(Z)) if sample_weight is None else np.asarray(on_host(sample_weight), dtype=np.float64)
        if held is not None:
            s = np.where(held, 0.0, s)
            first = first.with_weights(s)
        refuse_one_class(first)
        total = float(s.sum())
        exact = first.loss.is_quadratic and not too_wide(first)
        S = first.examples.second_moments(None) if exact else moments(first.examples)
        return cls(first, basis, total, S, tol, gap, max_iter, first.at(first.start()))

    def reweighted(self, weights: Float64) -> Walk:
        """The same rows with other weights (N,), from the same point on; the second moments stay as they are."""
        first = self.first.with_weights(weights)
        refuse_one_class(first)
        return replace(self, first=first, total=float(weights.sum()), point=first.at(self.point.params))

    def step(self, C: float, start: Float64 | None = None) -> tuple[LinearFit, float, float]:
        """The fit for C, its training loss and its λ.

        It begins at `start`, parameters of another fit of this walk, or else where the fit before ended.
        """
        objective = self.first.with_l2(1.0 / (C * self.total))
        begin = self.point.under(objective) if start is None else objective.at(start)
        solution = self.solver(objective).minimise(objective, begin)
        self.point = self._last(objective, solution)
        train_loss = solution.value - objective.penalty.value(solution.params[:-1])
        exact = self.first.loss.is_quadratic and not isinstance(self.S, SampledMoments)
        name = "closed_form" if exact else "lbfgs"
        return finish(objective, solution, name, self.basis), train_loss, objective.l2

    def solver(self, objective: Objective) -> Solver:
        """The exact solver for one λ."""
        if self.first.loss.is_quadratic and not isinstance(self.S, SampledMoments):
            return ClosedForm(exact_inverse(objective, self.S), tol=min(self.tol, 1e-6), max_iter=self.max_iter)
        inverse = preconditioner(objective, self.S) if self.hessian is None else self.hessian.inverse(objective.l2)
        return LBFGS(inverse, tol=self.tol, gap=self.gap, max_iter=self.max_iter)

    def _last(self, objective: Objective, solution: Solution) -> ObjectivePoint:
        """The point of the solution; its scores are carried on where they are still there."""
        if isinstance(solution.point, ObjectivePoint):
            return solution.point
        return objective.at(solution.params)


def judge(
    fit: LinearFit,
    C: float,
    l2: float,
    train_loss: float,
    Z: FloatArray,
    y: IntArray,
    loss: Loss,
    clock: float,
) -> PathPoint:
    """One value of C: its fit judged by the validation rows, `clock` the time it began."""
    out, y = on_host(scores(Z, fit.weights, fit.bias)), on_host(y)
    right = int((out.argmax(axis=1) == y).sum())
    val_loss = float(loss.values(out, y).mean(dtype=np.float64))
    solution = fit.solution
    return PathPoint(
        C,
        l2,
        train_loss,
        (right, len(y)),
        val_loss,
        solution.passes,
        time.perf_counter() - clock,
        solution.stop_reason.value,
        solution.stop_reason.converged,
    )
