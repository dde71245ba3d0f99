"""What every reader of a layout hands over, and the rules that turn it into a `Dataset`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import numpy as np

from lastlayer._arrays import BoolArray, Int32, UInt8
from lastlayer._codes import Problem
from lastlayer.data.classes import natural_key
from lastlayer.data.dataset import NONE, SPLIT_NAMES, TEST, TRAIN, VAL, Dataset, ImageStore
from lastlayer.data.groups import group_rows


@final
@dataclass(frozen=True)
class Listing:
    """Rows as one layout describes them, before the rules that hold for all layouts.

    Attributes
    ----------
    layout, images, labels, given, problems
        As in `Dataset`; `labels` index `class_names`.
    class_names : tuple of str
        Unique and printable, in any order; some may have no row.
    columns : mapping of str to sequence
        Further columns of a manifest, one value per row, for ``--group-by``.
    """

    layout: str
    images: ImageStore
    labels: Int32
    class_names: tuple[str, ...]
    given: UInt8
    problems: tuple[Problem, ...] = ()
    columns: Mapping[str, Sequence[str | None]] = field(default_factory=dict)

    def with_labels(self, labels: Int32, class_names: tuple[str, ...], problems: tuple[Problem, ...]) -> Listing:
        """Return the listing with other labels and further problems."""
        return dataclasses.replace(self, labels=labels, class_names=class_names, problems=(*self.problems, *problems))


def to_dataset(listing: Listing, source: str, group_by: str | None) -> Dataset:
    """Match classes by name, number groups, and sort the classes."""
    learned = _learned(listing)
    problems = (*listing.problems, *_class_problems(listing, learned))
    kept = sorted((name for name, keep in zip(listing.class_names, learned.tolist()) if keep), key=natural_key)
    position = {name: code for code, name in enumerate(kept)}
    renumber = np.array([position.get(name, -1) for name in listing.class_names] + [-1], dtype=np.int32)
    names = listing.images.names()
    groups, group_names = group_rows(names, listing.columns, group_by)
    return Dataset(
        source=source,
        layout=listing.layout,
        images=listing.images,
        names=names,
        labels=renumber[listing.labels],
        class_names=tuple(kept),
        given=listing.given,
        groups=groups,
        problems=problems,
        group_names=group_names,
    )


def _counts(listing: Listing, sides: tuple[int, ...]) -> Int32:
    """Images of each class on the sides named."""
    rows = np.isin(listing.given, sides) & (listing.labels >= 0)
    counts: Int32 = np.bincount(listing.labels[rows], minlength=len(listing.class_names)).astype(np.int32)
    return counts


def _learned(listing: Listing) -> BoolArray:
    """Classes that can be learned: those with training rows, or all when the source has no training rows."""
    counts = _counts(listing, (NONE, TRAIN))
    return np.asarray((counts if counts.any() else _counts(listing, (VAL, TEST))) > 0)


def _class_problems(listing: Listing, learned: BoolArray) -> list[Problem]:
    names = np.array(listing.class_names, dtype=object)
    problems = [] if not _counts(listing, (NONE, TRAIN)).any() else _side_problems(listing, learned)
    same: dict[str, list[str]] = {}
    for name in names[learned].tolist():
        same.setdefault(name.casefold(), []).append(name)
    twins = [name for group in same.values() if len(group) > 1 for name in group]
    if twins:
        problems.append(
            Problem(
                "LL004",
                f"{len(twins)} class names differ only in upper and lower case; they are different classes",
                tuple(sorted(twins, key=natural_key)),
                mend="Rename one if they are the same class",
            )
        )
    return problems


def _side_problems(listing: Listing, learned: BoolArray) -> list[Problem]:
    problems = []
    for side in (VAL, TEST):
        counts = _counts(listing, (side,))
        if not counts.any():
            continue
        found = [(name, int(n)) for name, n in zip(listing.class_names, counts)]
        unknown = [(name, n) for (name, n), known in zip(found, learned) if n and not known]
        missing = [name for (name, n), known in zip(found, learned) if known and not n]
        where = SPLIT_NAMES[side]
        if unknown:
            total = sum(n for _, n in unknown)
            problems.append(
                Problem(
                    "LL004",
                    f"{total:,} {where} images of {_classes(len(unknown))} unknown in training are not scored",
                    tuple(name for name, _ in unknown),
                    tuple(f"{n} images in {where}" for _, n in unknown),
                )
            )
        if missing:
            problems.append(
                Problem(
                    "LL004",
                    f"{_classes(len(missing))} of {int(learned.sum())} without {where} images",
                    tuple(sorted(missing, key=natural_key)),
                    mend="Their scores print n/a there; rename the folders if they are misspelt",
                )
            )
    return problems


def _classes(number: int) -> str:
    return f"{number} {'class' if number == 1 else 'classes'}"
