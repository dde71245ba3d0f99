"""The bootstrap where no formula will do: balanced accuracy, macro F1, mean losses; counts are drawn, not rows.

Rows that are alike (in the same cell of the confusion matrix) are one group. A draw of n rows with
replacement is then a multinomial draw of the groups' counts, so that 2,000 draws are one small matrix.

Intervals are BCa (bias-corrected and accelerated, Efron 1987, "Better bootstrap confidence intervals"). In simulation
with 100 to 1,000 images and 96 to 99% of them right the percentile interval covered 89 to 93% of the time, BCa 94.6 to
96.3%; with 40 classes of 10 images the percentile interval of macro F1 covered 81%.

Shapes
------
B : draws, G : groups, K : classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import NormalDist

import numpy as np

from lastlayer._arrays import Float64, FloatArray, IntArray
from lastlayer.evaluation.intervals import Estimate, normal_quantile, wilson_share

DRAWS = 2000
FEWEST_DRAWS = 500
MANY_ROWS = 2000
"""Rows above which the interval of a mean is BCa's own expansion instead of draws."""
LARGEST_BIAS = 0.5
"""Standard errors of bias above which BCa gives way to the basic interval."""
_DRAWN_NUMBERS = 8_000_000  # cells × draws: a thousand classes get fewer draws, at least 500
_BLOCK_NUMBERS = 1 << 20  # counts held at a time


