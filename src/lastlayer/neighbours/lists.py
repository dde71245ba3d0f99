"""What each query keeps while blocks of the database come by: the few rows that may be among its k nearest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import final

import numpy as np

from lastlayer._arrays import Array, BoolArray, Float32, Float64, IntArray
from lastlayer.neighbours.filters import Block, Filter, reach
from lastlayer.neighbours.shadows import Shadows, farthest
from lastlayer.neighbours.sides import Sides

ROOM = 64
"""A list holds this many rows beside twice the k that are looked for."""


class Lists(ABC):
    """Lists of some queries in a row, from number `start` on."""

    @abstractmethod
    def ready(self, rows: Array) -> Block:
        """Rows of the database or queries, made ready for `meet`."""

    @abstractmethod
    def meet(self, here: slice, queries: Block, first: int, rows: Block, ranks: Float32, largest: float) -> None:
        """Queries `here` meet the rows from `first` on; `ranks` is room for the product of their numbers.

        `largest` is the largest of the sizes of all rows so far, from which bounds on errors are made.
        """

    @abstractmethod
    def finish(self, here: slice, queries: Block, largest: float) -> tuple[IntArray, IntArray]:
        """Candidates of the queries `here`: which of them, ascending, and the rows."""


class _Kept:
    """`values` and `rows` (n, room), of which `counts` are in use; the k-th lowest, and the limit of ranks."""

    def __init__(self, sides: Sides, own: IntArray, start: int, stop: int, k: int) -> None:
        self.sides, self.own, self.start, self.k = sides, own, start, k
        n, room = stop - start, 2 * k + ROOM
        self.values = np.empty((n, room), np.float32)
        self.rows = np.empty((n, room), np.int64)
        self.counts = np.zeros(n, np.int64)
        self.kths, self.limits = np.full(n, np.inf, np.float32), np.full(n, np.inf, np.float32)

    def local(self, here: slice) -> slice:
        return slice(here.start - self.start, here.stop - self.start)

    def refresh(self, local: slice, limit: Callable[[Float64], Float64], exact: BoolArray | None = None) -> None:
        """Make the limits anew from the k-th values: with longer rows the bounds on errors have grown."""
        kths = self.kths[local]
        with np.errstate(invalid="ignore", over="ignore"):
            wide = limit(kths.astype(np.float64)).astype(np.float32)
        made = np.where(np.isinf(kths), kths, np.nextafter(wide, np.float32(np.inf)))
        self.limits[local] = made if exact is None else np.where(exact, kths, made)

    def shorten(self, i: int) -> None:
        """Cut a list to its k nearest, by distance: where too many are alike for float32 to tell."""
        held = self.rows[i, : self.counts[i]]
        totals = self.sides.sums(np.full(len(held), self.start + i), held)
        best = np.sort(np.lexsort((held, totals))[: self.k])
        self.rows[i, : self.k], self.values[i, : self.k] = held[best], self.values[i, best]
        self.counts[i] = self.k

    def candidates(self, local: slice) -> tuple[IntArray, IntArray]:
        used = np.arange(self.rows.shape[1]) < self.counts[local, None]
        return np.nonzero(used)[0], self.rows[local][used]


@final
class RankLists(Lists):
    """Lists by the ranks of a filter."""

    def __init__(self, by: Filter, sides: Sides, own: IntArray, start: int, stop: int, k: int) -> None:
        self.by, self.kept = by, _Kept(sides, own, start, stop, k)

    def ready(self, rows: Array) -> Block:
        """See `Lists`."""
        return self.by.ready(rows)

    def meet(self, here: slice, queries: Block, first: int, rows: Block, ranks: Float32, largest: float) -> None:
        """See `Lists`."""
        from lastlayer.neighbours import kernels

        kept, local = self.kept, self.kept.local(here)
        self.by.ranks(queries, rows, ranks)
        doubts, begin = self.by.doubts(queries, largest), np.zeros(len(ranks), np.int64)
        exact = (doubts == 0) & (self.by.ratio == 0)
        kept.refresh(local, lambda kth: reach(kth, doubts, self.by.ratio, self.by.power), exact)
        while True:
            full = kernels.scan(
                ranks,
                rows.added,
                first,
                kept.own[here],
                kept.values[local],
                kept.rows[local],
                kept.counts[local],
                kept.kths[local],
                kept.limits[local],
                doubts,
                self.by.ratio,
                self.by.power,
                kept.k,
                begin,
            )
            if full < 0:
                return
            kept.shorten(local.start + full)

    def finish(self, here: slice, queries: Block, largest: float) -> tuple[IntArray, IntArray]:
        """See `Lists`."""
        from lastlayer.neighbours import kernels

        kept, local = self.kept, self.kept.local(here)
        kernels.finish(
            kept.values[local],
            kept.rows[local],
            kept.counts[local],
            kept.kths[local],
            kept.limits[local],
            self.by.doubts(queries, largest),
            self.by.ratio,
            self.by.power,
            kept.k,
        )
        return kept.candidates(local)


@final
class BoundLists(Lists):
    """Lists by the distances of those rows whose shadows are near."""

    def __init__(self, by: Shadows, sides: Sides, own: IntArray, start: int, stop: int, k: int) -> None:
        self.by, self.kept = by, _Kept(sides, own, start, stop, k)
        self.known = np.zeros(stop - start, np.int64)
        self.numbers = np.arange(sides.n_rows) if sides.rows is None else np.asarray(sides.rows, np.int64)
        self.asked = np.arange(start, stop) if sides.asked is None else np.asarray(sides.asked[start:stop], np.int64)

    def ready(self, rows: Array) -> Block:
        """See `Lists`."""
        return self.by.ready(rows)

    def meet(self, here: slice, queries: Block, first: int, rows: Block, ranks: Float32, largest: float) -> None:
        """See `Lists`."""
        from lastlayer.neighbours import bounded_kernels

        kept, local = self.kept, self.kept.local(here)
        self.by.ranks(queries, rows, ranks)
        doubts, slacks = self.by.doubts(queries, largest), self.by.slacks(queries, largest)
        begin, lengths = np.zeros(len(ranks), np.int64), queries.added.astype(np.float64)
        kept.refresh(local, lambda kth: farthest(kth, self.by.ratio, slacks, lengths, doubts))
        while True:
            full = bounded_kernels.scan_bounds(
                ranks,
                rows.added,
                first,
                kept.own[here],
                kept.values[local],
                kept.rows[local],
                kept.counts[local],
                self.known[local],
                kept.kths[local],
                kept.limits[local],
                lengths,
                slacks,
                doubts,
                self.by.ratio,
                kept.k,
                begin,
                kept.sides.X,
                self.numbers,
                kept.sides.Q,
                self.asked[local],
            )
            if full < 0:
                return
            kept.shorten(local.start + full)
            self.known[local.start + full] = kept.k

    def finish(self, here: slice, queries: Block, largest: float) -> tuple[IntArray, IntArray]:
        """See `Lists`."""
        from lastlayer.neighbours import bounded_kernels

        kept, local = self.kept, self.kept.local(here)
        bounded_kernels.finish_bounds(
            kept.values[local],
            kept.rows[local],
            kept.counts[local],
            self.known[local],
            kept.kths[local],
            kept.limits[local],
            self.by.ratio,
            kept.k,
            kept.sides.X,
            self.numbers,
            kept.sides.Q,
            self.asked[local],
        )
        return kept.candidates(local)
