"""``predict``: images in, labels out. Imports no scikit-learn, no SciPy and no matplotlib: it must start at once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lastlayer._arrays import InputError
from lastlayer.data.decoding import decode_files
from lastlayer.data.inputs import list_sources
from lastlayer.model import Model
from lastlayer.pipeline.run import Run, load
from lastlayer.pipeline.settings import Execution

_BATCH = 4096

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
        What was done to the image, or ``LL003 reason: mend``.
    """

    path: str
    top: tuple[tuple[str, float], ...]
    note: str = ""

    @property
    def label(self) -> str | None:
        """The most probable class, None when the file could not be read."""
        return self.top[0][0] if self.top else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        label, p = self.top[0] if self.top else (None, None)
        top = [{"label": name, "p": round(q, 6)} for name, q in self.top]
        return {
            "path": self.path,
            "label": label,
            "p": None if p is None else round(p, 6),
            "top": top,
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


def predictions(
    model: str | os.PathLike[str] | Run | Model,
    images: Sequence[str],
    execution: Execution | None = None,
    *,
    top_k: int = 2,
) -> Iterator[Prediction]:
    """Label image files (and the images in folders), in batches, in the order given.

    Raises
    ------
    InputError
        When a path does not exist, there is no image, or the model file is damaged.
    """
    execution = execution or Execution()
    classifier = open_model(model)
    paths = list_sources(images)
    if not paths:
        raise InputError(f"no image in {', '.join(map(str, images))}", "Give image files, or folders that hold some")
    for start in range(0, len(paths), _BATCH):
        part = paths[start : start + _BATCH]
        decoded = decode_files(part, classifier.image_format, workers=execution.workers, progress=execution.progress)
        notes = [""] * len(part)
        for kind, rows in sorted(decoded.alterations.items()):
            for row in rows.tolist():
                if kind in _TOLD:
                    notes[row] += (", " if notes[row] else "") + _TOLD[kind]
        p = classifier.probabilities(classifier.scores(decoded.pixels))
        order = np.argsort(-p, axis=1, kind="stable")[:, :top_k]
        for row, path in enumerate(part):
            if not decoded.readable[row]:
                reason, mend = decoded.refusals[row]
                yield Prediction(path, (), f"LL003 {reason}: {mend}")
                continue
            top = tuple((classifier.class_names[k], float(p[row, k])) for k in order[row])
            yield Prediction(path, top, notes[row])
