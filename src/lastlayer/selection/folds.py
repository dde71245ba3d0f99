"""Folds and held-out rows: every class spread evenly, groups kept together, seeded.

Shapes
------
N : rows, K : classes, F : folds, G : groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from lastlayer._arrays import Array, BoolArray, Float64, InputError, IntArray


@final
@dataclass(frozen=True, eq=False)
class Fold:
    """Row numbers to fit on and to judge by, both sorted as they came.

    Attributes
    ----------
    train, test : ndarray
        (n,) row numbers; no row is in both.
    """

    train: IntArray
    test: IntArray


def make_folds(
    y: Array,
    folds: int | Array | Sequence[tuple[Any, Any]] | Sequence[Fold] = 5,
    *,
    groups: Array | None = None,
    seed: int = 0,
) -> tuple[Fold, ...]:
    """Folds for cross-validation.

    Parameters
    ----------
    y : ndarray
        (N,) labels 0..K-1.
    folds : int, ndarray or sequence of pairs
        A number F of folds to draw: numbers of rows differ by at most one between folds, and so do those of every
        class (groups: as near to that as whole groups allow, the largest dealt first). Or (N,) fold numbers, negative
        for rows that are always trained on. Or pairs (train, test) of row numbers or masks, as scikit-learn's
        splitters yield them; or folds.
    groups : ndarray, optional
        (N,) names or numbers; rows of one group are on one side. Only with a number of folds.
    seed : int

    Returns
    -------
    tuple of Fold

    Raises
    ------
    InputError
        For fewer than two folds, more folds than rows (groups), an empty side, a row on both sides, and training
        rows of one class only.

    Examples
    --------
    >>> [fold.test.tolist() for fold in make_folds(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 0]))]
    [[0, 3], [1, 2]]
    """
    if isinstance(folds, int | np.integer):
        made = _by_number(assign_folds(y, int(folds), groups=groups, seed=seed))
    elif groups is not None:
        raise InputError("groups are for folds that are drawn", "Give a number of folds, or folds that keep groups")
    elif isinstance(folds, np.ndarray) and folds.ndim == 1 and folds.dtype.kind in "iu":
        if len(folds) != len(y):
            raise InputError(f"{len(folds)} fold numbers for {len(y)} rows", "Give one fold number a row")
        made = _by_number(folds)
    else:
        given: Sequence[Any] = list(folds)
        made = tuple(_pair(one, len(y), number) for number, one in enumerate(given))
    if not made:
        raise InputError("there are no folds", "Give a number of folds, fold numbers, or pairs (train, test)")
    for number, fold in enumerate(made):
        _check(fold, y, number)
    return made


def assign_folds(y: Array, n_folds: int, *, groups: Array | None = None, seed: int = 0) -> IntArray:
    """Fold number of every row, (N,): see `make_folds`."""
    most = len(y) if groups is None else len(np.unique(groups))
    what = "rows" if groups is None else "groups"
    if not 2 <= n_folds <= most:
        raise InputError(f"{n_folds} folds of {most} {what}", f"Give 2 to {most} folds")
    rng = np.random.default_rng(seed)
    if groups is not None:
        return _deal_groups(y, groups, np.full(n_folds, 1.0 / n_folds), rng)
    order = _by_class(y, rng)
    number = np.empty(len(y), dtype=np.intp)
    # Dealt one by one through the classes: a class, and all of them, differ by one row between folds at most.
    number[order] = np.arange(len(y)) % n_folds
    return number


def held_out(
    y: Array, share: float, *, groups: Array | None = None, seed: int = 0, stratified: bool = True
) -> BoolArray:
    """Rows to keep out of training, (N,): a seeded share, every class alike.

    Every class keeps at least one row to train on (with `stratified` and without groups).

    Parameters
    ----------
    y : ndarray
        (N,) labels 0..K-1.
    share : float
        Between 0 and 1.
    groups : ndarray, optional
        (N,); rows of one group are on one side.
    seed : int
    stratified : bool
        False draws rows without looking at their classes (whole groups still look at them).

    Raises
    ------
    InputError
        When one of the sides would be empty.
    """
    if not 0.0 < share < 1.0:
        raise InputError(f"a share of {share} cannot be held out", "Give a share between 0 and 1")
    rng = np.random.default_rng(seed)
    if groups is not None:
        out = np.asarray(_deal_groups(y, groups, np.array([1.0 - share, share]), rng) == 1)
    elif stratified:
        out = _systematic(y, share, rng)
    else:
        out = np.zeros(len(y), dtype=bool)
        out[rng.permutation(len(y))[: int(len(y) * share)]] = True
    if not out.any() or out.all():
        raise InputError(f"{share:g} of {len(y)} rows leaves one side empty", "Give more rows, or a validation set")
    return out


def _by_class(y: Array, rng: np.random.Generator) -> IntArray:
    """Row numbers, class after class, shuffled within each."""
    shuffled = rng.permutation(len(y))
    return np.asarray(shuffled[np.argsort(np.asarray(y)[shuffled], kind="stable")])


def _systematic(y: Array, share: float, rng: np.random.Generator) -> BoolArray:
    """Every ``1/share``-th row of the classes' order: shares to the row, in each class and in all."""
    order = _by_class(y, rng)
    steps = np.floor(np.arange(len(y) + 1) * share + 0.5)
    out = np.zeros(len(y), dtype=bool)
    out[order[np.flatnonzero(np.diff(steps))]] = True
    left = np.bincount(np.asarray(y)[~out], minlength=int(np.max(y)) + 1)
    out[left[y] == 0] = False
    return out


