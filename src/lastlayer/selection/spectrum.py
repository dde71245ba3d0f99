"""Ridge regression in the eigenvectors of the second moments: every λ at once, with exact leave-one-out residuals.

With centred rows z̃, centred targets ỹ, weights w of mean 1, ``S = Σ w z̃ z̃ᵀ / n = V diag(d) Vᵀ`` and
``t = Vᵀ Σ w z̃ ỹᵀ / n``, the minimum of ``Σ w ½‖z̃ W - ỹ‖² / n + (λ/2)‖W‖²`` is ``W(λ) = V (t / (d + λ))``. In the
rotated rows ``q = z̃ V`` the residuals and leverages of all λ are products with the same matrix:

    r(λ) = ỹ - q (t / (d + λ)),      h(λ) = (w/n) (1 + q² · 1/(d + λ)),      r₋ᵢ(λ) = r(λ) / (1 - h(λ)),

the last the residual of a row in the fit of the others (Allen 1974; Golub, Heath & Wahba 1979, eq. 2.3). The one in h
is the intercept. What stays fixed when a row is left out is ``α = λ Σ s``, not λ.

`spectrum_columns` and `spectrum_rows` compute them, each where it is the smaller.

Shapes
------
N rows, D columns, R directions (D, or fewer than N), K targets, L values of λ.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from lastlayer._arrays import Array, BoolArray, Float64, FloatArray
from lastlayer.linear.examples import Examples
from lastlayer.solvers import Preconditioner

CHUNK = 2048
"""Columns of one product, λ by targets: enough for the full rate of the machine, few enough for its caches."""
NOISE = {"float32": 2e-5, "float64": 1e-10}
"""What ``1 - h`` is known to: smaller values are rounding."""


@final
@dataclass(frozen=True, eq=False)
class Residuals:
    """Residuals of some rows, for some λ.

    Shapes
    ------
    fitted, left_out : (n, l, K); undetermined : (n, l), where 1 - h is lost in rounding, so that `left_out` is a
    bounded guess.
    """

    fitted: FloatArray
    left_out: FloatArray
    undetermined: BoolArray


class Spectrum(ABC):
    """The eigendecomposition of a ridge problem."""

    @property
    @abstractmethod
    def values(self) -> Float64:
        """Eigenvalues d, (R,), at least 0."""

    @abstractmethod
    def rotated(self, start: int, stop: int) -> FloatArray:
        """Rows `start` to `stop` in the eigenvectors, (n, R)."""

    @abstractmethod
    def inner(self, l2: FloatArray) -> Float64:
        """λ in the units of the eigenvalues."""

    @abstractmethod
    def residuals(self, q: FloatArray, start: int, stop: int, l2s: Float64) -> Residuals:
        """Residuals of the rows `start` to `stop`, q their `rotated`, for some `inner` λ."""

    @abstractmethod
    def params(self, l2: Float64) -> Float64:
        """The minimum for an `inner` λ as parameters of the objective, (D + 1, K)."""

    @abstractmethod
    def rounding(self, l2: Float64) -> float:
        """Largest relative error of ``d + λ``, for an `inner` λ."""

    @abstractmethod
    def inverse(self, l2: Float64) -> Preconditioner:
        """The inverse Hessian for an `inner` λ, in the span of the rows."""


@final
@dataclass(frozen=True, eq=False)
class Targets:
    """Centred targets of any rows: one-hot for labels, made block by block.

    Attributes
    ----------
    y : ndarray
        (N,) labels or (N, K) targets.
    mean : ndarray
        (K,) what is subtracted; zeros without an intercept.
    """

    y: Array
    mean: Float64

    def block(self, start: int, stop: int) -> Float64:
        """Of rows `start` to `stop`, (n, K)."""
        y = self.y[start:stop]
        if y.ndim == 2:
            return np.asarray(y - self.mean, dtype=np.float64)
        out = np.tile(-self.mean, (len(y), 1))
        out[np.arange(len(y)), y] += 1.0
        return out


def units(examples: Examples) -> tuple[Float64, float]:
    """Factors (D,) from the columns as stored to columns as given times one number, and that number.

    The number brings the widest column to a range near 1, so that no square leaves the range of the products; it is
    the same for all columns, so that the penalty stays a multiple of the identity. Constant columns get 0.
    """
    scale = examples.scale()
    live = examples.live
    least = float(scale[live].min()) if live.any() else 1.0
    return np.where(live, least / scale, 0.0), least


def smallest(values: Float64, dtype: Any) -> float:
    """What eigenvalues are known to, when the matrix was made of products of that type."""
    return len(values) * float(np.finfo(dtype).eps) * float(values.max(initial=0.0))


def inverse_of(values: Float64, l2s: Float64, floor: float) -> Float64:
    """``1 / (d + λ)``, (R, L).

    Directions whose eigenvalue is rounding (up to `floor`) get 0 where λ is 0, or no more than the rounding of the
    eigendecomposition itself.
    """
    total = values[:, None] + l2s
    there = (l2s > smallest(values, np.float64)) | (values[:, None] > floor)
    return np.divide(1.0, total, out=np.zeros_like(total), where=there)
