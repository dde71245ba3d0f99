"""Radial basis functions: how near a row is to each of m centres (Broomhead & Lowe 1988; LeCun et al. 1998).

φ(z) = (exp(-γ ‖z - c₁‖²), …, exp(-γ ‖z - cₘ‖²))
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self, final

import numpy as np

from lastlayer._arrays import Array, Float32, FloatArray, InputError
from lastlayer._threads import single_blas_thread
from lastlayer.representations._checks import check_choice, check_whole
from lastlayer.representations._products import map_rows
from lastlayer.representations.bandwidth import check_gamma, typical_gamma
from lastlayer.representations.kernels import RBF
from lastlayer.representations.landmarks import CHOICES, choose_landmarks
from lastlayer.representations.maps import FeatureMap, check_inputs, check_training, check_width, frozen

_MOST = 100_000


@final
@dataclass(frozen=True, eq=False)
class RadialFeatures(FeatureMap):
    """Gaussian bumps around centres of groups of training rows.

    Parameters
    ----------
    n : int
        m; all training rows where there are no more.
    gamma : float or "auto"
        γ > 0; "auto" is one over the median squared distance of training rows.
    centres : {"kmeans", "uniform"}
        Centres of groups of rows, whatever their classes, or rows drawn at random.
    points : float32 (m, D), optional
        The centres; None before `fit`.
    """

    n: int = 1000
    gamma: float | str = "auto"
    centres: str = "kmeans"
    points: Float32 | None = field(default=None, kw_only=True, repr=False)

    name: ClassVar[str] = "rbf"
    learns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_whole("rbf", "n", self.n, 1, _MOST)
        check_choice("rbf", "centres", self.centres, CHOICES)
        object.__setattr__(self, "gamma", check_gamma("rbf", self.gamma))
        if self.points is None:
            return
        points = frozen("rbf", "points", self.points, np.float32, 2)
        if len(points) > self.n or self.gamma == "auto":
            raise InputError(f"rbf: {len(points)} centres, gamma {self.gamma} and n={self.n} do not fit")
        object.__setattr__(self, "points", points)

    def fit(self, Z: Float32, rng: np.random.Generator) -> Self:
        """Choose γ where it was not given, and the centres."""
        check_training("rbf", Z)
        gamma = typical_gamma(Z, rng) if self.gamma == "auto" else float(self.gamma)
        with single_blas_thread():
            points = choose_landmarks(Z, self.n, self.centres, rng)
        return replace(self, gamma=gamma, points=points.astype(np.float32))

    def transform(self, Z: Float32) -> Float32:
        """Features (N, m), between 0 and 1."""
        points = self._fitted()
        check_inputs("rbf", Z, points.shape[1])
        return map_rows(RBF(float(self.gamma)).against(points.astype(np.float64)), Z, len(points))

    def width(self, n_inputs: int) -> int:
        """M."""
        check_width("rbf", n_inputs, None if self.points is None else self.points.shape[1])
        return len(self._fitted())

    def pull_back(self, W: FloatArray) -> None:
        """Bumps are not linear."""
        return None

    def parameters(self) -> dict[str, Any]:
        """Return n, gamma and centres."""
        return {"n": self.n, "gamma": self.gamma, "centres": self.centres}

    def arrays(self) -> dict[str, Array]:
        """The centres."""
        return {"points": self._fitted()}

    def describe(self) -> str:
        """How many, and γ."""
        width = self.gamma if self.gamma == "auto" else f"{self.gamma:.4g}"
        return f"{self.n if self.points is None else len(self.points)} radial basis functions (γ = {width})"

    def _fitted(self) -> Float32:
        if self.points is None:
            raise InputError("rbf is not fitted", "Call rbf.fit(features, rng) first and use what it returns")
        return self.points
