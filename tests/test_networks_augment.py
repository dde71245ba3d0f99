"""Augmentation: what each change does to pixels, that draws repeat themselves, and that texts are refused clearly."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lastlayer._errors import InputError
from lastlayer.networks.augment import (
    Affine,
    Augmenter,
    Cutout,
    Draw,
    Elastic,
    Flip,
    Shift,
    gaussian_matrix,
    parse_augmentation,
)

torch = pytest.importorskip("torch", reason="torch is not installed: networks are not tested")

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def images(count: int = 64, height: int = 9, width: int = 7, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 256, (count, height, width, channels), dtype=np.uint8)


def draw(count: int, seed: int = 0, epoch: int = 0) -> Draw:
    rng = np.random.default_rng(seed)
    return Draw(rng, epoch, rng.random(count) < 0.5)


def change(what, X: np.ndarray, drawn: Draw) -> np.ndarray:
    return what.apply(torch.from_numpy(X.copy()), drawn).numpy()


def test_a_flip_mirrors_about_half_and_leaves_the_rest() -> None:
    X = images(200)
    found = change(Flip(), X, draw(200))
    mirrored = np.array([np.array_equal(a, b[:, ::-1]) for a, b in zip(found, X)])
    same = np.array([np.array_equal(a, b) for a, b in zip(found, X)])
    assert (mirrored ^ same).all() and 70 < mirrored.sum() < 130


def test_alternating_flips_show_both_sides_in_every_two_epochs() -> None:
    X = images(50)
    augment = Augmenter(parse_augmentation("flip=alternate"), 50, seed=3)
    shown = [augment(torch.from_numpy(X), np.arange(50), epoch, 0).numpy() for epoch in range(4)]
    for a, b in itertools.pairwise(shown):
        np.testing.assert_array_equal(a, b[:, :, ::-1])
    np.testing.assert_array_equal(shown[0], shown[2])
    assert 10 < sum(np.array_equal(a, b) for a, b in zip(shown[0], X)) < 40


@pytest.mark.parametrize("reflect", [False, True])
def test_a_shift_is_numpys_pad_and_crop(reflect: bool) -> None:
    X, pixels = images(40), 3
    found = change(Shift(pixels, reflect), X, draw(40))
    edges = ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0))
    padded = np.pad(X, edges, mode="reflect" if reflect else "constant")
    height, width = X.shape[1:3]
    offsets = set()
    for i, image in enumerate(found):
        crops = {(r, c): padded[i, r : r + height, c : c + width] for r in range(7) for c in range(7)}
        matches = [where for where, crop in crops.items() if np.array_equal(crop, image)]
        assert len(matches) == 1
        offsets.add(matches[0])
    assert len(offsets) > 20 and found.dtype == np.uint8


def test_a_shift_takes_float_pixels_too() -> None:
    X = images(10).astype(np.float32)
    np.testing.assert_array_equal(change(Shift(2), X, draw(10)), change(Shift(2), X.astype(np.uint8), draw(10)))


def test_cutout_covers_at_most_its_square_with_the_mean_colour() -> None:
    X = images(60, 12, 12)
    found = change(Cutout(4), X, draw(60))
    changed = (found != X).any(axis=3)
    assert changed.sum(axis=(1, 2)).max() == 16 and changed.sum(axis=(1, 2)).min() >= 3
    for before, after, where in zip(X, found, changed):
        np.testing.assert_allclose(after[where], np.tile(before.mean(axis=(0, 1)), (where.sum(), 1)), atol=1.0)


def test_an_affine_change_by_nothing_is_the_image_and_a_turn_is_a_turn() -> None:
    X = images(5, 11, 11)
    still = parse_augmentation("affine=0").apply(torch.from_numpy(X), draw(5)).numpy()
    np.testing.assert_allclose(still, X, atol=1e-3)
    field = Affine(90.0).field(400, 11, 11, draw(400))
    angles = np.rad2deg(np.arctan2(field[:, 5, 6, 0], field[:, 5, 6, 1] + 1.0))
    assert angles.min() < -80 and angles.max() > 80 and np.abs(angles).max() <= 90.001
    np.testing.assert_allclose(field[:, 5, 5], 0.0, atol=1e-6)  # the centre stays
    sizes = np.linalg.norm(field[:, 0, 0] + [-5, -5], axis=1)
    np.testing.assert_allclose(sizes, np.hypot(5, 5), rtol=1e-5)  # a turn keeps lengths


def test_scales_and_shears_stay_within_their_shares() -> None:
    grown = Affine(0.0, scale=0.25).field(500, 11, 11, draw(500))[:, 5, 6, 1] + 1.0
    assert 0.8 <= grown.min() < 0.85 and 1.2 < grown.max() <= 1.25
    sheared = Affine(0.0, 0.0, shear=0.3).field(500, 11, 11, draw(500))[:, 6, 5]
    assert np.abs(sheared).max() <= 0.3 + 1e-6 and np.abs(sheared).max() > 0.25


def test_elastic_displacements_are_a_smoothed_uniform_field() -> None:
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(5)
    noise = np.random.default_rng(5).random((3, 2, 28, 20), dtype=np.float32) * 2 - 1
    field = Elastic(3.0, 20.0).field(3, 28, 20, Draw(rng, 0, np.zeros(3, bool)))
    for i in range(3):
        for axis in range(2):
            # SciPy cuts its kernel off; ours goes on to the border
            want = 20.0 * gaussian_filter(noise[i, axis], 3.0, mode="constant", truncate=8.0)
            np.testing.assert_allclose(field[i, :, :, axis], want, atol=2e-4)
    assert gaussian_matrix(101, 4.0)[50].sum() == pytest.approx(1.0, abs=1e-4)


def test_simards_choice_moves_pixels_by_about_one_and_a_half() -> None:
    field = Elastic(4.0, 34.0).field(50, 28, 28, draw(50))
    assert 1.0 < np.sqrt(np.square(field[:, 8:20, 8:20]).mean()) < 1.7


def test_a_warp_reads_between_pixels_and_zero_outside() -> None:
    from lastlayer.networks.augment import sampled

    X = images(2, 6, 5, 1)
    field = np.zeros((2, 6, 5, 2), np.float32)
    field[0, :, :, 1], field[1, :, :, 0] = 0.5, -1.0  # half a column to the right; one row up
    found = sampled(torch.from_numpy(X), field).numpy()
    np.testing.assert_allclose(found[0, :, :-1], (X[0, :, :-1] + X[0, :, 1:].astype(float)) / 2, atol=1e-3)
    np.testing.assert_allclose(found[1, 1:], X[1, :-1], atol=1e-3)
    np.testing.assert_allclose(found[1, 0], 0.0, atol=1e-3)


def test_neighbouring_warps_are_one_interpolation() -> None:
    X = images(4, 8, 8)
    both = parse_augmentation("affine=20,elastic=2:8")
    rng = np.random.default_rng(1)
    field = Affine(20.0).field(4, 8, 8, Draw(rng, 0, np.zeros(4, bool)))
    field = field + Elastic(2.0, 8.0).field(4, 8, 8, Draw(rng, 0, np.zeros(4, bool)))
    from lastlayer.networks.augment import sampled

    want = sampled(torch.from_numpy(X), field).numpy()
    got = both.apply(torch.from_numpy(X), Draw(np.random.default_rng(1), 0, np.zeros(4, bool))).numpy()
    np.testing.assert_array_equal(got, want)


def test_draws_are_a_function_of_seed_epoch_and_batch() -> None:
    X = torch.from_numpy(images(20, 12, 12))
    text = "flip,shift=2,elastic=3:10,affine=10:0.1:0.1,cutout=4"
    one, two = (Augmenter(parse_augmentation(text), 20, seed=7) for _ in range(2))
    ids = np.arange(20)
    one(X, ids, 0, 0)  # what was asked before does not matter
    assert torch.equal(one(X, ids, 2, 5), two(X, ids, 2, 5))
    for other in ((2, 6), (3, 5)):
        assert not torch.equal(one(X, ids, *other), two(X, ids, 2, 5))
    assert not torch.equal(Augmenter(parse_augmentation(text), 20, seed=8)(X, ids, 2, 5), two(X, ids, 2, 5))
    assert Augmenter(parse_augmentation("none"), 20, 0)(X, ids, 0, 0) is X


def test_the_text_says_what_is_done() -> None:
    found = parse_augmentation("flip=alternate, shift=4:reflect, affine=10:0.1, elastic=8:34, cutout=6").changes
    assert found == (Flip(True), Shift(4, True), Affine(10, 0.1, 0), Elastic(8, 34), Cutout(6))
    assert parse_augmentation("flip,shift,affine,elastic,cutout").changes == (
        Flip(),
        Shift(2),
        Affine(10, 0, 0),
        Elastic(4, 34),
        Cutout(8),
    )
    assert parse_augmentation("").changes == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("flop", "Known: flip"),
        ("flip=twice", "flip=alternate"),
        ("shift=1.5", "whole number"),
        ("shift=0", "whole number"),
        ("shift=2:wrap", "shift=2:reflect"),
        ("affine=a", "affine=ROTATION"),
        ("affine=1:2:3:4", "affine=ROTATION"),
        ("affine=-3", "Degrees"),
        ("elastic=0:5", "sigma"),
        ("elastic=nan", "elastic=SIGMA"),
        ("cutout=3:3", "whole number"),
        ("flip,,shift", "is not known"),
    ],
)
def test_texts_that_mean_nothing_are_refused(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_augmentation(text)


@pytest.mark.parametrize("text", ["shift=9", "cutout=9"])
def test_changes_too_large_for_the_images_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="9 x 20 pixels"):
        parse_augmentation(text).check(9, 20)
