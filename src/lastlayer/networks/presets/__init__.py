"""Architectures by name: the classics as published, and small modern ones.

    perceptron   perceptron:2          mlp:300-100   mlp:300,act=tanh
    lenet1       lenet5                lenet5:modern
    alexnet      alexnet:32            cuda-convnet:quick   cuda-convnet:18pct
    convnet      convnet:widths=32-64-64

>>> parse("mlp:300-100").architecture((28, 28, 1), 10).n_parameters
266610
>>> is_network("lenet5:modern"), is_network("hog:cell=4")
(True, False)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, final

from lastlayer._errors import InputError
from lastlayer.networks.architecture import Architecture
from lastlayer.networks.base import Shape
from lastlayer.networks.presets import grammar
from lastlayer.networks.presets.alexnet import ALEXNET
from lastlayer.networks.presets.convnet import CONVNET
from lastlayer.networks.presets.cuda_convnet import CUDA_CONVNET
from lastlayer.networks.presets.family import Family
from lastlayer.networks.presets.lenet import LENET1, LENET5
from lastlayer.networks.presets.mlp import MLP, PERCEPTRON

FAMILIES: Mapping[str, Family] = {
    family.name: family for family in (PERCEPTRON, MLP, LENET1, LENET5, ALEXNET, CUDA_CONVNET, CONVNET)
}
"""By name; a new one joins here."""


@final
@dataclass(frozen=True, eq=False)
class Preset:
    """A named network, before the images' shape and the number of classes are known.

    Attributes
    ----------
    name : str
        The text that `parse` reads to the same.
    defaults : mapping
        Fields of a `TrainingPlan` that suit it.
    """

    family: Family
    variant: str
    options: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The shortest text that means it."""
        given = {key: value for key, value in self.options.items() if value != self.family.options[key]}
        return grammar.canonical(self.family.name, self.variant, given)

    @property
    def about(self) -> str:
        """One line on the family."""
        return self.family.about

    @property
    def defaults(self) -> Mapping[str, Any]:
        """How it is trained unless the user says otherwise."""
        return MappingProxyType(self.family.recipe(self.variant, self.options))

    def recipe(self, channels: int) -> dict[str, Any]:
        """`defaults` for images of so many channels: without mirroring for grey ones, which are mostly characters."""
        found = dict(self.defaults)
        if channels == 1 and found.get("augmentation"):
            parts = [part for part in found["augmentation"].split(",") if not part.startswith("flip")]
            found["augmentation"] = ",".join(parts)
        return found

    def architecture(self, input_shape: Shape, n_classes: int) -> Architecture:
        """The layers for images (H, W, C) and so many classes.

        Raises
        ------
        InputError
            When the images are too small, saying which size would do.
        """
        shape = tuple(int(side) for side in input_shape)
        if len(shape) != 3 or min(shape) < 1:
            raise InputError(f"{self.name}: images have the shape {shape}; (H, W, C) is needed")
        built = self.family.build(self.variant, self.options, shape, n_classes)
        return Architecture(self.name, tuple(built.layers), shape, n_classes, built.input)

    def wanted_size(self, height: int, width: int, channels: int) -> tuple[int, int] | None:
        """Rows and columns that images of this size should be brought to; None where they are right as they are."""
        sizes = self.family.sizes(self.variant)
        if sizes is None or sizes[0] <= min(height, width) <= max(height, width) <= sizes[1]:
            return None
        return sizes[2], sizes[2]


def parse(text: str) -> Preset:
    """The preset of a text.

    Raises
    ------
    InputError
        For a name, variant or option that there is not; names those there are.
    """
    name, variant, given = grammar.split(text)
    if name not in FAMILIES:
        raise InputError(f"no network is called {name!r:.60}", f"There are {', '.join(FAMILIES)}")
    family = FAMILIES[name]
    if "NUMBERS" in family.variants and variant and variant not in family.variants:
        variant = grammar.show(grammar.numbers(name, "its sizes", variant))
    elif variant not in family.variants:
        known = ", ".join(f"{name}:{one}" if one else name for one in family.variants)
        raise InputError(f"{name} has no variant {variant!r:.60}", f"Write {known.replace('NUMBERS', '300-100')}")
    if given and variant in family.fixed:
        others = ", ".join(f"{name}:{one}" for one in family.variants if one not in family.fixed)
        raise InputError(f"{name} is as published and takes no options", f"{others} takes them" if others else "")
    unknown = [key for key in given if key not in family.options]
    if unknown:
        has = ", ".join(f"{key}={grammar.show(value)}" for key, value in family.options.items())
        raise InputError(f"{name} has no option {unknown[0]!r:.60}", f"It has {has or 'none'}")
    read = {key: grammar.read(name, key, value, family.options[key]) for key, value in given.items()}
    return Preset(family, variant, {**family.options, **read})


def is_network(text: str) -> bool:
    """Whether the text begins with the name of a network."""
    return isinstance(text, str) and text.partition(":")[0].strip().lower() in FAMILIES
