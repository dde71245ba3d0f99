"""What needs no learning: the scores a classifier must beat before it has shown anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np

from lastlayer._arrays import BoolArray, InputError, IntArray, UInt8
from lastlayer._codes import Problem
from lastlayer._progress import SILENT, Progress
from lastlayer.evaluation.comparison import PairedComparison, mcnemar
from lastlayer.evaluation.intervals import Proportion
from lastlayer.evaluation.neighbours import nearest

BUDGET_FLOPS = 1.0e12  # 10,000 × 60,000 images of 784 pixels; about ten seconds on two cores
FEWEST_QUERIES = 2_000  # below it the interval of the baseline itself grows past ±2 points


@final
@dataclass(frozen=True)
class Baseline:
    """A score without learning, on the rows of a split.

    Attributes
    ----------
    name : str
        ``majority`` or ``1-NN pixels``.
    accuracy : Proportion
        Right answers of the labelled rows looked at.
    note : str
        How it was computed, with every shortcut taken.
    rows : integer array
        The rows of the split that were answered, ascending.
    correct : bool array
        Whether each of `rows` was answered right.
    """

    name: str
    accuracy: Proportion
    note: str
    rows: IntArray = field(compare=False, repr=False, default_factory=lambda: np.zeros(0, np.int64))
    correct: BoolArray = field(compare=False, repr=False, default_factory=lambda: np.zeros(0, np.bool_))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the rows."""
        return {"name": self.name, "accuracy": self.accuracy.to_dict(), "note": self.note}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Baseline:
        """Inverse of `to_dict`; the rows are not stored, so the result cannot be compared row by row."""
        return cls(stored["name"], Proportion.from_dict(stored["accuracy"]), stored["note"])


def majority(train_labels: IntArray, labels: IntArray, class_names: Sequence[str] | None = None) -> Baseline:
    """Always answer the most common class of the training labels (the first of equals).

    Shapes
    ------
    train_labels : (M,), labels : (N,); −1 = no label, left out.
    """
    train_labels, labels = np.asarray(train_labels), np.asarray(labels)
    known = train_labels[train_labels >= 0]
    if not known.size:
        raise InputError("no training label: there is no most common class")
    most = int(np.bincount(known).argmax())
    name = class_names[most] if class_names is not None else f"class {most}"
    rows = np.flatnonzero(labels >= 0)
    share = Proportion(int(np.count_nonzero(known == most)), known.size)
    note = f"always answers {name}, {share.percent()} of the training images"
    return _baseline("majority", note, rows, labels[rows] == most)


