"""Ranks in float32 that are quick to make, with a bound on how far they may be off.

A filter orders the rows of the database for a query; rows whose order the bound leaves open are ordered again by
`metrics.sums` in float64. The answer is therefore that of float64 whatever was rounded here.

    products      -2 (x - c)·(y - c) + ‖y - c‖²  =  ‖x - y‖² - ‖x - c‖²,  c the mean of a sample of the database (l2)
                  -x·y / (‖x‖ ‖y‖)                                                                     (cosine)
    differences   Σ|x - y|, Σ|x - y|³

Products of whole numbers are exact in float32 while ``‖y‖² + 2 ‖x‖ ‖y‖ < 2²⁴``; so are sums of differences of bytes.
Otherwise a sum of D terms errs by at most ``~D u Σ|terms|`` in any order (Higham 2002, section 3.1), u = 2⁻²⁴.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from lastlayer._arrays import Array, Float32, Float64
from lastlayer.neighbours.metrics import POWER, unit

ROUNDING = 2.0**-24
EXACT = 2.0**24
SLACK = 12
"""Roundings beyond those of the sum: of the rows, the lengths, the limit itself."""
TAME = 2.0**30
"""Numbers whose squares and cubes float32 holds; beyond, they are scaled by a power of two."""


@final
@dataclass(frozen=True, eq=False)
class Block:
    """Rows made ready for a filter.

    Attributes
    ----------
    values : ndarray
        (n, D) float32 or uint8, in C order.
    added : ndarray
        (n,) float32, added to the ranks of these rows when they are of the database.
    sizes : ndarray
        (n,) lengths that the bound is made of; infinite for rows that float32 cannot hold.
    """

    values: Array
    added: Float32
    sizes: Float64


class Filter(ABC):
    """Ranks of one metric on one database."""

    @abstractmethod
    def ready(self, rows: Array) -> Block:
        """Rows of the database or queries, (n, D) of the type of either."""

    @abstractmethod
    def ranks(self, queries: Block, rows: Block, out: Float32) -> None:
        """Fill (n, m) with ranks; those of one query are comparable once the rows' `added` is added."""

    @abstractmethod
    def doubts(self, queries: Block, largest: float) -> Float64:
        """Bound (n,) on the errors of a query's ranks (of their roots) with rows of sizes up to `largest`."""

    @property
    @abstractmethod
    def ratio(self) -> float:
        """A further part of the bound, relative to the rank."""

    @property
    @abstractmethod
    def power(self) -> int:
        """Ranks are sums of terms to this power, of which the bound knows the root."""


@final
@dataclass(frozen=True, eq=False)
class Products(Filter):
    """Ranks from matrix products.

    Parameters
    ----------
    metric : {"l2", "cosine"}
    centre : ndarray
        (D,) float32, subtracted from both sides; for "cosine" not.
    scale : float
        Power of two by which both sides are multiplied.
    whole : bool
        Whether all numbers, the centre's too, are whole.
    """

    metric: str
    centre: Float32
    scale: float
    whole: bool

    def ready(self, rows: Array) -> Block:
        """See `Filter`."""
        if self.metric == "cosine":
            return _directions(rows)
        with np.errstate(over="ignore", invalid="ignore"):
            values = moved(rows, self.centre, self.scale)
            squares = np.einsum("nd,nd->n", values, values)
        strange = ~np.isfinite(squares)
        if strange.any():
            values[strange] = 0.0
            squares[strange] = 0.0
        return Block(values, squares, np.where(strange, np.inf, np.sqrt(squares.astype(np.float64))))

    def ranks(self, queries: Block, rows: Block, out: Float32) -> None:
        """See `Filter`."""
        factor = np.float32(-1 if self.metric == "cosine" else -2)  # exact, on the smaller side
        np.matmul(queries.values * factor, rows.values.T, out=out)

    def doubts(self, queries: Block, largest: float) -> Float64:
        """See `Filter`."""
        D = queries.values.shape[1]
        unit_error = (D + SLACK) * ROUNDING * (1.01 + D * ROUNDING)
        if self.metric == "cosine":
            return np.full(len(queries.sizes), 2.0 * unit_error)  # of the product, and of the lengths
        strange = np.isinf(queries.sizes)
        terms = largest * largest + 2.0 * np.where(strange, 0.0, queries.sizes) * largest
        bound = np.where(strange, np.inf, unit_error * terms)
        return np.where(~strange & (terms < EXACT), 0.0, bound) if self.whole else bound

    @property
    def ratio(self) -> float:
        """See `Filter`."""
        return 0.0

    @property
    def power(self) -> int:
        """See `Filter`."""
        return 1


