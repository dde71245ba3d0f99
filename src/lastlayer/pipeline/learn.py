"""The last layer: λ chosen on validation data, then a refit on training + validation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lastlayer._arrays import Float64, FloatArray, InputError, IntArray
from lastlayer._codes import Problem
from lastlayer._progress import Progress
from lastlayer.linear import scores
from lastlayer.pipeline.settings import HEADS, Head, TrainSettings
from lastlayer.selection.fit import LinearFit, fit_linear
from lastlayer.selection.path import PathPoint, regularisation_path
from lastlayer.solvers.base import StopReason

# The final fit stops by its gap (`TrainSettings.tol`); the relative gradient must merely have fallen to this
# multiple of it, at most 0.1. On standardised MNIST (pixels that are almost never lit) the float32 gradient is
# still 5e-3 where the objective is within 1e-6 of its optimum.
GRADIENT_PER_GAP = 1e4


@dataclass(frozen=True)
class Learned:
    """What learning the last layer gave.

    Attributes
    ----------
    final : LinearFit
        Weights to keep: refitted on training + validation where C was chosen on validation data.
    selected : LinearFit or None
        The weights fitted on the training rows alone, for scores on validation data; None without such data.
    points : tuple of PathPoint
        One per value of C tried; empty when C was given.
    chosen : int
        Index in `points`, −1 when C was given.
    C, l2 : float
        The inverse regularisation and the λ of the final fit; NaN where the head has none.
    selection : str
        One line saying how the model was selected.
    temperature : float
        Scores are divided by it before the softmax.
    problems : tuple of Problem
    interrupted : bool
    """

    final: LinearFit
    selected: LinearFit | None
    points: tuple[PathPoint, ...]
    chosen: int
    C: float
    l2: float
    selection: str
    temperature: float
    problems: tuple[Problem, ...]
    interrupted: bool


def class_weights(y: IntArray, n_classes: int, rule: str) -> Float64 | None:
    """Weight of every row: n / (K nₖ) for ``balanced`` (K counts classes present), None for equal weights."""
    if not rule:
        return None
    counts = np.bincount(y, minlength=n_classes)
    present = np.count_nonzero(counts)
    weight = np.divide(len(y), present * counts, out=np.zeros(n_classes), where=counts > 0)
    out: Float64 = weight[y]
    return out


def learn(
    Z: FloatArray,
    y: IntArray,
    n_train: int,
    n_val: int,
    n_classes: int,
    settings: TrainSettings,
    progress: Progress,
) -> Learned:
    """Learn W and b from the first `n_train` rows (and the `n_val` after them).

    Raises
    ------
    InputError
        When fewer than two classes have training images.
    """
    present = np.unique(y[:n_train])
    if len(present) < 2:
        raise InputError(
            f"training needs images of at least two classes; {len(present)} found",
            "Add a folder of images for a second class",
        )
    if HEADS[settings.head].solver == "perceptron":
        return _learn_perceptron(Z, y, n_train, n_val, n_classes, settings, progress)
    head = HEADS[settings.head]
    given = _given_C(settings, n_train + n_val)
    if given is not None or n_val == 0:
        return _learn_given(Z, y, n_train, n_val, n_classes, settings, given, progress)
    train, val = slice(0, n_train), slice(n_train, n_train + n_val)
    path = regularisation_path(
        Z[train],
        y[train],
        Z[val],
        y[val],
        n_classes,
        head.loss,
        settings.C,
        sample_weight=class_weights(y[train], n_classes, settings.class_weight),
        max_iter=settings.max_iter,
        progress=progress,
    )
    best = path.points[path.best]
    problems: list[Problem] = []
    if path.at_edge:
        problems.append(Problem("LL041", f"best C = {best.C:g} is at the edge of its grid"))
    if path.interrupted:  # no refit: the best of the path so far is what there is
        final = path.solution
    else:
        final = _refit(Z, y, n_train + n_val, n_classes, best.C, settings, head, path.solution)
    problems += not_converged(final)
    right, of = best.val_accuracy
    tried = f"C = {best.C:g} chosen among {len(path.points)} values by validation loss ({right}/{of} right)"
    temperature = 1.0
    if head.loss != "cross_entropy":
        temperature = fit_temperature(scores(Z[val], path.solution.W, path.solution.b), y[val])
    return Learned(
        final,
        path.solution,
        path.points,
        path.best,
        best.C,
        1.0 / (best.C * _total_weight(y[: n_train + n_val], n_classes, settings)),
        tried + ("; interrupted before the refit" if path.interrupted else ", then refitted on training + validation"),
        temperature,
        tuple(problems),
        path.interrupted or final.solution.stop_reason is StopReason.INTERRUPTED,
    )


def _total_weight(y: IntArray, n_classes: int, settings: TrainSettings) -> float:
    weight = class_weights(y, n_classes, settings.class_weight)
    return float(len(y)) if weight is None else float(weight.sum())


def _given_C(settings: TrainSettings, n: int) -> float | None:
    """The C that the settings fix, or None when it is to be chosen; λ = 0 is C = ∞."""
    if not math.isnan(settings.l2):
        return math.inf if settings.l2 == 0 else 1.0 / (settings.l2 * n)
    return settings.C[0] if len(settings.C) == 1 else None


def _refit(
    Z: FloatArray,
    y: IntArray,
    n: int,
    n_classes: int,
    C: float,
    settings: TrainSettings,
    head: Head,
    start: LinearFit | None,
) -> LinearFit:
    weight = class_weights(y[:n], n_classes, settings.class_weight)
    total = float(n) if weight is None else float(weight.sum())
    return fit_linear(
        Z[:n],
        y[:n],
        n_classes,
        head.loss,
        l2=0.0 if math.isinf(C) else 1.0 / (C * total),
        sample_weight=weight,
        solver=head.solver,
        max_iter=settings.max_iter,
        tol=min(0.1, GRADIENT_PER_GAP * settings.tol),
        gap=settings.tol,
        start=None if start is None else (start.W, start.b),
    )


def _learn_given(
    Z: FloatArray,
    y: IntArray,
    n_train: int,
    n_val: int,
    n_classes: int,
    settings: TrainSettings,
    given: float | None,
    progress: Progress,
) -> Learned:
    head = HEADS[settings.head]
    C = 1.0 if given is None else given
    selected = None
    temperature = 1.0
    n = n_train + n_val
    with progress.task("Fit", 1 + (n_val > 0)) as task:
        if n_val:
            # the same λ on the training rows alone, so that validation scores are honest
            selected = _refit(Z, y, n_train, n_classes, C, settings, head, None)
            task.advance()
            if head.loss != "cross_entropy":
                temperature = fit_temperature(scores(Z[n_train:n], selected.W, selected.b), y[n_train:n])
        final = _refit(Z, y, n, n_classes, C, settings, head, selected)
        task.advance()
    how = f"C = {C:g} given" if given is not None else "C = 1, its default: no validation images to choose it on"
    return Learned(
        final,
        selected,
        (),
        -1,
        C,
        0.0 if math.isinf(C) else 1.0 / (C * _total_weight(y[:n], n_classes, settings)),
        how + (", fitted on training + validation" if n_val else ""),
        temperature,
        not_converged(final),
        final.solution.stop_reason is StopReason.INTERRUPTED,
    )


def _learn_perceptron(
    Z: FloatArray,
    y: IntArray,
    n_train: int,
    n_val: int,
    n_classes: int,
    settings: TrainSettings,
    progress: Progress,
) -> Learned:
    n = n_train + n_val

    def fit(rows: int) -> LinearFit:
        return fit_linear(
            Z[:rows],
            y[:rows],
            n_classes,
            "perceptron",
            l2=0.0,
            sample_weight=class_weights(y[:rows], n_classes, settings.class_weight),
            solver="perceptron",
            max_iter=settings.epochs,
            seed=settings.seed,
        )

    selected, temperature = None, 1.0
    with progress.task("Fit", 1 + (n_val > 0)) as task:
        if n_val:
            selected = fit(n_train)
            temperature = fit_temperature(scores(Z[n_train:n], selected.W, selected.b), y[n_train:n])
            task.advance()
        final = fit(n)
        task.advance()
    return Learned(
        final,
        selected,
        (),
        -1,
        math.nan,
        math.nan,
        f"{settings.epochs} epochs at most, weights averaged; nothing chosen on validation data but the temperature",
        temperature,
        (),
        final.solution.stop_reason is StopReason.INTERRUPTED,
    )


def not_converged(fit: LinearFit) -> tuple[Problem, ...]:
    """LL040 when the final fit stopped for another reason than convergence."""
    solution = fit.solution
    # at the end of float32's precision there is nothing left to gain, whatever the tolerance says
    if solution.stop_reason.converged or solution.stop_reason in (
        StopReason.PRECISION,
        StopReason.INTERRUPTED,
    ):
        return ()
    return (
        Problem(
            "LL040",
            f"solver stopped ({solution.stop_reason.value}) after {solution.passes:.0f} passes, "
            f"relative gradient {solution.gradient_norm:.1e}",
        ),
    )


def fit_temperature(z: FloatArray, y: IntArray) -> float:
    """T > 0 that minimises the mean of −log softmax(z / T)_y (Guo et al. 2017), by bisection of its slope.

    In β = 1/T the loss is convex, and its slope is the mean of E_p[z] − E_t[z]. The target t is not quite
    one-hot but (n onehot(y) + 1) / (n + K), the multi-class form of Platt's (1999) correction: a few
    validation images that are all right must not lead to probabilities of exactly one.
    """
    Z = z.astype(np.float64)
    n, K = Z.shape
    own = (n * Z[np.arange(n), y] + Z.sum(axis=1)) / (n + K)

    def slope(beta: float) -> float:
        shifted = beta * (Z - Z.max(axis=1, keepdims=True))
        p = np.exp(shifted)
        p /= p.sum(axis=1, keepdims=True)
        return float(np.mean((p * Z).sum(axis=1) - own))

    low, high = -12.0, 12.0  # ln β
    for _ in range(60):
        middle = 0.5 * (low + high)
        if slope(math.exp(middle)) < 0:
            low = middle
        else:
            high = middle
    return math.exp(-0.5 * (low + high))
