"""Train a network: minibatches, schedules, augmentation, early stopping, checkpoints; the best epoch is returned."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from lastlayer._arrays import Array, IntArray
from lastlayer._errors import InputError
from lastlayer._progress import SILENT, Progress
from lastlayer.networks.architecture import Architecture
from lastlayer.networks.batches import Batches
from lastlayer.networks.checkpoint import CheckpointFile, Fingerprint, data_digest, text_digest
from lastlayer.networks.forward import Model, choose_device, deterministic
from lastlayer.networks.memory import keep_pages
from lastlayer.networks.network import Network
from lastlayer.networks.plan import USUAL, TrainingPlan
from lastlayer.networks.run import Run, torch_threads
from lastlayer.networks.timing import measure
from lastlayer.networks.watch import divergence_mend

EPOCHS, PATIENCE, TIME_LIMIT = "epochs", "patience", "time_limit"
INTERRUPTED, DIVERGED, DEAD = "interrupted", "diverged", "dead"
"""Why training stopped."""

Log = Callable[[dict[str, Any]], None]
OVERTIME = 1.25
"""A run whose machine became slower is stopped at so many times its limit."""


@final
@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """What training gave.

    Attributes
    ----------
    network : Network
        Of the best epoch: most validation images correct, then the lowest validation loss; without validation
        images the last epoch.
    history : tuple of dict
        One record for each epoch, those before an interruption included: epoch, steps, loss, accuracy, val_loss,
        val_correct, val_count, rate, seconds, images_per_second, gradient_norm, dead, saturated, layers, note.
    stop_reason : str
        "epochs", "patience", "time_limit", "interrupted", "diverged" or "dead".
    best_epoch : int
        From 1; 0 where no epoch was finished.
    seconds : float
        Of training and validating, over all parts of an interrupted run.
    message : str
        One sentence where there is something to say.
    """

    network: Network
    history: tuple[dict[str, Any], ...]
    stop_reason: str
    best_epoch: int
    seconds: float
    message: str = ""

    @property
    def interrupted(self) -> bool:
        """Whether the user ended it."""
        return self.stop_reason == INTERRUPTED


def train_network(
    architecture: Architecture,
    images: Array,
    y: IntArray,
    validation: tuple[Array, IntArray] | None = None,
    plan: TrainingPlan = USUAL,
    *,
    start: Network | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Progress = SILENT,
    log: Log | None = None,
) -> TrainedNetwork:
    """Minimise the mean loss of a network over its weights by minibatch steps.

    Parameters
    ----------
    architecture : Architecture
    images : array (N, H, W, C)
        uint8, or float32 as they are.
    y : array of int (N,)
        Classes from 0.
    validation : (images, y), optional
        Judged after every epoch; decides which epoch is returned, when to stop and when a plateau drops the rate.
    plan : TrainingPlan
    start : Network, optional
        Weights to begin with, of the same architecture; random ones by the plan's seed when None.
    checkpoint : path, optional
        Folder for this run's checkpoint, written at the end of epochs and about every 30 seconds. Where there is one
        of the same run already, training goes on from it, with the same bits as if it had never ended.
    progress : Progress
    log : callable, optional
        Given each epoch's record as it ends.

    Raises
    ------
    InputError
        For images, labels and plans that do not fit; for a checkpoint of another run; LL042 when the loss diverged,
        or LL043 when the network died, before a single good epoch; LL060 without torch.

    Notes
    -----
    Same seed, same result on the same machine with the same number of threads. Ctrl-C returns the best so far, and
    leaves the checkpoint as it is.
    """
    _check(architecture, images, y, "the training images")
    if validation is not None:
        _check(architecture, *validation, "the validation images")
    device = choose_device(plan.device)
    if device.type == "cpu":
        keep_pages()
    with deterministic(device):
        session = _Session(architecture, images, np.asarray(y), validation, plan, start, checkpoint, device, log)
        return session.train(progress)


@final
class _Session:
    """One call of `train_network`."""

    def __init__(
        self,
        architecture: Architecture,
        images: Array,
        y: IntArray,
        validation: tuple[Array, IntArray] | None,
        plan: TrainingPlan,
        start: Network | None,
        checkpoint: str | os.PathLike[str] | None,
        device: Any,
        log: Log | None,
    ) -> None:
        self.began = time.monotonic()
        self.plan, self.validation, self.log = plan, validation, log
        self.model = Model(architecture, device)
        self.batches = Batches(images, y, plan.batch_size, plan.seed, device, plan.augmentation)
        self.batches.augment.augmentation.check(images.shape[1], images.shape[2])
        arrays = self.model.begin(images, plan.seed) if start is None else dict(start.arrays)
        self.run = Run(self.model, arrays, self.batches, plan)
        self.arrays = arrays
        self.notes: list[str] = []
        self.spent = 0.0
        self.file: CheckpointFile | None = None
        if checkpoint is not None:
            self.file = CheckpointFile(checkpoint, self._fingerprint(architecture, start))

    def _fingerprint(self, architecture: Architecture, start: Network | None) -> Fingerprint:
        validation = self.validation or ()
        begin = [] if start is None else [start.arrays[name] for name in sorted(start.arrays)]
        data = data_digest(self.batches.images, self.batches.y, *validation, *begin)
        return Fingerprint(architecture.name, text_digest(architecture.to_dict()), self.plan.to_dict(), data)

    def train(self, progress: Progress) -> TrainedNetwork:
        """From the beginning or from the checkpoint to the end."""
        found = self.file.read() if self.file is not None else None
        if found is not None:
            self.run.restore(found)
            self._tell_threads(found.state.get("threads"))
        else:
            self.run.set_epochs(self._epochs())
        self.spent = self.run.seconds
        self.began = time.monotonic()
        try:
            with progress.task("training", self.run.total) as task:
                task.advance(self.run.step)
                reason = self._loop(task)
        except KeyboardInterrupt:
            reason = INTERRUPTED
        return self._result(reason)

    def _tell_threads(self, before: int | None) -> None:
        now = torch_threads()
        if before not in (None, now):
            self.notes.append(
                f"gone on with {now} threads after {before}: sums are rounded otherwise, so that the last digits are "
                "not those of a run without interruption"
            )

    def _loop(self, task: Any) -> str:
        run = self.run
        reason = self._finished()
        told, shown = run.step, time.monotonic()
        while not reason:
            ends = run.last_of_epoch
            sound = run.advance()
            now = time.monotonic()
            if ends or now - shown > 0.2:
                task.advance(run.step - told, self._note())
                told, shown = run.step, now
            if not sound:
                return DIVERGED
            if ends:
                reason = self._end_of_epoch()
            elif self.file is not None and self.file.due():
                self._save()
            if self.plan.time_limit and self._seconds() > OVERTIME * self.plan.time_limit:
                reason = reason or TIME_LIMIT
        return reason

    def _finished(self) -> str:
        """Why there is nothing left to do, or ""."""
        if self.run.step >= self.run.total:
            return EPOCHS
        patience = self.plan.patience
        return PATIENCE if patience and self.validation and self.run.best.misses >= patience else ""

    def _end_of_epoch(self) -> str:
        """Judge, record, keep the best, save; why to stop, or ""."""
        run = self.run
        rate = run.rate if run.rule is not None else run.schedule(run.step - 1)
        loss, accuracy = run.end_epoch()
        val_loss = val_correct = None
        if self.validation is not None:
            val_loss, val_correct = run.validate(*self.validation)
        judged = loss if val_loss is None else val_loss
        if not np.isfinite(judged):
            return DIVERGED
        health = run.health()
        epoch = len(run.history) + 1
        if run.best.look(epoch, val_correct, val_loss) and not health.dead_layer:
            run.keep()
        if run.rule is not None:
            run.plateau = run.rule.look(run.plateau, judged)
        before = run.history[-1] if run.history else {"seconds": 0.0, "steps": 0}
        run.seconds = self._seconds()
        rows = (run.step - before["steps"]) * self.batches.size
        run.history.append(
            {
                "epoch": epoch,
                "steps": run.step,
                "loss": loss,
                "accuracy": accuracy,
                "val_loss": val_loss,
                "val_correct": val_correct,
                "val_count": None if self.validation is None else len(self.validation[1]),
                "rate": rate,
                "seconds": round(run.seconds, 3),
                "images_per_second": round(rows / max(1e-9, run.seconds - before["seconds"]), 1),
                "gradient_norm": float(run.norm),
                "dead": health.dead,
                "saturated": round(health.saturated, 4),
                "note": "; ".join(filter(None, [*(self.notes if epoch == 1 else []), health.note()])),
            }
        )
        self._save()
        if self.log is not None:
            self.log(dict(run.history[-1]))
        return DEAD if health.dead_layer else self._finished()

    def _save(self) -> None:
        self.run.seconds = self._seconds()
        if self.file is not None:
            self.file.write(self.run.save())

    def _seconds(self) -> float:
        return self.spent + time.monotonic() - self.began

    def _note(self) -> str:
        run = self.run
        parts = [f"loss {float(run.loss_sum) / max(1, run.seen):.3f}"]
        if run.history and run.history[-1]["val_correct"] is not None:
            parts.append(f"val {100 * run.history[-1]['val_correct'] / run.history[-1]['val_count']:.2f}%")
        return ", ".join([*parts, f"rate {run.rate:.2g}"])

    def _result(self, reason: str) -> TrainedNetwork:
        run, plan = self.run, self.plan
        lost = reason in (DIVERGED, DEAD)
        if lost and not run.best_arrays:
            raise _failure(reason, plan, run)
        arrays = run.best_arrays or self.model.arrays(run.judged())
        if lost:
            self.notes.append(f"{_what(reason, plan, run)}; the weights of epoch {run.best.epoch} are kept")
        network = Network(self.model.architecture, arrays)
        message = "; ".join(self.notes)
        return TrainedNetwork(network, tuple(run.history), reason, run.best.epoch, round(self._seconds(), 3), message)

    def _epochs(self) -> float:
        """The plan's epochs, or as many as fit into its time limit."""
        if not self.plan.time_limit:
            return self.plan.epochs
        speed = measure(self.model, self.arrays, self.batches, self.plan, self.validation)
        left = self.plan.time_limit - (time.monotonic() - self.began)
        count = 0 if self.validation is None else len(self.validation[1])
        fit = speed.fitting(left, self.batches.per_epoch, count)
        epochs = min(fit, self.plan.epochs or fit)
        self.notes.append(f"{epochs:g} epochs in {self.plan.time_limit:g} s, at {1 / speed.step:.3g} steps a second")
        return epochs


