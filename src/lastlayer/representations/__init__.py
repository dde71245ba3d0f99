"""φ: from uint8 images (N, H, W, C) to float32 features (N, D).

``pixels``, ``hog`` and ``colour``, joined by ``+`` and standardised; `parse_phi` reads them from text. Add one by
writing its frozen dataclass in a file here and naming it in `specs.py`.
"""

from lastlayer.representations.base import Representation, Template
from lastlayer.representations.cache import FeatureCache, default_cache_folder
from lastlayer.representations.colour import Colour
from lastlayer.representations.concatenate import Concatenate
from lastlayer.representations.gradients import orientation_histogram
from lastlayer.representations.hog import Hog
from lastlayer.representations.pixels import Pixels
from lastlayer.representations.specs import code_version, from_spec, parse_phi, to_spec
from lastlayer.representations.standardise import Standardised

__all__ = [
    "Colour",
    "Concatenate",
    "FeatureCache",
    "Hog",
    "Pixels",
    "Representation",
    "Standardised",
    "Template",
    "code_version",
    "default_cache_folder",
    "from_spec",
    "orientation_histogram",
    "parse_phi",
    "to_spec",
]
