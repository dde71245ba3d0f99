r"""Sets of classes that hold the right one as often as promised, whatever the model: split conformal prediction.

With scores s(x, y), small where y is plausible, and s₁ … s_n those of the labels of rows held out for it, the set is

    C(x) = {y : s(x, y) ≤ q},    q = the ⌈(n + 1) c⌉-th smallest of s₁ … s_n  (∞ where there are not so many)

and P(label ∈ C(x)) is at least the coverage c, at most c + 1/(n + 1) where scores do not tie, if new rows are like
those held out. That holds on average over rows held out; for the rows at hand see `PredictionSets.range`.

Scores
    * ``lac``: 1 − p_y. The smallest sets on average (Sadinle, Lei & Wasserman 2019).
    * ``aps``: Σ_{j more probable than y} p_j + u p_y. Sets that grow on hard images (Romano, Sesia & Candès 2020).
    * ``raps``: aps + penalty · max(0, rank(y) − allowed): no long tails of classes (Angelopoulos et al. 2021).

u in [0, 1) splits the step of the last class, without which aps and raps promise less than they deliver. It comes from
the bits of the row's own probabilities (`row_uniforms`): the set of an image never depends on those beside it, nor on
the order, and as a fixed function of the row it leaves the promise exact.

Shapes
------
N : rows, K : classes. probabilities : (N, K), labels : (N,), sets : (N, K) bool.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from lastlayer._arrays import BoolArray, Float64, FloatArray, InputError, IntArray
from lastlayer.evaluation.bootstrap import mean_interval
from lastlayer.evaluation.intervals import Estimate, Proportion

RULES = ("lac", "aps", "raps")


@final
@dataclass(frozen=True, eq=False)
class PredictionSets:
    """A fitted rule; using it needs NumPy alone.

    Attributes
    ----------
    rule : str
        ``lac``, ``aps`` or ``raps``.
    coverage : float
        The share promised.
    thresholds : float64 (K,)
        q of every class; all equal unless `by_class`. Infinite where the rows do not suffice for the promise: the class
        is then in every set.
    n : int
        Rows it was fitted on.
    by_class : bool
        Whether the promise holds within every class (Mondrian; Vovk 2012) and not just overall.
    penalty, allowed : float, int
        Of ``raps``.
    randomised : bool
        Whether u is drawn; else it is 1, and sets are larger.
    """

    rule: str
    coverage: float
    thresholds: Float64
    n: int
    by_class: bool = False
    penalty: float = 0.0
    allowed: int = 0
    randomised: bool = True

    def sets(self, probabilities: FloatArray, *, allow_empty: bool = True) -> BoolArray:
        """Which classes are in the set of each row.

        Parameters
        ----------
        probabilities : (N, K)
        allow_empty : bool
            An empty set says that no class is plausible. False: such a set gets the most probable class, and the
            coverage only rises.
        """
        p = _checked_probabilities(probabilities, self.thresholds.size)
        scores = self._scores(p)
        inside: BoolArray = scores <= self.thresholds
        if not allow_empty:
            empty = np.flatnonzero(~inside.any(axis=1))
            inside[empty, p[empty].argmax(axis=1)] = True
        return inside

    def _scores(self, p: Float64) -> Float64:
        u = row_uniforms(p) if self.randomised else np.ones(len(p))
        return class_scores(p, self.rule, u, self.penalty, self.allowed)

    def range(self, level: float = 0.95) -> tuple[float, float]:
        """Within which the coverage of these thresholds on new rows lies, with probability `level`.

        It is distributed as Beta(k, n + 1 − k) with k = ⌈(n + 1) c⌉ (Vovk 2012). NaN by class.
        """
        from scipy.special import betaincinv

        k = math.ceil((self.n + 1) * self.coverage - 1e-9)
        if self.by_class:
            return math.nan, math.nan
        if k > self.n:
            return 1.0, 1.0
        low, high = (float(betaincinv(k, self.n + 1 - k, q)) for q in ((1 - level) / 2, (1 + level) / 2))
        return low, high

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; an infinite threshold is None."""
        return {
            "rule": self.rule,
            "coverage": self.coverage,
            "thresholds": [float(q) if math.isfinite(q) else None for q in self.thresholds],
            "n": self.n,
            "by_class": self.by_class,
            "penalty": self.penalty,
            "allowed": self.allowed,
            "randomised": self.randomised,
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> PredictionSets:
        """Inverse of `to_dict`."""
        thresholds = np.array([math.inf if q is None else float(q) for q in stored["thresholds"]])
        return cls(**{**stored, "thresholds": thresholds})


def fit_sets(
    probabilities: FloatArray,
    labels: IntArray,
    coverage: float = 0.95,
    *,
    rule: str = "lac",
    by_class: bool = False,
    penalty: float = 0.01,
    allowed: int = 5,
    randomised: bool = True,
) -> PredictionSets:
    """Fit prediction sets on rows that the weights were not fitted on; rows labelled −1 are left out.

    Parameters
    ----------
    probabilities : (N, K)
    labels : (N,)
    coverage : float
        The share of sets that shall hold the right class.
    rule : {"lac", "aps", "raps"}
    by_class : bool
        Promise it for the images of every class; a class needs (about) coverage / (1 − coverage) rows, and is in every
        set without them.
    penalty, allowed : float, int
        ``raps``: what a class beyond the first `allowed` ranks costs.
    randomised : bool
        ``aps`` and ``raps``: draw u (see the module).
    """
    p = _checked_probabilities(probabilities, None)
    labels = np.asarray(labels)
    if labels.shape != p.shape[:1]:
        raise InputError(f"probabilities have shape {p.shape} and labels {labels.shape}; (N, K) and (N,) are needed")
    kept = labels >= 0
    p, y = p[kept], labels[kept].astype(np.intp)
    if y.size and int(y.max()) >= p.shape[1]:
        raise InputError(f"a label is {y.max()}; there are {p.shape[1]} classes")
    if rule not in RULES:
        raise InputError(f"unknown rule {rule!r}", f"Use one of {', '.join(RULES)}")
    unfitted = PredictionSets(
        rule,
        coverage,
        np.full(p.shape[1], math.inf),
        y.size,
        by_class,
        penalty if rule == "raps" else 0.0,
        allowed if rule == "raps" else 0,
        randomised and rule != "lac",
    )
    own = unfitted._scores(p)[np.arange(y.size), y]
    return _fitted(unfitted, own, y)


def fit_sets_from_labels(p_label: FloatArray, labels: IntArray, n_classes: int, coverage: float = 0.95, *,
                         by_class: bool = False) -> PredictionSets:  # fmt: skip
    """``lac`` sets from the probabilities of the labels alone, such as the column p_label of ``predictions.csv``."""
    labels = np.asarray(labels)
    kept = labels >= 0
    own: Float64 = 1.0 - np.asarray(p_label, np.float64)[kept]
    y = labels[kept].astype(np.intp)
    unfitted = PredictionSets("lac", coverage, np.full(n_classes, math.inf), y.size, by_class, randomised=False)
    return _fitted(unfitted, own, y)


def _fitted(unfitted: PredictionSets, own: Float64, y: IntArray) -> PredictionSets:
    K = unfitted.thresholds.size
    coverage = unfitted.coverage
    if not 0.0 < coverage < 1.0:
        raise InputError(f"the coverage {coverage} is not between 0 and 1", "Give 0.9, say")
    if unfitted.by_class:
        thresholds = np.array([_quantile(own[y == k], coverage) for k in range(K)])
    else:
        thresholds = np.full(K, _quantile(own, coverage))
    return PredictionSets(
        unfitted.rule,
        coverage,
        thresholds,
        unfitted.n,
        unfitted.by_class,
        unfitted.penalty,
        unfitted.allowed,
        unfitted.randomised,
    )


def class_scores(p: Float64, rule: str, u: Float64, penalty: float = 0.0, allowed: int = 0) -> Float64:
    """s(x, y) of every class, (N, K), for u (N,); equally probable classes come in their own order."""
    if rule == "lac":
        return np.asarray(1.0 - p)
    order = np.argsort(-p, axis=1, kind="stable")
    ranked = np.take_along_axis(p, order, axis=1)
    above = np.cumsum(ranked, axis=1) - ranked
    scores = above + u[:, None] * ranked
    if rule == "raps":
        scores += penalty * np.maximum(0, np.arange(1, p.shape[1] + 1) - allowed)
    out = np.empty_like(scores)
    np.put_along_axis(out, order, scores, axis=1)
    return out


def row_uniforms(probabilities: FloatArray) -> Float64:
    """A number in [0, 1) for every row, from the bits of that row alone (splitmix64 over its float64 values)."""
    bits = np.ascontiguousarray(probabilities, dtype=np.float64).view(np.uint64)
    state = np.full(len(bits), 0x9E3779B97F4A7C15, dtype=np.uint64)
    for column in bits.T:
        state = _mix(state ^ column)
    return np.asarray((state >> np.uint64(11)) * 2.0**-53)


def _mix(x: Any) -> Any:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (x ^ (x >> np.uint64(31))) + np.uint64(0x9E3779B97F4A7C15)


def _quantile(scores: Float64, coverage: float) -> float:
    # 1e-9: (n + 1) c may be a whole number that floats put a hair above it
    k = math.ceil((scores.size + 1) * coverage - 1e-9)
    return float(np.partition(scores, k - 1)[k - 1]) if k <= scores.size else math.inf


@final
@dataclass(frozen=True)
class SetScores:
    """What sets were worth on rows with labels.

    Attributes
    ----------
    covered : Proportion
        Sets that hold the label.
    size : Estimate
        Mean number of classes.
    single, empty : Proportion
        Sets of one class, of none.
    worst : tuple of (int, Proportion) or None
        The class of lowest coverage.
    """

    covered: Proportion
    size: Estimate
    single: Proportion
    empty: Proportion
    worst: tuple[int, Proportion] | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "covered": self.covered.to_dict(),
            "size": self.size.to_dict(),
            "single": self.single.to_dict(),
            "empty": self.empty.to_dict(),
            "worst_class": None if self.worst is None else {"class": self.worst[0], **self.worst[1].to_dict()},
        }


