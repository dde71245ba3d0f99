"""Built-in data: ``demo:digits``, real handwritten digits that come with scikit-learn."""

from __future__ import annotations

import numpy as np

from lastlayer._arrays import InputError
from lastlayer.data.arrays import Part, array_listing
from lastlayer.data.dataset import NONE
from lastlayer.data.listing import Listing


def read_demo(name: str) -> Listing:
    """List a built-in set by its name (after ``demo:``).

    ``digits``: 1,797 images, 8 × 8, 10 classes, values 0..16 scaled to 0..255 (Alpaydin and Kaynak 1998, UCI
    "Optical Recognition of Handwritten Digits", its test part).

    Raises
    ------
    InputError
        When there is no such set.
    """
    if name != "digits":
        raise InputError(f"there is no built-in data set {name!r}", "The one there is: demo:digits", "LL001")
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
    return array_listing("built-in handwritten digits", [Part(NONE, pixels[..., None], digits.target, "y")])
