"""Parts of a report that are computed for it: doubtful labels, unsure answers, calibration, neighbours, training."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lastlayer._arrays import Float32, UInt8
from lastlayer._files import display_name
from lastlayer.evaluation.abstention import choose_threshold, risk_coverage
from lastlayer.evaluation.bootstrap import mean_interval
from lastlayer.evaluation.calibration import CalibrationError, calibration_error
from lastlayer.evaluation.intervals import Estimate, Proportion
from lastlayer.evaluation.metrics import row_losses
from lastlayer.evaluation.scaling import temperature_scaling
from lastlayer.neighbours import Index
from lastlayer.pipeline.held_out import HeldOut
from lastlayer.pipeline.scoring import SideScores
from lastlayer.pipeline.suspects import Suspects as Found
from lastlayer.pipeline.suspects import suspects
from lastlayer.report import Abstaining, Calibration, Doubt, Epoch, Mistake, Near, Suspects, Training

if TYPE_CHECKING:
    from lastlayer.pipeline.write_run import Outcome

MOST_SUSPECTS = 36
MOST_UNSURE = 18
NEIGHBOURS = 3
MOST_QUERIES = 48
_CURVE_POINTS = 200
_SHADES = 255


def held_out_of(side: SideScores) -> HeldOut:
    """A side that the weights were not fitted on, as decisions take it."""
    known = side.labels >= 0
    p, labels = side.probabilities[known], side.labels[known]
    rows = np.arange(len(p))
    answered = p.argmax(axis=1)
    return HeldOut(
        labels, p[rows, answered], p[rows, labels], answered == labels, side.scores[known], p, f"{side.side} rows"
    )


def confidence_parts(scored: SideScores, held_out: HeldOut | None) -> dict[str, Any]:
    """The fields ``calibration`` and ``abstaining`` of a report on the rows `scored`.

    Temperature and threshold come from `held_out`, rows that the weights were not fitted on; without them there is
    neither.
    """
    known = scored.labels >= 0
    if not known.any():
        return {"calibration": None, "abstaining": None}
    p, labels, z = scored.probabilities[known], scored.labels[known], scored.scores[known]
    before, loss_before = _quality(p, labels)
    calibration = Calibration(before, loss_before)
    if held_out is not None and held_out.scores is not None and len(held_out.labels):
        calibrator = temperature_scaling(held_out.scores, held_out.labels)
        after, loss_after = _quality(calibrator.probabilities(z), labels)
        fitted_on = f"{len(held_out.labels):,} validation images"
        calibration = Calibration(before, loss_before, after, loss_after, calibrator.temperature, fitted_on)
    return {"calibration": calibration, "abstaining": _abstaining(p, labels, held_out)}


def _quality(p: Any, labels: Any) -> tuple[CalibrationError, Estimate]:
    answered = p.argmax(axis=1)
    confidence = np.minimum(p[np.arange(len(p)), answered], 1.0)
    return calibration_error(confidence, answered == labels), mean_interval(row_losses(labels, p))


def _abstaining(p: Any, labels: Any, held_out: HeldOut | None) -> Abstaining:
    confidence = np.minimum(p.max(axis=1), 1.0)
    correct = p.argmax(axis=1) == labels
    curve = risk_coverage(confidence, correct)
    at = np.searchsorted(curve.coverage, (0.5, 0.8, 0.9))
    picked = np.unique(np.r_[np.linspace(0, len(curve.risk) - 1, min(_CURVE_POINTS, len(curve.risk))).astype(int), at])
    found = Abstaining(tuple(curve.coverage[picked].tolist()), tuple(curve.risk[picked].tolist()), curve.aurc, curve.n)
    if held_out is None or not len(held_out.labels):
        return found
    # halving the errors is a wish that fits any classifier
    errors = int(np.count_nonzero(~held_out.correct)) + 0.5
    wanted = 1 - 0.5 * errors / (len(held_out.correct) + 1)
    chosen = choose_threshold(held_out.confidence, held_out.correct, wanted)
    if chosen is None:
        return found
    answered = chosen.answers(confidence)
    m = int(answered.sum())
    return dataclasses.replace(
        found,
        threshold=chosen.value,
        wanted=wanted,
        answered=Proportion(m, answered.size),
        right=Proportion(int(np.count_nonzero(answered & correct)), m),
    )


def unsure_answers(side: SideScores, names: Sequence[str], pixels: UInt8) -> tuple[Doubt, ...]:
    """The answers of a side with the smallest lead of the first class over the second, closest first."""
    p = side.probabilities
    if p.shape[1] < 2 or not len(p):
        return ()
    two = np.partition(p, -2, axis=1)
    order = np.argsort(two[:, -1] - two[:, -2], kind="stable")[:MOST_UNSURE]
    found = []
    for position in order.tolist():
        first, second = np.argsort(-p[position], kind="stable")[:2].tolist()
        row = int(side.rows[position])
        pair = float(p[position, first]), float(p[position, second])
        found.append(Doubt(display_name(names[row]), first, second, *pair, np.asarray(pixels[row])))
    return tuple(found)


def doubted_labels(outcome: Outcome) -> Suspects | None:
    """The labels that the run's own check doubts, or else those doubted among the rows that no weights had seen.

    None where there are neither.
    """
    if outcome.doubts is not None:
        judged, others = outcome.doubts.found.judged, outcome.doubts.folds - 1
        how = (
            f"Judged are the {judged:,} training and validation images, each by a classifier of the {others} other "
            "folds; labels.suspect.csv in the run folder lists what is doubted."
        )
        return _shown(outcome, outcome.doubts.found, how)
    sides = [side for side in outcome.sides if side.held_out and len(side.rows)]
    if not sides:
        return None
    rows = np.concatenate([side.rows for side in sides])
    labels = np.concatenate([side.labels for side in sides])
    p = np.concatenate([side.probabilities for side in sides])
    found = suspects(rows, labels, p, outcome.learned.C)
    where = " and ".join(side.side for side in sides)
    how = f"Judged are the {found.judged:,} {where} images, by weights that had not been fitted on them."
    return _shown(outcome, found, how)


def _shown(outcome: Outcome, found: Found, how: str) -> Suspects:
    names, pixels = outcome.prepared.dataset.names, outcome.prepared.decoded.pixels
    columns = (found.rows, found.labels, found.suggested, found.p_label, found.p_suggested)
    shown = tuple(
        Doubt(display_name(names[row]), label, other, a, b, np.asarray(pixels[row]))
        for row, label, other, a, b in zip(*(column[:MOST_SUSPECTS].tolist() for column in columns))
    )
    return Suspects(shown, len(found.rows), found.judged, found.estimate, found.accuracy, how)


def with_neighbours(mistakes: tuple[Mistake, ...], outcome: Outcome) -> tuple[tuple[Mistake, ...], str]:
    """The mistakes with their nearest training images in the features of the last layer, and how they were found."""
    features, quoted = outcome.features, outcome.quoted
    n_train = next((len(side.rows) for side in outcome.sides if side.side == "train"), 0)
    if quoted.side == "train" or not mistakes or not n_train:
        return mistakes, ""
    dataset, pixels = outcome.prepared.dataset, outcome.prepared.decoded.pixels
    wanted = {mistake.name for mistake in mistakes[:MOST_QUERIES]}
    place = {int(row): i for i, row in enumerate(features.rows.tolist())}
    at = {display_name(dataset.names[row]): place[int(row)] for row in quoted.rows.tolist()}
    queries = [at[mistake.name] for mistake in mistakes if mistake.name in wanted]
    metric = "cosine" if features.unit == 1.0 else "l2"
    k = min(NEIGHBOURS, n_train)
    found = Index(features.Z[:n_train], metric).nearest(np.ascontiguousarray(features.Z[queries]), k)
    nears = iter(zip(found.rows.tolist(), found.distances.tolist()))
    out = []
    for mistake in mistakes:
        if mistake.name not in wanted:
            out.append(mistake)
            continue
        near = []
        for i, distance in zip(*next(nears)):
            row = int(features.rows[i])
            closeness = 1.0 - distance if metric == "cosine" else distance
            near.append(
                Near(
                    display_name(dataset.names[row]),
                    int(dataset.labels[row]),
                    float(closeness),
                    np.asarray(pixels[row]),
                )
            )
        out.append(dataclasses.replace(mistake, near=tuple(near)))
    how = "cosine similarity" if metric == "cosine" else "Euclidean distance"
    return tuple(out), (
        f"Nearest by {how} among the {n_train:,} training images, in the features that the last layer is given."
    )


def read_training(log: Path, filters: Float32 | None) -> Training | None:
    """A network's training from the events ``epoch`` and ``trained`` of ``log.jsonl``; None without them."""
    if not log.is_file():
        return None
    events = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if line]
    epochs = tuple(_epoch(event) for event in events if event.get("event") == "epoch")
    if not epochs:
        return None
    end: dict[str, Any] = next((event for event in events if event.get("event") == "trained"), {})
    best = end.get("best_epoch")
    return Training(
        epochs,
        None if best is None else float(best),
        str(end.get("stop_reason", "")),
        tuple(map(str, end.get("table", ()))),
        () if filters is None else tuple(np.rint(_SHADES * np.clip(f, 0, 1)).astype(np.uint8) for f in filters),
    )


def _epoch(event: dict[str, Any]) -> Epoch:
    right, of = event.get("val_correct"), event.get("val_n")
    accuracy = right / of if right is not None and of else None
    rest = (event.get("loss"), event.get("val_loss"), accuracy, event.get("rate"))
    return Epoch(float(event["epoch"]), *map(_finite, rest))


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
