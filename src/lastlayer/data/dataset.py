"""A dataset: images that are read when needed, with labels, class names, sides, groups and a content hash.

Shapes
------
N : images, K : classes. Labels are int32 (N,) with -1 for "no label"; SHA-256 digests are uint8 (N, 32).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np

from lastlayer._arrays import Int32, IntArray, UInt8
from lastlayer._codes import Problem
from lastlayer.data.stores import ArrayImages, FileImages, ImageStore

__all__ = [
    "NONE",
    "SPLIT_NAMES",
    "TEST",
    "TRAIN",
    "VAL",
    "ArrayImages",
    "Dataset",
    "FileImages",
    "ImageStore",
]

NONE: Final = 0
TRAIN: Final = 1
VAL: Final = 2
TEST: Final = 3
SPLIT_NAMES: Final = ("", "train", "val", "test")


@final
@dataclass(frozen=True)
class Dataset:
    """Labelled images as a source describes them.

    Attributes
    ----------
    source : str
        As the user wrote it.
    layout : str
        One line that says how the source was understood.
    images : ImageStore
        N images, read when asked for.
    names : sequence of str
        Unique name per row: the path relative to the source as the system spells it, or ``train#17``.
    labels : int32 (N,)
        Index into `class_names`; -1 without label.
    class_names : tuple of str
        Printable, NFC, in natural order ("2" before "10").
    given : uint8 (N,)
        The side that the source itself gives: NONE, TRAIN, VAL or TEST.
    groups : int32 (N,) or None
        Rows of one group stay on one side of a split; -1 is a row on its own.
    problems : tuple of Problem
        What listing the source brought up.
    group_names : sequence of str
        Text of each group number.
    """

    source: str
    layout: str
    images: ImageStore
    names: Sequence[str]
    labels: Int32
    class_names: tuple[str, ...]
    given: UInt8
    groups: Int32 | None = None
    problems: tuple[Problem, ...] = ()
    group_names: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.names)

    def subset(self, rows: IntArray) -> Dataset:
        """Return the dataset of these rows, in this order, with all class names."""
        return dataclasses.replace(
            self,
            images=self.images.subset(rows),
            names=[self.names[row] for row in rows.tolist()],
            labels=self.labels[rows],
            given=self.given[rows],
            groups=None if self.groups is None else self.groups[rows],
        )

    def class_counts(self) -> IntArray:
        """Return the number of images of each class (K,)."""
        return np.bincount(self.labels[self.labels >= 0], minlength=len(self.class_names))

    def describe(self) -> str:
        """Return one line: how many images and classes, with the largest and the smallest class.

        >>> import numpy as np
        >>> pixels = np.zeros((3, 2, 2, 1), np.uint8)
        >>> store = ArrayImages(pixels, ["a", "b", "c"])
        >>> y = np.array([0, 0, 1], np.int32)
        >>> Dataset("X", "arrays", store, store.names(), y, ("cat", "dog"), np.zeros(3, np.uint8)).describe()
        '3 images, 2 classes (cat 2, dog 1)'
        """
        counts = self.class_counts()
        order = np.argsort(-counts, kind="stable")
        parts = [f"{self.class_names[k]} {counts[k]}" for k in order]
        shown = ", ".join(parts) if len(parts) <= 3 else f"{parts[0]} … {parts[-1]}"
        text = f"{_count(len(self), 'image')}, {_count(len(parts), 'class')}" + (f" ({shown})" if parts else "")
        unlabelled = int((self.labels < 0).sum())
        return text + (f", {unlabelled} without label" if unlabelled else "")

    def content_hash(self, sha256: UInt8) -> str:
        """Return a hash of the (image content, class name) pairs that does not depend on their order.

        Parameters
        ----------
        sha256 : uint8 (N, 32)
            Digest of every image.
        """
        used, codes = np.unique(self.labels, return_inverse=True)
        names = [self.class_names[k] if k >= 0 else None for k in used.tolist()]
        pairs = np.empty((len(self), 36), dtype=np.uint8)
        pairs[:, :32] = sha256
        pairs[:, 32:] = codes.astype(">u4").reshape(-1, 1).view(np.uint8)
        words = pairs.view(">u4")
        order = np.lexsort(words.T[::-1])
        digest = hashlib.sha256(json.dumps(names).encode("ascii"))
        digest.update(pairs[order].tobytes())
        return digest.hexdigest()


def _count(number: int, noun: str) -> str:
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{number:,} {noun if number == 1 else plural}"
