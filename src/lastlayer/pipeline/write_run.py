"""The files of a run: model, scores, predictions, split, configuration, environment and report."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lastlayer import __version__, _files
from lastlayer._arrays import Float32
from lastlayer._codes import Problem
from lastlayer.evaluation.baselines import Baseline
from lastlayer.evaluation.intervals import json_number
from lastlayer.evaluation.learning_curve import LearningCurve
from lastlayer.evaluation.metrics import Evaluation
from lastlayer.evaluation.predictions import COLUMNS, prediction_rows
from lastlayer.model import Model
from lastlayer.pipeline import toml
from lastlayer.pipeline.checking import problem_to_dict
from lastlayer.pipeline.environment import environment
from lastlayer.pipeline.learn import Learned
from lastlayer.pipeline.run import RunWriter
from lastlayer.pipeline.run_decisions import write_decisions
from lastlayer.pipeline.scoring import SideScores
from lastlayer.pipeline.settings import Execution, TrainSettings, settings_from

if TYPE_CHECKING:
    from lastlayer.pipeline.features import Features
    from lastlayer.pipeline.preparing import Clock, Prepared
    from lastlayer.pipeline.suspects import LabelCheck

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Outcome:
    """Everything a training run found out."""

    settings: TrainSettings
    execution: Execution
    prepared: Prepared
    features: Features
    learned: Learned
    model: Model
    sides: tuple[SideScores, ...]
    baselines: tuple[Baseline, ...]
    look: int | None
    problems: tuple[Problem, ...]
    auto: dict[str, Any] | None = None
    curve: LearningCurve | None = None
    filters: Float32 | None = None
    network: dict[str, Any] | None = None
    doubts: LabelCheck | None = None

    @property
    def quoted(self) -> SideScores:
        """The scores to quote: test, else validation, else training."""
        return self.sides[-1]

    def evaluations(self) -> dict[str, Evaluation]:
        """Scores of every side, by its name."""
        return {side.side: side.evaluation(self.model.class_names) for side in self.sides}


def write_outcome(writer: RunWriter, outcome: Outcome, clock: Clock) -> None:
    """Write every file of a training run into the writer's folder."""
    folder = writer.folder
    prepared = outcome.prepared
    evaluations = outcome.evaluations()
    config = config_text(outcome)
    facts = environment()
    outcome.model.save(folder / "model.safetensors")
    prepared.split.save(folder / "split.csv", prepared.dataset, prepared.decoded.sha256)
    _write_predictions(folder / "predictions.csv", outcome)
    decided = write_decisions(folder, prepared, outcome.features, outcome.model, outcome.sides, outcome.settings)
    if outcome.doubts is not None:
        outcome.doubts.write(folder, prepared.dataset)
    _files.write_text(folder / "config.toml", config)
    _files.write_json(folder / "env.json", facts)
    clock.lap("write")

    from lastlayer.pipeline.reporting import training_report

    report = training_report(outcome, evaluations, clock, facts, config, folder)
    _files.write_text(folder / "report.html", report)
    clock.lap("report")
    _files.write_json(folder / "metrics.json", _metrics(outcome, evaluations, decided, clock))
    for side in outcome.sides:
        writer.log("scored", side=side.side, accuracy=evaluations[side.side].accuracy.to_dict())
    for problem in outcome.problems:
        writer.log("problem", **problem_to_dict(problem))


def config_text(outcome: Outcome) -> str:
    """``config.toml``: the resolved settings and where they came from.

    The split is named as the file beside the configuration, so that running it again gives the same sides
    even when images were added since.
    """
    values = {f.name: getattr(outcome.settings, f.name) for f in dataclasses.fields(TrainSettings)}
    values["phi"] = outcome.prepared.phi_text
    values["split"] = "split.csv"
    values = {name: value for name, value in values.items() if value == value}  # NaN: the default
    return toml.dump(
        {
            "train": values,
            "made": {
                "lastlayer": __version__,
                "command": outcome.execution.command,
                "data_sha256": outcome.model.provenance["data_sha256"],
                "model_digest": outcome.model.digest,
            },
        },
        comment="Train again with: lastlayer train --config THIS_FILE",
    )


