"""A second layer of patch features: patches of a map of first-layer responses.

    φ(x) = ( mean over regions of  act( g_k · v(patch of the map) ) )^p

The map is `patch_maps`'; its patches are whitened, divided by their root mean square, met with a dictionary of
themselves, thresholded and pooled exactly as pixels are in `patches`. Nothing is learned from labels, nothing by
backpropagation. Filters see a neighbourhood of 3 × 3 cells, about 10 × 10 pixels.

With ``mirror`` the features are those of an image and its mirror image, averaged, exactly: the map of a mirrored image
is the map mirrored with some channels negated, whitening and dictionary are closed under that.

Sources: Coates & Ng 2011, "Selecting receptive fields in deep networks", NIPS; Mairal, Koniusz, Harchaoui & Schmid
2014, "Convolutional kernel networks", NIPS.
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
    fitted_shape,
)
from lastlayer.representations.patch_dictionary import CHOICES, choose_filters
from lastlayer.representations.patch_encoding import check_real, finished, frozen, tiles, with_twins
from lastlayer.representations.patch_maps import BATCH, Maps, MapSettings
from lastlayer.representations.patch_pooling import SHAPES, bin_ends, pooling
from lastlayer.representations.patch_whitening import Whitening, sample_floats

SAMPLED = 60_000
"""Patches of maps for the statistics, and the fewest for the dictionary."""
PER_FILTER = 4
PER_IMAGE = 20
ARRAYS = (
    "stem_mean", "stem_basis", "stem_signs", "stem_chosen", "mix", "mix_signs", "mean", "basis", "signs", "chosen",
)  # fmt: skip


@final
@dataclass(frozen=True, eq=False)
class Patches2(Representation):
    """Responses of filters on patches of a response map, encoded and pooled.

    Parameters
    ----------
    filters : int
        K, filters of the second layer (mirror images included).
    size : int
        Patches are `size` × `size` cells of the map.
    dictionary : {"patches", "kmeans"}
        Of the second layer; the first layer's is always k-means.
    threshold : float
        In standard deviations of a response.
    pool : int
        Regions a side.
    shape : {"tent", "box"}
    ridge : float
        Added to the variances when whitening, as a share of the mean variance.
    flat : float
        Added to the mean square of a whitened patch.
    components : int
        Eigenvectors of the whitening kept.
    power : float
        Features are raised to it.
    mirror : bool, optional
        Average over mirror images; when not given, for colour images.
    stem : int
        Filters of the first layer (mirror images included).
    stem_size, cell : int
        The first layer's patches in pixels, and the cells over which its responses are averaged.
    stem_threshold, stem_ridge, stem_flat, stem_components
        As `patches`' own, for the first layer.
    channels : int
        Main directions of the first layer's responses kept.
    root : bool
        Square roots of the first layer's averages.

    Shapes
    ------
    D = pool² · 2K, half of it with `mirror`; C order (pool, pool, 2, K).
    """

    filters: int = 1024
    size: int = 3
    dictionary: str = "patches"
    threshold: float = 1.0
    pool: int = 3
    shape: str = "tent"
    ridge: float = 1.0
    flat: float = 0.1
    components: int = 256
    power: float = 0.5
    mirror: bool | None = None
    stem: int = 512
    stem_size: int = 5
    cell: int = 2
    stem_threshold: float = 0.5
    stem_ridge: float = 1e-2
    stem_flat: float = 0.1
    stem_components: int = 40
    channels: int = 128
    root: bool = True
    stem_mean: Float32 | None = field(default=None, kw_only=True, repr=False)
    stem_basis: Float32 | None = field(default=None, kw_only=True, repr=False)
    stem_signs: Float32 | None = field(default=None, kw_only=True, repr=False)
    stem_chosen: Float32 | None = field(default=None, kw_only=True, repr=False)
    mix: Float32 | None = field(default=None, kw_only=True, repr=False)
    mix_signs: Float32 | None = field(default=None, kw_only=True, repr=False)
    mean: Float32 | None = field(default=None, kw_only=True, repr=False)
    basis: Float32 | None = field(default=None, kw_only=True, repr=False)
    signs: Float32 | None = field(default=None, kw_only=True, repr=False)
    chosen: Float32 | None = field(default=None, kw_only=True, repr=False)
    image_shape: Shape | None = field(default=None, kw_only=True, repr=False)

    name: ClassVar[str] = "patches2"

    def __post_init__(self) -> None:
        for name, low, high in (
            ("filters", 1, 1_000_000), ("size", 1, 16), ("pool", 1, 9), ("components", 1, 16_384),
            ("stem", 1, 65_536), ("stem_size", 2, 64), ("cell", 1, 64), ("stem_components", 1, 64 * 64 * 3),
            ("channels", 1, 4096),
        ):  # fmt: skip
            check_whole(self.name, name, getattr(self, name), low, high)
        check_choice(self.name, "dictionary", self.dictionary, CHOICES)
        check_choice(self.name, "shape", self.shape, SHAPES)
        for real, least, most in (
            ("threshold", 0.0, 10.0), ("ridge", 0.0, 100.0), ("flat", 1e-6, 100.0), ("power", 0.1, 1.0),
            ("stem_threshold", 0.0, 10.0), ("stem_ridge", 0.0, 1.0), ("stem_flat", 1e-6, 100.0),
        ):  # fmt: skip
            object.__setattr__(self, real, check_real(self.name, real, getattr(self, real), least, most))
        check_flag(self.name, "root", self.root)
        if self.mirror is not None:
            check_flag(self.name, "mirror", self.mirror)
        if self.chosen is not None:
            self._check_arrays()
        elif self.mirror and (self.filters % 2 or self.stem % 2):
            raise InputError(
                f"patches2: filters is {self.filters}, stem {self.stem}; with mirror=true every filter comes with its "
                "mirror image",
                "Give even numbers, or mirror=false",
            )

    def fit(self, images: UInt8, rng: np.random.Generator) -> Self:
        """Learn both layers' whitening and dictionaries from training images.

        Raises
        ------
        InputError
            When the images are too small for the two layers, and when nearly all patches are flat.
        """
        height, width, channels = check_fit_images(images)
        mirror = channels == 3 if self.mirror is None else self.mirror
        even = int(mirror)
        settled = replace(
            self, mirror=mirror, filters=self.filters + self.filters % 2 * even, stem=self.stem + self.stem % 2 * even
        )
        settled._refuse_small(height, width)
        maps = Maps.fit(images, settled._map_settings(), rng)
        own = settled.filters // 2 if mirror else settled.filters
        wanted = max(SAMPLED, PER_FILTER * own)
        picked = np.sort(rng.permutation(len(images))[: -(-wanted // PER_IMAGE)])
        with single_blas_thread():
            sample = sample_floats(maps.of(images[picked]), self.size, wanted, rng)
            ridge = self.ridge * float(np.mean(np.var(sample, axis=0, dtype=np.float64)))
            whitening = Whitening.of(sample, self.size, self.components, ridge, mirror, maps.signs)
            chosen = choose_filters(whitening.apply(sample), own, self.dictionary, rng)
        return replace(
            settled,
            stem_mean=maps.whitening.mean,
            stem_basis=maps.whitening.V,
            stem_signs=maps.whitening.signs,
            stem_chosen=maps.chosen,
            mix=maps.mix,
            mix_signs=maps.signs,
            mean=whitening.mean,
            basis=whitening.V,
            signs=whitening.signs,
            chosen=chosen,
            image_shape=(height, width, channels),
        )

    def _map_settings(self) -> MapSettings:
        return MapSettings(
            filters=self.stem,
            size=self.stem_size,
            cell=self.cell,
            threshold=self.stem_threshold,
            ridge=self.stem_ridge,
            flat=self.stem_flat,
            components=self.stem_components,
            channels=self.channels,
            root=self.root,
            mirror=bool(self.mirror),
        )

    def _refuse_small(self, height: int, width: int) -> None:
        """Refuse images on which there are fewer positions of the second layer than regions."""
        least = self.stem_size - 1 + self.cell * (self.size + max(self.pool, 2))
        if min(height, width) < least:
            raise InputError(
                f"patches2: images are {height}x{width} pixels; {self.pool}x{self.pool} regions of patches of "
                f"{self.size} cells of {self.cell} pixels need {least}",
                "Decode larger images with --size, or give a smaller cell, size or pool",
            )

    def _maps(self) -> Maps:
        a = self.arrays()
        return Maps(
            self._map_settings(),
            Whitening(a["stem_mean"], a["stem_basis"], a["stem_signs"]),
            a["stem_chosen"],
            a["mix"],
            a["mix_signs"],
        )

    def transform(self, images: UInt8) -> Float32:
        """Features (N, D)."""
        check_transform_images(images, self.image_shape, self.name)
        encoder = self._encoder()  # loads the BLAS whose threads are then limited
        with single_blas_thread():
            return map_batches(encoder, images, self.n_features, BATCH)

    def _encoder(self) -> Any:
        """Return what encodes a batch."""
        from lastlayer.representations.patch_kernels import encode_soft

        height, width, _ = fitted_shape(self.image_shape, self.name)
        maps, a = self._maps(), self.arrays()
        first = maps.encoder(height, width)
        down, across, _ = maps.shape(height, width)
        rows, columns = down - self.size + 1, across - self.size + 1
        F = tiles(with_twins(a["chosen"], a["signs"], bool(self.mirror)))
        fixed = (self.size, a["mean"], a["basis"], np.float32(self.flat), F, np.float32(self.threshold))
        where = (bin_ends(rows), bin_ends(columns), pooling(rows, columns, self.pool, self.shape))
        shape = (self.pool**2, 2, F.shape[0] * F.shape[2])

        def kernel(batch: UInt8, scratch: Scratch) -> Float32:
            out = scratch("patches2.out", (len(batch), *shape))
            encode_soft(first(batch, scratch), *fixed, *where, out)
            return finished(out[..., : self.filters], self.pool, self.power, bool(self.mirror))

        return kernel

    @property
    def n_features(self) -> int:
        """D."""
        fitted_shape(self.image_shape, self.name)
        return self.pool**2 * self.filters * (1 if self.mirror else 2)

    def parameters(self) -> dict[str, Any]:
        """Return all settings; after `fit` whether mirrored."""
        from lastlayer.representations.registry import typed

        return {name: getattr(self, name) for name in typed(self.name)}

    def arrays(self) -> dict[str, Array]:
        """Whitening and filters of both layers, and the directions between them."""
        fitted_shape(self.image_shape, self.name)
        return {name: getattr(self, name) for name in ARRAYS}

    def describe(self) -> str:
        """Filters of both layers, regions and number of features."""
        return (
            f"patches2: {self.filters} filters ({self.dictionary}) of {self.size}x{self.size} cells of {self.cell} "
            f"pixels on {self.channels} channels of {self.stem} filters of {self.stem_size}x{self.stem_size} pixels, "
            f"soft threshold {self.threshold:g}, {self.pool}x{self.pool} regions, {self.n_features} features"
        )

    def templates(self, W: FloatArray) -> tuple[Template, ...]:
        """None: a filter on a map of thresholded responses has no picture that would add up."""
        return ()

    def _check_arrays(self) -> None:
        """Refuse arrays of a model file that do not fit together."""
        height, width, channels = fitted_shape(self.image_shape, self.name)
        self._refuse_small(height, width)
        given = {name: frozen(self.name, name, getattr(self, name)) for name in ARRAYS}
        half = 2 if self.mirror else 1
        p1, p2, C = given["stem_basis"].shape[-1], given["basis"].shape[-1], given["mix"].shape[-1]
        d1, d2 = self.stem_size**2 * channels, self.size**2 * C
        wanted = {
            "stem_mean": (d1,), "stem_basis": (d1, p1), "stem_signs": (p1,), "stem_chosen": (self.stem // half, p1),
            "mix": (2 * self.stem, C), "mix_signs": (C,),
            "mean": (d2,), "basis": (d2, p2), "signs": (p2,), "chosen": (self.filters // half, p2),
        }  # fmt: skip
        for name, array in given.items():
            if array.shape != wanted[name]:
                raise InputError(f"patches2: the array {name} has shape {array.shape}; {wanted[name]} is needed")
            object.__setattr__(self, name, array)
        if self.mirror is None:
            raise InputError("patches2: a fitted representation says whether it is mirrored")
