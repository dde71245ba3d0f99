"""Images that are each other's mirror image: with flips they are the same example, and must not part in a split."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np

from lastlayer._arrays import Int32, IntArray
from lastlayer._codes import Problem
from lastlayer._files import display_name
from lastlayer.data.dataset import NONE, SPLIT_NAMES, TRAIN, Dataset
from lastlayer.data.decoding import Decoded
from lastlayer.data.splits import Split


def mirror_pairs(decoded: Decoded) -> IntArray:
    """Pairs (P, 2) of rows whose decoded pixels are each other's mirror image, to the bit."""
    rows = np.flatnonzero(decoded.readable)
    own: dict[bytes, list[int]] = {}
    pairs: list[tuple[int, int]] = []
    for row in rows.tolist():
        image = np.asarray(decoded.pixels[row])
        own.setdefault(_hash(image), []).append(row)
    for row in rows.tolist():
        mirrored = own.get(_hash(np.asarray(decoded.pixels[row])[:, ::-1]), [])
        pairs += [(row, other) for other in mirrored if other > row]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _hash(image: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()


def tie(dataset: Dataset, pairs: IntArray) -> Dataset:
    """The dataset with both rows of every pair in one group; groups that a pair touches become one."""
    if not len(pairs):
        return dataset
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(dataset)
    groups = np.full(n, -1, np.int32) if dataset.groups is None else dataset.groups
    size = n + int(groups.max(initial=-1)) + 1
    grouped = np.flatnonzero(groups >= 0)
    ends = (np.append(pairs[:, 0], grouped), np.append(pairs[:, 1], n + groups[grouped].astype(np.int64)))
    edges = coo_array((np.ones(len(ends[0]), np.int8), ends), shape=(size, size))
    _, part = connected_components(edges, directed=False)
    tied = np.zeros(n, bool)
    tied[grouped] = tied[pairs.ravel()] = True
    _, first, number = np.unique(part[:n][tied], return_index=True, return_inverse=True)
    joined: Int32 = np.full(n, -1, np.int32)
    joined[tied] = number
    where = np.flatnonzero(tied)[first].tolist()
    names = [
        dataset.group_names[groups[row]] if groups[row] >= 0 else f"mirrored {display_name(dataset.names[row])}"
        for row in where
    ]
    return dataclasses.replace(dataset, groups=joined, group_names=tuple(names))


def parted(dataset: Dataset, split: Split, pairs: IntArray) -> tuple[Problem, ...]:
    """LL008 for pairs that the data themselves put on different sides, one of them training."""
    if not len(pairs):
        return ()
    sides = split.side[pairs]
    across = (sides != NONE).all(axis=1) & (sides[:, 0] != sides[:, 1]) & (sides == TRAIN).any(axis=1)
    if not across.any():
        return ()
    told = [(int(a), int(b)) if split.side[b] == TRAIN else (int(b), int(a)) for a, b in pairs[across].tolist()]
    return (
        Problem(
            "LL008",
            f"{len(told)} held-out images are mirror images of training images, and --augment flip trains on these",
            tuple(display_name(dataset.names[held]) for held, _ in told),
            tuple(
                f"{SPLIT_NAMES[split.side[held]]}: mirrors {display_name(dataset.names[seen])}" for held, seen in told
            ),
        ),
    )
