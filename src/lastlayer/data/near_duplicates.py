"""Near duplicates: images that are the same picture, saved again, resized, moved, slightly cropped or brightened.

What is near is told by the data: a pair counts when its distance as copies (`near_alignment`) is a small part of the
distance at which images of its class usually have their nearest neighbour. So a set of simple shapes that all look
alike, such as handwritten digits, does not light up, and neither does a class of many images: with n images spread
over d dimensions the nearest of all pairs comes closer as n^(-2/d), and the limit goes down with it.

    limit = scale · min(SHARE, (CHANCE / (n ln 2))^(1/d))

where scale is the median distance of the nearest neighbour, and d is told by the ratio of the distances of second and
first neighbours (Facco, d'Errico, Rodriguez & Laio 2017, "Estimating the intrinsic dimension of datasets by a minimal
neighborhood information": the ratio µ has P(µ > x) = x^-d).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np

from lastlayer._arrays import Array, BoolArray, Float32, Float64, Int32, IntArray, UInt8
from lastlayer._progress import SILENT, Progress, Task
from lastlayer._threads import available_threads, parallel, single_blas_thread
from lastlayer.data.near_alignment import SMALLEST, copy_distance, copy_distance_refined, luma, working_pictures
from lastlayer.data.near_search import (
    Float16,
    close_pairs,
    describe_pictures,
    nearest_in_description,
    outlines_agree,
)

SHARE = 0.28
"""Part of the usual distance of a nearest neighbour below which a pair is of one picture."""
CHANCE = 3.0
"""Pairs of a class that chance may bring below the limit, if the class kept its dimension at all distances."""

_NEIGHBOURS = 6
_SAMPLE = 1280  # rows whose neighbours tell what is usual; of many classes more
_MOST_SAMPLED = 4096
_FEW = 20  # sampled rows below which a class borrows the numbers of all classes
_REACH = 0.9  # of the usual distance of descriptions: nearly all copies lie below, few other pairs do
# Times the limit: what one linear step leaves above, from one side and then from the nearer of both, is not refined. Of
# 407 copies in 25,000 images of CIFAR-10 one linear step left 99% below 2.0 from the nearer side, the last at 2.3.
_REFINE, _REFINE_BOTH = 2.5, 2.1
_BATCH = 128  # pairs whose working pictures stay in the cache
_TOGETHER = 16  # batches after which what was joined is no longer compared
_MOST_PAIRS = 400_000


@final
@dataclass(frozen=True, eq=False)
class NearDuplicates:
    """Groups of images that are one picture.

    Attributes
    ----------
    group : int32 (N,)
        Number of the group, by its first row; -1 for images without a near duplicate. Images with the very same
        pixels are in it as well.
    nearest : int (N,)
        The row that is nearest to it as a copy; -1 without one.
    ratio : float32 (N,)
        That distance as a part of the usual one of its class; 0 for the same pixels, infinite without a pair.
    compared : int
        Pairs that were laid over each other: those alike in description and outline.
    dropped : int
        Close pairs beyond `_MOST_PAIRS`, the least alike, that were not looked at.
    """

    group: Int32
    nearest: IntArray
    ratio: Float32
    compared: int = 0
    dropped: int = 0

    def to_dict(self) -> dict[str, int]:
        """Counts for JSON."""
        return {
            "images": int((self.group >= 0).sum()),
            "groups": int(self.group.max(initial=-1)) + 1,
            "pairs_compared": self.compared,
            "pairs_dropped": self.dropped,
        }


def find_near_duplicates(
    pixels: UInt8,
    labels: IntArray,
    usable: BoolArray | None = None,
    *,
    progress: Progress = SILENT,
    seed: int = 0,
    threads: int | None = None,
) -> NearDuplicates:
    """Find the near duplicates among images.

    Parameters
    ----------
    pixels : uint8 (N, H, W, C)
        Decoded images, all of one size.
    labels : int (N,)
        What is usual is asked of each class; -1 (no label) is one more class.
    usable : bool (N,), optional
        Rows to look at; all when not given.
    progress : Progress
    seed : int
        Of the sample that tells what is usual.
    threads : int, optional
        All cores when not given; changes no bit.

    Notes
    -----
    Memory: 500 bytes an image and blocks of fixed size. Time: N² D / 2 multiplications, D = 91, and some 0.1 ms for
    each pair compared.
    """
    usable = np.ones(len(pixels), dtype=bool) if usable is None else usable
    given = np.flatnonzero(usable)
    result = _Groups(len(pixels))
    first = _same_pixels(pixels, given, result)
    if len(first) < 3 or min(pixels.shape[1:3]) < SMALLEST:
        return result.done()
    rows = first[np.argsort(labels[first], kind="stable")]
    threads = available_threads() if threads is None else threads
    with single_blas_thread(), progress.task("Copies", 2.5 * len(rows)) as task:
        search = _Search(pixels, rows, labels[rows], *describe_pictures(pixels, rows, threads), threads)
        task.advance(len(rows), "described")
        usual = search.usual(np.random.default_rng(seed))
        i, j, distance = search.candidates(usual, task)
        result.dropped = max(0, len(i) - _MOST_PAIRS)
        near = np.argsort(distance / np.minimum(usual.reach[i], usual.reach[j]), kind="stable")[:_MOST_PAIRS]
        search.compare(i[near], j[near], usual, result, task)
    return result.done()


def _same_pixels(pixels: UInt8, rows: IntArray, result: _Groups) -> IntArray:
    """Join rows of the very same pixels; returns the first row of each picture."""
    seen: dict[bytes, int] = {}
    first = []
    for row in rows.tolist():
        digest = hashlib.blake2b(np.ascontiguousarray(pixels[row]).data, digest_size=16).digest()
        twin = seen.setdefault(digest, row)
        if twin == row:
            first.append(row)
        else:
            result.join(twin, row, 0.0)
    return np.array(first, dtype=np.int64)


@final
class _Groups:
    """Rows joined so far (union and find), with the best partner of each."""

    def __init__(self, n: int) -> None:
        self.parent = np.arange(n)
        self.nearest = np.full(n, -1, dtype=np.int64)
        self.ratio = np.full(n, np.inf, dtype=np.float32)
        self.compared = self.dropped = 0

    def root(self, row: int) -> int:
        parent = self.parent
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = int(parent[row])
        return row

    def join(self, i: int, j: int, ratio: float) -> None:
        for row, other in ((i, j), (j, i)):
            if ratio < self.ratio[row]:
                self.ratio[row], self.nearest[row] = ratio, other
        a, b = sorted((self.root(i), self.root(j)))
        self.parent[b] = a

    def apart(self, i: IntArray, j: IntArray) -> BoolArray:
        pairs = zip(i.tolist(), j.tolist())
        return np.fromiter((self.root(a) != self.root(b) for a, b in pairs), dtype=bool, count=len(i))

    def done(self) -> NearDuplicates:
        roots = np.array([self.root(row) for row in range(len(self.parent))], dtype=np.int64)
        counts = np.bincount(roots, minlength=len(roots))
        group = np.full(len(roots), -1, dtype=np.int32)
        many = np.flatnonzero(counts[roots] > 1)
        group[many] = np.unique(roots[many], return_inverse=True)[1]  # a root is the group's first row
        return NearDuplicates(group, self.nearest, self.ratio, self.compared, self.dropped)


@final
@dataclass(frozen=True, eq=False)
class _Usual:
    """What is usual for each row (n,): distance of the nearest as copies, the limit, the reach of descriptions."""

    scale: Float32
    limit: Float32
    reach: Float32


@final
@dataclass(frozen=True, eq=False)
class _Search:
    """Pictures with different pixels, sorted by class."""

    pixels: UInt8
    rows: IntArray
    labels: IntArray
    descriptions: Float32
    outlines: Float16
    threads: int

    def gray(self, which: IntArray) -> Float32:
        return luma(working_pictures(self.pixels[self.rows[which]]))

    def distances(self, i: IntArray, j: IntArray) -> Float32:
        """Distance as copies by one linear step, (P,)."""
        batches = list(_batches(len(i), _BATCH))
        parts = parallel(lambda s: copy_distance(self.gray(i[s]), self.gray(j[s])), batches, self.threads)
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def usual(self, rng: np.random.Generator) -> _Usual:
        """Measure a sample's neighbours, those that are copies themselves left out."""
        sample = self._sample(rng)
        k = min(_NEIGHBOURS, len(self.rows) - 1)
        found = nearest_in_description(self.descriptions, sample, k)
        copies = self.distances(np.repeat(sample, k), found.ravel()).reshape(len(sample), k)
        there = self.descriptions[sample]
        apart = np.sqrt(np.maximum(2 - 2 * np.einsum("nkd,nd->nk", self.descriptions[found], there, optimize=True), 0))
        flat = ~there.any(axis=1)
        copies[flat], apart[flat] = np.nan, np.nan
        return self._by_class(sample, copies, apart)

    def _sample(self, rng: np.random.Generator) -> IntArray:
        """Some rows of every class, as many of each."""
        order = rng.permutation(len(self.rows))
        _, code, counts = np.unique(self.labels[order], return_inverse=True, return_counts=True)
        size = min(_MOST_SAMPLED, max(_SAMPLE, 2 * _FEW * len(counts)))
        by_class = np.argsort(code, kind="stable")
        place = np.empty(len(order), dtype=np.int64)
        place[by_class] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.sort(order[np.argsort(place, kind="stable")[:size]])

    def _by_class(self, sample: IntArray, copies: Float32, apart: Float32) -> _Usual:
        pooled = _statistics(copies, apart)
        classes, code, counts = np.unique(self.labels, return_inverse=True, return_counts=True)
        table = np.empty((len(classes), 3))
        for k, n in enumerate(counts.tolist()):
            mine = code[sample] == k
            scale, dimension, reach = _statistics(copies[mine], apart[mine]) if mine.sum() >= _FEW else pooled
            chance = (CHANCE / (max(n, 2) * np.log(2))) ** (1 / dimension)
            table[k] = scale, scale * min(SHARE, chance), reach * _REACH
        flat = ~self.descriptions.any(axis=1)
        scale, limit, reach = table[code].astype(np.float32).T
        return _Usual(scale, np.where(flat, 0, limit), np.where(flat, 0, reach))

    def candidates(self, usual: _Usual, task: Task) -> tuple[IntArray, IntArray, Float32]:
        """Pairs that are close in description and alike in outline."""
        parts = []
        for i, j, distance in close_pairs(self.descriptions, usual.reach, task, self.threads):
            alike = outlines_agree(self.outlines, i, j)
            parts.append((i[alike], j[alike], distance[alike]))
        i, j, distance = (np.concatenate(column) for column in zip(*parts))
        return i, j, distance

    def compare(self, i: IntArray, j: IntArray, usual: _Usual, result: _Groups, task: Task) -> None:
        """Lay pairs over each other, the most alike first, and join the copies."""
        step = 0.5 * len(self.rows) / max(1, len(i))
        for s in _batches(len(i), _TOGETHER * _BATCH):
            apart = result.apart(self.rows[i[s]], self.rows[j[s]])
            a, b = i[s][apart], j[s][apart]
            result.compared += len(a)
            limit = np.minimum(usual.limit[a], usual.limit[b])
            batches = list(_batches(len(a), _BATCH))
            parts = parallel(lambda t: self._refined(a[t], b[t], limit[t]), batches, self.threads)  # noqa: B023
            distance = np.concatenate(parts) if parts else np.zeros(0, np.float32)
            ratio = distance / np.minimum(usual.scale[a], usual.scale[b])
            for p in np.flatnonzero(distance < limit).tolist():
                result.join(int(self.rows[a[p]]), int(self.rows[b[p]]), float(ratio[p]))
            task.advance(step * len(apart), f"{result.compared:,} pairs compared")

    def _refined(self, a: IntArray, b: IntArray, limit: Float32) -> Float32:
        """Distances as copies (P,) where they may lie below the limit, infinite elsewhere."""
        distance = np.full(len(a), np.inf, dtype=np.float32)
        first = self.gray(a), self.gray(b)
        one = copy_distance(*first)
        near = np.flatnonzero(one < _REFINE * limit)
        if len(near):
            other = copy_distance(first[1][near], first[0][near])
            near = near[np.minimum(one[near], other) < _REFINE_BOTH * limit[near]]
        if len(near):
            A, B = (working_pictures(self.pixels[self.rows[which[near]]]) for which in (a, b))
            there = limit[near]
            distance[near] = np.minimum(copy_distance_refined(A, B, there), copy_distance_refined(B, A, there))
        return distance