def settings_from_config(config: Path | None, overrides: dict[str, Any]) -> TrainSettings:
    """Settings of an earlier run's ``config.toml`` (none: the defaults), with `overrides` on top."""
    if config is None:
        return settings_from(overrides, "options")
    stored = dict(toml.load(config).get("train", {}))
    if stored.get("split") and not Path(stored["split"]).is_absolute():
        stored["split"] = str((config.parent / stored["split"]).absolute())
    if "data" in overrides and overrides["data"] != stored.get("data") and "split" not in overrides:
        stored["split"] = ""  # other data have a split of their own
    return settings_from({**stored, **overrides}, str(config))


def _write_predictions(path: Path, outcome: Outcome) -> None:
    names = outcome.prepared.dataset.names
    rows: list[tuple[str, ...]] = []
    for side in outcome.sides:
        rows += prediction_rows(
            [names[row] for row in side.rows.tolist()],
            [side.side] * len(side.rows),
            side.labels,
            side.probabilities,
            outcome.model.class_names,
            scores=side.scores,
            oof=np.full(len(side.rows), side.held_out),
        )
    _files.write_csv(path, COLUMNS, rows)


def _metrics(
    outcome: Outcome, evaluations: dict[str, Evaluation], decided: dict[str, Any], clock: Clock
) -> dict[str, Any]:
    learned, doubts = outcome.learned, outcome.doubts
    return {
        "schema_version": SCHEMA_VERSION,
        "verb": "train",
        **scores_document(evaluations, outcome.quoted.side, outcome.baselines, outcome.look, outcome.problems),
        "selection": learned.selection,
        "auto": outcome.auto,
        "network": outcome.network,
        "interrupted": learned.interrupted,
        "C": json_number(learned.C),
        "l2": json_number(learned.l2),
        "path": [
            {
                "C": point.C,
                "l2": json_number(point.l2),
                "train_loss": json_number(point.train_loss),
                "val_accuracy": {"k": point.val_accuracy[0], "n": point.val_accuracy[1]},
                "val_loss": json_number(point.val_loss),
                "passes": point.passes,
                "seconds": point.seconds,
                "stop_reason": point.stop_reason,
                "chosen": k == learned.chosen,
            }
            for k, point in enumerate(learned.points)
        ],
        "final_fit": {
            "stop_reason": learned.final.solution.stop_reason.value,
            "passes": json_number(learned.final.solution.passes),
            "relative_gradient_norm": json_number(learned.final.solution.gradient_norm),
            "value": json_number(learned.final.solution.value),
        },
        "temperature": learned.temperature,
        "labels": None if doubts is None else doubts.to_dict(outcome.prepared.dataset),
        "decisions": decided,
        "learning_curve": None if outcome.curve is None else outcome.curve.to_dict(),
        "phi": outcome.prepared.phi_text,
        "n_features": int(outcome.model.weights.shape[0]),
        "head": outcome.model.provenance["head"],
        "alterations": {k: len(v) for k, v in sorted(outcome.prepared.decoded.alterations.items())},
        "cache": {"images": outcome.prepared.images_reused, "features": outcome.features.reused},
        "data_sha256": outcome.model.provenance["data_sha256"],
        "model_digest": outcome.model.digest,
        "seconds_by_stage": dict(clock.seconds),
        "seconds": round(sum(clock.seconds.values()), 3),
    }


def scores_document(
    evaluations: dict[str, Evaluation],
    quote: str,
    baselines: tuple[Baseline, ...],
    look: int | None,
    problems: tuple[Problem, ...],
) -> dict[str, Any]:
    """The part of ``metrics.json`` that ``train`` and ``evaluate`` share."""
    quoted = evaluations[quote]
    names = quoted.class_names
    return {
        "quote": quote,
        "splits": {name: evaluation.to_dict() for name, evaluation in evaluations.items()},
        "baselines": [baseline.to_dict() for baseline in baselines],
        "look": look,
        "top_confusions": [
            {"label": names[c.label], "predicted": names[c.predicted], "count": c.count, "of": c.of}
            for c in quoted.top_confusions(10)
        ],
        "problems": [problem_to_dict(problem) for problem in problems],
    }
