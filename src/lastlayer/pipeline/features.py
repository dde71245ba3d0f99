"""From decoded images to the feature matrix: φ fitted on training rows, applied to all, cached, standardised."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from lastlayer._arrays import BoolArray, Float32, IntArray, UInt8
from lastlayer._progress import Progress
from lastlayer.representations.base import Representation
from lastlayer.representations.cache import FeatureCache
from lastlayer.representations.compact import STEPS, Rounded
from lastlayer.representations.specs import code_version, to_spec
from lastlayer.representations.standardise import Standardised
from lastlayer.representations.views import Averaged, Views, mean_of, view

_BATCH_BYTES = 64 << 20
_SECONDS = 0.5  # a batch that takes longer is large enough: progress should move
ALONE = Views()
COMPACT_FROM = 2**30
"""Numbers in a feature matrix from which on it is kept as bytes: 4 GB as float32, and as much again standardised."""
_STATISTICS_ROWS = 8192


@dataclass(frozen=True)
class Features:
    """φ(x) of the rows of training, validation and test, in that order.

    Attributes
    ----------
    representation : Representation
        Fitted; includes the views averaged and the standardisation.
    Z : float32 (n, D)
        Rows in the order of `rows`: what images are scored by.
    rows : int (n,)
        Row numbers in the dataset.
    reused : bool
        True when the unstandardised features came from the cache.
    twins : float32 (V · m, D)
        What is fitted: V views of each of the first m rows, those of one image side by side.
    n_views : int
        V.
    unit : float
        Steps of the features to a standard deviation where they are bytes, else 1: a penalty for features in these
        units is unit² times as large.
    """

    representation: Representation
    Z: Float32 | UInt8
    rows: IntArray
    reused: bool
    twins: Float32 | UInt8
    n_views: int
    unit: float = 1.0


def extract(
    phi: Representation,
    pixels: UInt8,
    sha256: UInt8,
    rows: IntArray,
    n_train: int,
    *,
    standardise: bool,
    seed: int,
    cache: FeatureCache,
    progress: Progress,
    n_val: int = 0,
    augment: Views = ALONE,
    views: Views = ALONE,
) -> Features:
    """Fit φ on the first `n_train` of `rows` and transform all of them.

    The cache key holds the content hash of every image concerned, which rows φ was fitted on, its parameters
    and fitted arrays, the shape it sees, the view and the version of its code.

    Parameters
    ----------
    n_val : int
        Rows after the training rows that are fitted as well in the end, and so have twins.
    augment : Views
        Views to fit; columns are standardised by those of the training rows.
    views : Views
        Views over which features are averaged for scoring.
    """
    train = rows[:n_train]
    fitted = phi.fit(_take(pixels, train), np.random.default_rng(seed))
    source = FeatureSource(fitted, arrays_digest(fitted), pixels, sha256, cache, progress)
    misses = cache.misses
    n_fit, V = n_train + n_val, len(augment)
    base = Averaged(fitted, views) if len(views) > 1 else fitted
    if augment == views == ALONE and standardise and len(rows) * base.n_features >= COMPACT_FROM:
        rounded, compact = source.compact(rows, n_train)
        return Features(rounded, compact, rows, cache.misses == misses, compact[:n_fit], 1, STEPS)
    if augment == views == ALONE:
        raw = source.features(rows, ALONE.moves[0])
        reused = cache.misses == misses
        if not standardise:
            return Features(base, np.asarray(raw), rows, reused, raw[:n_fit], 1)
        scaled = Standardised.from_features(base, raw[:n_train])
        Z = scaled.apply(raw)
        return Features(scaled, Z, rows, reused, Z[:n_fit], 1)
    twins = np.empty((n_fit, V, base.n_features), np.float32)

    def seen(move: tuple[bool, int, int], wanted: IntArray) -> Float32:
        found = source.features(wanted, move)
        if move in augment.moves:
            twins[:, augment.moves.index(move)] = found[:n_fit]
        return found

    Z = mean_of(seen(move, rows) for move in views.moves)
    for move in augment.moves:
        if move not in views.moves:
            seen(move, rows[:n_fit])
    reused = cache.misses == misses
    if standardise:
        base = Standardised.from_features(base, twins[:n_train].reshape(n_train * V, -1))
        Z = base.apply(Z)
        for v in range(V):
            twins[:, v] = base.apply(twins[:, v])
    return Features(base, Z, rows, reused, twins.reshape(n_fit * V, -1), V)


@dataclass(frozen=True, eq=False)
class FeatureSource:
    """A fitted φ with the images it is applied to, and the cache of what it gave."""

    phi: Representation
    digest: str
    pixels: UInt8
    sha256: UInt8
    cache: FeatureCache
    progress: Progress

    def features(self, rows: IntArray, move: tuple[bool, int, int]) -> Float32:
        """φ of one view of the rows; cached."""
        seen = {} if move == ALONE.moves[0] else {"view": list(move)}
        key = self.cache.key(
            "features",
            phi=to_spec(self.phi),
            version=code_version(self.phi),
            fitted=self.digest,
            shape=list(self.pixels.shape[1:]),
            images=hashlib.sha256(np.ascontiguousarray(self.sha256[rows]).tobytes()).hexdigest(),
            **seen,
        )
        return self.cache.array(key, lambda: transform(self.phi, self.pixels, rows, self.progress, move))

    def compact(self, rows: IntArray, n_train: int) -> tuple[Rounded, UInt8]:
        """φ as bytes, standardised by the statistics of training rows taken evenly; cached."""
        some = rows[np.unique(np.linspace(0, n_train - 1, _STATISTICS_ROWS).astype(np.intp))]
        rounded = Rounded(Standardised.from_features(self.phi, self.features(some, ALONE.moves[0])))
        key = self.cache.key(
            "bytes",
            phi=to_spec(rounded),
            version=code_version(rounded),
            fitted=arrays_digest(rounded),
            shape=list(self.pixels.shape[1:]),
            images=hashlib.sha256(np.ascontiguousarray(self.sha256[rows]).tobytes()).hexdigest(),
        )
        made = self.cache.array(key, lambda: transform(self.phi, self.pixels, rows, self.progress, rounded=rounded))
        return rounded, made


def transform(
    phi: Representation,
    pixels: UInt8,
    rows: IntArray,
    progress: Progress,
    move: tuple[bool, int, int] = ALONE.moves[0],
    rounded: Rounded | None = None,
) -> Any:
    """φ of one view of the given rows, batch by batch; as bytes where `rounded` says how.

    Batches grow as long as they take no time.
    """
    out = np.empty((len(rows), phi.n_features), dtype=np.float32 if rounded is None else np.uint8)
    most = max(64, _BATCH_BYTES // (4 * max(1, phi.n_features)))
    start, batch = 0, 64
    with progress.task("Features", len(rows)) as task:
        while start < len(rows):
            clock = time.perf_counter()
            part = rows[start : start + batch]
            images = _take(pixels, part)
            if move != ALONE.moves[0]:
                images = np.ascontiguousarray(view(np.asarray(images), move))
            Z = phi.transform(images)
            out[start : start + len(part)] = Z if rounded is None else rounded.encode(Z)
            task.advance(len(part))
            start += len(part)
            if time.perf_counter() - clock < _SECONDS:
                batch = min(4 * batch, most)
    return out


def _take(pixels: UInt8, rows: IntArray) -> UInt8:
    """Rows of the images; a view where the rows are consecutive."""
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and bool((np.diff(rows) == 1).all()):
        return pixels[int(rows[0]) : int(rows[-1]) + 1]
    return pixels[rows]


def arrays_digest(phi: Representation) -> str:
    """SHA-256 of the names, types, shapes and bytes of what was fitted."""
    digest = hashlib.sha256()
    for name, array in sorted(phi.arrays().items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def usable(readable: BoolArray, labels: IntArray) -> BoolArray:
    """Rows that can be learned from: readable and labelled."""
    return readable & (labels >= 0)