def _batches(n: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, n, size))


def _statistics(copies: Array, apart: Array) -> tuple[float, float, float]:
    """Usual distance of the nearest, dimension, and usual distance of the nearest descriptions.

    Nearest is the nearest that is no copy. A first guess of the usual distance is made from the farthest of the
    neighbours, which is no copy as long as an image has fewer copies than there are neighbours.
    """
    copies = np.sort(copies[~np.isnan(copies[:, 0])], axis=1).astype(np.float64)
    apart = np.sort(apart[~np.isnan(apart[:, 0])], axis=1).astype(np.float64)
    if not len(copies):
        return 1.0, 1.0, 0.0
    scale = 0.5 * float(np.median(copies[:, -1]))
    for _ in range(3):
        first, second, real = _first_two(copies, SHARE * scale)
        if not real.any():
            break
        scale = float(np.median(first[real]))
    real &= np.isfinite(second)
    ratio = np.median(second[real] / np.maximum(first[real], 1e-9)) if real.any() else np.inf
    dimension = float(np.log(2) / max(np.log(ratio), 1e-2))
    # descriptions are ranked apart: of an image's neighbours as many are copies there as here
    skip = np.minimum((copies < SHARE * scale).sum(axis=1), apart.shape[1] - 1)
    return scale, dimension, float(np.median(apart[np.arange(len(apart)), skip]))


def _first_two(copies: Array, limit: float) -> tuple[Float64, Float64, BoolArray]:
    """The two smallest of each row above the limit (infinite where there are none), and where there is one."""
    count = (copies < limit).sum(axis=1)
    padded = np.concatenate([copies, np.full((len(copies), 2), np.inf)], axis=1)
    every = np.arange(len(copies))
    return padded[every, count], padded[every, count + 1], count < copies.shape[1]
