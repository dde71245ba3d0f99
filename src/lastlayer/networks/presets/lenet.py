"""LeNet-1 and LeNet-5 as published, and LeNet-5 with what came after it."""

from __future__ import annotations

from typing import Any

from lastlayer.networks.base import Shape
from lastlayer.networks.input import Input
from lastlayer.networks.layers import (
    Activation,
    Convolution,
    Flatten,
    Linear,
    MaxPool,
    RadialOutputs,
    Subsampling,
)
from lastlayer.networks.presets.family import Built, Family, Layers, Options, need_size
from lastlayer.networks.presets.mlp import weight_rule

C3_TABLE = (
    *((i, (i + 1) % 6, (i + 2) % 6) for i in range(6)),
    *((i, (i + 1) % 6, (i + 2) % 6, (i + 3) % 6) for i in range(6)),
    *((i, i + 1, (i + 3) % 6, (i + 4) % 6) for i in range(3)),
    (0, 1, 2, 3, 4, 5),
)
"""Which maps of S2 each map of C3 sees (LeCun et al. 1998, table I)."""
LENET1_TABLE = ((0,), (0, 1), (0, 1), (1,), (0, 1), (0, 1), (2,), (2, 3), (2, 3), (3,), (2, 3), (2, 3))
"""Which of four maps each of LeNet-1's twelve sees: one or two (LeCun et al. 1990, table 1)."""
SMALLEST, USUAL = 20, 28


def _input(owner: str, shape: Shape, side: int, normalise: str) -> tuple[Input, Shape]:
    """A frame that brings images to at least the side, and the shape inside."""
    need_size(owner, shape, SMALLEST, USUAL)
    padding = max(0, -(-(side - min(shape[0], shape[1])) // 2))
    made = Input(normalise, padding)
    return made, made.output_shape(shape)


def _lenet5(variant: str, options: Options, shape: Shape, n_classes: int) -> Built:
    if variant == "modern":
        return _modern(options, shape, n_classes)
    made, _ = _input("lenet5", shape, 32, "lecun")
    act = Activation("scaled_tanh")
    layers: Layers = [
        ("c1", Convolution(6, 5, init="lecun")),
        ("c1_act", act),
        ("s2", Subsampling(2)),
        ("s2_act", act),
        ("c3", Convolution(16, 5, table=C3_TABLE, init="lecun")),
        ("c3_act", act),
        ("s4", Subsampling(2)),
        ("s4_act", act),
        # on 32x32 pixels S4 is 5x5, and C5, a convolution of 5x5, is full
        ("c5", Convolution(120, 5, init="lecun")),
        ("c5_act", act),
        ("flatten", Flatten()),
        ("f6", Linear(84, "lecun")),
        ("f6_act", act),
        ("output", RadialOutputs(n_classes, "digits" if n_classes == 10 else "random")),
    ]
    return Built(layers, made)


def _modern(options: Options, shape: Shape, n_classes: int) -> Built:
    made, _ = _input("lenet5:modern", shape, 32, "channel")
    act, rule = Activation(options["act"]), weight_rule(options, options["act"])
    layers: Layers = [
        ("c1", Convolution(6, 5, init=rule)),
        ("c1_act", act),
        ("s2", MaxPool(2)),
        ("c3", Convolution(16, 5, init=rule)),
        ("c3_act", act),
        ("s4", MaxPool(2)),
        ("flatten", Flatten()),
        ("c5", Linear(120, rule)),
        ("c5_act", act),
        ("f6", Linear(84, rule)),
        ("f6_act", act),
        ("scores", Linear(n_classes, rule if options["init"] != "auto" else "glorot")),
    ]
    return Built(layers, made)


def _lenet1(variant: str, options: Options, shape: Shape, n_classes: int) -> Built:
    made, _ = _input("lenet1", shape, 28, "lecun")
    act = Activation("scaled_tanh")
    layers: Layers = [
        ("h1", Convolution(4, 5, init="lecun")),
        ("h1_act", act),
        ("h2", Subsampling(2)),
        ("h2_act", act),
        ("h3", Convolution(12, 5, table=LENET1_TABLE, init="lecun")),
        ("h3_act", act),
        ("h4", Subsampling(2)),
        ("h4_act", act),
        ("flatten", Flatten()),
        ("scores", Linear(n_classes, "lecun")),
    ]
    return Built(layers, made)


COMMON = {"epochs": 20.0, "optimiser": "sgd", "momentum": 0.9, "nesterov": True, "schedule": "cosine"}


def _recipe(variant: str, options: Options) -> dict[str, Any]:
    if variant == "modern":
        return {**COMMON, "batch_size": 64, "rate": 0.02, "weight_decay": 5e-4}
    # mistakes among 5,996 by the rate, 10 to 20 epochs: 66 at 5e-4, 72 at 1e-3, 86 at 2e-3, 426 at 5e-3
    averaged = {"schedule": "constant", "average": 0.9998, "epochs": 30.0}
    return {**COMMON, **averaged, "batch_size": 16, "rate": 5e-4, "weight_decay": 0.003, "loss": "map"}


def _lenet1_recipe(variant: str, options: Options) -> dict[str, Any]:
    return {**COMMON, "batch_size": 16, "rate": 0.01, "weight_decay": 0.0, "loss": "cross_entropy"}


def _sizes(variant: str) -> tuple[int, int, int]:
    return SMALLEST, 64, USUAL


LENET5 = Family(
    "lenet5",
    "convolutions, trainable subsampling and radial outputs (LeCun et al. 1998)",
    ("", "modern"),
    {"act": "relu", "init": "auto"},
    _lenet5,
    _recipe,
    _sizes,
    fixed=("",),
)
LENET1 = Family("lenet1", "its smaller predecessor (LeCun et al. 1990)", ("",), {}, _lenet1, _lenet1_recipe, _sizes)
