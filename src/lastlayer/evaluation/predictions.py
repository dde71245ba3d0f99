"""The rows of ``predictions.csv``: what the model said about every image."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from lastlayer._arrays import BoolArray, Float64, FloatArray, InputError, IntArray
from lastlayer.evaluation.metrics import check_probabilities, row_losses

COLUMNS = (
    "path",
    "split",
    "label",
    "predicted",
    "p_predicted",
    "p_label",
    "loss",
    "margin",
    "oof",
    "abstained",
)


def margins(labels: IntArray, scores: FloatArray) -> Float64:
    """Score of the label minus the best other score: negative exactly for mistakes, NaN without a label.

    Shapes
    ------
    labels : (N,) in −1..K−1.  scores : (N, K), K ≥ 2.  Returns (N,).
    """
    labels = np.asarray(labels)
    if not labels.size:
        return np.zeros(0)
    if scores.shape[1] < 2:
        return np.full(labels.size, math.nan)
    rows = np.arange(labels.size)
    safe = np.maximum(labels, 0)
    rest = scores.astype(np.float64)
    own = rest[rows, safe].copy()
    rest[rows, safe] = -np.inf
    return np.where(labels >= 0, own - rest.max(axis=1), math.nan)


def prediction_rows(
    names: Sequence[str],
    splits: Sequence[str],
    labels: IntArray,
    probabilities: FloatArray,
    class_names: Sequence[str],
    *,
    scores: FloatArray | None = None,
    oof: BoolArray | None = None,
    abstained: BoolArray | None = None,
) -> Iterator[tuple[str, ...]]:
    """Rows under `COLUMNS`, as text; a cell is empty where it does not apply.

    ``p_label``, ``loss`` (−ln p_label) and ``margin`` need a label; ``margin`` (`margins`, in units of
    the scores) needs `scores`; ``oof`` (1: scored by a model that did not train on the row) and
    ``abstained`` (1: the model declined to answer) need their arguments.

    Raises
    ------
    InputError
        When lengths disagree or a row of `probabilities` is no distribution.
    """
    labels = np.asarray(labels)
    n = len(names)
    check_probabilities(labels, probabilities, len(class_names))
    lengths = {"names": n, "splits": len(splits), "labels": labels.size}
    lengths |= {k: len(v) for k, v in (("scores", scores), ("oof", oof), ("abstained", abstained)) if v is not None}
    if len(set(lengths.values())) > 1:
        raise InputError("lengths differ: " + ", ".join(f"{k} {v}" for k, v in lengths.items()))
    return _rows(names, splits, labels, probabilities, class_names, scores, oof, abstained)


def _rows(
    names: Sequence[str],
    splits: Sequence[str],
    labels: IntArray,
    probabilities: FloatArray,
    class_names: Sequence[str],
    scores: FloatArray | None,
    oof: BoolArray | None,
    abstained: BoolArray | None,
) -> Iterator[tuple[str, ...]]:
    n = labels.size
    if not n:
        return
    every = np.arange(n)
    predicted = probabilities.argmax(axis=1)
    p_label = np.where(labels >= 0, probabilities[every, np.maximum(labels, 0)], math.nan)
    columns = (
        _numbers(probabilities[every, predicted]),
        _numbers(p_label),
        _numbers(row_losses(labels, probabilities)),
        [""] * n if scores is None else _numbers(margins(labels, scores)),
        _flags(oof, n),
        _flags(abstained, n),
    )
    for i, numbers in enumerate(zip(*columns, strict=True)):
        label = class_names[labels[i]] if labels[i] >= 0 else ""
        yield (names[i], splits[i], label, class_names[predicted[i]], *numbers)


def _numbers(values: FloatArray) -> list[str]:
    return ["" if math.isnan(value) else f"{value:.6g}" for value in values.tolist()]


def _flags(values: BoolArray | None, n: int) -> list[str]:
    return [""] * n if values is None else [str(int(value)) for value in values]
