"""What the report says in words and rows: the opening sentence, the cards, the tables."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, final

from lastlayer._codes import Problem
from lastlayer.evaluation.baselines import Baseline
from lastlayer.evaluation.intervals import Proportion
from lastlayer.evaluation.metrics import ClassScore, Confusion, Evaluation
from lastlayer.report.data import ReportData
from lastlayer.report.figures import heat_level

DENSE_UP_TO = 30  # classes shown as a table of counts
ROLES = {
    "train": "seen in training",
    "val": "used to choose the model",
    "test": "used for nothing else",
}
UNSEEN = {
    "train": ("training images", "The model was fitted on them: this says little about new images."),
    "val": ("validation images", "These images also chose the model: expect somewhat less on new ones."),
    "test": ("unseen images", ""),
}


def percent(value: float, digits: int = 1) -> str:
    """A share in percent without needless zeros, ``n/a`` for NaN.

    >>> percent(0.1), percent(0.967), percent(float("nan"))
    ('10%', '96.7%', 'n/a')
    """
    if math.isnan(value):
        return "n/a"
    text = f"{100 * value:.{digits}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) + "%"


class Sentence(NamedTuple):
    """The opening: what was right, how sure, and what guessing gives."""

    k: str
    n: str
    what: str
    value: str
    likely: str
    caution: str
    rivals: tuple[str, ...]


def opening(data: ReportData) -> Sentence | None:
    """The opening sentence, or None when no labelled image was scored."""
    evaluation = data.quoted
    if evaluation is None or evaluation.n == 0:
        return None
    score = evaluation.accuracy
    what, caution = UNSEEN.get(data.quote, ("images", ""))
    likely = f"{100 * score.low:.1f}–{100 * score.high:.1f}%"
    rivals = tuple(_rival(baseline) for baseline in data.baselines if baseline.accuracy.n)
    return Sentence(f"{score.k:,}", f"{score.n:,}", what, percent(score.value), likely, caution, rivals)


def _rival(baseline: Baseline) -> str:
    value = percent(baseline.accuracy.value)
    if baseline.name == "majority":
        return f"Guessing the most common class: {value}."
    if baseline.name == "1-NN pixels":
        return f"Copying the label of the training image with the closest pixels: {value}."
    return f"{baseline.name}: {value}."


@final
@dataclass(frozen=True)
class ScoreRow:
    """One row of the score table."""

    name: str
    accuracy: Proportion
    balanced: float | None
    log_loss: float | None
    role: str
    quoted: bool
    baseline: bool


def score_rows(data: ReportData) -> tuple[ScoreRow, ...]:
    """Splits in their order, then baselines."""
    rows = []
    for name, evaluation in data.splits.items():
        quoted = name == data.quote
        role = data.split_notes.get(name, ROLES.get(name, ""))
        if name == "test" and data.look is not None:
            role = f"{role} · look #{data.look}" if data.look == 1 else f"look #{data.look} at this split"
        if evaluation.excluded:
            role += f"{' · ' if role else ''}{evaluation.excluded:,} without label left out"
        rows.append(
            ScoreRow(name, evaluation.accuracy, evaluation.balanced_accuracy, evaluation.log_loss, role, quoted, False)
        )
    for baseline in data.baselines:
        rows.append(ScoreRow(baseline.name, baseline.accuracy, None, None, baseline.note, False, True))
    return tuple(rows)


@final
@dataclass(frozen=True)
class ClassRow:
    """One row of the per-class table: the score and the answer most often given instead."""

    index: int
    score: ClassScore
    instead: Confusion | None


def class_rows(evaluation: Evaluation) -> tuple[ClassRow, ...]:
    """Every class in the order of the names."""
    counts = evaluation.confusion.copy()
    sizes = counts.sum(axis=1)
    for k in range(len(counts)):
        counts[k, k] = 0
    rows = []
    for k, score in enumerate(evaluation.per_class):
        other = int(counts[k].argmax())
        missed = int(counts[k, other])
        rows.append(ClassRow(k, score, Confusion(k, other, missed, int(sizes[k])) if missed else None))
    return tuple(rows)


@final
@dataclass(frozen=True)
class Weakest:
    """The classes of lowest recall, whether any is below the rest beyond noise, and how many were never wrong."""

    scores: tuple[ClassScore, ...]
    below: bool
    perfect: int


def weakest(evaluation: Evaluation, count: int = 4) -> Weakest:
    """Classes with mistakes, lowest recall first (ties: more images first)."""
    present = [score for score in evaluation.per_class if score.n]
    wrong = [score for score in present if score.recall.k < score.n]
    worst = sorted(wrong, key=lambda score: (score.recall.value, -score.n))[:count]
    below = any(score.recall.high < evaluation.accuracy.value for score in worst)
    return Weakest(tuple(worst), below, len(present) - len(wrong))


@final
@dataclass(frozen=True)
class Cell:
    """One cell of the confusion table; `pictures` is the number of its picture group, or None."""

    count: int
    level: int
    right: bool
    pictures: int | None


def confusion_table(evaluation: Evaluation, groups: dict[tuple[int, int], int]) -> tuple[tuple[Cell, ...], ...]:
    """The matrix as cells with shades: right answers against 1, confusions against the largest confusion share."""
    counts = evaluation.confusion
    sizes = counts.sum(axis=1)
    K = len(counts)
    shares = [counts[i, j] / sizes[i] for i in range(K) for j in range(K) if i != j and sizes[i]]
    largest = float(max(shares, default=0.0))
    largest = max(largest, 0.1)  # a lone mistake must not look like a catastrophe
    return tuple(
        tuple(
            Cell(
                int(counts[i, j]),
                heat_level(int(counts[i, j]), int(sizes[i]), 1.0 if i == j else largest),
                i == j,
                groups.get((i, j)),
            )
            for j in range(K)
        )
        for i in range(K)
    )


FILES_LISTED = 40


@final
@dataclass(frozen=True)
class ProblemRow:
    """One problem with the first of its files, each with its reason where one is known."""

    code: str
    message: str
    mend: str
    files: tuple[tuple[str, str], ...]
    more: int


def problem_rows(problems: tuple[Problem, ...]) -> tuple[ProblemRow, ...]:
    """Problems in the order found; at most 40 files of each are listed."""
    rows = []
    for problem in problems:
        details = problem.details or ("",) * len(problem.files)
        files = tuple(zip(problem.files, details, strict=False))[:FILES_LISTED]
        rows.append(ProblemRow(problem.code, problem.message, problem.mend, files, len(problem.files) - len(files)))
    return tuple(rows)


ALTERATIONS = {
    "rotated": "turned upright as their EXIF orientation says",
    "alpha": "transparency laid over the background colour",
    "depth16": "16 bits a channel reduced to the high 8",
    "cmyk": "CMYK converted to RGB without its colour profile",
    "animated": "first frame or page used",
    "extension": "read by content: the file extension says another format",
    "exif": "EXIF data damaged: used as stored",
    "looks-12-bit": "16-bit files that seem to hold 12-bit values: very dark after reduction",
}
