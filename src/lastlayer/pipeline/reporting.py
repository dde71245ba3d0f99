"""Fill in the report: pictures of mistakes and confusions, the learned weights, the path, the plan."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lastlayer._arrays import UInt8
from lastlayer._files import display_name
from lastlayer.evaluation.intervals import Proportion
from lastlayer.evaluation.metrics import Evaluation
from lastlayer.pipeline.scoring import SideScores, confident_mistakes
from lastlayer.report import Mistake, PathRow, ReportData, TemplateImages, render_report

if TYPE_CHECKING:
    from lastlayer.pipeline.learn import Learned
    from lastlayer.pipeline.preparing import Clock
    from lastlayer.pipeline.write_run import Outcome

MOST_MISTAKES = 60
MOST_PER_CELL = 24
MOST_CELL_IMAGES = 1500
# the report shows those of the classes with the lowest recall; drawing thousands of them would cost a gigabyte
MOST_TEMPLATES = 300


def training_report(
    outcome: Outcome,
    evaluations: dict[str, Evaluation],
    clock: Clock,
    facts: dict[str, str],
    config: str,
    folder: Path,
) -> str:
    """HTML report of a training run."""
    prepared, learned, quoted = outcome.prepared, outcome.learned, outcome.quoted
    pixels = prepared.decoded.pixels
    names = prepared.dataset.names
    data = ReportData(
        title=outcome.execution.name or "train",
        command=outcome.execution.command or f"lastlayer.train({outcome.settings.data!r}, …)",
        created=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        source=display_name(prepared.dataset.source),
        layout=prepared.dataset.layout,
        description=prepared.dataset.describe(),
        plan=tuple((line.what, line.value, line.flag) for line in prepared.plan),
        class_names=prepared.dataset.class_names,
        splits=evaluations,
        quote=quoted.side,
        selection=learned.selection,
        look=outcome.look,
        baselines=outcome.baselines,
        path=_path_rows(learned),
        chosen=learned.chosen if learned.chosen >= 0 else None,
        templates=_templates(outcome),
        mistakes=mistakes(quoted, names, pixels),
        confusion_images=cell_images(quoted, names, pixels),
        problems=outcome.problems,
        alterations={kind: len(rows) for kind, rows in sorted(prepared.decoded.alterations.items())},
        environment=facts,
        timings=dict(clock.seconds),
        config_toml=config,
    )
    return render_report(data)


def _path_rows(learned: Learned) -> tuple[PathRow, ...]:
    return tuple(
        PathRow(
            C=point.C,
            l2=point.l2,
            train_loss=point.train_loss,
            val_accuracy=Proportion(*point.val_accuracy),
            val_loss=point.val_loss,
            passes=round(point.passes),
            seconds=point.seconds,
            converged=point.converged,
        )
        for point in learned.points
    )


def _templates(outcome: Outcome) -> Sequence[TemplateImages]:
    if len(outcome.model.class_names) > MOST_TEMPLATES:
        return ()
    return outcome.model.representation.templates(outcome.model.weights)


def mistakes(side: SideScores, names: Sequence[str], pixels: UInt8) -> tuple[Mistake, ...]:
    """The most confident mistakes of a side, with their pictures as the classifier saw them."""
    p = side.probabilities
    found = []
    for position in confident_mistakes(side, MOST_MISTAKES).tolist():
        row = int(side.rows[position])
        label, predicted = int(side.labels[position]), int(p[position].argmax())
        found.append(
            Mistake(
                name=display_name(names[row]),
                label=label,
                predicted=predicted,
                p_predicted=float(p[position, predicted]),
                p_label=float(p[position, label]),
                thumbnail=np.asarray(pixels[row]),
            )
        )
    return tuple(found)


def cell_images(
    side: SideScores, names: Sequence[str], pixels: UInt8
) -> dict[tuple[int, int], list[tuple[str, UInt8]]]:
    """Pictures behind the cells of the confusion matrix off its diagonal, the most confident first, capped."""
    p = side.probabilities
    predicted = p.argmax(axis=1)
    cells: dict[tuple[int, int], list[tuple[str, UInt8]]] = {}
    taken = 0
    for position in confident_mistakes(side, len(p)).tolist():
        cell = cells.setdefault((int(side.labels[position]), int(predicted[position])), [])
        if len(cell) < MOST_PER_CELL and taken < MOST_CELL_IMAGES:
            row = int(side.rows[position])
            cell.append((display_name(names[row]), np.asarray(pixels[row])))
            taken += 1
    return {key: cell for key, cell in cells.items() if cell}
