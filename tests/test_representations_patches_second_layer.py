"""The second layer of patch features against a slow reference, its exact mirror images, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from lastlayer._arrays import InputError
from lastlayer.representations import parse_phi, patch_maps, second_layer
from lastlayer.representations.patch_maps import cell_ends
from lastlayer.representations.patch_pooling import bin_ends, region_weights
from lastlayer.representations.patch_whitening import even_and_odd
from lastlayer.representations.second_layer import Patches2
from lastlayer.representations.specs import from_spec, to_spec

SMALL = {"filters": 12, "stem": 8, "stem_size": 3, "components": 20, "channels": 6, "pool": 2}
CASES = [
    {},
    {"root": False, "power": 1.0, "shape": "box", "threshold": 0.3},
    {"cell": 3, "size": 2, "stem_size": 4, "dictionary": "kmeans", "power": 0.7},
    {"mirror": False, "filters": 7, "stem": 5, "channels": 500, "components": 5},
]


@pytest.fixture(autouse=True)
def few_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Statistics of fewer patches: enough for small pictures, and quick."""
    monkeypatch.setattr(patch_maps, "STEM_SAMPLED", 3000)
    monkeypatch.setattr(second_layer, "SAMPLED", 1500)


def pictures(n: int = 50, height: int = 16, width: int = 19, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Smooth random pictures, neighbours alike as in photographs."""
    rng = np.random.default_rng(seed)
    rough = rng.normal(size=(n, height + 3, width + 3, channels))
    smooth = sum(rough[:, i : i + height, j : j + width] for i in range(4) for j in range(4))
    return np.clip(128 + 25 * smooth, 0, 255).astype(np.uint8)


def fitted(seed: int = 3, **given: object) -> Patches2:
    return Patches2(**{**SMALL, **given}).fit(pictures(), np.random.default_rng(seed))


def responses(x: np.ndarray, size: int, mean: np.ndarray, basis: np.ndarray, flat: float, F: np.ndarray, t: float):
    """Both sides of thresholded responses (rows, columns, 2, K) of filters F to the patches of x (H, W, C)."""
    rows, columns = x.shape[0] - size + 1, x.shape[1] - size + 1
    out = np.empty((rows, columns, 2, len(F)))
    for y in range(rows):
        for c in range(columns):
            w = (x[y : y + size, c : c + size].ravel() - mean) @ basis
            r = F @ (w / np.sqrt((w**2).mean() + flat))
            out[y, c] = np.maximum(r - t, 0), np.maximum(-r - t, 0)
    return out


def slow_features(phi: Patches2, image: np.ndarray) -> np.ndarray:
    """The definition, patch by patch, in float64, without mirror images."""
    a = {name: array.astype(float) for name, array in phi.arrays().items()}

    def dictionary(chosen: str, signs: str) -> np.ndarray:
        return np.vstack([a[chosen], a[chosen] * a[signs]]) if phi.mirror else a[chosen]

    first = responses(
        image / 255, phi.stem_size, a["stem_mean"], a["stem_basis"], phi.stem_flat,
        dictionary("stem_chosen", "stem_signs"), phi.stem_threshold,
    )  # fmt: skip
    bounds = [np.r_[0, cell_ends(n, phi.cell)] for n in first.shape[:2]]
    down, across = ([slice(*ends) for ends in pairwise(bound)] for bound in bounds)
    cells = np.array([[first[rows, columns].mean(axis=(0, 1)) for columns in across] for rows in down])
    cells = np.sqrt(cells) if phi.root else cells
    maps = cells.reshape(*cells.shape[:2], -1) @ a["mix"]
    F = dictionary("chosen", "signs")
    second = responses(maps, phi.size, a["mean"], a["basis"], phi.flat, F, phi.threshold)

    def per_position(n: int) -> np.ndarray:
        return np.repeat(region_weights(n, phi.pool, phi.shape), np.diff(bin_ends(n), prepend=0), axis=1)

    rows, columns = (per_position(n) for n in second.shape[:2])
    return np.einsum("ry,cx,yxsk->rcsk", rows, columns, second) ** phi.power


@pytest.mark.parametrize("case", CASES, ids=str)
def test_features_are_those_of_the_definition(case: dict) -> None:
    phi = fitted(**case)
    X = pictures(3, seed=1)
    Z = phi.transform(X)
    assert Z.shape == (3, phi.n_features) and Z.dtype == np.float32 and (Z > 0).any()
    for image, z in zip(X, Z):
        own = slow_features(phi, image)
        if phi.mirror:
            half = phi.filters // 2
            twin = slow_features(phi, image[:, ::-1])
            np.testing.assert_allclose(twin[..., :half], own[:, ::-1, :, half:], atol=2e-3)
            own = np.sqrt(0.5) * (own + twin)[..., :half]
        np.testing.assert_allclose(z, own.ravel(), rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("side", [(16, 19), (15, 16)])
def test_an_image_and_its_mirror_image_have_the_same_features(side: tuple[int, int]) -> None:
    X = pictures(40, *side)
    phi = Patches2(**SMALL).fit(X, np.random.default_rng(0))
    np.testing.assert_allclose(phi.transform(X), phi.transform(X[:, :, ::-1].copy()), rtol=1e-3, atol=2e-3)
    plain = Patches2(**SMALL, mirror=False).fit(X, np.random.default_rng(0))
    assert np.abs(plain.transform(X) - plain.transform(X[:, :, ::-1].copy())).max() > 0.05


def test_features_do_not_depend_on_the_batch() -> None:
    X, phi = pictures(70), fitted()
    whole = phi.transform(X)
    assert np.array_equal(whole[33:34], phi.transform(X[33:34]))
    assert np.array_equal(whole[3:67], phi.transform(X[3:67]))


def test_the_same_seed_gives_the_same_features_and_another_seed_others() -> None:
    X = pictures(4)
    first, again, other = (fitted(seed).transform(X) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_model_file_keeps_the_features() -> None:
    X, phi = pictures(4), fitted()
    read = from_spec(to_spec(phi), phi.arrays())
    assert np.array_equal(read.transform(X), phi.transform(X))


def test_arrays_that_do_not_fit_together_are_refused() -> None:
    phi = fitted()
    for name, array in phi.arrays().items():
        with pytest.raises(InputError, match="the array"):
            replace(phi, **{name: array[..., :-1]})
        broken = array.copy()
        broken.flat[0] = np.nan
        with pytest.raises(InputError, match=name):
            replace(phi, **{name: broken})


def test_what_can_be_typed_and_what_is_refused() -> None:
    assert parse_phi("patches2:filters=64,root=false").parameters()["root"] is False
    with pytest.raises(InputError, match="need 20"):
        Patches2(stem_size=9).fit(pictures(), np.random.default_rng(0))
    with pytest.raises(InputError, match="even numbers"):
        Patches2(filters=7, mirror=True)
    with pytest.raises(InputError, match="stem_ridge"):
        Patches2(stem_ridge=-1.0)
    with pytest.raises(InputError, match="flat"):
        Patches2(**SMALL).fit(np.full((20, 16, 16, 3), 9, np.uint8), np.random.default_rng(0))


def test_odd_numbers_of_filters_are_rounded_up_for_colour_alone() -> None:
    given = {**SMALL, "filters": 7, "stem": 5}
    colour = Patches2(**given).fit(pictures(), np.random.default_rng(0))
    grey = Patches2(**given).fit(pictures(channels=1), np.random.default_rng(0))
    assert (colour.filters, colour.stem, colour.mirror) == (8, 6, True)
    assert (grey.filters, grey.stem, grey.mirror) == (7, 5, False)
    assert "8 filters" in colour.describe()
    assert colour.templates(np.zeros((colour.n_features, 2))) == ()


def test_cells_are_mirror_images_of_themselves() -> None:
    for n in range(1, 60):
        for cell in range(1, 9):
            ends = cell_ends(n, cell)
            widths = np.diff(ends, prepend=0)
            assert ends[-1] == n and (widths > 0).all()
            assert np.array_equal(widths, widths[::-1])


def test_directions_are_eigenvectors_and_even_or_odd() -> None:
    """For a mirroring that exchanges some numbers, negates others, and does both to a pair."""
    rng = np.random.default_rng(0)
    turned, flips = np.array([1, 0, 2, 3, 5, 4]), np.array([1.0, 1, 1, -1, -1, -1])
    A = rng.normal(size=(20, 6))
    both = np.vstack([A, flips * A[:, turned]])
    covariance = both.T @ both
    values, vectors, signs = even_and_odd(covariance, turned, flips)
    np.testing.assert_allclose(covariance @ vectors, vectors * values, atol=1e-9)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(6), atol=1e-12)
    np.testing.assert_allclose(flips[:, None] * vectors[turned], vectors * signs, atol=1e-12)
    assert sorted(signs) == [-1, -1, -1, 1, 1, 1]
