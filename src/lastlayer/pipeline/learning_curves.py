"""Learning curves of a last layer: nested subsets of the training images, several draws, the same validation images.

The features are those computed already; φ, where it learned something from pixels, learned it from all training images,
so the curve is that of the last layer. C stays that of the run: λ = 1/(C n) grows weaker with more images by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lastlayer._arrays import Array, BoolArray, InputError, IntArray
from lastlayer._progress import Progress, Task
from lastlayer.evaluation.learning_curve import LearningCurve, learning_curve_of
from lastlayer.linear import scores
from lastlayer.pipeline.learn import Examples, class_weights
from lastlayer.pipeline.settings import HEADS, TrainSettings
from lastlayer.pipeline.sweep_folds import Problem, fit_fold
from lastlayer.selection.fit import LinearFit, fit_linear
from lastlayer.selection.folds import Fold
from lastlayer.solvers.base import StopReason

DRAWS = 5
HALVINGS = 5
LEAST = 20
"""Images of the smallest subset, and no fewer than two for each class."""
_TOL, _GAP = 0.1, 1e-4
"""A point of the curve need not be as exact as the model: its noise is a thousand times larger."""


def subset_sizes(N: int, n_classes: int) -> tuple[int, ...]:
    """N and its halves, quarters, … down to 1/32, ascending, none too small to learn from.

    >>> subset_sizes(1000, 10)
    (31, 62, 125, 250, 500, 1000)
    """
    least = max(LEAST, 2 * n_classes)
    return tuple(N >> k for k in range(HALVINGS, -1, -1) if N >> k >= least or k == 0)


def nested_order(y: IntArray, rng: np.random.Generator) -> IntArray:
    """Rows so ordered that every beginning holds the classes in their proportions, as far as it can.

    Row i of the m of its class, in random order, stands at (i + u)/m with one random u for the class.
    """
    place = np.empty(len(y))
    for k in np.unique(y).tolist():
        rows = rng.permutation(np.flatnonzero(y == k))
        place[rows] = (np.arange(len(rows)) + rng.random()) / len(rows)
    return np.argsort(place, kind="stable")


def learning_curve(
    examples: Examples, C: float, settings: TrainSettings, progress: Progress, draws: int = DRAWS
) -> LearningCurve:
    """Accuracy on the validation images after learning from 1/32, 1/16, … of the training images.

    Parameters
    ----------
    examples : Examples
    C : float
        Of the run; NaN for a head that has none.
    settings : TrainSettings
        Its head, class weights and caps.
    progress : Progress
    draws : int
        Subsets of every size but the last, of which there is one.

    Raises
    ------
    InputError
        Without validation images.
    KeyboardInterrupt
        When a fit was interrupted.
    """
    if not examples.n_val:
        raise InputError("a learning curve needs validation images", "Give --val 0.15, or leave --learning-curve out")
    N = examples.n_train
    Z_val, y_val = examples.validation
    sizes = subset_sizes(N, examples.n_classes)
    answers: list[list[BoolArray]] = [[] for _ in sizes]
    steps = draws * sum(sizes[:-1]) + N
    with progress.task("Curve", steps) as task:
        for draw in range(draws):
            order = nested_order(examples.y[:N], np.random.default_rng((settings.seed, 7, draw)))
            start: LinearFit | None = None
            for j, n in enumerate(sizes):
                if n == N and draw:
                    continue
                start = _fit(examples, order[:n], C, settings, start)
                answers[j].append(scores(Z_val, start.W, start.b).argmax(axis=1) == y_val)
                task.advance(n)
    counts = np.bincount(examples.y[:N], minlength=examples.n_classes)
    how = "" if math.isnan(C) else f" at C = {C:g}"
    setting = f"{HEADS[settings.head].title}{how}; {draws} nested draws of the training images"
    tables = [np.stack(rows) for rows in answers]
    return learning_curve_of(sizes, tables, y_val, counts, setting=setting, seed=settings.seed)


def _fit(examples: Examples, rows: IntArray, C: float, settings: TrainSettings, start: LinearFit | None) -> LinearFit:
    """The last layer of some training images, as the run fits all of them."""
    head = HEADS[settings.head]
    rows = np.sort(rows)
    Z, y, weight = _rows(examples, rows, settings.class_weight)
    total = float(len(rows)) if weight is None else float(weight.sum())
    perceptron = head.solver == "perceptron"
    penalised = not (perceptron or math.isinf(C) or math.isnan(C))
    fit = fit_linear(
        Z,
        y,
        examples.n_classes,
        head.loss,
        l2=examples.unit**2 / (C * total) if penalised else 0.0,
        sample_weight=weight,
        solver=head.solver,
        max_iter=settings.perceptron_epochs if perceptron else settings.max_iter,
        seed=settings.seed,
        tol=_TOL,
        gap=None if perceptron else _GAP,
        start=None if start is None or perceptron else (start.W, start.b),
    )
    if fit.solution.stop_reason is StopReason.INTERRUPTED:
        raise KeyboardInterrupt
    return fit


def _rows(examples: Examples, rows: IntArray, rule: str) -> tuple[Array, IntArray, Array | None]:
    """Views to fit of some images, their labels and weights."""
    V = examples.n_views
    weight = class_weights(examples.y[rows], examples.n_classes, rule)
    if V == 1:
        return examples.twins[rows], examples.y[rows], weight
    weight = np.repeat(np.ones(len(rows)) if weight is None else weight, V) / V
    views = (rows[:, None] * V + np.arange(V)).ravel()
    return examples.twins[views], np.repeat(examples.y[rows], V), weight


def fold_curve(
    problem: Problem, C: float, folds: Sequence[Fold], seed: int, task: Task, draws: int = 2
) -> LearningCurve:
    """The curve by cross-validation: every image is scored once a size and draw, by a share of the other folds.

    Shares are 1/32 … 1 of each fold's training rows, nested. The task is advanced once a draw and fold.
    """
    full = min(len(fold.train) for fold in folds)
    sizes = subset_sizes(full, problem.n_classes)
    held = np.concatenate([fold.test for fold in folds])
    right = np.zeros((len(sizes), draws, len(problem.y)), dtype=np.bool_)
    for draw in range(draws):
        for f, fold in enumerate(folds):
            order = fold.train[nested_order(problem.y[fold.train], np.random.default_rng((seed, 7, draw, f)))]
            for j, n in enumerate(sizes):
                if n == full and draw:
                    continue
                part = order if n == full else order[:n]
                z = fit_fold(problem, Fold(np.sort(part), fold.test), C)
                right[j, draw, fold.test] = z.argmax(axis=1) == problem.y[fold.test]
            task.advance()
    tables = [right[j, : 1 if n == full else draws][:, held] for j, n in enumerate(sizes)]
    counts = np.bincount(problem.y, minlength=problem.n_classes)
    setting = f"{len(folds)}-fold cross-validation at C = {C:g}, {draws} nested draws a fold"
    return learning_curve_of(sizes, tables, problem.y[held], counts, setting=setting, seed=seed)
