"""Train, validation and test sides: given by the source, kept from an earlier run, or drawn.

What must stay together is a *unit*: rows of one group and exact copies of one image, joined transitively. A unit
is on one side. Each class is spread over the sides in the shares asked for, to the unit. Units are ordered
by a hash of the seed and of their content, so that names and order of the files do not matter.

Shapes
------
N : rows, K : classes, U : units. Sides are uint8 (N,), see `lastlayer.data.dataset`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from lastlayer._arrays import BoolArray, InputError, Int32, IntArray, UInt8
from lastlayer._codes import Problem
from lastlayer._files import display_name
from lastlayer.data import apportion
from lastlayer.data.dataset import NONE, SPLIT_NAMES, TEST, TRAIN, VAL, Dataset
from lastlayer.data.drawing import Pool, draw
from lastlayer.data.splitfile import read_split, save_split
from lastlayer.data.units import contents, join_units

__all__ = ["Split", "make_split", "read_split"]


@final
@dataclass(frozen=True)
class Split:
    """Which row is on which side.

    Attributes
    ----------
    side : uint8 (N,)
        NONE (not used), TRAIN, VAL or TEST.
    dup_group : int32 (N,)
        Number of the group of identical images; -1 for an image without a copy.
    seed : int
    how : str
        One line that says where the sides come from.
    unit : int32 (N,)
        Number of the unit that stays together; -1 for rows that are unreadable or without label.
    """

    side: UInt8
    dup_group: Int32
    seed: int
    how: str
    unit: Int32

    def rows(self, side: int) -> IntArray:
        """Return the rows of one side."""
        return np.flatnonzero(self.side == side)

    def save(self, path: str | os.PathLike[str], dataset: Dataset, sha256: UInt8) -> None:
        """Write ``split.csv`` (path,label,split,group,sha256,dup_group), one line per row."""
        save_split(path, dataset, sha256, self.side, self.dup_group)


@final
@dataclass(frozen=True)
class _Rows:
    """The rows to split and what ties them together; all arrays (N,)."""

    labels: Int32
    given: UInt8
    usable: BoolArray
    content: IntArray
    unit: IntArray
    key: apportion.UInt64  # per unit (U,): hash of seed and content
    n_classes: int


def make_split(
    labels: Int32,
    sha256: UInt8,
    *,
    given: UInt8,
    groups: Int32 | None,
    readable: BoolArray,
    fractions: tuple[float, float, float] = (0.70, 0.15, 0.15),
    seed: int = 0,
    previous: Mapping[str, int] | None = None,
    names: Sequence[str] | None = None,
    tied: str = "groups",
) -> tuple[Split, tuple[Problem, ...]]:
    """Assign every readable, labelled row to a side.

    Sides that the source gives are kept; what it does not give is drawn: without a test side, test is drawn
    from train (share ``fractions[2]``), without validation, validation (share ``fractions[1]``). Copies of
    given test or validation images are taken out of training. Files that `previous` knows keep their side.

    Parameters
    ----------
    labels : int32 (N,)
        -1 without label.
    sha256 : uint8 (N, 32)
    given : uint8 (N,)
        The side that the source gives; NONE leaves the row to be drawn.
    groups : int32 (N,) or None
        Rows of one group number stay together; -1 is alone.
    readable : bool (N,)
    fractions : (train, val, test)
        Shares of the rows, summing to 1.
    seed : int
    previous : mapping, optional
        SHA-256 in hex, or row name, to the side (`read_split`).
    names : sequence of str, optional
        Row names, to find rows of `previous` whose content changed, and for the problems.
    tied : str
        What `groups` are, for the line that says how rows were assigned.

    Returns
    -------
    split : Split
    problems : tuple of Problem
        Only what `checks.check_dataset` cannot see: files that changed sides with their copies or group.

    Raises
    ------
    InputError
        When the shares are not shares, or the given sides leave nothing to train on.
    """
    shares = _check_fractions(fractions)
    usable = readable & (labels >= 0)
    content, dup_group = contents(sha256, readable)
    unit, first_content = join_units(content, groups, usable)
    words = np.ascontiguousarray(sha256).view(">u8").astype(np.uint64)
    key = apportion.mix(words[first_content, 0], seed)
    n_classes = int(labels.max(initial=-1)) + 1
    rows = _Rows(labels, given, usable, content, unit, key, n_classes)

    side, free = _given_sides(rows)
    drawn = _sides_to_draw(given, usable, shares) if free.any() else {TRAIN: 1.0}
    known = _known_sides(previous, sha256, names, free) if previous else np.zeros(len(labels), dtype=np.uint8)
    pinned, moved = _pin_units(rows, free, known, drawn)
    if free.any():
        side = _draw(rows, side, free, pinned, drawn)
    if usable.any() and not (side == TRAIN).any() and not (given[usable] >= VAL).all():
        raise InputError("nothing is left to train on", "Lower the validation and test shares")
    how = _describe(given[usable], drawn, seed, "" if groups is None else tied, int((known[free] > 0).sum()))
    number = np.where(usable, unit, -1).astype(np.int32)
    split = Split(side.astype(np.uint8), dup_group, seed, how, number)
    return split, _moved_problem(moved, names)


def _check_fractions(fractions: Sequence[float]) -> tuple[float, float, float]:
    train, val, test = (float(f) for f in fractions)
    if not (train > 0 and val >= 0 and test >= 0 and abs(train + val + test - 1) < 1e-6):
        raise InputError(
            f"shares of train, val and test are {train:g}, {val:g}, {test:g}",
            "Three shares that sum to 1, with some left for train",
        )
    return train, val, test


def _given_sides(rows: _Rows) -> tuple[UInt8, BoolArray]:
    """Sides that are settled, and the rows that are free to be drawn.

    Of identical images on several given sides the test one is kept, then the validation one; those in
    training are not used (LL008). A row without given side joins the given side of its copies or group.
    """
    usable, given = rows.usable, rows.given
    by_content = _highest(rows.content, np.where(usable & (given >= VAL), given, NONE))
    by_unit = _highest(rows.unit, np.where(usable & (given >= VAL), given, NONE))
    side = np.where(usable & (given >= VAL) & (given == by_content), given, NONE).astype(np.uint8)
    joins = usable & (given == NONE) & (by_unit > NONE)
    side[joins] = by_unit[joins]
    free = usable & ((given == NONE) | ((given == TRAIN) & (by_content == NONE))) & ~joins
    # a group that the source itself spreads over sides: what it put into train stays in train
    return side, free


def _highest(index: IntArray, values: UInt8) -> UInt8:
    """For every row, the highest value among the rows of the same index; index -1 is alone."""
    highest = np.zeros(int(index.max(initial=-1)) + 1, dtype=np.uint8)
    inside = index >= 0
    np.maximum.at(highest, index[inside], values[inside])
    return np.where(inside, highest[np.where(inside, index, 0)], values) if len(highest) else values


def _sides_to_draw(given: UInt8, usable: BoolArray, shares: tuple[float, float, float]) -> dict[int, float]:
    """Shares of the free rows: sides that the source gives are not drawn again."""
    present = set(np.unique(given[usable]).tolist())
    drawn = {side: shares[side - 1] for side in (VAL, TEST) if side not in present and shares[side - 1] > 0}
    return {TRAIN: 1.0 - sum(drawn.values()), **drawn}


def _known_sides(previous: Mapping[str, int], sha256: UInt8, names: Sequence[str] | None, free: BoolArray) -> UInt8:
    """The side that an earlier split gave to a row: by content, else by name."""
    known = np.zeros(len(free), dtype=np.uint8)
    text = np.ascontiguousarray(sha256).tobytes().hex()
    for row in np.flatnonzero(free).tolist():
        side = previous.get(text[64 * row : 64 * row + 64])
        if side is None and names is not None:
            side = previous.get(names[row])
        known[row] = side or NONE
    return known


def _pin_units(rows: _Rows, free: BoolArray, known: UInt8, drawn: Mapping[int, float]) -> tuple[UInt8, IntArray]:
    """Side per unit where it is settled by `known` or by the source, and the rows that changed sides.

    Where a unit's rows were on several sides, test wins over validation and training: what was held out
    is not learned. Sides that are not drawn (the source gives them now) are forgotten.
    """
    known = np.where(np.isin(known, list(drawn)) & free, known, NONE).astype(np.uint8)
    n_units = len(rows.key)
    pinned = np.zeros(n_units, dtype=np.uint8)
    np.maximum.at(pinned, rows.unit[free], known[free])
    # a unit with rows on a given side: what the source put into train stays there
    held = rows.usable & (rows.given >= VAL)
    pinned[np.unique(rows.unit[held])] = TRAIN
    which = np.flatnonzero(free & (known > NONE))
    return pinned, which[known[which] != pinned[rows.unit[which]]]


def _draw(rows: _Rows, side: UInt8, free: BoolArray, pinned: UInt8, drawn: Mapping[int, float]) -> UInt8:
    """Return the sides with those of the free rows drawn."""
    which = np.flatnonzero(free)
    sides = np.array([s for s in (TRAIN, TEST, VAL) if s in drawn], dtype=np.uint8)
    shares = np.array([drawn[s] for s in sides.tolist()])
    pool = Pool(rows.unit[which], rows.labels[which], rows.key, rows.n_classes, sides, shares)
    side = side.copy()
    side[which] = draw(pool, pinned)[pool.unit]
    return side


def _describe(given: UInt8, drawn: Mapping[int, float], seed: int, tied: str, known: int) -> str:
    """One line: what the source gave, what was drawn."""
    present = [SPLIT_NAMES[s] for s in (TRAIN, VAL, TEST) if (given == s).any()]
    new = [s for s in (VAL, TEST) if s in drawn]
    if not present:
        text = "/".join(f"{100 * drawn.get(s, 0.0):.3g}" for s in (TRAIN, VAL, TEST))
        text += f" stratified, seed {seed}"
    else:
        text = "given " + "/".join(present)
        if new:
            text += "; " + " and ".join(f"{SPLIT_NAMES[s]} {100 * drawn[s]:.3g}%" for s in new)
            text += f" of the rest, stratified, seed {seed}"
    text += f", {tied} kept together" if tied and (new or not present) else ""
    return text + (f", {known:,} images keep an earlier side" if known else "")


def _moved_problem(moved: IntArray, names: Sequence[str] | None) -> tuple[Problem, ...]:
    if not len(moved):
        return ()
    files = tuple(display_name(names[row]) for row in moved.tolist()) if names is not None else ()
    return (
        Problem(
            "LL007",
            f"{len(moved):,} images left their earlier side to be with their copies or group",
            files,
            mend="Nothing to mend; scores of earlier runs are not comparable for these images",
        ),
    )
