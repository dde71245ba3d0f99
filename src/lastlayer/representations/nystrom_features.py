"""A kernel's features as seen from landmarks, as a feature map; the mathematics is in `nystrom`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Self, final

import numpy as np

from lastlayer._arrays import Array, Float32, Float64, FloatArray, InputError
from lastlayer._threads import single_blas_thread
from lastlayer.representations._checks import check_choice, check_whole
from lastlayer.representations.bandwidth import check_gamma, typical_gamma
from lastlayer.representations.kernels import KERNELS, kernel_named
from lastlayer.representations.landmarks import CHOICES
from lastlayer.representations.maps import (
    FeatureMap,
    check_inputs,
    check_number,
    check_training,
    check_width,
    frozen,
)
from lastlayer.representations.nystrom import NystromMap

_MOST = 100_000


@final
@dataclass(frozen=True, eq=False)
class NystromFeatures(FeatureMap):
    """Features whose scalar products are nearly a kernel's values (Williams & Seeger 2001).

    Parameters
    ----------
    n : int
        Number of landmarks; all training rows where there are no more, and then the map is exact for them.
    kernel : {"rbf", "poly", "laplacian", "linear"}
        ``exp(-γ ‖x - z‖²)``, ``(γ x·z + c)^d``, ``exp(-γ ‖x - z‖₁)``, ``x·z``.
    gamma : float or "auto"
        γ > 0; "auto" makes the kernel of an ordinary pair of training rows 1/e, see `typical_gamma`.
    degree : int
        d of "poly".
    coef0 : float
        c ≥ 0 of "poly".
    landmarks : {"kmeans", "uniform"}
        Centres of groups of rows, or rows drawn at random.
    points, projection : float64 (m, D) and (m, r), optional
        The landmarks, and what turns kernel values into features; None before `fit`.
    """

    n: int = 1000
    kernel: str = "rbf"
    gamma: float | str = "auto"
    degree: int = 3
    coef0: float = 1.0
    landmarks: str = "kmeans"
    points: Float64 | None = field(default=None, kw_only=True, repr=False)
    projection: Float64 | None = field(default=None, kw_only=True, repr=False)

    name: ClassVar[str] = "nystrom"
    learns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_whole("nystrom", "n", self.n, 1, _MOST)
        check_choice("nystrom", "kernel", self.kernel, KERNELS)
        check_whole("nystrom", "degree", self.degree, 1, 32)
        check_choice("nystrom", "landmarks", self.landmarks, CHOICES)
        object.__setattr__(self, "coef0", check_number("nystrom", "coef0", self.coef0, 0.0, 1e12))
        object.__setattr__(self, "gamma", check_gamma("nystrom", self.gamma))
        if self.points is None and self.projection is None:
            return
        points = frozen("nystrom", "points", self.points, np.float64, 2)
        projection = frozen("nystrom", "projection", self.projection, np.float64, 2)
        if len(points) != len(projection) or len(points) > self.n or self.gamma == "auto":
            raise InputError(f"nystrom: {points.shape}, {projection.shape}, gamma {self.gamma}, n={self.n} do not fit")
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "projection", projection)

    def fit(self, Z: Float32, rng: np.random.Generator) -> Self:
        """Choose γ where it was not given, choose landmarks and decompose their kernel values."""
        check_training("nystrom", Z)
        gamma = typical_gamma(Z, rng, self.kernel) if self.gamma == "auto" else float(self.gamma)
        chosen = replace(self, gamma=gamma)
        with single_blas_thread():
            found = chosen._map.fit(Z, rng)
        return replace(chosen, points=found.landmarks, projection=found.projection)

    def transform(self, Z: Float32) -> Float32:
        """Features (N, r)."""
        check_inputs("nystrom", Z, self._fitted().shape[1])
        with single_blas_thread():
            return self._map.transform(Z).astype(np.float32)

    def width(self, n_inputs: int) -> int:
        """R."""
        check_width("nystrom", n_inputs, None if self.points is None else self.points.shape[1])
        return self._map.n_features

    def pull_back(self, W: FloatArray) -> None:
        """Kernels are not linear."""
        return None

    def parameters(self) -> dict[str, Any]:
        """Return what can be typed."""
        names = ("n", "kernel", "gamma", "degree", "coef0", "landmarks")
        return {name: getattr(self, name) for name in names}

    def arrays(self) -> dict[str, Array]:
        """Landmarks and projection."""
        points = self._fitted()
        assert self.projection is not None
        return {"points": points, "projection": self.projection}

    def describe(self) -> str:
        """Kernel, γ and number of landmarks."""
        width = self.gamma if self.gamma == "auto" else f"{self.gamma:.4g}"
        landmarks = self.n if self.points is None else len(self.points)
        return f"{self.kernel} kernel from {landmarks} landmarks (γ = {width})"

    @cached_property
    def _map(self) -> NystromMap:
        kernel = kernel_named(self.kernel, float(self.gamma), self.degree, self.coef0)
        return NystromMap(kernel, self.n, self.landmarks, "float64", self.points, self.projection)

    def _fitted(self) -> Float64:
        if self.points is None:
            raise InputError("nystrom is not fitted", "Call nystrom.fit(features, rng) first and use what it returns")
        return self.points