def _check(architecture: Architecture, images: Array, y: IntArray, what: str) -> None:
    """Refuse images of another shape, labels that are no classes, and sides of different lengths."""
    architecture.check_images(images)
    labels = np.asarray(y)
    if labels.ndim != 1 or len(labels) != len(images) or not len(labels) or labels.dtype.kind not in "iu":
        raise InputError(
            f"{what} are {len(images)} and their labels are {labels.dtype} of shape {labels.shape}",
            "Give one whole number for each image, and at least one image",
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= architecture.n_classes:
        raise InputError(
            f"the labels of {what} run from {low} to {high}; {architecture.name} has {architecture.n_classes} classes",
            "Give labels from 0 to the number of classes less one",
        )


def _what(reason: str, plan: TrainingPlan, run: Run) -> str:
    if reason == DEAD:
        return f"the network died in epoch {len(run.history)}: {run.history[-1]['note']}"
    return f"the loss diverged at step {run.step} with the learning rate {plan.rate:g}"


def _failure(reason: str, plan: TrainingPlan, run: Run) -> InputError:
    if reason == DEAD:
        return InputError(
            f"{_what(reason, plan, run)}, for every image of a sample, so that no gradient passes",
            f"{divergence_mend(plan)}, or use leaky_relu",
            "LL043",
        )
    return InputError(_what(reason, plan, run), divergence_mend(plan), "LL042")
