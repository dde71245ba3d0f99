"""The label check of `train`: what it names, what it costs, and what becomes of its table once it is edited."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import lastlayer
from lastlayer._progress import SILENT
from lastlayer.data.splits import read_split
from lastlayer.pipeline import suspects as module
from lastlayer.pipeline.learn import Examples, learn
from lastlayer.pipeline.settings import Execution, TrainSettings
from lastlayer.pipeline.suspects import label_suspects
from lastlayer.selection.cross_validation import cross_validate
from small_photos import CLASSES, picture

OPTIONS = {"phi": "pixels:size=6", "C": (0.003,), "cache": False}


def wrong_folder(root: Path, moved: int = 6, per_class: int = 40) -> list[str]:
    """Photos of three classes; some blue ones lie in the folder of red."""
    names = []
    for name in CLASSES:
        (root / name).mkdir(parents=True)
    for label, name in enumerate(CLASSES):
        for number in range(per_class):
            file = f"{name}/{number:03d}.png"
            if label == 0 and number < moved:
                file = f"red/{number:03d}moved.png"
                names.append(file)
            Image.fromarray(picture(label, number)).save(root / file)
    return names


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    root = tmp_path_factory.mktemp("suspects")
    moved = wrong_folder(root / "photos")
    return root, moved, lastlayer.train(root / "photos", runs=root / "runs", **OPTIONS)


def table_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_wrong_labels_are_told_and_no_test_image_is_judged(place) -> None:  # type: ignore[no-untyped-def]
    _, moved, run = place
    rows = table_of(run.folder / "labels.suspect.csv")
    sides = read_split(run.folder / "split.csv")
    judged = [name for name in moved if sides[name] != 3]
    named = [row["path"] for row in rows]
    assert set(judged) <= set(named) and len(named) <= len(judged) + 2 and len(judged) >= 3
    assert all(sides[name] in (1, 2) for name in named)
    assert all(row["label"] == "red" and row["suggested"] == "blue" for row in rows if row["path"] in moved)
    (problem,) = [one for one in run.metrics["problems"] if one["code"] == "LL024"]
    assert problem["files"] == named
    stored = run.metrics["labels"]
    assert stored["judged"] == sum(side in (1, 2) for side in map(sides.get, moved + _others(moved)))
    assert stored["C"] == 0.003 and stored["folds"] == 5 and stored["seconds"] >= 0


def _others(moved: list[str]) -> list[str]:
    gone = {f"blue/{name.split('/')[1][:3]}.png" for name in moved}
    every = [f"{name}/{number:03d}.png" for name in CLASSES for number in range(40)]
    return [name for name in every if name not in gone]


def test_the_edited_table_is_what_train_takes(place) -> None:  # type: ignore[no-untyped-def]
    root, moved, run = place
    path = run.folder / "labels.suspect.csv"
    rows = table_of(path)
    same = lastlayer.train(root / "photos", labels=str(path), runs=root / "runs", **OPTIONS)
    assert same.metrics["data_sha256"] == run.metrics["data_sha256"], "nothing accepted, nothing changed"

    for row in rows:
        if row["path"] in moved:
            row["label"] = row["suggested"]
    edited = root / "edited.csv"
    with edited.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    mended = lastlayer.train(root / "photos", labels=str(edited), runs=root / "runs", **OPTIONS)
    given = {row["path"]: row["label"] for row in mended.predictions}
    accepted = [row["path"] for row in rows if row["path"] in moved]
    assert accepted and all(given[name] == "blue" for name in accepted)
    left = mended.folder / "labels.suspect.csv"
    assert not left.exists() or not set(accepted) & {row["path"] for row in table_of(left)}
    assert (root / "photos" / moved[0]).is_file(), "files never move"


def test_switched_off_it_is_not_there(place) -> None:  # type: ignore[no-untyped-def]
    root, _, _ = place
    run = lastlayer.train(root / "photos", runs=root / "runs", label_check=False, **OPTIONS)
    assert not (run.folder / "labels.suspect.csv").exists() and run.metrics["labels"] is None


class FakeSplit:
    def __init__(self, n: int) -> None:
        self.unit = np.arange(n, dtype=np.int32)


class FakeDataset:
    names = tuple(map(str, range(60)))
    class_names = ("a", "b")


class FakePrepared:
    split = FakeSplit(60)
    dataset = FakeDataset()


def examples_of(seed: int = 0) -> Examples:
    rng = np.random.default_rng(seed)
    y = np.arange(60) % 2
    Z = (rng.standard_normal((60, 4)) + 3 * y[:, None]).astype(np.float32)
    return Examples(Z, y, Z, 1, 40, 10, 2)


@pytest.mark.parametrize("head", ["logistic", "svm", "ridge", "perceptron"])
def test_every_head_with_a_C_is_checked_at_that_C(head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[object, ...]] = []

    def spy(Z, y, n, loss, Cs, *rest, **more):  # type: ignore[no-untyped-def]
        seen.append((len(Z), loss, tuple(Cs)))
        return cross_validate(Z, y, n, loss, Cs, *rest, **more)

    monkeypatch.setattr(module, "cross_validate", spy)
    settings = TrainSettings(head=head, C=(0.5,))
    examples = examples_of()
    learned = learn(examples, settings, SILENT)
    found = label_suspects(examples, learned, np.arange(60), FakePrepared(), settings, Execution())  # type: ignore[arg-type]
    if head == "perceptron":
        assert found is None and not seen
        return
    loss = {"logistic": "cross_entropy", "svm": "squared_hinge", "ridge": "squared"}[head]
    assert seen == [(50, loss, (0.5,))]  # training and validation rows, never test
    assert found is not None and found.found.judged == 50 and "of 50 suspected" in found.line()


def test_what_has_no_cheap_scores_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = TrainSettings(C=(0.5,))
    examples = examples_of()
    learned = learn(examples, settings, SILENT)

    def asked(examples: Examples = examples, learned=learned, settings: TrainSettings = settings):  # type: ignore[no-untyped-def]
        return label_suspects(examples, learned, np.arange(60), FakePrepared(), settings, Execution())  # type: ignore[arg-type]

    assert asked() is not None
    assert asked(settings=TrainSettings(C=(0.5,), label_check=False)) is None
    assert asked(learned=dataclasses.replace(learned, interrupted=True)) is None
    assert asked(examples=dataclasses.replace(examples, unit=30.0)) is None
    lonely = examples.y.copy()
    lonely[:] = 0
    lonely[3] = 1
    assert asked(examples=dataclasses.replace(examples, y=lonely)) is None

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "cross_validate", stopped)
    assert asked() is None
