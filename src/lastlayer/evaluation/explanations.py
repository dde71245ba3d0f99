"""Why one class and not another: the margin as a sum of terms, and whether a map of them is faithful.

    z_a - z_b = (b_a - b_b) + Σ_j φ_j(x) (W_ja - W_jb)

for the scores z = φ(x) W + b of class a and class b. Of a standardised representation there are two readings:

* reference "mean": the terms ``w (φ - mean) / scale``, what there is more or less of a feature than in the training
  images; the bias is the margin of their mean features. A feature that is missing speaks.
* reference "zero": the terms ``(w / scale) φ`` of the features as they are, zero where there is nothing of the feature;
  the means go to the bias.

Everything is added in float64 and compared with the scores that the model gave.

Shapes
------
image : uint8 (H, W, C), terms : float64 (D,), W : (D, K), b : (K,).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np

from lastlayer._arrays import Float64, FloatArray, InputError, IntArray, UInt8
from lastlayer.evaluation.explanations_maps import Evidence, evidence, features_of
from lastlayer.evaluation.explanations_regions import columns_of
from lastlayer.representations.base import Representation
from lastlayer.representations.chain import Chain
from lastlayer.representations.pixels import Pixels
from lastlayer.representations.standardise import Standardised
from lastlayer.representations.views import Averaged

REFERENCES = ("mean", "zero")
GRID = 7
"""Patches a side that are covered, at most."""
NARROWEST = 2
"""Pixels of a patch a side, at least."""
STEPS, ORDERS = 10, 8
"""Points of a curve, and random orders that it is compared with."""


@final
@dataclass(frozen=True)
class Part:
    """The features of one part of ``A+B``: its name, their number, and the sum of their terms."""

    name: str
    n_features: int
    total: float


@final
@dataclass(frozen=True, eq=False)
class Decomposition:
    """The margin of class a over class b, taken apart.

    Attributes
    ----------
    a, b : int
    margin : float
        From the scores that the model gave.
    bias : float
        The margin where all terms are zero.
    features, terms : float64 (D,)
        φ_j(x), as it is before standardisation, and its term.
    parts : tuple of Part
    reference : str
        What the terms are measured from, "mean" or "zero".
    """

    a: int
    b: int
    margin: float
    bias: float
    features: Float64
    terms: Float64
    parts: tuple[Part, ...]
    reference: str

    @property
    def total(self) -> float:
        """``bias + Σ terms``."""
        return self.bias + float(self.terms.sum())

    @property
    def error(self) -> float:
        """By how much the sum misses the margin: the rounding of float32 features and scores."""
        return abs(self.total - self.margin)

    def largest(self, n: int) -> IntArray:
        """Numbers of the n features with the largest terms, by size."""
        return np.argsort(-np.abs(self.terms), kind="stable")[:n]


def folded(phi: Representation, w: Float64) -> tuple[Representation, Float64, Float64]:
    """φ without its standardisation, the weights on its features, and their means (zeros where there are none)."""
    if not isinstance(phi, Standardised):
        return phi, w, np.zeros(len(w))
    if phi.mean is None or phi.scale is None:
        raise InputError("standardised is not fitted", "Call fit(images, rng) first and use what it returns")
    return phi.base, w / phi.scale.astype(np.float64), phi.mean.astype(np.float64)


def decompose(
    phi: Representation,
    W: FloatArray,
    b: FloatArray,
    image: UInt8,
    scores: FloatArray,
    classes: tuple[int, int],
    reference: str = "mean",
) -> Decomposition:
    """Take the margin between two classes apart.

    Parameters
    ----------
    phi : Representation
    W, b : (D, K), (K,)
    image : uint8 (H, W, C)
    scores : (K,)
        What the model gave for this image.
    classes : (int, int)
        a and b.
    reference : {"mean", "zero"}
        What the terms are measured from; the same where φ is not standardised.
    """
    check_reference(reference)
    first, second = classes
    base, weights, mean = folded(phi, W[:, first].astype(np.float64) - W[:, second])
    features, bias = features_of(base, image), float(b[first]) - float(b[second])
    if reference == "mean":
        terms = weights * (features - mean)
    else:
        terms, bias = weights * features, bias - float(weights @ mean)
    margin = float(scores[first]) - float(scores[second])
    return Decomposition(first, second, margin, bias, features, terms, _parts(base, terms), reference)


def check_reference(reference: str) -> None:
    """Refuse what is neither "mean" nor "zero"."""
    if reference not in REFERENCES:
        raise InputError(f"the reference is {reference!r:.40}", f"Use {' or '.join(REFERENCES)}")


def _parts(phi: Representation, terms: Float64) -> tuple[Part, ...]:
    inner = phi.base if isinstance(phi, Averaged) else phi
    return tuple(Part(_name(part), part.n_features, float(terms[columns].sum())) for part, columns in columns_of(inner))


def _name(phi: Representation) -> str:
    if isinstance(phi, Chain):
        return "/".join([*(step.name for step in phi.steps), phi.base.name, *(each.name for each in phi.maps)])
    return phi.name


def weighted_evidence(phi: Representation, w: Float64, image: UInt8, reference: str = "mean") -> Evidence:
    """The terms of weights w (D,) over the pixels."""
    check_reference(reference)
    if reference == "mean":
        return evidence(phi, image, w)
    base, weights, _ = folded(phi, w)
    return evidence(base, image, weights)


def margin_evidence(
    phi: Representation, W: FloatArray, image: UInt8, classes: tuple[int, int], reference: str = "mean"
) -> Evidence:
    """The feature terms of the margin between two classes over the pixels; sums to the terms of `decompose`."""
    return weighted_evidence(phi, W[:, classes[0]].astype(np.float64) - W[:, classes[1]], image, reference)


def class_evidence(phi: Representation, W: FloatArray, image: UInt8, k: int, reference: str = "mean") -> Evidence:
    """The feature terms of one class, its weights less the mean of all classes, over the pixels."""
    return weighted_evidence(phi, W[:, k] - W.mean(axis=1, dtype=np.float64), image, reference)


def cover_picture(phi: Representation, image: UInt8, reference: str = "mean") -> UInt8:
    """What patches are covered with, (H, W, C): a picture that has as little to say as possible.

    Pixel values are covered with the reference itself (the mean training image, or black), everything else with the
    image's median colour, which has neither edges nor texture.
    """
    base = phi.base if isinstance(phi, Standardised) else phi
    if isinstance(base, Pixels) and base.size is None and (base.color != "gray" or image.shape[2] == 1):
        mean = phi.mean if isinstance(phi, Standardised) and reference == "mean" else None
        usual = np.zeros(image.shape) if mean is None else 255.0 * mean.reshape(image.shape)
        return np.rint(usual).astype(np.uint8)
    median = np.rint(np.median(image.reshape(-1, image.shape[2]), axis=0)).astype(np.uint8)
    return np.broadcast_to(median, image.shape)


@final
@dataclass(frozen=True, eq=False)
class Occlusion:
    """What covering patches of an image does to the margin, and whether the evidence map foretells it.

    Attributes
    ----------
    rows, columns : tuple of int
        Edges of the patches.
    evidence : float64 (rows, columns)
        Sum of the map over each patch.
    drop : float64 (rows, columns)
        By how much the margin falls when it alone is covered.
    answers : int (rows, columns)
        The class answered then.
    probabilities : float64 (rows, columns)
        Of that class.
    correlation : float or None
        Rank correlation of evidence and drop; None where one of them is the same everywhere.
    by_evidence, at_random : float64 (steps + 1,)
        Margin with ever more patches covered, the first of the map first, and in random order (mean of several).
    """

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    evidence: Float64
    drop: Float64
    answers: IntArray
    probabilities: Float64
    correlation: float | None
    by_evidence: Float64
    at_random: Float64

    @property
    def gain(self) -> float:
        """Mean margin lost in the map's order, less that in random order: above 0 for a faithful map."""
        return float(self.at_random.mean() - self.by_evidence.mean())

    @property
    def noise(self) -> float:
        """Standard deviation of the rank correlation of unrelated orders, 1/√(n - 1)."""
        return 1.0 / float(np.sqrt(max(1, self.drop.size - 1)))

    def flip(self, answer: int) -> tuple[int, int] | None:
        """The patch whose covering changes the answer most surely, None where none does."""
        sure = np.where(self.answers != answer, self.probabilities, -1.0)
        row, column = np.unravel_index(int(sure.argmax()), sure.shape)
        return (int(row), int(column)) if sure[row, column] > 0 else None


