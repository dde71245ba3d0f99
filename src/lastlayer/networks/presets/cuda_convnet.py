"""Two small CIFAR-10 networks of cuda-convnet (Krizhevsky 2012): 26 % error in 80 s, 18 % in 20 minutes at the time."""

from __future__ import annotations

from typing import Any

from lastlayer.networks.base import Shape
from lastlayer.networks.input import Input
from lastlayer.networks.layers import Activation, AveragePool, Convolution, Flatten, Linear, LocalResponseNorm, MaxPool
from lastlayer.networks.presets.family import Built, Family, Layers, Options, need_size

PUBLISHED = {"conv1": "normal:0.0001", "conv2": "normal:0.01", "conv3": "normal:0.01", "fc64": "normal:0.1"}


def _build(variant: str, options: Options, shape: Shape, n_classes: int) -> Built:
    need_size(f"cuda-convnet:{variant}", shape, 12, 32)
    quick, act, init = variant == "quick", options["act"], options["init"]
    last = {"fc10": "normal:0.1" if quick else "normal:0.01"}
    rules = {name: init if init != "auto" else rule for name, rule in {**PUBLISHED, **last}.items()}
    norm = [] if quick or not options["lrn"] else [LocalResponseNorm(3, 5e-5 / 9, 0.75, 1.0, within=True)]
    layers: Layers = [
        ("conv1", Convolution(32, 5, padding=2, init=rules["conv1"])),
        ("pool1", MaxPool(3, 2, ceil=True)),
        ("act1", Activation(act)),
        *(("norm1", one) for one in norm),
        ("conv2", Convolution(32, 5, padding=2, init=rules["conv2"])),
        ("act2", Activation(act)),
        ("pool2", AveragePool(3, 2, ceil=True)),
        *(("norm2", one) for one in norm),
        ("conv3", Convolution(64, 5, padding=2, init=rules["conv3"])),
        ("act3", Activation(act)),
        ("pool3", AveragePool(3, 2, ceil=True)),
        ("flatten", Flatten()),
    ]
    if quick:
        layers.append(("fc64", Linear(64, rules["fc64"])))
    return Built([*layers, ("scores", Linear(n_classes, rules["fc10"]))], Input("channel"))


def _recipe(variant: str, options: Options) -> dict[str, Any]:
    common = {"optimiser": "sgd", "momentum": 0.9, "nesterov": False, "weight_decay": 0.004, "rates": "*.bias=2"}
    if variant == "quick":
        # inputs have standard deviation 1 here; the published 0.001 is for pixels of 0..255
        return {**common, "epochs": 13.0, "batch_size": 100, "rate": 0.01, "schedule": "piecewise:85%=0.1"}
    # as published, where pixels of 0..255 with standard deviation 63 meet weights 63 times smaller: the first layer's
    # rate is 63² times that of the others here, and its decay as much smaller; the last layer's decay is 1
    rates = {"rate": 0.001, "rates": "conv1.weight=4000,*.bias=2", "decays": "conv1.weight=0.00025,scores.weight=250"}
    return {**common, **rates, "epochs": 90.0, "batch_size": 128, "schedule": "piecewise:85%=0.1,93%=0.01"}


CUDA_CONVNET = Family(
    "cuda-convnet",
    "three convolutions of 5x5, 32-32-64 maps (Krizhevsky 2012)",
    ("quick", "18pct"),
    {"act": "relu", "init": "auto", "lrn": True},
    _build,
    _recipe,
    lambda variant: (24, 64, 32),
)
