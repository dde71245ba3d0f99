"""The files of an evaluation: scores, predictions, report."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from lastlayer import _files
from lastlayer._arrays import BoolArray, UInt8
from lastlayer._codes import Problem
from lastlayer._files import display_name
from lastlayer.data.dataset import NONE, SPLIT_NAMES, Dataset
from lastlayer.data.decoding import Decoded
from lastlayer.data.splitfile import save_split
from lastlayer.evaluation.abstention import Threshold
from lastlayer.evaluation.baselines import Baseline
from lastlayer.evaluation.predictions import COLUMNS, prediction_rows
from lastlayer.model import Model
from lastlayer.pipeline.environment import environment
from lastlayer.pipeline.held_out import HeldOut
from lastlayer.pipeline.report_parts import confidence_parts, unsure_answers
from lastlayer.pipeline.reporting import cell_images, mistakes, write_report
from lastlayer.pipeline.run import RunWriter
from lastlayer.pipeline.scoring import SideScores
from lastlayer.pipeline.settings import Execution
from lastlayer.pipeline.write_run import SCHEMA_VERSION, scores_document
from lastlayer.report import ReportData


@dataclass(frozen=True, eq=False)
class Assessment:
    """What an evaluation found out; `decisions` and `groups` go to ``metrics.json`` as they are.

    `held_out` are rows that no weight was fitted on, for the report's temperature and threshold.
    """

    scored: SideScores
    baselines: tuple[Baseline, ...]
    look: int | None
    problems: tuple[Problem, ...]
    decisions: dict[str, Any]
    groups: dict[str, Any] | None
    held_out: HeldOut | None = None

    @property
    def abstained(self) -> BoolArray | None:
        """Rows that the threshold chosen leaves without an answer; None without a threshold."""
        found = self.decisions["abstention"]
        if found is None or found["threshold"] is None:
            return None
        return ~Threshold.from_dict(found["threshold"]).answers(self.scored.probabilities.max(axis=1))


def write_evaluation(
    writer: RunWriter,
    model: Model,
    dataset: Dataset,
    decoded: Decoded,
    assessment: Assessment,
    execution: Execution,
) -> None:
    """Write ``metrics.json``, ``predictions.csv``, ``split.csv``, ``env.json`` and ``report.html``."""
    folder = writer.folder
    scored, baselines, look, problems = (
        assessment.scored, assessment.baselines, assessment.look, assessment.problems
    )  # fmt: skip
    evaluation = scored.evaluation(model.class_names)
    evaluations = {scored.side: evaluation}
    facts = environment()
    alterations = {kind: len(rows) for kind, rows in sorted(decoded.alterations.items())}
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "verb": "evaluate",
        **scores_document(evaluations, scored.side, baselines, look, problems),
        "selection": model.provenance.get("selection", ""),
        "source": display_name(dataset.source),
        "alterations": alterations,
        "model_digest": model.digest,
        "decisions": assessment.decisions,
        "groups": assessment.groups,
    }
    _files.write_json(folder / "metrics.json", document)
    _files.write_json(folder / "env.json", facts)
    _files.write_csv(
        folder / "predictions.csv",
        COLUMNS,
        prediction_rows(
            [dataset.names[row] for row in scored.rows.tolist()],
            [scored.side] * len(scored.rows),
            scored.labels,
            scored.probabilities,
            model.class_names,
            scores=scored.scores,
            oof=np.full(len(scored.rows), scored.held_out),
            abstained=assessment.abstained,
        ),
    )
    _write_split(folder / "split.csv", dataset.subset(scored.rows), decoded.sha256[scored.rows], scored.side)
    report = ReportData(
        title=execution.name or "evaluate",
        command=execution.command,
        created=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        source=display_name(dataset.source),
        layout=dataset.layout,
        description=dataset.describe(),
        plan=tuple(("model", line, "") for line in model.describe()),
        class_names=model.class_names,
        splits=evaluations,
        quote=scored.side,
        selection=str(model.provenance.get("selection", "")),
        look=look,
        baselines=baselines,
        mistakes=mistakes(scored, dataset.names, decoded.pixels),
        confusion_images=cell_images(scored, dataset.names, decoded.pixels),
        problems=problems,
        alterations=alterations,
        environment=facts,
        unsure=unsure_answers(scored, dataset.names, decoded.pixels),
        **confidence_parts(scored, assessment.held_out),
    )
    write_report(folder, report)
    writer.log("scored", side=scored.side, accuracy=evaluation.accuracy.to_dict())


def _write_split(path: Path, rows: Dataset, sha256: UInt8, side: str) -> None:
    """Which images were scored, by name and content: what `compare` tells splits apart by."""
    code = SPLIT_NAMES.index(side) if side in SPLIT_NAMES else NONE
    sides = np.full(len(rows), code, np.uint8)
    save_split(path, rows, sha256, sides, np.full(len(rows), -1, np.int32))
