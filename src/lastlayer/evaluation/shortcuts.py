"""What gives the class away without the picture: one property of the file, or one small region of the image.

A property is cut into cells (its values, or quantiles of a number), and a class is answered from the cell alone, by the
counts of the other folds. That needs no solver, takes any relation between value and class, and its score is that of
images the table has not seen.

Shapes
------
N : images, K : classes, B : cells, F : folds. Codes are (N,) in 0..B−1, labels (N,) in 0..K−1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from lastlayer._arrays import Array, Float64, IntArray
from lastlayer.evaluation.intervals import Proportion

FOLDS = 5


@final
@dataclass(frozen=True, eq=False)
class Table:
    """What one property says of the class, on images it has not seen.

    Attributes
    ----------
    accuracy : Proportion
        Images whose class the cell's most frequent class is.
    majority : Proportion
        Images of the most frequent class of all.
    lift : float (K,)
        For each class, how much more often its images than the others lie in cells that are typical of it: 0 says
        nothing, 1 gives the class away (the total variation distance between the two, held out).
    """

    accuracy: Proportion
    majority: Proportion
    lift: Float64

    @property
    def beats_chance(self) -> bool:
        """Whether it is better than always answering the most frequent class, by four standard errors."""
        share, n = self.accuracy.value, self.accuracy.n
        error = math.sqrt(max(share * (1 - share), 1 / n) / n)
        return share - self.majority.value > 4 * error  # many properties are asked

    @property
    def skill(self) -> float:
        """Share of what the majority gets wrong that is got right, at the lower end of the interval: at most 1."""
        room = 1.0 - self.majority.value
        return (self.accuracy.low - self.majority.value) / room if room > 0 else 0.0


def draw_folds(units: IntArray, seed: int = 0) -> IntArray:
    """Fold number of every image, (N,); images of one unit (copies, groups) are in one."""
    rng = np.random.default_rng(seed)
    _, code = np.unique(units, return_inverse=True)
    number: IntArray = rng.permutation(int(code.max(initial=-1)) + 1)[code] % FOLDS
    return number


def by_table(codes: IntArray, labels: IntArray, folds: IntArray, n_classes: int) -> Table:
    """Answer each image by the images of the other folds in its cell; empty cells answer the most frequent class."""
    cells = int(codes.max(initial=0)) + 1
    flat = (folds.astype(np.int64) * cells + codes) * n_classes + labels
    counts = np.bincount(flat, minlength=FOLDS * cells * n_classes).reshape(FOLDS, cells, n_classes)
    held = counts.sum(axis=0) - counts  # what the other folds say
    totals = held.sum(axis=1)  # (F, K)
    prior = totals / np.maximum(totals.sum(axis=1, keepdims=True), 1)
    answers = (held + 0.5 * prior[:, None, :]).argmax(axis=2)
    right = np.take_along_axis(counts, answers[..., None], axis=2).sum()
    n = len(labels)
    most = int(np.bincount(labels, minlength=n_classes).max(initial=0))
    return Table(Proportion(int(right), n), Proportion(most, n), _lift(counts, held, totals))


def _lift(counts: IntArray, held: IntArray, totals: IntArray) -> Float64:
    """Held-out true positive minus false positive rate of "this cell is more frequent among the class"."""
    rest = held.sum(axis=2, keepdims=True) - held
    others = totals.sum(axis=1, keepdims=True) - totals
    smooth = 0.5 / held.shape[1]
    among = (held + smooth) / (totals[:, None, :] + 0.5)
    elsewhere = (rest + smooth) / (others[:, None, :] + 0.5)
    typical = among > elsewhere
    own = counts.sum(axis=(0, 1))
    total = counts.sum()
    hits = np.where(typical, counts, 0).sum(axis=(0, 1))
    taken = np.where(typical, counts.sum(axis=2, keepdims=True), 0).sum(axis=(0, 1))
    true = hits / np.maximum(own, 1)
    false = (taken - hits) / np.maximum(total - own, 1)
    return np.asarray(np.where(own > 0, true - false, 0.0))


def cells_of_numbers(values: Array, cells: int) -> IntArray:
    """Quantile cells of a number, (N,); equal values are in one cell, and few different values have one each."""
    distinct, code = np.unique(values, return_inverse=True)
    if len(distinct) <= cells:
        return np.asarray(code, dtype=np.int64)
    edges = np.unique(np.quantile(values, np.arange(1, cells) / cells))
    return np.searchsorted(edges, values, side="right")


def cells_of_values(values: Sequence[object], most: int = 64) -> IntArray:
    """A cell for each of the `most` most frequent values, and one for all others, (N,)."""
    distinct, code, counts = np.unique(np.array([str(v) for v in values]), return_inverse=True, return_counts=True)
    rank = np.empty(len(distinct), dtype=np.int64)
    rank[np.argsort(-counts, kind="stable")] = np.arange(len(distinct))
    return np.minimum(rank[code], most)


def joint_cells(parts: Sequence[IntArray]) -> Array:
    """One code for several, (N,): every combination that occurs is a cell."""
    code = np.zeros(len(parts[0]), dtype=np.int64)
    for part in parts:
        code = code * (int(part.max(initial=0)) + 1) + part
    return np.asarray(np.unique(code, return_inverse=True)[1])
