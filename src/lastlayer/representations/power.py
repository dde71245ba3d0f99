"""Signed powers: large features count less (Perronnin, Sánchez & Mensink 2010). φ(z) = sign(z) |z|^p."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import numpy as np

from lastlayer._arrays import Array, Float32, FloatArray
from lastlayer.representations.maps import FeatureMap, check_number

_ROWS = 1024


@final
@dataclass(frozen=True)
class Power(FeatureMap):
    """Every feature to a power, keeping its sign.

    Parameters
    ----------
    exponent : float
        p > 0; 0.5 is the signed square root.
    """

    exponent: float = 0.5

    name: ClassVar[str] = "power"
    learns: ClassVar[bool] = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "exponent", check_number("power", "exponent", self.exponent, 0.01, 8.0))

    def fit(self, Z: Float32, rng: np.random.Generator) -> Self:
        """Nothing is learned."""
        return self

    def transform(self, Z: Float32) -> Float32:
        """Features (N, D)."""
        out = np.empty(Z.shape, np.float32)
        for start in range(0, len(Z), _ROWS):
            rows = Z[start : start + _ROWS].astype(np.float64)
            size = np.sqrt(np.abs(rows)) if self.exponent == 0.5 else np.abs(rows) ** self.exponent
            out[start : start + len(rows)] = np.copysign(size, rows)
        return out

    def width(self, n_inputs: int) -> int:
        """D."""
        return n_inputs

    def pull_back(self, W: FloatArray) -> FloatArray | None:
        """W itself for the first power; other powers are not linear."""
        return W if self.exponent == 1.0 else None

    def parameters(self) -> dict[str, Any]:
        """Return exponent."""
        return {"exponent": self.exponent}

    def arrays(self) -> dict[str, Array]:
        """Nothing is learned."""
        return {}

    def describe(self) -> str:
        """The power."""
        return "signed square root" if self.exponent == 0.5 else f"signed power {self.exponent:g}"
