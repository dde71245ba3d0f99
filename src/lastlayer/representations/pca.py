"""Principal components: the directions in which training rows vary most (Pearson 1901; Hotelling 1933).

φ(z) = Vₙᵀ (z - μ),   whitened  diag(λ)^(-½) Vₙᵀ (z - μ),   (1/N) Σᵢ (zᵢ - μ)(zᵢ - μ)ᵀ = V diag(λ) Vᵀ
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self, final

import numpy as np

from lastlayer._arrays import Array, Float32, FloatArray, InputError
from lastlayer.representations._checks import check_flag, check_whole
from lastlayer.representations._products import map_rows, spectrum
from lastlayer.representations.maps import (
    WIDEST,
    FeatureMap,
    check_inputs,
    check_training,
    check_width,
    frozen,
)

_ROUNDING = 1e-7
"""Share of the largest standard deviation below which one is rounding of float32 features."""


@final
@dataclass(frozen=True, eq=False)
class PCA(FeatureMap):
    """The first n principal components.

    Parameters
    ----------
    n : int or float
        How many; or, below 1, the share of the variance that they must hold.
    whiten : bool
        Divide each by its standard deviation over the training rows; one that is rounding becomes 0.
    mean, directions : float32 (D,) and (D, n), optional
        μ and V, divided by √λ when whitened; None before `fit`.
    """

    n: int | float = 0.95
    whiten: bool = False
    mean: Float32 | None = field(default=None, kw_only=True, repr=False)
    directions: Float32 | None = field(default=None, kw_only=True, repr=False)

    name: ClassVar[str] = "pca"
    learns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if isinstance(self.n, float):
            if not 0 < self.n < 1:
                raise InputError(f"pca: n is {self.n!r}; a whole number, or a share of the variance below 1, is needed")
        else:
            check_whole("pca", "n", self.n, 1, WIDEST)
        check_flag("pca", "whiten", self.whiten)
        if self.mean is None and self.directions is None:
            return
        mean = frozen("pca", "mean", self.mean, np.float32, 1)
        directions = frozen("pca", "directions", self.directions, np.float32, 2)
        if len(mean) != len(directions) or directions.shape[1] != (self.n if self.n >= 1 else directions.shape[1]):
            raise InputError(f"pca: mean {mean.shape} and directions {directions.shape} do not fit n={self.n}")
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "directions", directions)

    def fit(self, Z: Float32, rng: np.random.Generator) -> Self:
        """Decompose the covariance of the training rows."""
        check_training("pca", Z)
        most = min(Z.shape)
        if self.n > most:
            raise InputError(
                f"pca: n={self.n} components of {Z.shape[1]} features of {len(Z)} training rows",
                f"At most {most} can be had; give n={most} or fewer",
            )
        mean, variances, directions = spectrum(Z)
        kept = int(self.n) if self.n >= 1 else _enough(variances, self.n)
        directions = directions[:, :kept]
        if self.whiten:
            deviation = np.sqrt(variances[:kept])
            real = deviation > _ROUNDING * np.sqrt(variances[0])
            directions = directions * np.divide(1.0, deviation, out=np.zeros(kept), where=real)
        return replace(self, mean=mean.astype(np.float32), directions=directions.astype(np.float32))

    def transform(self, Z: Float32) -> Float32:
        """Components (N, n)."""
        mean, directions = self._fitted()
        check_inputs("pca", Z, len(mean))
        shift, right = mean.astype(np.float64), directions.astype(np.float64)

        def block(rows: FloatArray) -> FloatArray:
            rows -= shift
            return np.asarray(rows @ right)

        return map_rows(block, Z, directions.shape[1])

    def width(self, n_inputs: int) -> int:
        """N."""
        check_width("pca", n_inputs, None if self.mean is None else len(self.mean))
        return int(self._fitted()[1].shape[1])

    def pull_back(self, W: FloatArray) -> FloatArray:
        """``V W``."""
        return np.asarray(self._fitted()[1] @ W)

    def parameters(self) -> dict[str, Any]:
        """Return n and whiten."""
        return {"n": self.n, "whiten": self.whiten}

    def arrays(self) -> dict[str, Array]:
        """Mean and directions."""
        mean, directions = self._fitted()
        return {"mean": mean, "directions": directions}

    def describe(self) -> str:
        """How many components, and whether whitened."""
        n = self.n if self.directions is None else self.directions.shape[1]
        return f"{n} principal components{', whitened' if self.whiten else ''}"

    def _fitted(self) -> tuple[Float32, Float32]:
        if self.mean is None or self.directions is None:
            raise InputError("pca is not fitted", "Call pca.fit(features, rng) first and use what it returns")
        return self.mean, self.directions


def _enough(variances: FloatArray, share: float) -> int:
    """Fewest components that hold that share of the variance; one where nothing varies."""
    held = np.cumsum(variances)
    return int(np.searchsorted(held, share * held[-1])) + 1 if held[-1] > 0 else 1
