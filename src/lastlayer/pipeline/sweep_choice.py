"""From tables of folds to a choice: which φ, how far it is from the others, and what choosing cost."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lastlayer._arrays import Float64, FloatArray, IntArray
from lastlayer._progress import Task
from lastlayer.evaluation.intervals import Estimate
from lastlayer.evaluation.resampling import corrected_interval, corrected_t_test
from lastlayer.pipeline.sweep_folds import FoldTable, Problem, fit_fold, fold_table
from lastlayer.selection.folds import Fold, make_folds


@dataclass(frozen=True, eq=False)
class Candidate:
    """One φ: its cross-validations.

    Attributes
    ----------
    phi : str
    n_features : int
    tables : tuple of FoldTable
        One a repeat, on the same folds for every φ.
    """

    phi: str
    n_features: int
    tables: tuple[FoldTable, ...]

    @property
    def accuracies(self) -> Float64:
        """Accuracy of every fold of every repeat at the repeat's own C."""
        return np.concatenate([table.accuracies for table in self.tables])

    @property
    def mean(self) -> float:
        """Mean accuracy over the folds."""
        return float(self.accuracies.mean())

    @property
    def sd(self) -> float:
        """Standard deviation (n - 1) between the folds."""
        return float(self.accuracies.std(ddof=1))

    @property
    def ratio(self) -> float:
        """Held-out rows per training row of a fold."""
        sizes = self.tables[0].sizes
        return float(sizes.mean() / (sizes.sum() - sizes.mean()))

    @property
    def interval(self) -> Estimate:
        """Mean accuracy with the interval that allows for folds and repeats sharing rows, cut at 0 and 1.

        None where all folds are equal.
        """
        return _share(corrected_interval(self.accuracies, self.ratio))

    @property
    def C(self) -> float:
        """The median of the repeats' choices, the lower of two middle ones."""
        return sorted(table.C for table in self.tables)[(len(self.tables) - 1) // 2]

    @property
    def seconds(self) -> float:
        """Seconds a fold, all values of C."""
        return float(np.mean([table.seconds.mean() for table in self.tables]))


@dataclass(frozen=True)
class Difference:
    """How much better the best φ is than another one.

    Attributes
    ----------
    phi : str
        The other one.
    points : float
        Mean difference of accuracy, fold by fold.
    p_value : float
        Two-sided, of the corrected paired t-test.
    """

    phi: str
    points: float
    p_value: float

    @property
    def within_noise(self) -> bool:
        """Whether the folds do not tell the two apart at the 5% level."""
        return self.p_value >= 0.05


@dataclass(frozen=True, eq=False)
class Nested:
    """Accuracy of "choose φ and C, then fit" on rows that had no part in it.

    Attributes
    ----------
    accuracies : tuple of float
        One a fold, the repeats one after another.
    right, n : int
        Of the first repeat, where each row counts once.
    chosen : tuple of (str, float)
        φ and C of every fold of every repeat.
    scores : ndarray (N, K)
        Of every row by the fit of the first repeat that had no part in it.
    ratio : float
        Held-out rows per training row of a fold.
    """

    accuracies: tuple[float, ...]
    right: int
    n: int
    chosen: tuple[tuple[str, float], ...]
    scores: FloatArray
    ratio: float

    @property
    def interval(self) -> Estimate:
        """Mean accuracy with the interval that allows for folds sharing rows, cut at 0 and 1."""
        return _share(corrected_interval(self.accuracies, self.ratio))

    @property
    def mean(self) -> float:
        """Mean over the folds."""
        return float(np.mean(self.accuracies))

    @property
    def sd(self) -> float:
        """Standard deviation (n - 1) between the folds."""
        return float(np.std(self.accuracies, ddof=1))


def _share(found: Estimate) -> Estimate:
    if found.low == found.high:  # scores that do not differ say nothing on how far they may
        return dataclasses.replace(found, low=math.nan, high=math.nan, method="no interval: all folds are equal")
    return dataclasses.replace(found, low=max(0.0, found.low), high=min(1.0, found.high))


def best_of(candidates: Sequence[Candidate]) -> int:
    """Index of the φ of the highest mean accuracy; ties to fewer features, then to the first."""
    order = [(-candidate.mean, candidate.n_features, i) for i, candidate in enumerate(candidates)]
    return min(order)[2]


def differences(candidates: Sequence[Candidate], best: int) -> tuple[Difference, ...]:
    """Every other φ against the best."""
    top = candidates[best]
    found = []
    for i, other in enumerate(candidates):
        if i != best:
            gaps = top.accuracies - other.accuracies
            found.append(Difference(other.phi, float(gaps.mean()), corrected_t_test(gaps, top.ratio)))
    return tuple(found)


def nested(
    problems: Sequence[tuple[str, Problem]],
    Cs: Sequence[float],
    repeats: Sequence[Sequence[Fold]],
    groups: IntArray | None,
    n_folds: int,
    seed: int,
    task: Task,
) -> Nested:
    """Choose φ and C anew by cross-validation inside every fold's training rows, fit, and score what it holds out.

    `repeats` are the outer cross-validations; the inner folds of repeat r are drawn by `seed` + r.
    """
    y = problems[0][1].y
    z = np.zeros((len(y), problems[0][1].n_classes), dtype=np.float32)
    accuracies, chosen = [], []
    for repeat, folds in enumerate(repeats):
        for fold in folds:
            phi, C, out = _chosen_inside(problems, Cs, fold, groups, n_folds, seed + repeat, task)
            if repeat == 0:
                z[fold.test] = out
            accuracies.append(float((out.argmax(axis=1) == y[fold.test]).mean()))
            chosen.append((phi, C))
    rows = np.concatenate([fold.test for fold in repeats[0]])
    right = int((z[rows].argmax(axis=1) == y[rows]).sum())
    held_out = len(rows) / len(repeats[0])
    return Nested(tuple(accuracies), right, len(rows), tuple(chosen), z, held_out / (len(rows) - held_out))


def _chosen_inside(
    problems: Sequence[tuple[str, Problem]],
    Cs: Sequence[float],
    fold: Fold,
    groups: IntArray | None,
    n_folds: int,
    seed: int,
    task: Task,
) -> tuple[str, float, FloatArray]:
    """φ and C chosen on a fold's training rows alone, and the scores of its held-out rows by their fit."""
    y = problems[0][1].y
    inner = make_folds(y[fold.train], n_folds, groups=None if groups is None else groups[fold.train], seed=seed)
    tables = [
        Candidate(phi, problem.Z.shape[1], (fold_table(problem.part(fold.train), Cs, inner, task),))
        for phi, problem in problems
    ]
    best = best_of(tables)
    return tables[best].phi, tables[best].C, fit_fold(problems[best][1], fold, tables[best].C)
