"""What goes on inside a network while it learns: dead units, saturated units, scores that say nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from lastlayer.networks.activations import ACTIVATIONS

FLAT = 0.05
"""A unit is saturated where its derivative is below this share of the largest."""


@final
@dataclass(frozen=True)
class LayerHealth:
    """One activation layer on a sample of images.

    Attributes
    ----------
    name : str
    units : int
        Its channels, or its units where it has no rows and columns.
    dead : int or None
        ReLU units that are 0 for every image at every place; None for other functions.
    saturated : float or None
        Share of the outputs of a sigmoid or tanh where the derivative is below 5 % of its largest; None for others.
    """

    name: str
    units: int
    dead: int | None = None
    saturated: float | None = None


@final
@dataclass(frozen=True)
class Health:
    """All activation layers, and the scores.

    Attributes
    ----------
    layers : tuple of LayerHealth
    constant : bool
        Whether every image of the sample has the same scores.
    """

    layers: tuple[LayerHealth, ...]
    constant: bool

    @property
    def dead(self) -> int:
        """Dead units of all layers together."""
        return sum(layer.dead or 0 for layer in self.layers)

    @property
    def saturated(self) -> float:
        """The largest share of any layer."""
        return max((layer.saturated for layer in self.layers if layer.saturated is not None), default=0.0)

    @property
    def dead_layer(self) -> str:
        """The first layer without a unit alive, or ""."""
        return next((layer.name for layer in self.layers if layer.dead == layer.units), "")

    def note(self) -> str:
        """One sentence where something is wrong, or ""."""
        if self.dead_layer:
            return f"every unit of {self.dead_layer} is dead"
        full = next((layer.name for layer in self.layers if (layer.saturated or 0.0) > 0.9), "")
        if full:
            return f"{full} is saturated: its derivative is next to nothing for 9 outputs of 10"
        return "the scores do not depend on the image" if self.constant else ""


def layer_health(name: str, activation: str, outputs: Any) -> LayerHealth | None:
    """Health of one activation layer from its outputs (B, C, H, W) or (B, C); None for a function that cannot fail."""
    units = int(outputs.shape[1])
    if activation == "relu":
        alive = (outputs > 0).any(dim=0)
        return LayerHealth(name, units, dead=units - int(alive.reshape(units, -1).any(dim=1).sum()))
    limits = ACTIVATIONS[activation].limits
    if limits is None:
        return None
    middle, half = sum(limits) / 2.0, (limits[1] - limits[0]) / 2.0
    # of σ and tanh alike, the derivative is its largest times 1 - u², u the output scaled to -1..1
    flat = (1.0 - ((outputs - middle) / half).square()) < FLAT
    return LayerHealth(name, units, saturated=float(flat.float().mean()))


def network_health(outputs: Sequence[tuple[str, str, Any]], scores: Any) -> Health:
    """Health from (name, activation, outputs) of every activation layer and the scores (B, K)."""
    found = (layer_health(*one) for one in outputs)
    spread = float((scores - scores[:1]).abs().max())
    return Health(tuple(layer for layer in found if layer is not None), spread <= 1e-7 * float(scores.abs().max()))
