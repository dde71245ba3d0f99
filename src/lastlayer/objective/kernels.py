"""Scores, loss and gradient of a block of rows while they are in the cache: the rows are read from memory once."""

from __future__ import annotations

from typing import Any

import numpy as np

from lastlayer._arrays import FloatArray, aligned_empty
from lastlayer._compiled import compiled
from lastlayer.linear.kernels import LINE, add_gradient, add_scores, whole_lines
from lastlayer.linear.tiles import WIDE, ask_for
from lastlayer.losses.kernels import bend, differentiate, trace

CACHE = 300_000 if WIDE else 200_000
"""Bytes of rows that stay in a core's second-level cache beside the weights and their gradient."""
CACHE_MANY = 2**21
"""The same for many classes, whose weights and gradient fill that cache in any case: rows come from the next one."""
MICRO, MICRO_MANY = 64, 128
"""Most rows at a time: a gradient of many classes is large, and is to be loaded and stored seldom."""
FLUSH = 512
"""Rows whose gradient is summed in float32 before it is added to the float64 sum."""
LONG_FLUSH, LARGE = 4096, 2**16
"""The same for gradients of so many numbers and more: adding them up costs more than it does for small ones."""
FEW = 48
"""Most classes that are few."""
NARROW = 2**20 if WIDE else FEW
"""Most classes for which our own products are faster than BLAS: with 32 wide registers as fast at any number, without
the copies of scores that BLAS needs."""