def occlude(
    answer: Callable[[UInt8], tuple[FloatArray, Float64]],
    image: UInt8,
    spread: Float64,
    classes: tuple[int, int],
    cover: UInt8,
    *,
    side: int = GRID,
    seed: int = 0,
) -> Occlusion:
    """Cover patches of an image, one at a time and then one after another.

    Parameters
    ----------
    answer : callable
        Images (n, H, W, C) to scores (n, K) and probabilities (n, K).
    image : uint8 (H, W, C)
    spread : float64 (H, W)
        The evidence map.
    classes : (int, int)
        a and b of the margin.
    cover : uint8 (H, W, C)
        Patches are covered with what it has there.
    side : int
        Patches down and across; fewer where there are fewer pixels.
    seed : int
        Of the random orders.
    """
    rows, columns = (_edges(length, side) for length in image.shape[:2])
    cells = [(r, c) for r in range(len(rows) - 1) for c in range(len(columns) - 1)]
    places = [(slice(rows[r], rows[r + 1]), slice(columns[c], columns[c + 1])) for r, c in cells]
    grid = (len(rows) - 1, len(columns) - 1)
    share = np.array([spread[place].sum() for place in places])
    single = _covered(image, places, [[i] for i in range(len(places))], cover)
    z, p = answer(np.concatenate([image[None], single]))
    margins = z[:, classes[0]].astype(np.float64) - z[:, classes[1]]
    drop = margins[0] - margins[1:]
    steps = np.unique(np.linspace(0, len(places), min(STEPS, len(places)) + 1).astype(int))
    rng = np.random.default_rng(seed)
    orders = [np.argsort(-share, kind="stable"), *(rng.permutation(len(places)) for _ in range(ORDERS))]
    sets = [order[:step].tolist() for order in orders for step in steps]
    z_more, _ = answer(_covered(image, places, sets, cover))
    curves = (z_more[:, classes[0]].astype(np.float64) - z_more[:, classes[1]]).reshape(len(orders), -1)
    answers = p[1:].argmax(axis=1)
    return Occlusion(
        rows,
        columns,
        share.reshape(grid),
        drop.reshape(grid),
        answers.reshape(grid),
        p[1:][np.arange(len(answers)), answers].reshape(grid),
        rank_correlation(share, drop),
        curves[0],
        curves[1:].mean(axis=0),
    )


