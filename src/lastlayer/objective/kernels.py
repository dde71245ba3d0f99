"""Scores, loss and gradient of a block of rows while they are in the cache: the rows are read from memory once."""

from __future__ import annotations

from typing import Any

import numpy as np

from lastlayer._compiled import compiled
from lastlayer.linear.kernels import add_gradient, add_scores
from lastlayer.losses.kernels import bend, differentiate, trace

CACHE = 200_000
"""Bytes of rows that stay in a core's second-level cache beside the weights and their gradient."""
FLUSH = 512
"""Rows whose gradient is summed in float32 before it is added to the float64 sum."""


@compiled
def line_block(
    X: Any, W: Any, added: Any, y: Any, w: Any, S: Any, C: Any, first: Any, pending: Any, code: Any, want: Any,
    micro: Any, G: Any, sums: Any,
) -> None:  # fmt: skip
    """The line's first trial for the rows `first` … of S and C (K, N), whose features are X (n, D).

    ``S += pending · C; C = W X + added``; value, slope and curvature at ``S + C`` into `sums`; with `want` the gradient
    there into G (K, D + 1), float64, the bias last.
    """
    K, D = W.shape
    Z, V = np.zeros((K, micro), np.float32), np.zeros((K, micro), np.float32)
    work, part = np.empty((7, micro), np.float32), np.zeros((K, D), np.float32)
    since = 0
    for start in range(0, X.shape[0], micro):
        stop = min(start + micro, X.shape[0])
        n, here = stop - start, first + start
        for k in range(K):
            s, c = S[k], C[k]
            if pending != 0:
                for i in range(n):
                    s[here + i] += pending * c[here + i]
            for i in range(n):
                V[k, i] = added[k]
        add_scores(X[start:stop], W, V)
        for k in range(K):
            s, c = S[k], C[k]
            for i in range(n):
                c[here + i] = V[k, i]
                Z[k, i] = s[here + i] + V[k, i]
        differentiate(code, Z, V, y[here : here + n], w[here : here + n], n, work, sums)
        if want:
            since = _backward(X[start:stop], Z, n, part, since, G, stop == X.shape[0])


@compiled
def gradient_block(
    X: Any, y: Any, w: Any, S: Any, C: Any, first: Any, pending: Any, code: Any, micro: Any, G: Any, sums: Any
) -> None:
    """``S += pending · C``, then the value (into `sums`) and the gradient (into G) at S, for the rows of X."""
    K, D = S.shape[0], X.shape[1]
    Z, V = np.zeros((K, micro), np.float32), np.zeros((K, micro), np.float32)
    work, part = np.empty((7, micro), np.float32), np.zeros((K, D), np.float32)
    since = 0
    for start in range(0, X.shape[0], micro):
        stop = min(start + micro, X.shape[0])
        n, here = stop - start, first + start
        _advance(S, C, here, n, pending, Z)
        differentiate(code, Z, V, y[here : here + n], w[here : here + n], n, work, sums)
        since = _backward(X[start:stop], Z, n, part, since, G, stop == X.shape[0])


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
            c = C[k]
            for i in range(n):
                V[k, i] = c[here + i]
                Z[k, i] += step * V[k, i]
        differentiate(code, Z, V, y[here : here + n], w[here : here + n], n, work, sums)
        if P.shape[1]:
            for k in range(K):
                p = P[k]
                for i in range(n):
                    p[start + i] = Z[k, i]


@compiled
def hessian_block(
    X: Any, W: Any, added: Any, y: Any, w: Any, S: Any, first: Any, code: Any, micro: Any, G: Any
) -> None:  # fmt: skip
    """Add the Hessian at S times the direction (W, added) to G (K, D + 1), for the rows of X; rows are read once."""
    K, D = W.shape
    Z, V = np.zeros((K, micro), np.float32), np.zeros((K, micro), np.float32)
    work, part = np.empty((7, micro), np.float32), np.zeros((K, D), np.float32)
    since = 0
    for start in range(0, X.shape[0], micro):
        stop = min(start + micro, X.shape[0])
        n, here = stop - start, first + start
        for k in range(K):
            s = S[k]
            for i in range(n):
                Z[k, i] = s[here + i]
                V[k, i] = added[k]
        add_scores(X[start:stop], W, V)
        bend(code, Z, V, y[here : here + n], w[here : here + n], n, work)
        since = _backward(X[start:stop], V, n, part, since, G, stop == X.shape[0])


@compiled
def bend_block(y: Any, w: Any, S: Any, P: Any, first: Any, code: Any, micro: Any) -> None:
    """Overwrite P (K, n_rows), the change of the scores, with the weighted Hessian in z at S times it."""
    K = S.shape[0]
    Z, V, work = np.zeros((K, micro), np.float32), np.zeros((K, micro), np.float32), np.empty((7, micro), np.float32)
    for start in range(0, P.shape[1], micro):
        n, here = min(micro, P.shape[1] - start), first + start
        for k in range(K):
            s, p = S[k], P[k]
            for i in range(n):
                Z[k, i] = s[here + i]
                V[k, i] = p[start + i]
        bend(code, Z, V, y[here : here + n], w[here : here + n], n, work)
        for k in range(K):
            p = P[k]
            for i in range(n):
                p[start + i] = V[k, i]


@compiled
def trace_block(y: Any, S: Any, first: Any, last: Any, code: Any, micro: Any, out: Any) -> None:
    """Trace of the Hessian in z of the rows `first` to `last` of S, into `out` (N,)."""
    K = S.shape[0]
    Z, work = np.zeros((K, micro), np.float32), np.empty((7, micro), np.float32)
    for here in range(first, last, micro):
        n = min(micro, last - here)
        for k in range(K):
            s = S[k]
            for i in range(n):
                Z[k, i] = s[here + i]
        trace(code, Z, y[here : here + n], n, work, out[here : here + n])


@compiled
def new_change(S: Any, C: Any, A: Any, added: Any, first: Any, pending: Any) -> None:
    """``S += pending · C; C = A + added`` for the rows from `first` on, A (K, n_rows)."""
    n = A.shape[1]
    for k in range(S.shape[0]):
        s, c, a = S[k], C[k], A[k]
        if pending != 0:
            for i in range(n):
                s[first + i] += pending * c[first + i]
        for i in range(n):
            c[first + i] = a[i] + added[k]


@compiled
def _advance(S: Any, C: Any, here: Any, n: Any, pending: Any, Z: Any) -> None:
    """``Z = S += pending · C``."""
    for k in range(S.shape[0]):
        s, c = S[k], C[k]
        if pending != 0:
            for i in range(n):
                s[here + i] += pending * c[here + i]
        for i in range(n):
            Z[k, i] = s[here + i]


@compiled
def _backward(X: Any, P: Any, n: Any, part: Any, since: Any, G: Any, last: Any) -> Any:
    """Add the rows' gradient; rows since the float32 sum was emptied into G."""
    K, D = part.shape
    add_gradient(X, P, part)
    for k in range(K):
        total = 0.0
        for i in range(n):
            total += P[k, i]
        G[k, D] += total
    since += n
    if since < FLUSH and not last:
        return since
    for k in range(K):
        for d in range(D):
            G[k, d] += part[k, d]
            part[k, d] = 0
    return 0
