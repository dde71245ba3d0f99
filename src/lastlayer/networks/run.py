"""A training run under way: everything that changes from step to step, and how it is saved and restored."""

from __future__ import annotations

import fnmatch
from typing import Any, final

import numpy as np

from lastlayer._arrays import Array, Float32, IntArray
from lastlayer.networks.averaging import Average
from lastlayer.networks.base import Mode
from lastlayer.networks.batches import Batches
from lastlayer.networks.checkpoint import Checkpoint, Groups
from lastlayer.networks.criteria import make_criterion
from lastlayer.networks.diagnostics import Health, network_health
from lastlayer.networks.forward import Model
from lastlayer.networks.muon import matrices
from lastlayer.networks.optimisers import Optimiser, trained_names
from lastlayer.networks.plan import TrainingPlan
from lastlayer.networks.schedules_text import parse_schedule
from lastlayer.networks.watch import LOOK, Best, LossWatch
from lastlayer.solvers.schedules import PlateauState, Schedule

DROPS = 31
SAMPLE = 512
"""Training images on which dead and saturated units are counted after each epoch."""


def torch_threads() -> int:
    """Threads that PyTorch computes with on the processor: another number of them rounds sums otherwise."""
    import torch

    return int(torch.get_num_threads())


@final
class Run:
    """Weights, optimiser, sums and scores of a run, and what one step does to them.

    Parameters
    ----------
    model : Model
    arrays : dict of str to array
        What the weights begin with.
    batches : Batches
    plan : TrainingPlan
    """

    def __init__(self, model: Model, arrays: dict[str, Float32], batches: Batches, plan: TrainingPlan) -> None:
        self.model, self.batches, self.plan = model, batches, plan
        self.tensors = model.tensors(arrays)
        names = trained_names(plan, model.learned)
        self.parameters = {name: self.tensors[name].requires_grad_() for name in names}
        self.optimiser = Optimiser(plan, self.parameters, matrices(model.architecture))
        self.freezing = {
            name: epochs * batches.per_epoch
            for pattern, epochs in plan.freezes()
            for name in fnmatch.filter(names, pattern)
        }
        changing = {name: self.tensors[name] for name in names + model.running}
        self.average = Average(changing, plan.average) if plan.average else None
        self.criterion = make_criterion(plan, model.radial)
        self.rule = parse_schedule(plan.schedule).plateau()
        self.plateau = PlateauState()
        self.watch, self.best = LossWatch(model.n_classes), Best()
        self.best_arrays: dict[str, Float32] = {}
        self.history: list[dict[str, Any]] = []
        self.step = self.seen = self.looked = 0
        self.epochs, self.seconds = plan.epochs, 0.0
        self.loss_sum, self.right_sum = self._zero(), self._zero()
        self.loss_before, self.norm = 0.0, 0.0
        self.schedule: Schedule = lambda count: plan.rate
        self.total = 0

    def _zero(self) -> Any:
        import torch

        return torch.zeros((), dtype=torch.float64, device=self.model.device)

    def set_epochs(self, epochs: float) -> None:
        """Fix the length of the run, and with it the schedule."""
        self.epochs = epochs
        self.total = max(1, round(epochs * self.batches.per_epoch))
        text = parse_schedule(self.plan.schedule)
        # where the clock decides the length, a warm-up longer than half of it is cut
        warm_up = min(self.plan.warm_up, epochs / 2) if self.plan.time_limit else self.plan.warm_up
        self.schedule = text.build(self.plan.rate, self.total, self.batches.per_epoch, warm_up)

    @property
    def rate(self) -> float:
        """The rate of the next step."""
        rate = self.schedule(self.step)
        return rate if self.rule is None else self.rule.rate(self.plateau, rate)

    def advance(self) -> bool:
        """One step; False when the loss says that training has diverged."""
        epoch, index = divmod(self.step, self.batches.per_epoch)
        x, y = self.batches.get(epoch, index)
        self.optimiser.clear()
        for name, step in self.freezing.items():
            if self.step >= step:  # without a gradient nothing before it has to be computed either
                self.parameters[name].requires_grad_(False)
        narrow = self.plan.precision == "bfloat16"
        scores = self.model.scores(self.tensors, x, self._mode(epoch, index), bfloat16=narrow)
        loss = self.criterion(scores, y)
        loss.backward()
        last = self.last_of_epoch
        if self.plan.clip or last:
            self.norm = self.optimiser.gradient_norm(self.plan.clip)
        self.optimiser.step(self.rate)
        if self.average is not None:
            self.average.update(self.tensors, self.step)
        self.loss_sum += loss.detach() * len(y)
        self.right_sum += (scores.detach().argmax(dim=1) == y).sum()
        self.seen += len(y)
        self.step += 1
        return self.look() if last or self.step % LOOK == 0 else True

    @property
    def last_of_epoch(self) -> bool:
        """Whether the next step ends an epoch, or the run."""
        return (self.step + 1) % self.batches.per_epoch == 0 or self.step + 1 == self.total

    def look(self) -> bool:
        """Ask the device for the loss; False when training has diverged."""
        total = float(self.loss_sum)
        count = self.seen - self.looked
        sound = self.watch.look((total - self.loss_before) / count) if count else True
        self.loss_before, self.looked = total, self.seen
        return sound

    def _mode(self, epoch: int, index: int) -> Mode:
        """Training, with a generator for dropout that depends on (seed, epoch, batch) alone."""
        import torch

        if not self.model.random:
            return Mode(training=True)
        seed = np.random.default_rng([self.plan.seed, DROPS, epoch, index]).integers(0, 2**62)
        return Mode(True, torch.Generator(device=self.model.device).manual_seed(int(seed)))

    def judged(self) -> dict[str, Any]:
        """The tensors that are judged and kept: the averages, where there are any."""
        return self.tensors if self.average is None else {**self.tensors, **self.average.tensors}

    def keep(self) -> None:
        """Remember the judged weights as the best."""
        self.best_arrays = self.model.arrays(self.judged())

    def validate(self, images: Array, y: IntArray) -> tuple[float, int]:
        """Mean loss and correct predictions on images."""
        import torch

        loss, right = 0.0, 0
        tensors, rows = self.judged(), self.model.rows
        with torch.no_grad():
            for start in range(0, len(y), rows):
                scores = self.model.scores(tensors, self.model.images(images[start : start + rows]))
                labels = torch.from_numpy(np.asarray(y[start : start + rows], np.int64)).to(self.model.device)
                loss += float(self.criterion(scores, labels)) * len(labels)
                right += int((scores.argmax(dim=1) == labels).sum())
        return loss / len(y), right

    def health(self) -> Health:
        """Dead and saturated units on a fixed sample of training images."""
        import torch

        outputs: list[tuple[str, str, Any]] = []
        with torch.no_grad():
            images = self.model.images(self.batches.images[self.batches.sample(min(SAMPLE, self.model.rows))])
            scores = self.model.scores(self.judged(), images, activations=outputs)
            return network_health(outputs, scores)

    def end_epoch(self) -> tuple[float, float]:
        """Mean loss and share of correct predictions of the epoch that ends; the sums begin anew."""
        loss, right = float(self.loss_sum) / self.seen, float(self.right_sum) / self.seen
        self.loss_sum, self.right_sum = self._zero(), self._zero()
        self.seen = self.looked = 0
        self.loss_before = 0.0
        return loss, right

    def save(self) -> Checkpoint:
        """Where the run is."""
        arrays = self.model.arrays(self.tensors)
        groups: Groups = {
            "parameters": arrays,
            "best": dict(self.best_arrays),
            **self.optimiser.state(),
        }
        if self.average is not None:
            groups["average"] = self.model.arrays(self.average.tensors)
        state = {
            "step": self.step,
            "epochs": self.epochs,
            "seconds": self.seconds,
            "threads": torch_threads(),
            "loss_sum": float(self.loss_sum),
            "right_sum": float(self.right_sum),
            "seen": self.seen,
            "looked": self.looked,
            "loss_before": self.loss_before,
            "watch": self.watch.to_list(),
            "best": self.best.to_dict(),
            "plateau": [None if self.plateau.best == np.inf else self.plateau.best, *self.plateau[1:]],
        }
        return Checkpoint(state, list(self.history), groups)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from there, with the same bits as if nothing had happened."""
        import torch

        state, groups = checkpoint.state, checkpoint.groups
        with torch.no_grad():
            for name, tensor in self.tensors.items():
                tensor.copy_(torch.from_numpy(groups["parameters"][name].copy()))
            if self.average is not None:
                for name, tensor in self.average.tensors.items():
                    tensor.copy_(torch.from_numpy(groups["average"][name].copy()))
        self.optimiser.restore(groups)
        self.step, self.seconds = state["step"], state["seconds"]
        self.seen, self.looked, self.loss_before = state["seen"], state["looked"], state["loss_before"]
        self.loss_sum += state["loss_sum"]
        self.right_sum += state["right_sum"]
        self.watch.restore(state["watch"])
        self.best.restore(state["best"])
        best, misses, multiplier = state["plateau"]
        self.plateau = PlateauState(np.inf if best is None else best, misses, multiplier)
        self.best_arrays = groups["best"]
        self.history = checkpoint.history
        self.set_epochs(state["epochs"])
