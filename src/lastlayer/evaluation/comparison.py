"""Two classifiers on the same images: whether they differ by more than noise, and by how much."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from lastlayer._arrays import BoolArray, Float64, InputError, IntArray
from lastlayer.evaluation.bootstrap import DRAWS, Cells, affordable, bootstrap_interval, count_draws, mean_interval
from lastlayer.evaluation.intervals import Estimate, newcombe

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss")


@final
@dataclass(frozen=True)
class PairedComparison:
    """Two classifiers on the same images, by the images on which only one of them is right.

    Attributes
    ----------
    only_first, only_second : int
        Images only the first, only the second got right.
    n : int
        Images compared.
    p_value : float
        Exact two-sided McNemar: the chance of a split at least this uneven were both equally good.
    both : int
        Images both got right.
    """

    only_first: int
    only_second: int
    n: int
    p_value: float
    both: int = 0

    @property
    def separated(self) -> bool:
        """Whether the two differ beyond noise at the 5% level."""
        return self.p_value < 0.05

    @property
    def first_better(self) -> bool:
        """Whether the first is better beyond noise."""
        return self.separated and self.only_first > self.only_second

    @property
    def difference(self) -> Estimate:
        """Accuracy of the first minus that of the second, with Newcombe's paired 95% interval."""
        if not self.n:
            return Estimate(math.nan, math.nan, math.nan, "no rows")
        neither = self.n - self.both - self.only_first - self.only_second
        low, high = newcombe(self.both, self.only_first, self.only_second, neither)
        return Estimate((self.only_first - self.only_second) / self.n, low, high, "Newcombe, paired")

    def __str__(self) -> str:
        return (
            f"only the first right {self.only_first}, only the second {self.only_second} of {self.n}: "
            f"exact McNemar p = {self.p_value:.2g}"
        )


def mcnemar(first: BoolArray, second: BoolArray) -> PairedComparison:
    r"""Exact McNemar test of two classifiers on the same rows.

    With b and c the rows only the first and only the second got right, and m = b + c,

    .. math:: p = \min\Bigl(1,\; 2 \sum_{i=0}^{\min(b, c)} \binom{m}{i} 2^{-m}\Bigr)

    Shapes
    ------
    first, second : (N,) bool, whether each row was answered right.

    Source: McNemar 1947; exact binomial form in Dietterich 1998.
    """
    first, second = np.asarray(first, np.bool_), np.asarray(second, np.bool_)
    if first.shape != second.shape or first.ndim != 1:
        raise InputError(f"answers of shapes {first.shape} and {second.shape} cannot be paired")
    b = int(np.count_nonzero(first & ~second))
    c = int(np.count_nonzero(second & ~first))
    both = int(np.count_nonzero(first & second))
    if b + c == 0:
        return PairedComparison(b, c, first.size, 1.0, both)
    from scipy.special import bdtr

    p = min(1.0, 2 * float(bdtr(min(b, c), b + c, 0.5)))
    return PairedComparison(b, c, first.size, p, both)


@final
@dataclass(frozen=True, eq=False)
class Answered:
    """What a classifier said of labelled rows.

    Attributes
    ----------
    labels, predicted : int (N,)
        Classes 0..K−1.
    losses : float (N,)
        −ln p(label).
    """

    labels: IntArray
    predicted: IntArray
    losses: Float64

    @property
    def correct(self) -> BoolArray:
        """Whether each row was answered right."""
        out: BoolArray = self.labels == self.predicted
        return out


@final
@dataclass(frozen=True)
class MetricDifference:
    """One score of two classifiers on the same rows.

    Attributes
    ----------
    metric : str
    first, second : float
    difference : Estimate
        first − second.
    p_value : float
        Two-sided, of no difference.
    test : str
        Which test.
    pair : PairedComparison
        Right and wrong, row by row.
    """

    metric: str
    first: float
    second: float
    difference: Estimate
    p_value: float
    test: str
    pair: PairedComparison

    @property
    def first_ahead(self) -> bool:
        """Whether the first has the better value, noise or not."""
        return self.first < self.second if self.metric == "log_loss" else self.first > self.second

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "metric": self.metric,
            "first": self.first,
            "second": self.second,
            "difference": self.difference.to_dict(),
            "p_value": self.p_value,
            "test": self.test,
            "n": self.pair.n,
            "only_first_right": self.pair.only_first,
            "only_second_right": self.pair.only_second,
        }


def compare_answers(
    first: Answered, second: Answered, metric: str = "accuracy", *, draws: int = DRAWS, seed: int = 0
) -> MetricDifference:
    """Compare two classifiers on the same rows by one score.

    * ``accuracy``: exact McNemar, Newcombe's paired interval.
    * ``balanced_accuracy``, ``macro_f1``: paired bootstrap over (label, answer, answer) counts, and a randomisation
      test that swaps the two answers of each row with probability ½ (Noreen 1989; Yeh 2000).
    * ``log_loss``: the mean of the differences of the rows with its BCa interval, and the same randomisation, which
      flips their signs.

    Raises
    ------
    InputError
        When the rows differ in number or label, or the metric is not known.
    """
    if metric not in METRICS:
        raise InputError(f"unknown metric {metric!r}", f"Use one of {', '.join(METRICS)}")
    if not np.array_equal(first.labels, second.labels) or not first.labels.size:
        raise InputError(f"{first.labels.size} and {second.labels.size} rows, not the same labels: no pairs")
    pair = mcnemar(first.correct, second.correct)
    if metric == "accuracy":
        a, b = float(first.correct.mean()), float(second.correct.mean())
        return MetricDifference(metric, a, b, pair.difference, pair.p_value, "exact McNemar", pair)
    test = f"randomisation, {draws} draws"
    if metric == "log_loss":
        gaps = first.losses - second.losses
        difference = mean_interval(gaps, draws=draws, seed=seed)
        p = sign_flip_test(gaps, draws, seed)
        return MetricDifference(
            metric, float(first.losses.mean()), float(second.losses.mean()), difference, p, test, pair
        )
    return _by_confusion(first, second, metric, pair, draws, seed)


