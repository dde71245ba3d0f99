"""``predict``: images in, labels out. Imports no scikit-learn, no SciPy and no matplotlib: it must start at once."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lastlayer._arrays import BoolArray, Float32, InputError, UInt8
from lastlayer.data.decoding import decode_files
from lastlayer.data.inputs import list_sources
from lastlayer.model import Model
from lastlayer.pipeline.run import Run, load
from lastlayer.pipeline.run_decisions import RunDecisions, read_decisions
from lastlayer.pipeline.settings import Execution

_BATCH = 4096
AUTO = "auto"

# alterations that say something about the picture itself; the others are routine
_TOLD = {
    "rotated": "rotated by EXIF",
    "alpha": "transparency over white",
    "animated": "first frame",
    "depth16": "16-bit, high byte",
    "cmyk": "CMYK converted",
    "exif": "broken EXIF ignored",
    "looks-12-bit": "looks like 12-bit data",
}


@dataclass(frozen=True)
class Prediction:
    """The answer for one image.

    Attributes
    ----------
    path : str
        As given.
    top : tuple of (str, float)
        The most probable classes with their probabilities; empty when the file could not be read.
    note : str
        What is to know of the answer (abstained, far from training data), what was done to the image, or ``LL003
        reason: mend``.
    abstained : bool
        Whether the answer is withheld because it is too unsure.
    far : bool or None
        Whether the image is unlike the training images; None where the run does not say.
    """

    path: str
    top: tuple[tuple[str, float], ...]
    note: str = ""
    abstained: bool = False
    far: bool | None = None

    @property
    def label(self) -> str | None:
        """The most probable class; None when the answer is withheld or the file could not be read."""
        return self.top[0][0] if self.top and not self.abstained else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        p = self.top[0][1] if self.top else None
        top = [{"label": name, "p": round(q, 6)} for name, q in self.top]
        return {
            "path": self.path,
            "label": self.label,
            "p": None if p is None else round(p, 6),
            "top": top,
            "abstained": self.abstained,
            "far": self.far,
            "note": self.note,
        }


def open_model(model: str | os.PathLike[str] | Run | Model) -> Model:
    """Read a model from a run folder or a model file."""
    if isinstance(model, Model):
        return model
    if isinstance(model, Run):
        return model.model
    path = Path(model)
    return Model.load(path) if path.is_file() else load(path).model


def run_decisions(model: str | os.PathLike[str] | Run | Model, classifier: Model) -> RunDecisions | None:
    """What the run that the model lies in decided about it; None for a model on its own."""
    if isinstance(model, Model):
        return None
    folder = model.folder if isinstance(model, Run) else Path(model)
    return read_decisions(folder.parent if folder.is_file() else folder, classifier)


def answer_threshold(abstain: str | float | None, decided: RunDecisions | None) -> float:
    """The probability that an answer must exceed; NaN: every image is answered.

    Parameters
    ----------
    abstain : str, float or None
        A probability, ``auto`` for the one that the run chose on validation data, or None.

    Raises
    ------
    InputError
        When it is no probability, or the run chose none.
    """
    if abstain is None:
        return math.nan
    if str(abstain).strip().lower() == AUTO:
        if decided is None:
            raise InputError(
                "this model has no threshold: no decisions.json of its run lies beside it",
                "Give the run folder of a training run, or a probability: --abstain 0.8",
            )
        if math.isnan(decided.threshold):
            raise InputError(
                "the run's validation images allow no promise: no threshold was chosen",
                "Give a probability: --abstain 0.8, or train with more validation images",
            )
        return decided.threshold
    try:
        value = float(abstain)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1:
        raise InputError(f"--abstain {abstain} is no probability", "Give a number from 0 to below 1, or auto")
    return value


def predictions(
    model: str | os.PathLike[str] | Run | Model,
    images: Sequence[str],
    execution: Execution | None = None,
    *,
    top_k: int = 2,
    abstain: str | float | None = None,
) -> Iterator[Prediction]:
    """Label image files (and the images in folders), in batches, in the order given.

    Parameters
    ----------
    top_k : int
        Classes to name.
    abstain : str, float or None
        Withhold answers whose probability does not exceed this one, or the run's own threshold (``auto``). With None
        every image is answered, and answers below the run's threshold are noted as unsure.

    Raises
    ------
    InputError
        When a path does not exist, there is no image, or the model file is damaged.
    """
    execution = execution or Execution()
    classifier = open_model(model)
    decided = run_decisions(model, classifier)
    threshold = answer_threshold(abstain, decided)
    paths = list_sources(images)
    if not paths:
        raise InputError(f"no image in {', '.join(map(str, images))}", "Give image files, or folders that hold some")
    for start in range(0, len(paths), _BATCH):
        part = paths[start : start + _BATCH]
        decoded = decode_files(part, classifier.image_format, workers=execution.workers, progress=execution.progress)
        notes: list[list[str]] = [[] for _ in part]
        for kind, rows in sorted(decoded.alterations.items()):
            for row in rows.tolist():
                if kind in _TOLD:
                    notes[row].append(_TOLD[kind])
        scores, far = _judged(classifier, decoded.pixels, None if decided is None else decided.far)
        p = classifier.probabilities(scores)
        order = np.argsort(-p, axis=1, kind="stable")[:, :top_k]
        for row, path in enumerate(part):
            if not decoded.readable[row]:
                reason, mend = decoded.refusals[row]
                yield Prediction(path, (), f"LL003 {reason}: {mend}")
                continue
            top = tuple((classifier.class_names[k], float(p[row, k])) for k in order[row])
            withheld = top[0][1] <= threshold
            strange = None if far is None else bool(far[row])
            note = _notes(top[0][1], threshold, decided, strange, notes[row])
            yield Prediction(path, top, note, withheld, strange)


def _notes(p: float, threshold: float, decided: RunDecisions | None, far: bool | None, more: list[str]) -> str:
    said = []
    if p <= threshold:
        said.append(f"abstained (p ≤ {threshold:.2f})")
    elif math.isnan(threshold) and decided is not None and p <= decided.threshold:
        said.append(f"unsure (p ≤ {decided.threshold:.2f})")
    if far:
        said.append("far from training data")
    return ", ".join([*said, *more])


def _judged(classifier: Model, pixels: UInt8, flag: Any) -> tuple[Float32, BoolArray | None]:
    """Scores of images, and whether each is far from the training images where the run can tell."""
    if flag is None:
        return classifier.scores(pixels), None
    scores = np.empty((len(pixels), len(classifier.class_names)), dtype=np.float32)
    far = np.zeros(len(pixels), dtype=bool)
    for rows, features, found in classifier.score_blocks(pixels):
        scores[rows], far[rows] = found, flag.far(features)
    return scores, far