@final
@dataclass(frozen=True, eq=False)
class Differences(Filter):
    """Ranks from sums of absolute differences or of their cubes.

    Parameters
    ----------
    metric : {"l1", "l3"}
    centre : ndarray
        (D,) float32, subtracted from both sides where these are rounded to float32, so that less is lost.
    scale : float
        Power of two by which both sides are multiplied.
    kind : {"bytes", "single", "double"}
        uint8, what float32 holds, and what it must be rounded to.
    compiled : bool
        Whether compiled loops are worth loading.
    """

    metric: str
    centre: Float32
    scale: float
    kind: str
    compiled: bool

    def ready(self, rows: Array) -> Block:
        """See `Filter`."""
        zeros = np.zeros(len(rows), np.float32)
        if self.kind == "bytes" and self.metric == "l1":
            return Block(np.ascontiguousarray(rows), zeros, zeros.astype(np.float64))
        if self.kind != "double" and self.scale == 1.0:
            values = np.ascontiguousarray(rows, dtype=np.float32)
            strange = np.abs(values).max(axis=1) > TAME
            if not strange.any():
                return Block(values, zeros, zeros.astype(np.float64))
        with np.errstate(over="ignore", invalid="ignore"):
            values = moved(rows, self.centre, self.scale)
            total = np.abs(values).sum(axis=1, dtype=np.float64)
        strange = ~np.isfinite(total) | (total > TAME)
        values[strange] = 0.0
        # The 3-norm is no larger than the 1-norm.
        return Block(values, zeros, np.where(strange, np.inf, total))

    def ranks(self, queries: Block, rows: Block, out: Float32) -> None:
        """See `Filter`."""
        if not self.compiled:
            _by_numpy(self.metric, queries.values, rows.values, out)
            return
        from lastlayer.neighbours import difference_kernels as kernels

        if self.metric == "l3":
            kernels.cubes(queries.values, rows.values, out)
        elif self.kind == "bytes":
            kernels.city_block_bytes(queries.values, rows.values, out)
        else:
            kernels.city_block(queries.values, rows.values, out)

    def doubts(self, queries: Block, largest: float) -> Float64:
        """See `Filter`."""
        return np.asarray(2.0 * ROUNDING * (queries.sizes + largest))

    @property
    def ratio(self) -> float:
        """See `Filter`."""
        D = len(self.centre)
        if self.kind == "bytes" and self.metric == "l1" and 255 * D < EXACT:
            return 0.0
        return (D + SLACK) * ROUNDING * 1.01

    @property
    def power(self) -> int:
        """See `Filter`."""
        return POWER[self.metric]


def _directions(rows: Array) -> Block:
    """Rows divided by their lengths; rows of zeros stay as they are."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
        values = rows.astype(np.float32, order="C")
        squares = np.einsum("nd,nd->n", values, values)
        values *= (1.0 / np.sqrt(squares))[:, None]
    beyond = np.flatnonzero(~((squares > 1e-20) & (squares < 1e20)))  # where float32 does not hold the squares
    exact = rows[beyond].astype(np.float64, order="C")
    unit(exact)
    values[beyond] = exact
    return Block(values, np.zeros(len(rows), np.float32), np.ones(len(rows)))


def _by_numpy(metric: str, X: Array, Y: Array, out: Float32) -> None:
    for i, x in enumerate(X):
        gaps = np.abs(np.subtract(Y, x, dtype=np.float32))
        out[i] = gaps.sum(axis=1) if metric == "l1" else (gaps * gaps * gaps).sum(axis=1)


def moved(rows: Array, centre: Float32, scale: float) -> Float32:
    """``(rows - centre) · scale``, computed in a type that holds the rows, then rounded to float32 once."""
    narrow = scale == 1.0 and rows.dtype in (np.uint8, np.float32, np.float16, np.int8, np.int16, np.uint16)
    moved = np.subtract(rows, centre, dtype=np.float32 if narrow else np.float64, order="C")
    if scale != 1.0:
        moved *= scale
    return moved.astype(np.float32, copy=False)


def reach(kth: Any, doubt: Any, ratio: float, power: int) -> Any:
    """Ranks beyond this are certainly not among the k lowest, when the k-th lowest came out as `kth`."""
    if power == 1:
        return kth + 2.0 * (doubt + ratio * np.abs(kth))
    root = kth ** (1.0 / power)
    return (root + 2.0 * (doubt + ratio * root)) ** power


@final
@dataclass(frozen=True, eq=False)
class Range:
    """What is known of a database before a search.

    Attributes
    ----------
    centre : ndarray
        (D,) float64 mean of a sample of its rows.
    largest : float
        Largest absolute value.
    """

    centre: Float64
    largest: float

    @property
    def scale(self) -> float:
        """Power of two that makes the numbers tame; 1 where they are."""
        if self.largest == 0 or 1 / TAME <= self.largest <= TAME:
            return 1.0
        return float(np.ldexp(1.0, int(np.clip(-np.frexp(self.largest)[1], -1000, 1000))))


def make_filter(metric: str, known: Range, left: np.dtype[Any], right: np.dtype[Any], compiled: bool) -> Filter:
    """The filter of a metric for queries of type `left` and a database of type `right`.

    Compiled loops are loaded only where they are said to be worth it.
    """
    whole = left.kind in "iub" and right.kind in "iub"
    with np.errstate(over="ignore"):
        centre = (np.rint(known.centre) if whole else known.centre).astype(np.float32)
    centre[~np.isfinite(centre)] = 0.0
    if metric in ("l2", "cosine"):
        return Products(metric, centre, known.scale, whole and known.scale == 1.0)
    if left == right == np.uint8:
        kind = "bytes"
    else:
        kind = "single" if np.can_cast(left, np.float32) and np.can_cast(right, np.float32) else "double"
    return Differences(metric, centre, known.scale, kind, compiled)
