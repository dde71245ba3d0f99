"""Every preprocessing step against an independent formula, and what holds of all of them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from lastlayer._arrays import InputError
from lastlayer.representations import _threads as threads
from lastlayer.representations.blur import Blur
from lastlayer.representations.contrast import Contrast
from lastlayer.representations.crop import Crop
from lastlayer.representations.denoise import Denoise
from lastlayer.representations.deskew import Deskew
from lastlayer.representations.equalise import Equalise
from lastlayer.representations.median import Median
from lastlayer.representations.registry import STEPS
from lastlayer.representations.resize import Resize

RNG = np.random.default_rng
ALL = [
    *(Deskew(), Deskew("white"), Blur(), Blur(0.4), Denoise(), Median(), Contrast(), Contrast(20, 1), Equalise()),
    *(Crop(), Crop(3), Resize(9), Resize(5)),
]


def noise(n: int = 12, height: int = 10, width: int = 13, channels: int = 3) -> np.ndarray:
    return RNG(3).integers(0, 256, (n, height, width, channels), dtype=np.uint8)


def test_every_step_is_tested_here() -> None:
    assert {type(step) for step in ALL} == set(STEPS.values())
    assert all(STEPS[step.name] is type(step) for step in ALL)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("step", ALL, ids=str)
def test_an_image_becomes_the_same_in_any_company(step, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    images = noise(300, channels=channels)
    before = images.copy()
    found = step.fit(images, RNG(0)).transform(images)
    assert found.dtype == np.uint8 and found.shape == (300, *step.shape((10, 13, channels)))
    np.testing.assert_array_equal(images, before)
    for rows in (slice(0, 1), slice(5, 8), slice(250, 300)):
        np.testing.assert_array_equal(step.transform(images[rows]), found[rows])
    monkeypatch.setattr(threads, "thread_count", lambda: 5)
    np.testing.assert_array_equal(step.transform(np.asfortranarray(images)), found)
    assert type(step)(**step.parameters()) == step and step.arrays() == {} and step.describe()
    assert step.transform(images[:0]).shape == (0, *found.shape[1:])


@pytest.mark.parametrize("step", ALL, ids=str)
def test_flat_images_stay_flat(step) -> None:
    for value in (0, 1, 128, 255):
        if isinstance(step, Deskew) and value not in (0, 255):
            continue  # what comes in from outside has the ground's colour
        images = np.full((2, 10, 13, 1), value, np.uint8)
        assert len(np.unique(step.transform(images))) == 1


# ---------------------------------------------------------------------------------------------------------- deskew


def _by_scipy(image: np.ndarray) -> np.ndarray:
    """The same map by scipy's general one: output place o comes from ``M o + c``."""
    v = image.astype(float)
    rows, columns = np.mgrid[: v.shape[0], : v.shape[1]]
    y, x = (v * rows).sum() / v.sum(), (v * columns).sum() / v.sum()
    slant = (v * (rows - y) * (columns - x)).sum() / (v * (rows - y) ** 2).sum()
    matrix = np.array([[1.0, 0.0], [slant, 1.0]])
    middle = (np.array(v.shape) - 1) / 2
    wide = np.pad(v, 8)  # scipy has no half-way values beyond the border
    offset = np.array([y, x]) - matrix @ middle
    shift = 8 - matrix @ np.array([8.0, 8.0]) + offset
    return ndimage.affine_transform(wide, matrix, shift, order=1)[8:-8, 8:-8]


def test_deskewing_is_the_shear_of_the_moments() -> None:
    images = noise(20, 14, 11, 1)
    images[:, :3] //= 9  # off the middle, and slanted
    images[:, 9:, 6:] = 0
    found = Deskew().transform(images)
    expected = np.stack([_by_scipy(image[:, :, 0]) for image in images])
    assert np.abs(found[:, :, :, 0] - expected).max() <= 0.5 + 1e-3


