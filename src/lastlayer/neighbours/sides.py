"""Database and queries, block by block, and the distances of single pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from lastlayer._arrays import Array, Float64, IntArray
from lastlayer.neighbours.metrics import sums

PAIRS = 2**17
"""Numbers held at a time where distances are computed pair by pair."""


@final
@dataclass(frozen=True, eq=False)
class Sides:
    """Both sides of a search; rows are meant by their position among those in use.

    Attributes
    ----------
    metric : str
    X : ndarray
        (M', D); `rows` (M,) are in use, all when None.
    Q : ndarray
        (N', D); `asked` (N,) are in use, all when None.
    """

    metric: str
    X: Array
    rows: IntArray | None
    Q: Array
    asked: IntArray | None

    @property
    def n_rows(self) -> int:
        """M."""
        return len(self.X) if self.rows is None else len(self.rows)

    @property
    def n_queries(self) -> int:
        """N."""
        return len(self.Q) if self.asked is None else len(self.asked)

    @property
    def n_features(self) -> int:
        """D."""
        return int(self.X.shape[1])

    def database(self, here: slice) -> Array:
        """Rows of the database, of their own type."""
        return np.asarray(self.X[here if self.rows is None else self.rows[here]])

    def queries(self, here: slice) -> Array:
        """Queries, of their own type."""
        return np.asarray(self.Q[here if self.asked is None else self.asked[here]])

    def sums(self, queries: IntArray, rows: IntArray) -> Float64:
        """What pairs are ordered by, (n,): query ``queries[i]`` and row ``rows[i]``."""
        whole = self.X.dtype.kind in "iu" and self.Q.dtype.kind in "iu"
        out = np.empty(len(rows))
        step = max(1, PAIRS // self.n_features)
        for start in range(0, len(rows), step):
            here = slice(start, start + step)
            left = queries[here] if self.asked is None else self.asked[queries[here]]
            right = rows[here] if self.rows is None else self.rows[rows[here]]
            A, B = self.Q[left].astype(np.float64, order="C"), self.X[right].astype(np.float64, order="C")
            out[here] = sums(self.metric, A, B, whole)
        return out

    def order(self, here: slice, k: int, places: IntArray, rows: IntArray) -> tuple[Float64, IntArray]:
        """The k first of each query's candidates by distance, then by number.

        Parameters
        ----------
        here : slice
            The n queries.
        k : int
        places, rows : ndarray
            Candidates, at least k for each query: which of the n queries, ascending, and the row.

        Returns
        -------
        totals, found : ndarray
            (n, k) what they are ordered by, and the rows.
        """
        order_by = self.sums(here.start + places, rows)
        order = np.lexsort((rows, order_by, places))
        first = np.searchsorted(places, np.arange(here.stop - here.start))
        top = order[first[:, None] + np.arange(k)]
        return order_by[top], rows[top]
