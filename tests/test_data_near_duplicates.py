from __future__ import annotations

import numpy as np
import pytest

from lastlayer.data.near_alignment import area_means, copy_distance, copy_distance_refined, luma, working_pictures
from lastlayer.data.near_duplicates import find_near_duplicates
from lastlayer.data.near_groups import merge_groups
from lastlayer.data.near_search import close_pairs, describe_pictures, nearest_in_description
from lastlayer.linear import single_blas_thread
from planted_images import CHANGES, brighter, jpeg, moved, patterns, strokes

KINDS = {"strokes": strokes, "patterns": patterns}


@pytest.fixture(autouse=True)
def one_thread():  # type: ignore[no-untyped-def]
    with single_blas_thread():  # products this small gain nothing from threads
        yield


def planted(kind: str, n: int = 160, each: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    pixels, labels = KINDS[kind](n)
    source = np.random.default_rng(1).choice(n, each * len(CHANGES), replace=False)
    made = [change(pixels[row]) for row, change in zip(source, np.repeat(list(CHANGES.values()), each))]
    return np.concatenate([pixels, np.stack(made)]), np.concatenate([labels, labels[source]]), source, labels


class Silence:
    def advance(self, steps: float = 1, note: str = "") -> None:
        return None


@pytest.mark.parametrize("kind", KINDS)
def test_changed_copies_are_found_and_nothing_else(kind: str) -> None:
    pixels, labels, source, _ = planted(kind)
    near = find_near_duplicates(pixels, labels)
    copies = np.arange(len(pixels) - len(source), len(pixels))
    assert (near.group[source] == near.group[copies]).all() and (near.group[source] >= 0).all()
    alone = np.setdiff1d(np.arange(len(pixels)), np.concatenate([source, copies]))
    assert (near.group[alone] == -1).all() and (near.nearest[alone] == -1).all()
    assert (near.nearest[copies] == source).all() and (near.ratio[copies] < 0.28).all()
    assert np.isinf(near.ratio[alone]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_data_without_copies_are_silent(kind: str) -> None:
    pixels, labels = KINDS[kind](300, seed=5)
    near = find_near_duplicates(pixels, labels)
    assert (near.group == -1).all() and near.to_dict()["groups"] == 0


def test_copies_of_every_image_do_not_pass_for_what_is_usual() -> None:
    pixels, labels = strokes(60)
    made = np.stack([moved(image, 0, 1) for image in pixels])
    more = np.stack([jpeg(image, 80) for image in pixels])
    near = find_near_duplicates(np.concatenate([pixels, made, more]), np.tile(labels, 3))
    assert (near.group.reshape(3, -1) == near.group[:60]).all()
    assert len(np.unique(near.group)) == 60 and near.group.min() == 0


def test_the_threshold_is_a_part_of_what_is_usual_in_the_class() -> None:
    """One stroke shown over and over with a little noise: near in pixels, and yet usual there."""
    rng = np.random.default_rng(0)
    one = strokes(1)[0].astype(np.float64)
    alike = np.clip(one + 20 * rng.standard_normal((150, 28, 28, 1)), 0, 255).astype(np.uint8)
    others, _ = strokes(150, seed=3)
    labels = np.repeat([0, 1], 150)
    near = find_near_duplicates(np.concatenate([alike, others]), labels)
    assert (near.group == -1).all()
    # the same pair among strokes of all kinds is a copy
    near = find_near_duplicates(np.concatenate([alike[:2], others]), np.concatenate([[1, 1], labels[150:]]))
    assert near.group[:2].tolist() == [0, 0] and (near.group[2:] == -1).all()


def test_the_same_pixels_are_joined_whatever_else() -> None:
    pixels, labels = patterns(30)
    blank = np.zeros((3, 32, 32, 3), np.uint8)
    blank[2] = 9
    near = find_near_duplicates(
        np.concatenate([pixels, pixels[:2], blank]), np.concatenate([labels, [0, 0], [0, 0, 0]])
    )
    assert near.group[:2].tolist() == [0, 1] == near.group[30:32].tolist()
    assert near.group[32] == near.group[33] >= 0 and near.group[34] == -1
    assert near.ratio[30] == 0.0 and near.nearest[30] == 0


def test_rows_that_are_not_usable_are_left_alone() -> None:
    pixels, labels, source, _ = planted("patterns", 100, 1)
    usable = np.ones(len(pixels), bool)
    usable[source] = False
    near = find_near_duplicates(pixels, labels, usable)
    assert (near.group == -1).all()


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_few_images(n: int) -> None:
    pixels, labels = patterns(max(n, 1))
    near = find_near_duplicates(pixels[:n], labels[:n])
    assert near.group.shape == (n,) and (near.group == -1).all()


@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 30, 1), (6, 6, 3), (8, 8, 1), (90, 20, 3)])
def test_pictures_of_odd_sizes(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, *shape), dtype=np.uint8)
    pixels[7] = pixels[3]
    near = find_near_duplicates(pixels, np.zeros(40, int))
    same = [(pixels == pixels[row]).all(axis=(1, 2, 3)).sum() > 1 for row in range(40)]
    assert (near.group >= 0).tolist() == same


