r"""Not answering when unsure: what it costs and what it buys, and a threshold that keeps a promise.

A classifier that answers when its confidence exceeds t has the coverage P(p > t) and the risk P(wrong | p > t).

Source: Chow 1970; El-Yaniv & Wiener 2010; AURC in Geifman, Uziel & El-Yaniv 2019.

Shapes
------
N : rows. confidence : (N,), correct : (N,) bool.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from lastlayer._arrays import BoolArray, Float64, FloatArray, InputError, IntArray
from lastlayer.evaluation.bootstrap import DRAWS, bootstrap_interval, count_draws
from lastlayer.evaluation.intervals import Estimate, Proportion, json_number

STEPS = 20
_BOOTSTRAP_ROWS = 2000


@final
@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """Risk against coverage, from answering only the surest rows to answering all.

    Attributes
    ----------
    coverage, risk : float64 (M,)
        Share answered and share wrong of those, after each different confidence.
    threshold : float64 (M,)
        The least confidence answered.
    aurc : Estimate
        Area under the curve: mean risk over all coverages, rows of equal confidence in random order.
    n : int
    """

    coverage: Float64
    risk: Float64
    threshold: Float64
    aurc: Estimate
    n: int

    @property
    def excess(self) -> float:
        """AURC beyond that of a confidence that ranks every wrong answer last (E-AURC)."""
        errors = round(float(self.risk[-1]) * self.n) if self.n else 0
        ranks = np.arange(self.n - errors + 1, self.n + 1)
        best = float(np.sum(np.arange(1, errors + 1) / ranks)) / self.n if self.n else math.nan
        return self.aurc.value - best

    def to_dict(self, most: int = 100) -> dict[str, Any]:
        """Plain values for JSON, with at most about `most` points of the curve."""
        picked = np.unique(np.linspace(0, len(self.risk) - 1, min(most, len(self.risk))).astype(int))
        return {
            "n": self.n,
            "aurc": self.aurc.to_dict(),
            "excess_aurc": json_number(self.excess),
            "coverage": self.coverage[picked].tolist(),
            "risk": self.risk[picked].tolist(),
            "threshold": self.threshold[picked].tolist(),
        }


def risk_coverage(
    confidence: FloatArray, correct: BoolArray, *, level: float = 0.95, draws: int = DRAWS, seed: int = 0
) -> RiskCoverage:
    """The curve, and its area with a bootstrap interval (above 2,000 rows of 2,000 groups of neighbours in rank)."""
    confidence, correct = _checked(confidence, correct)
    N = confidence.size
    if not N:
        empty = np.zeros(0)
        return RiskCoverage(empty, empty, empty, Estimate(math.nan, math.nan, math.nan, "no rows"), 0)
    order = np.argsort(-confidence, kind="stable")
    ranked, wrong = confidence[order], (~correct[order]).astype(np.float64)
    last = np.flatnonzero(np.diff(ranked, append=-np.inf))  # the last row of each different confidence
    errors = np.cumsum(wrong)[last]
    sizes = np.diff(last, prepend=-1)
    shares = np.diff(errors, prepend=0.0) / sizes
    spread = np.repeat(shares, sizes)  # rows of equal confidence share their errors
    return RiskCoverage((last + 1) / N, errors / (last + 1), ranked[last], _area(spread, level, draws, seed), N)


def _area(wrong: Float64, level: float, draws: int, seed: int) -> Estimate:
    """AURC of errors ranked by confidence, with its BCa interval."""
    N = wrong.size
    value = float(np.mean(np.cumsum(wrong) / np.arange(1, N + 1)))
    if N == 1:
        return Estimate(value, math.nan, math.nan, "no interval from one row")
    edges = np.linspace(0, N, min(N, _BOOTSTRAP_ROWS) + 1).astype(np.int64)
    counts = np.diff(edges)
    errors = np.add.reduceat(wrong, edges[:-1]) / counts
    grouped, influence = _ranked_mean(counts[None, :].astype(np.float64), errors)
    blocks = count_draws(counts, draws, np.random.default_rng(seed))
    drawn = np.concatenate([_ranked_mean(block.astype(np.float64), errors)[0] for block in blocks])
    # grouping moves the area by a hair; the interval is moved back with it
    low, high = bootstrap_interval(float(grouped[0]), drawn, influence, counts, level)
    shift = value - float(grouped[0])
    return Estimate(value, max(0.0, low + shift), high + shift, f"bootstrap BCa, {draws} draws")


def _ranked_mean(weights: Float64, errors: Float64) -> tuple[Float64, Float64]:
    """Σ w E / C / Σ w of weights (B, G), E and C the running errors and weights; influence of the first's groups."""
    running = np.cumsum(weights, axis=1)
    failed = np.cumsum(weights * errors, axis=1)
    risk = failed / np.maximum(running, 1e-300)
    total = running[:, -1]
    area = (weights * risk).sum(axis=1) / total
    w, C, R = weights[0], np.maximum(running[0], 1e-300), risk[0]
    # a row more at rank g raises every later C by 1 and every later E by its error
    later = np.cumsum((w / C)[::-1])[::-1]
    later_risk = np.cumsum((w * R / C)[::-1])[::-1]
    influence = R + errors * later - later_risk - area[0]
    return area, influence - float(np.sum(w * influence)) / float(total[0])


