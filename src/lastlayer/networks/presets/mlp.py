"""The perceptron, and full layers with a nonlinearity between."""

from __future__ import annotations

from typing import Any

from lastlayer._errors import InputError
from lastlayer.networks.base import Shape
from lastlayer.networks.input import Input
from lastlayer.networks.layers import Activation, Dropout, Flatten, Linear
from lastlayer.networks.presets.family import Built, Family, Layers, Options

DEEPEST = 20


def weight_rule(options: Options, act: str) -> str:
    """The rule of the options, or the one that suits the activation."""
    if options["init"] != "auto":
        return str(options["init"])
    return "he" if act in ("relu", "leaky_relu", "gelu", "silu") else "glorot"


def table_input(shape: Shape) -> Input:
    """Statistics of every feature for a table, which comes as (D, 1, 1) or (1, D, 1); of the channel for images."""
    return Input("pixel" if min(shape[0], shape[1]) == 1 and shape[2] == 1 else "channel")


def _mlp(variant: str, options: Options, shape: Shape, n_classes: int) -> Built:
    units = [int(part) for part in variant.split("-")] if variant else []
    if len(units) > DEEPEST or 0 in units:
        raise InputError(f"mlp:{variant} has {len(units)} hidden layers", f"1 to {DEEPEST} layers of 1 unit or more")
    act = options["act"]
    layers: Layers = [("flatten", Flatten())]
    for index, width in enumerate(units, start=1):
        layers += [(f"hidden{index}", Linear(width, weight_rule(options, act))), (f"act{index}", Activation(act))]
        if options["dropout"]:
            layers.append((f"drop{index}", Dropout(options["dropout"])))
    last = options["init"] if options["init"] != "auto" else "glorot"
    return Built([*layers, ("scores", Linear(n_classes, last))], table_input(shape))


def _mlp_recipe(variant: str, options: Options) -> dict[str, Any]:
    slow = options["act"] in ("sigmoid", "tanh", "scaled_tanh")
    return {
        "epochs": 30.0,
        "batch_size": 128,
        "optimiser": "sgd",
        "rate": 0.1 if slow else 0.05,
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 1e-4,
        "schedule": "cosine",
    }


def _perceptron(variant: str, options: Options, shape: Shape, n_classes: int) -> Built:
    layers: Layers = [("flatten", Flatten())]
    for index, width in enumerate([int(part) for part in variant.split("-")] if variant else [], start=1):
        layers += [(f"hidden{index}", Linear(width, "glorot")), (f"step{index}", Activation("step"))]
    return Built([*layers, ("scores", Linear(n_classes, "normal:0"))], table_input(shape))


def _perceptron_recipe(variant: str, options: Options) -> dict[str, Any]:
    return {"epochs": 20.0, "batch_size": 128, "rate": 0.01, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0}


MLP = Family(
    "mlp",
    "full layers with a nonlinearity between",
    ("NUMBERS",),
    {"act": "relu", "init": "auto", "dropout": 0.0},
    _mlp,
    _mlp_recipe,
    lambda variant: None,
)
PERCEPTRON = Family(
    "perceptron",
    "threshold units on pixels (Rosenblatt 1958); with hidden ones, which no gradient trains",
    ("", "NUMBERS"),
    {},
    _perceptron,
    _perceptron_recipe,
    lambda variant: None,
)
