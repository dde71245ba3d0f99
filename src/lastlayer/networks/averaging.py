"""A running average of the weights, judged and kept in their place (Polyak & Juditsky 1992; exponential form)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final


@final
class Average:
    """``a ← d a + (1 - d) w`` after every step, with ``d = min(decay, (1 + t) / (10 + t))``.

    The smaller decay of the first steps lets the average forget the weights that training began with.

    Parameters
    ----------
    tensors : dict of str to tensor
        Everything that changes: parameters and running statistics.
    decay : float
    """

    def __init__(self, tensors: Mapping[str, Any], decay: float) -> None:
        self.decay = decay
        self.tensors = {name: tensor.detach().clone() for name, tensor in tensors.items()}

    def update(self, tensors: Mapping[str, Any], count: int) -> None:
        """Take the weights after step number `count`, from 0, into the average."""
        import torch

        decay = min(self.decay, (1.0 + count) / (10.0 + count))
        new = [tensors[name].detach() for name in self.tensors]
        torch._foreach_lerp_(list(self.tensors.values()), new, 1.0 - decay)
