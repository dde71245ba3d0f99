"""Small fitted models for tests, of any representation, with class names that are hard to write down."""

from __future__ import annotations

from typing import Any

import numpy as np

from lastlayer._arrays import UInt8
from lastlayer.data.images import ImageFormat
from lastlayer.model import Model
from lastlayer.representations.specs import parse_phi
from lastlayer.representations.standardise import Standardised

NAMES = ("cat", "naïve 猫 😀", "\udcff\n\"'\\", "")
PROVENANCE = {"lastlayer": "0.1.0", "phi": "pixels", "head": "logistic", "C": 0.1, "data_sha256": "9f3c", "seed": 0}


def pictures(count: int, form: ImageFormat, seed: int = 0) -> UInt8:
    shape = (count, form.height, form.width, form.channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def make_model(
    phi: str = "pixels", form: ImageFormat | None = None, names: tuple[str, ...] = NAMES, **changes: Any
) -> Model:
    form = form or ImageFormat(16, 16, 3)
    base = parse_phi(phi.removesuffix(", standardised"))
    unfitted = Standardised(base) if "standardised" in phi else base
    fitted = unfitted.fit(pictures(20, form), np.random.default_rng(0))
    rng = np.random.default_rng(1)
    parts: dict[str, Any] = {
        "class_names": names,
        "image_format": form,
        "representation": fitted,
        "weights": rng.normal(size=(fitted.n_features, len(names))).astype(np.float32),
        "bias": rng.normal(size=len(names)).astype(np.float32),
        "loss": "cross_entropy",
        "temperature": 1.5,
        "provenance": PROVENANCE,
    }
    return Model(**(parts | changes))
