"""Pixels and colour histograms: values against Pillow, scikit-image and slow definitions; pictures; refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.color import rgb2hsv, rgb2lab

from lastlayer._arrays import InputError
from lastlayer.representations import Colour, Pixels, Representation
from lastlayer.representations.colour_spaces import linear_to_lab, rgb_to_hsv, srgb_to_linear
from lastlayer.representations.glyphs import diverging, enlarge, per_class_scale
from lastlayer.representations.swatches import bin_swatches

RNG = np.random.default_rng


def noise(n: int, height: int, width: int, channels: int, seed: int = 0) -> np.ndarray:
    return RNG(seed).integers(0, 256, (n, height, width, channels), dtype=np.uint8)


def fitted(phi: Representation, images: np.ndarray) -> Representation:
    return phi.fit(images, RNG(0))


def test_pixels_are_the_image_in_zero_to_one() -> None:
    images = noise(4, 5, 6, 3)
    Z = fitted(Pixels(), images).transform(images)
    assert Z.dtype == np.float32
    np.testing.assert_allclose(Z.reshape(images.shape) * 255, images, rtol=1e-6)
    assert (
        fitted(Pixels(), np.full((1, 2, 2, 1), 255, np.uint8)).transform(np.full((1, 2, 2, 1), 255, np.uint8)).max()
        == 1.0
    )


def test_gray_is_pillows_to_one_level() -> None:
    images = noise(6, 9, 7, 3)
    Z = fitted(Pixels(color="gray"), images).transform(images)
    expected = np.stack([np.asarray(Image.fromarray(x).convert("L")) for x in images])
    assert np.abs(Z.reshape(6, 9, 7) * 255 - expected).max() <= 0.51
    gray = noise(2, 4, 4, 1)
    np.testing.assert_array_equal(
        fitted(Pixels(color="gray"), gray).transform(gray), fitted(Pixels(), gray).transform(gray)
    )


@pytest.mark.parametrize("shape", [(32, 32), (28, 20), (17, 23)])
@pytest.mark.parametrize("size", [1, 5, 16])
def test_size_takes_exact_area_averages(shape: tuple[int, int], size: int) -> None:
    images = noise(3, *shape, 3)
    Z = fitted(Pixels(size=size), images).transform(images)
    # every pixel split into size x size equal ones, which then fill whole new pixels
    fine = images.astype(float).repeat(size, axis=1).repeat(size, axis=2)
    expected = fine.reshape(3, size, shape[0], size, shape[1], 3).mean(axis=(2, 4)) / 255
    np.testing.assert_allclose(Z, expected.reshape(3, -1), atol=2e-6)


def test_size_does_not_alias() -> None:
    stripes = np.zeros((1, 32, 32, 1), np.uint8)
    stripes[:, :, ::2] = 255
    np.testing.assert_allclose(fitted(Pixels(size=16), stripes).transform(stripes), 0.5)


def test_pixels_refuse_what_they_cannot_do() -> None:
    small = noise(1, 8, 8, 1)
    with pytest.raises(InputError, match=r"size=16 .* 8x8 .*at least 16x16"):
        Pixels(size=16).fit(small, RNG(0))
    with pytest.raises(InputError, match="gray"):
        Pixels(color="rgb").fit(small, RNG(0))
    with pytest.raises(InputError, match="one of auto, gray, rgb"):
        Pixels(color="blue")
    with pytest.raises(InputError, match="not fitted"):
        Pixels().transform(small)
    with pytest.raises(InputError, match="8x8 pixels, 1 channel and met images of 9x9 pixels, 3 channels"):
        Pixels().fit(small, RNG(0)).transform(noise(1, 9, 9, 3))
    with pytest.raises(InputError, match="uint8"):
        Pixels().fit(small.astype(np.float32), RNG(0))


def test_hsv_is_scikit_images() -> None:
    levels = np.array(np.meshgrid(*[range(0, 256, 15)] * 3), np.uint8).reshape(3, -1).T[None]
    colours = np.concatenate([levels, noise(1, 1, levels.shape[1], 3)[0]])
    rgb = colours.astype(np.float32) / np.float32(255)
    got = rgb_to_hsv(rgb.transpose(2, 0, 1)).transpose(1, 2, 0)
    expected = rgb2hsv(colours)
    circle = np.abs(got[..., 0] - expected[..., 0])
    assert np.minimum(circle, 1 - circle).max() < 1e-5
    assert (got[..., 0] < 1).all()
    np.testing.assert_allclose(got[..., 1:], expected[..., 1:], atol=1e-6)


def test_lab_is_scikit_images() -> None:
    levels = np.array(np.meshgrid(*[range(0, 256, 15)] * 3), np.uint8).reshape(3, -1).T[None]
    linear = srgb_to_linear(levels.astype(np.float32) / np.float32(255))
    got = linear_to_lab(linear.transpose(2, 0, 1)).transpose(1, 2, 0)
    np.testing.assert_allclose(got, rgb2lab(levels), atol=2e-3)


def slow_colour(image: np.ndarray, phi: Colour) -> np.ndarray:
    """Colour histogram of one image, pixel by pixel."""
    height, width, _ = image.shape
    space = rgb2hsv(image) if phi.space == "hsv" else rgb2lab(image) / 100 + [0, 0.5, 0.5]
    out = np.zeros((phi.grid, phi.grid, 3, phi.bins))
    edges_r = [i * height // phi.grid for i in range(phi.grid + 1)]
    edges_c = [i * width // phi.grid for i in range(phi.grid + 1)]
    for r in range(phi.grid):
        for c in range(phi.grid):
            region = space[edges_r[r] : edges_r[r + 1], edges_c[c] : edges_c[c + 1]].reshape(-1, 3)
            for pixel in region:
                for channel, value in enumerate(pixel):
                    hue = channel == 0 and phi.space == "hsv"
                    amount = pixel[1] if hue else 1.0
                    place = value * (phi.bins if hue else phi.bins - 1) if phi.soft else np.floor(value * phi.bins)
                    place = place if hue else np.clip(place, 0, phi.bins - 1)
                    for k in range(phi.bins):
                        off = abs(place - k)
                        off = min(off, phi.bins - off) if hue else off
                        out[r, c, channel, k] += amount * max(0.0, 1 - off) / len(region)
    return np.sqrt(out) if phi.root else out


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("space", ["hsv", "lab"])
def test_colour_is_its_definition(space: str, soft: bool) -> None:
    images = noise(2, 7, 9, 3)
    phi = Colour(space=space, bins=5, grid=2, soft=soft, root=False).fit(images, RNG(0))
    expected = np.array([slow_colour(x, phi) for x in images]).reshape(2, -1)
    np.testing.assert_allclose(phi.transform(images), expected, atol=2e-4)


def test_each_histogram_sums_to_one_and_the_hue_to_the_saturation() -> None:
    images = noise(3, 8, 8, 3)
    phi = Colour(grid=2, root=False).fit(images, RNG(0))
    Z = phi.transform(images).reshape(3, 2, 2, 3, 8).sum(axis=-1)
    np.testing.assert_allclose(Z[..., 1:], 1, rtol=1e-5)
    saturation = rgb2hsv(images)[..., 1].reshape(3, 2, 4, 2, 4).mean(axis=(2, 4))
    np.testing.assert_allclose(Z[..., 0], saturation, rtol=1e-4)


def test_root_and_gray_and_counts() -> None:
    images = noise(3, 8, 8, 3)
    plain = Colour(root=False).fit(images, RNG(0)).transform(images)
    np.testing.assert_allclose(Colour().fit(images, RNG(0)).transform(images) ** 2, plain, atol=1e-6)
    assert Colour().fit(images, RNG(0)).n_features == 4 * 4 * 3 * 8
    gray = Colour(bins=4, grid=1, root=False).fit(images[..., :1], RNG(0))
    assert gray.n_features == 4
    black = gray.transform(np.zeros((1, 8, 8, 1), np.uint8))
    np.testing.assert_array_equal(black, [[1, 0, 0, 0]])
    assert "brightness" in gray.describe()


def test_colour_refuses_what_it_cannot_do() -> None:
    with pytest.raises(InputError, match="at least 4x4"):
        Colour().fit(noise(1, 3, 9, 3), RNG(0))
    for wrong in ({"space": "rgb"}, {"bins": 1}, {"grid": 0}, {"soft": "yes"}, {"root": 1}):
        with pytest.raises(InputError, match="colour"):
            Colour(**wrong)


@settings(derandomize=True, max_examples=25, deadline=None)
@given(
    st.sampled_from(
        [
            Pixels(),
            Pixels(size=3),
            Pixels(size=5, color="gray"),
            Colour(grid=2),
            Colour(space="lab", bins=3),
            Colour(soft=False, root=False),
        ]
    ),
    st.integers(5, 14),
    st.integers(5, 14),
    st.sampled_from([1, 3]),
)
def test_a_row_depends_on_its_image_alone(phi: Representation, height: int, width: int, channels: int) -> None:
    images = noise(9, height, width, channels, height)
    phi = phi.fit(images, RNG(0))
    Z = phi.transform(images)
    assert Z.shape == (9, phi.n_features)
    assert Z.flags.c_contiguous
    assert np.isfinite(Z).all()
    for rows in ([0], [8], [2, 5], [6, 1, 3]):
        np.testing.assert_array_equal(phi.transform(images[rows]), Z[rows])


def test_gray_pixel_templates_are_red_white_and_blue() -> None:
    phi = Pixels().fit(noise(1, 2, 2, 1), RNG(0))
    W = np.array([[1.0, 0], [0, 0], [-1, 0], [0.5, 0]])
    (template,) = phi.templates(W)
    assert template.kind == "pixels"
    assert template.images.shape == (2, 160, 160, 3)
    first = template.images[0]
    blue, white, red = first[0, 0], first[0, -1], first[-1, 0]
    assert blue[2] > blue[0]
    assert red[0] > red[2]
    np.testing.assert_array_equal(white, 1)
    np.testing.assert_array_equal(template.images[1], 1)  # a class without weights is white, not a division by zero


def test_rgb_pixel_templates_lie_around_mid_gray() -> None:
    phi = Pixels().fit(noise(1, 1, 2, 3), RNG(0))
    W = np.array([[1.0], [0], [0], [0], [0], [-1.0]])
    images = phi.templates(W)[0].images
    np.testing.assert_allclose(images[0, 0, 0], [1, 0.5, 0.5])
    np.testing.assert_allclose(images[0, 0, -1], [0.5, 0.5, 0])


def test_colour_templates_list_bins_by_weight() -> None:
    phi = Colour(bins=4, grid=2).fit(noise(1, 4, 4, 3), RNG(0))
    W = np.zeros((phi.n_features, 2)).reshape(4, 12, 2)
    W[:, 0, 0], W[:, 11, 0] = 2.0, -2.0  # red hue for, white against
    (template,) = phi.templates(W.reshape(-1, 2))
    picture = template.images[0]
    colours = bin_swatches("hsv", 4, 50.0)[:, 0]
    np.testing.assert_allclose(picture[5, 10], colours[0], atol=1e-6)
    np.testing.assert_allclose(picture[-5, 10], colours[11], atol=1e-6)
    assert template.images.min() >= 0
    assert template.images.max() <= 1


def test_lab_swatches_have_the_colours_they_stand_for() -> None:
    colours = bin_swatches("lab", 3, 50.0)[:, 0]
    np.testing.assert_allclose(colours[:3], [[0, 0, 0], [0.4663] * 3, [1, 1, 1]], atol=2e-3)
    inside = rgb2lab(colours[[4, 7]][None])[0]
    np.testing.assert_allclose(inside, [[65, 0, 0], [65, 0, 0]], atol=0.05)
    yellow = rgb2lab(colours[8][None, None])[0, 0]
    np.testing.assert_allclose(yellow, [65, 0, 50], atol=0.5)


def test_the_map_darkens_to_both_ends_and_scales_are_per_class() -> None:
    ramp = diverging(np.linspace(-1, 1, 21))
    light = ramp.mean(axis=1)
    assert (np.diff(light[:11]) > 0).all()
    assert (np.diff(light[10:]) < 0).all()
    scaled = per_class_scale(np.array([[1.0, -300.0], [-0.5, 100.0]]))
    np.testing.assert_allclose(np.abs(scaled).max(axis=0), 1, rtol=0.01)
    assert enlarge(np.ones((1, 200, 100, 3), np.float32)).shape == (1, 200, 100, 3)
