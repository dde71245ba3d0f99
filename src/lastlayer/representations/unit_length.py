"""Rows of length 1: φ(z) = z / ‖z‖; a row of zeros stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import numpy as np

from lastlayer._arrays import Array, Float32, FloatArray
from lastlayer.representations.maps import FeatureMap

_ROWS = 1024


@final
@dataclass(frozen=True)
class UnitLength(FeatureMap):
    """Divides every row by its length, so that scalar products are cosines."""

    name: ClassVar[str] = "l2"
    learns: ClassVar[bool] = False

    def fit(self, Z: Float32, rng: np.random.Generator) -> Self:
        """Nothing is learned."""
        return self

    def transform(self, Z: Float32) -> Float32:
        """Features (N, D)."""
        out = np.empty(Z.shape, np.float32)
        for start in range(0, len(Z), _ROWS):
            rows = Z[start : start + _ROWS].astype(np.float64)
            length = np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
            out[start : start + len(rows)] = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
        return out

    def width(self, n_inputs: int) -> int:
        """D."""
        return n_inputs

    def pull_back(self, W: FloatArray) -> None:
        """Division by the length is not linear."""
        return None

    def parameters(self) -> dict[str, Any]:
        """No parameters."""
        return {}

    def arrays(self) -> dict[str, Array]:
        """Nothing is learned."""
        return {}

    def describe(self) -> str:
        """That rows have length 1."""
        return "length 1"