@final
@dataclass(frozen=True)
class Threshold:
    """Answer when confidence > `value`.

    Attributes
    ----------
    value : float
        The threshold; 0 answers always.
    wanted : float
        The accuracy asked for.
    confidence : float
        How sure it is that the accuracy of the answers is at least that.
    answered : Proportion
        Rows answered, of those it was chosen on.
    right : Proportion
        Right answers of those answered.
    """

    value: float
    wanted: float
    confidence: float
    answered: Proportion
    right: Proportion

    def answers(self, confidence: FloatArray) -> BoolArray:
        """Which rows are answered."""
        out: BoolArray = np.asarray(confidence) > self.value
        return out

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "value": self.value,
            "wanted": self.wanted,
            "confidence": self.confidence,
            "answered": self.answered.to_dict(),
            "right": self.right.to_dict(),
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Threshold:
        """Inverse of `to_dict`."""
        return cls(
            float(stored["value"]),
            float(stored["wanted"]),
            float(stored["confidence"]),
            Proportion.from_dict(stored["answered"]),
            Proportion.from_dict(stored["right"]),
        )


def choose_threshold(
    confidence: FloatArray, correct: BoolArray, wanted: float, *, sure: float = 0.95
) -> Threshold | None:
    r"""The threshold that answers most while the accuracy of the answers is at least `wanted`, `sure` of it.

    Thresholds that answer 5, 10, … 100% of the rows are tested from the strictest on. With k of m answers right, each
    test rejects "the accuracy is below `wanted`" where

    .. math:: P(\mathrm{Bin}(m, \text{wanted}) \ge k) \le 1 - \text{sure}

    The first that fails ends the walk; the last that passed is taken. As the order is fixed beforehand, the chance that
    a threshold is taken whose true accuracy is below `wanted` is at most 1 − `sure`, whatever the number of thresholds
    (fixed-sequence testing; Angelopoulos, Bates, Candès, Jordan & Lei 2021, "Learn then test"). The walk starts where
    there are twice the answers that could pass at all, so that one early mistake need not end it.

    Choose it on rows that the weights were not fitted on, and the promise holds for rows like them.

    Returns
    -------
    Threshold or None
        None where nothing can be promised from these rows.

    Raises
    ------
    InputError
        When `wanted` or `sure` is not between 0 and 1.
    """
    confidence, correct = _checked(confidence, correct)
    for name, share in (("the accuracy wanted", wanted), ("the confidence", sure)):
        if not 0.0 < share < 1.0:
            raise InputError(f"{name} {share} is not between 0 and 1", "Give 0.95, say")
    if not confidence.size:
        return None
    from scipy.special import bdtrc

    ranked = np.sort(confidence)[::-1]
    fewest = 2 * math.ceil(math.log(1 - sure) / math.log(wanted))
    taken: Threshold | None = None
    for value in _candidates(ranked, fewest):
        answered = confidence > value
        m = int(np.count_nonzero(answered))
        k = int(np.count_nonzero(answered & correct))
        if k == 0 or float(bdtrc(k - 1, m, wanted)) > 1 - sure:
            break
        taken = Threshold(value, wanted, sure, Proportion(m, confidence.size), Proportion(k, m))
    return taken


def _candidates(ranked: Float64, fewest: int) -> list[float]:
    """Thresholds from strict to none: the confidence of the first row that is no longer answered."""
    N = ranked.size
    numbers: IntArray = np.unique(np.ceil(N * np.arange(1, STEPS + 1) / STEPS).astype(np.int64))
    found: list[float] = []
    for number in numbers[numbers >= min(fewest, N)].tolist():
        value = float(ranked[number]) if number < N else 0.0
        answered = int(np.count_nonzero(ranked > value))  # fewer than asked for, where confidences are equal
        if answered and value not in found and (answered >= fewest or number == N):
            found.append(value)
    return found


def _checked(confidence: FloatArray, correct: BoolArray) -> tuple[Float64, BoolArray]:
    shares: Float64 = np.asarray(confidence, np.float64)
    right: BoolArray = np.asarray(correct, np.bool_)
    if shares.ndim != 1 or shares.shape != right.shape:
        raise InputError(f"confidences of shape {shares.shape} and answers of {right.shape} do not fit together")
    if not np.isfinite(shares).all():
        raise InputError("a confidence is NaN or infinite", code="LL030")
    return shares, right
