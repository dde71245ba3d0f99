"""Local binary patterns: against a slow definition; what they do not see; refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lastlayer._arrays import InputError
from lastlayer.representations import from_spec, to_spec
from lastlayer.representations._batches import map_batches
from lastlayer.representations.lbp import LocalBinaryPatterns

RNG = np.random.default_rng
RING = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))


def slow(image: np.ndarray, grid: int) -> np.ndarray:
    light = image.astype(int).sum(axis=2)
    height, width = light.shape
    uniform = [c for c in range(256) if sum((c >> k & 1) != (c >> (k + 1) % 8 & 1) for k in range(8)) <= 2]
    assert len(uniform) == 58
    out = np.zeros((grid, grid, 59))
    pixels = np.zeros((grid, grid, 1))
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            code = sum(2**k for k, (dy, dx) in enumerate(RING) if light[y + dy, x + dx] >= light[y, x])
            place = (y - 1) * grid // (height - 2), (x - 1) * grid // (width - 2)
            out[place][uniform.index(code) if code in uniform else 58] += 1
            pixels[place] += 1
    return np.sqrt(out / pixels).ravel()


@settings(derandomize=True, max_examples=25, deadline=None)
@given(st.integers(3, 14), st.integers(3, 14), st.sampled_from([1, 3]), st.integers(1, 4), st.sampled_from([3, 256]))
def test_any_size_is_its_definition_or_refused(h: int, w: int, channels: int, grid: int, levels: int) -> None:
    images = RNG(h).integers(0, levels, (5, h, w, channels)).astype(np.uint8)
    if min(h, w) < grid + 2:
        with pytest.raises(InputError, match=f"at least {grid + 2}x{grid + 2}"):
            LocalBinaryPatterns(grid).fit(images, RNG(0))
        return
    phi = LocalBinaryPatterns(grid).fit(images, RNG(0))
    Z = phi.transform(images)
    np.testing.assert_allclose(Z, [slow(image, grid) for image in images], atol=1e-6)
    np.testing.assert_array_equal(map_batches(phi._kernel, images, phi.n_features, 2, 3), Z)
    np.testing.assert_array_equal(phi.transform(images[3:4]), Z[3:4])


def test_regions_sum_to_one_and_brightness_is_not_seen() -> None:
    images = RNG(0).integers(0, 100, (4, 15, 12, 3), dtype=np.uint8)
    phi = LocalBinaryPatterns(3, root=False).fit(images, RNG(0))
    Z = phi.transform(images)
    np.testing.assert_allclose(Z.reshape(4, 9, 59).sum(axis=2), 1, rtol=1e-6)
    np.testing.assert_array_equal(phi.transform(images + np.uint8(50)), Z)
    np.testing.assert_array_equal(phi.transform(images * np.uint8(2)), Z)


def test_files_and_refusals() -> None:
    images = RNG(0).integers(0, 256, (4, 9, 9, 1), dtype=np.uint8)
    phi = LocalBinaryPatterns(2, root=False).fit(images, RNG(0))
    back = from_spec(to_spec(phi), {})
    np.testing.assert_array_equal(back.transform(images), phi.transform(images))
    assert "236 features" in phi.describe()
    assert phi.templates(np.ones((236, 2))) == ()
    for wrong in ({"grid": 0}, {"root": 2}, {"grid": 8, "image_shape": (9, 30, 1)}):
        with pytest.raises(InputError, match="lbp"):
            LocalBinaryPatterns(**wrong)