def rows_at_a_time(n_features: int, n_classes: int) -> int:
    """How many rows the loops take at a time, a multiple of 8."""
    many = n_classes > FEW
    cache, most = (CACHE_MANY, MICRO_MANY) if many else (CACHE, MICRO)
    return max(8, min(most, cache // (4 * n_features) // 8 * 8))


def room_for(K: int, D: int, micro: int, picks: bool) -> tuple[FloatArray, ...]:
    """Room for the loops of one thread, which they use again and again: new memory costs more than a few of them.

    Scores and changes (K, micro), a work space, a sum (K, at least D), and room for rows where those are picked. From
    class to class in the sum it is an odd number of cache lines: the same columns of many classes are used together,
    and a power of two apart they would want the same places of a cache.
    """
    stride = (whole_lines(D) // LINE | 1) * LINE
    shapes = (K, micro), (K, micro), (7, micro), (K, stride), (micro if picks else 0, D)
    return tuple(aligned_empty(shape, np.float32) for shape in shapes)


@compiled
def line_block(
    X: Any, numbers: Any, W: Any, added: Any, y: Any, w: Any, S: Any, C: Any, first: Any, pending: Any, code: Any,
    want: Any, micro: Any, room: Any, G: Any, sums: Any,
) -> None:  # fmt: skip
    """The line's first trial for the rows `first` … of S and C (K, N), whose features are X (n, D).

    ``S += pending · C; C = W X + added``; value, slope and curvature at ``S + C`` into `sums`; with `want` the gradient
    there into G (K, D + 1), float64, the bias last. Where there are `numbers` (n,), the rows are those of X with them.
    `room` is the thread's own, of `room_for`.
    """
    K = len(W)
    Z, V, work, part, picked = room
    part[:] = 0
    n_rows, since = _count(X, numbers), 0
    for start in range(0, n_rows, micro):
        stop = min(start + micro, n_rows)
        n, here = stop - start, first + start
        for k in range(K):
            s, c, v = S[k, here : here + n], C[k, here : here + n], V[k]
            if pending != 0:
                for i in range(n):
                    s[i] += pending * c[i]
            for i in range(n):
                v[i] = added[k]
        if K <= FEW and stop < n_rows:
            _ask_for_scores(S, C, here + n, min(n, n_rows - stop))
        if len(numbers):
            _pick(X, numbers[start:stop], picked)
            add_scores(picked[:n], W, V)
        else:
            add_scores(X[start:stop], W, V)
        for k in range(K):
            s, c, v, z = S[k, here : here + n], C[k, here : here + n], V[k], Z[k]
            for i in range(n):
                c[i] = v[i]
                z[i] = s[i] + v[i]
        differentiate(code, Z, V, y[here : here + n], w[here : here + n], n, work, sums)
        if want:
            since = _backward(X, picked, start, stop, n_rows, Z, part, since, G)


@compiled
def gradient_block(
    X: Any, numbers: Any, y: Any, w: Any, S: Any, C: Any, first: Any, pending: Any, code: Any, micro: Any, room: Any,
    G: Any, sums: Any,
) -> None:  # fmt: skip
    """``S += pending · C``, then the value (into `sums`) and the gradient (into G) at S; rows as in `line_block`."""
    Z, V, work, part, picked = room
    part[:] = 0
    n_rows, since = _count(X, numbers), 0
    for start in range(0, n_rows, micro):
        stop = min(start + micro, n_rows)
        n, here = stop - start, first + start
        _advance(S, C, here, n, pending, Z)
        differentiate(code, Z, V, y[here : here + n], w[here : here + n], n, work, sums)
        if len(numbers):
            _pick(X, numbers[start:stop], picked)
        since = _backward(X, picked, start, stop, n_rows, Z, part, since, G)


@compiled
def loss_block(
    y: Any, w: Any, S: Any, C: Any, first: Any, n_rows: Any, pending: Any, step: Any, code: Any, micro: Any,
    P: Any, sums: Any,
) -> None:  # fmt: skip
    """``S += pending · C``; value, slope and curvature at ``S + step · C`` into `sums`, the gradient in z into P.

    P is (K, n_rows), or has no columns where it is not wanted.
    """
    K = S.shape[0]
    Z, V, work = np.zeros((K, micro), np.float32), np.zeros((K, micro), np.float32), np.empty((7, micro), np.float32)
    for start in range(0, n_rows, micro):
        n, here = min(micro, n_rows - start), first + start
        _advance(S, C, here, n, pending, Z)
        for k in range(K):
            c, v, z = C[k, here : here + n], V[k], Z[k]
            for i in range(n):
                v[i] = c[i]
                z[i] += step * v[i]
        differentiate(code, Z, V, y[here : here + n], w[here : here + n], n, work, sums)
        if P.shape[1]:
            for k in range(K):
                p, z = P[k, start : start + n], Z[k]
                for i in range(n):
                    p[i] = z[i]


@compiled
def hessian_block(
    X: Any, numbers: Any, W: Any, added: Any, y: Any, w: Any, S: Any, first: Any, code: Any, micro: Any, room: Any,
    G: Any,
) -> None:  # fmt: skip
    """Add the Hessian at S times the direction (W, added) to G (K, D + 1), for rows as in `line_block`, read once."""
    K = len(W)
    Z, V, work, part, picked = room
    part[:] = 0
    n_rows, since = _count(X, numbers), 0
    for start in range(0, n_rows, micro):
        stop = min(start + micro, n_rows)
        n, here = stop - start, first + start
        for k in range(K):
            s, v, z = S[k, here : here + n], V[k], Z[k]
            for i in range(n):
                z[i] = s[i]
                v[i] = added[k]
        if len(numbers):
            _pick(X, numbers[start:stop], picked)
            add_scores(picked[:n], W, V)
        else:
            add_scores(X[start:stop], W, V)
        bend(code, Z, V, y[here : here + n], w[here : here + n], n, work)
        since = _backward(X, picked, start, stop, n_rows, V, part, since, G)


@compiled
def bend_block(y: Any, w: Any, S: Any, P: Any, first: Any, code: Any, micro: Any) -> None:
    """Overwrite P (K, n_rows), the change of the scores, with the weighted Hessian in z at S times it."""
    K = S.shape[0]
    Z, V, work = np.zeros((K, micro), np.float32), np.zeros((K, micro), np.float32), np.empty((7, micro), np.float32)
    for start in range(0, P.shape[1], micro):
        n, here = min(micro, P.shape[1] - start), first + start
        for k in range(K):
            s, p, v, z = S[k, here : here + n], P[k, start : start + n], V[k], Z[k]
            for i in range(n):
                z[i] = s[i]
                v[i] = p[i]
        bend(code, Z, V, y[here : here + n], w[here : here + n], n, work)
        for k in range(K):
            p, v = P[k, start : start + n], V[k]
            for i in range(n):
                p[i] = v[i]


@compiled
def trace_block(y: Any, S: Any, first: Any, last: Any, code: Any, micro: Any, out: Any) -> None:
    """Trace of the Hessian in z of the rows `first` to `last` of S, into `out` (N,)."""
    K = S.shape[0]
    Z, work = np.zeros((K, micro), np.float32), np.empty((7, micro), np.float32)
    for here in range(first, last, micro):
        n = min(micro, last - here)
        for k in range(K):
            s, z = S[k, here : here + n], Z[k]
            for i in range(n):
                z[i] = s[i]
        trace(code, Z, y[here : here + n], n, work, out[here : here + n])


@compiled
def new_change(S: Any, C: Any, A: Any, added: Any, first: Any, pending: Any) -> None:
    """``S += pending · C; C = A + added`` for the rows from `first` on, A (K, n_rows)."""
    n = A.shape[1]
    for k in range(S.shape[0]):
        s, c, a = S[k, first : first + n], C[k, first : first + n], A[k]
        if pending != 0:
            for i in range(n):
                s[i] += pending * c[i]
        for i in range(n):
            c[i] = a[i] + added[k]


@compiled
def _advance(S: Any, C: Any, here: Any, n: Any, pending: Any, Z: Any) -> None:
    """``Z = S += pending · C``."""
    for k in range(S.shape[0]):
        s, c, z = S[k, here : here + n], C[k, here : here + n], Z[k]
        if pending != 0:
            for i in range(n):
                s[i] += pending * c[i]
        for i in range(n):
            z[i] = s[i]


@compiled
def _ask_for_scores(S: Any, C: Any, here: Any, n: Any) -> None:
    """Ask for the scores and changes that are used next: of few classes they lie in short stretches, far apart."""
    for k in range(S.shape[0]):
        for i in range(here, here + n, LINE):
            ask_for(S, k, i)
            ask_for(C, k, i)


@compiled
def _count(X: Any, numbers: Any) -> Any:
    """How many rows there are."""
    return len(numbers) if len(numbers) else X.shape[0]


@compiled
def _pick(X: Any, numbers: Any, out: Any) -> None:
    """Copy rows of X to where they stay in the cache."""
    for i in range(len(numbers)):
        x, o = X[numbers[i]], out[i]
        for d in range(o.shape[0]):
            o[d] = x[d]


@compiled
def _backward(X: Any, picked: Any, start: Any, stop: Any, n_rows: Any, P: Any, part: Any, since: Any, G: Any) -> Any:
    """Add the gradient of the rows `start` … `stop` of X, or of those `picked`; rows since the sum was emptied into G.

    Meanwhile the rows after them are asked for, as many: they are used next.
    """
    n = stop - start
    if len(picked):
        _add_back(picked[:n], P, part, 0, G)
    else:
        _add_back(X[start:stop], P, part, n if stop + n <= n_rows else 0, G)
    return _flush(part, since + n, stop == n_rows, G)


@compiled
def _add_back(X: Any, P: Any, part: Any, ahead: Any, G: Any) -> None:
    """Add the gradient of rows X to the float32 sum, and the bias's to G."""
    K, D = len(part), X.shape[1]
    add_gradient(X, P, part, ahead)
    for k in range(K):
        p, total = P[k], 0.0
        for i in range(X.shape[0]):
            total += p[i]
        G[k, D] += total


@compiled
def _flush(part: Any, since: Any, last: Any, G: Any) -> Any:
    """Empty the float32 sum of `since` rows into G when there are enough of them; rows since then."""
    K, D = len(part), G.shape[1] - 1
    if since < (FLUSH if K * D < LARGE else LONG_FLUSH) and not last:
        return since
    for k in range(K):
        g, p = G[k], part[k]
        for d in range(D):
            g[d] += p[d]
        for d in range(D):
            p[d] = 0
    return 0