def nearest_neighbour(
    train_pixels: UInt8,
    train_labels: IntArray,
    pixels: UInt8,
    labels: IntArray,
    *,
    budget_flops: float = BUDGET_FLOPS,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Baseline:
    """Give every image the label of the training image with the closest pixels.

    The distance is Euclidean on raw pixel values; of equally close images the one of the lowest index
    counts. The search ranks ``‖b‖² − 2 a·b``, which differs from ``‖a − b‖²`` by a constant per image,
    in blocks of a float32 matrix product: the extra memory is a few blocks, whatever N and M. From both
    sides the rounded mean training image is subtracted first, which changes no distance and keeps the
    numbers small. While ``‖b‖² + 2 ‖a‖ ‖b‖ < 2²⁴`` every value is an integer that float32 holds exactly;
    beyond, neighbours closer to each other than the rounding of float32 are ranked again in float64,
    which is exact. The result therefore depends neither on block sizes nor on the number of threads.

    Shapes
    ------
    train_pixels : (M, …) uint8, train_labels : (M,), pixels : (N, …) uint8, labels : (N,).
    Rows labelled −1 are left out on both sides.

    Parameters
    ----------
    budget_flops : float
        2·N·M·D above it draws fewer images: first fewer of `pixels`, down to 2,000 (the score stays
        unbiased, its interval widens), then fewer training images. Both keep the class proportions.
    seed : int
        Seed of that draw.
    progress : Progress
        Shown while blocks are searched.

    Raises
    ------
    InputError
        When pixels differ in shape or no training image carries a label.

    Notes
    -----
    Cover and Hart 1967, "Nearest neighbor pattern classification".
    """
    train_labels, labels = np.asarray(train_labels), np.asarray(labels)
    train_rows, rows = np.flatnonzero(train_labels >= 0), np.flatnonzero(labels >= 0)
    if pixels.shape[1:] != train_pixels.shape[1:]:
        raise InputError(f"images have shape {pixels.shape[1:]}, training images {train_pixels.shape[1:]}")
    if not train_rows.size:
        raise InputError("no labelled training image to be a neighbour")
    D = int(np.prod(pixels.shape[1:], dtype=np.int64))
    rng = np.random.default_rng(seed)
    all_train, all_queries = train_rows.size, rows.size
    room = max(1, int(budget_flops / (2 * D)))
    queries = max(min(FEWEST_QUERIES, all_queries), min(all_queries, room // all_train))
    rows = rows[stratified_sample(labels[rows], queries, rng)]
    neighbours = min(all_train, max(1, room // max(1, queries)))
    train_rows = train_rows[stratified_sample(train_labels[train_rows], neighbours, rng)]
    found = nearest(train_pixels.reshape(-1, D), train_rows, pixels.reshape(-1, D), rows, progress)
    sizes = f"{_of(rows.size, all_queries)} images against {_of(train_rows.size, all_train)}"
    drawn = rows.size < all_queries or train_rows.size < all_train
    note = f"label of the training image with the closest {D:,} pixel values: {sizes}"
    note += f", drawn by class with seed {seed} to bound the time" if drawn else ""
    return _baseline("1-NN pixels", note, rows, train_labels[found] == labels[rows])


def stratified_sample(labels: IntArray, size: int, rng: np.random.Generator) -> IntArray:
    """Ascending positions of `size` rows in which every class keeps its share, to within one row.

    Shares are rounded by largest remainder, ties to the lower class.
    """
    if size >= labels.size:
        return np.arange(labels.size)
    classes, counts = np.unique(labels, return_counts=True)
    share = size * counts / labels.size
    quota = np.floor(share).astype(np.int64)
    extra = np.argsort(-(share - quota), kind="stable")[: size - int(quota.sum())]
    quota[extra] += 1
    picked = [rng.choice(np.flatnonzero(labels == c), q, replace=False) for c, q in zip(classes, quota, strict=True)]
    return np.sort(np.concatenate(picked))


def paired(correct: BoolArray, baseline: Baseline) -> PairedComparison:
    """Compare a model with a baseline on the rows the baseline answered; `correct` is (N,) over the whole split."""
    correct = np.asarray(correct, np.bool_)
    if baseline.rows.size and baseline.rows[-1] >= correct.size:
        raise InputError(f"{correct.size} answers given, the baseline answered row {baseline.rows[-1]}")
    return mcnemar(correct[baseline.rows], baseline.correct)


def separated(correct: BoolArray, baseline: Baseline) -> bool:
    """Whether the model is better than the baseline beyond noise (paired exact McNemar, 5%)."""
    return paired(correct, baseline).first_better


def unseparated_problems(correct: BoolArray, baselines: Iterable[Baseline], split: str) -> tuple[Problem, ...]:
    """One LL021 for each baseline that the model does not beat beyond noise on this split."""
    problems = []
    for baseline in baselines:
        pair = paired(correct, baseline)
        if pair.first_better:
            continue
        verdict = "is worse than" if pair.separated else "is not separated from"
        message = (
            f"{split}: the model {verdict} the baseline {baseline.name} ({baseline.accuracy}); right where it is "
            f"wrong {pair.only_first}, the reverse {pair.only_second}, exact McNemar p = {pair.p_value:.2g}"
        )
        problems.append(Problem("LL021", message))
    return tuple(problems)


def _baseline(name: str, note: str, rows: IntArray, correct: BoolArray) -> Baseline:
    return Baseline(name, Proportion(int(np.count_nonzero(correct)), rows.size), note, rows, correct)


def _of(part: int, whole: int) -> str:
    return f"{whole:,}" if part == whole else f"{part:,} of {whole:,}"
