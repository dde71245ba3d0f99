"""The files of an evaluation: scores, predictions, report."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np

from lastlayer import _files
from lastlayer._codes import Problem
from lastlayer._files import display_name
from lastlayer.data.dataset import Dataset
from lastlayer.data.decoding import Decoded
from lastlayer.evaluation.baselines import Baseline
from lastlayer.evaluation.predictions import COLUMNS, prediction_rows
from lastlayer.model import Model
from lastlayer.pipeline.environment import environment
from lastlayer.pipeline.reporting import cell_images, mistakes
from lastlayer.pipeline.run import RunWriter
from lastlayer.pipeline.scoring import SideScores
from lastlayer.pipeline.settings import Execution
from lastlayer.pipeline.write_run import SCHEMA_VERSION, scores_document
from lastlayer.report import ReportData, render_report


def write_evaluation(
    writer: RunWriter,
    model: Model,
    dataset: Dataset,
    decoded: Decoded,
    scored: SideScores,
    baselines: tuple[Baseline, ...],
    look: int | None,
    problems: tuple[Problem, ...],
    execution: Execution,
) -> None:
    """Write ``metrics.json``, ``predictions.csv``, ``env.json`` and ``report.html``."""
    folder = writer.folder
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
        ),
    )
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
    )
    _files.write_text(folder / "report.html", render_report(report))
    writer.log("scored", side=scored.side, accuracy=evaluation.accuracy.to_dict())
