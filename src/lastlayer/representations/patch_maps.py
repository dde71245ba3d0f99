"""First layer under a second one: an image becomes a small map with a few channels.

    a(y, x) = √ mean over a cell of act( f_k · w(patch) ),    m(y, x) = Bᵀ a(y, x)

B holds the main directions of a over training images. With `mirror` every one of them is even or odd when filters and
their mirror images change places: the map of a mirrored image is the map mirrored, channel by channel times ±1.

Source: Coates & Ng 2011, "Selecting receptive fields in deep networks"; Mairal et al. 2014 for the pooled, projected
maps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from lastlayer._arrays import Float32, IntArray, UInt8
from lastlayer._threads import single_blas_thread
from lastlayer.representations._batches import Scratch, map_batches
from lastlayer.representations.patch_dictionary import choose_filters
from lastlayer.representations.patch_encoding import tiles, with_twins
from lastlayer.representations.patch_whitening import Whitening, even_and_odd, sample_patches

STEM_SAMPLED = 100_000
"""Patches for the first layer's statistics."""
MIX_IMAGES = 2000
"""Images for the directions of its responses."""
BATCH = 32


@final
@dataclass(frozen=True)
class MapSettings:
    """What makes the map; see `second_layer.Patches2`."""

    filters: int
    size: int
    cell: int
    threshold: float
    ridge: float
    flat: float
    components: int
    channels: int
    root: bool
    mirror: bool


@final
@dataclass(frozen=True, eq=False)
class Maps:
    """Fitted first layer.

    Attributes
    ----------
    settings : MapSettings
    whitening : Whitening
    chosen : float32 (K or K/2, p)
        Filters without their mirror images.
    mix : float32 (2K, channels)
        B.
    signs : float32 (channels,)
        Sign of each channel under mirroring.
    """

    settings: MapSettings
    whitening: Whitening
    chosen: Float32
    mix: Float32
    signs: Float32

    @classmethod
    def fit(cls, images: UInt8, settings: MapSettings, rng: np.random.Generator) -> Maps:
        """From random patches of the images, and from the responses of some of the images."""
        s = settings
        own = s.filters // 2 if s.mirror else s.filters
        with single_blas_thread():
            sample = sample_patches(images, s.size, max(STEM_SAMPLED, 8 * own), rng)
            whitening = Whitening.of(sample, s.size, s.components, s.ridge, s.mirror)
            chosen = choose_filters(whitening.apply(sample), own, "kmeans", rng)
        every = cls(s, whitening, chosen, np.eye(2 * s.filters, dtype=np.float32), np.ones(2 * s.filters, np.float32))
        picked = images[np.sort(rng.permutation(len(images))[:MIX_IMAGES])]
        mix, signs = _directions(every, picked)
        return cls(s, whitening, chosen, mix, signs)

    def shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Rows, columns and channels of the map."""
        return (*self._grid(height, width), self.mix.shape[1])

    def _grid(self, height: int, width: int) -> tuple[int, int]:
        s = self.settings
        return len(cell_ends(height - s.size + 1, s.cell)), len(cell_ends(width - s.size + 1, s.cell))

    def encoder(self, height: int, width: int) -> Any:
        """What takes a batch of uint8 images and scratch memory to maps (n, rows, columns, channels)."""
        from lastlayer.representations.patch_map_kernels import response_maps

        s, shape = self.settings, self.shape(height, width)
        F = tiles(with_twins(self.chosen, self.whitening.signs, s.mirror))
        padded = F.shape[0] * F.shape[2]
        mix = np.zeros((2, padded, shape[2]), np.float32)
        mix[:, : s.filters] = self.mix.reshape(2, s.filters, -1)
        mix = mix.reshape(2 * padded, -1)
        ends = cell_ends(height - s.size + 1, s.cell), cell_ends(width - s.size + 1, s.cell)
        w = self.whitening
        fixed = (s.size, w.mean, w.V, np.float32(s.flat), F, np.float32(s.threshold), *ends, s.root, mix)

        def kernel(batch: UInt8, scratch: Scratch) -> Float32:
            floats = np.true_divide(batch, np.float32(255), dtype=np.float32)
            out = scratch("maps.out", (len(batch), *shape))
            response_maps(floats, *fixed, out)
            return out

        return kernel

    def of(self, images: UInt8) -> Float32:
        """Maps (N, rows, columns, channels)."""
        shape = self.shape(*images.shape[1:3])
        encoder = self.encoder(*images.shape[1:3])
        with single_blas_thread():
            flat = map_batches(
                lambda batch, scratch: encoder(batch, scratch).reshape(len(batch), -1),
                images, int(np.prod(shape)), BATCH,
            )  # fmt: skip
        return flat.reshape(-1, *shape)


def cell_ends(n: int, cell: int) -> IntArray:
    """Last position + 1 of cells of about `cell` positions; a mirror image of itself.

    >>> cell_ends(28, 4).tolist(), cell_ends(27, 9).tolist(), cell_ends(9, 2).tolist()
    ([4, 8, 12, 16, 20, 24, 28], [9, 18, 27], [3, 6, 9])
    """
    count = max(1, n // cell)
    if n % count and not count % 2:
        count -= 1  # with an odd number no border needs rounding at ½
    return np.floor(n * np.arange(1, count + 1) / count + 0.5).astype(np.int64)


def _directions(every: Maps, images: UInt8) -> tuple[Float32, Float32]:
    """Main directions of the responses, and their signs under mirroring."""
    s, width = every.settings, 2 * every.settings.filters
    total, moment, count = np.zeros(width), np.zeros((width, width)), 0
    for start in range(0, len(images), 4 * BATCH):
        rows = every.of(images[start : start + 4 * BATCH]).reshape(-1, width)
        total += rows.sum(axis=0, dtype=np.float64)
        with single_blas_thread():
            moment += rows.T @ rows
        count += len(rows)
    mean = total / count
    covariance = moment / count - np.outer(mean, mean)
    turned = np.arange(width)
    if s.mirror:
        turned = turned.reshape(2, 2, s.filters // 2)[:, ::-1].ravel()
        covariance = (covariance + covariance[turned][:, turned]) / 2
    with single_blas_thread():
        values, vectors, signs = even_and_odd(covariance, turned, np.ones(width))
    best = np.argsort(-values, kind="stable")[: s.channels]
    return np.ascontiguousarray(vectors[:, best], np.float32), signs[best].astype(np.float32)
