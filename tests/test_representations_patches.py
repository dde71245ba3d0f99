"""Patch features against a slow reference, their exact mirror images, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lastlayer._arrays import InputError
from lastlayer.representations import patches, specs
from lastlayer.representations.patch_dictionary import choose_filters
from lastlayer.representations.patch_encoding import TILE
from lastlayer.representations.patch_pooling import bin_ends, pooling, region_weights
from lastlayer.representations.patch_whitening import Whitening, mirrored_columns, sample_patches
from lastlayer.representations.patches import Patches
from lastlayer.selection.fit import fit_linear

CASES = [
    {"filters": 12},
    {"filters": 12, "encoding": "triangle"},
    {"filters": 10, "size": 3, "pool": 2, "shape": "box", "power": 1.0},
    {"filters": 7, "mirror": False, "dictionary": "kmeans", "threshold": 0.0},
    {"filters": 6, "pool": 1, "flat": 1.0, "components": 10, "power": 0.7},
    {"filters": TILE + 4, "components": 5},
]


@pytest.fixture(autouse=True)
def few_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Statistics of fewer patches: enough for small pictures, and quick."""
    monkeypatch.setattr(patches, "SAMPLED", 4000)


def pictures(n: int = 40, height: int = 11, width: int = 14, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Smooth random pictures, neighbours alike as in photographs."""
    rng = np.random.default_rng(seed)
    rough = rng.normal(size=(n, height + 3, width + 3, channels))
    smooth = sum(rough[:, i : i + height, j : j + width] for i in range(4) for j in range(4))
    return np.clip(128 + 25 * smooth, 0, 255).astype(np.uint8)


def slow_features(phi: Patches, image: np.ndarray) -> np.ndarray:
    """The definition, patch by patch, in float64, without mirror images or power."""
    mean, basis, signs, chosen = (phi.arrays()[name].astype(float) for name in ("mean", "basis", "signs", "chosen"))
    filters = np.vstack([chosen, chosen * signs]) if phi.mirror else chosen
    rows, columns = image.shape[0] - phi.size + 1, image.shape[1] - phi.size + 1
    grid = []
    for y in range(rows):
        for x in range(columns):
            w = (image[y : y + phi.size, x : x + phi.size].ravel() / 255 - mean) @ basis
            w = w / np.sqrt((w**2).mean() + phi.flat)
            r = filters @ w
            if phi.encoding == "soft":
                grid.append([np.maximum(r - phi.threshold, 0), np.maximum(-r - phi.threshold, 0)])
            else:
                d = np.linalg.norm(w - np.sqrt(len(w)) * filters, axis=1)
                grid.append([np.maximum(d.mean() - d, 0)])
    acts = np.array(grid).reshape(rows, columns, -1, len(filters))

    def per_position(n: int) -> np.ndarray:
        return np.repeat(region_weights(n, phi.pool, phi.shape), np.diff(bin_ends(n), prepend=0), axis=1)

    return np.einsum("ry,cx,yxsk->rcsk", per_position(rows), per_position(columns), acts)


def slow_transform(phi: Patches, image: np.ndarray) -> np.ndarray:
    """As `slow_features`, with the power, averaged over the image and its mirror image where asked for."""
    own = slow_features(phi, image) ** phi.power
    if not phi.mirror:
        return own.ravel()
    half = phi.filters // 2
    twin = slow_features(phi, image[:, ::-1]) ** phi.power
    assert np.allclose(twin[:, :, :, :half], own[:, ::-1, :, half:], atol=1e-5)
    return (np.sqrt(2) * 0.5 * (own + twin)[..., :half]).ravel()


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_features_are_those_of_the_definition(case: dict, channels: int) -> None:
    X = pictures(channels=channels)
    phi = Patches(**case).fit(X, np.random.default_rng(3))
    Z = phi.transform(X[:5])
    assert Z.shape == (5, phi.n_features) and Z.dtype == np.float32
    assert (Z > 0).any()
    for image, z in zip(X, Z):
        np.testing.assert_allclose(z, slow_transform(phi, image), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_features_do_not_depend_on_the_batch(case: dict) -> None:
    X = pictures(70)
    phi = Patches(**case).fit(X, np.random.default_rng(3))
    whole = phi.transform(X)
    assert np.array_equal(whole[33:34], phi.transform(X[33:34]))
    assert np.array_equal(whole[3:67], phi.transform(X[3:67]))


def test_the_same_seed_gives_the_same_filters_and_another_seed_others() -> None:
    X = pictures()
    first, again, other = (
        Patches(8, dictionary="kmeans").fit(X, np.random.default_rng(seed)).arrays()["chosen"] for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("encoding", ["soft", "triangle"])
def test_an_image_and_its_mirror_image_have_the_same_features(encoding: str) -> None:
    X = pictures()
    phi = Patches(20, encoding=encoding).fit(X, np.random.default_rng(0))
    np.testing.assert_allclose(phi.transform(X), phi.transform(X[:, :, ::-1].copy()), rtol=1e-4, atol=1e-4)
    plain = Patches(20, encoding=encoding, mirror=False).fit(X, np.random.default_rng(0))
    assert np.abs(plain.transform(X) - plain.transform(X[:, :, ::-1].copy())).max() > 0.05


def test_training_on_mirrored_features_is_training_on_all_mirror_images() -> None:
    """The optimum on {x, mirror x} with the whole dictionary scores as the optimum on half as many features."""
    X = pictures(60)
    y = np.random.default_rng(1).integers(3, size=60)
    half = Patches(10, pool=2).fit(X, np.random.default_rng(0))
    # the same filters, written out: nothing is averaged, both images are rows
    a = half.arrays()
    chosen = np.vstack([a["chosen"], a["chosen"] * a["signs"]])
    whole = replace(half, mirror=False, chosen=chosen)
    rows = np.vstack([whole.transform(X), whole.transform(X[:, :, ::-1].copy())])
    few, many = half.transform(X), rows
    slim = fit_linear(few.astype(float), y, 3, l2=0.1, tol=1e-9, gap=1e-14)
    full = fit_linear(many.astype(float), np.tile(y, 2), 3, l2=0.1, tol=1e-9, gap=1e-14)
    own = few @ slim.weights + slim.bias
    both = 0.5 * ((rows[:60] + rows[60:]) @ full.weights) + full.bias
    np.testing.assert_allclose(own, both, atol=2e-5)


def test_whitened_patches_have_unit_variance_and_known_mirror_images() -> None:
    X = pictures(200)
    sample = sample_patches(X, 4, 20_000, np.random.default_rng(0))
    for mirror in (False, True):
        whitening = Whitening.of(sample, 4, 48, 0.0, mirror)
        turned = sample[:, mirrored_columns(4, 3)]
        both = np.vstack([sample, turned]) if mirror else sample
        w = whitening.apply(both).astype(float)
        np.testing.assert_allclose(w.T @ w / len(w), np.eye(48), atol=2e-3)
        if mirror:
            assert set(whitening.signs) == {-1.0, 1.0}
            np.testing.assert_allclose(
                whitening.apply(turned), whitening.apply(sample) * whitening.signs, atol=2e-3, rtol=1e-3
            )


def test_sampled_patches_are_patches_of_the_images() -> None:
    X = pictures(3)
    found = {
        X[i, y : y + 5, x : x + 5].tobytes()
        for i in range(3)
        for y in range(X.shape[1] - 4)
        for x in range(X.shape[2] - 4)
    }
    sample = sample_patches(X, 5, 50, np.random.default_rng(0))
    assert all(np.rint(patch * 255).astype(np.uint8).tobytes() in found for patch in sample)


def test_kmeans_filters_are_nearer_to_the_patches_than_random_ones() -> None:
    w = np.random.default_rng(0).normal(size=(3000, 6)).astype(np.float32) * np.array(
        [4, 2, 1, 1, 0.5, 0.5], np.float32
    )
    unit = w / np.linalg.norm(w, axis=1, keepdims=True)
    near = {
        how: (unit @ choose_filters(w, 20, how, np.random.default_rng(1)).T).max(axis=1).mean()
        for how in ("patches", "kmeans")
    }
    assert near["kmeans"] > near["patches"] + 0.02


def test_flat_patches_are_never_filters() -> None:
    w = np.zeros((100, 4), np.float32)
    w[:10] = np.random.default_rng(0).normal(size=(10, 4))
    filters = choose_filters(w, 10, "patches", np.random.default_rng(0))
    np.testing.assert_allclose(np.linalg.norm(filters, axis=1), 1.0, rtol=1e-5)
    with pytest.raises(InputError, match="10 of 100 sampled patches are not flat; 11 filters"):
        choose_filters(w, 11, "patches", np.random.default_rng(0))


@pytest.mark.parametrize("n", range(2, 70))
def test_bins_and_regions_are_their_own_mirror_images(n: int) -> None:
    ends = bin_ends(n)
    widths = np.diff(ends, prepend=0)
    assert ends[-1] == n and (widths > 0).all() and np.array_equal(widths, widths[::-1])
    for shape in ("tent", "box"):
        for regions in range(1, min(n, 5) + 1):
            weights = region_weights(n, regions, shape)
            np.testing.assert_allclose(weights[::-1, ::-1], weights, atol=1e-12)
            np.testing.assert_allclose(weights @ widths, 1.0)  # a constant stays what it is


def test_regions_over_both_directions() -> None:
    weights = pooling(10, 7, 2, "box")
    assert weights.shape == (4, len(bin_ends(10)) * len(bin_ends(7)))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_model_files_give_the_same_features(case: dict) -> None:
    X = pictures()
    phi = Patches(**case).fit(X, np.random.default_rng(0))
    again = specs.from_spec(specs.to_spec(phi), phi.arrays())
    assert np.array_equal(again.transform(X), phi.transform(X))
    assert again.describe() == phi.describe()


def test_arrays_that_do_not_fit_are_refused() -> None:
    phi = Patches(8).fit(pictures(), np.random.default_rng(0))
    spec = specs.to_spec(phi)
    for name in ("mean", "basis", "signs", "chosen"):
        good = phi.arrays()
        for bad in (good[name][..., :-1], good[name].astype(np.float64), good[name] * np.nan):
            with pytest.raises(InputError, match="patches: the array"):
                specs.from_spec(spec, {**good, name: bad})
    with pytest.raises(InputError):
        specs.from_spec({**spec, "image_shape": [5, 5, 3]}, phi.arrays())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"filters": 0}, "filters is 0"),
        ({"filters": 7, "mirror": True}, "filters=8"),
        ({"encoding": "hard"}, "one of soft, triangle"),
        ({"threshold": -1.0}, "threshold is -1"),
        ({"threshold": True}, "threshold is True"),
        ({"ridge": float("nan")}, "ridge is nan"),
        ({"pool": 10}, "pool is 10"),
        ({"mirror": "yes"}, "mirror is 'yes'"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Patches(**settings)


def test_images_too_small_or_too_flat_are_refused() -> None:
    with pytest.raises(InputError, match="8x9 pixels; 3x3 regions of patches of 6 pixels need 9"):
        Patches(4).fit(pictures(height=8, width=9), np.random.default_rng(0))
    with pytest.raises(InputError, match="flat"):
        Patches(4).fit(np.full((5, 12, 12, 3), 77, np.uint8), np.random.default_rng(0))
    phi = Patches(4).fit(pictures(), np.random.default_rng(0))
    with pytest.raises(InputError, match="met images of"):
        phi.transform(pictures(height=12))


@pytest.mark.parametrize("channels", [1, 3])
def test_templates_are_pictures_and_show_the_filters_wanted(channels: int) -> None:
    X = pictures(channels=channels)
    phi = Patches(8, pool=2, mirror=False).fit(X, np.random.default_rng(0))
    W = np.zeros((2, 2, 2, 8, 3), np.float32)
    W[0, 1, 0, 5, 1] = 1.0  # class 1 wants filter 5 in the upper right region
    (template,) = phi.templates(W.reshape(-1, 3))
    side = template.images.shape[1] // 2
    assert template.images.shape[0] == 3
    assert template.images.min() >= 0 and template.images.max() <= 1
    blank = template.images[0]
    assert np.allclose(blank, blank[0, 0])
    upper_right = template.images[1][:side, side:]
    assert upper_right.std() > 0.05
    assert np.allclose(template.images[1][side:], blank[0, 0])


def test_the_default_mirrors_photographs_and_not_grey_scans() -> None:
    for channels, mirror in ((1, False), (3, True)):
        phi = Patches(9).fit(pictures(channels=channels), np.random.default_rng(0))
        assert phi.mirror is mirror
        assert phi.filters == (10 if mirror else 9)
        assert f"{phi.filters} filters" in phi.describe()