def affordable(draws: int, groups: int) -> int:
    """`draws`, or fewer where the groups are many (a thousand classes), but at least 500."""
    return min(draws, max(FEWEST_DRAWS, _DRAWN_NUMBERS // groups))


def count_draws(counts: IntArray, draws: int, rng: np.random.Generator, width: int = 0) -> Iterator[IntArray]:
    """Bootstrap counts (≤ B, G) of the groups, block by block; `width` numbers more are needed a draw elsewhere."""
    n = int(counts.sum())
    shares = counts / n
    rows = max(1, _BLOCK_NUMBERS // (len(counts) + width))
    for start in range(0, draws, rows):
        size = min(rows, draws - start)
        if n == len(counts):  # groups of one row: drawing rows is several times faster than drawing their counts
            drawn = rng.integers(0, n, (size, n)) + n * np.arange(size)[:, None]
            yield np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)
        else:
            yield rng.multinomial(n, shares, size=size)


def bootstrap_interval(
    value: float, drawn: Float64, influence: Float64, counts: IntArray, level: float = 0.95
) -> tuple[float, float]:
    r"""BCa interval of a statistic from its bootstrap draws; the basic one where the statistic is badly biased.

    .. math::
        \Phi\Bigl(z_0 + \frac{z_0 \pm z}{1 - a (z_0 \pm z)}\Bigr) \text{ quantiles of the draws}, \quad
        z_0 = \Phi^{-1}(P(\hat\theta^* < \hat\theta)), \quad
        a = \frac{\sum c_g U_g^3}{6 (\sum c_g U_g^2)^{3/2}}

    A mean over many small classes is biased by more than its own noise: all draws lie on one side of the value and no
    quantile of them will do. Beyond |z₀| = 0.5 the interval is 2 θ̂ minus the quantiles (Davison & Hinkley 1997, §5.2).

    Parameters
    ----------
    value : float
        The statistic of the data.
    drawn : (B,)
        The statistic of each draw.
    influence : (G,)
        U: influence of a row of each group on the statistic, mean 0 over the rows; any common factor.
    counts : (G,)
        Rows of each group.

    Returns
    -------
    (float, float)
        Both equal to `value` where no row has influence.
    """
    spread = float(np.sum(counts * influence**2))
    drawn = np.sort(drawn[np.isfinite(drawn)])
    if not spread > 0 or not drawn.size:
        return value, value
    acceleration = float(np.sum(counts * influence**3)) / (6 * spread**1.5)
    # ties count half; rounding must not decide what is a tie
    slack = 1e-12 * max(1.0, abs(value))
    below = np.searchsorted(drawn, value - slack) + np.searchsorted(drawn, value + slack, side="right")
    normal = NormalDist()
    bias = normal.inv_cdf(min(max(float(below) / (2 * drawn.size), 1e-6), 1 - 1e-6))
    z = normal_quantile(level)
    if abs(bias) > LARGEST_BIAS:
        low, high = np.quantile(drawn, [normal.cdf(-z), normal.cdf(z)])
        return 2 * value - float(high), 2 * value - float(low)
    ends = []
    for side in (bias - z, bias + z):
        denominator = 1 - acceleration * side
        # beyond its pole the map is no longer monotone: the end of the draws is what is left
        quantile = normal.cdf(bias + side / denominator) if denominator > 0 else float(side > 0)
        ends.append(float(np.quantile(drawn, quantile)))
    return ends[0], ends[1]


def mean_interval(values: FloatArray, *, level: float = 0.95, draws: int = DRAWS, seed: int = 0) -> Estimate:
    r"""Mean of `values` (N,) with its BCa interval; NaN without values, and no interval for a single one.

    Above 2,000 rows nothing is drawn: with s the standard deviation and γ the skewness, BCa's ends are to second order

    .. math:: \bar x + \frac{s}{\sqrt N} \Bigl(\pm z + \frac{\gamma (2 z^2 + 1)}{6 \sqrt N}\Bigr)

    Source: Hall 1988, "Theoretical comparison of bootstrap confidence intervals".
    """
    rows: Float64 = np.asarray(values, dtype=np.float64)
    N = rows.size
    if N == 0:
        return Estimate(math.nan, math.nan, math.nan, "no rows")
    value = float(rows.mean())
    if N == 1:
        return Estimate(value, math.nan, math.nan, "no interval from one row")
    deviations = rows - value
    if N > MANY_ROWS:
        low, high = _expansion(value, deviations, normal_quantile(level))
        return Estimate(value, low, high, "BCa, to second order")
    rng = np.random.default_rng(seed)
    size = max(1, _BLOCK_NUMBERS // N)
    starts = range(0, draws, size)
    drawn = np.concatenate([rows[rng.integers(0, N, (min(size, draws - start), N))].mean(axis=1) for start in starts])
    low, high = bootstrap_interval(value, drawn, deviations, np.ones(N, dtype=np.int64), level)
    return Estimate(value, low, high, f"bootstrap BCa, {draws} draws")


def _expansion(value: float, deviations: Float64, z: float) -> tuple[float, float]:
    variance = float(np.mean(deviations**2))
    if not variance > 0:
        return value, value
    root = math.sqrt(deviations.size)
    lift = float(np.mean(deviations**3)) / variance**1.5 * (2 * z * z + 1) / (6 * root)
    step = math.sqrt(variance) / root
    return value + step * (lift - z), value + step * (lift + z)


def confusion_intervals(
    confusion: IntArray, *, level: float = 0.95, draws: int = DRAWS, seed: int = 0
) -> tuple[Estimate, Estimate]:
    """Balanced accuracy and macro F1 of a confusion matrix (K, K), with their BCa intervals.

    Both are means over the classes present; a draw in which one is missing is the mean over the others. Where every
    answer is right there is nothing to draw: the interval is then Wilson's with the effective number of images
    K² / Σ 1/nₖ, which is n for classes of equal size.

    NaN for an empty matrix.
    """
    n = confusion.sum(axis=1)
    present = np.flatnonzero(n)
    if not present.size:
        nothing = Estimate(math.nan, math.nan, math.nan, "no rows")
        return nothing, nothing
    cells = Cells(confusion)
    values = cells.values(cells.counts[None, :])
    scores = [float(values[0][0]), float(values[1][0])]
    if not np.any(confusion.sum() - np.trace(confusion)):
        effective = present.size**2 / float(np.sum(1.0 / n[present]))
        low, high = wilson_share(1.0, effective, level)
        found = Estimate(1.0, low, high, "Wilson, every answer is right")
        return found, found
    draws = affordable(draws, len(cells.counts))
    rng = np.random.default_rng(seed)
    blocks = [cells.values(block) for block in count_draws(cells.counts, draws, rng, 4 * present.size)]
    method = f"bootstrap BCa, {draws} draws"
    balanced, f1 = (
        Estimate(score, *bootstrap_interval(score, np.concatenate(drawn), influence, cells.counts, level), method)
        for score, drawn, influence in zip(scores, zip(*blocks), cells.influence(cells.counts))
    )
    return balanced, f1


class Cells:
    """The non-zero cells of a confusion matrix as groups: sums by label, by answer and on the diagonal."""

    def __init__(self, confusion: IntArray) -> None:
        present = np.flatnonzero(confusion.sum(axis=1))
        self.rows, self.columns = np.nonzero(confusion)
        self.counts = confusion[self.rows, self.columns].astype(np.int64)
        self.K = len(present)
        place = np.full(len(confusion), -1)
        place[present] = np.arange(self.K)
        self.row_starts = np.flatnonzero(np.diff(self.rows, prepend=-1))
        # answers: only classes present count; the others have no F1
        self.by_column = np.argsort(self.columns, kind="stable")
        ordered = self.columns[self.by_column]
        self.column_starts = np.flatnonzero(np.diff(ordered, prepend=-1))
        self.answered = place[ordered[self.column_starts]]
        self.diagonal = np.flatnonzero(self.rows == self.columns)
        self.hit = place[self.rows[self.diagonal]]
        self.label, self.answer = place[self.rows], place[self.columns]

    def sums(self, counts: IntArray) -> tuple[IntArray, IntArray, IntArray]:
        """Hits, images labelled and answers, each (B, K present), of counts (B, G)."""
        labelled = np.add.reduceat(counts, self.row_starts, axis=1)
        answered = np.zeros_like(labelled)
        known = self.answered >= 0
        by_column = np.add.reduceat(counts[:, self.by_column], self.column_starts, axis=1)
        answered[:, self.answered[known]] = by_column[:, known]
        hits = np.zeros_like(labelled)
        hits[:, self.hit] = counts[:, self.diagonal]
        return hits, labelled, answered

    def values(self, counts: IntArray) -> tuple[Float64, Float64]:
        """Balanced accuracy and macro F1 (B,) of counts (B, G)."""
        hits, labelled, answered = self.sums(counts)
        here = np.count_nonzero(labelled, axis=1)
        recall = hits / np.maximum(labelled, 1)  # 0 where the class is missing
        f1 = np.where(labelled > 0, 2 * hits / np.maximum(labelled + answered, 1), 0.0)
        return recall.sum(axis=1) / here, f1.sum(axis=1) / here

    def influence(self, counts: IntArray) -> tuple[Float64, Float64]:
        """Influence of a row of each cell on both scores, up to the factor n / K that BCa does not see."""
        hits, labelled, answered = (row[0] for row in self.sums(counts[None, :]))
        right = self.label == self.answer
        recall = hits / labelled
        both = labelled + answered
        f1 = 2 * hits / both
        of_label = np.where(right, 2.0, 0.0) / both[self.label] - (f1 / both)[self.label]
        known = self.answer >= 0
        of_answer = np.where(known, (f1 / both)[self.answer], 0.0)
        return (right - recall[self.label]) / labelled[self.label], of_label - of_answer
