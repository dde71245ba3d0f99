"""When training must end early: the loss left all bounds, or validation stopped improving."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, final

from lastlayer.networks.plan import TrainingPlan

LOOK = 25
"""The loss is looked at every so many steps."""
HEIGHT, WINDOWS = 3.0, 8
"""Diverged: the mean loss of so many looks in a row is above so many times what training began with."""


@final
@dataclass
class LossWatch:
    """Whether the training loss is still one; fed with sums, so that a device is asked rarely.

    Attributes
    ----------
    reference : float
        The larger of log K and the mean of the first look; infinite before it.
    above : int
        Looks in a row far above it.
    """

    n_classes: int
    reference: float = math.inf
    above: int = 0

    def look(self, mean: float) -> bool:
        """Take the mean loss since the last look; False when training has diverged."""
        if not math.isfinite(mean):
            return False
        if math.isinf(self.reference):
            self.reference = max(mean, math.log(self.n_classes))
        self.above = self.above + 1 if mean > HEIGHT * self.reference else 0
        return self.above < WINDOWS

    def to_list(self) -> list[Any]:
        """For a checkpoint."""
        return [None if math.isinf(self.reference) else self.reference, self.above]

    def restore(self, values: list[Any]) -> None:
        """From a checkpoint."""
        self.reference = math.inf if values[0] is None else values[0]
        self.above = values[1]


@final
@dataclass
class Best:
    """The best epoch so far: most correct on validation images, and of these the lowest loss.

    Without validation images every epoch is better than the one before.
    """

    epoch: int = 0
    correct: int = -1
    loss: float = field(default=math.inf)
    misses: int = 0

    def look(self, epoch: int, correct: int | None, loss: float | None) -> bool:
        """Take the score of an epoch; True when it is the best."""
        if correct is None or loss is None:
            self.epoch = epoch
            return True
        better = correct > self.correct or (correct == self.correct and loss < self.loss)
        if better:
            self.epoch, self.correct, self.loss, self.misses = epoch, correct, loss, 0
        else:
            self.misses += 1
        return better

    def to_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {**asdict(self), "loss": None if math.isinf(self.loss) else self.loss}

    def restore(self, values: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.epoch, self.correct, self.misses = values["epoch"], values["correct"], values["misses"]
        self.loss = math.inf if values["loss"] is None else values["loss"]


def divergence_mend(plan: TrainingPlan) -> str:
    """What to do about a loss that left all bounds."""
    lower = plan.rate / 10
    extra = "" if plan.warm_up else ", or give warm_up=1"
    return f"Lower the learning rate (--lr {lower:.1g}){extra}"