def test_a_sheared_bar_becomes_upright_and_is_put_in_the_middle() -> None:
    image = np.zeros((1, 28, 28, 1), np.uint8)
    for row in range(3, 21):
        image[0, row, 4 + row // 2 : 7 + row // 2] = 255
    (found,) = Deskew().transform(image)[:, :, :, 0].astype(float)
    rows = np.flatnonzero(found.sum(axis=1) > 1)
    centres = (found * np.arange(28)).sum(axis=1)[rows] / found.sum(axis=1)[rows]
    assert np.abs(np.polyfit(rows, centres, 1)[0]) < 0.01  # it was 0.5
    assert ndimage.center_of_mass(found) == pytest.approx((13.5, 13.5), abs=0.05)
    again = Deskew().transform(np.rint(found).astype(np.uint8)[None, :, :, None])[0, :, :, 0]
    assert np.abs(again - found).max() < 30  # nothing is left to be done but rounding


def test_dark_on_white_is_the_negative_of_bright_on_black() -> None:
    images = noise(5, 12, 12, 1)
    np.testing.assert_array_equal(Deskew("white").transform(255 - images), 255 - Deskew().transform(images))


def test_images_without_a_slope_are_left_alone() -> None:
    images = np.zeros((3, 9, 9, 1), np.uint8)
    images[1, 4, 4] = 77  # one point, in the middle
    images[2, 4, 2:7] = 50  # one row
    np.testing.assert_array_equal(Deskew().transform(images), images)


# ---------------------------------------------------------------------------------------------------------- filters


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.3])
def test_blur_is_scipys(sigma: float) -> None:
    images = noise()
    expected = ndimage.gaussian_filter(
        images.astype(float), (0, sigma, sigma, 0), mode="nearest", radius=int(np.ceil(3 * sigma))
    )
    assert np.abs(Blur(sigma).transform(images) - expected).max() <= 0.5 + 1e-3


def test_median_is_scipys() -> None:
    images = noise()
    np.testing.assert_array_equal(
        Median().transform(images), ndimage.median_filter(images, (1, 3, 3, 1), mode="nearest")
    )


def test_denoising_keeps_large_values_alone() -> None:
    images = noise()
    np.testing.assert_array_equal(Denoise(90).transform(images), np.where(images < 90, 0, images))


def test_contrast_has_the_mean_and_deviation_asked_for() -> None:
    images = (noise(8) // 4 + 60).astype(np.uint8)
    found = Contrast(30).transform(images).reshape(8, -1)
    np.testing.assert_allclose(found.mean(axis=1), 128, atol=0.1)
    np.testing.assert_allclose(found.std(axis=1), 30, atol=0.1)
    flat = np.full((1, 4, 4, 1), 9, np.uint8)
    flat[0, 0, 0] = 10
    assert np.abs(Contrast().transform(flat).astype(int) - 128).max() < 7  # noise of one grey value stays small


def test_equalised_ranks() -> None:
    image = np.array([10, 10, 20, 30, 30, 30, 200, 200], np.uint8).reshape(1, 2, 4, 1)
    # up to each value: 2, 3, 6, 8 of 8
    expected = np.rint(255 * (np.array([2, 2, 3, 6, 6, 6, 8, 8]) - 2) / 6).reshape(1, 2, 4, 1)
    np.testing.assert_array_equal(Equalise().transform(image), expected)


def test_cropping_and_reducing() -> None:
    images = noise()
    np.testing.assert_array_equal(Crop(2).transform(images), images[:, 2:8, 2:11])
    even = noise(height=8, width=12)
    blocks = even.reshape(12, 4, 2, 4, 3, 3).mean(axis=(2, 4))
    assert np.abs(Resize(4).transform(even) - blocks).max() <= 0.5 + 1e-3


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Deskew("grey"), "ground is 'grey'; one of black, white"),
        (lambda: Blur(0), "sigma is 0; a number from 0.1"),
        (lambda: Blur(True), "sigma is True"),
        (lambda: Denoise(0), "below is 0"),
        (lambda: Contrast(np.nan), "spread is nan"),
        (lambda: Crop(5).shape((10, 20, 1)), "nothing is left of images of 10x20.*At least 11"),
        (lambda: Crop(5).transform(noise()), "nothing is left"),
        (lambda: Resize(11).transform(noise()), "size=11 is larger than the images of 10x13"),
        (lambda: Blur().transform(noise().astype(float)), "uint8"),
    ],
)
def test_what_cannot_be_is_refused(make, said: str) -> None:
    with pytest.raises(InputError, match=said):
        make()
