"""Small images with planted classes, and small networks, for tests of training."""

from __future__ import annotations

from typing import Any

import numpy as np

from lastlayer.networks.architecture import Architecture
from lastlayer.networks.layers import Activation, BatchNorm, Convolution, Dropout, Flatten, Linear, MaxPool


def planted(count: int, seed: int = 0, classes: int = 3, side: int = 8, channels: int = 1) -> tuple[Any, Any]:
    """Noise with a bright bar: class k has it in row 2k + 1."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, count)
    X = rng.integers(0, 120, (count, side, side, channels), dtype=np.uint8)
    X[np.arange(count), 2 * y + 1] += 60
    return X, y


def mlp(hidden: int = 16, classes: int = 3, side: int = 8, activation: str = "relu", channels: int = 1) -> Architecture:
    layers = (
        ("flat", Flatten()),
        ("hidden", Linear(hidden)),
        ("act", Activation(activation)),
        ("scores", Linear(classes)),
    )
    return Architecture(f"small mlp {hidden} {activation}", layers, (side, side, channels), classes)


def convnet(classes: int = 3, dropout: float = 0.2) -> Architecture:
    """Everything that has a state of its own: batch normalisation and dropout."""
    layers = (
        ("conv", Convolution(6, 3)),
        ("norm", BatchNorm()),
        ("act", Activation("relu")),
        ("pool", MaxPool(2)),
        ("flat", Flatten()),
        ("drop", Dropout(dropout)),
        ("scores", Linear(classes)),
    )
    return Architecture("small convnet", layers, (8, 8, 1), classes)
