"""Blocks of queries meet blocks of the database, side by side on threads, in bounded memory."""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from typing import final

import numpy as np

from lastlayer._arrays import Float32, Float64, IntArray
from lastlayer._progress import Progress
from lastlayer._threads import parallel
from lastlayer.neighbours.filters import Block, Filter, Range, make_filter, reach
from lastlayer.neighbours.lists import ROOM, BoundLists, Lists, RankLists
from lastlayer.neighbours.shadows import SAMPLE_QUERIES, SAMPLE_ROWS, Shadows, make_shadows
from lastlayer.neighbours.sides import Sides

QUERY_ROWS, DATABASE_ROWS = 1024, 2048
"""Rows of a block at most: products of this size run at the machine's rate."""
BLOCK_NUMBERS = 2**21
"""Numbers in a block of rows at most, however many columns there are."""
RANKS = 2**23
"""Ranks held at a time by all threads together."""
LISTED = 2**22
"""Entries of all lists together; more queries are searched in several rounds."""
HELD = 2**23
"""Numbers of queries at most that are kept ready."""
COMPILED_FROM = 2**27
"""Numbers that meet, from which compiled loops are worth loading."""
SMALL_TABLE = 2**20
"""Ranks that are held at once where no compiled loops are used."""
SHADOWS_FROM = 2**31
"""Numbers that meet, from which a projection is worth trying."""


