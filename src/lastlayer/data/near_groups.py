"""What near duplicates mean for labels and for the split."""

from __future__ import annotations

import numpy as np

from lastlayer._arrays import BoolArray, Int32, IntArray
from lastlayer._codes import Problem
from lastlayer._files import display_name
from lastlayer.data.dataset import NONE, SPLIT_NAMES, TRAIN, Dataset
from lastlayer.data.near_duplicates import NearDuplicates
from lastlayer.data.splits import Split


def merge_groups(*groups: Int32 | None) -> Int32:
    """Join rows that any of several groupings puts together, transitively: (N,), -1 for rows on their own.

    What `make_split` takes as its groups, so that near duplicates stay on one side.

    >>> merge_groups(np.array([0, 0, -1, -1, 1], np.int32), np.array([-1, 0, 0, -1, -1], np.int32)).tolist()
    [0, 0, 0, -1, 1]
    """
    given = [np.asarray(group) for group in groups if group is not None]
    n = len(given[0])
    parent = np.arange(n)
    while True:  # a group takes its smallest row's number, and hands it on through rows of two groups
        before = parent.copy()
        for group in given:
            inside = np.flatnonzero(group >= 0)
            smallest = np.full(int(group.max(initial=-1)) + 1, n)
            np.minimum.at(smallest, group[inside], parent[inside])
            parent[inside] = smallest[group[inside]]
        parent = parent[parent]
        if (parent == before).all():
            break
    tied = np.logical_or.reduce([group >= 0 for group in given])
    out = np.full(n, -1, dtype=np.int32)
    out[tied] = np.unique(parent[tied], return_inverse=True)[1]
    return out


def near_duplicate_problems(
    dataset: Dataset, split: Split, near: NearDuplicates, *, kept_together: bool
) -> tuple[Problem, ...]:
    """LL007, LL013 and LL014: near duplicates that are not identical files, which `check_dataset` names.

    Parameters
    ----------
    dataset : Dataset
    split : Split
    near : NearDuplicates
    kept_together : bool
        Whether `split` was drawn with these groups; else only what will be done about them is said.
    """
    different = _of_different_files(near.group, split)
    rows = np.flatnonzero(different)
    rows = rows[np.argsort(near.group[rows], kind="stable")]
    if not len(rows):
        return ()
    return (*_pairs(dataset, near, rows, kept_together), *_sides(dataset, near, rows), *_labels(dataset, near, rows))


def _of_different_files(group: Int32, split: Split) -> BoolArray:
    """Rows in groups that hold more than one content."""
    inside = np.flatnonzero(group >= 0)
    content = np.where(split.dup_group >= 0, split.dup_group, len(group) + np.arange(len(group)))
    low = np.full(int(group.max(initial=-1)) + 1, np.iinfo(np.int64).max)
    high = np.full(len(low), -1)
    np.minimum.at(low, group[inside], content[inside])
    np.maximum.at(high, group[inside], content[inside])
    out = np.zeros(len(group), dtype=bool)
    out[inside] = low[group[inside]] < high[group[inside]]
    return out


def _pairs(dataset: Dataset, near: NearDuplicates, rows: IntArray, kept: bool) -> list[Problem]:
    drawn = rows[dataset.given[rows] == NONE]
    free = drawn[np.isin(near.group[drawn], _twice(near.group[drawn]))]
    if not len(free):
        return []
    groups = len(np.unique(near.group[free]))
    done = ", kept on one side" if kept else ""
    message = f"{len(free):,} images are near duplicates ({groups:,} group{'' if groups == 1 else 's'}){done}"
    mend = "See the column dup_group of split.csv; `--no-near-dup` switches this off"
    if not kept:
        mend = "`train` keeps each group on one side; `--no-near-dup` switches this off"
    return [Problem("LL007", message, _names(dataset, free), _twins(dataset, near, free), mend)]


def _twice(values: IntArray) -> IntArray:
    found, counts = np.unique(values, return_counts=True)
    return found[counts > 1]


def _sides(dataset: Dataset, near: NearDuplicates, rows: IntArray) -> list[Problem]:
    """Training images that the source gives, with a twin among given validation or test images."""
    given = dataset.given
    held = np.unique(near.group[rows[given[rows] > TRAIN]])
    leaks = rows[(given[rows] == TRAIN) & np.isin(near.group[rows], held)]
    if not len(leaks):
        return []
    other: dict[int, int] = {int(near.group[row]): int(row) for row in rows[given[rows] > TRAIN][::-1].tolist()}
    details = []
    for row in leaks.tolist():
        twin = other[int(near.group[row])]
        details.append(f"like {display_name(dataset.names[twin])} ({SPLIT_NAMES[given[twin]]})")
    message = f"{len(leaks):,} training images are near duplicates of given validation or test images"
    return [Problem("LL013", message, _names(dataset, leaks), tuple(details))]


def _labels(dataset: Dataset, near: NearDuplicates, rows: IntArray) -> list[Problem]:
    rows = rows[dataset.labels[rows] >= 0]
    group, labels = near.group[rows], dataset.labels[rows]
    low = np.full(int(group.max(initial=-1)) + 1, len(dataset.class_names))
    high = np.full(len(low), -1)
    np.minimum.at(low, group, labels)
    np.maximum.at(high, group, labels)
    rows = rows[low[group] < high[group]]
    if not len(rows):
        return []
    groups = len(np.unique(near.group[rows]))
    message = f"{len(rows):,} near duplicates in {groups:,} group{'' if groups == 1 else 's'} carry different labels"
    twins = _twins(dataset, near, rows)
    details = tuple(f"{dataset.class_names[dataset.labels[row]]}, {twin}" for row, twin in zip(rows.tolist(), twins))
    return [Problem("LL014", message, _names(dataset, rows), details)]


def _names(dataset: Dataset, rows: IntArray) -> tuple[str, ...]:
    return tuple(display_name(dataset.names[row]) for row in rows.tolist())


def _twins(dataset: Dataset, near: NearDuplicates, rows: IntArray) -> tuple[str, ...]:
    """For each row its number of the group and its nearest twin."""
    return tuple(
        f"near_group {near.group[row]}, like {display_name(dataset.names[near.nearest[row]])}" for row in rows.tolist()
    )
