r"""Accuracy against the number of training images, and what twice as many would buy.

    accuracy(n) = a - b (n/N)^-c,    b >= 0, a <= 1

is fitted to accuracies measured after learning from nested subsets of the N training images, always on the same
validation images. Everything uncertain about the measurements goes into one covariance matrix Σ over the sizes:

* the validation images are a sample: the covariance over images of "right at size j", divided by their number. The
  sizes share the images, so this noise is largely common and cancels in a gain;
* the training images are a sample: the variance α/n between training sets of n images, α from the spread of the draws.
  R subsets drawn from the same N overlap by the share ρ = n/N, so their spread shows (1 - ρ) α/n only, and their mean
  still varies by (ρ + (1 - ρ)/R) α/n;
* the law is only a law: where it fits worse than Σ says (χ² above its degrees of freedom), Σ is scaled up (Birge 1932).

For every exponent c of a grid the rest is linear regression; exponents weigh by their marginal likelihood. Curves drawn
from that posterior (flat in a, b and log c) give the interval of whatever is asked of the curve.

Sources: the inverse power law of learning curves, Cortes, Jackel, Solla, Vapnik & Denker 1993; Figueroa, Zeng-Treitler,
Kandula & Ngo 2012 for its use in planning how many labels to buy; Viering & Loog 2022 for where it fails.

Shapes
------
S : sizes, R : draws of a size, V : validation images, K : classes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from lastlayer._arrays import BoolArray, Float64, InputError, IntArray
from lastlayer.evaluation.intervals import Estimate, json_number, normal_quantile

EXPONENTS = np.geomspace(0.1, 1.0, 32)
LEAST_SIZES = 4
SAMPLES = 4000
AHEAD = 4.0
"""The curve is drawn up to this many times the training images there are."""
_PLACES = 33


@final
@dataclass(frozen=True)
class CurvePoint:
    """Accuracy after learning from `n` images.

    Attributes
    ----------
    n : int
    draws : tuple of float
        Accuracy of every subset of that size.
    accuracy : Estimate
        Their mean with a 95% interval that holds for new training and new validation images of the same kind.
    """

    n: int
    draws: tuple[float, ...]
    accuracy: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"n": self.n, "draws": list(self.draws), "accuracy": self.accuracy.to_dict()}


@final
@dataclass(frozen=True)
class ClassGain:
    """What the last doubling of the training images did for a class.

    Attributes
    ----------
    index : int
        Position in the class names.
    n_train, n_val : int
        Images of the class.
    before, after : float
        Recall with half of the images and with all.
    gain : Estimate
        The difference, for these training images.
    stands_out : bool
        Whether the gain is above zero beyond noise at the 5% level, all classes taken together (Bonferroni).
    """

    index: int
    n_train: int
    n_val: int
    before: float
    after: float
    gain: Estimate
    stands_out: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "class": self.index,
            "n_train": self.n_train,
            "n_val": self.n_val,
            "before": json_number(self.before),
            "after": json_number(self.after),
            "gain": self.gain.to_dict(),
            "stands_out": self.stands_out,
        }


@final
@dataclass(frozen=True)
class Place:
    """The fitted law at `n` images."""

    n: float
    accuracy: Estimate


@final
@dataclass(frozen=True)
class LearningCurve:
    """A measured curve and what follows from it.

    Attributes
    ----------
    points : tuple of CurvePoint
        Ascending in n.
    law : tuple of Place
        The fitted curve up to four times the images there are; empty with fewer than four sizes.
    doubling : Estimate or None
        Gain of accuracy from as many images again, as a share; None without a law.
    classes : tuple of ClassGain
        Largest gain first; empty without a point at half of the images.
    n_val : int
    setting : str
        What was fitted, in words.
    """

    points: tuple[CurvePoint, ...]
    law: tuple[Place, ...]
    doubling: Estimate | None
    classes: tuple[ClassGain, ...]
    n_val: int
    setting: str

    @property
    def rising(self) -> bool:
        """Whether more images help beyond doubt: by half a point or more in 97.5 of 100 cases."""
        return self.doubling is not None and self.doubling.low >= 0.005

    def sentence(self) -> str:
        """One line: what doubling the data buys.

        >>> curve = LearningCurve((), (), Estimate(0.021, 0.012, 0.034, "law"), (), 500, "")
        >>> curve.sentence()
        'Doubling the training images buys about 2.1 points [1.2, 3.4].'
        """
        gain = self.doubling
        if gain is None:
            return f"Too few sizes ({len(self.points)}) to say what more images would buy."
        text = f"{100 * gain.value:.1f} points{gain.interval(100, 1)}"
        if gain.high < 0.005:
            return f"More images of the same kind buy little: doubling them, {text}."
        return f"Doubling the training images buys about {text}."

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "points": [point.to_dict() for point in self.points],
            "law": [{"n": place.n, "accuracy": place.accuracy.to_dict()} for place in self.law],
            "doubling": None if self.doubling is None else self.doubling.to_dict(),
            "classes": [entry.to_dict() for entry in self.classes],
            "n_val": self.n_val,
            "setting": self.setting,
            "sentence": self.sentence(),
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> LearningCurve:
        """Inverse of `to_dict`."""
        points = tuple(
            CurvePoint(int(p["n"]), tuple(map(float, p["draws"])), Estimate.from_dict(p["accuracy"]))
            for p in stored["points"]
        )
        classes = tuple(
            ClassGain(
                int(entry["class"]),
                int(entry["n_train"]),
                int(entry["n_val"]),
                math.nan if entry["before"] is None else float(entry["before"]),
                math.nan if entry["after"] is None else float(entry["after"]),
                Estimate.from_dict(entry["gain"]),
                bool(entry["stands_out"]),
            )
            for entry in stored["classes"]
        )
        law = tuple(Place(float(p["n"]), Estimate.from_dict(p["accuracy"])) for p in stored["law"])
        doubling = stored["doubling"]
        return cls(
            points,
            law,
            None if doubling is None else Estimate.from_dict(doubling),
            classes,
            int(stored["n_val"]),
            str(stored["setting"]),
        )


def learning_curve_of(
    sizes: Sequence[int],
    correct: Sequence[BoolArray],
    labels: IntArray,
    class_counts: IntArray,
    *,
    setting: str = "",
    seed: int = 0,
) -> LearningCurve:
    """The curve of what was right after learning from subsets.

    Parameters
    ----------
    sizes : sequence of int (S,)
        Ascending; the last is all training images there are.
    correct : sequence of bool (R, V)
        One array a size; R may differ, V may not.
    labels : int (V,)
        Classes of the validation images.
    class_counts : int (K,)
        Training images of each class at the last size.
    setting : str
        What was fitted, in words.
    seed : int
        Of the draws from the posterior.

    Raises
    ------
    InputError
        When shapes do not fit, or sizes do not ascend.
    """
    V = len(labels)
    if not sizes or len(sizes) != len(correct) or any(c.ndim != 2 or c.shape[1] != V or not len(c) for c in correct):
        raise InputError(f"{len(sizes)} sizes with {len(correct)} tables of answers do not fit {V} validation images")
    if not V or any(a >= b for a, b in itertools.pairwise(sizes)) or sizes[0] < 1:
        raise InputError(f"sizes {list(sizes)} must ascend from 1 up, and validation images are needed")
    shares = np.stack([np.asarray(c, np.float64).mean(axis=0) for c in correct])
    draws = [np.asarray(c, np.float64).mean(axis=1) for c in correct]
    means = shares.mean(axis=1)
    covariance = _image_noise(shares) + np.diag(_draw_noise(np.asarray(sizes, np.float64), draws))
    z = normal_quantile(0.95)
    points = tuple(
        CurvePoint(int(n), tuple(map(float, d)), _clipped(float(m), z * math.sqrt(float(v))))
        for n, d, m, v in zip(sizes, draws, means, np.diag(covariance))
    )
    law: tuple[Place, ...] = ()
    doubling: Estimate | None = None
    if len(sizes) >= LEAST_SIZES:
        relative = np.asarray(sizes, np.float64) / sizes[-1]
        places = np.unique([*np.geomspace(relative[0], AHEAD, _PLACES).tolist(), 1.0, 2.0])
        curves, gains = _posterior(relative, means, covariance, places, seed)
        law = tuple(
            Place(float(r * sizes[-1]), _quantiles(curves[:, k], "inverse power law")) for k, r in enumerate(places)
        )
        doubling = _quantiles(gains, f"inverse power law, {len(sizes)} sizes")
    classes = _class_gains(sizes, correct, labels, class_counts)
    return LearningCurve(points, law, doubling, classes, V, setting)


def _clipped(mean: float, half_width: float) -> Estimate:
    low, high = max(0.0, mean - half_width), min(1.0, mean + half_width)
    return Estimate(mean, low, high, "validation images and training draws")


def _image_noise(shares: Float64) -> Float64:
    """Covariance (S, S) of the mean accuracies from the choice of validation images.

    The noise of the last size is common to all, that of the differences from it is added. How the two are correlated
    is left out: an estimate of that goes with the accuracies themselves and would pull the fit to one side
    (Peelle's puzzle).
    """
    V = shares.shape[1]
    apart = shares - shares[-1]
    differences = np.atleast_2d(np.cov(apart, bias=True))
    share = (shares[-1].sum() + 1) / (V + 2)
    return np.asarray((differences + share * (1 - share)) / V)


def _draw_noise(sizes: Float64, draws: Sequence[Float64]) -> Float64:
    """Variance (S,) of the mean accuracies from the choice of training images."""
    rho = sizes / sizes[-1]
    several = [j for j, d in enumerate(draws) if len(d) > 1 and rho[j] < 1]
    if not several:
        return np.full(len(sizes), 1e-8)
    alphas = [sizes[j] * float(np.var(draws[j], ddof=1)) / (1 - rho[j]) for j in several]
    freedom = [len(draws[j]) - 1 for j in several]
    alpha = float(np.average(alphas, weights=freedom))
    counts = np.array([len(d) for d in draws], np.float64)
    return np.asarray(alpha / sizes * (rho + (1 - rho) / counts) + 1e-8)


def _posterior(
    relative: Float64, means: Float64, covariance: Float64, places: Float64, seed: int
) -> tuple[Float64, Float64]:
    """Curves at `places` (M, P) and gains of doubling (M,), drawn from the posterior of (a, b, c)."""
    precision: Float64 = np.linalg.inv(covariance).astype(np.float64)
    S = len(means)
    fits = [_at_exponent(relative, means, precision, c) for c in EXPONENTS.tolist()]
    best = min(chi2 for _, _, chi2 in fits)
    scale = max(1.0, best / (S - 3)) if S > 3 else 1.0
    # (a, b) integrated out leaves exp(-χ²/2) times the root of the determinant of their covariance
    logs = np.array([-0.5 * chi2 / scale + 0.5 * np.linalg.slogdet(spread)[1] for _, spread, chi2 in fits])
    weights = np.exp(logs - logs.max())
    rng = np.random.default_rng(seed)
    picked = rng.choice(len(fits), size=SAMPLES, p=weights / weights.sum())
    centres = np.stack([centre for centre, _, _ in fits])[picked]
    roots = np.stack([np.linalg.cholesky(scale * spread) for _, spread, _ in fits])[picked]
    a, b = (centres + np.einsum("mij,mj->mi", roots, rng.standard_normal((SAMPLES, 2)))).T
    here = np.clip(a - b, 0.0, 1.0)
    b = np.clip(b, 0.0, 1.0 - here)  # a curve neither falls nor ends above 1
    exponents = EXPONENTS[picked]
    curves = here[:, None] + b[:, None] * (1.0 - places[None, :] ** -exponents[:, None])
    return np.clip(curves, 0.0, 1.0), b * (1.0 - 2.0**-exponents)


def _at_exponent(relative: Float64, means: Float64, precision: Float64, c: float) -> tuple[Float64, Float64, float]:
    """Generalised least squares of (a, b) at one exponent: estimate, covariance, χ²."""
    X = np.stack([np.ones_like(relative), -(relative**-c)], axis=1)
    spread = np.linalg.inv(X.T @ precision @ X)
    estimate = spread @ (X.T @ precision @ means)
    rest = means - X @ estimate
    return estimate, 0.5 * (spread + spread.T), float(rest @ precision @ rest)


def _quantiles(values: Float64, method: str) -> Estimate:
    low, middle, high = np.quantile(values, (0.025, 0.5, 0.975)).tolist()
    return Estimate(middle, low, high, method)


def _class_gains(
    sizes: Sequence[int], correct: Sequence[BoolArray], labels: IntArray, class_counts: IntArray
) -> tuple[ClassGain, ...]:
    """Recall of every class with half of the images and with all of them, given these training images."""
    halves = [j for j, n in enumerate(sizes) if abs(n - sizes[-1] / 2) <= 0.1 * sizes[-1]]
    present = np.unique(labels[labels >= 0]).tolist()
    if not halves or not present:
        return ()
    half, full = correct[halves[-1]].astype(np.float64), correct[-1].astype(np.float64)
    z, strict = normal_quantile(0.95), normal_quantile(1 - 0.05 / len(present))
    found = []
    for k in present:
        rows = labels == k
        n = int(rows.sum())
        before, after = half[:, rows], full[:, rows].mean(axis=0)
        change = after - before.mean(axis=0)
        gain = float(change.mean())
        # n + 2: where no image changes its answer, the spread is still that of a few that might
        variance = (float(np.sum((change - gain) ** 2)) + 0.5) / (n + 2) / n
        if len(before) > 1:
            variance += float(np.var(before.mean(axis=1), ddof=1)) / len(before)
        error = math.sqrt(variance)
        estimate = Estimate(gain, gain - z * error, gain + z * error, "normal, given these training images")
        recall = float(before.mean()), float(after.mean())
        found.append(ClassGain(int(k), int(class_counts[k]), n, *recall, estimate, gain - strict * error > 0))
    return tuple(sorted(found, key=lambda entry: (-entry.gain.value, entry.index)))
