"""λ chosen on validation data, over a warm-started path from strong to weak."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import final

import numpy as np

from lastlayer._arrays import Array, FloatArray, InputError, IntArray
from lastlayer._progress import SILENT, Progress
from lastlayer.linear import scores, single_blas_thread
from lastlayer.losses import Loss, by_name
from lastlayer.objective import Objective, ObjectivePoint
from lastlayer.selection.fit import (
    LinearFit,
    exact_inverse,
    finish,
    preconditioner,
    refuse_one_class,
    rotation_pays,
    solver_name,
)
from lastlayer.selection.thin import ThinBasis, thin
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
    grid = sorted({float(c) for c in Cs})
    if not grid or not grid[0] > 0 or not np.isfinite(grid[-1]):
        raise InputError(f"C is {list(Cs)}; positive numbers are needed")
    if solver_name("auto", loss) not in ("lbfgs", "closed_form"):
        raise InputError(
            f"There is no path for the {loss} loss", "Paths are for cross_entropy, squared and squared_hinge"
        )
    _check_validation(Z_train, Z_val, y_val)
    with single_blas_thread(), progress.task("path", len(grid)) as task:
        walk = _Walk.begin(Z_train, y_train, n_classes, by_name(loss), sample_weight, threads, tol, max_iter)
        points: list[PathPoint] = []
        best = 0
        kept: LinearFit | None = None
        try:
            for C in grid:
                clock = time.perf_counter()
                fit, train_loss, l2 = walk.step(C)
                point = _judge(fit, C, l2, train_loss, Z_val, y_val, walk.first.loss, clock)
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


def _check_validation(Z_train: Array, Z_val: Array, y_val: Array) -> None:
    if Z_val.ndim != 2 or len(Z_val) == 0 or Z_val.shape[1] != Z_train.shape[1] or len(y_val) != len(Z_val):
        raise InputError(
            f"validation features have shape {Z_val.shape} with {len(y_val)} labels; training features {Z_train.shape}",
            "Give at least one validation row, with the same columns",
        )


def _reason_to_stop(points: list[PathPoint], patience: int, reason: StopReason) -> str:
    """Why to end the path here, or nothing."""
    if reason is StopReason.INTERRUPTED:
        return INTERRUPTED
    recent = [point.val_loss for point in points[-patience - 1 :]]
    if len(recent) > patience and all(a < b for a, b in pairwise(recent)):
        return f"validation loss rose for {patience} values of C in a row"
    return ""


@final
@dataclass
class _Walk:
    """Where the path is: the objective, its second moments, and the last point."""

    first: Objective
    basis: ThinBasis | None
    total: float
    S: FloatArray
    exact: bool
    tol: float
    max_iter: int
    point: ObjectivePoint

    @classmethod
    def begin(
        cls,
        Z: Array,
        y: Array,
        n_classes: int,
        loss: Loss,
        sample_weight: Array | None,
        threads: int | None,
        tol: float,
        max_iter: int,
    ) -> _Walk:
        basis: ThinBasis | None = None
        if rotation_pays(Z):
            Z, basis = thin(Z)
        first = Objective(Z, y, n_classes, loss, 0.0, sample_weight, threads)
        refuse_one_class(first)
        total = float(len(Z)) if sample_weight is None else float(np.sum(sample_weight, dtype=np.float64))
        exact = loss.is_quadratic
        S = first.examples.second_moments(None) if exact else first.examples.second_moments()
        return cls(first, basis, total, S, exact, tol, max_iter, first.at(first.start()))

    def step(self, C: float) -> tuple[LinearFit, float, float]:
        """The fit for C, its training loss and its λ."""
        objective = self.first.with_l2(1.0 / (C * self.total))
        solution = self._solver(objective).minimise(objective, self.point.under(objective))
        self.point = self._last(objective, solution)
        train_loss = solution.value - objective.penalty.value(solution.params[:-1])
        name = "closed_form" if self.exact else "lbfgs"
        return finish(objective, solution, name, self.basis), train_loss, objective.l2

    def _solver(self, objective: Objective) -> Solver:
        if self.exact:
            return ClosedForm(exact_inverse(objective, self.S), tol=1e-6, max_iter=self.max_iter)
        return LBFGS(preconditioner(objective, self.S), tol=0.1, gap=self.tol, max_iter=self.max_iter)

    def _last(self, objective: Objective, solution: Solution) -> ObjectivePoint:
        """The point of the solution; its scores are carried on where they are still there."""
        if isinstance(solution.point, ObjectivePoint):
            return solution.point
        return objective.at(solution.params)


def _judge(
    fit: LinearFit,
    C: float,
    l2: float,
    train_loss: float,
    Z: FloatArray,
    y: IntArray,
    loss: Loss,
    clock: float,
) -> PathPoint:
    """Validation scores of one fit."""
    out = scores(Z, fit.weights, fit.bias)
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