@final
class Search:
    """One search; see `Index.nearest`.

    Parameters
    ----------
    sides : Sides
    known : Range
        Of the database.
    own : ndarray
        (N,) the position that each query has in the database itself, or -1.
    k, threads, query_rows, database_rows : int
    """

    def __init__(
        self, sides: Sides, known: Range, own: IntArray, k: int, threads: int, query_rows: int, database_rows: int
    ) -> None:
        self.sides, self.own, self.k, self.threads = sides, own, k, threads
        ranks = sides.n_queries * sides.n_rows
        self.compiled = ranks * sides.n_features >= COMPILED_FROM or ranks > SMALL_TABLE
        fitting = max(1, BLOCK_NUMBERS // sides.n_features)
        self.database_rows = min(database_rows, fitting)
        self.query_rows = min(query_rows, fitting, max(1, RANKS // (threads * self.database_rows)))
        self.by: Filter = make_filter(sides.metric, known, sides.Q.dtype, sides.X.dtype, self.compiled)
        self.shadows = self._shadows(known) if ranks * sides.n_features >= SHADOWS_FROM else None
        self.held: dict[int, Block] | None = {} if sides.n_queries * sides.n_features <= HELD else None
        self.largest = 0.0

    def run(self, progress: Progress, name: str) -> tuple[Float64, IntArray]:
        """Sums and positions (N, k)."""
        n, m, k = self.sides.n_queries, self.sides.n_rows, self.k
        totals, found = np.empty((n, k)), np.empty((n, k), np.int64)
        many = max(self.query_rows, LISTED // (2 * k + ROOM)) if self.compiled else max(1, n)
        with progress.task(name, n * m) as task:
            for start in range(0, n, many):
                stop = min(start + many, n)
                if not self.compiled:
                    self._at_once(totals, found)
                    task.advance(n * m)
                    continue
                lists, pieces = self._lists(start, stop), self._pieces(start, stop)
                scratch = self._scratch(pieces)
                for low, high in self._steps():
                    self._meet(lists, pieces, scratch, low, high)
                    task.advance((stop - start) * (high - low))
                self._finish(lists, pieces, totals, found)
        return totals, found

    def _shadows(self, known: Range) -> Shadows | None:
        """A projection, where it pays."""
        sides = self.sides
        readable = sides.X.dtype == sides.Q.dtype and sides.X.dtype in (np.uint8, np.float32, np.float64)
        if sides.metric != "l2" or not readable or known.scale != 1.0 or sides.n_rows <= SAMPLE_ROWS:
            return None
        if not all(A.flags.c_contiguous and A.flags.aligned for A in (sides.X, sides.Q)) or not _tame(sides):
            return None
        rows = sides.database(slice(0, None, sides.n_rows // SAMPLE_ROWS))
        queries = sides.queries(slice(0, None, max(1, sides.n_queries // SAMPLE_QUERIES)))[:SAMPLE_QUERIES]
        return make_shadows(rows, queries, self.k, sides.n_rows, known.centre.astype(np.float32))

    def _lists(self, start: int, stop: int) -> Lists:
        if self.shadows is not None:
            return BoundLists(self.shadows, self.sides, self.own, start, stop, self.k)
        return RankLists(self.by, self.sides, self.own, start, stop, self.k)

    def _scratch(self, pieces: list[slice]) -> deque[Float32]:
        widest = max(piece.stop - piece.start for piece in pieces)
        return deque(np.empty(widest * self.database_rows, np.float32) for _ in range(self.threads))

    def _pieces(self, start: int, stop: int) -> list[slice]:
        """Blocks of queries of about one size, as many for each thread."""
        count = -(-(stop - start) // self.query_rows)
        if stop - start >= 64 * self.threads:
            count = -(-count // self.threads) * self.threads
        edges = np.linspace(start, stop, count + 1).astype(int).tolist()
        return [slice(a, b) for a, b in pairwise(edges)]

    def _steps(self) -> list[tuple[int, int]]:
        """Parts of the database: a block for each thread, as far as memory allows."""
        blocks = max(1, min(self.threads, 2 * BLOCK_NUMBERS // (self.database_rows * self.sides.n_features)))
        step = self.database_rows * blocks
        return [(low, min(low + step, self.sides.n_rows)) for low in range(0, self.sides.n_rows, step)]

    def _queries(self, lists: Lists, here: slice) -> Block:
        """Queries made ready; kept for the next block of the database where they are few."""
        if self.held is not None and here.start in self.held:
            return self.held[here.start]
        block = lists.ready(self.sides.queries(here))
        if self.held is not None:
            self.held[here.start] = block
        return block

    def _meet(self, lists: Lists, pieces: list[slice], scratch: deque[Float32], low: int, high: int) -> None:
        """Queries against the rows low to high of the database."""
        starts = range(low, high, self.database_rows)
        ends = [min(first + self.database_rows, high) for first in starts]
        made = parallel(
            lambda ends: lists.ready(self.sides.database(slice(*ends))), list(zip(starts, ends)), self.threads
        )
        self.largest = max(self.largest, *(float(block.sizes.max()) for block in made))

        def work(here: slice) -> None:
            held, queries = scratch.pop(), self._queries(lists, here)
            for first, rows in zip(starts, made):
                n, m = len(queries.values), len(rows.values)
                lists.meet(here, queries, first, rows, held[: n * m].reshape(n, m), self.largest)
            scratch.append(held)

        parallel(work, pieces, self.threads)

    def _finish(self, lists: Lists, pieces: list[slice], totals: Float64, found: IntArray) -> None:
        def work(here: slice) -> None:
            places, rows = lists.finish(here, self._queries(lists, here), self.largest)
            totals[here], found[here] = self.sides.order(here, self.k, places, rows)

        parallel(work, pieces, self.threads)

    def _at_once(self, totals: Float64, found: IntArray) -> None:
        """Without compiled loops: few enough ranks to hold all of them."""
        sides, by, k = self.sides, self.by, self.k
        rows = by.ready(sides.database(slice(0, sides.n_rows)))
        largest = float(rows.sizes.max())

        def work(here: slice) -> None:
            queries = by.ready(sides.queries(here))
            ranks = np.empty((here.stop - here.start, sides.n_rows), np.float32)
            by.ranks(queries, rows, ranks)
            ranks += rows.added
            mine = np.flatnonzero(self.own[here] >= 0)
            ranks[mine, self.own[here][mine]] = np.inf
            kth = np.partition(ranks, k - 1, axis=1)[:, k - 1].astype(np.float64)
            limit = reach(kth, by.doubts(queries, largest), by.ratio, by.power)
            ranks[mine, self.own[here][mine]] = np.nan  # below no limit, infinite or not
            places, near = np.nonzero(ranks <= limit[:, None])
            totals[here], found[here] = sides.order(here, k, places, near)

        parallel(work, self._pieces(0, sides.n_queries), self.threads)


def _tame(sides: Sides) -> bool:
    """Whether float32 holds the squares of the queries."""
    if sides.Q.dtype == np.uint8:
        return True
    steps = max(1, BLOCK_NUMBERS // sides.n_features)
    return all(np.abs(sides.Q[a : a + steps]).max() <= 2.0**30 for a in range(0, len(sides.Q), steps))
