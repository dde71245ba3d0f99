"""The last layer: λ chosen on validation data, then a refit on training + validation."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from lastlayer._arrays import Array, Float64, InputError, IntArray
from lastlayer._codes import Problem
from lastlayer._progress import Progress
from lastlayer.evaluation.scaling import fit_temperature
from lastlayer.linear import scores
from lastlayer.pipeline.settings import HEADS, TrainSettings
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


@dataclass(frozen=True, eq=False)
class Examples:
    """Rows to learn from: training images, then those for validation, then others.

    Attributes
    ----------
    Z : ndarray (N, D)
        Features by which images are scored.
    y : int (N,)
    twins : ndarray (V · m, D)
        Rows to fit: V views of each of the first m = n_train + n_val images, those of one image side by side. Every
        view weighs 1/V, so that an image counts as one and λ = 1/(C n) keeps its meaning.
    n_views : int
        V; with 1 the rows to fit are not weighed at all.
    n_train, n_val, n_classes : int
    unit : float
        Steps of the features to a standard deviation where they are bytes: C is for standardised features.
    """

    Z: Array
    y: IntArray
    twins: Array
    n_views: int
    n_train: int
    n_val: int
    n_classes: int
    unit: float = 1.0

    def fitted(self, n: int, rule: str) -> tuple[Array, IntArray, Float64 | None]:
        """Rows to fit of the first n images, their labels and their weights (None: all equal to 1)."""
        V = self.n_views
        weight = class_weights(self.y[:n], self.n_classes, rule)
        if V > 1:
            weight = np.repeat(np.ones(n) if weight is None else weight, V) / V
        return self.twins[: n * V], np.repeat(self.y[:n], V), weight

    @property
    def validation(self) -> tuple[Array, IntArray]:
        """Features and labels of the images for validation."""
        rows = slice(self.n_train, self.n_train + self.n_val)
        return self.Z[rows], self.y[rows]

    @property
    def n_fit(self) -> int:
        """Images of the final fit."""
        return self.n_train + self.n_val


@dataclass(frozen=True, eq=False)
class Chosen:
    """What was found on training and validation images.

    Attributes
    ----------
    fit : LinearFit or None
        Of the training images; None without images for validation.
    points : tuple of PathPoint
        One a value of C tried; empty where it was given.
    best : int
        Index in `points`, −1 where it was given.
    C : float
        NaN where the head has none.
    at_edge, interrupted : bool
    """

    fit: LinearFit | None
    points: tuple[PathPoint, ...]
    best: int
    C: float
    at_edge: bool = False
    interrupted: bool = False


def class_weights(y: IntArray, n_classes: int, rule: str) -> Float64 | None:
    """Weight of every row: n / (K nₖ) for ``balanced`` (K counts classes present), None for equal weights."""
    if not rule:
        return None
    counts = np.bincount(y, minlength=n_classes)
    present = np.count_nonzero(counts)
    weight = np.divide(len(y), present * counts, out=np.zeros(n_classes), where=counts > 0)
    out: Float64 = weight[y]
    return out


def choose(examples: Examples, settings: TrainSettings, progress: Progress) -> Chosen:
    """Fit the training images, for the value of C that does best on the validation images where it is not given.

    Raises
    ------
    InputError
        When fewer than two classes have training images.
    """
    present = np.unique(examples.y[: examples.n_train])
    if len(present) < 2:
        raise InputError(
            f"training needs images of at least two classes; {len(present)} found",
            "Add a folder of images for a second class",
        )
    if HEADS[settings.head].solver == "perceptron":
        fit = _perceptron(examples, examples.n_train, settings) if examples.n_val else None
        return Chosen(fit, (), -1, math.nan)
    given = _given_C(settings, examples.n_fit)
    if given is not None or not examples.n_val:
        C = 1.0 if given is None else given
        # the same λ on the training rows alone, so that validation scores are honest
        fit = refit(examples, examples.n_train, C, settings, None) if examples.n_val else None
        return Chosen(fit, (), -1, C)
    Z, y, weight = examples.fitted(examples.n_train, settings.class_weight)
    path = regularisation_path(
        Z,
        y,
        *examples.validation,
        examples.n_classes,
        HEADS[settings.head].loss,
        [C / examples.unit**2 for C in settings.C],
        sample_weight=weight,
        max_iter=settings.max_iter,
        progress=progress,
    )
    points = tuple(replace(p, C=p.C * examples.unit**2, l2=p.l2 / examples.unit**2) for p in path.points)
    return Chosen(path.solution, points, path.best, points[path.best].C, path.at_edge, path.interrupted)


def learn(examples: Examples, settings: TrainSettings, progress: Progress, chosen: Chosen | None = None) -> Learned:
    """Learn W and b: C chosen on the images for validation, then all rows fitted.

    Parameters
    ----------
    chosen : Chosen, optional
        What `choose` gave for these examples and settings, where it was called before.

    Raises
    ------
    InputError
        When fewer than two classes have training images.
    """
    chosen = choose(examples, settings, progress) if chosen is None else chosen
    head, n = HEADS[settings.head], examples.n_fit
    if head.solver == "perceptron":
        final = _perceptron(examples, n, settings)
    elif chosen.interrupted and chosen.fit is not None:  # no refit: the best of the path so far is what there is
        final = chosen.fit
    else:
        with progress.task("Fit", 1) as task:
            final = refit(examples, n, chosen.C, settings, chosen.fit)
            task.advance()
    problems = () if head.solver == "perceptron" else not_converged(final)
    if chosen.at_edge:
        problems = (Problem("LL041", f"best C = {chosen.C:g} is at the edge of its grid"), *problems)
    temperature = 1.0
    if head.loss != "cross_entropy" and chosen.fit is not None:
        Z, y = examples.validation
        temperature = fit_temperature(scores(Z, chosen.fit.W, chosen.fit.b), y)
    return Learned(
        final,
        chosen.fit,
        chosen.points,
        chosen.best,
        chosen.C,
        _l2(chosen.C, examples, settings),
        _how(chosen, examples, settings),
        temperature,
        problems,
        chosen.interrupted or final.solution.stop_reason is StopReason.INTERRUPTED,
    )


def _how(chosen: Chosen, examples: Examples, settings: TrainSettings) -> str:
    """How the model was selected, in one line."""
    if HEADS[settings.head].solver == "perceptron":
        most = settings.perceptron_epochs
        return f"{most} epochs at most, weights averaged; nothing chosen on validation data but the temperature"
    if chosen.points:
        right, of = chosen.points[chosen.best].val_accuracy
        tried = f"C = {chosen.C:g} chosen among {len(chosen.points)} values by validation loss ({right}/{of} right)"
        end = "; interrupted before the refit" if chosen.interrupted else ", then refitted on training + validation"
        return tried + end
    if _given_C(settings, examples.n_fit) is None:
        return f"C = {chosen.C:g}, its default: no validation images to choose it on"
    return f"C = {chosen.C:g} given" + (", fitted on training + validation" if examples.n_val else "")


def _l2(C: float, examples: Examples, settings: TrainSettings) -> float:
    """λ of the final fit: 1 / (C Σ s), 0 for an infinite C, NaN where there is none."""
    if math.isnan(C) or math.isinf(C):
        return math.nan if math.isnan(C) else 0.0
    weight = class_weights(examples.y[: examples.n_fit], examples.n_classes, settings.class_weight)
    return 1.0 / (C * (float(examples.n_fit) if weight is None else float(weight.sum())))


def _given_C(settings: TrainSettings, n: int) -> float | None:
    """The C that the settings fix, or None when it is to be chosen; λ = 0 is C = ∞."""
    if not math.isnan(settings.l2):
        return math.inf if settings.l2 == 0 else 1.0 / (settings.l2 * n)
    return settings.C[0] if len(settings.C) == 1 else None


def refit(examples: Examples, n: int, C: float, settings: TrainSettings, start: LinearFit | None) -> LinearFit:
    """Fit the first n images for this C, from `start` on where there is one."""
    head = HEADS[settings.head]
    Z, y, weight = examples.fitted(n, settings.class_weight)
    total = float(n) if weight is None else float(weight.sum())
    return fit_linear(
        Z,
        y,
        examples.n_classes,
        head.loss,
        l2=0.0 if math.isinf(C) else examples.unit**2 / (C * total),
        sample_weight=weight,
        solver=head.solver,
        max_iter=settings.max_iter,
        tol=min(0.1, GRADIENT_PER_GAP * settings.tol),
        gap=settings.tol,
        start=None if start is None else (start.W, start.b),
    )


def _perceptron(examples: Examples, n: int, settings: TrainSettings) -> LinearFit:
    Z, y, weight = examples.fitted(n, settings.class_weight)
    return fit_linear(
        Z,
        y,
        examples.n_classes,
        "perceptron",
        l2=0.0,
        sample_weight=weight,
        solver="perceptron",
        max_iter=settings.perceptron_epochs,
        seed=settings.seed,
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
