"""The one objective by which all contestants are judged, in float64.

    J(W, b) = (1/N) Σᵢ L(xᵢ W + b, yᵢ) + (λ/2) ‖W‖²        the bias not penalised

It is written independently of the package (the tests compare them). Beside it: the first time at which a trace is at or
below a value.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from peers.trace import Snapshots

Array = npt.NDArray[np.floating]
Labels = npt.NDArray[np.integer]
BLOCK = 4096


def row_losses(loss: str, scores: Array, y: Labels) -> Array:
    """Loss of each row; hinges are sums over one-against-the-rest problems."""
    rows = np.arange(len(y))
    if loss == "cross_entropy":
        top = scores.max(axis=1)
        return np.asarray(np.log(np.exp(scores - top[:, None]).sum(axis=1)) + top - scores[rows, y])
    signs = np.full(scores.shape, -1.0)
    signs[rows, y] = 1.0
    missing = np.maximum(0.0, 1.0 - signs * scores)
    return np.asarray((missing**2 if loss == "squared_hinge" else missing).sum(axis=1))


def objective(X: Array, y: Labels, loss: str, l2: float, params: Array, rows: Labels | None = None) -> float:
    """J at `params` (D + 1, K), over some rows where given."""
    W, b = params[:-1].astype(np.float64), params[-1].astype(np.float64)
    n = len(X) if rows is None else len(rows)
    total = 0.0
    for start in range(0, n, BLOCK):
        part = slice(start, start + BLOCK) if rows is None else rows[start : start + BLOCK]
        total += float(row_losses(loss, X[part].astype(np.float64) @ W + b, y[part]).sum())
    return total / n + 0.5 * l2 * float(np.vdot(W, W))


class Judged:
    """A contestant's trace, evaluated where needed and remembered."""

    def __init__(
        self, snapshots: Snapshots, value: Callable[[Array], float], limit: float, span: tuple[int, int] | None = None
    ) -> None:
        self.snapshots, self._value = snapshots, value
        self._seen: dict[int, float] = {}
        first, stop = span or (0, len(snapshots))
        self.indices = [i for i in range(first, stop) if snapshots.seconds(i) <= limit]

    def value(self, place: int) -> float:
        """J of the record at a place of `indices`."""
        index = self.indices[place]
        if index not in self._seen:
            found = self._value(self.snapshots.params(index))
            self._seen[index] = found if np.isfinite(found) else float("inf")
        return self._seen[index]

    @property
    def lowest(self) -> float:
        """The lowest value evaluated so far; the last record is always evaluated."""
        if not self.indices:
            return float("inf")
        self.value(len(self.indices) - 1)
        return min(self._seen.values())

    def time_to(self, value: float) -> float | None:
        """Seconds of the first record at or below `value`, by bisection (objectives fall); None when not reached."""
        if not self.indices or self.lowest > value:
            return None
        low, high = -1, len(self.indices) - 1
        if self.value(high) > value:  # the last record is not the lowest one
            high = min(place for place, index in enumerate(self.indices) if self._seen.get(index, np.inf) <= value)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.value(middle) <= value else (middle, high)
        return self.snapshots.seconds(self.indices[high])
