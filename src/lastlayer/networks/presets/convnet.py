"""The small modern net: whitened patches, two convolutions a block, batch norm, SiLU, a scaled linear head.

The shape is that of airbench (Jordan 2024), after Page's ResNet-9 (2019): chosen for accuracy per minute. So are the
optimiser and its rates: maps 32-64-64, 5 epochs on 40,000 images of CIFAR-10-JPEG, 10,000 others right with momentum
and a rate chosen for it 81.5%, with Muon 83.4%.
"""

from __future__ import annotations

from typing import Any

from lastlayer._errors import InputError
from lastlayer.networks.base import Shape
from lastlayer.networks.input import Input
from lastlayer.networks.layers import (
    Activation,
    BatchNorm,
    Convolution,
    Dropout,
    Flatten,
    Linear,
    MaxPool,
    Scale,
    Whitening,
)
from lastlayer.networks.presets import grammar
from lastlayer.networks.presets.family import Built, Family, Layers, Options, need_size

DEEPEST = 8


def _build(variant: str, options: Options, shape: Shape, n_classes: int) -> Built:
    widths, act = _widths(options["widths"], shape[2]), Activation(options["act"])
    smallest = 2 ** len(widths) + 1
    need_size("convnet", shape, smallest, 32)
    layers: Layers = [("whiten", Whitening(2)), ("whiten_act", act)]
    rule = "dirac" if options["init"] == "auto" else options["init"]
    for block, width in enumerate(widths, start=1):
        for half in ("a", "b"):
            name = f"conv{block}{half}"
            layers.append((name, Convolution(width, 3, padding=1, init=rule, bias=False)))
            if half == "a":
                layers.append((f"pool{block}", MaxPool(2)))
            layers.append((f"norm{block}{half}", BatchNorm(options["norm_momentum"], scale=False)))
            layers.append((f"act{block}{half}", act))
    side = (min(shape[0], shape[1]) - 1) >> len(widths)
    if side > 1:
        layers.append(("pool", MaxPool(side)))
    layers.append(("flatten", Flatten()))
    if options["dropout"]:
        layers.append(("drop", Dropout(options["dropout"])))
    # a factor on the features is one on the scores: the layer after it stays the linear one
    layers += [("scale", Scale(options["scale"])), ("scores", Linear(n_classes, "fan_in", bias=False))]
    return Built(layers, Input("channel"))


def _widths(text: str, channels: int) -> tuple[int, ...]:
    """Maps of each block; for colour twice as many as for grey."""
    if text == "auto":
        return (32, 64, 64) if channels == 1 else (64, 128, 128)
    widths = grammar.numbers("convnet", "widths", text)
    if len(widths) > DEEPEST or min(widths) < 1:
        raise InputError(f"convnet: widths are {text}", f"Give 1 to {DEEPEST} widths, such as widths=32-64-64")
    return widths


def _recipe(variant: str, options: Options) -> dict[str, Any]:
    return {
        "epochs": 8.0,
        "batch_size": 512,
        "optimiser": "muon",
        "rate": 0.12,
        "momentum": 0.6,
        "nesterov": True,
        "weight_decay": 0.0013,
        "rates": "norm*.bias=300,scores.weight=16,whiten.bias=16",
        "frozen": "whiten.bias@3",
        "schedule": "one-cycle:rise=0.05,first=0.5,last=0.01,linear=1",
        "label_smoothing": 0.2,
        "augmentation": "flip=alternate,shift=2:reflect",
    }


CONVNET = Family(
    "convnet",
    "a small modern net, most accuracy for a minute (after Jordan 2024)",
    ("",),
    {"widths": "auto", "act": "silu", "init": "auto", "scale": 1 / 9, "norm_momentum": 0.4, "dropout": 0.0},
    _build,
    _recipe,
    lambda variant: (24, 96, 32),
)
