"""How many epochs fit into a time limit: the first steps are timed on the real model, and forgotten."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass
from typing import final

from lastlayer._arrays import Array, Float32, IntArray
from lastlayer.networks.batches import Batches
from lastlayer.networks.forward import Model
from lastlayer.networks.plan import TrainingPlan
from lastlayer.networks.run import SAMPLE, Run

WARM, MOST, SHARE = 3, 30, 0.03
"""Steps before the clock counts, steps timed at most, and the share of the limit they may take."""
MARGIN = 0.95


@final
@dataclass(frozen=True)
class Speed:
    """Seconds of one step, and of judging one image after an epoch."""

    step: float
    judged: float

    def fitting(self, seconds: float, steps_per_epoch: int, n_validation: int) -> float:
        """Epochs that take so many seconds: a whole number from 2 on, hundredths below.

        >>> Speed(step=0.1, judged=0.001).fitting(100.0, 90, 488)
        9
        """
        one = self.step * steps_per_epoch + self.judged * (n_validation + SAMPLE)
        epochs = max(0.0, MARGIN * seconds) / one
        return math.floor(epochs) if epochs >= 2 else max(0.01, math.floor(100 * epochs) / 100)


def measure(
    model: Model,
    arrays: dict[str, Float32],
    batches: Batches,
    plan: TrainingPlan,
    validation: tuple[Array, IntArray] | None,
) -> Speed:
    """Time some steps and a validation on copies of the weights."""
    run = Run(model, arrays, batches, plan)
    run.set_epochs(plan.epochs or plan.warm_up + 100.0)
    seconds = list[float]()
    began = time.perf_counter()
    while len(seconds) < WARM + MOST:
        before = time.perf_counter()
        run.advance()
        float(run.loss_sum)  # waits for the device
        seconds.append(time.perf_counter() - before)
        if len(seconds) > WARM and time.perf_counter() - began > SHARE * plan.time_limit:
            break
    images, y = validation if validation is not None else (batches.images, batches.y)
    count = min(len(y), 500)
    before = time.perf_counter()
    run.validate(images[:count], y[:count])
    return Speed(statistics.median(seconds[WARM:]), (time.perf_counter() - before) / count)
