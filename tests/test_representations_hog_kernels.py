"""The compiled HOG: every combination of its options against the definitions, and bits that depend on nothing else."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import slow_hog
from lastlayer._arrays import InputError
from lastlayer.representations import Hog, orientation_histogram
from lastlayer.representations._batches import map_batches
from lastlayer.representations.blocks import NORMS
from lastlayer.representations.gradients import cached_batch, shares
from lastlayer.representations.pooling import pooling_matrix

RNG = np.random.default_rng


def some_images(height: int, width: int, channels: int, seed: int) -> np.ndarray:
    """Noise, a ramp, flat, few levels (ties and exact angles), one bright pixel."""
    images = RNG(seed).integers(0, 256, (5, height, width, channels), dtype=np.uint8)
    images[1] = (np.arange(width)[None, :, None] * 3 + np.arange(height)[:, None, None] * 5) % 256
    images[2] = 9
    images[3] = images[3] // 64 * 64
    images[4] = 0
    images[4, height // 2, width // 2] = 255
    return images


def assert_is_its_definition(phi: Hog, images: np.ndarray) -> None:
    Z = phi.transform(images)
    options = {name: getattr(phi, name) for name in phi.parameters()}
    cell, block = options.pop("pixels_per_cell"), options.pop("cells_per_block")
    orientations = options.pop("orientations")
    expected = np.array([slow_hog.hog(image, orientations, cell, block, **options) for image in images])
    # a root near 0 makes much of the rounding of what is below it
    np.testing.assert_allclose(Z, expected, rtol=1e-5, atol=1e-3 if phi.root else 2e-5)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("signed", "soft"), list(itertools.product([False, True], repeat=2)))
def test_every_combination_is_its_definition(norm: str, signed: bool, soft: bool) -> None:
    for channels, sqrt, (compact, root) in itertools.product(
        (1, 3), (False, True), ((False, False), (True, False), (True, True))
    ):
        images = some_images(11, 14, channels, seed=3)
        phi = Hog(5, (3, 2), (2, 3), norm, sqrt, signed, soft, compact, root, levels=2)
        assert_is_its_definition(phi.fit(images, RNG(0)), images)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 17), st.integers(1, 17)),
    cell=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    block=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    bins=st.integers(1, 12),
    channels=st.sampled_from([1, 3]),
    norm=st.sampled_from(NORMS),
    flags=st.tuples(*[st.booleans()] * 5),
    levels=st.integers(1, 4),
)
def test_any_size_is_its_definition_or_refused(size, cell, block, bins, channels, norm, flags, levels) -> None:  # type: ignore[no-untyped-def]
    sqrt, signed, soft, compact, root = flags
    images = some_images(*size, channels, seed=bins)
    phi = Hog(bins, cell, block, norm, sqrt, signed, soft, compact, root and compact, levels)
    need = (1, 1) if compact else block
    if size[0] < cell[0] * need[0] or size[1] < cell[1] * need[1]:
        with pytest.raises(InputError, match="too small"):
            phi.fit(images, RNG(0))
    else:
        assert_is_its_definition(phi.fit(images, RNG(0)), images)


@pytest.mark.parametrize(("sqrt", "signed", "soft"), list(itertools.product([False, True], repeat=3)))
def test_the_cells_are_their_definition(sqrt: bool, signed: bool, soft: bool) -> None:
    images = some_images(9, 8, 3, seed=1)
    got = orientation_histogram(images, 4, (4, 3), signed=signed, interpolation=soft, transform_sqrt=sqrt)
    bins = 8 if signed else 4
    expected = np.array([slow_hog.cells(image, bins, (4, 3), signed, soft, sqrt) for image in images])
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-4)


def test_bits_do_not_depend_on_batches_threads_or_strides() -> None:
    images = RNG(5).integers(0, 256, (3 * cached_batch(16, 16) + 1, 16, 16, 3), dtype=np.uint8)
    phi = Hog().fit(images, RNG(0))
    Z = phi.transform(images)
    for batch, threads in ((1, 1), (7, 1), (7, 4), (1000, 3)):
        again = map_batches(phi._kernel, images, phi.n_features, batch, threads)
        np.testing.assert_array_equal(again, Z)
    mirrored = np.ascontiguousarray(images[:, :, ::-1])
    np.testing.assert_array_equal(phi.transform(images[:, :, ::-1]), phi.transform(mirrored))
    images.flags.writeable = False
    np.testing.assert_array_equal(phi.transform(images), Z)
    np.testing.assert_array_equal(Z, phi.transform(images))


@pytest.mark.parametrize(("hats", "size"), list(itertools.product([False, True], [1, 2, 3, 4, 7])))
def test_shares_are_the_pooling_matrix(hats: bool, size: int) -> None:
    index, share = shares(15, size, hats)
    matrix = np.zeros((15 // size, 15))
    for pixel, side in itertools.product(range(15), range(2)):
        matrix[index[pixel, side], pixel] += share[pixel, side]
    np.testing.assert_allclose(matrix, pooling_matrix(15, size, hats), rtol=1e-6)


def test_one_direction_bin_takes_every_vote() -> None:
    images = some_images(8, 8, 1, seed=2)
    soft = orientation_histogram(images, 1, (8, 8), interpolation=True)
    gx, gy = np.zeros(images.shape[:3]), np.zeros(images.shape[:3])
    x = images[..., 0].astype(float)
    gx[:, :, 1:-1], gy[:, 1:-1] = x[:, :, 2:] - x[:, :, :-2], x[:, 2:] - x[:, :-2]
    hat = slow_hog.hats(8, 8)[0]
    expected = np.einsum("nyx,y,x->n", np.hypot(gx, gy), hat, hat) / 64
    np.testing.assert_allclose(soft.ravel(), expected, rtol=1e-5, atol=1e-4)
