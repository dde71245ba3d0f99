"""f = f_L ∘ … ∘ f_1 without its numbers: named layers in order, the last one linear in what it is given."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self, final

import numpy as np

from lastlayer._arrays import Array, Float32
from lastlayer._errors import InputError
from lastlayer.networks import _checks as check
from lastlayer.networks import specs
from lastlayer.networks.activations import ACTIVATIONS
from lastlayer.networks.base import Layer, Parameter, Shape
from lastlayer.networks.input import Input
from lastlayer.networks.layers import Activation, Linear, RadialOutputs, Whitening, refuse_gradient

LAYERS_AT_MOST = 256
NUMBERS_AT_MOST = 1 << 31
OUTPUT_AT_MOST = 1 << 25
"""No layer gives more numbers for an image."""
WHITENING_IMAGES = 5000
"""So many images find the filters of a whitening layer."""


@final
@dataclass(frozen=True, eq=False)
class Architecture:
    """Named layers for images of one shape and a number of classes; needs no PyTorch to be made or described.

    Parameters
    ----------
    name : str
        The text that makes it (`presets.parse`), or any name.
    layers : tuple of (str, Layer)
        In order; names are small letters, digits and _; the last one is `Linear` or `RadialOutputs`.
    input_shape : (H, W, C)
        Of the images given, before padding.
    n_classes : int
    input : Input

    Raises
    ------
    InputError
        For layers that do not fit each other, naming the layer and both shapes.
    """

    name: str
    layers: tuple[tuple[str, Layer], ...]
    input_shape: Shape
    n_classes: int
    input: Input = dataclasses.field(default_factory=Input)

    def __post_init__(self) -> None:
        check.whole(self.name, "n_classes", self.n_classes, 1)
        if len(self.input_shape) != 3:
            raise InputError(f"{self.name}: images have the shape {self.input_shape}; (H, W, C) is needed")
        for side in self.input_shape:
            check.whole(self.name, "input_shape", side, 1, 1 << 24)
        if not 1 <= len(self.layers) <= LAYERS_AT_MOST:
            raise InputError(f"{self.name}: {len(self.layers)} layers; 1 to {LAYERS_AT_MOST} are needed")
        names = [name for name, _ in self.layers]
        for name in names:
            specs.check_name(self.name, name)
        if len(set(names)) < len(names) or "input" in names:
            raise InputError(f"{self.name}: layers are called {', '.join(names)}", "Give each a name of its own")
        if not isinstance(self.layers[-1][1], (Linear, RadialOutputs)):
            raise InputError(f"{self.name}: the last layer is {self.layers[-1][1].describe()}", "End in class scores")
        self._check_shapes()

    def _check_shapes(self) -> None:
        last = self.shapes()[-1]
        if last != (self.n_classes,):
            raise InputError(f"{self.name}: {check.size(last)} scores for {self.n_classes} classes")
        if sum(one.size for one in self.parameters.values()) > NUMBERS_AT_MOST:
            raise InputError(f"{self.name} has more than {NUMBERS_AT_MOST} numbers", "Make it narrower")

    @cached_property
    def _shapes(self) -> tuple[Shape, ...]:
        shape = self.input.output_shape(self.input_shape)
        found = [shape]
        for name, layer in self.layers:
            try:
                shape = layer.output_shape(shape)
            except InputError as problem:
                raise InputError(f"{self.name}, layer {name}: {problem.what}", problem.mend, problem.code) from None
            if any(side > 1 << 24 for side in shape) or np.prod(shape, dtype=np.float64) > OUTPUT_AT_MOST:
                raise InputError(f"{self.name}, layer {name}: its output is {check.size(shape)}", "Make it smaller")
            found.append(shape)
        return tuple(found)

    def shapes(self) -> list[Shape]:
        """Shape of the normalised input, then of each layer's output."""
        return list(self._shapes)

    @cached_property
    def parameters(self) -> dict[str, Parameter]:
        """Every array by its full name, ``conv1.weight``; ``input.mean`` and ``input.std`` first."""
        found = {f"input.{key}": one for key, one in self.input.parameters(self.input_shape).items()}
        for (name, layer), shape in zip(self.layers, self._shapes):
            found |= {f"{name}.{key}": one for key, one in layer.parameters(shape).items()}
        return found

    @cached_property
    def plan(self) -> tuple[tuple[str, Layer, tuple[tuple[str, str], ...]], ...]:
        """What a forward pass walks through: name, layer, and its arrays as (own name, full name)."""
        return tuple(
            (name, layer, tuple((key, f"{name}.{key}") for key in layer.parameters(shape)))
            for (name, layer), shape in zip(self.layers, self._shapes)
        )

    @property
    def learned(self) -> list[str]:
        """Names of the arrays that gradients move."""
        return [name for name, one in self.parameters.items() if one.learned]

    @property
    def n_parameters(self) -> int:
        """How many numbers are learned."""
        return sum(one.size for one in self.parameters.values() if one.learned)

    @property
    def n_features(self) -> int:
        """D: how many numbers the last layer is given."""
        return int(np.prod(self._shapes[-2], dtype=np.int64))

    @property
    def multiply_adds(self) -> int:
        """Of one image, forward."""
        return sum(layer.multiply_adds(shape) for (_, layer), shape in zip(self.layers, self._shapes))

    def initial(self, rng: np.random.Generator) -> dict[str, Float32]:
        """Every array as it is before training, without any data."""
        return {name: one.start(rng, one.shape) for name, one in self.parameters.items()}

    def prepare(self, images: Array) -> dict[str, Float32]:
        """The arrays that training images decide: mean and std of the input, filters of a whitening layer.

        Parameters
        ----------
        images : (N, H, W, C)
            Training rows only.
        """
        self.check_images(images)
        found = self.input.statistics(images)
        arrays = {f"input.{key}": array for key, array in found.items()}
        name, first = self.layers[0]
        if isinstance(first, Whitening):
            some = images[:: -(-len(images) // WHITENING_IMAGES)]
            arrays[f"{name}.weight"] = first.filters(self.input.normalised(some, found))
        return arrays

    def check_images(self, images: Array) -> None:
        """Refuse images of another shape or type.

        Raises
        ------
        InputError
            Names both shapes.
        """
        if images.ndim != 4 or images.dtype not in (np.uint8, np.float32):
            raise InputError(
                f"images are {images.dtype} of shape {images.shape}; uint8 (N, H, W, C) is needed",
                "Add missing axes with images[:, :, :, None]",
            )
        if tuple(images.shape[1:]) != tuple(self.input_shape):
            raise InputError(
                f"{self.name} was made for images of {check.size(self.input_shape)} and met images of "
                f"{check.size(images.shape[1:])}",
                "Decode both with one size and one colour mode (--size, --mode)",
            )

    def check_trainable(self) -> None:
        """Refuse what gradients cannot train: a step function before the last layer."""
        for _, layer in self.layers:
            if isinstance(layer, Activation) and not ACTIVATIONS[layer.name].has_gradient:
                refuse_gradient(layer.name)

    def check_arrays(self, arrays: Mapping[str, Array]) -> None:
        """Refuse arrays that are missing, too many, of another shape or type, or not finite."""
        wanted = self.parameters
        for name in [*wanted, *arrays]:
            if name not in arrays or name not in wanted:
                fact = "is missing" if name in wanted else "does not belong to it"
                raise InputError(f"{self.name}: the array {name!r:.60} {fact}", "Load the model it was saved with")
            array = arrays[name]
            if tuple(array.shape) != wanted[name].shape or array.dtype != np.float32:
                raise InputError(
                    f"{self.name}: {name} is {array.dtype} of shape {tuple(array.shape)}; float32 of shape "
                    f"{wanted[name].shape} is needed"
                )
            if not np.isfinite(array).all():
                raise InputError(f"{self.name}: {name} has NaN or infinite numbers", "Train again", "LL030")

    def describe(self) -> list[str]:
        """A table: each layer with its output, learned numbers and multiply-adds; totals last."""
        rows = [("layer", "", "output", "parameters", "multiply-adds")]
        rows.append(("input", self.input.describe(), check.size(self._shapes[0]), "", ""))
        for (name, layer), shape, out in zip(self.layers, self._shapes, self._shapes[1:]):
            learned = sum(one.size for one in layer.parameters(shape).values() if one.learned)
            work = layer.multiply_adds(shape)
            rows.append(
                (name, layer.describe(), check.size(out), f"{learned:,}" * bool(learned), f"{work:,}" * bool(work))
            )
        rows.append(("", self.name, f"{self.n_classes} classes", f"{self.n_parameters:,}", f"{self.multiply_adds:,}"))
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        return [
            "  ".join(
                cell.ljust(width) if i < 3 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths))
            ).rstrip()
            for row in rows
        ]

    def to_dict(self) -> dict[str, Any]:
        """JSON values from which `from_dict` makes it again."""
        return {
            "name": self.name,
            "input_shape": list(self.input_shape),
            "n_classes": self.n_classes,
            "input": specs.fields_of(self.input),
            "layers": [{"layer": name, "kind": layer.kind, **specs.fields_of(layer)} for name, layer in self.layers],
        }

    @classmethod
    def from_dict(cls, spec: Any) -> Self:
        """Read `to_dict`'s values, which may be anybody's: nothing is guessed and sizes are bounded.

        Raises
        ------
        InputError
            For anything that is not exactly such a description.
        """
        found = specs.exact(spec, "network", ("name", "input_shape", "n_classes", "input", "layers"))
        shape, layers = found["input_shape"], found["layers"]
        if not isinstance(shape, list) or not isinstance(layers, list) or len(layers) > LAYERS_AT_MOST:
            raise InputError("network: input_shape or layers are no lists, or too long")
        if not isinstance(found["name"], str) or len(found["name"]) > 200:
            raise InputError("network: its name is no short text")
        named = tuple(specs.layer(one) for one in layers)
        return cls(found["name"], named, tuple(shape), found["n_classes"], specs.make(Input, found["input"], "input"))
