"""Visual words: what small squares of an image look like, counted over regions.

Descriptors x of squares all over the image (`lastlayer.representations.local_descriptors`) are whitened and brought to
length 1, and compared with words c₁ … c_K, the k-means centres of training descriptors::

    w = Vᵀ (x − mean),  V = E (Λ + ε λ̄)^(-½)        E Λ Eᵀ the covariance of x, λ̄ the mean of Λ
    u = w / √(‖w‖² + d / 100)

    hard       φ[r, k] = share of the descriptors of region r (of all) whose nearest word is k
    triangle   φ[r, k] = Σ over the descriptors of region r of  max(0, mean over l of ‖u − c_l‖ − ‖u − c_k‖) / P

with P descriptors of an image. Sources: Csurka, Dance, Fan, Willamowski and Bray (2004); Lazebnik, Schmid and Ponce
(2006) for the pyramid; Xiao et al. (2010) for words of 2 × 2 HOG cells; Coates, Ng and Lee (2011) for the whitening and
the triangle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self, final

import numpy as np

from lastlayer._arrays import Array, Float32, Float64, FloatArray, InputError, IntArray, UInt8
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
from lastlayer.representations.gradients import cached_batch, cell_for
from lastlayer.representations.landmarks import choose_landmarks
from lastlayer.representations.local_descriptors import EDGE_NUMBERS, KINDS, ORIENTATIONS, LocalDescriptors

ENCODINGS = ("triangle", "hard")
SAMPLE = 100_000
"""Descriptors for the covariance and the words, from as many images as give them 16 or more each."""
PER_IMAGE = 16
_BATCH = 16


@final
@dataclass(frozen=True, eq=False)
class Words(Representation):
    """Histograms of visual words.

    Parameters
    ----------
    words : int
        K. Fewer distinct training descriptors than that are refused.
    of : {"edges", "colour"}
        Directions of edges (HOG), or means and standard deviations of brightness and two colour contrasts.
    cell : int, optional
        Pixels of a cell; when not given, as `Hog` chooses it.
    step : int, optional
        Pixels between neighbouring squares; when not given, half a cell.
    stack : int
        A square has `stack` × `stack` cells.
    encoding : {"triangle", "hard"}
    grid : int
        Regions down and across.
    pyramid : bool
        Add the grids with half, a quarter, … as many regions along a side, down to the whole image.
    whiten : float
        ε. A large one leaves directions of small variance as they are.
    root : bool
        Take the square root (the Hellinger map).
    mean : float32 (d,), basis : float32 (d, d), centres : float32 (K, d), optional
        What `fit` learns.

    Shapes
    ------
    D = K · number of regions, in C order (regions of the finest grid by rows, then of the coarser ones; words).
    """

    words: int = 400
    of: str = "edges"
    cell: int | None = None
    step: int | None = None
    stack: int = 2
    encoding: str = "triangle"
    grid: int = 2
    pyramid: bool = False
    whiten: float = 0.3
    root: bool = False
    mean: Float32 | None = field(default=None, kw_only=True, repr=False)
    basis: Float32 | None = field(default=None, kw_only=True, repr=False)
    centres: Float32 | None = field(default=None, kw_only=True, repr=False)
    image_shape: Shape | None = field(default=None, kw_only=True, repr=False)

    name: ClassVar[str] = "words"

    def __post_init__(self) -> None:
        check_whole("words", "words", self.words, 2, 100_000)
        check_choice("words", "of", self.of, KINDS)
        for name in ("cell", "step"):
            if getattr(self, name) is not None:
                check_whole("words", name, getattr(self, name), 1, 4096)
        check_whole("words", "stack", self.stack, 1, 8)
        check_choice("words", "encoding", self.encoding, ENCODINGS)
        check_whole("words", "grid", self.grid, 1, 32)
        check_flag("words", "pyramid", self.pyramid)
        check_flag("words", "root", self.root)
        if isinstance(self.whiten, bool) or not isinstance(self.whiten, (int, float)) or not 0 < self.whiten < 1e12:
            raise InputError(f"words: whiten is {self.whiten!r}; a number above 0 is needed")
        if self.pyramid and self.grid & (self.grid - 1):
            raise InputError(f"words: grid is {self.grid}; a pyramid needs 1, 2, 4, 8, …", "Give pyramid=false")
        if self.cell is not None and self.step is not None and self.step > self.cell:
            raise InputError(f"words: step is {self.step}, more than a cell of {self.cell} pixels")
        if self.image_shape is not None:
            self._check_arrays(self._checked_local(self.image_shape))

    def _checked_local(self, shape: Shape) -> LocalDescriptors:
        """Refuse images that are too small for the squares and the regions."""
        if self.cell is None or self.step is None:
            raise InputError("words: an image shape without the cell and the step that were chosen for it")
        local = LocalDescriptors(self.of, self.cell, self.step, self.stack, *shape)
        middles = local.middles()
        if len(np.unique(self._regions(middles, shape))) < self.grid**2:
            side = self.stack * self.cell
            raise InputError(
                f"words: images of {shape[0]}x{shape[1]} pixels do not have a square of {side}x{side} pixels in each "
                f"of {self.grid}x{self.grid} regions",
                "Give a smaller cell, step or grid (words:cell=)",
            )
        return local

    def _check_arrays(self, local: LocalDescriptors) -> None:
        d = local.numbers
        for name, shape in (("mean", (d,)), ("basis", (d, d)), ("centres", (self.words, d))):
            array = getattr(self, name)
            if array is None or array.dtype != np.float32 or array.shape != shape or not np.isfinite(array).all():
                raise InputError(f"words: {name} is no finite float32 array of shape {shape}")
            own = np.array(array, order="C")
            own.flags.writeable = False
            object.__setattr__(self, name, own)

    def fit(self, images: UInt8, rng: np.random.Generator) -> Self:
        """Learn the whitening and the words from descriptors of training images.

        Raises
        ------
        InputError
            When the images are too small, or have fewer distinct descriptors than there are to be words.
        """
        shape = check_fit_images(images)
        cell = self.cell or cell_for(*shape[:2])
        chosen = replace(self, cell=cell, step=self.step or max(1, cell // 2))
        sample = _sample(chosen._checked_local(shape), images, self.words, rng)
        with single_blas_thread():
            mean, basis, units = self._whitened(sample)
            centres = choose_landmarks(units, self.words, "kmeans", rng).astype(np.float32)
        return replace(chosen, mean=mean, basis=basis, centres=centres, image_shape=shape)

    def _whitened(self, sample: Float32) -> tuple[Float32, Float32, Float32]:
        """Mean, basis and unit vectors of a sample of descriptors (rows, d)."""
        mean = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
        moved = sample - mean
        values, vectors = np.linalg.eigh((moved.T @ moved).astype(np.float64) / len(moved))
        values = np.maximum(values, 0)
        if not values.max() > 0:
            raise InputError(f"words: all {self.of} of the training images are alike")
        basis = (vectors / np.sqrt(values + self.whiten * values.mean())).astype(np.float32)
        units = moved @ basis
        self._to_units(units, np.zeros(len(basis), np.float32))
        distinct = len(np.unique(units, axis=0)) if len(units) < 20 * self.words else len(units)
        if distinct < self.words:
            raise InputError(
                f"words: the training images have {distinct} distinct descriptors, fewer than {self.words} words",
                f"Give more images, or words={max(2, distinct // 10)}",
            )
        return mean, basis, units

    @staticmethod
    def _to_units(rows: Float32, shift: Float32, lengths: Float32 | None = None) -> None:
        from lastlayer.representations import word_kernels

        out = np.empty(len(rows), np.float32) if lengths is None else lengths
        word_kernels.unit_length(rows, shift, rows.shape[1] / 100, out)

    def transform(self, images: UInt8) -> Float32:
        """Features (N, D), values of 0 and more."""
        height, width, _ = check_transform_images(images, self.image_shape, self.name)
        with single_blas_thread():
            return map_batches(self._encoder(), images, self.n_features, min(_BATCH, cached_batch(height, width)))

    def _encoder(self) -> Callable[[UInt8, Scratch], Float32]:
        from lastlayer.representations import word_kernels

        shape = fitted_shape(self.image_shape, self.name)
        assert self.mean is not None and self.basis is not None and self.centres is not None
        local, basis, right = self._checked_local(shape), self.basis, np.array(self.centres.T, order="C")
        region = self._regions(local.middles(), shape)
        shift, squares = self.mean @ basis, np.einsum("ij,ij->i", self.centres, self.centres)
        places = len(region)

        def kernel(batch: UInt8, scratch: Scratch) -> Float32:
            descriptors = local(batch, scratch)
            counts: Float32 = scratch("words.counts", (len(batch), self.grid**2, self.words))
            counts[...] = 0
            units, lengths = scratch("words.units", (places, local.numbers)), scratch("words.lengths", (places,))
            products = scratch("words.products", (places, self.words))
            for image, own in zip(descriptors, counts):  # products of one shape: the same bits in any batch
                np.matmul(image, basis, out=units)
                self._to_units(units, shift, lengths)
                np.matmul(units, right, out=products)
                if self.encoding == "hard":
                    word_kernels.count_nearest(products, squares, region, own)
                else:
                    word_kernels.add_triangles(products, lengths, squares, region, own)
            counts /= np.float32(places)
            return self._levels(counts)

        return kernel

    def _levels(self, counts: Float32) -> Float32:
        """Features of the finest grid's sums (n, grid², K)."""
        n, side = len(counts), self.grid
        levels = [counts]
        while self.pyramid and side > 1:
            side //= 2
            fine = levels[-1].reshape(n, side, 2, side, 2, self.words)
            coarse = (fine[:, :, 0, :, 0] + fine[:, :, 0, :, 1]) + (fine[:, :, 1, :, 0] + fine[:, :, 1, :, 1])
            levels.append(coarse.reshape(n, side**2, self.words))
        features = np.concatenate(levels, axis=1).reshape(n, -1)
        return np.sqrt(features, out=features) if self.root else features

    def _regions(self, middles: Float64, shape: Shape) -> IntArray:
        """Region (P,) of every square, by rows."""
        row, column = ((middles / shape[:2]) * self.grid).astype(np.int64).T
        return np.asarray(row * self.grid + column, dtype=np.int64)

    @property
    def n_features(self) -> int:
        """D."""
        fitted_shape(self.image_shape, self.name)
        sides = [self.grid >> level for level in range(self.grid.bit_length() if self.pyramid else 1)]
        return self.words * sum(side**2 for side in sides)

    def parameters(self) -> dict[str, Any]:
        """Return the constructor's parameters, with the cell and the step that `fit` chose."""
        names = ("words", "of", "cell", "step", "stack", "encoding", "grid", "pyramid", "whiten", "root")
        return {name: getattr(self, name) for name in names}

    def arrays(self) -> dict[str, Array]:
        """``mean``, ``basis`` and ``centres``."""
        fitted_shape(self.image_shape, self.name)
        assert self.mean is not None and self.basis is not None and self.centres is not None
        return {"mean": self.mean, "basis": self.basis, "centres": self.centres}

    def describe(self) -> str:
        """Words, squares, regions and number of features."""
        side = self.stack * (self.cell or 0)
        grid = f"{self.grid}x{self.grid}" + (" pyramid" if self.pyramid else " regions")
        return (
            f"words: {self.words} words ({self.encoding}) of {self.of} in {side}x{side} pixels every {self.step}, "
            f"{grid}, {self.n_features} features"
        )

    def templates(self, W: FloatArray) -> tuple[Template, ...]:
        """Words of edges: the sum of the words' edges by weight in every region; nothing for colours."""
        weights = check_weights(W, self.n_features, self.name)
        if self.of != "edges":
            return ()
        from lastlayer.representations.glyphs import draw_glyphs

        g, b, K = self.grid, self.stack, weights.shape[1]
        assert self.basis is not None and self.centres is not None
        edges = self.centres.astype(np.float64) @ np.linalg.inv(self.basis.astype(np.float64))
        cells = edges.reshape(self.words, b, b, EDGE_NUMBERS)[..., : 3 * ORIENTATIONS]
        cells = cells.reshape(self.words, b, b, 3, ORIENTATIONS)
        unsigned = (cells[..., 0, :] + cells[..., 1, :]) / 2 + cells[..., 2, :]
        finest = weights[: g * g * self.words].astype(np.float64).reshape(g, g, self.words, K)
        drawn = np.einsum("rcwk,wijo->ricjok", finest, unsigned, optimize=True).reshape(g * b, g * b, ORIENTATIONS, K)
        note = (
            f"Each region of the image has {b} by {b} cells of strokes: the edges of its words, summed by weight, that "
            "a class looks for (left, blue) and that speak against it (right, red), on one scale per class."
        )
        return (Template("hog", note, draw_glyphs(drawn)),)


def _sample(local: LocalDescriptors, images: UInt8, words: int, rng: np.random.Generator) -> Float32:
    """Descriptors (rows, d) at random places of random training images."""
    places = len(local.middles())
    each = min(places, PER_IMAGE)
    wanted = max(SAMPLE, 40 * words)
    chosen = np.sort(rng.choice(len(images), min(len(images), -(-wanted // each)), replace=False))
    if len(chosen) * each < wanted:
        each = min(places, -(-wanted // len(chosen)))
    out = np.empty((len(chosen), each, local.numbers), np.float32)
    scratch = Scratch()
    for start in range(0, len(chosen), _BATCH):
        rows = chosen[start : start + _BATCH]
        descriptors = local(np.asarray(images[rows]), scratch)
        for i, image in enumerate(descriptors):
            out[start + i] = image[np.sort(rng.choice(places, each, replace=False))]
    return out.reshape(-1, local.numbers)
