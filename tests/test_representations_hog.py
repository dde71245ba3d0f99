"""HOG: agreement with scikit-image, its own options, its refusals and its pictures."""

from __future__ import annotations

import itertools
import math
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.feature import hog as skimage_hog

from lastlayer._arrays import InputError
from lastlayer.representations import Hog, orientation_histogram, parse_phi
from lastlayer.representations._batches import Scratch
from lastlayer.representations.blocks import NORMS
from lastlayer.representations.pooling import pool, pooling_matrix

RNG = np.random.default_rng


def some_images(height: int, width: int, channels: int, seed: int = 0) -> np.ndarray:
    """Noise, a smooth ramp, black, few levels (many ties and exact angles), and a step edge."""
    rng = RNG(seed)
    images = rng.integers(0, 256, (5, height, width, channels), dtype=np.uint8)
    images[1] = (np.arange(width)[None, :, None] * 3 + np.arange(height)[:, None, None] * 5) % 256
    images[2] = 0
    images[3] = images[3] // 32 * 32
    images[4] = 30
    images[4, :, width // 2 :] = 200
    return images


def exact_arctan2(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.frompyfunc(math.atan2, 2, 1)(y, x).astype(np.float64)


def reference(images: np.ndarray, *args: object, **kwargs: object) -> np.ndarray:
    """scikit-image's vectors, with the C library's arctangent.

    With AVX-512 NumPy's is a unit in the last place off: a gradient on the edge of two bins, 45° say, then goes into
    the other one, and scikit-image's vector is another on such a processor.
    """
    gray = images.shape[3] == 1
    axis = None if gray else -1
    with mock.patch.object(np, "arctan2", exact_arctan2):
        rows = [skimage_hog(x[..., 0] if gray else x, *args, channel_axis=axis, **kwargs) for x in images]
    return np.array(rows)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("sqrt", [False, True])
def test_agrees_with_scikit_image(channels: int, norm: str, sqrt: bool) -> None:
    layouts = [(9, (8, 8), (3, 3)), (9, (4, 4), (2, 2)), (8, (5, 3), (3, 2)), (6, (8, 8), (1, 1))]
    sizes = [(32, 32), (33, 29), (27, 35)]
    for (height, width), (bins, cell, block) in itertools.product(sizes, layouts):
        images = some_images(height, width, channels)
        phi = Hog.as_scikit_image(bins, cell, block, norm, sqrt).fit(images, RNG(0))
        expected = reference(images, bins, cell, block, norm, transform_sqrt=sqrt, feature_vector=True)
        np.testing.assert_allclose(phi.transform(images), expected, rtol=0, atol=1e-5)


def test_the_documented_text_is_scikit_images_default() -> None:
    text = "hog:cell=8,block=3,signed=false,interpolation=false,compact=false,root=false,levels=1"
    assert parse_phi(text) == Hog.as_scikit_image()
    images = some_images(32, 32, 3)
    Z = parse_phi(text).fit(images, RNG(0)).transform(images)
    np.testing.assert_allclose(Z, reference(images), rtol=0, atol=1e-5)


def slow_histogram(image: np.ndarray, bins: int, cell: int, signed: bool) -> np.ndarray:
    """Interpolated histogram of one gray image, pixel by pixel, as the definition reads."""
    height, width = image.shape
    x = image.astype(float)
    rows, columns, turn = height // cell, width // cell, 2 * np.pi if signed else np.pi
    out = np.zeros((rows, columns, bins))
    for i, j in itertools.product(range(height), range(width)):
        gy = x[i + 1, j] - x[i - 1, j] if 0 < i < height - 1 else 0.0
        gx = x[i, j + 1] - x[i, j - 1] if 0 < j < width - 1 else 0.0
        place = (np.arctan2(gy, gx) % turn) / turn * bins - 0.5
        for k, r, c in itertools.product(range(bins), range(rows), range(columns)):
            off = abs(place - k)
            w = max(0.0, 1 - min(off, bins - off))
            v = max(0.0, 1 - abs((i + 0.5) / cell - r - 0.5)) * max(0.0, 1 - abs((j + 0.5) / cell - c - 0.5))
            out[r, c, k] += np.hypot(gx, gy) * w * v / cell**2
    return out


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("cell", [3, 4])
def test_interpolated_histogram_is_its_definition(signed: bool, cell: int) -> None:
    images = some_images(10, 13, 1)
    got = orientation_histogram(images, 5, (cell, cell), signed=signed, interpolation=True)
    bins = 10 if signed else 5
    expected = np.array([slow_histogram(x[..., 0], bins, cell, signed) for x in images])
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-3)


def test_signed_bins_fold_to_the_unsigned_ones() -> None:
    images = some_images(16, 16, 3)
    for interpolation in (False, True):
        signed = orientation_histogram(images, 9, (4, 4), signed=True, interpolation=interpolation)
        unsigned = orientation_histogram(images, 9, (4, 4), interpolation=interpolation)
        np.testing.assert_allclose(signed[..., :9] + signed[..., 9:], unsigned, rtol=1e-4, atol=1e-3)


def test_a_negative_has_the_same_unsigned_and_the_opposite_signed_histogram() -> None:
    images = some_images(16, 16, 1)
    negative = 255 - images
    for kwargs in ({}, {"interpolation": True}):
        a = orientation_histogram(images, 9, (8, 8), signed=True, **kwargs)
        b = orientation_histogram(negative, 9, (8, 8), signed=True, **kwargs)
        np.testing.assert_allclose(np.roll(b, 9, axis=-1), a, rtol=1e-5, atol=1e-3)


def test_every_vote_is_counted_once() -> None:
    image = some_images(16, 16, 1)[:1]
    magnitude = orientation_histogram(image, 1, (16, 16)).sum()
    for bins in (4, 9, 18):
        total = orientation_histogram(image, bins, (4, 4)).mean(axis=(1, 2)).sum()
        assert total == pytest.approx(magnitude, rel=1e-5)


def test_compact_is_the_mean_and_the_strength_of_the_block_copies() -> None:
    images = some_images(12, 16, 1)
    options = {"pixels_per_cell": 4, "root": False, "levels": 1}
    blocks = Hog(compact=False, **options).fit(images, RNG(0))
    Z = blocks.transform(images).reshape(5, 2, 3, 2, 2, 27)
    compact = Hog(compact=True, **options).fit(images, RNG(0)).transform(images).reshape(5, 3, 4, 31)
    # an inner cell is in four whole blocks; the copy in the block that begins (i, j) cells above it is at (i, j)
    copies = [Z[:, 1 - i, 1 - j, i, j] for i in (0, 1) for j in (0, 1)]
    np.testing.assert_allclose(compact[:, 1, 1, :27], np.mean(copies, axis=0), atol=1e-5)
    np.testing.assert_allclose(compact[:, 1, 1, 27:], np.sum(copies, axis=2).T, atol=1e-4)


def test_root_is_the_square_root_of_the_means() -> None:
    images = some_images(8, 8, 3)
    plain = Hog(root=False).fit(images, RNG(0)).transform(images).reshape(5, -1)
    rooted = Hog(root=True).fit(images, RNG(0)).transform(images)
    first = plain[:, :27]
    np.testing.assert_allclose(rooted[:, :27] ** 2, first, atol=1e-6)
    np.testing.assert_array_equal(rooted[:, 27:31], plain[:, 27:31])


@pytest.mark.parametrize(
    ("side", "cell", "levels", "features"),
    [(8, 2, 3, 31 * 21), (28, 4, 3, 31 * 59), (32, 4, 3, 31 * 84), (64, 8, 3, 31 * 84), (96, 8, 3, 31 * 189)],
)
def test_default_cells_follow_the_image_size(side: int, cell: int, levels: int, features: int) -> None:
    phi = Hog().fit(np.zeros((1, side, side, 1), np.uint8), RNG(0))
    assert phi.parameters()["pixels_per_cell"] == [cell, cell]
    assert phi.levels == levels
    assert phi.n_features == features
    assert f"{features} features" in phi.describe()


def test_feature_counts_stay_moderate_for_any_size() -> None:
    for side in (1, 2, 5, 16, 33, 50, 100, 224, 300, 640):
        phi = Hog().fit(np.zeros((1, side, side, 3), np.uint8), RNG(0)) if side >= 2 else None
        assert phi is None or phi.n_features <= 31 * 189


def test_too_small_images_are_refused_with_the_size_they_need() -> None:
    with pytest.raises(InputError, match="at least 16x16"):
        Hog(pixels_per_cell=8, compact=False, root=False).fit(np.zeros((1, 12, 40, 1), np.uint8), RNG(0))
    with pytest.raises(InputError, match="at least 2x2"):
        Hog().fit(np.zeros((1, 1, 1, 1), np.uint8), RNG(0))
    with pytest.raises(InputError, match="at least 8x8"):
        orientation_histogram(np.zeros((1, 7, 9, 1), np.uint8))
    with pytest.raises(InputError, match="at least one image"):
        Hog().fit(np.zeros((0, 8, 8, 1), np.uint8), RNG(0))


@pytest.mark.parametrize(
    "parameters",
    [
        {"orientations": 0},
        {"orientations": True},
        {"pixels_per_cell": (4, 4, 4)},
        {"pixels_per_cell": 0},
        {"cells_per_block": "2"},
        {"block_norm": "l2"},
        {"signed": 1},
        {"levels": 0},
        {"compact": False, "root": True},
        {"image_shape": (8, 8, 1)},
    ],
)
def test_wrong_parameters_are_refused_by_name(parameters: dict[str, object]) -> None:
    with pytest.raises(InputError, match="hog"):
        Hog(**parameters)


def test_flat_images_have_no_features_and_no_warnings() -> None:
    images = np.full((2, 16, 16, 3), 77, np.uint8)
    assert not Hog().fit(images, RNG(0)).transform(images).any()


@settings(derandomize=True, max_examples=25, deadline=None)
@given(
    st.integers(6, 20),
    st.integers(6, 20),
    st.sampled_from([1, 3]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from(NORMS),
    st.booleans(),
)
def test_a_row_depends_on_its_image_alone(
    height: int, width: int, channels: int, signed: bool, soft: bool, compact: bool, norm: str, sqrt: bool
) -> None:
    images = RNG(height).integers(0, 256, (7, height, width, channels), dtype=np.uint8)
    phi = Hog(5, 3, 2, norm, sqrt, signed=signed, interpolation=soft, compact=compact, root=compact, levels=2).fit(
        images, RNG(0)
    )
    Z = phi.transform(images)
    assert Z.dtype == np.float32
    assert Z.shape == (7, phi.n_features)
    assert Z.flags.c_contiguous
    assert np.isfinite(Z).all()
    assert (Z >= 0).all()
    for rows in ([0], [6], [2, 5], [6, 1, 3]):
        np.testing.assert_array_equal(phi.transform(images[rows]), Z[rows])


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_pooling_is_its_matrix(size: int) -> None:
    x = RNG(1).random((11, 13, 4)).astype(np.float32)
    out = np.empty((11 // size, 13 // size, 4), np.float32)
    pool(x, (size, size), out, Scratch())
    down, across = pooling_matrix(11, size, False), pooling_matrix(13, size, False)
    np.testing.assert_allclose(out, np.einsum("ri,cj,ijn->rcn", down, across, x), rtol=1e-5)


def test_edge_weights_are_the_derivative_by_the_cell_histograms() -> None:
    """With no normalisation to speak of, adding an edge moves the score by its weight."""
    phi = Hog(4, 2, 1, signed=True, compact=True, root=False, levels=2)
    phi = phi.fit(np.zeros((1, 8, 8, 1), np.uint8), RNG(0))
    W = RNG(2).normal(size=(phi.n_features, 3))
    got = phi.edge_weights(W)
    assert got.shape == (4, 4, 4, 3)
    fine = W[: 16 * 13].reshape(4, 4, 13, 3)
    coarse = W[16 * 13 :].reshape(2, 2, 13, 3)
    matrix = pooling_matrix(4, 2, True) / 2
    spread = np.einsum("rf,cg,rcbk->fgbk", matrix, matrix, coarse)
    total = fine + spread
    expected = (total[:, :, :4] + total[:, :, 4:8]) / 2 + total[:, :, 8:12]
    np.testing.assert_allclose(got, expected)


def test_block_copies_of_a_cell_are_summed_in_the_pictures() -> None:
    phi = Hog.as_scikit_image(3, 4, 2).fit(np.zeros((1, 12, 12, 1), np.uint8), RNG(0))
    got = phi.edge_weights(np.ones((phi.n_features, 2)))
    np.testing.assert_array_equal(got[:, :, 0, 0], [[1, 2, 1], [2, 4, 2], [1, 2, 1]])


def test_strokes_lie_along_the_edge() -> None:
    """A dark-to-light step from left to right (gradient 0°) is a vertical edge, and so is its stroke."""
    step = np.zeros((1, 16, 16, 1), np.uint8)
    step[:, :, 8:] = 200
    phi = Hog.as_scikit_image(9, 16, 1).fit(step, RNG(0))
    W = phi.transform(step).T.astype(np.float64)
    picture = phi.templates(W)[0].images[0]
    ink = 1 - picture[:, : picture.shape[0]].mean(axis=2)
    profile_x, profile_y = ink.sum(axis=0), ink.sum(axis=1)
    assert (profile_x > 0.1 * profile_x.max()).sum() < 0.5 * (profile_y > 0.1 * profile_y.max()).sum()


def test_templates_show_both_signs_side_by_side() -> None:
    phi = Hog().fit(np.zeros((1, 32, 32, 3), np.uint8), RNG(0))
    W = np.zeros((phi.n_features, 2))
    W[0, 0], W[0, 1] = 1.0, -1.0
    (template,) = phi.templates(W)
    assert template.kind == "hog"
    assert template.images.dtype == np.float32
    assert template.images.shape[:2] == (2, 160)
    assert template.images.min() >= 0
    assert template.images.max() <= 1
    middle = template.images.shape[2] // 2
    ink = (1 - template.images).sum(axis=(1, 3))
    assert ink[0, :middle].sum() > 0 == ink[0, middle:].sum()
    assert ink[1, middle:].sum() > 0 == ink[1, :middle].sum()
    with pytest.raises(InputError, match="weights of hog"):
        phi.templates(W[:-1])
