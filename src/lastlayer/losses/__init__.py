"""L: losses, pointwise on scores. One file each; `by_name` is the registry.

>>> by_name("cross_entropy").curvature_bound
0.5
"""

from __future__ import annotations

from difflib import get_close_matches

from lastlayer._arrays import InputError
from lastlayer.losses.base import Loss
from lastlayer.losses.crammer_singer import CrammerSinger
from lastlayer.losses.cross_entropy import CrossEntropy
from lastlayer.losses.hinge import Hinge, SquaredHinge
from lastlayer.losses.perceptron import Perceptron
from lastlayer.losses.squared import Squared
from lastlayer.losses.zero_one import ZeroOne

LOSSES: dict[str, Loss] = {
    loss.name: loss
    for loss in (CrossEntropy(), Squared(), Hinge(), SquaredHinge(), CrammerSinger(), Perceptron(), ZeroOne())
}

__all__ = [
    "LOSSES",
    "CrammerSinger",
    "CrossEntropy",
    "Hinge",
    "Loss",
    "Perceptron",
    "Squared",
    "SquaredHinge",
    "ZeroOne",
    "by_name",
]


def by_name(name: str) -> Loss:
    """The loss of that name; `InputError` names the ones there are."""
    if name in LOSSES:
        return LOSSES[name]
    close = get_close_matches(str(name), LOSSES, n=1)
    hint = f"Did you mean {close[0]}? " if close else ""
    raise InputError(f"No loss is called {name!r}", f"{hint}There are {', '.join(LOSSES)}")
