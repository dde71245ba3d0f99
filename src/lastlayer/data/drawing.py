"""Draws sides for the units that are free: exact quotas per class, large units first, then single images.

Shapes
------
M : free rows, U : units, K : classes, S : sides that are drawn, in the order of preference (train first).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from lastlayer._arrays import Float64, IntArray, UInt8
from lastlayer.data import apportion
from lastlayer.data.dataset import NONE


@final
@dataclass(frozen=True)
class Pool:
    """The free rows and the sides they are drawn to.

    Attributes
    ----------
    unit, label : int (M,)
    key : uint64 (U,)
        Hash of seed and content of each unit: the order in which units are taken.
    n_classes : int
    sides : uint8 (S,)
        Who comes first where there are fewer units than sides: train, test, validation.
    shares : float (S,)
    """

    unit: IntArray
    label: IntArray
    key: apportion.UInt64
    n_classes: int
    sides: UInt8
    shares: Float64


def draw(pool: Pool, pinned: UInt8) -> UInt8:
    """Return a side for every unit of the pool (U,); units with a `pinned` side keep it."""
    chosen = pinned.copy()
    size = np.bincount(pool.unit, minlength=len(pinned))
    free = np.flatnonzero((chosen == NONE) & (size > 0))
    quotas = apportion.quotas(np.bincount(pool.label, minlength=pool.n_classes), _units_per_class(pool), pool.shares)
    on = chosen[pool.unit]
    placed = np.stack([np.bincount(pool.label[on == s], minlength=pool.n_classes) for s in pool.sides], axis=1)
    large = free[size[free] > 1]
    if len(large):
        _place_large(pool, chosen, size, large, placed, quotas)
    single = free[size[free] == 1]
    label_of = np.empty(len(pinned), dtype=np.int64)
    label_of[pool.unit] = pool.label
    need = apportion.fill(quotas - placed, np.bincount(label_of[single], minlength=pool.n_classes))
    chosen[single] = pool.sides[apportion.deal(label_of[single], pool.key[single], need)]
    if len(large):
        _fill_empty_sides(pool, chosen, size, pinned)
    return chosen


def _place_large(
    pool: Pool, chosen: UInt8, size: IntArray, large: IntArray, placed: IntArray, quotas: IntArray
) -> None:
    """Give units of several rows, the largest first, to the side they fit best; updates chosen and placed."""
    tables = apportion.label_tables(pool.unit, pool.label, large)
    for i in np.lexsort((pool.key[large], -size[large])).tolist():
        classes, counts = tables[i]
        best = apportion.best_side(classes, counts, placed, quotas)
        chosen[large[i]] = pool.sides[best]
        placed[classes, best] += counts


def _class_units(pool: Pool) -> tuple[IntArray, IntArray]:
    """Return the different (class, unit) pairs, sorted."""
    codes = np.unique(pool.label.astype(np.int64) * len(pool.key) + pool.unit)
    return codes // len(pool.key), codes % len(pool.key)


def _units_per_class(pool: Pool) -> IntArray:
    return np.bincount(_class_units(pool)[0], minlength=pool.n_classes)


def _fill_empty_sides(pool: Pool, chosen: UInt8, size: IntArray, pinned: UInt8) -> None:
    """Give a class with enough units its smallest one on every side that rounding left empty."""
    classes, units = _class_units(pool)
    count = np.zeros((pool.n_classes, len(pool.sides)), dtype=np.int64)
    column = np.argmax(chosen[units][:, None] == pool.sides, axis=1)
    np.add.at(count, (classes, column), 1)
    total = np.bincount(classes, minlength=pool.n_classes)
    for to in range(1, len(pool.sides)):
        for c in np.flatnonzero((count[:, to] == 0) & (total > to)).tolist():
            mine = units[classes == c]
            mine = mine[(pinned[mine] == NONE)]
            for unit in mine[np.lexsort((pool.key[mine], size[mine]))].tolist():
                inside = classes[units == unit]
                start = int(np.argmax(pool.sides == chosen[unit]))
                if (count[inside, start] > 1).all():  # no other class loses its last unit there
                    chosen[unit] = pool.sides[to]
                    count[inside, start] -= 1
                    count[inside, to] += 1
                    break
