"""The intervals that need the rows themselves, in one bundle: balanced accuracy, macro F1, log loss, ECE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from lastlayer._arrays import BoolArray, Float64, IntArray
from lastlayer.evaluation.bootstrap import DRAWS, confusion_intervals, mean_interval
from lastlayer.evaluation.calibration import CalibrationError, calibration_error
from lastlayer.evaluation.intervals import Estimate


@final
@dataclass(frozen=True, eq=False)
class Answers:
    """Labelled rows of one split as a classifier answered them, each (N,).

    Attributes
    ----------
    losses : float
        −ln p(label).
    confidence : float
        Probability of the class answered.
    correct : bool
    """

    losses: Float64
    confidence: Float64
    correct: BoolArray


@final
@dataclass(frozen=True)
class Uncertainty:
    """How sure the scores are that no formula covers."""

    balanced_accuracy: Estimate
    macro_f1: Estimate
    log_loss: Estimate
    ece: CalibrationError

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "balanced_accuracy": self.balanced_accuracy.to_dict(),
            "macro_f1": self.macro_f1.to_dict(),
            "log_loss": self.log_loss.to_dict(),
            "ece": self.ece.to_dict(),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Uncertainty:
        """Inverse of `to_dict`."""
        return cls(
            Estimate.from_dict(stored["balanced_accuracy"]),
            Estimate.from_dict(stored["macro_f1"]),
            Estimate.from_dict(stored["log_loss"]),
            CalibrationError.from_dict(stored["ece"]),
        )


def uncertainty(confusion: IntArray, answers: Answers, *, draws: int = DRAWS, seed: int = 0) -> Uncertainty:
    """Intervals of what `confusion` (K, K) and `answers` say; the same numbers say the same, `seed` fixed."""
    balanced, f1 = confusion_intervals(confusion, draws=draws, seed=seed)
    loss = mean_interval(answers.losses, draws=draws, seed=seed)
    ece = calibration_error(answers.confidence, answers.correct, draws=draws, seed=seed)
    return Uncertainty(balanced, f1, loss, ece)
