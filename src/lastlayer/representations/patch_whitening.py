"""Whitening of image patches, with a basis that is its own mirror image.

    w = Vᵀ (x - mean),    V = E (Λ + ε)^(-1/2),    E Λ Eᵀ = covariance of patches x

With mirrored statistics (the mean of each patch and its mirror image, likewise the covariance), every eigenvector can
be chosen even or odd under left-right mirroring. The whitened mirror image of a patch is then ``s * w`` with signs
s = ±1, exactly.

Source: Coates, Ng & Lee 2011, "An analysis of single-layer networks in unsupervised feature learning", AISTATS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from lastlayer._arrays import Array, Float32, Float64, InputError, IntArray, UInt8

FLAT_SHARE = 1e-12
"""Patches whose variance is below this share of the pixels' range squared are all alike."""


@final
@dataclass(frozen=True, eq=False)
class Whitening:
    """``w = Vᵀ (x - mean)`` for patches x with pixels in 0..1.

    Attributes
    ----------
    mean : float32 (d,)
    V : float32 (d, p)
    signs : float32 (p,)
        Sign of each coordinate under mirroring; all 1 where statistics are not mirrored.
    """

    mean: Float32
    V: Float32
    signs: Float32

    @classmethod
    def of(
        cls,
        patches: Float32,
        size: int,
        n_components: int,
        ridge: float,
        mirror: bool,
        channel_signs: Float32 | None = None,
    ) -> Whitening:
        """From patches (n, d) of `size` × `size` pixels.

        Parameters
        ----------
        n_components : int
            p, the most eigenvectors kept.
        ridge : float
            ε, added to the variances: noise in directions below it is not blown up.
        mirror : bool
            Take every patch together with its mirror image.
        channel_signs : float32 (C,), optional
            What mirroring an image does to each of its channels beside moving it: 1, or -1 where the channel changes
            its sign. All 1 when not given.
        """
        mean = patches.mean(axis=0, dtype=np.float64)
        moved = patches - mean.astype(np.float32)
        covariance = (moved.T @ moved).astype(np.float64) / len(moved)
        if not np.trace(covariance) > FLAT_SHARE:
            raise InputError(
                "patches: all patches of the training images are flat", "Give images with something in them"
            )
        if not mirror:
            values, vectors = np.linalg.eigh(covariance)
            signs = np.ones(len(values))
        else:
            channels = patches.shape[1] // size**2
            turned = mirrored_columns(size, channels)
            each = np.ones(channels) if channel_signs is None else channel_signs.astype(np.float64)
            flips = np.tile(each, size * size)
            mean = (mean + flips * mean[turned]) / 2
            covariance = (covariance + np.outer(flips, flips) * covariance[turned][:, turned]) / 2
            values, vectors, signs = even_and_odd(covariance, turned, flips)
        best = np.argsort(-values, kind="stable")[:n_components]
        scale = 1.0 / np.sqrt(np.maximum(values[best], 0.0) + ridge)
        V = np.ascontiguousarray(vectors[:, best] * scale, dtype=np.float32)
        return cls(mean.astype(np.float32), V, signs[best].astype(np.float32))

    def apply(self, patches: Float32) -> Float32:
        """Whitened patches (n, p) of patches (n, d)."""
        return np.asarray((patches - self.mean) @ self.V, dtype=np.float32)


def mirrored_columns(size: int, channels: int) -> IntArray:
    """Where each number of a flattened patch (size, size, C) lies in its left-right mirror image.

    >>> mirrored_columns(2, 1)
    array([1, 0, 3, 2])
    """
    numbers = np.arange(size * size * channels).reshape(size, size, channels)
    return numbers[:, ::-1].ravel()


def even_and_odd(covariance: Float64, turned: IntArray, flips: Float64) -> tuple[Float64, Float64, Float64]:
    """Eigenvalues and eigenvectors, each even or odd, of a covariance that commutes with mirroring.

    Mirroring takes x to ``flips * x[turned]``; done twice, it changes nothing. The third result is 1 for even and -1
    for odd eigenvectors.
    """
    numbers = np.arange(len(turned))
    pairs, alone = numbers[numbers < turned], numbers[numbers == turned]
    parts = []
    for sign in (1.0, -1.0):
        own = alone[flips[alone] == sign]
        basis = np.zeros((len(turned), len(pairs) + len(own)))
        columns = np.arange(len(pairs))
        basis[pairs, columns] = np.sqrt(0.5)
        basis[turned[pairs], columns] = sign * flips[pairs] * np.sqrt(0.5)
        basis[own, len(pairs) + np.arange(len(own))] = 1.0
        if basis.shape[1]:
            values, vectors = np.linalg.eigh(basis.T @ covariance @ basis)
            parts.append((values, basis @ vectors, np.full(len(values), sign)))
    return (
        np.concatenate([values for values, _, _ in parts]),
        np.hstack([vectors for _, vectors, _ in parts]),
        np.concatenate([signs for _, _, signs in parts]),
    )


def sample_patches(images: UInt8, size: int, n: int, rng: np.random.Generator) -> Float32:
    """`n` patches (n, size² C) with pixels in 0..1 from random places of random images."""
    out = sample_floats(images, size, n, rng)
    out /= np.float32(255)
    return out


def sample_floats(maps: Array, size: int, n: int, rng: np.random.Generator) -> Float32:
    """`n` patches (n, size² C) from random places of random maps (N, H, W, C)."""
    count, height, width, channels = maps.shape
    # in the order of the maps: a memory map is read once, from front to back
    which = np.sort(rng.integers(count, size=n))
    top, left = rng.integers(height - size + 1, size=n), rng.integers(width - size + 1, size=n)
    out = np.empty((n, size * size * channels), np.float32)
    for start in range(0, n, 4096):
        part = slice(start, start + 4096)
        rows = top[part, None] + np.arange(size)
        columns = left[part, None] + np.arange(size)
        taken = maps[which[part, None, None], rows[:, :, None], columns[:, None, :]]
        out[part] = taken.reshape(len(taken), -1)
    return out
