"""What a preset's family has to say: its options, layers, recipe and the sizes it wants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, final

from lastlayer._errors import InputError
from lastlayer.networks.base import Layer, Shape
from lastlayer.networks.input import Input

Options = Mapping[str, Any]
Layers = list[tuple[str, Layer]]


class Built(NamedTuple):
    """Layers of an architecture and its input."""

    layers: Layers
    input: Input


@final
@dataclass(frozen=True)
class Family:
    """Presets of one name.

    Attributes
    ----------
    name, about : str
        The name in texts, and one line on it.
    variants : tuple of str
        What may stand after the colon, "" for nothing; one that is "NUMBERS" stands for whole numbers with - between.
    options : mapping
        Names and default values.
    build : callable
        (variant, options, (H, W, C), K) -> Built.
    recipe : callable
        (variant, options) -> fields of a `TrainingPlan`.
    sizes : callable
        variant -> (smallest side, largest side, the side to choose) that images should have; None takes any.
    fixed : tuple of str
        Variants that are as published and take no options.
    """

    name: str
    about: str
    variants: tuple[str, ...]
    options: Options
    build: Callable[[str, Options, Shape, int], Built]
    recipe: Callable[[str, Options], dict[str, Any]]
    sizes: Callable[[str], tuple[int, int, int] | None]
    fixed: tuple[str, ...] = ()


def need_size(owner: str, shape: Shape, smallest: int, side: int) -> None:
    """Refuse images that are too small for the layers."""
    if min(shape[0], shape[1]) < smallest:
        raise InputError(
            f"{owner} is for images of at least {smallest}x{smallest} pixels and is given {shape[0]}x{shape[1]}",
            f"Enlarge them: --size {side}",
        )