def _deal_groups(y: Array, groups: Array, shares: Float64, rng: np.random.Generator) -> IntArray:
    """Whole groups to folds of given shares, largest first, each to where its classes are most lacking.

    With counts c of a fold of share s, the sum over folds and classes of ``c²/(s t²)``, t a class's total, is least
    when every fold has its share of every class; a group g goes where it adds least, ``(2 c·g + g·g)/(s t²)``.
    """
    groups = np.asarray(groups)
    if groups.shape != (len(y),):
        raise InputError(f"groups have shape {groups.shape}; ({len(y)},) is needed", "Give one group a row")
    _, number = np.unique(groups, return_inverse=True)
    n_groups, k = int(number.max()) + 1, int(np.max(y)) + 1
    if n_groups < len(shares):
        raise InputError(f"{n_groups} group for {len(shares)} sides", "Give at least one group a side")
    total = np.maximum(np.bincount(y, minlength=k), 1).astype(np.float64)
    order = np.argsort(number, kind="stable")
    ends = np.cumsum(np.bincount(number, minlength=n_groups))
    shuffled = rng.permutation(n_groups)
    sizes = np.diff(ends, prepend=0)
    counts = np.zeros((len(shares), k))
    fold_of = np.empty(n_groups, dtype=np.intp)
    for group in shuffled[np.argsort(-sizes[shuffled], kind="stable")].tolist():
        labels, g = np.unique(y[order[ends[group] - sizes[group] : ends[group]]], return_counts=True)
        price = ((2.0 * counts[:, labels] + g) * (g / total[labels] ** 2)).sum(axis=1) / shares
        chosen = int(np.argmin(price))
        counts[chosen, labels] += g
        fold_of[group] = chosen
    return np.asarray(fold_of[number])


def _by_number(number: IntArray) -> tuple[Fold, ...]:
    return tuple(
        Fold(np.flatnonzero(number != f), np.flatnonzero(number == f)) for f in np.unique(number[number >= 0]).tolist()
    )


def _pair(pair: Any, n: int, number: int) -> Fold:
    """Row numbers from a fold, or a pair of row numbers or masks."""
    sides = []
    for side in (pair.train, pair.test) if isinstance(pair, Fold) else pair:
        rows = np.asarray(side)
        rows = np.flatnonzero(rows) if rows.dtype == np.bool_ and rows.shape == (n,) else rows
        if rows.ndim != 1 or rows.dtype.kind not in "iu" or len(rows) == 0:
            raise InputError(f"fold {number}: rows are {rows.dtype} of shape {rows.shape}", "Give row numbers or masks")
        if rows.min() < -n or rows.max() >= n:
            raise InputError(f"fold {number} names row {rows.max()}, but there are {n}", "Row numbers begin at 0")
        sides.append(rows.astype(np.intp) % n)
    if len(sides) != 2:
        raise InputError(f"fold {number} has {len(sides)} parts", "Give pairs (train, test)")
    return Fold(*sides)


def _check(fold: Fold, y: Array, number: int) -> None:
    if len(fold.test) == 0 or len(fold.train) == 0:
        raise InputError(f"fold {number} has {len(fold.train)} training and {len(fold.test)} held-out rows")
    both = np.intersect1d(fold.train, fold.test)
    if len(both):
        raise InputError(f"fold {number} trains on row {both[0]}, which it holds out", "Give each row one side")
    if not (y[fold.train] != y[fold.train[0]]).any():
        raise InputError(
            f"the training rows of fold {number} are all of class {y[fold.train[0]]}",
            "Give fewer folds, or folds that are stratified",
        )
