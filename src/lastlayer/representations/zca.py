"""ZCA whitening: decorrelated features as near as possible to the given ones (Bell & Sejnowski 1997).

φ(z) = V diag(λ + ε)^(-½) Vᵀ (z - μ),     (1/N) Σᵢ (zᵢ - μ)(zᵢ - μ)ᵀ = V diag(λ) Vᵀ
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self, final

import numpy as np

from lastlayer._arrays import Array, Float32, FloatArray, InputError
from lastlayer.representations._products import map_rows, spectrum
from lastlayer.representations.maps import (
    FeatureMap,
    check_inputs,
    check_number,
    check_training,
    check_width,
    frozen,
)


@final
@dataclass(frozen=True, eq=False)
class ZCA(FeatureMap):
    """Whitening that stays in the features' own coordinates, so that weights can still be drawn.

    Parameters
    ----------
    eps : float
        ε > 0, added to every variance, in squared units of the features: directions of less variance are not blown up.
    mean, matrix : float32 (D,) and (D, D), optional
        μ and ``V diag(λ + ε)^(-½) Vᵀ``; None before `fit`.
    """

    eps: float = 0.01
    mean: Float32 | None = field(default=None, kw_only=True, repr=False)
    matrix: Float32 | None = field(default=None, kw_only=True, repr=False)

    name: ClassVar[str] = "zca"
    learns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "eps", check_number("zca", "eps", self.eps, 1e-12, 1e12))
        if self.mean is None and self.matrix is None:
            return
        mean = frozen("zca", "mean", self.mean, np.float32, 1)
        matrix = frozen("zca", "matrix", self.matrix, np.float32, 2)
        if matrix.shape != (len(mean), len(mean)):
            raise InputError(f"zca: mean {mean.shape} and matrix {matrix.shape} do not belong together")
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "matrix", matrix)

    def fit(self, Z: Float32, rng: np.random.Generator) -> Self:
        """Decompose the covariance of the training rows."""
        check_training("zca", Z)
        mean, variances, directions = spectrum(Z)
        # directions in which nothing was seen have variance 0: V diag(a - b) Vᵀ + b I has a there and b elsewhere
        blind = self.eps**-0.5
        matrix = (directions * ((variances + self.eps) ** -0.5 - blind)) @ directions.T
        matrix[np.diag_indices_from(matrix)] += blind
        return replace(self, mean=mean.astype(np.float32), matrix=matrix.astype(np.float32))

    def transform(self, Z: Float32) -> Float32:
        """Whitened features (N, D)."""
        mean, matrix = self._fitted()
        check_inputs("zca", Z, len(mean))
        shift, right = mean.astype(np.float64), matrix.astype(np.float64)

        def block(rows: FloatArray) -> FloatArray:
            rows -= shift
            return np.asarray(rows @ right)

        return map_rows(block, Z, len(mean))

    def width(self, n_inputs: int) -> int:
        """D."""
        check_width("zca", n_inputs, None if self.mean is None else len(self.mean))
        return n_inputs

    def pull_back(self, W: FloatArray) -> FloatArray:
        """The matrix times W."""
        return np.asarray(self._fitted()[1] @ W)

    def parameters(self) -> dict[str, Any]:
        """Return eps."""
        return {"eps": self.eps}

    def arrays(self) -> dict[str, Array]:
        """Mean and matrix."""
        mean, matrix = self._fitted()
        return {"mean": mean, "matrix": matrix}

    def describe(self) -> str:
        """That it whitens, and ε."""
        return f"ZCA whitening (ε = {self.eps:g})"

    def _fitted(self) -> tuple[Float32, Float32]:
        if self.mean is None or self.matrix is None:
            raise InputError("zca is not fitted", "Call zca.fit(features, rng) first and use what it returns")
        return self.mean, self.matrix
