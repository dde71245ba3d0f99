"""Approximate inverses of the Hessian, from the features' own second moments.

The Hessian of a loss of linear scores is about ``α S ⊗ I + diag(λ)`` with S the centred second moments (Böhning 1992
bounds the softmax's by α = ½). Its inverse, applied to every class column, turns long narrow valleys into bowls.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import numpy as np

from lastlayer._arrays import Float64, FloatArray


class Preconditioner(ABC):
    """An approximate inverse Hessian, symmetric and positive semi-definite."""

    @abstractmethod
    def apply(self, gradient: Float64) -> Float64:
        """Multiply a gradient (D + 1, K), the bias last, by it."""


@final
@dataclass(frozen=True, eq=False)
class FactoredInverse(Preconditioner):
    """``(α S + diag(λ))⁻¹ = Mᵀ M`` for the weights and ``1/α`` for the bias.

    Attributes
    ----------
    factor : ndarray
        M (D, D), lower triangular.
    curvature : float
        α.
    """

    factor: FloatArray
    curvature: float

    def apply(self, gradient: Float64) -> Float64:
        """The product."""
        out = np.empty_like(gradient)
        # The gradient's own size is divided out first: near the optimum it may leave the range of float32.
        size = float(np.abs(gradient).max()) or 1.0
        right = (gradient[:-1] / size).astype(self.factor.dtype)
        out[:-1] = self.factor.T @ (self.factor @ right)
        out[:-1] *= size
        out[-1] = gradient[-1] / self.curvature
        return out


@final
@dataclass(frozen=True, eq=False)
class SampledInverse(Preconditioner):
    """``(α XᵀX + δ I)⁻¹ = (I - Xᵀ (X Xᵀ + δ/α I)⁻¹ X) / δ`` for the weights (Woodbury) and ``1/α`` for the bias.

    For more columns than D² numbers can be had for: X holds m of the rows, m far below D.

    Attributes
    ----------
    X : ndarray
        (m, D) rows, centred and scaled by 1/√m.
    factor : ndarray
        M (m, m), lower triangular, with ``Mᵀ M = (X Xᵀ + δ/α I)⁻¹``.
    rest : float
        δ.
    curvature : float
        α.
    """

    X: FloatArray
    factor: FloatArray
    rest: float
    curvature: float

    def apply(self, gradient: Float64) -> Float64:
        """The product."""
        out = np.empty_like(gradient)
        size = float(np.abs(gradient).max()) or 1.0
        right = (gradient[:-1] / size).astype(self.X.dtype)
        inside = self.factor.T @ (self.factor @ (self.X @ right))
        # Class by class and row-major: BLAS multiplies few columns slowly where they lie side by side.
        out[:-1] = (np.ascontiguousarray(inside.T) @ self.X).T
        np.subtract(right, out[:-1], out=out[:-1])
        out[:-1] *= size / self.rest
        out[-1] = gradient[-1] / self.curvature
        return out


@final
@dataclass(frozen=True, eq=False)
class PseudoInverse(Preconditioner):
    """``(α S + diag(λ))⁺`` for a singular matrix, through its eigenvectors.

    Eigenvalues that are rounding noise count as zero, so that a step from W = 0 ends at the solution of minimum norm.

    Attributes
    ----------
    vectors : ndarray
        (D, R) eigenvectors of the eigenvalues kept.
    values : ndarray
        (R,) those eigenvalues.
    curvature : float
        α.
    """

    vectors: Float64
    values: Float64
    curvature: float

    @classmethod
    def of(cls, A: Float64, curvature: float, precision: float) -> PseudoInverse:
        """From the matrix (D, D); `precision` is the relative rounding of its entries."""
        values, vectors = np.linalg.eigh(A)
        keep = values > len(values) * precision * max(float(values[-1]), 0.0)
        return cls(vectors[:, keep], values[keep], curvature)

    def apply(self, gradient: Float64) -> Float64:
        """The product."""
        out = np.empty_like(gradient)
        out[:-1] = self.vectors @ ((self.vectors.T @ gradient[:-1]) / self.values[:, None])
        out[-1] = gradient[-1] / self.curvature
        return out
