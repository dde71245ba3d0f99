"""Products of a block of rows with the weights of all classes, compiled.

BLAS packs both factors before it multiplies. With ten classes the packing of the rows costs more than the product,
which then runs at a sixth to a third of the machine's rate. These loops read the rows in place, in tiles of sums that
stay in registers (`linear.tiles`).
"""

from __future__ import annotations

from typing import Any

from lastlayer._compiled import compiled
from lastlayer.linear.tiles import COLUMNS, GRADIENT_CLASSES, ROWS, SCORE_CLASSES, gradient_tile, score_tile

LINE = 16
"""Numbers of a cache line."""
WIDEST, WIDTH = 1024, 768
"""Most columns that are taken at a time, and how many at most where there are more: the weights of a tile, or of ten
classes, stay in the first-level cache for so many."""
RESIDENT = 2**13
"""Numbers of weights (32 kB) that stay in the first-level cache while all rows of a block come by."""

_MANY, _TWO, _ONE = (score_tile(ROWS, classes) for classes in (SCORE_CLASSES[0], 2, 1))
_SINGLE = score_tile(1, 1)
_TEN, _FIVE, _PAIR, _LAST = (gradient_tile(classes) for classes in (GRADIENT_CLASSES[0], 5, 2, 1))
_WIDEST, _MOST = SCORE_CLASSES[0], GRADIENT_CLASSES[0]


@compiled
def add_scores(X: Any, W: Any, out: Any) -> None:
    """``out[k, i] += xᵢ · wₖ`` for X (n, D), W (K, D), out (K, at least n), all float32 and row-major.

    Either the weights of all classes stay in the first-level cache and a few rows come by at a time, or the weights of
    a tile stay there while all rows come by.
    """
    n, D, K = X.shape[0], X.shape[1], W.shape[0]
    width, whole = columns_at_a_time(D), n - n % ROWS
    some = ROWS if K * width <= RESIDENT else max(whole, ROWS)
    for d in range(0, D, width):
        for i in range(0, whole, some):
            _scores_of(X, W, out, i, min(i + some, whole), d, min(d + width, D))
    for i in range(whole, n):
        for k in range(K):
            for d in range(0, D, width):
                _SINGLE(X, i, W, k, out, d, min(d + width, D))


@compiled
def columns_at_a_time(D: Any) -> Any:
    """All columns, or equal shares of them, in whole cache lines. It decides bits, so D alone decides it."""
    if D <= WIDEST:
        return max(D, 1)
    parts = (D + WIDTH - 1) // WIDTH
    return whole_lines((D + parts - 1) // parts)


@compiled
def whole_lines(count: Any) -> Any:
    """So many numbers, or more, as fill cache lines."""
    return (count + LINE - 1) // LINE * LINE


@compiled
def _scores_of(X: Any, W: Any, out: Any, i0: Any, i1: Any, d0: Any, d1: Any) -> None:
    """The part of the columns d0 … d1 in the scores of rows i0 … i1, a multiple of `ROWS`."""
    k, K = 0, W.shape[0]
    while k + _WIDEST <= K:
        for i in range(i0, i1, ROWS):
            _MANY(X, i, W, k, out, d0, d1)
        k += _WIDEST
    while k + 2 <= K:
        for i in range(i0, i1, ROWS):
            _TWO(X, i, W, k, out, d0, d1)
        k += 2
    if k < K:
        for i in range(i0, i1, ROWS):
            _ONE(X, i, W, k, out, d0, d1)


@compiled
def add_gradient(X: Any, P: Any, G: Any, ahead: Any) -> None:
    """``G[k] += Σᵢ P[k, i] xᵢ`` for X (n, D), P (K, at least n), G (K, D), all float32 and row-major.

    `ahead` rows further on are those that come next: they are asked for on the way (0: none).
    """
    n, K = X.shape[0], G.shape[0]
    for d in range(0, X.shape[1], COLUMNS):
        k = 0
        next_rows = ahead  # asked for once, by the first classes
        while k + _MOST <= K:
            _TEN(X, n, P, k, G, d, next_rows)
            k += _MOST
            next_rows = 0
        while k + 5 <= K:
            _FIVE(X, n, P, k, G, d, next_rows)
            k += 5
            next_rows = 0
        while k + 2 <= K:
            _PAIR(X, n, P, k, G, d, next_rows)
            k += 2
            next_rows = 0
        if k < K:
            _LAST(X, n, P, k, G, d, next_rows)
