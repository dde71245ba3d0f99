"""``report``: the report of a run rendered again from its folder, without data and model."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lastlayer import _files
from lastlayer._arrays import InputError, UInt8
from lastlayer._codes import CODES, Problem
from lastlayer._files import display_name
from lastlayer.evaluation.baselines import Baseline
from lastlayer.evaluation.calibration import CalibrationError
from lastlayer.evaluation.intervals import Estimate, Proportion
from lastlayer.evaluation.learning_curve import LearningCurve
from lastlayer.evaluation.metrics import Evaluation
from lastlayer.pipeline.report_parts import read_training
from lastlayer.report import (
    Abstaining,
    Calibration,
    Mistake,
    PathRow,
    ReportData,
    figure_files,
    render_report,
    unpack_report,
)
from lastlayer.report.stored import FILE
from lastlayer.report.thumbnails import Key, Pixmap

SMALLEST = 50_000
"""Bytes: the text of a report alone."""
_MOST_MISTAKES = 60
_NO_PICTURE: UInt8 = np.zeros((1, 1, 3), np.uint8)


@dataclass(frozen=True, eq=False)
class Again:
    """What a run folder holds for its report.

    Attributes
    ----------
    data : ReportData
    encoded : sequence of (Key, Pixmap)
        Its pictures; none where the run kept none.
    note : str
        What is missing and why, or empty.
    """

    data: ReportData
    encoded: Sequence[tuple[Key, Pixmap]]
    note: str = ""

    def html(self, max_bytes: int) -> str:
        """The page, of at most `max_bytes` where its text allows that."""
        return render_report(self.data, max_bytes=max_bytes, encoded=self.encoded)

    def write_figures(self, folder: Path) -> tuple[Path, ...]:
        """Write every figure as a file into `folder`, and return the files."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for name, content in figure_files(self.data).items():
            _files.write_bytes(folder / name, content)
            paths.append(folder / name)
        return tuple(paths)


def open_report(run: str | os.PathLike[str]) -> Again:
    """Everything that is needed to render the report of a run folder again.

    A run that kept ``report.safetensors`` gives the whole report. Another one, of an earlier version or of ``probe``,
    gives what ``metrics.json`` and its neighbours say, without pictures.

    Raises
    ------
    InputError
        When the folder holds no run, or files of it are damaged.
    """
    folder = Path(run)
    folder = folder.parent if folder.is_file() else folder
    if (folder / FILE).is_file():
        return Again(*unpack_report(folder / FILE))
    where = display_name(str(folder))
    try:
        metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="ascii"))
        data = _from_documents(folder, metrics)
    except FileNotFoundError:
        raise InputError(
            f"{where} holds neither {FILE} nor metrics.json", "Give a run folder such as runs/train-001"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{where} cannot be read as a run: {error}", "Make the run again") from error
    return Again(data, (), f"{where} kept no pictures ({FILE} is missing): the report has none")


def _from_documents(folder: Path, metrics: dict[str, Any]) -> ReportData:
    splits = {name: Evaluation.from_dict(stored) for name, stored in metrics["splits"].items()}
    quote = str(metrics["quote"])
    names = splits[quote].class_names
    config = _text(folder / "config.toml")
    environment = json.loads(_text(folder / "env.json") or "{}")
    curve = metrics.get("learning_curve")
    path = metrics.get("path", ())
    return ReportData(
        title=folder.resolve().name,
        command=_command(folder),
        created="",
        source=str(metrics.get("source", "")),
        layout="",
        description=f"{splits[quote].n:,} {quote} images, {len(names)} classes",
        plan=(("phi", str(metrics.get("phi", "")), "--phi"),) if metrics.get("phi") else (),
        class_names=names,
        splits=splits,
        quote=quote,
        selection=str(metrics.get("selection", "")),
        look=metrics.get("look"),
        baselines=tuple(
            Baseline(str(b["name"]), Proportion.from_dict(b["accuracy"]), str(b.get("note", "")))
            for b in metrics["baselines"]
        ),
        path=tuple(_path_row(row) for row in path),
        chosen=next((k for k, row in enumerate(path) if row["chosen"]), None),
        mistakes=_mistakes(folder / "predictions.csv", quote, names),
        problems=tuple(
            Problem(p["code"], p["message"], tuple(p.get("files", ())), tuple(p.get("details", ())))
            for p in metrics.get("problems", ())
            if p["code"] in CODES
        ),
        alterations=metrics.get("alterations", {}),
        environment={str(key): str(value) for key, value in environment.items()},
        timings=metrics.get("seconds_by_stage", {}),
        config_toml=config,
        learning_curve=None if curve is None else LearningCurve.from_dict(curve),
        training=read_training(folder / "log.jsonl", None),
        **_decided(metrics.get("decisions"), splits[quote]),
    )


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _command(folder: Path) -> str:
    """The command that the log tells."""
    first = _text(folder / "log.jsonl").partition("\n")[0]
    return str(json.loads(first).get("command", "")) if first else ""


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _path_row(row: dict[str, Any]) -> PathRow:
    return PathRow(
        float(row["C"]),
        float(row["l2"]),
        _number(row["train_loss"]),
        Proportion(int(row["val_accuracy"]["k"]), int(row["val_accuracy"]["n"])),
        _number(row["val_loss"]),
        round(row["passes"]),
        float(row["seconds"]),
        str(row["stop_reason"]) != "max_iter",
    )


def _mistakes(path: Path, split: str, names: tuple[str, ...]) -> tuple[Mistake, ...]:
    """The mistakes of largest loss that ``predictions.csv`` names."""
    if not path.is_file():
        return ()
    at = {name: k for k, name in enumerate(names)}
    found = []
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        for row in csv.DictReader(stream):
            if row["split"] != split or row["label"] not in at or row["label"] == row["predicted"]:
                continue
            p = float(row["p_predicted"]), float(row["p_label"])
            name = display_name(row["path"])
            found.append(Mistake(name, at[row["label"]], at[row["predicted"]], *p, _NO_PICTURE))
    found.sort(key=lambda mistake: mistake.p_label)
    return tuple(found[:_MOST_MISTAKES])


def _decided(document: dict[str, Any] | None, quoted: Evaluation) -> dict[str, Any]:
    """Calibration and abstention of an evaluation's ``metrics.json``; of another run the calibration alone."""
    if document is None or "risk_coverage" not in document:  # those of a training run are for new images
        known = quoted.uncertainty
        plain = None if known is None else Calibration(known.ece, known.log_loss)
        return {"calibration": plain}
    curve = document["risk_coverage"]
    abstaining = Abstaining(
        tuple(curve["coverage"]), tuple(curve["risk"]), Estimate.from_dict(curve["aurc"]), int(curve["n"])
    )
    stored = document["calibration"]
    calibration = None
    if stored is not None:
        before, after = stored["before"], stored["temperature"]
        calibration = Calibration(
            CalibrationError.from_dict(before["ece"]),
            Estimate.from_dict(before["log_loss"]),
            CalibrationError.from_dict(after["ece"]),
            Estimate.from_dict(after["log_loss"]),
            float(after["temperature"]),
            f"{document['fitted_on']['n']:,} validation images",
        )
    return {"calibration": calibration, "abstaining": abstaining}
