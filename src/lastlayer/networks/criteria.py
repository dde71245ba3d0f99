"""What a network's scores cost: cross-entropy, squared error, and the two losses of LeNet-5's radial outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lastlayer._errors import InputError
from lastlayer.networks.plan import TrainingPlan

Criterion = Callable[[Any, Any], Any]
"""Scores (B, K) float32 and labels (B,) int64 to the mean loss, a tensor with one number."""


def make_criterion(plan: TrainingPlan, radial: bool) -> Criterion:
    r"""The loss of a plan.

    With scores z and label y, and for radial outputs ``d_k = ‖x - w_k‖² = -2 z_k``:

    * ``cross_entropy``: ``log Σ exp z_k - z_y``, with label smoothing ε towards ``(1 - ε) e_y + ε / K``;
    * ``squared``: ``½ ‖z - e_y‖²``, and with radial outputs ``d_y`` (LeCun et al. 1998, equation 8);
    * ``map``: ``d_y + log(exp(-j) + Σ exp(-d_k))`` (their equation 9).

    Parameters
    ----------
    plan : TrainingPlan
    radial : bool
        Whether the scores are ``-½ ‖x - w_k‖²``.

    Raises
    ------
    InputError
        For "map" without radial outputs.
    """
    import torch
    from torch.nn import functional

    if plan.loss == "cross_entropy":
        return lambda z, y: functional.cross_entropy(z, y, label_smoothing=plan.label_smoothing)
    if plan.loss == "squared" and not radial:
        return lambda z, y: 0.5 * (z - functional.one_hot(y, z.shape[1])).square().sum(dim=1).mean()
    if plan.loss == "squared":
        return lambda z, y: -2.0 * z.gather(1, y[:, None]).mean()
    if not radial:
        raise InputError("the loss map needs radial outputs", "Train lenet5 with it, or give loss=cross_entropy")

    def map_loss(z: Any, y: Any) -> Any:
        floor = z.new_full((len(z), 1), -plan.map_floor)
        pull = -2.0 * z.gather(1, y[:, None]).squeeze(1)
        return (pull + torch.logsumexp(torch.cat([2.0 * z, floor], dim=1), dim=1)).mean()

    return map_loss
