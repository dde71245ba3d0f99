"""AlexNet as published for 227 pixels, and with the same parts for 32."""

from __future__ import annotations

from typing import Any

from lastlayer.networks.base import Shape
from lastlayer.networks.input import Input
from lastlayer.networks.layers import Activation, Convolution, Dropout, Flatten, Linear, LocalResponseNorm, MaxPool
from lastlayer.networks.presets.family import Built, Family, Layers, Options, need_size

RELU = Activation("relu")


def _full(rule: str, units: int, bias: float, dropout: float, n_classes: int) -> Layers:
    """The three full layers, with dropout before the first two (Krizhevsky et al. 2012, section 4.2)."""
    layers: Layers = [("flatten", Flatten())]
    for name in ("fc6", "fc7"):
        layers += [
            (f"{name}_drop", Dropout(dropout)),
            (name, Linear(units, rule, initial_bias=bias)),
            (f"{name}_act", RELU),
        ]
    return [*layers, ("fc8", Linear(n_classes, rule))]


def _build(variant: str, options: Options, shape: Shape, n_classes: int) -> Built:
    owner = f"alexnet:{variant}" if variant else "alexnet"
    need_size(owner, shape, 15 if variant else 67, 32 if variant else 227)
    small = variant == "32"
    rule = options["init"] if options["init"] != "auto" else "he" if small else "normal:0.01"
    # "accelerates the early stages of learning by providing the ReLUs with positive inputs"
    ones = 0.0 if small else 1.0
    maps = (64, 192, 256, 256, 128) if small else (96, 256, 384, 384, 256)
    first = Convolution(maps[0], 5, padding=2, init=rule) if small else Convolution(maps[0], 11, stride=4, init=rule)
    layers: Layers = [
        ("conv1", first),
        ("conv1_act", RELU),
        ("norm1", LocalResponseNorm()),
        ("pool1", MaxPool(3, 2)),
        ("conv2", Convolution(maps[1], 5, padding=2, groups=2, init=rule, initial_bias=ones)),
        ("conv2_act", RELU),
        ("norm2", LocalResponseNorm()),
        ("pool2", MaxPool(3, 2)),
        ("conv3", Convolution(maps[2], 3, padding=1, init=rule)),
        ("conv3_act", RELU),
        ("conv4", Convolution(maps[3], 3, padding=1, groups=2, init=rule, initial_bias=ones)),
        ("conv4_act", RELU),
        ("conv5", Convolution(maps[4], 3, padding=1, groups=2, init=rule, initial_bias=ones)),
        ("conv5_act", RELU),
        ("pool5", MaxPool(3, 2)),
    ]
    return Built(layers + _full(rule, 1024 if small else 4096, ones, options["dropout"], n_classes), Input("channel"))


def _recipe(variant: str, options: Options) -> dict[str, Any]:
    common = {"batch_size": 128, "optimiser": "sgd", "momentum": 0.9, "weight_decay": 5e-4}
    if variant == "32":
        return {**common, "epochs": 30.0, "rate": 0.02, "schedule": "cosine", "augmentation": "flip,shift=2"}
    plan = {"epochs": 90.0, "rate": 0.01, "nesterov": False, "schedule": "step:every=30,factor=0.1"}
    return {**common, **plan, "rates": "*.bias=2", "augmentation": "flip,shift=16"}


ALEXNET = Family(
    "alexnet",
    "five convolutions in two groups and three full layers (Krizhevsky et al. 2012)",
    ("", "32"),
    {"init": "auto", "dropout": 0.5},
    _build,
    _recipe,
    lambda variant: (24, 64, 32) if variant else (200, 260, 227),
)
