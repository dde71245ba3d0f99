"""Fill in the report of a run: pictures of mistakes and confusions, the learned weights, the path, the plan."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lastlayer import _files
from lastlayer._arrays import UInt8
from lastlayer._files import display_name
from lastlayer.evaluation.intervals import Proportion
from lastlayer.evaluation.metrics import Evaluation
from lastlayer.pipeline.held_out import HeldOut
from lastlayer.pipeline.report_parts import (
    confidence_parts,
    doubted_labels,
    held_out_of,
    read_training,
    unsure_answers,
    with_neighbours,
)
from lastlayer.pipeline.scoring import SideScores, confident_mistakes
from lastlayer.report import Mistake, PathRow, ReportData, TemplateImages, pack_report, render_report
from lastlayer.report.stored import FILE
from lastlayer.report.thumbnails import pictures

if TYPE_CHECKING:
    from lastlayer.pipeline.learn import Learned
    from lastlayer.pipeline.preparing import Clock
    from lastlayer.pipeline.write_run import Outcome

MOST_MISTAKES = 60
MOST_PER_CELL = 12
MOST_ON_DIAGONAL = 6
MOST_CELL_IMAGES = 2400
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
    """HTML report of a training run; `folder` also gets what renders it again (``report.safetensors``)."""
    prepared, learned, quoted = outcome.prepared, outcome.learned, outcome.quoted
    pixels = prepared.decoded.pixels
    names = prepared.dataset.names
    found, near_note = with_neighbours(mistakes(quoted, names, pixels), outcome)
    data = ReportData(
        title=outcome.execution.name or "train",
        command=outcome.execution.command or f"lastlayer.train({outcome.settings.data!r}, …)",
        created=now(),
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
        mistakes=found,
        confusion_images=cell_images(quoted, names, pixels),
        problems=outcome.problems,
        alterations={kind: len(rows) for kind, rows in sorted(prepared.decoded.alterations.items())},
        environment=facts,
        timings=dict(clock.seconds),
        config_toml=config,
        suspects=doubted_labels(outcome),
        unsure=unsure_answers(quoted, names, pixels),
        learning_curve=outcome.curve,
        training=read_training(folder / "log.jsonl", outcome.filters),
        near_note=near_note,
        **confidence_parts(quoted, _validation(outcome)),
    )
    return packed(folder, data)


def now() -> str:
    """Date and time as reports show them."""
    return datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")


def packed(folder: Path, data: ReportData) -> str:
    """The report as HTML; what renders it again goes to `folder`."""
    encoded = pictures(data)
    pack_report(folder / FILE, data, encoded)
    return render_report(data, encoded=encoded)


def write_report(folder: Path, data: ReportData) -> None:
    """Write ``report.html``, and ``report.safetensors`` from which `lastlayer report` renders it again."""
    _files.write_text(folder / "report.html", packed(folder, data))


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
    """The mistakes of a side with the largest loss, with their pictures as the classifier saw them."""
    p = side.probabilities
    found = []
    wrong = confident_mistakes(side, len(p))
    order = np.argsort(p[wrong, side.labels[wrong]], kind="stable")
    for position in wrong[order][:MOST_MISTAKES].tolist():
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
    """Pictures behind the cells of the confusion matrix, capped.

    Off the diagonal the most confident first; on it the right answers that were least sure.
    """
    p = side.probabilities
    predicted = p.argmax(axis=1)
    cells: dict[tuple[int, int], list[tuple[str, UInt8]]] = {}
    taken = 0
    right = np.flatnonzero(predicted == side.labels)
    right = right[np.argsort(p[right, predicted[right]], kind="stable")]
    for position in [*confident_mistakes(side, len(p)).tolist(), *right.tolist()]:
        cell = cells.setdefault((int(side.labels[position]), int(predicted[position])), [])
        most = MOST_PER_CELL if side.labels[position] != predicted[position] else MOST_ON_DIAGONAL
        if len(cell) < most and taken < MOST_CELL_IMAGES:
            row = int(side.rows[position])
            cell.append((display_name(names[row]), np.asarray(pixels[row])))
            taken += 1
    return {key: cell for key, cell in cells.items() if cell}


def _validation(outcome: Outcome) -> HeldOut | None:
    """The validation rows, where the weights scored were not fitted on them and they are not what is quoted."""
    for side in outcome.sides[:-1]:
        if side.side == "val" and side.held_out:
            return held_out_of(side)
    return None
