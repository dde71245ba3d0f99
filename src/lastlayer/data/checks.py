"""What is wrong with the data: one problem per kind, with a code, counts, all file names and a mend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from lastlayer._arrays import BoolArray, IntArray
from lastlayer._codes import Problem
from lastlayer._files import display_name
from lastlayer.data.dataset import NONE, SPLIT_NAMES, TEST, TRAIN, VAL, Dataset
from lastlayer.data.decoding import Decoded
from lastlayer.data.name_groups import suggest_groups
from lastlayer.data.splits import Split

_IMBALANCE = 10


def check_dataset(dataset: Dataset, decoded: Decoded, split: Split) -> tuple[Problem, ...]:
    """Return the problems that show once images are decoded and split, in the order of their codes.

    Those of listing the source are in ``dataset.problems``.

    Parameters
    ----------
    dataset : Dataset
    decoded : Decoded
        Of all rows of the dataset.
    split : Split
    """
    usable = decoded.readable & (dataset.labels >= 0)
    found: list[Problem] = [
        *_refused(dataset, decoded),
        *_conflicting_labels(dataset, split, usable),
        *_copies(dataset, split, usable),
        *_shared_by_given_sides(dataset, split, usable),
        *_small_classes(dataset, split, usable),
        *_imbalance(dataset, usable),
        *_name_groups(dataset),
        *_absent_classes(dataset, split),
    ]
    return tuple(found)


def alteration_counts(decoded: Decoded) -> dict[str, int]:
    """Return the number of images that decoding changed, by kind, most frequent first."""
    counts = {kind: len(rows) for kind, rows in decoded.alterations.items() if len(rows)}
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _names(dataset: Dataset, rows: Iterable[int]) -> tuple[str, ...]:
    return tuple(display_name(dataset.names[row]) for row in rows)


def _refused(dataset: Dataset, decoded: Decoded) -> list[Problem]:
    """LL003: every refused file with its reason and mend."""
    if not decoded.refusals:
        return []
    rows = sorted(decoded.refusals)
    reasons = Counter(decoded.refusals[row][0] for row in rows)
    parts = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    message = f"{len(rows):,} of {len(dataset):,} files cannot be used ({parts})"
    details = tuple(": ".join(filter(None, decoded.refusals[row])) for row in rows)
    return [Problem("LL003", message, _names(dataset, rows), details)]


def _conflicting_labels(dataset: Dataset, split: Split, usable: BoolArray) -> list[Problem]:
    """LL006: identical images with different labels."""
    copied = np.flatnonzero(usable & (split.dup_group >= 0))
    group, labels = split.dup_group[copied], dataset.labels[copied]
    size = int(split.dup_group.max(initial=-1)) + 1
    low, high = np.full(size, len(dataset.class_names)), np.full(size, -1)
    np.minimum.at(low, group, labels)
    np.maximum.at(high, group, labels)
    rows = _by_group(copied[low[group] < high[group]], split)
    if not len(rows):
        return []
    groups = len(np.unique(split.dup_group[rows]))
    message = f"{len(rows):,} images in {_counted(groups, 'group')} of identical ones carry different labels"
    details = tuple(
        f"{dataset.class_names[dataset.labels[row]]} (dup_group {split.dup_group[row]})" for row in rows.tolist()
    )
    return [Problem("LL006", message, _names(dataset, rows.tolist()), details)]


def _by_group(rows: IntArray, split: Split) -> IntArray:
    return rows[np.argsort(split.dup_group[rows], kind="stable")]


def _copies(dataset: Dataset, split: Split, usable: BoolArray) -> list[Problem]:
    """LL007: identical images that are used, together on one side."""
    copied = np.flatnonzero(usable & (split.dup_group >= 0) & (split.side != NONE))
    counts = np.bincount(split.dup_group[copied], minlength=1)
    rows = _by_group(copied[counts[split.dup_group[copied]] > 1], split)
    if not len(rows):
        return []
    groups = len(np.unique(split.dup_group[rows]))
    message = f"{len(rows):,} images are copies of each other ({_counted(groups, 'group')}), kept on one side"
    details = tuple(f"dup_group {number}" for number in split.dup_group[rows].tolist())
    return [Problem("LL007", message, _names(dataset, rows.tolist()), details)]


def _shared_by_given_sides(dataset: Dataset, split: Split, usable: BoolArray) -> list[Problem]:
    """LL008: copies, and groups, on several of the sides that the source gives."""
    problems = []
    dropped = np.flatnonzero(usable & (dataset.given != NONE) & (split.side == NONE))
    if len(dropped):
        kept = {
            int(split.dup_group[row]): row
            for row in np.flatnonzero((split.dup_group >= 0) & (split.side >= VAL))[::-1].tolist()
        }
        twins = [kept[int(number)] for number in split.dup_group[dropped]]
        details = tuple(f"same as {display_name(dataset.names[row])}" for row in twins)
        message = f"{len(dropped):,} images are also in given validation or test data: not used here"
        problems.append(Problem("LL008", message, _names(dataset, dropped.tolist()), details))
    spread = _spread_groups(dataset, split, usable)
    if spread:
        message = f"{_counted(len(spread), 'group')} of images lie on several of the given sides"
        mend = "Give each group one side, or let lastlayer split"
        problems.append(Problem("LL008", message, tuple(spread), mend=mend))
    return problems


def _spread_groups(dataset: Dataset, split: Split, usable: BoolArray) -> list[str]:
    if dataset.groups is None:
        return []
    rows = np.flatnonzero(usable & (dataset.groups >= 0) & (split.side != NONE))
    pairs = np.unique(np.stack([dataset.groups[rows], split.side[rows]], axis=1), axis=0)
    numbers, sides = np.unique(pairs[:, 0], return_counts=True)
    names = dataset.group_names
    return [names[g] if names else f"group {g}" for g in numbers[sides > 1].tolist()]


def _small_classes(dataset: Dataset, split: Split, usable: BoolArray) -> list[Problem]:
    """LL009: classes with fewer units than there are sides to be filled by drawing."""
    drawn = usable & ((dataset.given == NONE) | (dataset.given == TRAIN)) & (split.side != NONE)
    sides = len({TRAIN, *np.unique(split.side[drawn & (split.side != dataset.given)]).tolist()})
    if sides < 2:
        return []
    pairs = np.unique(np.stack([dataset.labels[drawn], split.unit[drawn]], axis=1), axis=0)
    units = np.bincount(pairs[:, 0], minlength=len(dataset.class_names))
    small = np.flatnonzero((units > 0) & (units < sides)).tolist()
    if not small:
        return []
    message = f"{_counted(len(small), 'class')} with too few images to be on all {sides} sides"
    details = tuple(f"{units[k]} different" for k in small)
    return [Problem("LL009", message, tuple(dataset.class_names[k] for k in small), details)]


def _imbalance(dataset: Dataset, usable: BoolArray) -> list[Problem]:
    """LL010: the largest class has more than ten times the images of the smallest."""
    counts = _class_counts(dataset, usable)
    present = np.flatnonzero(counts)
    if len(present) < 2:
        return []
    small, large = present[np.argmin(counts[present])], present[np.argmax(counts[present])]
    if counts[large] <= _IMBALANCE * counts[small]:
        return []
    names = dataset.class_names
    ratio = counts[large] / counts[small]
    message = f"{names[large]} has {counts[large]:,} images, {names[small]} {counts[small]:,} ({ratio:.0f} to 1)"
    return [Problem("LL010", message)]


def _name_groups(dataset: Dataset) -> list[Problem]:
    """LL011: names look as if several images came from one thing, and nothing keeps them together."""
    if dataset.groups is not None or not len(dataset.class_names):
        return []
    found = suggest_groups(dataset)
    if found is None:
        return []
    message = f"{found.images:,} images look like {found.groups:,} groups by name, such as {found.example!r}"
    return [Problem("LL011", message, mend=f"`--group-by '{found.pattern}'` keeps each on one side")]


def _absent_classes(dataset: Dataset, split: Split) -> list[Problem]:
    """LL022: classes without images on a side that has images; not those that listing reported (LL004)."""
    absent: dict[int, list[str]] = {}
    for side in (TRAIN, VAL, TEST):
        if not (split.side == side).any():
            continue
        listed = _class_counts(dataset, (dataset.given == side) & (dataset.labels >= 0))
        missing = _class_counts(dataset, split.side == side) == 0
        if side != TRAIN and listed.any():
            missing &= listed > 0
        for k in np.flatnonzero(missing).tolist():
            absent.setdefault(k, []).append(SPLIT_NAMES[side])
    if not absent:
        return []
    classes = sorted(absent)
    message = f"{_counted(len(classes), 'class')} without images on a side of the split"
    details = tuple("none in " + " and ".join(absent[k]) for k in classes)
    return [Problem("LL022", message, tuple(dataset.class_names[k] for k in classes), details)]


def _class_counts(dataset: Dataset, rows: BoolArray) -> IntArray:
    return np.bincount(dataset.labels[rows], minlength=len(dataset.class_names))


def _counted(number: int, noun: str) -> str:
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{number:,} {noun if number == 1 else plural}"
