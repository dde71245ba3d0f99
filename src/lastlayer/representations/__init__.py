"""φ: from uint8 images (N, H, W, C) to float32 features (N, D).

``pixels``, ``hog``, ``colour``, ``words``, ``patches`` and frozen networks, with steps before them, maps after them,
joined by ``+``; `parse_phi` reads them from text. Add one by writing its frozen dataclass in a file here and naming it
in `registry.py`.
"""

from lastlayer.representations.base import Representation, Template
from lastlayer.representations.cache import FeatureCache, default_cache_folder
from lastlayer.representations.chain import Chain
from lastlayer.representations.colour import Colour
from lastlayer.representations.concatenate import Concatenate
from lastlayer.representations.gradients import orientation_histogram
from lastlayer.representations.hog import Hog
from lastlayer.representations.lbp import LocalBinaryPatterns
from lastlayer.representations.maps import FeatureMap
from lastlayer.representations.patches import Patches
from lastlayer.representations.pixels import Pixels
from lastlayer.representations.specs import base_names, code_version, from_spec, parse_phi, to_spec
from lastlayer.representations.standardise import Standardised
from lastlayer.representations.steps import ImageStep
from lastlayer.representations.words import Words

__all__ = [
    "Chain",
    "Colour",
    "Concatenate",
    "FeatureCache",
    "FeatureMap",
    "Hog",
    "ImageStep",
    "LocalBinaryPatterns",
    "Patches",
    "Pixels",
    "Representation",
    "Standardised",
    "Template",
    "Words",
    "base_names",
    "code_version",
    "default_cache_folder",
    "from_spec",
    "orientation_histogram",
    "parse_phi",
    "to_spec",
]