def test_the_same_drawing_in_another_colour_is_no_copy() -> None:
    pixels, labels = patterns(200)
    drawing = strokes(1)[0][0]
    drawing = np.pad(drawing, ((2, 2), (2, 2), (0, 0)))
    red = np.concatenate([drawing, drawing * 0, drawing // 2], axis=2)
    gray = luma(red[None].astype(np.float32))[0]
    blue = np.stack([gray * 0, gray * 0.8, gray * 1.3], axis=2).clip(0, 255).astype(np.uint8)
    a, b = (working_pictures(image[None]) for image in (red, blue))
    assert copy_distance(luma(a), luma(b))[0] < 0.05
    near = find_near_duplicates(np.concatenate([pixels, red[None], blue[None]]), np.append(labels, [0, 0]))
    assert near.group[-2:].tolist() == [-1, -1]
    near = find_near_duplicates(
        np.concatenate([pixels, red[None], brighter(red, 0.8)[None]]), np.append(labels, [0, 0])
    )
    assert near.group[-2] == near.group[-1] >= 0


def test_result_does_not_depend_on_the_order() -> None:
    pixels, labels, _, _ = planted("strokes", 200, 2)
    first = find_near_duplicates(pixels, labels)
    order = np.random.default_rng(3).permutation(len(pixels))
    second = find_near_duplicates(pixels[order], labels[order])
    assert ((first.group >= 0)[order] == (second.group >= 0)).all()
    inside = np.flatnonzero(second.group >= 0)
    pairs = set(zip(first.group[order][inside].tolist(), second.group[inside].tolist()))
    assert len(pairs) == second.group.max() + 1


def test_distances_of_exact_changes_vanish() -> None:
    pixels, _ = strokes(40)
    a = luma(working_pictures(pixels))
    for made in (pixels, np.stack([moved(image, 1, -1) for image in pixels]), pixels // 2 + 40):
        assert copy_distance(a, luma(working_pictures(made))).max() < 0.03
    assert np.median(copy_distance(a, np.roll(a, 1, axis=0))) > 0.3
    zoomed = np.stack([CHANGES["cropped"](image) for image in pixels])
    W = working_pictures(zoomed)
    assert np.median(copy_distance_refined(working_pictures(pixels), W)) < np.median(copy_distance(a, luma(W)))


def test_flat_pictures_are_never_copies() -> None:
    flat = np.full((2, 20, 20), 7.0, np.float32)
    assert copy_distance(flat, flat).tolist() == [1.0, 1.0]


def test_area_means_keep_the_mean() -> None:
    for size, parts in ((28, 28), (100, 32), (33, 32), (7, 3)):
        M = area_means(size, parts)
        np.testing.assert_allclose(M.sum(axis=1), 1.0, rtol=1e-6)
        np.testing.assert_allclose(M.mean(axis=0), 1 / size, rtol=1e-5)


def test_descriptions_do_not_see_moves_and_brightness() -> None:
    pixels, _ = strokes(30)
    own = describe_pictures(pixels, np.arange(30))[0]
    for made in (np.stack([moved(image, 0, 1) for image in pixels]), pixels // 2 + 30):
        other = describe_pictures(made, np.arange(30))[0]
        assert ((own @ other.T).argmax(axis=1) == np.arange(30)).all()


def test_blocks_give_the_pairs_that_all_products_at_once_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lastlayer.data.near_search._BLOCK", 37)
    rng = np.random.default_rng(0)
    D = rng.standard_normal((200, 5)).astype(np.float32)
    D /= np.linalg.norm(D, axis=1, keepdims=True)
    reach = rng.uniform(0.2, 0.7, 200).astype(np.float32)
    found = [set(zip(i.tolist(), j.tolist())) for i, j, _ in close_pairs(D, reach, Silence())]  # type: ignore[arg-type]
    apart = np.linalg.norm(D[:, None] - D[None], axis=2)
    near = (apart < np.minimum(reach[:, None], reach)) & (np.arange(200)[:, None] < np.arange(200))
    assert set().union(*found) == set(zip(*(part.tolist() for part in np.nonzero(near))))
    nearest = nearest_in_description(D, np.arange(200), 3)
    np.fill_diagonal(apart, np.inf)
    assert (np.sort(nearest, axis=1) == np.sort(np.argsort(apart, axis=1)[:, :3], axis=1)).all()


def test_groups_are_merged_transitively() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = (np.where(rng.random(60) < 0.5, rng.integers(0, 20, 60), -1).astype(np.int32) for _ in range(2))
        merged = merge_groups(a, None, b)
        linked = np.eye(60, dtype=bool)
        for group in (a, b):
            linked |= (group[:, None] == group) & (group >= 0)[:, None]
        for _ in range(6):
            linked = linked @ linked
        assert (merged == -1).tolist() == ((a < 0) & (b < 0)).tolist()
        inside = merged >= 0
        assert ((merged[:, None] == merged)[inside][:, inside] == linked[inside][:, inside]).all()
