"""Patch dictionaries: learned without labels, encoded densely, pooled over regions.

    φ(x) = mean over regions of  act( f_k · w(patch) ),    w = whitened patch / its root mean square

Sources: Coates, Ng & Lee 2011 (whitening, triangle, pooling); Coates & Ng 2011 (random patches, two-sided soft
threshold); Thiry et al. 2021 (many random patches, contrast-normalised in the whitened space).

With ``mirror`` the dictionary holds the mirror image of every filter, whitening and regions are mirror images of
themselves, and features are averaged over an image and its mirror image: exactly, without encoding the second one.
With a convex loss and an L2 penalty the optimum on these features is the optimum of training on all images and their
mirror images with twice as many features.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self, final

import numpy as np

from lastlayer._arrays import Array, Float32, FloatArray, InputError, UInt8
from lastlayer._threads import single_blas_thread
from lastlayer.representations._batches import Scratch, map_batches
from lastlayer.representations._checks import check_choice, check_flag, check_whole
from lastlayer.representations.base import (
    Representation,
    Shape,
    Template,
    check_fit_images,
    check_transform_images,
    check_weights,
    fitted_shape,
)
from lastlayer.representations.patch_dictionary import CHOICES, choose_filters
from lastlayer.representations.patch_encoding import check_real, finished, frozen, tiles, with_twins
from lastlayer.representations.patch_pooling import SHAPES, bin_ends, pooling
from lastlayer.representations.patch_whitening import Whitening, mirrored_columns, sample_patches

ENCODINGS = ("soft", "triangle")
SAMPLED = 200_000
"""Patches for the statistics, and the fewest for the dictionary."""
PER_FILTER = 25
BATCH = 32


@final
@dataclass(frozen=True, eq=False)
class Patches(Representation):
    """Responses of patch filters, encoded and pooled.

    Parameters
    ----------
    filters : int
        K, filters in the dictionary (mirror images included); even with `mirror`.
    size : int
        Patches are `size` × `size` pixels.
    dictionary : {"patches", "kmeans"}
    encoding : {"soft", "triangle"}
        ``soft``: max(r − t, 0) and max(−r − t, 0), two features a filter. ``triangle``: how much nearer than the mean
        centroid, one feature a filter.
    threshold : float
        t, in standard deviations of a response; for ``soft``.
    pool : int
        Regions a side.
    shape : {"tent", "box"}
        Regions overlap smoothly, or cut the picture.
    ridge : float
        ε of the whitening, for pixels in 0..1.
    flat : float
        Added to the mean square of a whitened patch, so that flat patches stay small.
    components : int
        Eigenvectors of the whitening kept.
    power : float
        Features are raised to it; ½ evens out heavy tails.
    mirror : bool, optional
        Average over mirror images. When not given: for colour images, since photographs may be mirrored and
        digits, letters and scans may not.
    mean, basis, signs : float32 (d,), (d, p) and (p,), optional
        The whitening (`patch_whitening.Whitening`); None before `fit`.
    chosen : float32 (K or K/2, p), optional
        The filters, without their mirror images.

    Shapes
    ------
    D = pool² · 2K (``soft``) or pool² · K (``triangle``), half of it with `mirror`; C order (pool, pool, 2, K).
    """

    filters: int = 1024
    size: int = 6
    dictionary: str = "patches"
    encoding: str = "soft"
    threshold: float = 0.5
    pool: int = 3
    shape: str = "tent"
    ridge: float = 3e-3
    flat: float = 0.1
    components: int = 64
    power: float = 0.5
    mirror: bool | None = None
    mean: Float32 | None = field(default=None, kw_only=True, repr=False)
    basis: Float32 | None = field(default=None, kw_only=True, repr=False)
    signs: Float32 | None = field(default=None, kw_only=True, repr=False)
    chosen: Float32 | None = field(default=None, kw_only=True, repr=False)
    image_shape: Shape | None = field(default=None, kw_only=True, repr=False)

    name: ClassVar[str] = "patches"

    def __post_init__(self) -> None:
        check_whole("patches", "filters", self.filters, 1, 1_000_000)
        check_whole("patches", "size", self.size, 2, 64)
        check_choice("patches", "dictionary", self.dictionary, CHOICES)
        check_choice("patches", "encoding", self.encoding, ENCODINGS)
        check_choice("patches", "shape", self.shape, SHAPES)
        check_whole("patches", "pool", self.pool, 1, 9)
        check_whole("patches", "components", self.components, 1, 64 * 64 * 3)
        for name, low, high in (
            ("threshold", 0.0, 10.0),
            ("ridge", 0.0, 1.0),
            ("flat", 1e-6, 100.0),
            ("power", 0.1, 1.0),
        ):
            object.__setattr__(self, name, check_real("patches", name, getattr(self, name), low, high))
        if self.mirror is not None:
            check_flag("patches", "mirror", self.mirror)
        if self.chosen is not None:
            self._check_arrays()
            return
        if self.mirror and self.filters % 2:
            raise InputError(
                f"patches: filters is {self.filters}; with mirror=true every filter comes with its mirror image",
                f"Give filters={self.filters + 1}, or mirror=false",
            )

    def fit(self, images: UInt8, rng: np.random.Generator) -> Self:
        """Learn whitening and dictionary from random patches of the training images.

        Raises
        ------
        InputError
            When the images are smaller than a patch, when there are fewer positions than regions, and when nearly
            all patches are flat.
        """
        height, width, channels = check_fit_images(images)
        mirror = channels == 3 if self.mirror is None else self.mirror
        settled = replace(self, mirror=mirror, filters=self.filters + (self.filters % 2 if mirror else 0))
        least = self.size + max(self.pool, 1)
        if min(height, width) < least:
            raise InputError(
                f"patches: images are {height}x{width} pixels; {self.pool}x{self.pool} regions of patches of "
                f"{self.size} pixels need {least}",
                "Decode larger images with --size, or give a smaller size or pool",
            )
        own = settled.filters // 2 if mirror else settled.filters
        with single_blas_thread():
            sample = sample_patches(images, self.size, max(SAMPLED, PER_FILTER * own), rng)
            whitening = Whitening.of(sample, self.size, self.components, self.ridge, mirror)
            chosen = choose_filters(whitening.apply(sample), own, self.dictionary, rng)
        return replace(
            settled,
            mean=whitening.mean,
            basis=whitening.V,
            signs=whitening.signs,
            chosen=chosen,
            image_shape=(height, width, channels),
        )

    def transform(self, images: UInt8) -> Float32:
        """Features (N, D)."""
        check_transform_images(images, self.image_shape, self.name)
        encoder = self._encoder()  # loads the BLAS whose threads are then limited
        with single_blas_thread():
            return map_batches(encoder, images, self.n_features, BATCH)

    def _encoder(self) -> Any:
        """Return what encodes a batch."""
        from lastlayer.representations import patch_kernels

        height, width, _ = fitted_shape(self.image_shape, self.name)
        rows, columns = height - self.size + 1, width - self.size + 1
        mean, basis, signs, chosen = self._learned()
        F = with_twins(chosen, signs, bool(self.mirror))
        soft = self.encoding == "soft"
        shaped = tiles(F) if soft else np.ascontiguousarray(F.T)
        level = self.threshold if soft else float(np.sqrt(F.shape[1]))
        # responses of unit filters to patches of unit mean square have variance 1
        encode = patch_kernels.encode_soft if soft else patch_kernels.encode_triangle
        fixed = (self.size, mean, basis, np.float32(self.flat), shaped, np.float32(level))
        where = (bin_ends(rows), bin_ends(columns), pooling(rows, columns, self.pool, self.shape))
        K, padded = self.filters, shaped.shape[0] * shaped.shape[2] if soft else self.filters
        shape = (self.pool**2, 2, padded) if soft else (self.pool**2, padded)

        def kernel(batch: UInt8, scratch: Scratch) -> Float32:
            floats = np.true_divide(batch, np.float32(255), dtype=np.float32)
            out = scratch("patches.out", (len(batch), *shape))
            encode(floats, *fixed, *where, out)
            return finished(out[..., :K], self.pool, self.power, bool(self.mirror))

        return kernel

    @property
    def n_features(self) -> int:
        """D."""
        fitted_shape(self.image_shape, self.name)
        whole = self.pool**2 * self.filters * (2 if self.encoding == "soft" else 1)
        return whole // 2 if self.mirror else whole

    def parameters(self) -> dict[str, Any]:
        """Return all settings; after `fit` whether mirrored."""
        return {
            "filters": self.filters,
            "size": self.size,
            "dictionary": self.dictionary,
            "encoding": self.encoding,
            "threshold": self.threshold,
            "pool": self.pool,
            "shape": self.shape,
            "ridge": self.ridge,
            "flat": self.flat,
            "components": self.components,
            "power": self.power,
            "mirror": self.mirror,
        }

    def arrays(self) -> dict[str, Array]:
        """Whitening and filters."""
        mean, basis, signs, chosen = self._learned()
        return {"mean": mean, "basis": basis, "signs": signs, "chosen": chosen}

    def describe(self) -> str:
        """Filters, patches, regions and number of features."""
        twins = f", {self.filters // 2} and their mirror images" if self.mirror else ""
        encoded = f"soft threshold {self.threshold:g}" if self.encoding == "soft" else "triangle"
        return (
            f"patches: {self.filters} filters ({self.dictionary}{twins}) of {self.size}x{self.size} pixels, {encoded}, "
            f"{self.pool}x{self.pool} regions, {self.n_features} features"
        )

    def templates(self, W: FloatArray) -> tuple[Template, ...]:
        """What each class looks for in each region: its filters as pixels, weighted."""
        from lastlayer.representations.glyphs import diverging, enlarge, per_class_scale

        channels = fitted_shape(self.image_shape, self.name)[2]
        weights = check_weights(W, self.n_features, self.name)
        pixels = self._filter_pixels()
        K, classes = len(pixels), weights.shape[1]
        shaped = weights.reshape(self.pool, self.pool, -1, K, classes)
        # a filter with more weight above its threshold than below its negative is looked for
        wanted = shaped[:, :, 0] - shaped[:, :, 1] if self.encoding == "soft" else shaped[:, :, 0]
        seen = np.einsum("yxkc,kd->cyxd", wanted, pixels)
        if self.mirror:
            turned = mirrored_columns(self.size, channels)
            seen = seen + seen[:, :, ::-1][..., turned]
        pictures = seen.reshape(classes, self.pool, self.pool, self.size, self.size, channels)
        side = self.pool * self.size
        mosaic = pictures.transpose(1, 3, 2, 4, 5, 0).reshape(side, side, channels, classes)
        scaled = per_class_scale(mosaic)
        if channels == 1:
            shown = diverging(scaled[:, :, 0].transpose(2, 0, 1))
        else:
            shown = np.clip(0.5 + 0.5 * scaled.transpose(3, 0, 1, 2), 0, 1).astype(np.float32)
        note = (
            f"Each class has {self.pool} by {self.pool} small pictures, one for each region: the sum of its "
            "patch filters by weight, the pattern that speaks most for the class there."
        )
        return (Template("patches", note, enlarge(shown)),)

    def _filter_pixels(self) -> Float32:
        """Filters (K or K/2, d) as they act on pixels."""
        _, basis, _, chosen = self._learned()
        out: Float32 = chosen @ basis.T
        return out

    def _learned(self) -> tuple[Float32, Float32, Float32, Float32]:
        fitted_shape(self.image_shape, self.name)
        assert self.mean is not None and self.basis is not None and self.signs is not None and self.chosen is not None
        return self.mean, self.basis, self.signs, self.chosen

    def _check_arrays(self) -> None:
        """Refuse arrays of a model file that do not fit together."""
        height, width, channels = fitted_shape(self.image_shape, self.name)
        own = self.filters // 2 if self.mirror else self.filters
        d = self.size**2 * channels
        p = frozen("patches", "basis", self.basis).shape[-1]
        wanted = {"mean": (d,), "basis": (d, p), "signs": (p,), "chosen": (own, p)}
        for name, shape in wanted.items():
            array = frozen("patches", name, getattr(self, name))
            if array.shape != shape:
                raise InputError(f"patches: the array {name} has shape {array.shape}; {shape} is needed")
            object.__setattr__(self, name, array)
        if self.mirror is None or min(height, width) < self.size + self.pool:
            raise InputError(f"patches: images of {height}x{width} pixels do not fit patches of {self.size}")
