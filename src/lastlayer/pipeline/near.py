"""Near duplicates of decoded images, found once for the same images and kept in the cache."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING

import numpy as np

from lastlayer._arrays import Array, Int32
from lastlayer._progress import SILENT, Progress
from lastlayer.data.dataset import Dataset
from lastlayer.data.decoding import Decoded
from lastlayer.data.splits import Split
from lastlayer.representations.cache import FeatureCache

if TYPE_CHECKING:
    from lastlayer.data.near_duplicates import NearDuplicates

_VERSION = 1
"""To be raised when the same images may give other groups."""


def near_duplicates(
    dataset: Dataset, decoded: Decoded, cache: FeatureCache, progress: Progress = SILENT
) -> NearDuplicates:
    """Near duplicates among the readable images.

    The cache key holds the content of every image, the shape it was decoded to, and its class: what is near is asked of
    each class.
    """
    from lastlayer.data.near_duplicates import NearDuplicates, find_near_duplicates

    def compute() -> Array:
        found = find_near_duplicates(decoded.pixels, dataset.labels, decoded.readable, progress=progress)
        head = np.array([[found.compared, found.dropped, 0.0]])
        return np.concatenate([head, np.column_stack([found.group, found.nearest, found.ratio]).astype(np.float64)])

    digest = hashlib.sha256(np.ascontiguousarray(decoded.sha256).data)
    digest.update(dataset.labels.astype("<i4").tobytes() + decoded.readable.tobytes())
    key = cache.key(
        "near duplicates",
        version=_VERSION,
        images=digest.hexdigest(),
        shape=[int(side) for side in decoded.pixels.shape],
    )
    table = cache.array(key, compute)
    group, nearest, ratio = table[1:].T
    return NearDuplicates(
        group.astype(np.int32), nearest.astype(np.int64), ratio.astype(np.float32), int(table[0, 0]), int(table[0, 1])
    )


def numbered_together(split: Split, near: NearDuplicates) -> Split:
    """The split with near duplicates in its column ``dup_group``.

    A group that holds identical images keeps the number these had, the smallest of several; the others are numbered
    after all of those.
    """
    from lastlayer.data.near_groups import merge_groups

    joined = merge_groups(split.dup_group, near.group)
    first = np.full(int(joined.max(initial=-1)) + 1, np.iinfo(np.int32).max, dtype=np.int64)
    same = np.flatnonzero(split.dup_group >= 0)
    np.minimum.at(first, joined[same], split.dup_group[same])
    new = np.flatnonzero(first == np.iinfo(np.int32).max)
    first[new] = int(split.dup_group.max(initial=-1)) + 1 + np.arange(len(new))
    number: Int32 = np.full(len(joined), -1, dtype=np.int32)
    tied = np.flatnonzero(joined >= 0)
    number[tied] = first[joined[tied]]
    return dataclasses.replace(split, dup_group=number)
