"""The layers by the field's names; a new one joins `LAYERS` here, and the registry of the tests sees it."""

from __future__ import annotations

from collections.abc import Mapping

from lastlayer.networks.base import Layer
from lastlayer.networks.layers.convolution import Convolution
from lastlayer.networks.layers.linear import Linear, collapse
from lastlayer.networks.layers.locally_connected import LocallyConnected
from lastlayer.networks.layers.normalisation import BatchNorm, LocalResponseNorm
from lastlayer.networks.layers.plain import Activation, Dropout, Flatten, Scale, refuse_gradient
from lastlayer.networks.layers.pooling import AveragePool, MaxPool, Subsampling
from lastlayer.networks.layers.radial import RadialOutputs
from lastlayer.networks.layers.whitening import Whitening

LAYERS: Mapping[str, type[Layer]] = {
    layer.kind: layer
    for layer in (
        Linear,
        LocallyConnected,
        Convolution,
        Whitening,
        MaxPool,
        AveragePool,
        Subsampling,
        BatchNorm,
        LocalResponseNorm,
        Dropout,
        Flatten,
        Activation,
        Scale,
        RadialOutputs,
    )
}
"""Classes by their name in model files."""

__all__ = [
    "LAYERS",
    "Activation",
    "AveragePool",
    "BatchNorm",
    "Convolution",
    "Dropout",
    "Flatten",
    "Linear",
    "LocalResponseNorm",
    "LocallyConnected",
    "MaxPool",
    "RadialOutputs",
    "Scale",
    "Subsampling",
    "Whitening",
    "collapse",
    "refuse_gradient",
]
