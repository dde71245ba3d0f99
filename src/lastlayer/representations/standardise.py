"""Standardised features: (φ(x) − mean) / scale, column by column, with the training rows' statistics.

mean_j = (1/N) Σᵢ Z_ij        scale_j = √( (1/N) Σᵢ (Z_ij − mean_j)² ), or 1 where the column is constant
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, final

import numpy as np

from lastlayer._arrays import Array, Float32, Float64, FloatArray, InputError, UInt8
from lastlayer.representations.base import Representation, Shape, Template, check_weights

_BLOCK_NUMBERS = 4_194_304  # entries of a block: float64 copies of 32 MB


@final
@dataclass(frozen=True, eq=False)
class Standardised(Representation):
    """A representation whose columns have mean 0 and variance 1 over the training rows.

    Parameters
    ----------
    base : Representation
        φ.
    mean, scale : float32 (D,), optional
        The statistics; None before `fit`.
    """

    base: Representation
    mean: Float32 | None = None
    scale: Float32 | None = None

    name: ClassVar[str] = "standardised"

    def __post_init__(self) -> None:
        if (self.mean is None) != (self.scale is None):
            raise InputError("standardised: mean and scale belong together")
        for name in ("mean", "scale"):
            array = getattr(self, name)
            if array is not None:
                object.__setattr__(self, name, _checked(name, array, self.base.n_features))

    @classmethod
    def from_features(cls, base: Representation, Z: Float32) -> Standardised:
        """Statistics of training features Z (N, D) of a fitted `base`, in float64 over fixed blocks of rows."""
        if Z.ndim != 2 or len(Z) < 1 or Z.shape[1] != base.n_features:
            raise InputError(f"features have shape {Z.shape}; (N, {base.n_features}) with N > 0 is needed")
        mean, scale = _column_statistics(Z)
        return cls(base, mean.astype(np.float32), scale.astype(np.float32))

    @property
    def image_shape(self) -> Shape | None:
        """(H, W, C) of the base."""
        return self.base.image_shape

    def fit(self, images: UInt8, rng: np.random.Generator) -> Self:
        """Fit the base, then the statistics of its features."""
        base = self.base.fit(images, rng)
        fitted = Standardised.from_features(base, base.transform(images))
        return replace(self, base=base, mean=fitted.mean, scale=fitted.scale)

    def transform(self, images: UInt8) -> Float32:
        """Standardised features (N, D)."""
        Z = self.base.transform(images)
        return self._apply(Z, out=Z)

    def apply(self, Z: Float32) -> Float32:
        """Standardise features (N, D) of the base that were computed before; a new array."""
        if Z.ndim != 2 or Z.shape[1] != self.n_features:
            raise InputError(f"features have shape {Z.shape}; (N, {self.n_features}) is needed")
        return self._apply(Z, out=np.empty(Z.shape, np.float32))

    def _apply(self, Z: Float32, out: Float32) -> Float32:
        mean, scale = self._fitted()
        rows = max(1, 65_536 // Z.shape[1])
        for start in range(0, len(Z), rows):
            block = slice(start, start + rows)
            np.subtract(Z[block], mean, out=out[block])
            out[block] /= scale
        return out

    def _fitted(self) -> tuple[Float32, Float32]:
        if self.mean is None or self.scale is None:
            raise InputError("standardised is not fitted", "Call fit(images, rng) first and use what it returns")
        return self.mean, self.scale

    @property
    def n_features(self) -> int:
        """D of the base."""
        return self.base.n_features

    def parameters(self) -> dict[str, Any]:
        """Nothing beside the base."""
        return {}

    def arrays(self) -> dict[str, Array]:
        """Mean and scale, and the base's arrays with "base." before their names."""
        mean, scale = self._fitted()
        return {"mean": mean, "scale": scale, **{f"base.{name}": a for name, a in self.base.arrays().items()}}

    def describe(self) -> str:
        """The base's line, and that it is standardised."""
        return f"{self.base.describe()}, standardised"

    def templates(self, W: FloatArray) -> tuple[Template, ...]:
        """Pictures of the weights as they act on standardised features: per standard deviation of each feature.

        Weights on the base's own features, W / scale, are huge where a feature hardly ever moves (a pixel at the
        border of a digit) and would hide those that decide.
        """
        self._fitted()
        return tuple(
            replace(template, note=f"{template.note} Weights are per standard deviation over the training images.")
            for template in self.base.templates(check_weights(W, self.n_features, self.name))
        )


def _checked(name: str, array: Array, n_features: int) -> Float32:
    if array.dtype != np.float32 or array.shape != (n_features,) or not np.isfinite(array).all():
        raise InputError(f"standardised: {name} is no finite float32 array of shape ({n_features},)")
    if name == "scale" and not (array > 0).all():
        raise InputError("standardised: a scale is not positive")
    array = np.array(array)
    array.flags.writeable = False
    return array


def _column_statistics(Z: Float32) -> tuple[Float64, Float64]:
    """Mean and scale of each column: two passes in float64, the second one about the mean."""
    n, D = Z.shape
    rows = max(1, _BLOCK_NUMBERS // D)
    starts = range(0, n, rows)
    total, squares = np.zeros(D), np.zeros(D)
    for start in starts:
        total += Z[start : start + rows].sum(axis=0, dtype=np.float64)
    mean = total / n
    for start in starts:
        deviation = Z[start : start + rows] - mean
        squares += np.einsum("ij,ij->j", deviation, deviation)
    scale = np.sqrt(squares / n)
    # the sum of equal float32 numbers is exact in float64, so that a constant column has a spread of exactly 0
    return mean, np.where(scale < np.finfo(np.float32).tiny, 1.0, scale)
