"""What a split says about a classifier: accuracy, per-class scores, confusions, log loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, final

import numpy as np

from lastlayer._arrays import Array, Float64, FloatArray, InputError, IntArray
from lastlayer.evaluation.intervals import Proportion, f1_interval, json_number
from lastlayer.evaluation.uncertainty import Answers, Uncertainty, uncertainty

SPARSE_ABOVE = 200  # classes; a dense 1000 × 1000 matrix would be most of metrics.json


@final
@dataclass(frozen=True)
class Confusion:
    """`count` of the `of` images labelled `label` were given to the class `predicted`."""

    label: int
    predicted: int
    count: int
    of: int


@final
@dataclass(frozen=True)
class ClassScore:
    """One class on one split.

    Attributes
    ----------
    name : str
        Class name.
    n : int
        Images of the split that carry this label.
    recall : Proportion
        Of the images of the class, those recognised. ``n/a`` where the split has none.
    precision : Proportion
        Of the answers "this class", those right. ``n/a`` where the class was never answered.
    f1 : float
        2 TP / (2 TP + FP + FN); NaN where the split has no image of the class.
    """

    name: str
    n: int
    recall: Proportion
    precision: Proportion
    f1: float

    @property
    def f1_interval(self) -> tuple[float, float]:
        """95% interval of F1 (`intervals.f1_interval`)."""
        return f1_interval(self.recall.k, self.n, self.precision.n)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "n": self.n,
            "recall": self.recall.to_dict(),
            "precision": self.precision.to_dict(),
            "f1": json_number(self.f1),
            "f1_low": json_number(self.f1_interval[0]),
            "f1_high": json_number(self.f1_interval[1]),
        }


@final
@dataclass(frozen=True)
class Evaluation:
    """Scores of one classifier on one split.

    Shapes
    ------
    confusion : (K, K), row = label, column = answer; entry (i, j) counts images.

    Attributes
    ----------
    split : str
        Name of the split.
    class_names : tuple of str
        Names in the order of rows and columns of `confusion`.
    confusion : integer array
        Counts; everything but `log_loss` and `top5` follows from it.
    log_loss : float
        Mean of −ln p(label), natural logarithm; NaN for an empty split.
    excluded : int
        Rows without a label, which no score counts.
    top5 : Proportion or None
        Label among the five most probable classes; None up to five classes, where it is always so.
    answers : Answers or None
        The rows behind log loss and calibration; not stored.
    stored : Uncertainty or None
        Intervals read from a file, where the rows are no longer at hand.
    """

    split: str
    class_names: tuple[str, ...]
    confusion: IntArray = field(compare=False)
    log_loss: float
    excluded: int = 0
    top5: Proportion | None = None
    answers: Answers | None = field(default=None, compare=False, repr=False)
    stored: Uncertainty | None = field(default=None, compare=False, repr=False)

    @cached_property
    def uncertainty(self) -> Uncertainty | None:
        """Intervals of balanced accuracy, macro F1, log loss and ECE; None where only counts are known."""
        if self.answers is None:
            return self.stored
        return uncertainty(self.confusion, self.answers)

    @property
    def n(self) -> int:
        """Labelled images."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> Proportion:
        """Right answers of all labelled images."""
        return Proportion(int(np.trace(self.confusion)), self.n)

    @property
    def per_class(self) -> tuple[ClassScore, ...]:
        """Scores of each class, in the order of `class_names`."""
        right = np.diagonal(self.confusion).tolist()
        labelled = self.confusion.sum(axis=1).tolist()
        answered = self.confusion.sum(axis=0).tolist()
        return tuple(
            ClassScore(
                name,
                n,
                Proportion(k, n),
                Proportion(k, a),
                2 * k / (n + a) if n else math.nan,
            )
            for name, k, n, a in zip(self.class_names, right, labelled, answered, strict=True)
        )

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall of the classes present in the split; NaN for an empty split."""
        return _mean([score.recall.value for score in self.per_class if score.n])

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the classes present in the split; NaN for an empty split."""
        return _mean([score.f1 for score in self.per_class if score.n])

    @property
    def absent(self) -> tuple[str, ...]:
        """Classes of which the split has no image (LL022)."""
        return tuple(score.name for score in self.per_class if not score.n)

    def top_confusions(self, count: int = 10) -> tuple[Confusion, ...]:
        """The most frequent mistakes, most frequent first; ties by the larger share of the class, then by order."""
        rows, columns = np.nonzero(self.confusion)
        off = rows != columns
        rows, columns = rows[off], columns[off]
        sizes = self.confusion.sum(axis=1)
        counts = self.confusion[rows, columns]
        order = np.lexsort((columns, rows, sizes[rows], -counts))[:count]
        return tuple(
            Confusion(int(i), int(j), int(k), int(sizes[i]))
            for i, j, k in zip(rows[order], columns[order], counts[order], strict=True)
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: every score with its n and interval; what is undefined is None.

        ``intervals`` holds those of the scores that are plain numbers above it, and the calibration error with bins.

        Up to 200 classes ``confusion`` is the full matrix, above it a list of ``[label, answer, count]``
        of its non-zero entries under ``confusion_entries``.
        """
        stored: dict[str, Any] = {
            "split": self.split,
            "n": self.n,
            "excluded": self.excluded,
            "accuracy": self.accuracy.to_dict(),
            "balanced_accuracy": json_number(self.balanced_accuracy),
            "macro_f1": json_number(self.macro_f1),
            "log_loss": json_number(self.log_loss),
            "top5": None if self.top5 is None else self.top5.to_dict(),
            "intervals": None if self.uncertainty is None else self.uncertainty.to_dict(),
            "class_names": list(self.class_names),
            "per_class": [score.to_dict() for score in self.per_class],
        }
        if len(self.class_names) <= SPARSE_ABOVE:
            stored["confusion"] = self.confusion.tolist()
        else:
            rows, columns = np.nonzero(self.confusion)
            entries = np.stack([rows, columns, self.confusion[rows, columns]], axis=1)
            stored["confusion_entries"] = entries.tolist()
        return stored

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Evaluation:
        """Inverse of `to_dict`; derived scores are computed again from the counts."""
        names = tuple(stored["class_names"])
        if "confusion" in stored:
            confusion = np.asarray(stored["confusion"], np.int64).reshape(len(names), len(names))
        else:
            confusion = np.zeros((len(names), len(names)), np.int64)
            entries = np.asarray(stored["confusion_entries"], np.int64).reshape(-1, 3)
            confusion[entries[:, 0], entries[:, 1]] = entries[:, 2]
        loss, top5, intervals = stored["log_loss"], stored["top5"], stored.get("intervals")
        return cls(
            stored["split"],
            names,
            confusion,
            math.nan if loss is None else float(loss),
            int(stored["excluded"]),
            None if top5 is None else Proportion.from_dict(top5),
            stored=None if intervals is None else Uncertainty.from_dict(intervals),
        )


def evaluate_scores(labels: IntArray, probabilities: FloatArray, class_names: Sequence[str], split: str) -> Evaluation:
    """Score predicted probabilities against labels.

    The answer is the class of largest probability, the first of equals.

    Shapes
    ------
    labels : (N,) in −1..K−1; −1 = no label, left out and counted in `Evaluation.excluded`.
    probabilities : (N, K), rows sum to 1.

    Raises
    ------
    InputError
        When shapes disagree, a label is out of range or a row is no distribution.
    """
    labels = np.asarray(labels)
    check_probabilities(labels, probabilities, len(class_names))
    kept = labels >= 0
    excluded = int(labels.size - np.count_nonzero(kept))
    if excluded:
        labels, probabilities = labels[kept], probabilities[kept]
    K = len(class_names)
    predicted = probabilities.argmax(axis=1) if labels.size else np.zeros(0, np.intp)
    confusion = np.bincount(labels.astype(np.intp) * K + predicted, minlength=K * K).reshape(K, K)
    losses = row_losses(labels, probabilities)
    confidence = probabilities[np.arange(labels.size), predicted].astype(np.float64)
    return Evaluation(
        split,
        tuple(class_names),
        confusion,
        float(losses.mean()) if losses.size else math.nan,
        excluded,
        _top(5, labels, probabilities) if K > 5 else None,
        Answers(losses, np.minimum(confidence, 1.0), predicted == labels),
    )


def row_losses(labels: IntArray, probabilities: FloatArray) -> Float64:
    """−ln p(label) of each row, NaN where the label is −1.

    A probability that its number format rounds to 0 would make the mean infinite: p is raised to the
    format's machine epsilon (float32: 1.2e-7, loss at most 15.9), as in scikit-learn's ``log_loss``.
    """
    labels = np.asarray(labels)
    if not labels.size:
        return np.zeros(0)
    p = probabilities[np.arange(labels.size), np.maximum(labels, 0)]
    losses = -np.log(np.maximum(p, np.finfo(probabilities.dtype).eps), dtype=np.float64)
    # −ln of a probability that rounding put just above 1 is a tiny negative number.
    return np.where(labels >= 0, np.maximum(losses, 0.0), math.nan)


def check_probabilities(labels: IntArray, probabilities: Array, n_classes: int) -> None:
    """Refuse labels and probabilities that do not belong together, naming the first bad row."""
    if labels.ndim != 1 or probabilities.shape != (labels.size, n_classes):
        raise InputError(
            f"labels have shape {labels.shape} and probabilities {probabilities.shape}; "
            f"(N,) and (N, {n_classes}) are needed"
        )
    if probabilities.dtype.kind != "f" or labels.dtype.kind not in "iu":
        raise InputError(
            f"labels are {labels.dtype} and probabilities {probabilities.dtype}; integers and floats are needed"
        )
    outside = np.flatnonzero((labels < -1) | (labels >= n_classes))
    if outside.size:
        row = int(outside[0])
        raise InputError(f"the label in row {row} is {labels[row]}; -1 to {n_classes - 1} are possible")
    sums = probabilities.sum(axis=1, dtype=np.float64)
    smallest = probabilities.min(axis=1, initial=0.0)
    # Written so that NaN is caught as well.
    bad = np.flatnonzero(~((np.abs(sums - 1) <= 1e-3) & (smallest >= 0)))
    if bad.size and n_classes:
        row = int(bad[0])
        raise InputError(
            f"the probabilities of row {row} sum to {sums[row]:.6g}, the smallest is {smallest[row]:.6g}",
            "Every row must be a distribution over the classes",
        )


def _top(count: int, labels: IntArray, probabilities: FloatArray) -> Proportion:
    """Rows whose label is among the `count` most probable; a tie counts against the label."""
    own = probabilities[np.arange(labels.size), labels]
    rank = (probabilities >= own[:, None]).sum(axis=1)  # the label itself included
    return Proportion(int(np.count_nonzero(rank <= count)), labels.size)


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
