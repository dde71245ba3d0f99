"""The files of a probe: scores, predictions, the head, the settings, the environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lastlayer import __version__, _files
from lastlayer._codes import Problem
from lastlayer.evaluation.baselines import Baseline
from lastlayer.evaluation.intervals import json_number
from lastlayer.evaluation.predictions import COLUMNS, prediction_rows
from lastlayer.pipeline import toml
from lastlayer.pipeline.checking import problem_to_dict
from lastlayer.pipeline.environment import environment
from lastlayer.pipeline.few_shot import FewShot
from lastlayer.pipeline.probe_data import ProbeData
from lastlayer.pipeline.probe_fit import Probe
from lastlayer.pipeline.probe_settings import ProbeSettings
from lastlayer.pipeline.run import RunWriter
from lastlayer.pipeline.scoring import SideScores
from lastlayer.pipeline.settings import Execution
from lastlayer.pipeline.write_run import SCHEMA_VERSION, scores_document


@dataclass(frozen=True, eq=False)
class ProbeOutcome:
    """Everything a probe found out; the last of `sides` is the one to quote, `names` are those of their rows."""

    settings: ProbeSettings
    execution: Execution
    data: ProbeData
    probe: Probe
    sides: tuple[SideScores, ...]
    names: tuple[list[str], ...]
    baselines: tuple[Baseline, ...]
    shots: FewShot | None
    look: int | None
    problems: tuple[Problem, ...]
    cpu_seconds: float
    seconds: float


def write_probe(writer: RunWriter, outcome: ProbeOutcome) -> None:
    """Write every file of a probe into the writer's folder."""
    folder = writer.folder
    names = outcome.data.class_names
    evaluations = {side.side: side.evaluation(names) for side in outcome.sides}
    outcome.probe.head.save(folder / "model.safetensors")
    _files.write_csv(folder / "predictions.csv", COLUMNS, _predictions(outcome))
    _files.write_text(folder / "config.toml", _config(outcome))
    _files.write_json(folder / "env.json", environment())
    _files.write_json(
        folder / "metrics.json",
        {
            "schema_version": SCHEMA_VERSION,
            "verb": "probe",
            **scores_document(evaluations, outcome.sides[-1].side, outcome.baselines, outcome.look, outcome.problems),
            **_facts(outcome),
        },
    )
    for name, evaluation in evaluations.items():
        writer.log("scored", side=name, accuracy=evaluation.accuracy.to_dict())
    for problem in outcome.problems:
        writer.log("problem", **problem_to_dict(problem))
    writer.log("end", cpu_seconds=round(outcome.cpu_seconds, 3))


def _facts(outcome: ProbeOutcome) -> dict[str, Any]:
    """How the probe was selected, and what it cost."""
    probe, data, settings = outcome.probe, outcome.data, outcome.settings
    return {
        "protocol": settings.protocol,
        "selection": probe.how,
        "departures": list(probe.departures),
        "interrupted": probe.interrupted or (outcome.shots is not None and outcome.shots.interrupted),
        "head": settings.head,
        "normalize": settings.normalize,
        "standardised": settings.standardised,
        "C": json_number(probe.C),
        "l2": json_number(probe.l2),
        "path": [
            {
                "C": point.C,
                "l2": point.l2,
                "val_accuracy": {"k": point.val_accuracy[0], "n": point.val_accuracy[1]},
                "val_loss": json_number(point.val_loss),
                "passes": point.passes,
                "stop_reason": point.stop_reason,
                "chosen": k == probe.chosen,
            }
            for k, point in enumerate(probe.points)
        ],
        "final_fit": {
            "stop_reason": probe.fit.solution.stop_reason.value,
            "passes": probe.fit.solution.passes,
            "relative_gradient_norm": json_number(probe.fit.solution.gradient_norm),
            "value": json_number(probe.fit.solution.value),
        },
        "temperature": probe.head.temperature,
        "shots": None if outcome.shots is None else _shots(outcome.shots),
        "rows": {
            name: {"n": len(side), "type": side.rows.X.dtype.name}
            for name in ("train", "val", "test")
            if (side := getattr(data, name)) is not None
        },
        "n_features": int(probe.head.weights.shape[0]),
        "notes": list(data.notes),
        "data_sha256": probe.head.provenance["data_sha256"],
        "model_digest": probe.head.digest,
        "cpu_seconds": round(outcome.cpu_seconds, 3),
        "seconds": round(outcome.seconds, 3),
    }


def _shots(shots: FewShot) -> dict[str, Any]:
    return {
        "scored_on": shots.scored_on,
        "kept": f"model and predictions are of the first draw of {shots.rows[-1].shots} shots",
        "rows": [
            {
                "shots": row.shots,
                "repeats": len(row.scores),
                "mean": json_number(row.mean),
                "sd": json_number(row.sd),
                "scores": [score.to_dict() for score in row.scores],
                "C": list(row.Cs),
                "chosen_on": row.chosen_on,
            }
            for row in shots.rows
        ],
    }


def _config(outcome: ProbeOutcome) -> str:
    return toml.dump(
        {
            "probe": outcome.settings.stored(),
            "made": {
                "lastlayer": __version__,
                "command": outcome.execution.command,
                "data_sha256": outcome.probe.head.provenance["data_sha256"],
                "model_digest": outcome.probe.head.digest,
            },
        },
        comment="Probe again with: lastlayer probe --config THIS_FILE",
    )


def _predictions(outcome: ProbeOutcome) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for side, names in zip(outcome.sides, outcome.names):
        rows += prediction_rows(
            names,
            [side.side] * len(side.rows),
            side.labels,
            side.probabilities,
            outcome.data.class_names,
            scores=side.scores,
            oof=np.full(len(side.rows), side.held_out),
        )
    return rows
