from __future__ import annotations

import numpy as np
import pytest

from lastlayer.evaluation.shortcut_checks import property_shortcuts, region_shortcuts, shortcut_problems, to_dict
from lastlayer.evaluation.shortcuts import (
    FOLDS,
    by_table,
    cells_of_numbers,
    cells_of_values,
    draw_folds,
    joint_cells,
)
from planted_images import patterns, strokes

NAMES = tuple(f"class {k}" for k in range(5))


def asked(kind: str, n: int = 800) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    pixels, labels = (strokes if kind == "strokes" else patterns)(n, seed=2)
    return pixels, labels, draw_folds(np.arange(n))


def regions(pixels: np.ndarray, labels: np.ndarray, folds: np.ndarray):  # type: ignore[no-untyped-def]
    return region_shortcuts(pixels, np.arange(len(pixels)), labels, folds, 5)


def test_tables_answer_held_out_images_only() -> None:
    rng = np.random.default_rng(0)
    labels, folds = rng.integers(0, 4, 1000), rng.integers(0, FOLDS, 1000)
    own = by_table(np.arange(1000), labels, folds, 4)  # a cell for each image knows nothing of it
    assert not own.beats_chance and np.abs(own.lift).max() < 0.1
    known = by_table(labels, labels, folds, 4)
    assert known.accuracy.k == 1000 and known.lift.min() > 0.99 and known.skill > 0.98
    chance = by_table(rng.integers(0, 30, 1000), labels, folds, 4)
    assert not chance.beats_chance and chance.lift.max() < 0.15


def test_tables_by_hand() -> None:
    """Fold by fold: the other folds' most frequent class of the cell; an empty cell answers the most frequent."""
    labels, folds = np.array([0, 0, 1, 1, 0, 1, 0]), np.array([0, 1, 2, 3, 4, 0, 1])
    codes = np.array([0, 0, 1, 1, 0, 1, 2])
    table = by_table(codes, labels, folds, 2)
    assert (table.accuracy.k, table.majority.k) == (6, 4)
    codes[2] = 0  # label 1 in the cell of class 0
    assert by_table(codes, labels, folds, 2).accuracy.k == 5


def test_units_are_held_out_together() -> None:
    units = np.random.default_rng(0).integers(0, 50, 400)
    folds = draw_folds(units, seed=3)
    assert all(len(np.unique(folds[units == unit])) == 1 for unit in np.unique(units))
    assert len(np.unique(folds)) == FOLDS and (draw_folds(units, seed=3) == folds).all()


def test_cells() -> None:
    assert cells_of_numbers(np.array([3.0, 1.0, 3.0, 2.0]), 4).tolist() == [2, 0, 2, 1]
    values = np.random.default_rng(0).standard_normal(1000)
    code = cells_of_numbers(values, 8)
    assert np.bincount(code).tolist() == [125] * 8
    assert code[values.argmax()] == 7 and code[values.argmin()] == 0
    assert cells_of_values(["b", "a", "b", "c"], most=2).tolist() == [0, 1, 0, 2]
    assert cells_of_values(["b", "a", "b", "c"], most=1).tolist() == [0, 1, 0, 1]
    assert joint_cells([np.array([0, 1, 0]), np.array([2, 2, 0])]).tolist() == [1, 2, 0]


@pytest.mark.parametrize("kind", ["strokes", "patterns"])
def test_clean_images_have_no_shortcut(kind: str) -> None:
    assert regions(*asked(kind)) == []


@pytest.mark.parametrize("kind", ["strokes", "patterns"])
def test_a_coloured_corner_for_each_class_is_reported(kind: str) -> None:
    pixels, labels, folds = asked(kind)
    for k in range(5):
        pixels[labels == k, :3, -3:] = (60 + 40 * k, 200 - 30 * k, (90 * k) % 256)[: pixels.shape[3]]
    found = regions(pixels, labels, folds)
    assert len(found) == 1 and found[0].what.startswith("top right corner (rows 0-")
    assert found[0].table.accuracy.value > 0.99 and sorted(found[0].classes.tolist()) == [0, 1, 2, 3, 4]
    (problem,) = shortcut_problems(found, "LL016", NAMES)
    assert "top right corner" in problem.message and "majority" in problem.message and "\n" not in problem.line()
    assert to_dict(found[0], NAMES)["accuracy"]["n"] == 800


