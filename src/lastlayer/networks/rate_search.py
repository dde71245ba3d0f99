"""η of a network read off a range test: the rate grows from step to step, and the loss is watched (Smith 2017)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lastlayer._arrays import Array, Float64, IntArray
from lastlayer._errors import InputError
from lastlayer._progress import SILENT, Progress
from lastlayer.networks.architecture import Architecture
from lastlayer.networks.batches import Batches
from lastlayer.networks.forward import Model, choose_device, deterministic
from lastlayer.networks.plan import USUAL, TrainingPlan
from lastlayer.networks.run import Run

RANGES = {"sgd": (1e-5, 10.0), "adam": (1e-6, 1.0), "muon": (1e-4, 1.0)}
STEPS = 100
SHARE = 0.1
BLOW_UP = 4.0


def find_rate(
    architecture: Architecture,
    images: Array,
    y: IntArray,
    plan: TrainingPlan = USUAL,
    *,
    steps: int = STEPS,
    progress: Progress = SILENT,
) -> tuple[float, list[dict[str, float]]]:
    """A learning rate for a network and a plan, from one short run with its optimiser.

    Step i has the rate ``low · (high / low)^(i / (steps - 1))``. Too small rates change nothing, good ones lower the
    loss, too large ones raise it; a tenth of the rate at the lowest smoothed loss is suggested.

    Parameters
    ----------
    architecture : Architecture
    images : array (N, H, W, C)
    y : array of int (N,)
    plan : TrainingPlan
        Its rate, schedule and length are not used.
    steps : int
        At least 20.
    progress : Progress

    Returns
    -------
    rate : float
        Two digits of it.
    records : list of dict
        rate, loss and smoothed loss of every step.

    Raises
    ------
    InputError
        When no rate clearly lowers the loss.
    """
    if steps < 20:
        raise InputError(f"a range test of {steps} steps", "Give at least 20")
    device = choose_device(plan.device)
    rates = np.geomspace(*RANGES[plan.optimiser], steps)
    with deterministic(device), progress.task("rate", steps) as task:
        model = Model(architecture, device)
        batches = Batches(images, np.asarray(y), plan.batch_size, plan.seed, device, plan.augmentation)
        run = Run(model, model.begin(images, plan.seed), batches, plan)
        losses = _losses(run, rates, task)
    return _read_off(rates, losses)


def _losses(run: Run, rates: Float64, task: Any) -> Float64:
    """Loss of each step, until one is no number or far above the first."""
    run.schedule, run.rule, run.total = lambda count: float(rates[count]), None, len(rates) + 1
    losses = list[float]()
    before = 0.0
    for rate in rates:
        seen = run.seen
        run.advance()
        total = float(run.loss_sum)
        loss, before = (total - before) / (run.seen - seen), total
        if not math.isfinite(loss):
            break
        losses.append(loss)
        task.advance(1, f"rate {rate:.1e}, loss {loss:.3f}")
        if loss > BLOW_UP * losses[0]:
            break
    return np.array(losses)


def _read_off(rates: Float64, losses: Float64) -> tuple[float, list[dict[str, float]]]:
    if len(losses) < 5:
        raise InputError("the loss is no number from the first steps on", "Look at the images, or give --lr")
    half = max(1, len(rates) // 24)
    window = half + 1.0 - np.abs(np.arange(-half, half + 1))
    capped = np.minimum(losses, BLOW_UP * losses[0])
    weights = np.convolve(np.ones(len(losses)), window, mode="same")
    smoothed = np.convolve(capped, window, mode="same") / weights
    lowest = int(smoothed.argmin())
    noise = float(np.median(np.abs(capped - smoothed)[: lowest + half + 1]))
    begin = float(np.median(losses[: max(3, len(losses) // 10)]))
    if not begin - smoothed[lowest] > 2.0 * noise:
        raise InputError("no learning rate clearly lowers the loss", "Give --lr, or larger batches")
    records = [
        {"rate": float(rate), "loss": float(loss), "smoothed": float(smooth)}
        for rate, loss, smooth in zip(rates, losses, smoothed)
    ]
    return float(f"{SHARE * rates[lowest]:.2g}"), records
