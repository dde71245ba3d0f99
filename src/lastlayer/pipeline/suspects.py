"""Labels that are probably wrong: found by cross-validation, written as an editable table that ``--labels`` takes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from lastlayer import _files
from lastlayer._arrays import Array, Float32, FloatArray, InputError, IntArray
from lastlayer._codes import Problem
from lastlayer._progress import SILENT, Progress
from lastlayer.data.dataset import Dataset
from lastlayer.evaluation.intervals import Proportion
from lastlayer.evaluation.label_issues import LabelIssues, find_label_issues
from lastlayer.selection.cross_validation import cross_validate

COLUMNS = ("path", "label", "suggested", "score")
CHECK_CS = (1e-3, 1e-2, 1e-1)
"""Values of C that a label check of its own tries; one that comes with a model takes the C chosen there."""
FOLDS = 5

_SHOWN_AS_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@final
@dataclass(frozen=True, eq=False)
class Suspects:
    """Labels of a dataset that are probably wrong.

    Attributes
    ----------
    rows : int (m,)
        Rows of the dataset that are suspected, the most suspicious first.
    labels, suggested : int (m,)
        The class they carry and the one that the cross-validated model prefers.
    score : float (m,)
        Normalised margin of the label, 0 (certainly wrong) to ½.
    p_label, p_suggested : float (m,)
        Out-of-fold probabilities of the two.
    judged : int
        Images that have a label and out-of-fold probabilities.
    estimate : int
        Wrong labels among them, as the confident joint has it.
    accuracy : Proportion
        Of the cross-validated model at `C`: how far it can be believed.
    C : float
    """

    rows: IntArray
    labels: IntArray
    suggested: IntArray
    score: FloatArray
    p_label: FloatArray
    p_suggested: FloatArray
    judged: int
    estimate: int
    accuracy: Proportion
    C: float

    def to_dict(self, names: Sequence[str], class_names: Sequence[str]) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "judged": self.judged,
            "estimate": self.estimate,
            "out_of_fold_accuracy": self.accuracy.to_dict(),
            "C": self.C,
            "suspects": [
                {
                    "path": _files.display_name(names[row]),
                    "label": class_names[label],
                    "suggested": class_names[other],
                    "score": round(float(score), 6),
                }
                for row, label, other, score in zip(
                    self.rows.tolist(), self.labels.tolist(), self.suggested.tolist(), self.score.tolist()
                )
            ],
        }


def cross_validated_probabilities(
    Z: Array,
    y: IntArray,
    n_classes: int,
    *,
    Cs: Sequence[float] = CHECK_CS,
    units: IntArray | None = None,
    sample_weight: Array | None = None,
    folds: int = FOLDS,
    seed: int = 0,
    progress: Progress = SILENT,
) -> tuple[Float32, float]:
    """Out-of-fold probabilities (N, K) at the C of the lowest held-out loss, and that C.

    They cost nothing beside the cross-validation that chooses C: every row's scores are what the fit of the fold that
    held it out gave it.

    Parameters
    ----------
    Z : float (N, D)
        Features.
    y : int (N,)
        0..K-1.
    Cs : sequence of float
        One value where it is known already.
    units : int (N,), optional
        Rows of one unit (copies, near duplicates, groups) are held out together; -1 is on its own.
    """
    groups = None if units is None or (units < 0).all() else _own_units(units)
    folds = min(folds, len(y) if groups is None else len(np.unique(groups)))
    done = cross_validate(
        Z,
        y,
        n_classes,
        "cross_entropy",
        Cs,
        folds,
        groups=groups,
        sample_weight=sample_weight,
        seed=seed,
        progress=progress,
    )
    return softmax(done.out_of_fold), done.C


def softmax(scores: FloatArray) -> Float32:
    """Probabilities of scores (N, K); NaN stays NaN."""
    z = np.exp(scores - scores.max(axis=1, keepdims=True), dtype=np.float64)
    return np.asarray(z / z.sum(axis=1, keepdims=True), dtype=np.float32)


def _own_units(units: IntArray) -> IntArray:
    """Units with a number of its own for every row that has none."""
    alone = units < 0
    return np.where(alone, int(units.max(initial=-1)) + 1 + np.cumsum(alone), units)


def suspects(rows: IntArray, labels: IntArray, probabilities: FloatArray, C: float) -> Suspects:
    """Confident learning on out-of-fold probabilities.

    Parameters
    ----------
    rows : int (N,)
        Row of the dataset of each.
    labels : int (N,)
    probabilities : float (N, K)
    C : float
        Of the model that gave them.
    """
    found: LabelIssues = find_label_issues(labels, probabilities)
    which = found.suspects
    judged = found.ranked
    right = int((probabilities[judged].argmax(axis=1) == labels[judged]).sum())
    return Suspects(
        rows=rows[which],
        labels=labels[which],
        suggested=found.suggested[which],
        score=found.score[which],
        p_label=probabilities[which, labels[which]],
        p_suggested=probabilities[which, found.suggested[which]],
        judged=len(judged),
        estimate=found.estimate,
        accuracy=Proportion(right, len(judged)),
        C=C,
    )


def suspect_problem(found: Suspects, dataset: Dataset) -> tuple[Problem, ...]:
    """LL024 with every suspected image, the most suspicious first."""
    if not len(found.rows):
        return ()
    names, classes = dataset.names, dataset.class_names
    message = (
        f"{len(found.rows):,} of {found.judged:,} labels are suspected to be wrong "
        f"(cross-validated accuracy {found.accuracy})"
    )
    details = tuple(
        f"labelled {classes[a]}, looks like {classes[b]} (p {q:.2g} against {p:.2g})"
        for a, b, p, q in zip(
            found.labels.tolist(), found.suggested.tolist(), found.p_label.tolist(), found.p_suggested.tolist()
        )
    )
    return (Problem("LL024", message, tuple(_files.display_name(names[row]) for row in found.rows.tolist()), details),)


def write_suspects(path: str | os.PathLike[str], found: Suspects, dataset: Dataset) -> None:
    """Write ``path,label,suggested,score``, the most suspicious first.

    The table can be given to ``train --labels`` as it is and then changes nothing: a row counts by its column
    ``label``. To accept a suggestion, copy it there; to take an image out, blank the label.
    """
    classes = dataset.class_names
    rows = (
        (cell_path(dataset.names[row]), cell_label(classes[label]), cell_label(classes[other]), f"{score:.6g}")
        for row, label, other, score in zip(
            found.rows.tolist(), found.labels.tolist(), found.suggested.tolist(), found.score.tolist()
        )
    )
    _files.write_csv(path, COLUMNS, rows)


def cell_path(name: str) -> str:
    """A file name as a cell of a table that people open in a spreadsheet: never a formula, still the same path.

    >>> cell_path("=1+1.png")
    './=1+1.png'
    """
    return f"./{name}" if name.startswith(_SHOWN_AS_FORMULA) or not name.strip() else name


def cell_label(name: str) -> str:
    """A class name as such a cell: a blank in front, which reading takes off again, keeps it from being a formula.

    >>> cell_label("+1")
    ' +1'
    """
    return f" {name}" if name.startswith(_SHOWN_AS_FORMULA) else name


def check_labelled(labels: IntArray, n_classes: int) -> None:
    """Refuse a label check that no cross-validation can carry out.

    Raises
    ------
    InputError
    """
    counts = np.bincount(labels, minlength=n_classes)
    if np.count_nonzero(counts) < 2 or len(labels) < 2 * FOLDS:
        raise InputError(
            f"the label check needs images of two classes, {2 * FOLDS} at least; there are {len(labels)}",
            "Leave out --label-check",
        )
