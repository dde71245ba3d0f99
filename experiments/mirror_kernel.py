"""A Gaussian kernel averaged over mirror images.

    k̄(x, z) = ½ k(x, z) + ½ k(x, mirror image of z),    k(x, z) = exp(-γ ‖φ(x) - φ(z)‖²)

With f and g the features of an image and of its mirror image, φ = (f, g) / √2 has the coordinates (e, o), e = (f + g)/2
and o = (f - g)/2, and the mirror image has (e, -o). So

    k̄ = exp(-γ (‖e - e'‖² + ‖o‖² + ‖o'‖²)) cosh(2γ o·o'),

two products instead of one. The optimum with it is the one on all images and their mirror images with k (with squared
loss and the same λ), at half as many rows; averaging features over mirror images is its part with o = 0.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self, final

import numpy as np

from lastlayer._arrays import Array, Float32, Float64, FloatArray, UInt8
from lastlayer.representations import Representation, parse_phi
from lastlayer.representations.base import Shape, Template
from lastlayer.representations.compact import MIDDLE, Rounded
from lastlayer.representations.kernels import Against, Kernel
from lastlayer.representations.standardise import Standardised
from patch_features import MOMENT_ROWS, Clock, Prepared, as_bytes, last_tenth, read


@final
@dataclass(frozen=True, eq=False)
class EvenOdd(Representation):
    """Half the sum and half the difference of the base's features of an image and of its mirror image: (N, 2D)."""

    base: Representation

    name: ClassVar[str] = "even and odd"

    @property
    def image_shape(self) -> Shape | None:
        return self.base.image_shape

    @property
    def n_features(self) -> int:
        return 2 * self.base.n_features

    def fit(self, images: UInt8, rng: np.random.Generator) -> Self:
        return replace(self, base=self.base.fit(images, rng))

    def transform(self, images: UInt8) -> Float32:
        out = np.empty((len(images), self.n_features), np.float32)
        seen, mirrored = np.hsplit(out, 2)
        seen[:] = self.base.transform(images)
        mirrored[:] = self.base.transform(np.ascontiguousarray(images[:, :, ::-1]))
        out *= np.float32(0.5)
        seen += mirrored
        mirrored *= np.float32(-2)
        mirrored += seen
        return out

    def parameters(self) -> dict[str, Any]:
        return {}

    def arrays(self) -> dict[str, Array]:
        return {f"base.{name}": a for name, a in self.base.arrays().items()}

    def templates(self, W: FloatArray) -> tuple[Template, ...]:
        return ()

    def describe(self) -> str:
        return f"{self.base.describe()}, even and odd parts"


@final
@dataclass(frozen=True)
class MirrorRBF(Kernel):
    """k̄ on rows (e, o) of bytes, zero being `MIDDLE`.

    Parameters
    ----------
    gamma : float
        γ > 0.
    """

    gamma: float

    name: ClassVar[str] = "rbf, mean over mirror images"

    def against(self, Z: FloatArray) -> Against:
        """See `Kernel`."""
        D = Z.shape[1] // 2
        centre = np.concatenate([Z[:, :D].mean(axis=0, dtype=np.float64), np.full(D, MIDDLE)]).astype(Z.dtype)
        fixed = Z - centre
        even, odd = (np.ascontiguousarray(part.T) for part in np.hsplit(fixed, 2))
        size = _squares(fixed).astype(Z.dtype)
        twice = Z.dtype.type(2 * self.gamma)

        def values(X: FloatArray) -> FloatArray:
            moved = X - centre
            apart = moved[:, :D] @ even
            apart *= -2
            apart += _squares(moved)[:, None].astype(Z.dtype)
            apart += size
            apart *= -Z.dtype.type(self.gamma)
            cross = moved[:, D:] @ odd
            cross *= twice
            np.minimum(apart, -np.abs(cross), out=apart)  # distances are not negative
            K = np.exp(apart + cross)
            apart -= cross
            K += np.exp(apart, out=apart)
            K *= 0.5
            return np.asarray(K)

        return values


def _squares(A: FloatArray) -> Float64:
    """``‖a‖²`` of every row, summed in float64."""
    return np.asarray(np.square(A).sum(axis=1, dtype=np.float64))


def prepare_even_odd(
    data: Path, text: str, seed: int, rng: np.random.Generator, clock: Clock, rows: int | None = None
) -> Prepared:
    """As `patch_features.prepare`, with even and odd parts of all features in units of the even part's deviation.

    Of the images that are not held out, only `rows` when given.
    """
    X, y = read(data, "train")
    clock.lap("decode")
    val = last_tenth(y)
    train = rng.permutation(np.setdiff1d(np.arange(len(y)), val))[:rows]
    phi = EvenOdd(parse_phi(text)).fit(X[np.sort(train)], np.random.default_rng(seed))
    print(phi.describe(), file=sys.stderr)
    clock.lap("fit φ")
    even = np.hsplit(phi.transform(X[train[:MOMENT_ROWS]]), 2)[0]
    moments = Standardised.from_features(phi.base, even)
    assert moments.mean is not None and moments.scale is not None
    rounded = Rounded(
        Standardised(phi, np.append(moments.mean, 0 * moments.mean), np.append(moments.scale, moments.scale))
    )
    del even
    order = np.concatenate([train, val])
    U = as_bytes(phi, rounded, X[order])
    clock.lap("features")
    return Prepared(phi, rounded, U, y[order], len(train), X[val])
