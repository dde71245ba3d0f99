"""Fewer columns for the search: a projection shortens distances, and tells who is too far without looking further.

    ‖Vᵀ(x - y)‖ ≤ ‖x - y‖   for orthonormal columns V (D, d)

With the directions of largest variance as V the left side comes close to the right one at a small part of the cost:
with 64 of 784 columns about 90 of the 60,000 training rows of MNIST are left for each query, whose distances are then
computed in full. The answer is the same as without (Hwang, Han & Ahn 2012, "A fast nearest neighbor search algorithm by
nonlinear embedding", use mean and variance likewise; Cheng et al. 1984 stop a sum when it exceeds the best so far).

How many columns are worth it is tried out on a sample; where none are, all rows are ranked by all columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from lastlayer._arrays import Array, Float32, Float64
from lastlayer.neighbours.filters import ROUNDING, SLACK, Block, moved

WIDTHS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
SAMPLE_ROWS, SAMPLE_QUERIES = 2048, 128
FIRST_TRIED = 128
"""More columns are tried where so many are the best."""
MEASURING = 8.0
"""A distance costs about this many times as much as a rank of as many columns."""
SCANNING = 16.0
"""Reading a rank costs about as much as this many columns."""
WORTH = 0.7
"""Share of the cost of ranking by all columns below which a projection is used."""
POWER_STEPS = 2


@final
@dataclass(frozen=True, eq=False)
class Shadows:
    """Ranks from a projection: ``‖Vᵀ(y - c)‖² - 2 Vᵀ(x - c)·Vᵀ(y - c)``, plus the query's own square a lower bound.

    Parameters
    ----------
    basis : ndarray
        (D, d) float32, columns orthonormal to rounding.
    centre : ndarray
        (D,) float32.
    """

    basis: Float32
    centre: Float32

    def ready(self, rows: Array) -> Block:
        """Rows (n, D) as their shadows (n, d); `sizes` are the lengths of the rows themselves."""
        full = moved(rows, self.centre, 1.0)
        sizes = np.sqrt(np.einsum("nd,nd->n", full, full).astype(np.float64))
        values = full @ self.basis
        return Block(values, np.einsum("nd,nd->n", values, values), sizes)

    def ranks(self, queries: Block, rows: Block, out: Float32) -> None:
        """See `Filter`."""
        np.matmul(queries.values * np.float32(-2), rows.values.T, out=out)

    def doubts(self, queries: Block, largest: float) -> Float64:
        """Bound (n,) on the errors of a query's ranks, given the shadows as they are."""
        d = self.basis.shape[1]
        return np.asarray((d + SLACK) * ROUNDING * 1.02 * (queries.sizes + largest) ** 2)

    def slacks(self, queries: Block, largest: float) -> Float64:
        """Bound (n,) on how much longer the difference of two shadows may be than that of their rows.

        Each number of a shadow errs by at most ``~D u ‖x‖``.
        """
        D, d = self.basis.shape
        return np.asarray((D + SLACK) * ROUNDING * 1.02 * np.sqrt(d) * (queries.sizes + largest))

    @property
    def ratio(self) -> float:
        """Bound on the relative error of a squared distance in float32."""
        return (len(self.centre) + SLACK) * ROUNDING * 1.01


def farthest(kth: Any, ratio: float, slack: Any, length: Any, doubt: Any) -> Any:
    """Ranks beyond this belong to rows farther than the k-th so far, whose squared distance came out as `kth`."""
    distance = np.sqrt(kth * (1.0 + 2.0 * ratio)) + slack
    return distance * distance - length + doubt


def make_shadows(rows: Array, queries: Array, k: int, total: int, centre: Float32) -> Shadows | None:
    """A projection that makes the search cheaper, or None.

    Parameters
    ----------
    rows, queries : ndarray
        (m, D), (n, D) samples of the database and of the queries.
    k, total : int
        Neighbours looked for among that many rows.
    centre : ndarray
        (D,) float32.
    """
    full, asked = moved(rows, centre, 1.0), moved(queries, centre, 1.0)
    exact = _squares(asked, full)
    # Of a sample the nearest is as far as the (total / m)-th nearest of all: what is estimated is on the safe side,
    # as the limit is before all rows have been seen.
    place = min(len(full) - 1, k * len(full) // total)
    kth = np.partition(exact, place, axis=1)[:, place]
    for most in FIRST_TRIED, WIDTHS[-1]:
        made, at_the_end = _cheapest(full, asked, kth, most)
        if not at_the_end:
            break
    return None if made is None else Shadows(made, centre)


def _cheapest(full: Float32, asked: Float32, kth: Float32, most: int) -> tuple[Float32 | None, bool]:
    """The basis of least cost, None where ranking by all columns costs less; whether wider ones may be cheaper."""
    D = full.shape[1]
    widths = [d for d in WIDTHS if d <= min(most, D // 2, len(full) // 2)]
    if not widths:
        return None, False
    basis = principal_directions(full, widths[-1])
    left, right = asked @ basis, full @ basis
    costs = []
    for d in widths:
        left_over = float((_squares(left[:, :d], right[:, :d]) <= kth[:, None]).mean())
        costs.append(d + SCANNING + MEASURING * left_over * D)
    best = int(np.argmin(costs))
    worth = costs[best] <= WORTH * (D + SCANNING)
    return np.ascontiguousarray(basis[:, : widths[best]]) if worth else None, best == len(widths) - 1


def principal_directions(X: Float32, d: int) -> Float32:
    """Orthonormal (D, d) that hold about as much of the variance as any, largest first.

    Powers of ``XᵀX`` turn random directions towards its leading eigenvectors (Halko, Martinsson & Tropp 2011).
    """
    Y = np.random.default_rng(0).standard_normal((X.shape[1], d)).astype(np.float32)
    for _ in range(POWER_STEPS):
        Y = np.linalg.qr((X.T @ (X @ Y)).astype(np.float64))[0].astype(np.float32)
    inside = X @ Y
    turn = np.linalg.eigh(inside.T.astype(np.float64) @ inside)[1][:, ::-1]
    return np.asarray(np.linalg.qr(Y.astype(np.float64) @ turn)[0], dtype=np.float32)


def _squares(A: Float32, B: Float32) -> Float32:
    return np.asarray((A * A).sum(axis=1)[:, None] + (B * B).sum(axis=1) - 2.0 * (A @ B.T))
