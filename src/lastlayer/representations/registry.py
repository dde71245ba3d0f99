"""Names in texts and model files, and the classes behind them. A new one joins its table here, and nothing else.

What can be typed are the fields that a class takes by position; what is keyword-only (the image shape, fitted arrays)
comes from `fit` or from a model file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from lastlayer.representations.base import Representation
from lastlayer.representations.blur import Blur
from lastlayer.representations.colour import Colour
from lastlayer.representations.contrast import Contrast
from lastlayer.representations.crop import Crop
from lastlayer.representations.denoise import Denoise
from lastlayer.representations.deskew import Deskew
from lastlayer.representations.equalise import Equalise
from lastlayer.representations.fourier import FourierFeatures
from lastlayer.representations.hog import Hog
from lastlayer.representations.lbp import LocalBinaryPatterns
from lastlayer.representations.maps import FeatureMap
from lastlayer.representations.median import Median
from lastlayer.representations.monomials import Monomials
from lastlayer.representations.network import NetworkFeatures, network_settings
from lastlayer.representations.nystrom_features import NystromFeatures
from lastlayer.representations.onnx import Onnx, onnx_settings
from lastlayer.representations.patches import Patches
from lastlayer.representations.pca import PCA
from lastlayer.representations.pixels import Pixels
from lastlayer.representations.power import Power
from lastlayer.representations.products import Products
from lastlayer.representations.radial import RadialFeatures
from lastlayer.representations.resize import Resize
from lastlayer.representations.second_layer import Patches2
from lastlayer.representations.steps import ImageStep
from lastlayer.representations.torch import Torch, timm_settings, torch_settings, torchvision_settings
from lastlayer.representations.unit_length import UnitLength
from lastlayer.representations.words import Words
from lastlayer.representations.zca import ZCA

STEPS: Mapping[str, Callable[..., ImageStep]] = {
    "deskew": Deskew,
    "blur": Blur,
    "denoise": Denoise,
    "median": Median,
    "contrast": Contrast,
    "equalise": Equalise,
    "crop": Crop,
    "resize": Resize,
}
BASES: Mapping[str, Callable[..., Representation]] = {
    "pixels": Pixels,
    "hog": Hog,
    "colour": Colour,
    "products": Products,
    "patches": Patches,
    "patches2": Patches2,
    "words": Words,
    "lbp": LocalBinaryPatterns,
    "onnx": Onnx,
    "torch": Torch,
    "timm": Torch,
    "torchvision": Torch,
    "network": NetworkFeatures,
}
MAPS: Mapping[str, Callable[..., FeatureMap]] = {
    "pca": PCA,
    "zca": ZCA,
    "poly": Monomials,
    "rff": FourierFeatures,
    "rbf": RadialFeatures,
    "nystrom": NystromFeatures,
    "power": Power,
    "l2": UnitLength,
}

MAIN: Mapping[str, str] = {
    "deskew": "ground",
    "blur": "sigma",
    "denoise": "below",
    "contrast": "spread",
    "crop": "margin",
    "resize": "size",
    "products": "radius",
    "words": "words",
    "lbp": "grid",
    "pca": "n",
    "zca": "eps",
    "poly": "degree",
    "rff": "n",
    "rbf": "n",
    "nystrom": "n",
    "power": "exponent",
}
"""The parameter that may be given without its name, as the first one."""
FILES: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "onnx": onnx_settings,
    "torch": torch_settings,
    "timm": timm_settings,
    "torchvision": torchvision_settings,
    "network": network_settings,
}
"""Bases named by a file or a module, which read their own settings: all that follows the colon, "/" included."""
SHORT: Mapping[str, Mapping[str, str]] = {
    "pixels": {"colour": "color"},
    "hog": {"cell": "pixels_per_cell", "bins": "orientations", "block": "cells_per_block", "norm": "block_norm"},
    "rbf": {"centers": "centres"},
}
"""Short and other names of parameters."""
OTHER_NAMES = {
    "color": "colour",
    "raw": "pixels",
    "equalize": "equalise",
    "normalise": "l2",
    "normalize": "l2",
    "quadratic": "poly:2",
    "sqrt": "power:0.5",
}
"""Other names; with a parameter where it is part of the meaning."""


def typed(name: str) -> list[str]:
    """Parameters that a text or a specification may give."""
    return [field.name for field in fields(_class(name)) if not field.kw_only]


def fitted(name: str) -> list[str]:
    """Arrays that `fit` gives, which the constructor takes by name."""
    return [field.name for field in fields(_class(name)) if field.kw_only and field.name != "image_shape"]


def _class(name: str) -> Any:
    return {**STEPS, **BASES, **MAPS}[name]
