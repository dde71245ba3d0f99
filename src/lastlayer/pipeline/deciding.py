"""What is decided on validation rows (temperature, threshold, prediction sets) and how it does on the rows scored."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from lastlayer._arrays import Float64, FloatArray, IntArray
from lastlayer.evaluation.abstention import Threshold, choose_threshold, risk_coverage
from lastlayer.evaluation.bootstrap import mean_interval
from lastlayer.evaluation.calibration import CalibrationError, calibration_error
from lastlayer.evaluation.conformal import PredictionSets, fit_sets, fit_sets_from_labels, score_sets
from lastlayer.evaluation.intervals import Estimate, Proportion
from lastlayer.evaluation.metrics import row_losses
from lastlayer.evaluation.scaling import Calibrator, temperature_scaling, vector_scaling
from lastlayer.pipeline.held_out import HeldOut
from lastlayer.pipeline.scoring import SideScores


@dataclass(frozen=True)
class DecisionSettings:
    """What is asked of the decisions.

    Attributes
    ----------
    accuracy : float
        Accuracy wanted of the answers; NaN: halfway from the accuracy on validation rows to 1.
    sure : float
        How sure the threshold is to reach it.
    coverage : float
        Share of prediction sets that shall hold the label.
    rule : str
        ``lac``, ``aps`` or ``raps``.
    by_class : bool
        Promise the coverage for every class.
    """

    accuracy: float = math.nan
    sure: float = 0.95
    coverage: float = 0.95
    rule: str = "lac"
    by_class: bool = False


def decisions(scored: SideScores, held_out: HeldOut | None, settings: DecisionSettings) -> dict[str, Any]:
    """The part of ``metrics.json`` on calibration, abstention and prediction sets, for the rows `scored`.

    ``fitted_on`` says which rows decided; without validation rows (None) there is the risk–coverage curve alone.
    """
    p = scored.probabilities
    known = scored.labels >= 0
    confidence = np.minimum(p.max(axis=1), 1.0)[known]
    correct = scored.correct[known]
    document: dict[str, Any] = {
        "risk_coverage": risk_coverage(confidence, correct).to_dict(),
        "fitted_on": None,
        "calibration": None,
        "abstention": None,
        "prediction_sets": None,
    }
    if held_out is None or not len(held_out.labels):
        return document
    document["fitted_on"] = {"split": "val", "n": len(held_out.labels), "file": held_out.source}
    if held_out.scores is not None:
        document["calibration"] = _calibration(scored, held_out.scores, held_out.labels)
    document["abstention"] = _abstention(confidence, correct, held_out, settings)
    document["prediction_sets"] = _sets(p, scored.labels, held_out, settings)
    return document


def _calibration(scored: SideScores, z: FloatArray, y: IntArray) -> dict[str, Any]:
    """Both calibrators, before and after, on the rows scored."""
    known = scored.labels >= 0
    labels, scores = scored.labels[known], scored.scores[known]
    found: dict[str, Any] = {"before": _quality(scored.probabilities[known], labels)}
    for name, calibrator in (("temperature", temperature_scaling(z, y)), ("vector", vector_scaling(z, y))):
        found[name] = {**_described(calibrator), **_quality(calibrator.probabilities(scores), labels)}
    return found


def _described(calibrator: Calibrator) -> dict[str, Any]:
    temperature = calibrator.temperature
    return calibrator.to_dict() if temperature is None else {"temperature": temperature}


def _quality(p: Float64, labels: IntArray) -> dict[str, Any]:
    answered = p.argmax(axis=1)
    confidence = np.minimum(p[np.arange(len(p)), answered], 1.0)
    correct = answered == labels
    ece: CalibrationError = calibration_error(confidence, correct)
    loss: Estimate = mean_interval(row_losses(labels, p))
    return {
        "ece": ece.to_dict(),
        "log_loss": loss.to_dict(),
        "accuracy": Proportion(int(correct.sum()), correct.size).to_dict(),
    }


def _abstention(confidence: Float64, correct: Any, held_out: HeldOut, settings: DecisionSettings) -> dict[str, Any]:
    wanted = settings.accuracy
    if math.isnan(wanted):
        # halving the errors is a wish that fits any classifier; half a mistake more, or no mistake could be halved
        mistakes = int(np.count_nonzero(~held_out.correct)) + 0.5
        wanted = 1 - 0.5 * mistakes / (len(held_out.correct) + 1)
    chosen: Threshold | None = choose_threshold(held_out.confidence, held_out.correct, wanted, sure=settings.sure)
    document: dict[str, Any] = {"wanted": wanted, "sure": settings.sure, "threshold": None}
    if chosen is None:
        return document
    answered = chosen.answers(confidence)
    right = int(np.count_nonzero(answered & correct))
    return {
        **document,
        "threshold": chosen.to_dict(),
        "answered": Proportion(int(answered.sum()), answered.size).to_dict(),
        "right": Proportion(right, int(answered.sum())).to_dict(),
    }


def _sets(p: Float64, labels: IntArray, held_out: HeldOut, settings: DecisionSettings) -> dict[str, Any]:
    rule = fit_rule(held_out, p.shape[1], settings)
    low, high = rule.range()
    # a person is shown the most probable class where no class is plausible; that only adds to the coverage
    scores = score_sets(rule.sets(p, allow_empty=False), labels)
    return {
        "rule": rule.to_dict(),
        "coverage_range": None if math.isnan(low) else [low, high],
        **scores.to_dict(),
    }


def fit_rule(held_out: HeldOut, n_classes: int, settings: DecisionSettings) -> PredictionSets:
    """Prediction sets from validation rows; ``lac`` where only the labels' probabilities are known."""
    if held_out.probabilities is None or settings.rule == "lac":
        return fit_sets_from_labels(
            held_out.p_label, held_out.labels, n_classes, settings.coverage, by_class=settings.by_class
        )
    return fit_sets(
        held_out.probabilities, held_out.labels, settings.coverage, rule=settings.rule, by_class=settings.by_class
    )
