"""SGD with momentum, Adam and Muon, one pass over the weights a step, with rates and decay by parameter.

The sums are PyTorch's own fused kernels, those behind ``torch.optim``'s ``fused=True``; its classes are not used, for
the first call of theirs imports PyTorch's compiler, which takes seconds.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

from lastlayer._arrays import Float32
from lastlayer._errors import InputError
from lastlayer.networks._checks import need_torch
from lastlayer.networks.muon import turn
from lastlayer.networks.plan import TrainingPlan

SLOTS = {"sgd": ("momentum_buffer",), "muon": ("momentum_buffer",), "adam": ("exp_avg", "exp_avg_sq")}


def multiplier(plan: TrainingPlan, name: str) -> float:
    """What the rate of the parameter `name` is multiplied by: the first pattern that matches, else 1."""
    return _first_match(plan.multipliers(), name)


def decay_of(plan: TrainingPlan, name: str, axes: int) -> float:
    """The decay of the parameter `name`, an array with so many axes."""
    if not (plan.decay_all or axes >= 2):
        return 0.0
    return plan.weight_decay * _first_match(plan.decay_multipliers(), name)


def _first_match(multipliers: tuple[tuple[str, float], ...], name: str) -> float:
    """The factor of the first pattern that the name fits; 1 where none does."""
    return next((factor for pattern, factor in multipliers if fnmatch.fnmatchcase(name, pattern)), 1.0)


def trained_names(plan: TrainingPlan, names: list[str]) -> list[str]:
    """Names that are not frozen.

    Raises
    ------
    InputError
        When a pattern names nothing, or nothing is left.
    """
    for pattern, _ in (*plan.multipliers(), *plan.decay_multipliers(), *plan.freezes()):
        if not fnmatch.filter(names, pattern):
            raise InputError(f"no parameter is named {pattern!r}", f"There are {', '.join(names)}")
    left = [name for name in names if multiplier(plan, name) > 0]
    if not left:
        raise InputError("every parameter is frozen, so there is nothing to train", "Freeze fewer names")
    return left


@final
@dataclass(eq=False)
class _Group:
    """Parameters with the same multiplier and decay."""

    factor: float
    weight_decay: float
    names: list[str] = field(default_factory=list)


@final
class Optimiser:
    """The optimiser of a plan over named parameters.

    ``sgd``: ``g ← g + λ w, v ← m v + g, w ← w - η (g + m v)`` with Nesterov, ``w ← w - η v`` without (Sutskever et al.
    2013, in PyTorch's form). ``adam``: Kingma & Ba (2015), with ``w ← (1 - η λ) w`` before (Loshchilov & Hutter 2019).
    ``muon``: matrices are turned by η of their norm (`muon`), shrunk by ``1 - η λ`` before where their scale has an
    effect; everything else as in ``sgd``.

    Parameters
    ----------
    plan : TrainingPlan
    parameters : dict of str to tensor
        Leaves that require gradients; those without a gradient in a step are left as they are.
    matrices : dict of str to bool
        Those that Muon turns, and whether their norm is kept (`muon.matrices`).
    """

    def __init__(
        self, plan: TrainingPlan, parameters: Mapping[str, Any], matrices: Mapping[str, bool] | None = None
    ) -> None:
        torch = need_torch()
        self.plan, self.parameters = plan, dict(parameters)
        self.matrices = dict(matrices or {}) if plan.optimiser == "muon" else {}
        groups: dict[tuple[float, float], _Group] = {}
        for name, tensor in self.parameters.items():
            key = multiplier(plan, name), decay_of(plan, name, tensor.ndim)
            groups.setdefault(key, _Group(*key)).names.append(name)
        self.groups = list(groups.values())
        slots = SLOTS[plan.optimiser] if plan.optimiser == "adam" or plan.momentum else ()
        self.slots: dict[str, dict[str, Any]] = {
            slot: {name: torch.zeros_like(one).detach() for name, one in self.parameters.items()} for slot in slots
        }
        # Adam's count of steps, one for each parameter, as the kernel wants it
        self.counts = {name: torch.zeros((), device=one.device) for name, one in self.parameters.items()}

    def step(self, rate: float) -> None:
        """One step against the gradients in ``.grad``, at the learning rate `rate`."""
        with need_torch().no_grad():
            for group in self.groups:
                names = [name for name in group.names if self.parameters[name].grad is not None]
                for name in filter(self.matrices.__contains__, names):
                    self._turn(name, rate * group.factor, group.weight_decay)
                names = [name for name in names if name not in self.matrices]
                if names:
                    self._move(names, rate * group.factor, group.weight_decay)

    def _turn(self, name: str, rate: float, decay: float) -> None:
        """A step of Muon for one matrix."""
        weight, plan, keep_norm = self.parameters[name], self.plan, self.matrices[name]
        direction = weight.grad
        if plan.momentum:
            moved = self.slots["momentum_buffer"][name].mul_(plan.momentum).add_(direction)
            direction = direction.add(moved, alpha=plan.momentum) if plan.nesterov else moved
        if decay and not keep_norm:
            weight.mul_(1.0 - rate * decay)
        turn(weight, direction, rate, keep_norm)

    def _move(self, names: list[str], rate: float, decay: float) -> None:
        torch, plan = need_torch(), self.plan
        weights = [self.parameters[name] for name in names]
        gradients = [one.grad for one in weights]
        state = [[self.slots[slot][name] for name in names] for slot in self.slots]
        if plan.optimiser == "adam":
            counts = [self.counts[name] for name in names]
            torch._foreach_add_(counts, 1.0)
            torch._fused_adamw_(
                weights, gradients, *state, [], counts, lr=rate, beta1=plan.momentum, beta2=plan.beta2,
                weight_decay=decay, eps=plan.epsilon, amsgrad=False, maximize=False,
            )  # fmt: skip
            return
        torch._fused_sgd_(
            weights, gradients, *(state or [[]]), weight_decay=decay, momentum=plan.momentum, lr=rate, dampening=0.0,
            nesterov=plan.nesterov and plan.momentum > 0, maximize=False, is_first_step=False,
        )  # fmt: skip

    def clear(self) -> None:
        """Forget the gradients."""
        for tensor in self.parameters.values():
            tensor.grad = None

    def gradient_norm(self, largest: float = 0.0) -> Any:
        """Norm of all gradients together, a tensor; they are shortened to `largest` where that is above 0."""
        torch = need_torch()
        gradients = [tensor.grad for tensor in self.parameters.values() if tensor.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients]))
        if largest > 0:
            torch._foreach_mul_(gradients, torch.clamp(largest / (norm + 1e-12), max=1.0))
        return norm

    def state(self) -> dict[str, dict[str, Float32]]:
        """Arrays by slot and name, with Adam's counts."""
        slots = {**self.slots, **({"counts": self.counts} if self.plan.optimiser == "adam" else {})}
        return {
            slot: {name: tensor.cpu().contiguous().numpy().copy() for name, tensor in tensors.items()}
            for slot, tensors in slots.items()
        }

    def restore(self, groups: Mapping[str, Mapping[str, Float32]]) -> None:
        """Go on from `state`."""
        torch = need_torch()
        slots = {**self.slots, **({"counts": self.counts} if self.plan.optimiser == "adam" else {})}
        for slot, tensors in slots.items():
            for name, tensor in tensors.items():
                tensor.copy_(torch.from_numpy(groups[slot][name].copy()))
