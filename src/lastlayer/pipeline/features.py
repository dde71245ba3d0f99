"""From decoded images to the feature matrix: φ fitted on training rows, applied to all, cached, standardised."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from lastlayer._arrays import BoolArray, Float32, IntArray, UInt8
from lastlayer._progress import Progress
from lastlayer.representations.base import Representation
from lastlayer.representations.cache import FeatureCache
from lastlayer.representations.specs import code_version, to_spec
from lastlayer.representations.standardise import Standardised

_BATCH_BYTES = 64 << 20


@dataclass(frozen=True)
class Features:
    """φ(x) of the rows of training, validation and test, in that order.

    Attributes
    ----------
    representation : Representation
        Fitted; includes the standardisation.
    Z : float32 (n, D)
        Rows in the order of `rows`.
    rows : int (n,)
        Row numbers in the dataset.
    reused : bool
        True when the unstandardised features came from the cache.
    """

    representation: Representation
    Z: Float32
    rows: IntArray
    reused: bool


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
) -> Features:
    """Fit φ on the first `n_train` of `rows` and transform all of them.

    The cache key holds the content hash of every image concerned, which rows φ was fitted on, its parameters
    and fitted arrays, the shape it sees and the version of its code.
    """
    train = rows[:n_train]
    fitted = phi.fit(_take(pixels, train), np.random.default_rng(seed))
    key = cache.key(
        "features",
        phi=to_spec(fitted),
        version=code_version(fitted),
        fitted=_arrays_digest(fitted),
        shape=list(pixels.shape[1:]),
        images=hashlib.sha256(np.ascontiguousarray(sha256[rows]).tobytes()).hexdigest(),
    )
    hits = cache.hits
    raw = cache.array(key, lambda: transform(fitted, pixels, rows, progress))
    reused = cache.hits > hits
    if not standardise:
        return Features(fitted, np.asarray(raw), rows, reused)
    scaled = Standardised.from_features(fitted, raw[:n_train])
    return Features(scaled, scaled.apply(raw), rows, reused)


def transform(phi: Representation, pixels: UInt8, rows: IntArray, progress: Progress) -> Float32:
    """φ of the given rows, batch by batch."""
    out = np.empty((len(rows), phi.n_features), dtype=np.float32)
    batch = max(64, _BATCH_BYTES // (4 * max(1, phi.n_features)))
    with progress.task("Features", len(rows)) as task:
        for start in range(0, len(rows), batch):
            part = rows[start : start + batch]
            out[start : start + len(part)] = phi.transform(_take(pixels, part))
            task.advance(len(part))
    return out


def _take(pixels: UInt8, rows: IntArray) -> UInt8:
    """Rows of the images; a view where the rows are consecutive."""
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and bool((np.diff(rows) == 1).all()):
        return pixels[int(rows[0]) : int(rows[-1]) + 1]
    return pixels[rows]


def _arrays_digest(phi: Representation) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(phi.arrays().items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def usable(readable: BoolArray, labels: IntArray) -> BoolArray:
    """Rows that can be learned from: readable and labelled."""
    return readable & (labels >= 0)