def score_sets(sets: BoolArray, labels: IntArray) -> SetScores:
    """Coverage and size of sets (N, K); rows labelled −1 are left out."""
    labels = np.asarray(labels)
    kept = labels >= 0
    sets, y = sets[kept], labels[kept].astype(np.intp)
    held = sets[np.arange(y.size), y]
    sizes = sets.sum(axis=1)
    counts = np.bincount(y, minlength=sets.shape[1])
    right = np.bincount(y[held], minlength=sets.shape[1])
    present = np.flatnonzero(counts)
    worst: tuple[int, Proportion] | None = None
    if present.size:
        k = int(present[np.argmin(right[present] / counts[present])])
        worst = k, Proportion(int(right[k]), int(counts[k]))
    return SetScores(
        Proportion(int(np.count_nonzero(held)), y.size),
        mean_interval(sizes),
        Proportion(int(np.count_nonzero(sizes == 1)), y.size),
        Proportion(int(np.count_nonzero(sizes == 0)), y.size),
        worst,
    )


def _checked_probabilities(probabilities: FloatArray, n_classes: int | None) -> Float64:
    p = np.asarray(probabilities, np.float64)
    if p.ndim != 2 or (n_classes is not None and p.shape[1] != n_classes):
        raise InputError(f"probabilities have shape {p.shape}; (N, {n_classes or 'K'}) is needed")
    if not np.isfinite(p).all():
        raise InputError("a probability is NaN or infinite", code="LL030")
    return p
