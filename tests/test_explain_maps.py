"""Evidence maps add up to the terms, for every representation, and lie where the features are."""

from __future__ import annotations

import numpy as np
import pytest

from lastlayer.evaluation.explanations import cover_picture, occlude, place_name, rank_correlation
from lastlayer.evaluation.explanations_maps import evidence
from lastlayer.evaluation.explanations_names import feature_name
from lastlayer.linear import scores
from lastlayer.representations.specs import parse_phi
from lastlayer.representations.standardise import Standardised
from lastlayer.representations.views import Averaged, Views

PLACED = [
    "pixels",
    "pixels:size=9",
    "pixels:color=gray",
    "hog",
    "hog:compact=false,root=false,levels=2,signed=false,interpolation=false",
    "hog:norm=L1-sqrt,transform_sqrt=true",
    "colour",
    "colour:space=lab,grid=3,soft=false,root=false",
    "patches:filters=40,size=5",
    "patches:filters=40,size=5,mirror=true,pool=2,power=1.0,shape=box",
    "patches:filters=30,size=4,encoding=triangle,pool=3",
    "hog+colour+pixels",
    "hog/power:0.7",
    "hog/sqrt/l2",
    "blur/pixels",
    "resize:10/pixels",
]
NOWHERE = {"deskew/pixels": "deskew moves", "pixels:size=5/poly:2": "poly mixes", "products": "do not belong to places"}


def blobs(channels, n=24, height=24, width=20, seed=0):
    """Blocks of colour with noise: edges, flat places and texture."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (n, 6, 5, channels)).repeat(height // 6, axis=1).repeat(width // 5, axis=2)
    return (blocks * 0.7 + rng.integers(0, 70, blocks.shape)).astype(np.uint8)


def fitted(text, images):
    phi = parse_phi(text).fit(images, np.random.default_rng(0))
    return phi, Standardised.from_features(phi, phi.transform(images))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("text", PLACED)
def test_the_map_sums_to_the_terms(text, channels):
    images = blobs(channels)
    for phi in fitted(text, images):
        w = np.random.default_rng(1).standard_normal(phi.n_features)
        found = evidence(phi, images[3], w)
        Z = phi.transform(images[3:4])[0].astype(np.float64)
        size = np.abs(w * Z).sum()
        assert found.map.shape == images.shape[1:3] and not found.without
        assert found.total == pytest.approx(w @ Z, abs=2e-6 * size)
        assert abs(found.leftover) < 2e-6 * size
        assert np.abs(found.map).sum() > 0.05 * abs(w @ Z)


@pytest.mark.parametrize("text", NOWHERE)
def test_what_has_no_place_is_left_over_and_said(text):
    images = blobs(1)
    for phi in fitted(text, images):
        w = np.random.default_rng(1).standard_normal(phi.n_features)
        found = evidence(phi, images[0], w)
        expected = w @ phi.transform(images[:1])[0].astype(np.float64)
        assert not found.map.any() and NOWHERE[text] in found.without[0]
        assert found.leftover == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_a_part_without_places_leaves_the_map_of_the_others():
    images = blobs(1)
    phi, _ = fitted("pixels+products", images)
    w = np.random.default_rng(1).standard_normal(phi.n_features)
    found, alone = evidence(phi, images[0], w), evidence(phi.parts[0], images[0], w[: phi.parts[0].n_features])
    assert np.array_equal(found.map, alone.map) and len(found.without) == 1
    assert found.total == pytest.approx(w @ phi.transform(images[:1])[0].astype(np.float64), rel=1e-5)


@pytest.mark.parametrize("text", ["pixels", "hog"])
def test_views_are_brought_back_to_where_their_pixels_come_from(text):
    images = blobs(3)
    phi = Averaged(fitted(text, images)[0], Views.parse("flip,shift=2"))
    w = np.random.default_rng(1).standard_normal(phi.n_features)
    found = evidence(phi, images[0], w)
    assert found.total == pytest.approx(w @ phi.transform(images[:1])[0].astype(np.float64), abs=1e-4)
    if text == "pixels":  # linear: every pixel's share is what the score moves by when it alone turns black
        black = images[0].copy()
        black[5, 7] = 0
        z = phi.transform(np.stack([images[0], black])).astype(np.float64) @ w
        assert found.map[5, 7] == pytest.approx(z[0] - z[1], abs=1e-4)


@pytest.mark.parametrize("text", ["hog:cell=4,levels=1", "colour:grid=2", "patches:filters=40,size=4"])
def test_evidence_lies_where_the_picture_has_something(text):
    images = blobs(3, height=24, width=20)
    phi, _ = fitted(text, images)
    lone = np.zeros((24, 20, 3), np.uint8)
    lone[3:9, 3:8] = images[0, 3:9, 3:8]
    flat = phi.transform(np.zeros((1, 24, 20, 3), np.uint8))[0].astype(np.float64)
    w = np.where(flat > 0, 0.0, 1.0)  # what a black picture does not have
    found = evidence(phi, lone, w)
    near = found.map[:13, :12]
    assert found.map.min() >= -1e-9 and found.map.sum() > 0
    assert near.sum() > 0.98 * found.map.sum()


def test_covering_pixels_costs_what_their_map_says():
    images = blobs(1, n=40)
    _, phi = fitted("pixels", images)
    W = np.random.default_rng(3).standard_normal((phi.n_features, 3)).astype(np.float32)
    b = np.array([0.1, -0.2, 0.3], np.float32)

    def answer(seen):
        z = scores(phi.transform(seen), W, b)
        p = np.exp(z - z.max(axis=1, keepdims=True)).astype(np.float64)
        return z, p / p.sum(axis=1, keepdims=True)

    found = evidence(phi, images[0], W[:, 0].astype(np.float64) - W[:, 1])
    checked = occlude(answer, images[0], found.map, (0, 1), cover_picture(phi, images[0]))
    assert checked.drop.shape == (7, 7)
    # the cover is the mean image, rounded to whole grey levels
    assert np.allclose(checked.drop, checked.evidence, atol=0.05 * np.abs(checked.drop).max())
    assert checked.correlation is not None and checked.correlation > 0.99
    assert checked.gain > 0
    assert checked.by_evidence[0] == pytest.approx(checked.at_random[0])
    assert checked.by_evidence[-1] == pytest.approx(checked.at_random[-1])
    shuffled = np.random.default_rng(0).permutation(found.map.ravel()).reshape(found.map.shape)
    chance = occlude(answer, images[0], shuffled, (0, 1), cover_picture(phi, images[0]))
    assert chance.correlation is not None and chance.correlation < checked.correlation - 0.3
    assert chance.gain < checked.gain


def test_rank_correlation_is_scipys():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 6, 40).astype(float), rng.standard_normal(40)
    assert rank_correlation(x, y) == pytest.approx(spearmanr(x, y).statistic)
    assert rank_correlation(np.ones(5), np.arange(5.0)) is None


def test_places_in_words():
    words = [[place_name(r, c, (3, 3)) for c in range(3)] for r in range(3)]
    assert words == [
        ["top-left", "top", "top-right"],
        ["left", "centre", "right"],
        ["bottom-left", "bottom", "bottom-right"],
    ]


@pytest.mark.parametrize("text", [*PLACED, "products"])
def test_every_feature_has_a_name_of_its_own(text):
    phi, scaled = fitted(text, blobs(3))
    names = [feature_name(scaled, j) for j in range(phi.n_features)]
    assert all(names)
    if "hog" not in text:  # a cell has one name for the strengths of its copies
        assert len(set(names)) == len(names)
