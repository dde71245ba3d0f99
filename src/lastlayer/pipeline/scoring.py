"""Scores of a fitted classifier on the sides of a split, its baselines, and the rows of ``predictions.csv``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lastlayer._arrays import Array, BoolArray, Float32, Float64, InputError, IntArray, UInt8
from lastlayer._codes import Problem
from lastlayer._files import display_name
from lastlayer._progress import Progress
from lastlayer.data.dataset import Dataset
from lastlayer.evaluation.baselines import Baseline, majority, nearest_neighbour
from lastlayer.evaluation.intervals import Proportion
from lastlayer.evaluation.ledger import record_look
from lastlayer.evaluation.metrics import Evaluation, evaluate_scores


@dataclass(frozen=True)
class SideScores:
    """Probabilities of the rows of one side.

    Attributes
    ----------
    side : str
        ``train``, ``val``, ``test`` or another name.
    rows : int (n,)
        Row numbers in the dataset.
    labels : int (n,)
        Index in the class names, −1 without label.
    scores, probabilities : (n, K)
    held_out : bool
        True when the weights were fitted without these rows.
    """

    side: str
    rows: IntArray
    labels: IntArray
    scores: Float32
    probabilities: Float64
    held_out: bool

    @property
    def correct(self) -> BoolArray:
        """Whether each row was answered right."""
        out: BoolArray = self.probabilities.argmax(axis=1) == self.labels
        return out

    def evaluation(self, class_names: tuple[str, ...]) -> Evaluation:
        """Scores with intervals."""
        return evaluate_scores(self.labels, self.probabilities, class_names, self.side)


def baselines(
    pixels: UInt8,
    train: tuple[IntArray, IntArray],
    scored: SideScores,
    class_names: tuple[str, ...],
    seed: int,
    progress: Progress,
) -> tuple[Baseline, ...]:
    """Majority class and 1-nearest-neighbour on pixels, on the rows on which the classifier is scored.

    `train` holds the row numbers and labels of the training images.
    """
    rows, labels = train
    return (
        majority(labels, scored.labels, class_names),
        nearest_neighbour(pixels[rows], labels, pixels[scored.rows], scored.labels, seed=seed, progress=progress),
    )


def side_problems(side: str, labels: IntArray, class_names: tuple[str, ...]) -> tuple[Problem, ...]:
    """LL022: classes that have no image on this side."""
    counts = np.bincount(labels[labels >= 0], minlength=len(class_names))
    absent = tuple(class_names[k] for k in np.flatnonzero(counts == 0))
    if not absent:
        return ()
    return (Problem("LL022", f"{len(absent)} of {len(class_names)} classes have no {side} image", absent),)


def groups_document(by: str, dataset: Dataset, scored: SideScores) -> dict[str, Any]:
    """Accuracy of every group of the rows scored, the least right first; rows without a group are one of their own.

    Raises
    ------
    InputError
        When the rows have no groups.
    """
    if dataset.groups is None:
        raise InputError(f"--by {by}: {dataset.source} has no such groups", "Give a column of the manifest")
    groups = dataset.groups[scored.rows]
    rows = []
    for group in np.unique(groups).tolist():
        inside = groups == group
        known = group >= 0 and group < len(dataset.group_names)
        name = str(dataset.group_names[group]) if known else "" if group < 0 else str(group)
        score = Proportion(int(np.count_nonzero(scored.correct[inside])), int(np.count_nonzero(inside)))
        rows.append({"group": display_name(name), **score.to_dict()})
    rows.sort(key=lambda row: (row["value"], -row["n"]))
    return {"by": by, "rows": rows}


def look_at(runs: Path, model_digest: str, split_hash: str) -> tuple[int, tuple[str, ...]]:
    """Count a look at a test split in the ledger beside the runs; returns its number and notes of damage."""
    notes: list[str] = []
    number = record_look(runs / "looks.jsonl", model_digest, split_hash, notes=notes)
    return number, tuple(notes)


def confident_mistakes(scores: SideScores, most: int) -> Array:
    """Positions of wrong predictions, the most confident first (ties: the order of the rows)."""
    p = scores.probabilities
    predicted = p.argmax(axis=1)
    wrong = np.flatnonzero((predicted != scores.labels) & (scores.labels >= 0))
    order: Array = wrong[np.argsort(-p[wrong, predicted[wrong]], kind="stable")][:most]
    return order
