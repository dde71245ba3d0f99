"""Compiled loops: the candidates among a block of ranks.

A search keeps for each query the few rows that may still be among its k nearest. `scan` reads each rank once, eight or
more at a time, and looks closer only where one is below the query's limit: reading the block is all the time it takes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lastlayer._compiled import compiled
from lastlayer.neighbours import filters

BEYOND = np.float32(np.inf)
STRIP = 64
reach = compiled(filters.reach)


@compiled
def scan(
    ranks: Any,
    added: Any,
    first: int,
    own: Any,
    values: Any,
    rows: Any,
    counts: Any,
    kths: Any,
    limits: Any,
    doubts: Any,
    ratio: float,
    power: int,
    k: int,
    begin: Any,
) -> int:
    """Take in the ranks ``ranks[i, j] + added[j]`` of the rows ``first + j`` for every query i.

    A query's list is ``values[i, :counts[i]]`` and ``rows[i, :counts[i]]``, in the order of the rows; row ``own[i]``
    is left out. When it is full it is thinned to what may be among the k nearest, and the k-th rank kept in `kths`.
    Where that leaves it more than half full the query's number is returned, for its distances to be computed: the loop
    goes on from ``begin`` when called again. -1 when all is done.
    """
    room, width = values.shape[1], ranks.shape[1]
    scratch = np.empty(room, np.float32)
    for i in range(ranks.shape[0]):
        j = begin[i]
        while j < width:
            stop = min(j + STRIP, width)
            if stop - j == STRIP and not any_below(ranks[i, j:stop], added[j:stop], limits[i]):
                j = stop
                continue
            while j < stop:
                value = ranks[i, j] + added[j]
                if not value < limits[i] or first + j == own[i]:
                    j += 1
                elif counts[i] < room:
                    values[i, counts[i]] = value
                    rows[i, counts[i]] = first + j
                    counts[i] += 1
                    j += 1
                else:  # the limit changes: the rank is looked at again
                    thin(values[i], rows[i], counts, kths, limits, scratch, i, k, doubts[i], ratio, power)
                    if counts[i] > room // 2:
                        begin[i] = j
                        return i
        begin[i] = width
    return -1


@compiled
def any_below(ranks: Any, added: Any, limit: Any) -> bool:
    """Whether one of `STRIP` ranks is below the limit; without a branch, so that it runs in vectors."""
    found = False
    for t in range(STRIP):
        found |= ranks[t] + added[t] < limit
    return found


@compiled
def thin(
    values: Any,
    rows: Any,
    counts: Any,
    kths: Any,
    limits: Any,
    scratch: Any,
    i: int,
    k: int,
    doubt: float,
    ratio: float,
    power: int,
) -> None:
    """Keep of one list what may be among the k nearest, and set the limit for what comes.

    With exact ranks these are the k lowest, of equals those that came first. Otherwise a row of rank a may be nearer
    than one of rank T as long as the roots differ by no more than the doubt of both.
    """
    n = counts[i]
    scratch[:n] = values[:n]
    kth = kths[i] = smallest(scratch, n, k - 1)
    kept = 0
    if doubt == 0.0 and ratio == 0.0:
        equals = k
        for t in range(n):
            equals -= values[t] < kth
        for t in range(n):
            take = values[t] < kth
            if values[t] == kth and equals > 0:
                take = True
                equals -= 1
            if take:
                values[kept] = values[t]
                rows[kept] = rows[t]
                kept += 1
        limits[i] = kth
    else:
        # Ranks up to and with what is within reach; the limit itself is out.
        limit = np.nextafter(np.float32(reach(kth, doubt, ratio, power)), BEYOND)
        for t in range(n):
            if values[t] < limit:
                values[kept] = values[t]
                rows[kept] = rows[t]
                kept += 1
        limits[i] = limit
    counts[i] = kept


@compiled
def finish(
    values: Any, rows: Any, counts: Any, kths: Any, limits: Any, doubts: Any, ratio: float, power: int, k: int
) -> None:
    """Thin every list for the last time."""
    scratch = np.empty(values.shape[1], np.float32)
    for i in range(values.shape[0]):
        if counts[i] > k:
            thin(values[i], rows[i], counts, kths, limits, scratch, i, k, doubts[i], ratio, power)


@compiled
def smallest(x: Any, n: int, k: int) -> Any:
    """The k-th smallest, from 0, of the first n numbers; reorders them (Hoare 1961)."""
    low, high = 0, n - 1
    while low < high:
        pivot = x[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while x[i] < pivot:
                i += 1
            while x[j] > pivot:
                j -= 1
            if i <= j:
                x[i], x[j] = x[j], x[i]
                i += 1
                j -= 1
        if k <= j:
            high = j
        elif k >= i:
            low = i
        else:
            break
    return x[k]
