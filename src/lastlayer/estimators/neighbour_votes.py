"""Votes of neighbours, and the number of neighbours whose votes were right most often on rows held out.

One search for the most neighbours that are to be tried serves all smaller numbers: the k nearest are the first k of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from lastlayer._arrays import Array, Float64, InputError, IntArray
from lastlayer._progress import SILENT, Progress
from lastlayer.neighbours import Index

Weights = str | Callable[[Float64], Any] | None
VOTES = 2**22
"""Votes held at a time: rows times classes."""


def vote_weights(distances: Float64, weights: Weights) -> Float64:
    """What each neighbour's vote counts, (n, k).

    "distance" is 1/d; where some neighbours are at no distance they alone count, alike.

    >>> vote_weights(np.array([[0.5, 2.0], [0.0, 1.0]]), "distance")
    array([[2. , 0.5],
           [1. , 0. ]])
    """
    if weights is None or (isinstance(weights, str) and weights == "uniform"):
        return np.ones(distances.shape)
    if isinstance(weights, str):
        touching = distances == 0.0
        with np.errstate(divide="ignore", over="ignore"):
            inverse = 1.0 / distances
        # A distance whose inverse is beyond float64 counts as none.
        touching |= np.isinf(inverse)
        return np.where(touching.any(axis=1, keepdims=True), touching, inverse)
    given = np.asarray(weights(distances), dtype=np.float64)
    if given.shape != distances.shape:
        raise InputError(
            f"weights made {given.shape} of distances {distances.shape}", "Return one weight for each distance"
        )
    if not np.isfinite(given).all() or (given < 0).any():
        raise InputError("weights returned a weight that is not finite or is negative", "Return weights of at least 0")
    return given


def shares(distances: Float64, codes: IntArray, n_classes: int, weights: Weights) -> Float64:
    """Each class's share of the votes, (n, K), for the distances and class numbers (n, k) of the neighbours."""
    given = vote_weights(distances, weights)
    cells = np.arange(len(codes))[:, None] * n_classes + codes
    votes = np.bincount(cells.ravel(), given.ravel(), minlength=len(codes) * n_classes).reshape(-1, n_classes)
    total = votes.sum(axis=1, keepdims=True)
    if not (total > 0).all():
        raise InputError(
            f"all neighbours of row {int(np.argmin(total > 0))} have the weight 0", "Weigh at least one of them"
        )
    return np.asarray(votes / total)


def winners(distances: Float64, codes: IntArray, n_classes: int, weights: Weights) -> IntArray:
    """The class of most votes, (n,); of equals the first."""
    out = np.empty(len(codes), np.int64)
    step = max(1, VOTES // n_classes)
    for start in range(0, len(codes), step):
        here = slice(start, start + step)
        out[here] = shares(distances[here], codes[here], n_classes, weights).argmax(axis=1)
    return out


@final
@dataclass(frozen=True, eq=False)
class Choice:
    """Numbers of neighbours, and how they did.

    Attributes
    ----------
    ks : ndarray
        (C,) the numbers tried, ascending.
    right : ndarray
        (F, C) right answers on the rows held out by each fold.
    rows : ndarray
        (F,) rows held out.
    """

    ks: IntArray
    right: IntArray
    rows: IntArray

    @property
    def best(self) -> int:
        """The number that was right most often; of equals the smallest."""
        return int(self.ks[self.right.sum(axis=0).argmax()])

    def table(self) -> dict[str, Array]:
        """As scikit-learn's `cv_results_`: arrays (C,)."""
        scores = self.right / self.rows[:, None]
        each = {f"split{f}_test_score": scores[f] for f in range(len(scores))}
        return {
            "n_neighbors": self.ks,
            **each,
            "mean_test_score": scores.mean(axis=0),
            "std_test_score": scores.std(axis=0),
            "right": self.right.sum(axis=0),
            "rows": np.full(len(self.ks), self.rows.sum()),
        }


def choose(
    X: Array,
    codes: IntArray,
    n_classes: int,
    ks: Sequence[int],
    folds: Iterable[tuple[Any, Any]] | None,
    *,
    metric: str,
    weights: Weights,
    threads: int | None,
    progress: Progress = SILENT,
) -> Choice:
    """Try numbers of neighbours.

    Parameters
    ----------
    X : ndarray
        (N, D)
    codes : ndarray
        (N,) class numbers.
    ks : sequence of int
        Ascending.
    folds : iterable of pairs (train, test), or None
        None leaves one row out at a time: a single search among all rows.
    """
    everybody = np.arange(len(X))
    right, held = [], []
    for number, (given_train, given_test) in enumerate([(everybody, everybody)] if folds is None else folds):
        train, test = (np.sort(everybody[side]) for side in (given_train, given_test))
        others = len(train) - (folds is None)
        if not len(test):
            raise InputError(f"fold {number} holds no row out", "Give folds with rows on both sides")
        if ks[-1] > others:
            raise InputError(
                f"n_neighbors has {ks[-1]}, and a row held out has {others} others to be its neighbours",
                f"Try 1 to {others}",
            )
        index = Index(X, metric, None if folds is None else train)
        own = everybody if folds is None else None
        found = index.nearest(X, ks[-1], rows=test, own=own, threads=threads, progress=progress)
        near = codes[found.rows]
        picked = [winners(found.distances[:, :k], near[:, :k], n_classes, weights) for k in ks]
        right.append([int(np.count_nonzero(each == codes[test])) for each in picked])
        held.append(len(test))
    return Choice(np.array(ks), np.array(right), np.array(held))
