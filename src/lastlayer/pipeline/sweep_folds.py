"""Cross-validation of one φ: every C in every fold, columns standardised by each fold's own training rows.

Shapes
------
N : rows, D : features, K : classes, F : folds, L : values of C.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lastlayer._arrays import Array, BoolArray, Float64, FloatArray, IntArray
from lastlayer._progress import SILENT, Progress, Task
from lastlayer.linear import scores, single_blas_thread
from lastlayer.pipeline.learn import class_weights
from lastlayer.pipeline.probe_head import Scaling
from lastlayer.selection.fit import LinearFit, fit_linear
from lastlayer.selection.folds import Fold
from lastlayer.selection.path import Walk, judge, reason_to_stop
from lastlayer.solvers.base import StopReason

PATIENCE = 3
"""Values of C in a row that must raise a fold's held-out loss before its path ends."""
_GAP, _MAX_ITER = 1e-4, 1000


@dataclass(frozen=True, eq=False)
class Problem:
    """What is fitted: rows with labels, and how.

    Attributes
    ----------
    Z : ndarray (N, D)
        Features as φ gives them.
    y : int (N,)
    n_classes : int
    loss : str
    class_weight : str
    standardise : bool
    """

    Z: Array
    y: IntArray
    n_classes: int
    loss: str
    class_weight: str
    standardise: bool

    def part(self, rows: IntArray) -> Problem:
        """Some rows only."""
        return Problem(self.Z[rows], self.y[rows], self.n_classes, self.loss, self.class_weight, self.standardise)

    def sides(self, fold: Fold) -> tuple[FloatArray, FloatArray]:
        """Features of a fold's training and held-out rows, standardised by the training rows."""
        Z, Z_out = self.Z[fold.train], self.Z[fold.test]
        if not self.standardise:
            return Z, Z_out
        scaling = Scaling.of(Z)
        return scaling.apply(Z), scaling.apply(Z_out)


@dataclass(frozen=True, eq=False)
class FoldTable:
    """What every C is worth in every fold.

    Attributes
    ----------
    Cs : float (L,)
        Ascending.
    losses : float (F, L)
        Mean held-out loss; infinite where a fold's path had ended.
    right : int (F, L)
        Held-out rows right.
    sizes : int (F,)
        Held-out rows.
    train_losses, l2, passes, times : float (F, L)
        Of every fit; `times` in seconds.
    converged : bool (F, L)
    seconds : float (F,)
    """

    Cs: Float64
    losses: Float64
    right: IntArray
    sizes: IntArray
    train_losses: Float64
    l2: Float64
    passes: Float64
    times: Float64
    converged: BoolArray
    seconds: Float64

    @property
    def best(self) -> int:
        """Index of the C of the lowest mean loss, ties to the smaller."""
        return int(np.argmin(self.losses.mean(axis=0)))

    @property
    def C(self) -> float:
        """The C chosen."""
        return float(self.Cs[self.best])

    @property
    def accuracies(self) -> Float64:
        """Accuracy of every fold at the C chosen, (F,)."""
        return np.asarray(self.right[:, self.best] / self.sizes)

    @property
    def at_edge(self) -> bool:
        """Whether the C chosen is the first or last of several."""
        return len(self.Cs) > 1 and self.best in (0, len(self.Cs) - 1)


def fold_table(
    problem: Problem, Cs: Sequence[float], folds: Sequence[Fold], task: Task | None = None, threads: int | None = None
) -> FoldTable:
    """Fit every C, from strong to weak, on each fold's training rows, and judge it by the rows it holds out.

    A fold's path ends when its loss has risen for `PATIENCE` values.

    Raises
    ------
    KeyboardInterrupt
        When a fit was interrupted.
    """
    grid = sorted(set(Cs))
    shape = (len(folds), len(grid))
    losses, right = np.full(shape, np.inf), np.zeros(shape, dtype=np.int64)
    train_losses, l2s = np.full(shape, np.nan), np.full(shape, np.nan)
    passes, times = np.zeros(shape), np.zeros(shape)
    converged = np.zeros(shape, dtype=bool)
    seconds = np.zeros(len(folds))
    for f, fold in enumerate(folds):
        clock = time.perf_counter()
        Z, Z_out = problem.sides(fold)
        y = problem.y[fold.train]
        weight = class_weights(y, problem.n_classes, problem.class_weight)
        points = []
        with single_blas_thread():
            walk = Walk.begin(
                Z,
                y,
                problem.n_classes,
                problem.loss,
                sample_weight=weight,
                gap=_GAP,
                max_iter=_MAX_ITER,
                threads=threads,
            )
            for c, C in enumerate(grid):
                began = time.perf_counter()
                fit, train_loss, l2 = walk.step(C)
                _go_on(fit)
                point = judge(fit, C, l2, train_loss, Z_out, problem.y[fold.test], walk.first.loss, began)
                points.append(point)
                losses[f, c], right[f, c] = point.val_loss, point.val_accuracy[0]
                train_losses[f, c], l2s[f, c] = train_loss, l2
                passes[f, c], times[f, c], converged[f, c] = point.passes, point.seconds, point.converged
                if reason_to_stop(points, PATIENCE):
                    break
        seconds[f] = time.perf_counter() - clock
        if task is not None:
            task.advance(1)
    sizes = np.array([len(fold.test) for fold in folds])
    return FoldTable(np.array(grid), losses, right, sizes, train_losses, l2s, passes, times, converged, seconds)


def fit_fold(problem: Problem, fold: Fold, C: float, threads: int | None = None) -> FloatArray:
    """Scores (n, K) of a fold's held-out rows by the fit of its training rows at one C."""
    Z, Z_out = problem.sides(fold)
    y = problem.y[fold.train]
    weight = class_weights(y, problem.n_classes, problem.class_weight)
    total = float(len(y)) if weight is None else float(weight.sum())
    fit = fit_linear(
        Z,
        y,
        problem.n_classes,
        problem.loss,
        l2=1.0 / (C * total),
        sample_weight=weight,
        tol=0.1,
        gap=1e-5,
        max_iter=_MAX_ITER,
        threads=threads,
    )
    _go_on(fit)
    return scores(Z_out, fit.weights, fit.bias)


def out_of_fold(problem: Problem, folds: Sequence[Fold], C: float, progress: Progress = SILENT) -> FloatArray:
    """Scores (N, K) of every row by the fold that held it out."""
    out = np.zeros((len(problem.y), problem.n_classes), dtype=np.float32)
    with progress.task("winner", len(folds)) as task:
        for fold in folds:
            out[fold.test] = fit_fold(problem, fold, C)
            task.advance()
    return out


def _go_on(fit: LinearFit) -> None:
    if fit.solution.stop_reason is StopReason.INTERRUPTED:
        raise KeyboardInterrupt
