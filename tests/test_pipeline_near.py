"""Near duplicates in `train` and `sweep`: one side of the split, one number in split.csv, told, and found once."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import lastlayer
from lastlayer._codes import Problem
from lastlayer.data.near_duplicates import NearDuplicates, find_near_duplicates
from lastlayer.data.near_groups import merge_groups
from lastlayer.data.near_search import ALIKE, describe_pictures, outlines_agree
from lastlayer.data.sources import open_dataset
from lastlayer.data.splits import Split
from lastlayer.pipeline.imaging import choose_format, decode
from lastlayer.pipeline.near import near_duplicates, numbered_together
from lastlayer.pipeline.observer import SilentObserver
from lastlayer.pipeline.preparing import Clock, Prepared, open_cache, prepare, set_aside
from lastlayer.pipeline.settings import Execution, TrainSettings
from lastlayer.pipeline.sweep_settings import SweepSettings
from lastlayer.pipeline.sweeping import run_sweep
from lastlayer.representations.cache import FeatureCache
from planted_images import CHANGES, as_picture, brighter, jpeg, patterns, strokes

COPIES = 8


class Told(SilentObserver):
    def __init__(self) -> None:
        self.problems: dict[str, Problem] = {}

    def problem(self, problem: Problem) -> None:
        self.problems[problem.code] = problem


def save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    as_picture(image).save(path)


def planted_folder(root: Path, side: str = "") -> list[tuple[str, str]]:
    """Drawings of three classes and brighter copies of some of them; the pairs of names."""
    pixels, labels = strokes(60, classes=3, seed=4)
    pairs = []
    for i, (image, label) in enumerate(zip(pixels, labels.tolist())):
        save(root / side / f"c{label}" / f"{i:03d}.png", image)
        if i < COPIES:
            other = "test" if side else ""
            save(root / other / f"c{label}" / f"copy{i:03d}.png", brighter(image, 0.8))
            pairs.append((f"c{label}/{i:03d}.png", f"c{label}/copy{i:03d}.png"))
    return pairs


def prepared(root: Path, told: Told | None = None, **settings: object) -> Prepared:
    asked = TrainSettings(data=str(root), phi="pixels:size=6", **settings)  # type: ignore[arg-type]
    execution = Execution(use_cache=False, runs=root.parent / "runs", workers=1)
    return prepare(asked, execution, told or Told(), open_cache(execution), Clock())


def test_copies_stay_on_one_side_and_are_told(tmp_path: Path) -> None:
    pairs = planted_folder(tmp_path / "data")
    told = Told()
    for seed in range(2):
        found = prepared(tmp_path / "data", told, seed=seed)
        row = {name: i for i, name in enumerate(found.dataset.names)}
        side, group = found.split.side, found.split.dup_group
        assert all(side[row[a]] == side[row[b]] != 0 for a, b in pairs)
        assert all(group[row[a]] == group[row[b]] >= 0 for a, b in pairs)
        assert (group >= 0).sum() == 2 * COPIES and "near duplicates kept together" in found.split_line
    problem = told.problems["LL007"]
    assert len(problem.files) == 2 * COPIES and "kept on one side" in problem.message
    assert "--no-near-dup" in problem.mend


def test_switched_off_they_part(tmp_path: Path) -> None:
    pairs = planted_folder(tmp_path / "data")
    parted = 0
    for seed in range(2):
        found = prepared(tmp_path / "data", near_dup=False, seed=seed)
        assert found.near is None and (found.split.dup_group == -1).all()
        row = {name: i for i, name in enumerate(found.dataset.names)}
        parted += sum(found.split.side[row[a]] != found.split.side[row[b]] for a, b in pairs)
    assert parted > 0


def test_copies_across_given_sides_are_reported(tmp_path: Path) -> None:
    planted_folder(tmp_path / "data", side="train")
    told = Told()
    found = prepared(tmp_path / "data", told)
    problem = told.problems["LL013"]
    assert len(problem.files) == COPIES and all(name.startswith("train/") for name in problem.files)
    assert (found.split.side[found.dataset.given == 3] == 3).all()  # what the data give stays


def test_the_table_of_a_run_shows_the_groups(tmp_path: Path) -> None:
    pairs = planted_folder(tmp_path / "data")
    run = lastlayer.train(tmp_path / "data", phi="pixels:size=6", C=(0.1,), runs=tmp_path / "runs", cache=False)
    with (run.folder / "split.csv").open(newline="") as stream:
        rows = {row["path"]: row for row in csv.DictReader(stream)}
    for a, b in pairs:
        assert rows[a]["dup_group"] == rows[b]["dup_group"] != "" and rows[a]["split"] == rows[b]["split"]
    assert "LL007" in [problem["code"] for problem in run.metrics["problems"]]


def test_a_sweep_keeps_them_in_one_fold(tmp_path: Path) -> None:
    planted_folder(tmp_path / "data")
    told = Told()
    settings = SweepSettings(train=TrainSettings(data=str(tmp_path / "data"), C=(0.1,)), phis=("pixels:size=4",), cv=3)
    sweep = run_sweep(settings, Execution(runs=tmp_path / "runs", use_cache=False, workers=1), told)
    assert sweep.document["units_kept_together"] and "LL007" in told.problems


def test_found_once_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted_folder(tmp_path / "data")
    dataset = open_dataset(tmp_path / "data")
    cache = FeatureCache(tmp_path / "cache")
    settings = TrainSettings(data=str(tmp_path / "data"))
    form = choose_format(dataset, settings, ("hog",), None).format
    decoded = decode(dataset, form, cache, Execution(workers=1))[0]
    first = near_duplicates(dataset, decoded, cache)
    monkeypatch.setattr("lastlayer.data.near_duplicates.find_near_duplicates", None)
    again = near_duplicates(dataset, decoded, cache)
    for name in ("group", "nearest", "ratio"):
        assert (getattr(first, name) == getattr(again, name)).all()
        assert getattr(first, name).dtype == getattr(again, name).dtype
    assert again.to_dict() == first.to_dict() and first.to_dict()["images"] == 2 * COPIES


def test_numbers_of_identical_images_are_kept() -> None:
    near = np.array([0, 0, -1, 1, 1, 2, -1, 2], np.int32)
    same = np.array([-1, 1, 0, 0, -1, -1, 1, -1], np.int32)
    zero = np.zeros(8, np.uint8)
    split = numbered_together(
        Split(zero, same, 0, "", zero.astype(np.int32)),
        NearDuplicates(near, np.zeros(8, np.int64), np.zeros(8, np.float32)),
    )
    assert split.dup_group.tolist() == [1, 1, 0, 0, 0, 2, 1, 2]
    joined = merge_groups(same, near)
    assert len(set(zip(joined.tolist(), split.dup_group.tolist()))) == 3


def test_any_number_of_threads_gives_the_same_bits() -> None:
    pixels, labels = patterns(300, seed=5)
    pixels = np.concatenate([pixels, np.stack([jpeg(image, 75) for image in pixels[:9]])])
    labels = np.concatenate([labels, labels[:9]])
    one, three = (find_near_duplicates(pixels, labels, threads=threads) for threads in (1, 3))
    assert (one.group == three.group).all() and (one.ratio == three.ratio).all() and (one.group >= 0).sum() == 18


def test_outlines_of_copies_agree_and_of_strangers_do_not() -> None:
    pixels, _ = patterns(60, seed=8)
    rows = np.arange(60)
    for name, change in CHANGES.items():
        made = np.stack([change(image) for image in pixels])
        own, other = (describe_pictures(images, rows)[1] for images in (pixels, made))
        both = np.concatenate([own, other])
        assert outlines_agree(both, rows, 60 + rows).all(), name
    agree = outlines_agree(own, np.repeat(rows, 60), np.tile(rows, 60)).reshape(60, 60)
    assert agree[rows, rows].all() and agree.mean() < 0.7 and 0 < ALIKE < 1


def test_a_folder_called_unknown_is_no_class(tmp_path: Path) -> None:
    pixels, _ = strokes(12, seed=1)
    for i, image in enumerate(pixels):
        save(tmp_path / ("cat", "dog", "Unknown")[i % 3] / f"{i}.png", image)
    dataset, rows = set_aside(open_dataset(tmp_path), "unknown")
    assert dataset.class_names == ("cat", "dog") and len(rows) == 4
    assert {dataset.names[row].split("/")[0] for row in rows.tolist()} == {"Unknown"}
    assert (dataset.labels[rows] == -1).all() and np.bincount(dataset.labels + 1).tolist() == [4, 4, 4]
    kept, none = set_aside(open_dataset(tmp_path), "")
    assert len(kept.class_names) == 3 and not len(none)
    with pytest.raises(lastlayer.InputError, match="no class but"):
        set_aside(_only_unknown(tmp_path), "unknown")


def _only_unknown(root: Path):  # type: ignore[no-untyped-def]
    for name in ("cat", "dog"):
        for path in (root / name).iterdir():
            path.unlink()
        (root / name).rmdir()
    Image.new("L", (8, 8)).save(root / "Unknown" / "more.png")
    return open_dataset(root)