def _covered(image: UInt8, places: list[tuple[slice, slice]], sets: list[list[int]], cover: UInt8) -> UInt8:
    out = np.repeat(image[None], len(sets), axis=0)
    for covered, chosen in zip(out, sets):
        for i in chosen:
            covered[places[i]] = cover[places[i]]
    return out


def _edges(length: int, side: int) -> tuple[int, ...]:
    side = min(side, max(1, length // NARROWEST))
    return tuple(i * length // side for i in range(side + 1))


def rank_correlation(x: Float64, y: Float64) -> float | None:
    """Spearman's ρ with mean ranks for ties; None where one of the two is constant.

    >>> rank_correlation(np.array([1.0, 2.0, 9.0]), np.array([1.0, 3.0, 5.0]))
    1.0
    """
    a, b = (_ranks(values) for values in (x, y))
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 0 else None


def _ranks(values: Float64) -> Float64:
    _, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2.0)[codes], np.float64)


def place_name(row: int, column: int, grid: tuple[int, int]) -> str:
    """Where a patch lies, in words.

    >>> place_name(0, 6, (7, 7)), place_name(3, 3, (7, 7))
    ('top-right', 'centre')
    """
    down, across = (min(2, 3 * i // n) for i, n in zip((row, column), grid))
    words = [("top", "", "bottom")[down], ("left", "", "right")[across]]
    return "-".join(word for word in words if word) or "centre"
