"""f = f_L ∘ … ∘ f_1: networks whose last layer is the linear classifier.

    base            what a layer is               activations     the nonlinearities
    layers/         the layers                    initialisation  where weights start (lsuv: found on data)
    input           pixels to numbers             architecture    layers in order
    network         with numbers: scores          presets/        LeNet-5 and others by name

Nothing here imports PyTorch before a network runs.

>>> from lastlayer.networks import parse
>>> architecture = parse("lenet5").architecture((28, 28, 1), 10)
>>> architecture.n_parameters
60000
"""

from lastlayer.networks.activations import ACTIVATIONS
from lastlayer.networks.architecture import Architecture
from lastlayer.networks.base import Layer, Mode, Parameter
from lastlayer.networks.checking import layer_problem
from lastlayer.networks.layers import LAYERS, collapse
from lastlayer.networks.lsuv import lsuv
from lastlayer.networks.network import Network
from lastlayer.networks.presets import Preset, is_network, parse

__all__ = [
    "ACTIVATIONS",
    "LAYERS",
    "Architecture",
    "Layer",
    "Mode",
    "Network",
    "Parameter",
    "Preset",
    "collapse",
    "is_network",
    "layer_problem",
    "lsuv",
    "parse",
]
