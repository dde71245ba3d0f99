"""LeCun's table on small digits: every head chooses, fits and says how; files come in the order of their numbers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits


@pytest.fixture
def table(load):  # type: ignore[no-untyped-def]
    return load("lecun_table")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits of 8 x 8 pixels, blown up to 28 x 28, in folders as MNIST's, 360 for training and 90 for the test."""
    root = tmp_path_factory.mktemp("mnist")
    images, labels = load_digits(return_X_y=True)
    images = np.kron(images.reshape(-1, 8, 8) * (255 / 16), np.ones((3, 3))).astype(np.uint8)
    images = np.pad(images, ((0, 0), (2, 2), (2, 2)))
    for side, start, count in (("train", 0, 360), ("test", 360, 90)):
        for i in range(count):
            place = root / side / str(labels[start + i])
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[start + i]).save(place / f"{i}.png")
    return root


def test_images_come_in_the_order_of_the_original_files(table, folder: Path) -> None:
    data = table.read(str(folder))
    images, labels = load_digits(return_X_y=True)
    np.testing.assert_array_equal(data.labels, labels[:360])
    np.testing.assert_array_equal(data.test_labels, labels[360:450])
    np.testing.assert_array_equal(
        data.train[:, 3::3, 3::3, 0][:, :8, :8], (images[:360].reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)
    )
    assert (data.fitted, data.held_out) == (slice(0, 300), slice(300, 360))


def test_every_row_of_the_table(table, folder: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    def smaller(text: str) -> str:
        fewer = (
            text.replace(":1000", ":60").replace(":3000", ":100").replace("crop:2/products:2", "resize:9/products:1")
        )
        return fewer.replace("pixels", "pixels:size=9")

    rows = [
        dataclasses.replace(row, recipes=tuple((smaller(text), head) for text, head in row.recipes[:1]))
        for row in table.ROWS
    ]
    monkeypatch.setattr(table, "ROWS", tuple(rows))
    assert table.main([str(folder), "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "published %" in shown and "SVM, Gaussian kernel" in shown
    stored = json.loads((tmp_path / "lecun_table.json").read_text())
    assert [row["row"] for row in stored["rows"]] == [row.name for row in rows]
    wrong = {(row["row"], row["before"]): row["k"] for row in stored["rows"]}
    assert all(row["n"] == 90 and row["k"] <= 30 for row in stored["rows"]), wrong
    linear = stored["rows"][1]["recipe"]
    assert linear.startswith("lastlayer train MNIST --val 0 --no-standardise --phi pixels:size=9 --head ridge --C ")


def test_the_command_of_a_row_gives_its_figure(table, folder: Path, tmp_path: Path, monkeypatch) -> None:
    import lastlayer

    monkeypatch.setenv("LASTLAYER_CACHE", str(tmp_path / "cache"))
    (row,) = (row for row in table.ROWS if row.name == "40 PCA + quadratic")
    result = table.measure(row, table.read(str(folder)))
    words = result.recipe.split()
    given = {words[i].removeprefix("--"): words[i + 1] for i in range(len(words) - 1) if words[i].startswith("--")}
    run = lastlayer.train(
        folder, phi=given["phi"], head=given["head"], C=float(given["C"]), val=0.0, standardise=False, runs=tmp_path
    )
    score = run.metrics["splits"]["test"]["accuracy"]
    assert score["n"] == result.n and abs((score["n"] - score["k"]) - result.k) <= 1
