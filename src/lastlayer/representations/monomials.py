"""All products of up to d features, scaled so that their scalar product is the polynomial kernel's.

    φ(x)·φ(z) = (γ x·z + 1)^d - 1

    degree 2:  √2 √γ xᵢ,   γ xᵢ²,   √2 γ xᵢ xⱼ (i < j)

In general the product of k features that holds feature i mᵢ times is scaled by the root of its multinomial count,
``d! / ((d - k)! Π mᵢ!) γᵏ``. The constant is left out: a classifier has its own. With these scales the penalty ‖W‖² is
the one of the kernel machine (Schölkopf & Smola 2002, section 2.2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement
from typing import Any, ClassVar, Self, final

import numpy as np

from lastlayer._arrays import Array, Float32, Float64, FloatArray, InputError
from lastlayer.representations._checks import check_whole
from lastlayer.representations._threads import spread
from lastlayer.representations.maps import FeatureMap, check_number, check_training

_DEEPEST = 4
_MOST = 200_000
_ROWS = 128


@final
@dataclass(frozen=True)
class Monomials(FeatureMap):
    """Products of features.

    Parameters
    ----------
    degree : int
        d, 1 to 4.
    gamma : float or "auto"
        γ > 0; "auto" makes γ ‖z‖² 1 on average over the training rows.
    """

    degree: int = 2
    gamma: float | str = "auto"

    name: ClassVar[str] = "poly"
    learns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_whole("poly", "degree", self.degree, 1, _DEEPEST)
        if self.gamma != "auto":
            object.__setattr__(self, "gamma", check_number("poly", "gamma", self.gamma, 1e-12, 1e12))

    def fit(self, Z: Float32, rng: np.random.Generator) -> Self:
        """Choose γ where it was not given."""
        check_training("poly", Z)
        if self.gamma != "auto":
            return self
        size = sum(float(np.square(row, dtype=np.float64).sum()) for row in Z) / len(Z)
        return replace(self, gamma=float(np.clip(1.0 / size if size > 0 else 1.0, 1e-12, 1e12)))

    def transform(self, Z: Float32) -> Float32:
        """Features (N, D'): the first powers, the products of two, and so on, each in the order of the features."""
        if Z.ndim != 2:
            raise InputError(f"poly: features have shape {Z.shape}; (N, D) is needed")
        out = np.empty((len(Z), self.width(Z.shape[1])), np.float32)
        scales = self._scales(Z.shape[1])

        def block(start: int) -> None:
            rows = Z[start : start + _ROWS]
            _fill(out[start : start + len(rows)], rows, scales)

        spread(block, range(0, len(Z), _ROWS))
        return out

    def width(self, n_inputs: int) -> int:
        """``(D + d)! / (D! d!) - 1``."""
        if self.gamma == "auto":
            raise InputError("poly is not fitted", "Call poly.fit(features, rng) first and use what it returns")
        wide = math.comb(n_inputs + self.degree, self.degree) - 1
        if wide > _MOST:
            raise InputError(
                f"poly: {n_inputs} features have {wide:,} products of up to {self.degree}; at most {_MOST:,} can be",
                "Reduce them first, as in pca:40/poly:2, or use rff, which approximates such kernels",
            )
        return wide

    def pull_back(self, W: FloatArray) -> None:
        """Products are not linear."""
        return None

    def parameters(self) -> dict[str, Any]:
        """Return degree and gamma."""
        return {"degree": self.degree, "gamma": self.gamma}

    def arrays(self) -> dict[str, Array]:
        """γ is a parameter; nothing else is learned."""
        return {}

    def describe(self) -> str:
        """The degree."""
        return "products of two features" if self.degree == 2 else f"products of up to {self.degree} features"

    def _scales(self, n_inputs: int) -> list[Float32]:
        """Factors of the products of k features, k = 1 … d, in the order of `_fill`."""
        d, gamma = self.degree, float(self.gamma)
        ways = [math.perm(d, k) * gamma**k for k in range(1, d + 1)]
        return [np.sqrt(way / _repetitions(n_inputs, k)).astype(np.float32) for k, way in zip(range(1, d + 1), ways)]


def _repetitions(n_inputs: int, k: int) -> Float64:
    """``Π mᵢ!`` of every product of k of the features, in lexicographic order."""
    chosen = np.fromiter(
        (i for indices in combinations_with_replacement(range(n_inputs), k) for i in indices), dtype=np.int64
    ).reshape(-1, k)
    found = np.ones(len(chosen))
    run = np.ones(len(chosen))
    for column in range(1, k):
        run = np.where(chosen[:, column] == chosen[:, column - 1], run + 1, 1.0)
        found *= run
    return found


def _fill(out: Float32, Z: Float32, scales: list[Float32]) -> None:
    """Products of k features are each feature times the products of k - 1 that begin with it or a later one."""
    D = Z.shape[1]
    previous, starts, at = Z, np.arange(D), 0
    for k, scale in enumerate(scales, start=1):
        if k == 1:
            products = Z
        else:
            sizes = previous.shape[1] - starts
            products = np.empty((len(Z), int(sizes.sum())), np.float32)
            ends = np.cumsum(sizes)
            for i in range(D):
                np.multiply(Z[:, i : i + 1], previous[:, starts[i] :], out=products[:, ends[i] - sizes[i] : ends[i]])
            starts = ends - sizes
        np.multiply(products, scale, out=out[:, at : at + products.shape[1]])
        at += products.shape[1]
        previous = products
