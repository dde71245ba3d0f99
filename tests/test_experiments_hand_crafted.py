"""The hand-crafted CIFAR-10 on pictures that edges and colours tell apart: what is chosen where, and what is stored."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CLASSES = ("across", "down", "green")


@pytest.fixture
def experiment(load):  # type: ignore[no-untyped-def]
    return load("hand_crafted_cifar")


def picture(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Stripes across or down, or stripes across in green, with noise."""
    stripes = (np.arange(32) // int(rng.integers(2, 5)) % 2 * 120 + 40)[:, None].repeat(32, axis=1)
    image = np.stack([stripes.T if kind == "down" else stripes] * 3, axis=2)
    if kind == "green":
        image[..., 1] += 70
    return (image + rng.integers(0, 25, image.shape)).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("cifar"), np.random.default_rng(0)
    for side, count in (("train", 30), ("test", 8)):
        for kind in CLASSES:
            (root / side / kind).mkdir(parents=True)
            for i in range(count):
                Image.fromarray(picture(kind, rng)).save(root / side / kind / f"{i:04}.png")
    return root


def test_the_last_tenth_of_each_class_chooses(experiment, folder: Path) -> None:
    data = experiment.read(str(folder))
    assert data.train.shape == (90, 32, 32, 3)
    np.testing.assert_array_equal(np.flatnonzero(data.held_out), [27, 28, 29, 57, 58, 59, 87, 88, 89])
    np.testing.assert_array_equal(data.y, np.repeat([0, 1, 2], 30))
    last = np.asarray(Image.open(folder / "train" / "down" / "0029.png"))
    np.testing.assert_array_equal(data.train[59], last)


def test_lecture_features_are_hog_and_hue(experiment) -> None:
    red = np.full((2, 32, 32, 3), (200, 10, 10), np.uint8)
    Z = experiment.lecture_features(red)
    assert Z.shape == (2, 154)
    assert not Z[:, :144].any()
    assert (Z[:, 144] > 0.9).all() and not Z[:, 145:].any()


def test_both_rows(experiment, folder: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(experiment, "CANDIDATES", ("hog", "words:20+words:20,of=colour"))
    assert experiment.main([str(folder), "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "seconds, strongest: hog" in shown
    lecture, strongest = json.loads((tmp_path / "hand_crafted_cifar.json").read_text())["rows"]
    assert lecture["n"] == strongest["n"] == 24
    assert lecture["k"] >= 22 and strongest["k"] == 24, (lecture, strongest)
    assert lecture["n_features"] == 154
    assert len(strongest["tries"]) >= 4 and all(text.split("/")[1].startswith("9 ") for *_, text in strongest["tries"])
    assert strongest["validation"].startswith("9/9 ")
    assert "averaged over mirror images" in strongest["recipe"]
    assert strongest["test"].startswith("24/24 = 100.00% [")


def test_one_row(experiment, folder: Path, tmp_path: Path, capsys) -> None:
    assert experiment.main([str(folder), "--only", "lecture", "--out", str(tmp_path)]) == 0
    assert "strongest" not in capsys.readouterr().out
