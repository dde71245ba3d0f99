"""How many units of each class go to each side, and which: exact quotas, then a seeded order.

Shapes
------
K : classes, S : sides, U : units.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lastlayer._arrays import Float64, IntArray

UInt64 = npt.NDArray[np.uint64]


def mix(words: UInt64, seed: int) -> UInt64:
    """Hash 64-bit words with a seed (the finaliser of SplitMix64, Steele, Lea and Flood 2014).

    The words are parts of SHA-256 digests, so all that is needed is that seeds give unrelated orders.
    """
    start = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
    z = words.astype(np.uint64) ^ start
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
    return np.asarray(z ^ (z >> np.uint64(31)))


def quotas(totals: IntArray, units: IntArray, shares: Float64) -> IntArray:
    """Rows of each class for each side: shares by largest remainder, and at least one where there are units.

    Parameters
    ----------
    totals, units : int (K,)
        Rows and units of each class.
    shares : float (S,)
        Sum to 1. The first is train's; the order says who comes first when a class has fewer units than
        there are sides, and when remainders are equal.

    Returns
    -------
    int (K, S)
        Rows sum to `totals`.

    >>> quotas(np.array([10, 2]), np.array([10, 2]), np.array([.7, .15, .15]))
    array([[7, 2, 1],
           [1, 1, 0]])
    """
    exact = totals[:, None] * shares
    out = _rounded(exact, totals)
    entitled = np.arange(len(shares)) < np.minimum(units, len(shares))[:, None]
    out = np.where(entitled, np.maximum(out, 1), 0)
    out[:, 0] += totals - out.sum(axis=1)
    return out


def _rounded(exact: Float64, totals: IntArray) -> IntArray:
    """Round each row to whole numbers that sum to its total, by largest remainder; ties to the first."""
    out: IntArray = np.floor(exact + 1e-9).astype(np.int64)
    order = np.argsort(np.round(out - exact, 9), axis=1, kind="stable")
    left = totals - out.sum(axis=1)
    out += np.argsort(order, axis=1) < left[:, None]
    return out


def fill(deficits: IntArray, counts: IntArray) -> IntArray:
    """Deal `counts` units of each class out to the sides in proportion to what these still lack.

    Returns
    -------
    int (K, S)
        Rows sum to `counts`; equal to `deficits` where no side has more than its quota.
    """
    lacking = np.maximum(deficits, 0)
    total = lacking.sum(axis=1)
    exact = lacking * (counts / np.maximum(total, 1))[:, None]
    exact[total == 0, 0] = counts[total == 0]
    return _rounded(exact, counts)


def deal(label: IntArray, key: UInt64, need: IntArray) -> IntArray:
    """Give single units of each class to the sides, in the order of their keys.

    The last side is filled first, so that the first (train) takes what remains.

    Parameters
    ----------
    label : int (U,)
    key : uint64 (U,)
    need : int (K, S)
        Rows sum to the number of units of the class.

    Returns
    -------
    int (U,)
        Column of `need`.
    """
    order = np.lexsort((key, label))
    columns = np.arange(need.shape[1])[::-1]
    dealt = np.repeat(np.tile(columns, len(need)), need[:, ::-1].ravel())
    out = np.empty(len(label), dtype=np.int64)
    out[order] = dealt
    return out


def label_tables(unit: IntArray, label: IntArray, wanted: IntArray) -> list[tuple[IntArray, IntArray]]:
    """For each wanted unit (ascending), its classes and the number of rows of each."""
    inside = np.isin(unit, wanted)
    width = int(label.max(initial=0)) + 1
    codes, counts = np.unique(unit[inside] * width + label[inside], return_counts=True)
    starts = np.searchsorted(codes // width, wanted)
    stops = np.append(starts[1:], len(codes))
    return [(codes[a:b] % width, counts[a:b]) for a, b in zip(starts.tolist(), stops.tolist())]


def best_side(classes: IntArray, counts: IntArray, placed: IntArray, quota: IntArray) -> int:
    """Column of the side that a unit fits best.

    With a rows placed, quota t and a unit of u rows, the side with the smallest sum over classes of
    ((a + u - t)² - (a - t)²) / t: the squared error of the quotas, relative to their size.
    """
    t = np.maximum(quota[classes], 1e-3)
    u = counts[:, None]
    cost = (u * (2 * (placed[classes] - t) + u) / t).sum(axis=0)
    return int(np.argmin(cost))
