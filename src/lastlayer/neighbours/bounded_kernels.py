"""Compiled loops: the candidates among a block of ranks that are lower bounds.

As in `kernels`, but a rank says only that a row is no nearer than so. The limit is made of distances: when a query's
list is full those of its rows are computed, and what is farther than the k-th nearest so far is dropped.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from lastlayer._compiled import compiled
from lastlayer.neighbours import shadows
from lastlayer.neighbours.kernels import BEYOND, STRIP, any_below, smallest

ZERO = np.float32(0)
farthest = compiled(shadows.farthest)


@intrinsic  # type: ignore[untyped-decorator]
def difference(_context: Any, x: Any, _y: Any) -> Any:
    """``x - y`` of two bytes or floats, rounded to float32 once: the language would take bytes for 64-bit integers."""

    def generate(_context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        from llvmlite import ir

        single = ir.FloatType()
        if signature.args[0] == types.uint8:
            arguments = [builder.uitofp(argument, single) for argument in arguments]
        found = builder.fsub(*arguments)
        return builder.fptrunc(found, single) if signature.args[0] == types.float64 else found

    return types.float32(x, x), generate


@compiled
def squared(x: Any, y: Any) -> Any:
    """``‖x - y‖²`` in float32."""
    total = ZERO
    for d in range(x.size):
        gap = difference(x[d], y[d])
        total += gap * gap
    return total


@compiled
def scan_bounds(
    ranks: Any,
    added: Any,
    first: int,
    own: Any,
    values: Any,
    rows: Any,
    counts: Any,
    known: Any,
    kths: Any,
    limits: Any,
    lengths: Any,
    slacks: Any,
    doubts: Any,
    ratio: float,
    k: int,
    begin: Any,
    X: Any,
    numbers: Any,
    Q: Any,
    asked: Any,
) -> int:
    """Take in the bounds ``ranks[i, j] + added[j]``, less ``lengths[i]``, of the rows ``first + j`` for every query i.

    See `kernels.scan`. The first ``known[i]`` of a list have their squared distances as `values`, the others bounds.
    Position p of the database is ``X[numbers[p]]``, query i is ``Q[asked[i]]``.
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
                    measure(values[i], rows[i], counts, known, limits, i, X, numbers, Q[asked[i]])
                    tighten(values[i], rows[i], counts, known, kths, scratch, i, k, ratio)
                    limit = farthest(kths[i], ratio, slacks[i], lengths[i], doubts[i])
                    limits[i] = np.nextafter(np.float32(limit), BEYOND)
                    if counts[i] > room // 2:
                        begin[i] = j
                        return i
        begin[i] = width
    return -1


@compiled
def measure(
    values: Any, rows: Any, counts: Any, known: Any, limits: Any, i: int, X: Any, numbers: Any, query: Any
) -> None:
    """Replace the bounds of one list by squared distances; what is beyond the limit is dropped unseen."""
    kept = known[i]
    for t in range(known[i], counts[i]):
        if values[t] < limits[i]:
            values[kept] = squared(query, X[numbers[rows[t]]])
            rows[kept] = rows[t]
            kept += 1
    known[i] = counts[i] = kept


@compiled
def tighten(
    values: Any, rows: Any, counts: Any, known: Any, kths: Any, scratch: Any, i: int, k: int, ratio: float
) -> None:
    """Keep of one list, all distances known, what may be among the k nearest; the k-th is kept in `kths`."""
    n = counts[i]
    scratch[:n] = values[:n]
    kth = kths[i] = smallest(scratch, n, k - 1)
    limit = np.nextafter(np.float32(kth * (1.0 + 2.0 * ratio)), BEYOND)
    kept = 0
    for t in range(n):
        if values[t] < limit:
            values[kept] = values[t]
            rows[kept] = rows[t]
            kept += 1
    known[i] = counts[i] = kept


@compiled
def finish_bounds(
    values: Any,
    rows: Any,
    counts: Any,
    known: Any,
    kths: Any,
    limits: Any,
    ratio: float,
    k: int,
    X: Any,
    numbers: Any,
    Q: Any,
    asked: Any,
) -> None:
    """Measure and tighten every list for the last time."""
    scratch = np.empty(values.shape[1], np.float32)
    for i in range(values.shape[0]):
        measure(values[i], rows[i], counts, known, limits, i, X, numbers, Q[asked[i]])
        tighten(values[i], rows[i], counts, known, kths, scratch, i, k, ratio)
