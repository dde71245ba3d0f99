"""Scores of rows that the weights were not fitted on: kept by a run, and read again where decisions are made on them.

``held_out.safetensors`` holds the scores z (N, K) and the labels of the validation rows. A run without that file (of an
earlier version, or with too many numbers to keep) still has ``predictions.csv``, whose columns p_predicted, p_label and
label suffice for a threshold and for ``lac`` prediction sets, though not for calibration.

The scores are those of the weights that saw the training rows alone; the weights that are kept saw the validation rows
too. What is promised from them therefore holds for a classifier of slightly less data, as a rule a slightly worse one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lastlayer._arrays import BoolArray, Float32, Float64, InputError, IntArray
from lastlayer._files import display_name
from lastlayer.artifacts import FORMAT_VERSION, read_artifact, write_artifact

FILE = "held_out.safetensors"
MOST_NUMBERS = 1 << 25
"""Scores kept at most: 128 MiB."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Validation rows of a run.

    Attributes
    ----------
    labels : int (N,)
    confidence : float (N,)
        Probability of the class answered.
    p_label : float (N,)
    correct : bool (N,)
    scores : float32 (N, K) or None
        None where only ``predictions.csv`` is there.
    probabilities : float (N, K) or None
        Of those scores.
    source : str
        Where this was read.
    """

    labels: IntArray
    confidence: Float64
    p_label: Float64
    correct: BoolArray
    scores: Float32 | None
    probabilities: Float64 | None
    source: str


def write_held_out(path: Path, scores: Float32, labels: IntArray, class_names: tuple[str, ...]) -> bool:
    """Write the scores of validation rows; returns False, and writes nothing, where they are too many or none."""
    if not scores.size or scores.size > MOST_NUMBERS:
        return False
    header: dict[str, Any] = {"format_version": FORMAT_VERSION, "kind": "held_out", "class_names": list(class_names)}
    tensors = {"scores": np.ascontiguousarray(scores, np.float32), "labels": labels.astype(np.int32)}
    write_artifact(path, header, tensors, overwrite=True)
    return True


def read_held_out(folder: Path, model: Any) -> HeldOut | None:
    """Validation rows of the run in `folder`, under the probabilities of `model`; None where it kept none.

    Parameters
    ----------
    folder : Path
    model : Model or ProbeHead
        Its ``class_names`` must be those of the run; its ``probabilities`` turn scores into p.

    Raises
    ------
    InputError
        When the file is of other classes, or damaged.
    """
    path = folder / FILE
    if path.is_file():
        return _from_scores(path, model)
    return _from_predictions(folder / "predictions.csv", model.class_names)


def _from_scores(path: Path, model: Any) -> HeldOut:
    header, tensors = read_artifact(path)
    names, scores, labels = header.get("class_names"), tensors.get("scores"), tensors.get("labels")
    where = display_name(str(path))
    if header.get("kind") != "held_out" or scores is None or labels is None or scores.ndim != 2:
        raise InputError(f"{where} does not hold validation scores", "Delete it, or train again")
    fits = labels.shape == scores.shape[:1] and scores.shape[1] == len(model.class_names)
    if names != list(model.class_names) or not fits or not ((labels >= 0) & (labels < scores.shape[1])).all():
        raise InputError(f"{where} is not of this model's classes", "Delete it, or train again")
    p = model.probabilities(scores)
    rows = np.arange(len(p))
    answered = p.argmax(axis=1)
    return HeldOut(labels, p[rows, answered], p[rows, labels], answered == labels, scores, p, FILE)


def _from_predictions(path: Path, class_names: tuple[str, ...]) -> HeldOut | None:
    import csv

    if not path.is_file():
        return None
    position = {name: k for k, name in enumerate(class_names)}
    labels, confidence, p_label, correct = [], [], [], []
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        for row in csv.DictReader(stream):
            if row.get("split") != "val" or row.get("oof") != "1" or row.get("label") not in position:
                continue
            try:
                confidence.append(float(row["p_predicted"]))
                p_label.append(float(row["p_label"]))
            except (KeyError, ValueError) as error:
                raise InputError(f"{display_name(str(path))} is damaged: {error}", "Train again") from None
            labels.append(position[row["label"]])
            correct.append(row["label"] == row["predicted"])
    if not labels:
        return None
    # six digits were written: a probability may read as a hair above 1
    return HeldOut(
        np.array(labels, np.int64),
        np.minimum(np.array(confidence), 1.0),
        np.minimum(np.array(p_label), 1.0),
        np.array(correct, np.bool_),
        None,
        None,
        "predictions.csv",
    )
