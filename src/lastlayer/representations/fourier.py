"""Random Fourier features: scalar products that are nearly the Gaussian kernel's values, without a landmark.

    φ(z) = √(2/n) (cos ωᵣ·z, …, sin ωᵣ·z, …),   r = 1 … n/2,   ωᵣ ~ N(0, 2γ I)
    E φ(x)·φ(z) = exp(-γ ‖x - z‖²),   standard deviation at most 1/√n

(Rahimi & Recht 2007, "Random features for large-scale kernel machines"; the pairs of cosine and sine have less variance
than cosines of a random phase, Sutherland & Schneider 2015.) Frequencies that are orthogonal to each other, of the
lengths that independent ones have, lower the variance further (Yu et al. 2016, "Orthogonal random features").
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self, final

import numpy as np

from lastlayer._arrays import Array, Float32, Float64, FloatArray, InputError
from lastlayer._threads import single_blas_thread
from lastlayer.representations._checks import check_flag, check_whole
from lastlayer.representations._products import map_rows
from lastlayer.representations.bandwidth import check_gamma, typical_gamma
from lastlayer.representations.maps import FeatureMap, check_inputs, check_training, check_width, frozen

_MOST = 2_000_000


@final
@dataclass(frozen=True, eq=False)
class FourierFeatures(FeatureMap):
    """Cosines and sines of random projections.

    Parameters
    ----------
    n : int
        Number of features, even.
    gamma : float or "auto"
        γ > 0; "auto" is one over the median squared distance of training rows.
    orthogonal : bool
        Whether frequencies come in groups of D orthogonal ones.
    frequencies : float32 (D, n/2), optional
        ω/2π, one a column; None before `fit`.
    """

    n: int = 4096
    gamma: float | str = "auto"
    orthogonal: bool = True
    frequencies: Float32 | None = field(default=None, kw_only=True, repr=False)

    name: ClassVar[str] = "rff"
    learns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_whole("rff", "n", self.n, 2, _MOST)
        if self.n % 2:
            raise InputError(f"rff: n is {self.n}; an even number is needed", "Each frequency has a cosine and a sine")
        check_flag("rff", "orthogonal", self.orthogonal)
        object.__setattr__(self, "gamma", check_gamma("rff", self.gamma))
        if self.frequencies is None:
            return
        frequencies = frozen("rff", "frequencies", self.frequencies, np.float32, 2)
        if frequencies.shape[1] != self.n // 2 or self.gamma == "auto":
            raise InputError(f"rff: {frequencies.shape[1]} frequencies, gamma {self.gamma} and n={self.n} do not fit")
        object.__setattr__(self, "frequencies", frequencies)

    def fit(self, Z: Float32, rng: np.random.Generator) -> Self:
        """Choose γ where it was not given, and draw the frequencies."""
        check_training("rff", Z)
        gamma = typical_gamma(Z, rng) if self.gamma == "auto" else float(self.gamma)
        drawn = _directions(Z.shape[1], self.n // 2, rng, orthogonal=self.orthogonal)
        frequencies = (np.sqrt(2.0 * gamma) / (2.0 * np.pi) * drawn).astype(np.float32)
        return replace(self, gamma=gamma, frequencies=frequencies)

    def transform(self, Z: Float32) -> Float32:
        """Features (N, n): n/2 cosines, then n/2 sines."""
        frequencies = self._fitted()
        check_inputs("rff", Z, len(frequencies))
        right, scale, half = frequencies.astype(np.float64), np.float32(np.sqrt(2.0 / self.n)), self.n // 2

        def block(rows: Float64) -> FloatArray:
            turns = rows @ right
            turns -= np.rint(turns)  # whole turns in float64: the rest is exact enough in float32
            angles = turns.astype(np.float32)
            angles *= np.float32(2.0 * np.pi)
            out = np.empty((len(rows), self.n), np.float32)
            np.cos(angles, out=out[:, :half])
            np.sin(angles, out=out[:, half:])
            out *= scale
            return out

        return map_rows(block, Z, self.n)

    def width(self, n_inputs: int) -> int:
        """N."""
        check_width("rff", n_inputs, None if self.frequencies is None else len(self.frequencies))
        return self.n

    def pull_back(self, W: FloatArray) -> None:
        """Cosines are not linear."""
        return None

    def parameters(self) -> dict[str, Any]:
        """Return n, gamma and orthogonal."""
        return {"n": self.n, "gamma": self.gamma, "orthogonal": self.orthogonal}

    def arrays(self) -> dict[str, Array]:
        """The frequencies."""
        return {"frequencies": self._fitted()}

    def describe(self) -> str:
        """How many, and γ."""
        width = self.gamma if self.gamma == "auto" else f"{self.gamma:.4g}"
        return f"{self.n} random Fourier features (γ = {width})"

    def _fitted(self) -> Float32:
        if self.frequencies is None:
            raise InputError("rff is not fitted", "Call rff.fit(features, rng) first and use what it returns")
        return self.frequencies


def _directions(n_inputs: int, n: int, rng: np.random.Generator, *, orthogonal: bool) -> Float64:
    """(D, n) with columns distributed as N(0, I) each; orthogonal in groups of D where asked for."""
    if not orthogonal:
        return rng.standard_normal((n_inputs, n))
    groups = -(-n // n_inputs)
    square = min(n, n_inputs)
    with single_blas_thread():
        Q, R = np.linalg.qr(rng.standard_normal((groups, n_inputs, square)))
    Q *= np.sign(np.diagonal(R, axis1=1, axis2=2))[:, None]  # else Q is not uniform among the orthogonal matrices
    Q *= np.sqrt(rng.chisquare(n_inputs, (groups, 1, square)))
    return np.ascontiguousarray(Q.transpose(1, 0, 2).reshape(n_inputs, groups * square)[:, :n])