@pytest.mark.parametrize(("kind", "share"), [("strokes", 0.6), ("patterns", 1.0)])
def test_a_mark_on_one_class_names_that_class(kind: str, share: float) -> None:
    pixels, labels, folds = asked(kind)
    marked = (labels == 3) & (np.random.default_rng(0).random(len(labels)) < share)
    pixels[marked, -4:, :4] = 128
    found = regions(pixels, labels, folds)
    assert len(found) == 1 and found[0].what.startswith("bottom left corner")
    assert found[0].classes.tolist() == [3]


def test_a_mark_in_the_middle_is_reported() -> None:
    pixels, labels, folds = asked("patterns")
    pixels[labels == 1, 14:18, 14:18] = (250, 20, 20)
    found = regions(pixels, labels, folds)
    assert [one.classes.tolist() for one in found] == [[1]] and found[0].what.startswith("middle")


def test_a_background_of_its_own_is_reported() -> None:
    pixels, labels, folds = asked("patterns")
    frame = np.ones((32, 32), bool)
    frame[4:-4, 4:-4] = False
    grounds = np.array([[250, 250, 250], [20, 90, 30], [40, 60, 200], [0, 0, 0], [200, 180, 90]])
    noise = np.random.default_rng(0).integers(-12, 13, (len(pixels), frame.sum(), 3))
    pixels[:, frame] = np.clip(grounds[labels][:, None] + noise, 0, 255)
    found = regions(pixels, labels, folds)
    assert [one.what for one in found] == ["background (colour of the border)"]
    assert found[0].table.accuracy.value > 0.95 and len(found[0].classes) == 5


def test_small_pictures_and_few_images() -> None:
    pixels, labels, folds = asked("patterns", 60)
    assert region_shortcuts(pixels[:, :3], np.arange(60), labels, folds, 5) == []
    assert region_shortcuts(pixels, np.arange(10), labels[:10], folds[:10], 5) == []


def properties(labels: np.ndarray, n_classes: int = 3, **given: object):  # type: ignore[no-untyped-def]
    values: dict[str, object] = {"numbers": {}, "texts": {}, "size": None, "detail": None}
    return property_shortcuts(
        **{**values, **given},  # type: ignore[arg-type]
        labels=labels,
        folds=draw_folds(np.arange(len(labels))),
        n_classes=n_classes,
    )


def test_properties_that_give_the_class_away() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 600)
    camera = np.array(["A", "B", "B"])[labels].tolist()
    width = np.where(labels == 2, 640.0, rng.choice([320.0, 480.0], 600))
    found = properties(labels, numbers={"width": width}, texts={"camera": camera, "software": ["x"] * 600})
    by_name = {one.what: one for one in found}
    assert sorted(by_name) == ["camera", "width"]
    assert by_name["camera"].classes.tolist()[0] == 0 and by_name["width"].classes.tolist() == [2]
    assert found[0].table.accuracy.value > found[0].table.majority.value + 0.25


@pytest.mark.parametrize("n", [60, 400, 3000])
def test_properties_that_say_nothing_are_silent(n: int) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 3, n)
        size = np.exp(rng.standard_normal(n) + 9)
        detail = rng.standard_normal((n, 3))
        texts = {"camera": rng.choice(list("ABCDEF"), n).tolist(), "file type": ["JPEG"] * n}
        numbers = {"width": rng.integers(100, 900, n).astype(float)}
        assert properties(labels, numbers=numbers, texts=texts, size=size, detail=detail) == []


def test_size_counts_only_where_the_picture_does_not_explain_it() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 1500)
    detail = (labels[:, None] + 0.3 * rng.standard_normal((1500, 3))) * 0.5
    size = np.exp(8 + detail.sum(axis=1) + 0.05 * rng.standard_normal(1500))
    assert properties(labels, size=size, detail=detail) == []
    found = properties(labels, size=size * np.where(labels == 1, 1.3, 1.0), detail=detail)
    assert len(found) == 1 and found[0].what.startswith("file size")
    assert found[0].table.skill > 0.1 and found[0].table.lift.argmax() == 1
