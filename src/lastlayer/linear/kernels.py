"""Products of a block of rows with few columns, compiled.

BLAS packs both factors before it multiplies. With ten classes the packing of the rows costs more than the product,
which then runs at a sixth to a third of the machine's rate. These loops read the rows in place, four rows times two
classes at a time: eight sums in registers for six loads, which keeps the multipliers busy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lastlayer._compiled import compiled

ZERO = np.float32(0)


@compiled
def add_scores(X: Any, W: Any, out: Any) -> None:
    """``out[k, i] += xᵢ · wₖ`` for X (n, D), W (K, D), out (K, at least n), all float32 and row-major."""
    n, K = X.shape[0], W.shape[0]
    whole, pairs = n - n % 4, K - K % 2
    for i in range(0, whole, 4):
        x0, x1, x2, x3 = X[i], X[i + 1], X[i + 2], X[i + 3]
        for k in range(0, pairs, 2):
            w0, w1 = W[k], W[k + 1]
            a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = ZERO
            for d in range(w0.size):
                u, v = w0[d], w1[d]
                a0 += u * x0[d]
                a1 += u * x1[d]
                a2 += u * x2[d]
                a3 += u * x3[d]
                b0 += v * x0[d]
                b1 += v * x1[d]
                b2 += v * x2[d]
                b3 += v * x3[d]
            out[k, i] += a0
            out[k, i + 1] += a1
            out[k, i + 2] += a2
            out[k, i + 3] += a3
            out[k + 1, i] += b0
            out[k + 1, i + 1] += b1
            out[k + 1, i + 2] += b2
            out[k + 1, i + 3] += b3
        for k in range(pairs, K):
            w0 = W[k]
            a0 = a1 = a2 = a3 = ZERO
            for d in range(w0.size):
                u = w0[d]
                a0 += u * x0[d]
                a1 += u * x1[d]
                a2 += u * x2[d]
                a3 += u * x3[d]
            out[k, i] += a0
            out[k, i + 1] += a1
            out[k, i + 2] += a2
            out[k, i + 3] += a3
    for i in range(whole, n):
        x0 = X[i]
        for k in range(K):
            w0 = W[k]
            a0 = ZERO
            for d in range(w0.size):
                a0 += w0[d] * x0[d]
            out[k, i] += a0


@compiled
def add_gradient(X: Any, P: Any, G: Any) -> None:
    """``G[k] += Σᵢ P[k, i] xᵢ`` for X (n, D), P (K, at least n), G (K, D), all float32 and row-major."""
    n, K = X.shape[0], G.shape[0]
    whole, pairs = n - n % 4, K - K % 2
    for i in range(0, whole, 4):
        x0, x1, x2, x3 = X[i], X[i + 1], X[i + 2], X[i + 3]
        for k in range(0, pairs, 2):
            g0, g1 = G[k], G[k + 1]
            p0, p1, p2, p3 = P[k, i], P[k, i + 1], P[k, i + 2], P[k, i + 3]
            q0, q1, q2, q3 = P[k + 1, i], P[k + 1, i + 1], P[k + 1, i + 2], P[k + 1, i + 3]
            for d in range(g0.size):
                u0, u1, u2, u3 = x0[d], x1[d], x2[d], x3[d]
                g0[d] += p0 * u0 + p1 * u1 + p2 * u2 + p3 * u3
                g1[d] += q0 * u0 + q1 * u1 + q2 * u2 + q3 * u3
        for k in range(pairs, K):
            g0 = G[k]
            p0, p1, p2, p3 = P[k, i], P[k, i + 1], P[k, i + 2], P[k, i + 3]
            for d in range(g0.size):
                g0[d] += p0 * x0[d] + p1 * x1[d] + p2 * x2[d] + p3 * x3[d]
    for i in range(whole, n):
        x0 = X[i]
        for k in range(K):
            g0, p0 = G[k], P[k, i]
            for d in range(g0.size):
                g0[d] += p0 * x0[d]
