"""Labels that are probably wrong: found by cross-validation, written as an editable table that ``--labels`` takes."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from lastlayer import _files
from lastlayer._arrays import Array, Float32, FloatArray, InputError, IntArray
from lastlayer._codes import Problem
from lastlayer._progress import SILENT, Progress
from lastlayer.data.dataset import Dataset
from lastlayer.evaluation.intervals import Proportion
from lastlayer.evaluation.label_issues import LabelIssues, find_label_issues
from lastlayer.selection.cross_validation import cross_validate

if TYPE_CHECKING:
    from lastlayer.pipeline.learn import Examples, Learned
    from lastlayer.pipeline.preparing import Prepared
    from lastlayer.pipeline.settings import Execution, TrainSettings

FILE = "labels.suspect.csv"
COLUMNS = ("path", "label", "suggested", "score")
CHECK_CS = (1e-3, 1e-2, 1e-1)
"""Values of C that a label check of its own tries; one that comes with a model takes the C chosen there."""
FOLDS = 5

# Of fits that only rank labels: early ones are as good, or better. Of 5% wrong labels among 60,000 MNIST images 96.5%
# (hog) and 75.8% (pixels) were in the top at these, in 7 to 8 s of CPU; 95.8% in 22 s, 75.2% in 33 s at tighter ones.
_TOL, _GAP = 0.9, 5e-3
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
    loss: str = "cross_entropy",
    temperature: float = 1.0,
    tol: float = 0.1,
    gap: float = 1e-4,
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
    loss : str
        cross_entropy, squared or squared_hinge.
    temperature : float
        By which scores are divided before the softmax.
    tol, gap : float
        Of every fit: relative gradient norm, and share of the objective that a further step may still promise.
    """
    groups = None if units is None or (units < 0).all() else _own_units(units)
    folds = min(folds, len(y) if groups is None else len(np.unique(groups)))
    done = cross_validate(
        Z,
        y,
        n_classes,
        loss,
        Cs,
        folds,
        groups=groups,
        sample_weight=sample_weight,
        tol=tol,
        gap=gap,
        seed=seed,
        progress=progress,
    )
    return softmax(done.out_of_fold / np.float32(temperature)), done.C


@final
@dataclass(frozen=True, eq=False)
class LabelCheck:
    """The label check of a training run.

    Attributes
    ----------
    found : Suspects
    problems : tuple of Problem
        LL024 where a label is suspected.
    folds : int
    seconds : float
    """

    found: Suspects
    problems: tuple[Problem, ...]
    folds: int
    seconds: float

    def line(self) -> str:
        """One line for the terminal."""
        suspected, judged = len(self.found.rows), self.found.judged
        end = f", see {FILE}" if suspected else ""
        return f"{suspected:,} of {judged:,} suspected to be wrong, by {self.folds} folds at C = {self.found.C:g}{end}"

    def write(self, folder: Path, dataset: Dataset) -> None:
        """Write ``labels.suspect.csv`` into the run's folder; nothing where no label is suspected."""
        if len(self.found.rows):
            write_suspects(folder / FILE, self.found, dataset)

    def to_dict(self, dataset: Dataset) -> dict[str, Any]:
        """Plain values for JSON."""
        document = self.found.to_dict(dataset.names, dataset.class_names)
        return {**document, "folds": self.folds, "seconds": round(self.seconds, 3)}


def label_suspects(
    examples: Examples,
    learned: Learned,
    rows: IntArray,
    prepared: Prepared,
    settings: TrainSettings,
    execution: Execution,
) -> LabelCheck | None:
    """Judge the labels of training and validation images by K folds at the run's own C; test images are not looked at.

    Parameters
    ----------
    examples, learned
        What was learned from, and what came of it.
    rows : int (N,)
        Row of the dataset of each example; the first `examples.n_fit` are judged.

    Returns
    -------
    LabelCheck or None
        None where it was switched off, the fit was interrupted, or out-of-fold scores are not to be had cheaply:
        without a C (the perceptron), of features kept as bytes, of too few images, or with a class in one fold alone.
        Ctrl-C leaves it out, and the run goes on.
    """
    from lastlayer.pipeline.learn import class_weights
    from lastlayer.pipeline.settings import HEADS

    n = examples.n_fit
    y = np.asarray(examples.y[:n], dtype=np.int64)
    counts = np.bincount(y, minlength=examples.n_classes)
    usual = math.isfinite(learned.C) and learned.C > 0 and examples.unit == 1.0
    if not settings.label_check or learned.interrupted or not usual or n < 2 * FOLDS or (counts == 1).any():
        return None
    units = prepared.split.unit[rows[:n]].astype(np.int64)
    if any(len(np.unique(units[y == k])) < 2 for k in np.flatnonzero(counts).tolist()):
        return None
    began = time.perf_counter()
    head = HEADS[settings.head]
    try:
        probabilities, C = cross_validated_probabilities(
            examples.Z[:n],
            y,
            examples.n_classes,
            Cs=(learned.C,),
            units=units,
            sample_weight=class_weights(y, examples.n_classes, settings.class_weight),
            loss=head.loss,
            temperature=learned.temperature,
            tol=_TOL,
            gap=_GAP,
            seed=settings.seed,
            progress=execution.progress,
        )
    except KeyboardInterrupt:
        return None
    found = suspects(rows[:n], y, probabilities, C)
    folds = min(FOLDS, len(np.unique(_own_units(units))))
    return LabelCheck(found, suspect_problem(found, prepared.dataset), folds, time.perf_counter() - began)


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
