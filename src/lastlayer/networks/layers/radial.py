"""Radial outputs: the score of a class is how near the features are to its code (LeCun et al. 1998, equation 7)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, final

import numpy as np

from lastlayer._arrays import Float32
from lastlayer._errors import InputError
from lastlayer.networks import _checks as check
from lastlayer.networks.base import Layer, Mode, Parameter, Shape
from lastlayer.networks.layers.digits import DIGITS


@final
@dataclass(frozen=True)
class RadialOutputs(Layer):
    """``score_k = -½ |x - w_k|²``; LeCun's penalty is ``y_k = |x - w_k|² = -2 score_k``.

    Up to the number ``-½|x|²``, which is the same for every class of a row, it is a linear layer with weights w_k and
    biases ``-½|w_k|²``.

    Parameters
    ----------
    classes : int
    codes : {"digits", "random"}
        The centres w_k, ±1: stylised 7x12 pictures of the digits for ten classes and 84 features, or random signs.
    learned : bool
        Whether training moves the centres; the published network keeps them.
    seed : int
        Of the random codes.

    Shapes
    ------
    x : (D,); weight : (classes, D).
    """

    classes: int
    codes: str = "random"
    learned: bool = False
    seed: int = 0

    kind: ClassVar[str] = "radial_outputs"

    def __post_init__(self) -> None:
        check.whole(self.kind, "classes", self.classes)
        check.choice(self.kind, "codes", self.codes, ("digits", "random"))
        check.flag(self.kind, "learned", self.learned)
        check.whole(self.kind, "seed", self.seed, 0, 2**32 - 1)
        if self.codes == "digits":
            check.whole("radial_outputs with codes of digits", "classes", self.classes, 10, 10)

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of the output; refuses what does not fit."""
        if len(shape) != 1:
            raise InputError(f"radial outputs need a row of features and are given {check.size(shape)}")
        if self.codes == "digits" and shape[0] != DIGITS.shape[1]:
            raise InputError(
                f"radial outputs: the digits' codes have {DIGITS.shape[1]} numbers and the features {shape[0]}",
                "Use codes random",
            )
        return (self.classes,)

    def parameters(self, shape: Shape) -> dict[str, Parameter]:
        """Learned and fixed arrays, as in `Shapes`."""
        start = _digits if self.codes == "digits" else partial(_signs, seed=self.seed)
        return {"weight": Parameter((self.classes, shape[0]), start, learned=self.learned)}

    def forward(self, x: Any, parameters: Mapping[str, Any], mode: Mode) -> Any:
        """Apply it to a batch."""
        w = parameters["weight"]
        linear = check.functional().linear(x, w, -0.5 * (w * w).sum(1))
        return linear - 0.5 * (x * x).sum(1, keepdim=True)

    def multiply_adds(self, shape: Shape) -> int:
        """Of one example."""
        return shape[0] * self.classes

    def describe(self) -> str:
        """Kind and settings."""
        return f"radial outputs {self.classes}, codes {self.codes}" + ("" if self.learned else ", fixed")


def _digits(rng: np.random.Generator, shape: Shape) -> Float32:
    return DIGITS.astype(np.float32)


def _signs(rng: np.random.Generator, shape: Shape, seed: int) -> Float32:
    """Codes from the seed alone, so that a model's are those of its description."""
    return np.random.default_rng(seed).choice(np.array([-1.0, 1.0], dtype=np.float32), size=shape)
