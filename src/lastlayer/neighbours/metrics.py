"""Distances between two rows, in float64: the numbers that decide who is a neighbour.

    l1      Σ|x - y|                 city block
    l2      √Σ(x - y)²               Euclidean
    l3      ∛Σ|x - y|³
    cosine  1 - x·y / (‖x‖ ‖y‖)  =  ½ ‖x/‖x‖ - y/‖y‖‖²

The right-hand form of the cosine keeps its digits where the angle is small, and is 0 for equal rows. A row of zeros has
no direction: its cosine distance to every row, itself included, is 1.

Rows are ordered by the sum before the root (`sums`): the root of float64 may make two different sums equal.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from lastlayer._arrays import BoolArray, Float64, InputError

METRICS: Final = ("l2", "l1", "l3", "cosine")
POWER: Final = {"l1": 1, "l2": 2, "l3": 3}


def check_metric(metric: str) -> str:
    """The metric, or a refusal that names those there are."""
    if metric not in METRICS:
        raise InputError(f"metric is {metric!r}", f"There are {', '.join(METRICS)}")
    return metric


def sums(metric: str, A: Float64, B: Float64, whole: bool = False) -> Float64:
    """What rows are ordered by: ``Σ|x - y|^p``, or the cosine distance; overwrites both.

    A pair's number depends on its two rows alone: every row is summed by itself, in an order that D decides.

    Shapes
    ------
    A, B : (n, D) float64 in C order, row i of one against row i of the other; result (n,).

    Of `whole` numbers the cosine is made of scalar products, which are exact: equal angles give equal distances.
    """
    if metric == "cosine" and whole:
        return _cosine_of_whole(A, B)
    if metric == "cosine":
        directed = unit(A) & unit(B)
        B -= A
        np.multiply(B, B, out=B)
        return np.where(directed, np.minimum(0.5 * B.sum(axis=1), 2.0), 1.0)
    B -= A
    if metric == "l1":
        np.abs(B, out=B)
    elif metric == "l2":
        np.multiply(B, B, out=B)
    else:
        np.abs(B, out=B)
        np.multiply(B, B, out=A)
        B *= A
    return np.asarray(B.sum(axis=1))


def _cosine_of_whole(A: Float64, B: Float64) -> Float64:
    """``1 - x·y / l = (l² - (x·y)²) / (l (l + x·y))`` with ``l = ‖x‖ ‖y‖``, which keeps the digits of small angles."""
    product, squares = (A * B).sum(axis=1), (A * A).sum(axis=1) * (B * B).sum(axis=1)
    length = np.sqrt(np.where(squares > 0, squares, 1.0))
    near = (squares - product * product) / (length * np.where(product > 0, length + product, 1.0))
    return np.where(squares > 0, np.where(product > 0, np.maximum(near, 0.0), 1.0 - product / length), 1.0)


def unit(rows: Float64) -> BoolArray:
    """Divide every row by its length, in place; which rows have one, (n,) bool."""
    largest = np.abs(rows).max(axis=1, keepdims=True)
    rows /= np.where(largest > 0, largest, 1.0)  # squares of huge or tiny numbers would leave the range
    length = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
    rows /= np.where(length > 0, length, 1.0)
    return np.asarray(largest[:, 0] > 0)


def distances(metric: str, totals: Float64) -> Float64:
    """The distance that belongs to each of `sums`."""
    if metric == "l2":
        return np.sqrt(totals)
    return np.cbrt(totals) if metric == "l3" else totals
