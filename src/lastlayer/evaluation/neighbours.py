"""The nearest image by its pixels: the one neighbour that the baseline asks."""

from __future__ import annotations

import numpy as np

from lastlayer._arrays import IntArray, UInt8
from lastlayer._progress import Progress
from lastlayer.neighbours import Index

TRAIN_BLOCK, QUERY_BLOCK = 2_048, 1_024  # rows at most


def nearest(train: UInt8, train_rows: IntArray, queries: UInt8, rows: IntArray, progress: Progress) -> IntArray:
    """Index into `train` of the closest of `train_rows`, ascending, for each of `rows`; of equals the lowest.

    Shapes
    ------
    train : (M, D), queries : (N, D); result (n,) for n rows.
    """
    if not rows.size:
        return np.zeros(0, np.int64)
    found = Index(train, "l2", train_rows).nearest(
        queries, 1, rows=rows, progress=progress, name="1-NN pixels", query_rows=QUERY_BLOCK, database_rows=TRAIN_BLOCK
    )
    return found.rows[:, 0]
