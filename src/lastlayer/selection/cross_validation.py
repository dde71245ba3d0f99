"""Every C in every fold: one walk over all rows, and each fold's fits begun at its solutions.

The fit on all rows is needed anyway, and what a fold leaves out moves the optimum little. At every C a fold therefore
begins at the solution of all rows, moved by as much as its own solution differed at the C before. All folds share
rows, second moments and the inverse Hessian of every C; rows that a fold holds out stay where they are, with weight
zero, and their scores come with the fit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, final

import numpy as np

from lastlayer._arrays import Array, Float32, Float64, FloatArray, InputError
from lastlayer._progress import SILENT, Progress
from lastlayer.linear import single_blas_thread
from lastlayer.objective import Objective
from lastlayer.selection.coupled import CoupledHessian, is_worth_it
from lastlayer.selection.fit import LinearFit, refuse_one_class
from lastlayer.selection.folds import Fold, make_folds
from lastlayer.selection.path import Walk, check_grid
from lastlayer.selection.validated import CrossValidation, HeldOut, Measure
from lastlayer.solvers import Solution, StopReason

__all__ = ["RULES", "CrossValidation", "HeldOut", "Measure", "cross_validate"]

RULES = ("best", "one_standard_error")


def cross_validate(
    Z: Array,
    y: Array,
    n_classes: int,
    loss: str,
    Cs: Sequence[float],
    folds: int | Array | Sequence[tuple[Any, Any]] | Sequence[Fold] = 5,
    *,
    sample_weight: Array | None = None,
    groups: Array | None = None,
    seed: int = 0,
    rule: str = "best",
    measure: Measure | None = None,
    fit_intercept: bool = True,
    tol: float = 0.1,
    gap: float = 1e-4,
    max_iter: int = 1000,
    keep_weights: bool = False,
    threads: int | None = None,
    progress: Progress = SILENT,
) -> CrossValidation:
    """Fit every C in every fold and on all rows, and choose by the held-out rows.

    ``λ = 1 / (C Σ s)`` with the weights of the rows that are fitted, so that C is what folds and the fit of all rows
    share.

    Parameters
    ----------
    Z, y : ndarray
        (N, D) features and (N,) labels 0..K-1. Z is not copied.
    n_classes : int
        K.
    loss : str
        cross_entropy, squared or squared_hinge.
    Cs : sequence of float
    folds : int, ndarray, pairs or tuple of Fold
        As `make_folds` takes them.
    sample_weight : ndarray, optional
        (N,), for fitting and for judging: a weight of 2 is a row given twice.
    groups : ndarray, optional
        (N,); rows of one group are held out together.
    seed : int
        Of folds that are drawn.
    rule : {"best", "one_standard_error"}
        The lowest mean loss, ties to the smaller C; or the smallest C whose mean loss is at most one standard error of
        the mean above it (Breiman, Friedman, Olshen & Stone 1984, Classification and Regression Trees, 3.4.3).
    measure : callable, optional
        Chooses in place of the loss, by its highest mean.
    fit_intercept : bool
    tol, gap, max_iter : float, float, int
        Of every fit: relative gradient norm, share of the objective that a further step may still promise, and most
        iterations.
    keep_weights : bool
        Whether the weights of every fold at every C are kept.
    threads : int, optional
        Changes no bit.
    progress : Progress

    Raises
    ------
    InputError
        For values of C that are not positive, losses without a path, folds that cannot be, and as `fit_linear`.
    KeyboardInterrupt
        When Ctrl-C comes before one C is complete; later it ends the walk, and what was complete is returned.
    """
    grid = check_grid(Cs)
    if rule not in RULES:
        raise InputError(f"No rule is called {rule!r}", f"There are {', '.join(RULES)}")
    weights = _weights(sample_weight, len(Z))
    y = np.asarray(y)
    made = make_folds(y, folds, groups=groups, seed=seed)
    with single_blas_thread(), progress.task("folds", len(grid) * (len(made) + 1)) as task:
        walk = Walk.begin(
            Z, y, n_classes, loss, fit_intercept=fit_intercept, tol=tol, gap=gap, max_iter=max_iter, threads=threads
        )
        if sample_weight is not None:
            walk = walk.reweighted(weights)
        run = _Run(walk, made, weights, y, measure)
        try:
            for number, C in enumerate(grid):
                run.add(C, len(grid) - number, lambda note: task.advance(1, note))
        except KeyboardInterrupt:
            if not run.columns:
                raise
        run.measure_all()
        best = run.choose(rule)
        return run.result(best, rule, grid, keep_weights)


def _weights(sample_weight: Array | None, n: int) -> Float64:
    if sample_weight is None:
        return np.ones(n)
    s = np.asarray(sample_weight, dtype=np.float64)
    if s.shape != (n,) or not np.isfinite(s).all() or (s < 0).any() or not s.any():
        raise InputError(f"sample weights of shape {s.shape} for {n} rows", "Give one finite number a row, at least 0")
    return s


@final
@dataclass(eq=False)
class _Column:
    """One C: the fit of all rows and those of the folds, as parameters of the same centred columns."""

    C: float
    l2: float
    fit: LinearFit
    train_loss: float
    full: Float64
    params: list[FloatArray] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    right: list[int] = field(default_factory=list)
    held: list[HeldOut] = field(default_factory=list)
    measures: list[float] = field(default_factory=list)
    solutions: list[Solution] = field(default_factory=list)
    seconds: float = 0.0


@final
@dataclass
class _Run:
    """The walk over the values of C."""

    walk: Walk
    folds: tuple[Fold, ...]
    weights: Float64
    y: Array
    measure: Measure | None
    problems: list[Objective] = field(default_factory=list)
    totals: list[float] = field(default_factory=list)
    columns: list[_Column] = field(default_factory=list)

    def __post_init__(self) -> None:
        for number, fold in enumerate(self.folds):
            s = self.weights * np.bincount(fold.train, minlength=len(self.weights))
            if not s.any() or not self.weights[fold.test].any():
                raise InputError(f"all rows on one side of fold {number} have weight zero", "Give other folds")
            problem = self.walk.first.with_weights(s)
            refuse_one_class(problem)
            self.problems.append(problem)
            self.totals.append(float(s.sum()))

    def add(self, C: float, left: int, said: Callable[[str], None]) -> None:
        """Fit one C everywhere, the first of `left`; KeyboardInterrupt when a fit was interrupted."""
        clock = time.perf_counter()
        self._learn_hessian(left)
        fit, train_loss, l2 = self.walk.step(C)
        _go_on(fit.solution)
        column = _Column(C, l2, fit, train_loss, self.walk.point.params)
        said(f"C = {C:g}")
        solver = self.walk.solver(self.walk.point.problem)
        for number, (fold, problem, total) in enumerate(zip(self.folds, self.problems, self.totals)):
            objective = problem.with_l2(1.0 / (C * total))
            solution = solver.minimise(objective, objective.at(self._start(column, number)))
            _go_on(solution)
            self._judge(column, fold, objective, solution)
            said(f"C = {C:g}, fold {number + 1}: loss {column.losses[-1]:.4g}")
        column.solutions.append(fit.solution)
        column.seconds = time.perf_counter() - clock
        self.columns.append(column)

    def _learn_hessian(self, left: int) -> None:
        """Know the Hessian better, first for all the fits that are left, later anew where one C already pays for it."""
        if not self.columns:
            return
        passes = sum(solution.passes for solution in self.columns[-1].solutions)
        if is_worth_it(self.walk.first, passes if self.walk.hessian else passes * left):
            self.walk.hessian = CoupledHessian.at(self.walk.first, self.walk.point.scores)

    def _start(self, column: _Column, number: int) -> Float64:
        """Where a fold begins: the solution of all rows, moved as at the C before."""
        if not self.columns:
            return column.full
        before = self.columns[-1]
        return np.asarray(column.full + (before.params[number] - before.full))

    def _judge(self, column: _Column, fold: Fold, objective: Objective, solution: Solution) -> None:
        point = solution.point
        all_scores = objective.scores(solution.params) if point is None else point.scores  # type: ignore[attr-defined]
        rows = fold.test[self.weights[fold.test] > 0]
        out = np.ascontiguousarray(all_scores[:, rows].T)
        s, labels = self.weights[rows], self.y[rows]
        values = objective.loss.values(out, labels).astype(np.float64)
        column.losses.append(float(s @ values / s.sum()))
        right = out.argmax(axis=1) == labels
        column.accuracies.append(float(s @ right / s.sum()))
        column.right.append(int(np.count_nonzero(right)))
        if self.measure is not None:
            params = solution.params  # not the solution: its point holds the scores of all rows
            column.held.append(HeldOut(rows, out, lambda: self._outside(params)))
        column.params.append(solution.params.astype(objective.examples.rows.dtype))
        column.solutions.append(replace(solution, point=None))

    def measure_all(self) -> None:
        """Measure fold by fold, from the smallest C up: some measures remember how often they were called."""
        if self.measure is None:
            return
        for number in range(len(self.folds)):
            for column in sorted(self.columns, key=lambda column: column.C):
                column.measures.append(self.measure(column.held[number]))

    def choose(self, rule: str) -> int:
        """Index of the C to take."""
        rows = [column.losses if self.measure is None else [-m for m in column.measures] for column in self.columns]
        price = np.array(list(zip(*rows)))  # (F, L): added up fold by fold, as scikit-learn does, so that ties are ties
        mean = price.mean(axis=0)
        best = int(np.argmin(mean))
        if rule == "best" or len(price) < 2:
            return best
        error = price[:, best].std(ddof=1) / np.sqrt(len(price))
        return int(np.flatnonzero(mean <= mean[best] + error)[0])

    def result(self, best: int, rule: str, grid: list[float], keep_weights: bool) -> CrossValidation:
        """Everything as arrays."""
        columns = self.columns

        def each(what: Callable[[_Column], Any]) -> Array:
            return np.array([what(column) for column in columns]).T

        models = self._models() if keep_weights else (None, None)
        return CrossValidation(
            Cs=each(lambda column: column.C),
            l2=each(lambda column: column.l2),
            losses=each(lambda column: column.losses),
            accuracies=each(lambda column: column.accuracies),
            right=each(lambda column: column.right),
            n_held=np.array([np.count_nonzero(self.weights[fold.test]) for fold in self.folds]),
            measures=None if self.measure is None else each(lambda column: column.measures),
            train_losses=each(lambda column: column.train_loss),
            passes=each(lambda column: [s.passes for s in column.solutions]),
            iterations=each(lambda column: [s.iterations for s in column.solutions]),
            converged=each(lambda column: [s.stop_reason.converged for s in column.solutions]),
            seconds=each(lambda column: column.seconds),
            best=best,
            fit=columns[best].fit,
            out_of_fold=self._out_of_fold(columns[best]),
            at_edge=len(grid) > 1 and columns[best].C in (grid[0], grid[-1]),
            rule=rule,
            folds=self.folds,
            skipped=tuple(grid[len(columns) :]),
            fold_weights=models[0],
            fold_biases=models[1],
        )

    def _out_of_fold(self, column: _Column) -> Float32:
        """Scores of every row by the folds that held it out: one product a fold."""
        first = self.walk.first
        total = np.zeros((len(self.weights), first.examples.n_outputs), dtype=np.float32)
        times = np.zeros(len(self.weights))
        for fold, params in zip(self.folds, column.params):
            total[fold.test] += first.scores(params.astype(np.float64))[:, fold.test].T
            times[fold.test] += 1
        if (times > 1).any():
            total /= np.maximum(times, 1)[:, None].astype(np.float32)
        total[times == 0] = np.nan
        return total

    def _outside(self, params: FloatArray) -> tuple[Float64, Float64]:
        """Weights and bias for the columns as given."""
        W, b = self.walk.first.to_outside(params.astype(np.float64))
        return (W, b) if self.walk.basis is None else self.walk.basis.weights(W, b)

    def _models(self) -> tuple[FloatArray, FloatArray]:
        """Weights (F, L, D, K) and biases (F, L, K) of all folds."""
        dtype = self.columns[0].params[0].dtype
        fits = [[self._outside(column.params[f]) for column in self.columns] for f in range(len(self.folds))]
        weights = np.array([[W.astype(dtype) for W, _ in row] for row in fits])
        return weights, np.array([[b for _, b in row] for row in fits])


def _go_on(solution: Solution) -> None:
    if solution.stop_reason is StopReason.INTERRUPTED:
        raise KeyboardInterrupt