def sign_flip_test(differences: Float64, draws: int = DRAWS, seed: int = 0) -> float:
    """Two-sided p-value of paired differences with mean 0, by flipping their signs; at least 1 / (draws + 1)."""
    used = differences[differences != 0]
    if not used.size:
        return 1.0
    rng = np.random.default_rng(seed)
    seen = abs(float(used.sum())) * (1 - 1e-12)
    reached, block = 0, max(1, (1 << 22) // used.size)
    for start in range(0, draws, block):
        rows = min(block, draws - start)
        bits = np.unpackbits(rng.integers(0, 256, (rows, -(-used.size // 8)), dtype=np.uint8), axis=1)[:, : used.size]
        # 2 Σ over the rows kept − Σ over all is the sum with signs
        totals = 2 * np.einsum("bg,g->b", bits, used) - float(used.sum())
        reached += int(np.count_nonzero(np.abs(totals) >= seen))
    return (1 + reached) / (1 + draws)


def _by_confusion(
    first: Answered, second: Answered, metric: str, pair: PairedComparison, draws: int, seed: int
) -> MetricDifference:
    """Balanced accuracy or macro F1: rows with the same label and the same two answers are one group."""
    which = ("balanced_accuracy", "macro_f1").index(metric)
    K = 1 + int(max(first.labels.max(), first.predicted.max(), second.predicted.max()))
    triples = np.stack([first.labels, first.predicted, second.predicted], axis=1)
    groups, counts = np.unique(triples, axis=0, return_counts=True)
    draws = affordable(draws, len(counts))
    one, two = groups[:, 0] * K + groups[:, 1], groups[:, 0] * K + groups[:, 2]
    both = np.bincount(np.concatenate([one, two]), weights=np.tile(counts, 2), minlength=K * K)
    cells = Cells(both.astype(np.int64).reshape(K, K))
    known = np.flatnonzero(both)
    place = np.stack([np.searchsorted(known, one), np.searchsorted(known, two)])

    def score(weights: IntArray, cell: IntArray) -> Float64:
        return cells.values(_collect(weights, cell, known.size))[which]

    whole = counts[None, :]
    values = [float(score(whole, cell)[0]) for cell in place]
    rng = np.random.default_rng(seed)
    blocks = count_draws(counts, draws, rng, 6 * K)
    drawn = np.concatenate([score(block, place[0]) - score(block, place[1]) for block in blocks])
    influences = [cells.influence(_collect(whole, cell, known.size)[0])[which][cell] for cell in place]
    difference = values[0] - values[1]
    low, high = bootstrap_interval(difference, drawn, influences[0] - influences[1], counts, 0.95)
    p = _swap_test(counts, place, score, difference, draws, rng, 6 * K)
    estimate = Estimate(difference, low, high, f"paired bootstrap BCa, {draws} draws")
    return MetricDifference(metric, values[0], values[1], estimate, p, f"randomisation, {draws} draws", pair)


def _swap_test(
    counts: IntArray, place: IntArray, score: Any, seen: float, draws: int, rng: np.random.Generator, width: int
) -> float:
    if np.array_equal(place[0], place[1]):
        return 1.0
    rows = max(1, (1 << 20) // (2 * len(counts) + width))
    reached = 0
    for start in range(0, draws, rows):
        swapped = rng.binomial(counts, 0.5, size=(min(rows, draws - start), len(counts)))
        kept = counts - swapped
        first = score(np.concatenate([kept, swapped], axis=1), np.concatenate([place[0], place[1]]))
        second = score(np.concatenate([kept, swapped], axis=1), np.concatenate([place[1], place[0]]))
        reached += int(np.count_nonzero(np.abs(first - second) >= abs(seen) * (1 - 1e-12)))
    return (1 + reached) / (1 + draws)


def _collect(weights: IntArray, cell: IntArray, n_cells: int) -> IntArray:
    """Sum columns of weights (B, M) that belong to the same of `n_cells` cells; returns (B, n_cells)."""
    order = np.argsort(cell, kind="stable")
    starts = np.flatnonzero(np.diff(cell[order], prepend=-1))
    out = np.zeros((len(weights), n_cells), dtype=np.int64)
    out[:, cell[order][starts]] = np.add.reduceat(weights[:, order], starts, axis=1)
    return out


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """p-values corrected for their number: the smallest is multiplied by m, the next by m − 1, …; none decreases.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    out = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[i]))
        out[i] = largest
    return tuple(out)
