"""A database of rows, and the k nearest of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

import numpy as np

from lastlayer._arrays import Array, Float64, InputError, IntArray, check_matrix, first_not_finite
from lastlayer._progress import SILENT, Progress
from lastlayer._threads import available_threads, single_blas_thread
from lastlayer.neighbours.filters import Range
from lastlayer.neighbours.metrics import check_metric, distances
from lastlayer.neighbours.search import BLOCK_NUMBERS, DATABASE_ROWS, QUERY_ROWS, Search
from lastlayer.neighbours.sides import Sides

SAMPLE = 4096
"""Rows that the centre is the mean of."""


@final
@dataclass(frozen=True, eq=False)
class Nearest:
    """The k nearest rows of each query, nearest first; of equals the one with the lower number first.

    Attributes
    ----------
    distances : ndarray
        (n, k) float64.
    rows : ndarray
        (n, k) row numbers of the database.
    """

    distances: Float64
    rows: IntArray


@final
@dataclass(frozen=True, eq=False)
class Index:
    """A database of rows that can be searched; holds no copy of it.

    Parameters
    ----------
    X : ndarray
        (M, D) finite real numbers of any type, a memory map if need be; read block by block.
    metric : {"l2", "l1", "l3", "cosine"}
    rows : ndarray, optional
        The rows that count, ascending; all when not given.

    Raises
    ------
    InputError
        For an unknown metric, and for what is not a finite matrix, naming the row and column.

    Notes
    -----
    Exact: a filter in float32 leaves the few rows that its error bound cannot rule out (`filters`, `shadows`), and
    their distances are computed in float64 (`metrics`). Neither the size of the blocks nor the number of threads, nor
    the other queries, can change the answer in any digit. No tree is built: trees gain nothing in hundreds of
    dimensions (Weber, Schek & Blott 1998), and rank fewer rows only where there are few columns.

    FAISS's flat index is no engine here: on MNIST (60,000 × 784, k = 5, one core of an AMD EPYC of Zen 3) faiss-cpu
    1.15.1 took 1.34 s of processor time for 1,000 queries more, this search 0.33 s, and 1.20 s where it ranks by all
    columns (`benchmarks/neighbours.py`).

    Examples
    --------
    >>> database = np.array([[0, 0], [3, 4], [0, 1], [0, 0]], np.uint8)
    >>> found = Index(database).nearest(np.array([[0, 0]], np.uint8), 3)
    >>> found.rows, found.distances
    (array([[0, 3, 2]]), array([[0., 0., 1.]]))
    """

    X: Array
    metric: str = "l2"
    rows: IntArray | None = None
    known: Range = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_metric(self.metric)
        object.__setattr__(self, "X", _plain(self.X))
        check_matrix(self.X, "X")
        object.__setattr__(self, "known", self._range())

    def __len__(self) -> int:
        return len(self.X) if self.rows is None else len(self.rows)

    def _range(self) -> Range:
        if self.metric == "cosine":
            return Range(np.zeros(self.X.shape[1]), 1.0)  # of directions
        with np.errstate(over="ignore"):
            centre = self.X[:: max(1, len(self.X) // SAMPLE)].mean(axis=0, dtype=np.float64)
        if self.X.dtype == np.uint8:
            return Range(centre, 255.0)
        steps = max(1, BLOCK_NUMBERS // self.X.shape[1])
        blocks = (self.X[a : a + steps] for a in range(0, len(self.X), steps))
        return Range(centre, max(max(float(block.max()), -float(block.min())) for block in blocks))

    def nearest(
        self,
        queries: Array,
        k: int,
        *,
        rows: IntArray | None = None,
        own: IntArray | None = None,
        threads: int | None = None,
        progress: Progress = SILENT,
        name: str = "neighbours",
        query_rows: int = QUERY_ROWS,
        database_rows: int = DATABASE_ROWS,
    ) -> Nearest:
        """The k nearest rows of each query.

        Parameters
        ----------
        queries : ndarray
            (N, D) finite real numbers of any type.
        k : int
        rows : ndarray, optional
            (n,) the rows of `queries` that are asked; all when not given.
        own : ndarray, optional
            (n,) the row of the database that each query is, and that is not among its neighbours. Only where the whole
            database counts.
        threads : int, optional
            As many as there are cores when None.
        progress, name
            Shown while blocks are searched.
        query_rows, database_rows : int
            Rows of a block at most.

        Raises
        ------
        InputError
            For queries that are not a finite matrix of D columns, and for k beyond the rows of the database.
        """
        queries = _plain(queries)
        self._check(queries, k, own)
        sides = Sides(self.metric, self.X, self.rows, queries, rows)
        itself = np.full(sides.n_queries, -1) if own is None else np.asarray(own)
        with single_blas_thread():
            search = Search(
                sides, self.known, itself.astype(np.int64), k, threads or available_threads(), query_rows, database_rows
            )
            totals, found = search.run(progress, name)
        return Nearest(distances(self.metric, totals), found if self.rows is None else self.rows[found])

    def _check(self, queries: Array, k: int, own: IntArray | None) -> None:
        if queries.ndim != 2 or queries.shape[1] != self.X.shape[1] or queries.dtype.kind not in "fiu":
            raise InputError(
                f"the queries are {queries.dtype} of shape {queries.shape}; "
                f"numbers of shape (N, {self.X.shape[1]}) are needed"
            )
        where = first_not_finite(queries)
        if where is not None:
            raise InputError(
                f"the queries are {queries[where]} in row {where[0]}, column {where[1]}",
                "Repair or drop that row",
                "LL030",
            )
        if own is not None and self.rows is not None:
            raise InputError("own rows are given, and not all rows of the database count", "Give one of them")
        there = len(self) - (own is not None)
        if not 1 <= k <= there:
            others = "other rows" if own is not None else "rows"
            raise InputError(f"{k} neighbours are asked for; there are {there} {others}", f"Ask for 1 to {there}")


def _plain(X: Array) -> Array:
    """Of a memory map the view that compiled loops take; truth values as bytes."""
    X = np.asarray(X)
    return X.view(np.uint8) if X.dtype == np.bool_ else X
