"""A folder with one of each odd file trains, and every file that cannot be used is named with its code."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import lastlayer
from image_fixtures import make_odd_images
from lastlayer import InputError
from lastlayer._files import display_name
from small_photos import make_folder


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    photos = make_folder(tmp_path_factory.mktemp("odd") / "photos")
    return photos, make_odd_images(photos / "red")


def test_the_run_names_every_refused_file_and_uses_the_others(
    odd: tuple[Path, dict[str, object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LASTLAYER_CACHE", str(tmp_path / "cache"))
    photos, expected = odd
    before = {path: path.lstat().st_mtime_ns for path in photos.rglob("*")}
    run = lastlayer.train(photos, phi="pixels:size=6", runs=tmp_path / "runs")
    refused = {f"red/{name}" for name, what in expected.items() if what.outcome == "refused"}  # type: ignore[attr-defined]
    refused -= {name for name in refused if (photos / name).is_dir()}  # a folder with an image's name is listed as one
    assert len(refused) >= 20
    problems = [p for p in run.metrics["problems"] if p["code"] == "LL003"]
    assert len(problems) == 1
    named = set(problems[0]["files"])
    assert named == {display_name(name) for name in refused}
    assert len(problems[0]["details"]) == len(named), "each file has its reason"
    with (run.folder / "split.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
        sides = {row["path"]: row["split"] for row in csv.DictReader(stream)}
    used = {path for path, side in sides.items() if side}
    assert used == set(sides) - refused
    assert run.metrics["alterations"], "altered files are counted by kind"
    assert {path: path.lstat().st_mtime_ns for path in photos.rglob("*")} == before, "user files stay as they are"
    assert "LL003" in run.report()
    again = lastlayer.train(photos, phi="pixels:size=6", runs=tmp_path / "runs")
    assert [p["files"] for p in again.metrics["problems"] if p["code"] == "LL003"] == [problems[0]["files"]]


def test_strict_stops_at_them(
    odd: tuple[Path, dict[str, object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LASTLAYER_CACHE", str(tmp_path / "cache"))
    with pytest.raises(InputError, match="strict"):
        lastlayer.train(odd[0], phi="pixels:size=6", strict=True, runs=tmp_path / "runs")
