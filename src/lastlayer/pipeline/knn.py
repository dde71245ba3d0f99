"""k nearest neighbours on embeddings: the baseline that fits nothing.

    p(c | x) ∝ Σ_{i ∈ k nearest, yᵢ = c} exp(cos(x, xᵢ) / 0.07)

k = 20 and the temperature are those of DINO and DINOv2 (Wu et al. 2018; Caron et al. 2021).
"""

from __future__ import annotations

import numpy as np

from lastlayer._arrays import Array, Float32, IntArray
from lastlayer._progress import SILENT, Progress
from lastlayer.evaluation.baselines import BUDGET_FLOPS, FEWEST_QUERIES, Baseline, stratified_sample
from lastlayer.evaluation.intervals import Proportion
from lastlayer.neighbours import Index

NEIGHBOURS, TEMPERATURE = 20, 0.07
_TRAIN_BLOCK, _QUERY_BLOCK = 2048, 1024


def knn_baseline(
    X_train: Array,
    y_train: IntArray,
    X: Array,
    y: IntArray,
    *,
    k: int = NEIGHBOURS,
    budget_flops: float = BUDGET_FLOPS,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Baseline:
    """Score the vote of the k training rows of largest cosine.

    Above `budget_flops` (2·N·M·D) fewer rows are asked, down to 2,000, then fewer training rows are kept, both drawn by
    class with `seed`.

    Shapes
    ------
    X_train : (M, D), y_train : (M,), X : (N, D), y : (N,); labels are 0..K-1.
    """
    rng = np.random.default_rng(seed)
    room = max(1, int(budget_flops / (2 * X.shape[1])))
    asked = max(min(FEWEST_QUERIES, len(y)), min(len(y), room // len(y_train)))
    rows = stratified_sample(y, asked, rng)
    kept = stratified_sample(y_train, min(len(y_train), max(1, room // len(rows))), rng)
    k = min(k, len(kept))
    cosine, found = nearest_rows(X_train, kept, X, rows, k, progress)
    votes = np.zeros((len(rows), int(max(y_train.max(), y.max())) + 1))
    weight = np.exp((cosine.astype(np.float64) - 1.0) / TEMPERATURE)
    np.add.at(votes, (np.arange(len(rows))[:, None], y_train[found]), weight)
    correct = votes.argmax(axis=1) == y[rows]
    sizes = f"{_of(len(rows), len(y))} rows against {_of(len(kept), len(y_train))}"
    drawn = len(rows) < len(y) or len(kept) < len(y_train)
    note = f"vote of the {k} training rows of largest cosine, weighted by exp(cosine/{TEMPERATURE:g}): {sizes}"
    note += f", drawn by class with seed {seed} to bound the time" if drawn else ""
    return Baseline(f"k-NN({k})", Proportion(int(correct.sum()), len(rows)), note, rows, correct)


def nearest_rows(
    X_train: Array, kept: IntArray, X: Array, rows: IntArray, k: int, progress: Progress = SILENT
) -> tuple[Float32, IntArray]:
    """Cosines and row numbers (n, k) of the nearest of `kept`, largest first; ties to the lower row number."""
    found = Index(X_train, "cosine", kept).nearest(
        X, k, rows=rows, progress=progress, name="k-NN", query_rows=_QUERY_BLOCK, database_rows=_TRAIN_BLOCK
    )
    return (1.0 - found.distances).astype(np.float32), found.rows


def _of(part: int, whole: int) -> str:
    return f"{whole:,}" if part == whole else f"{part:,} of {whole:,}"
