"""A report's content as a file, so that it can be drawn again without the images: numbers, names and small pictures.

``report.safetensors`` holds two byte strings: ``document``, JSON with everything the report says, and ``pictures``, the
encoded thumbnails one after another. Whoever renders it again needs neither the data nor the model, and gets the same
report. Nothing in it is executed; all text is escaped when it is rendered.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, final

import numpy as np

from lastlayer._arrays import Float32, InputError, UInt8
from lastlayer._codes import Problem
from lastlayer._files import display_name
from lastlayer.artifacts import FORMAT_VERSION, ModelFileError, read_artifact, write_artifact
from lastlayer.evaluation.baselines import Baseline
from lastlayer.evaluation.calibration import CalibrationError
from lastlayer.evaluation.intervals import Estimate, Proportion, json_number
from lastlayer.evaluation.learning_curve import LearningCurve
from lastlayer.evaluation.metrics import Evaluation
from lastlayer.report.data import (
    Abstaining,
    Calibration,
    Doubt,
    Epoch,
    Mistake,
    Near,
    PathRow,
    ReportData,
    Suspects,
    Training,
)
from lastlayer.report.thumbnails import TINY_SIDE, Key, Pixmap, pictures

FILE = "report.safetensors"
VERSION = 1
_NO_PICTURE: UInt8 = np.zeros((1, 1, 3), np.uint8)
_KINDS = ("template", "mistake", "cell", "near", "suspect", "unsure", "filter")
_PLAIN = (
    "title",
    "command",
    "created",
    "source",
    "layout",
    "description",
    "quote",
    "selection",
    "look",
    "chosen",
    "config_toml",
    "quote_tag",
    "near_note",
)
_MAPPINGS = ("alterations", "environment", "timings", "split_notes")


@final
@dataclass(frozen=True)
class StoredTemplate:
    """Templates whose pictures are encoded already: `images` says how many there are, and of which shape."""

    kind: str
    note: str
    images: Float32


def pack_report(path: str | os.PathLike[str], data: ReportData, encoded: Sequence[tuple[Key, Pixmap]] = ()) -> None:
    """Write what the report of `data` shows; `encoded` are its pictures where they were encoded before."""
    encoded = list(encoded) or pictures(data)
    table, blobs, offset = [], [], 0
    for key, pixmap in encoded:
        kind, _, text = pixmap.uri.partition(";base64,")
        blob = base64.b64decode(text)
        table.append([*key, kind.removeprefix("data:image/"), pixmap.width, pixmap.height, offset, len(blob)])
        blobs.append(blob)
        offset += len(blob)
    document = {"version": VERSION, **to_document(data), "pictures": table}
    text_bytes = np.frombuffer(json.dumps(document, allow_nan=False).encode("ascii"), np.uint8)
    tensors = {"document": text_bytes}
    if offset:
        tensors["pictures"] = np.frombuffer(b"".join(blobs), np.uint8)
    write_artifact(Path(path), {"format_version": FORMAT_VERSION, "kind": "report"}, tensors, overwrite=True)


def unpack_report(path: str | os.PathLike[str]) -> tuple[ReportData, list[tuple[Key, Pixmap]]]:
    """Read what `pack_report` wrote: the data without pixels, and the pictures by their keys.

    Raises
    ------
    InputError
        When the file is damaged, of another kind, or of a later version.
    """
    where = display_name(str(path))
    try:
        header, tensors = read_artifact(Path(path))
    except ModelFileError as error:
        raise InputError(f"{where} cannot be read: {error}", "Make the run again") from error
    if header.get("kind") != "report" or "document" not in tensors:
        raise InputError(f"{where} holds no report", "Make the run again")
    try:
        document = json.loads(tensors["document"].tobytes())
        if document["version"] != VERSION:
            raise InputError(f"{where} is of version {document['version']}", "Use the lastlayer that wrote it")
        store = tensors.get("pictures", np.zeros(0, np.uint8)).tobytes()
        return from_document(document), [_picture(entry, store) for entry in document["pictures"]]
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
        raise InputError(f"{where} is damaged: {type(error).__name__} {error}", "Make the run again") from error


def _picture(entry: Sequence[Any], store: bytes) -> tuple[Key, Pixmap]:
    kind, first, second, form, width, height, offset, length = entry
    if kind not in _KINDS or form not in ("png", "jpeg") or not 0 <= offset <= offset + length <= len(store):
        raise ValueError("a picture lies outside the file")
    uri = f"data:image/{form};base64,{base64.b64encode(store[offset : offset + length]).decode('ascii')}"
    size = int(width), int(height)
    return Key(kind, int(first), int(second)), Pixmap(uri, *size, pixelated=max(size) <= TINY_SIDE)


def to_document(data: ReportData) -> dict[str, Any]:
    """Everything but the pixels as plain JSON values."""
    plain = {name: getattr(data, name) for name in _PLAIN}
    return {
        **plain,
        **{name: dict(getattr(data, name)) for name in _MAPPINGS},
        "plan": [list(line) for line in data.plan],
        "class_names": list(data.class_names),
        "splits": {name: evaluation.to_dict() for name, evaluation in data.splits.items()},
        "baselines": [{**b.to_dict(), "name": b.name, "note": b.note} for b in data.baselines],
        "path": [_path_row(row) for row in data.path],
        "templates": [[t.kind, t.note, list(t.images.shape)] for t in data.templates],
        "mistakes": [
            [m.name, m.label, m.predicted, m.p_predicted, m.p_label, [[n.name, n.label, n.closeness] for n in m.near]]
            for m in data.mistakes
        ],
        "cells": [[*map(int, cell), [name for name, _ in found]] for cell, found in data.confusion_images.items()],
        "problems": [[p.code, p.message, list(p.files), list(p.details), p.mend] for p in data.problems],
        "suspects": None if data.suspects is None else _suspects(data.suspects),
        "unsure": [list(row[:5]) for row in data.unsure],
        "calibration": None if data.calibration is None else _calibration(data.calibration),
        "abstaining": None if data.abstaining is None else _abstaining(data.abstaining),
        "learning_curve": None if data.learning_curve is None else data.learning_curve.to_dict(),
        "training": None if data.training is None else _training(data.training),
    }


def _path_row(row: PathRow) -> dict[str, Any]:
    return {
        **{name: json_number(getattr(row, name)) for name in ("C", "l2", "train_loss", "val_loss", "seconds")},
        "val_accuracy": row.val_accuracy.to_dict(),
        "passes": row.passes,
        "converged": row.converged,
    }


def _suspects(found: Suspects) -> dict[str, Any]:
    return {
        "rows": [list(row[:5]) for row in found.rows],
        "found": found.found,
        "judged": found.judged,
        "estimate": found.estimate,
        "accuracy": found.accuracy.to_dict(),
        "how": found.how,
    }


def _calibration(found: Calibration) -> dict[str, Any]:
    return {
        "before": found.before.to_dict(),
        "loss_before": found.loss_before.to_dict(),
        "after": None if found.after is None else found.after.to_dict(),
        "loss_after": None if found.loss_after is None else found.loss_after.to_dict(),
        "temperature": found.temperature,
        "fitted_on": found.fitted_on,
    }


def _abstaining(found: Abstaining) -> dict[str, Any]:
    return {
        "coverage": list(found.coverage),
        "risk": list(found.risk),
        "aurc": found.aurc.to_dict(),
        "n": found.n,
        "threshold": found.threshold,
        "wanted": found.wanted,
        "answered": None if found.answered is None else found.answered.to_dict(),
        "right": None if found.right is None else found.right.to_dict(),
    }


def _training(found: Training) -> dict[str, Any]:
    return {
        "epochs": [list(row) for row in found.epochs],
        "best_epoch": found.best_epoch,
        "stop_reason": found.stop_reason,
        "layers": list(found.layers),
        "filters": len(found.filters),
    }


def from_document(stored: dict[str, Any]) -> ReportData:
    """Inverse of `to_document`; pictures are empty."""
    known = {field.name for field in fields(ReportData)}
    values: dict[str, Any] = {name: stored[name] for name in (*_PLAIN, *_MAPPINGS) if name in known}
    return ReportData(
        **values,
        plan=tuple((str(a), str(b), str(c)) for a, b, c in stored["plan"]),
        class_names=tuple(map(str, stored["class_names"])),
        splits={str(name): Evaluation.from_dict(entry) for name, entry in stored["splits"].items()},
        baselines=tuple(
            Baseline(str(b["name"]), Proportion.from_dict(b["accuracy"]), str(b["note"])) for b in stored["baselines"]
        ),
        path=tuple(_read_path_row(row) for row in stored["path"]),
        templates=tuple(StoredTemplate(kind, note, _shape_only(shape)) for kind, note, shape in stored["templates"]),
        mistakes=tuple(
            Mistake(name, i, j, p, q, _NO_PICTURE, tuple(Near(n, k, c, _NO_PICTURE) for n, k, c in near))
            for name, i, j, p, q, near in stored["mistakes"]
        ),
        confusion_images={(i, j): [(name, _NO_PICTURE) for name in names] for i, j, names in stored["cells"]},
        problems=tuple(Problem(c, m, tuple(f), tuple(d), mend) for c, m, f, d, mend in stored["problems"]),
        suspects=_read_suspects(stored["suspects"]),
        unsure=_read_doubts(stored["unsure"]),
        calibration=_read_calibration(stored["calibration"]),
        abstaining=_read_abstaining(stored["abstaining"]),
        learning_curve=None if stored["learning_curve"] is None else LearningCurve.from_dict(stored["learning_curve"]),
        training=_read_training(stored["training"]),
    )


def _shape_only(shape: Sequence[int]) -> Float32:
    """An array of that shape without memory: what is drawn are the encoded pictures."""
    return np.broadcast_to(np.float32(0), tuple(map(int, shape)))


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _read_path_row(row: dict[str, Any]) -> PathRow:
    return PathRow(
        C=_number(row["C"]),
        l2=_number(row["l2"]),
        train_loss=_number(row["train_loss"]),
        val_accuracy=Proportion.from_dict(row["val_accuracy"]),
        val_loss=_number(row["val_loss"]),
        passes=int(row["passes"]),
        seconds=_number(row["seconds"]),
        converged=bool(row["converged"]),
    )


def _read_doubts(rows: Sequence[Sequence[Any]]) -> tuple[Doubt, ...]:
    return tuple(Doubt(name, i, j, p, q, _NO_PICTURE) for name, i, j, p, q in rows)


def _read_suspects(stored: dict[str, Any] | None) -> Suspects | None:
    if stored is None:
        return None
    return Suspects(
        _read_doubts(stored["rows"]),
        int(stored["found"]),
        int(stored["judged"]),
        int(stored["estimate"]),
        Proportion.from_dict(stored["accuracy"]),
        str(stored["how"]),
    )


def _read_calibration(stored: dict[str, Any] | None) -> Calibration | None:
    if stored is None:
        return None
    after, loss_after = stored["after"], stored["loss_after"]
    return Calibration(
        CalibrationError.from_dict(stored["before"]),
        Estimate.from_dict(stored["loss_before"]),
        None if after is None else CalibrationError.from_dict(after),
        None if loss_after is None else Estimate.from_dict(loss_after),
        stored["temperature"],
        str(stored["fitted_on"]),
    )


def _read_abstaining(stored: dict[str, Any] | None) -> Abstaining | None:
    if stored is None:
        return None
    answered, right = stored["answered"], stored["right"]
    return Abstaining(
        tuple(map(float, stored["coverage"])),
        tuple(map(float, stored["risk"])),
        Estimate.from_dict(stored["aurc"]),
        int(stored["n"]),
        stored["threshold"],
        stored["wanted"],
        None if answered is None else Proportion.from_dict(answered),
        None if right is None else Proportion.from_dict(right),
    )


def _read_training(stored: dict[str, Any] | None) -> Training | None:
    if stored is None:
        return None
    return Training(
        tuple(Epoch(*row) for row in stored["epochs"]),
        stored["best_epoch"],
        str(stored["stop_reason"]),
        tuple(map(str, stored["layers"])),
        (_NO_PICTURE,) * int(stored["filters"]),
    )
