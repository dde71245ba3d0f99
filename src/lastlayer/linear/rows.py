"""Sums over rows whose bits belong to the data.

Rows are cut into *leaves*, as many as their number says, leaves into micro-blocks. Inside a micro-block one BLAS thread
multiplies; leaves run side by side on a pool of threads; their results are added as a tree whose shape depends on
the number of leaves alone. The same rows therefore give the same bits on any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np

from lastlayer._arrays import Array, Float64, FloatArray, IntArray
from lastlayer._threads import parallel

MICRO_ROWS = 2048
LEAF_ROWS = 4096
"""Most rows of a leaf."""
EVEN = 16
"""Threads that large data are shared evenly among."""
PIECE_ROWS = 512
ARITY = 4
LARGE_PART = 2**16
"""Numbers in a leaf's result from which on results are added on all threads, so many numbers at a time."""
TILE = 512
WIDE = 2048
ALL = slice(None)


def leaf_rows(n_rows: int) -> int:
    """Rows of a leaf: half of `LEAF_ROWS` to all of them, so that 2, 4, 8 or 16 threads have as many leaves each.

    It depends on the number of rows alone, as the bits of a sum do.

    >>> [(n, -(-n // leaf_rows(n))) for n in (1_000, 4_097, 10_000, 60_000, 1_000_000)]
    [(1000, 1), (4097, 2), (10000, 4), (60000, 16), (1000000, 256)]
    """
    count = max(1, -(-n_rows // LEAF_ROWS))
    even = min(EVEN, 1 << (count.bit_length() - 1))
    count = -(-count // even) * even
    return LEAF_ROWS if count == 1 else -(-n_rows // (count * 16)) * 16


def tree_sum(parts: Sequence[Float64]) -> Float64:
    """Sum of the leaves' results as a tree of arity 4, left to right; its shape depends on their number alone.

    >>> float(tree_sum([np.array(1.0), np.array(2.0), np.array(3.0)]))
    6.0
    """
    level = list(parts)
    while len(level) > 1:
        level = [_add(level[i : i + ARITY]) for i in range(0, len(level), ARITY)]
    return level[0]


def tree_of(term: Callable[[int], Float64], count: int) -> Float64:
    """``tree_sum([term(0), term(1), …])`` with few terms alive at a time; they are new arrays, and may be added to.

    >>> float(tree_of(lambda i: np.array(i + 1.0), 6)), float(tree_sum([np.array(i + 1.0) for i in range(6)]))
    (21.0, 21.0)
    """
    size = 1
    while size < count:
        size *= ARITY
    return _subtree(term, 0, size, count)


def _subtree(term: Callable[[int], Float64], first: int, size: int, count: int) -> Float64:
    """Sum of the terms `first` … of a complete subtree, those from `count` on left out.

    A closure that calls itself would do as well, but is freed by the garbage collector only, with all that it holds.
    """
    if size == 1:
        return term(first)
    size //= ARITY
    total = _subtree(term, first, size, count)
    for start in range(first + size, min(first + ARITY * size, count), size):
        total += _subtree(term, start, size, count)
    return total


def _add(parts: Sequence[Float64]) -> Float64:
    total = parts[0].copy()
    for part in parts[1:]:
        total += part
    return total


@final
@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of Z as the products see them: ``(Z[rows] - shift) * scale`` in the products' type, block by block.

    Nothing is copied ahead: where no change is needed a block is a view of Z, otherwise it is made when it is used.

    Parameters
    ----------
    Z : ndarray
        (N, D) features of any real type.
    rows : ndarray or None
        Row numbers in use; all when None.
    shift, scale : ndarray or None
        (D,) per column; scales are powers of two, so that scaling is exact.
    threads : int
        Threads for the leaves; changes no bit of any result.
    in_float64 : bool
        Multiply in float64 whatever the type of Z.
    """

    Z: Array
    rows: IntArray | None = None
    shift: Float64 | None = None
    scale: Float64 | None = None
    threads: int = 1
    in_float64: bool = False

    def __len__(self) -> int:
        return len(self.Z) if self.rows is None else len(self.rows)

    @property
    def n_features(self) -> int:
        """D."""
        return int(self.Z.shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the products: float64 for float64, wide integers and where asked for, else float32."""
        wide = self.Z.dtype == np.float64 or (self.Z.dtype.kind in "iu" and self.Z.dtype.itemsize > 2)
        return np.dtype(np.float64 if wide or self.in_float64 else np.float32)

    @property
    def stored(self) -> np.dtype[Any]:
        """Type of Z."""
        return self.Z.dtype

    def block(self, start: int, stop: int, columns: slice = ALL, every: int = 1) -> FloatArray:
        """Rows `start` to `stop` (every `every`-th), ready for a product; never to be written to."""
        span = slice(start, stop, every)
        return self._ready(self.Z[span if self.rows is None else self.rows[span], columns], columns)

    def pick(self, numbers: IntArray) -> FloatArray:
        """Some rows in the order given, ready for a product."""
        return self._ready(self.Z[numbers if self.rows is None else self.rows[numbers]], ALL)

    def among(self, numbers: IntArray) -> Rows:
        """Some rows in the order given; they stay where they are, and are picked when they are used."""
        return replace(self, rows=numbers if self.rows is None else self.rows[numbers])

    def _ready(self, part: Array, columns: slice) -> FloatArray:
        if self.shift is None:
            # Row-major always: BLAS takes other paths, with other bits, for other memory orders.
            plain = part.dtype == self.dtype and part.strides[1] == part.itemsize
            ready: FloatArray = part if plain else np.ascontiguousarray(part, dtype=self.dtype)
            return ready
        moved: Array = np.subtract(part, self.shift[columns].astype(self._work), dtype=self._work, order="C")
        if self.scale is not None:
            moved *= self.scale[columns]
        return moved.astype(self.dtype, copy=False)

    @property
    def _work(self) -> np.dtype[Any]:
        """Type in which columns are shifted and scaled: exact for the type of Z."""
        exact_in_32 = self.scale is None and self.Z.dtype in (np.float32, np.float16, np.uint8, np.bool_)
        return np.dtype(np.float32 if exact_in_32 and self.dtype == np.float32 else np.float64)

    def leaves(self, n_rows: int | None = None) -> list[tuple[int, int]]:
        """First and last row of each leaf."""
        n = len(self)
        n_rows = leaf_rows(n) if n_rows is None else n_rows
        return [(start, min(start + n_rows, n)) for start in range(0, n, n_rows)]

    def sum_over(self, term: Callable[[int, int], Float64], n_rows: int | None = None, *, size: int = 0) -> Float64:
        """``Σ term(first row, last row)`` over leaves, added in the fixed order in float64.

        Terms are new arrays, and may be added to; `size` says about how many numbers they have.
        """
        leaves = self.leaves(n_rows)
        # A task is a complete subtree where there are many leaves, or terms are large and threads get about as many, so
        # that few are alive at a time.
        rounds, left = divmod(len(leaves), ARITY * self.threads)
        shared = rounds >= 8 or (size >= LARGE_PART and (rounds >= 2 or (rounds, left) == (1, 0)))
        count = ARITY if shared else 1
        tasks = [leaves[i : i + count] for i in range(0, len(leaves), count)]
        parts = parallel(lambda task: tree_of(lambda i: term(*task[i]), len(task)), tasks, self.threads)
        if parts[0].ndim != 1 or parts[0].size < LARGE_PART:
            return tree_sum(parts)
        spans = [slice(i, i + LARGE_PART) for i in range(0, parts[0].size, LARGE_PART)]
        return np.concatenate(parallel(lambda span: tree_sum([part[span] for part in parts]), spans, self.threads))

    def micro_blocks(self, start: int, stop: int) -> list[tuple[int, int]]:
        """First and last row of each micro-block of a leaf."""
        return [(a, min(a + MICRO_ROWS, stop)) for a in range(start, stop, MICRO_ROWS)]

    @property
    def in_place(self) -> bool:
        """Whether the rows can be read as they lie in Z."""
        return self.shift is None and self.Z.dtype == self.dtype and bool(self.Z.flags.c_contiguous)

    def pieces(self, start: int, stop: int) -> list[tuple[int, int]]:
        """A leaf as whole where it is a view of Z, else cut so that the blocks made of it stay in the cache."""
        if self.in_place and self.rows is None:
            return [(start, stop)]
        return [(a, min(a + PIECE_ROWS, stop)) for a in range(start, stop, PIECE_ROWS)]

    def product(self, right: FloatArray, added: FloatArray, out: FloatArray, start: int, stop: int) -> None:
        """``out[:, start:stop] = (Z right + added)ᵀ``: class by class, so that elementwise work runs along the rows."""
        self.product_of(right, added, out[:, start:stop], start, stop)

    def product_of(self, right: FloatArray, added: FloatArray, out: FloatArray, start: int, stop: int) -> None:
        """``out = (Z right + added)ᵀ`` for out (K, stop - start)."""
        for a, b in self.micro_blocks(start, stop):
            np.add((self.block(a, b) @ right).T, added[:, None], out=out[:, a - start : b - start])

    def empty(self, n_outputs: int) -> FloatArray:
        """Room for scores (K, N)."""
        return np.empty((n_outputs, len(self)), dtype=self.dtype)

    def constant(self, added: FloatArray) -> FloatArray:
        """Scores (K, N) that are the same in every row."""
        out = self.empty(len(added))
        out[...] = added[:, None]
        return out

    def scores(self, right: FloatArray, added: FloatArray) -> FloatArray:
        """``(Z right + added)ᵀ``, (K, N)."""
        out = self.empty(len(added))
        parallel(lambda leaf: self.product(right, added, out, *leaf), self.leaves(), self.threads)
        return out

    def choose(self, scores: FloatArray, numbers: IntArray) -> FloatArray:
        """Scores (K, n) of some rows."""
        return np.ascontiguousarray(scores[:, numbers])

    def back_product(self, P: FloatArray, start: int, stop: int) -> Float64:
        """``P Z`` (K, D) for P (K, leaf rows): products in the products' type, their sum in float64."""
        parts = [P[:, a - start : b - start] @ self.block(a, b) for a, b in self.micro_blocks(start, stop)]
        total = parts[0].astype(np.float64)
        for part in parts[1:]:
            total += part
        return total

    def ranges(self) -> tuple[Float64, Float64]:
        """Smallest and largest value of every column, (D,) each; NaN where a column holds one."""

        def extremes(leaf: tuple[int, int]) -> tuple[Array, Array]:
            block = self.block(*leaf)
            return block.min(axis=0), block.max(axis=0)

        low, high = zip(*parallel(extremes, self.leaves(MICRO_ROWS), self.threads))
        return np.min(low, axis=0).astype(np.float64), np.max(high, axis=0).astype(np.float64)

    def column_sums(self, weights: FloatArray | None = None) -> Float64:
        """``Σᵢ wᵢ zᵢ``, (D,)."""
        w = np.ones(len(self), dtype=self.dtype) if weights is None else weights
        total: Float64 = self.sum_over(lambda a, b: self.back_product(w[None, a:b], a, b))[0]
        return total

    def second_moments(self, weights: FloatArray | None = None, every: int = 1) -> tuple[FloatArray, Float64, float]:
        """``Σ w z zᵀ``, ``Σ w z`` and ``Σ w`` over every `every`-th row.

        Rows are taken evenly, since data are often sorted by class. The matrix is made tile by tile, so that D² numbers
        are all that is held; a tile is a tree of its leaves. More than `WIDE` columns of float32 products are kept in
        float32, in half the memory.
        """
        leaves = self.leaves(LEAF_ROWS * every)
        d = self.n_features
        narrow = d > WIDE and self.dtype == np.float32
        total = np.empty((d, d), dtype=np.float32 if narrow else np.float64)

        def tile(corner: tuple[int, int]) -> None:
            left, right = (slice(c, min(c + TILE, d)) for c in corner)

            def leaf_tile(number: int) -> Float64:
                leaf = leaves[number]
                a, b = self.block(*leaf, left, every), self.block(*leaf, right, every)
                if weights is not None:
                    a = a * weights[leaf[0] : leaf[1] : every, None]
                return np.asarray(a.T @ b, dtype=np.float64)

            total[left, right] = tree_of(leaf_tile, len(leaves))
            total[right, left] = total[left, right].T

        starts = range(0, d, TILE)
        parallel(tile, [(i, j) for i in starts for j in starts if j >= i], self.threads)
        ones = np.ones(len(self), dtype=self.dtype) if weights is None else weights
        sums = [(ones[a:b:every] @ self.block(a, b, ALL, every)).astype(np.float64) for a, b in leaves]
        return total, tree_sum(sums), float(ones[::every].sum(dtype=np.float64))
