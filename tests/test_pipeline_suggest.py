"""`suggest`: unsure images first, no two alike, none like those that have a label."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import lastlayer
from lastlayer import InputError
from lastlayer.cli.app import run as call_verb
from lastlayer.evaluation.distance import DistanceFlag
from lastlayer.pipeline import suggesting
from lastlayer.pipeline.run import Run
from lastlayer.pipeline.settings import Execution
from lastlayer.pipeline.suggesting import directions, suggest, unsureness
from small_photos import make_folder, picture

HOW = Execution(workers=1)


def between(a: int, b: int, seed: int) -> np.ndarray:
    return ((picture(a, seed).astype(int) + picture(b, seed + 500)) // 2).astype(np.uint8)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    root = tmp_path_factory.mktemp("suggest")
    photos = make_folder(root / "photos", per_class=30)
    run = lastlayer.train(
        photos, phi="pixels:size=6", C=(0.01,), runs=root / "runs", cache=False, label_check=False, workers=1
    )
    pool = root / "pool"
    pool.mkdir()
    for seed in range(12):
        Image.fromarray(picture(seed % 3, 700 + seed)).save(pool / f"sure{seed:02d}.png")
    for seed, (a, b) in enumerate(((0, 1), (1, 2), (0, 2))):
        Image.fromarray(between(a, b, seed)).save(pool / f"unsure{seed}.png")
        Image.fromarray(between(a, b, seed)).save(pool / f"unsure{seed}again.png")
    (pool / "broken.png").write_bytes(b"nothing")
    return root, run


def names(found: suggesting.Suggestions) -> list[str]:
    return [Path(one.path).name for one in found.chosen]


@pytest.mark.parametrize("by", ["margin", "entropy"])
def test_unsure_images_come_first_and_copies_only_once(place: tuple[Path, Run], by: str) -> None:
    root, run = place
    found = suggest(run, [str(root / "pool")], 6, by=by, execution=HOW)
    first = names(found)[:3]
    assert {name[:7] for name in first} == {"unsure0", "unsure1", "unsure2"}, "one of each pair of copies"
    assert len({one.path for one in found.chosen}) == 6 and found.looked_at == 18
    assert [Path(path).name for path, _ in found.refused] == ["broken.png"]
    scores = [one.score for one in found.chosen]
    assert all(0 <= one.unsure <= 1 for one in found.chosen) and scores == sorted(scores, reverse=True)
    assert [one.rank for one in found.chosen] == [1, 2, 3, 4, 5, 6]


def test_order_is_the_greedy_one_of_the_equation(place: tuple[Path, Run]) -> None:
    root, run = place
    found = suggest(run.model, [str(root / "pool")], 18, execution=HOW)
    again = suggest(run.model, [str(root / "pool")], 18, execution=HOW)
    assert [one.to_dict() for one in found.chosen] == [one.to_dict() for one in again.chosen]
    assert len(found.chosen) == 18
    assert np.isnan(found.chosen[0].distance) and found.chosen[0].unsure == max(one.unsure for one in found.chosen)
    model = run.model
    pixels = np.stack([np.asarray(Image.open(one.path)) for one in found.chosen])
    f = directions(model.representation.transform(pixels), None)
    for k in range(1, 18):
        apart = np.sqrt(np.maximum(2 - 2 * f[k:] @ f[:k].T, 0)).min(axis=1)
        u = np.array([one.unsure for one in found.chosen[k:]])
        assert found.chosen[k].distance == pytest.approx(apart[0], abs=2e-3)
        assert u[0] * apart[0] >= (u * apart).max() - 2e-3


def test_images_like_the_labelled_ones_come_later(place: tuple[Path, Run]) -> None:
    root, run = place
    with_run = suggest(run, [str(root / "pool")], 18, execution=HOW)
    assert not any(np.isnan(one.distance) for one in with_run.chosen)
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((1, 5)).astype(np.float32)
    flag = DistanceFlag(
        centres / np.linalg.norm(centres), np.zeros(5, np.float32), np.ones(5, np.float32), np.zeros(1), np.zeros(1)
    )
    f = directions(np.concatenate([centres, -centres]), flag)
    pool = suggesting._Candidates(2, ["like", "unlike"], np.full((2, 2), 0.5), np.ones(2), f)
    assert [row for row, _ in suggesting._greedy(pool, 2, flag, HOW.progress)] == [1, 0]


def test_only_the_most_unsure_are_kept(place: tuple[Path, Run], monkeypatch: pytest.MonkeyPatch) -> None:
    root, run = place
    monkeypatch.setattr(suggesting, "_FEWEST", 3)
    monkeypatch.setattr(suggesting, "_EACH", 1)
    monkeypatch.setattr(suggesting, "_BATCH", 4)
    few = suggest(run.model, [str(root / "pool")], 3, execution=HOW)
    everything = suggest(run.model, [str(root / "pool")], 18, execution=HOW)
    most = sorted((one.unsure for one in everything.chosen), reverse=True)[:3]
    assert sorted((one.unsure for one in few.chosen), reverse=True) == pytest.approx(most)


def test_unsureness_is_0_for_sure_and_1_for_uniform() -> None:
    p = np.array([[1.0, 0, 0], [0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3]])
    assert unsureness(p, "margin").tolist() == pytest.approx([0, 1, 1])
    assert unsureness(p, "entropy").tolist() == pytest.approx([0, np.log(2) / np.log(3), 1])


def test_mistakes_are_named(place: tuple[Path, Run]) -> None:
    root, run = place
    with pytest.raises(InputError, match="no rule"):
        suggest(run, [str(root / "pool")], by="luck")
    with pytest.raises(InputError, match="cannot be suggested"):
        suggest(run, [str(root / "pool")], 0)
    with pytest.raises(InputError, match="can be read"):
        suggest(run, [str(root / "pool" / "broken.png")], execution=HOW)


def test_the_verb(place: tuple[Path, Run]) -> None:
    root, run = place
    before = sorted((root / "pool").iterdir())

    def verb(*more: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        streams = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = out, err
        try:
            code = call_verb(["suggest", str(run.folder), str(root / "pool"), "--workers", "1", "-q", *more])
        finally:
            sys.stdout, sys.stderr = streams
        return code, out.getvalue(), err.getvalue()

    code, out, err = verb("--n", "3")
    assert code == 0 and "3 of 18 images" in out and "LL003" in err and "broken.png" in err
    code, out, _ = verb("--n", "3", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["rank"] for row in rows] == ["1", "2", "3"] and all(row["label"] == "" for row in rows)
    assert all(row["suggested"] in ("blue", "green", "red") for row in rows)
    code, out, _ = verb("--n", "3", "--json", "--by", "entropy")
    document = json.loads(out)
    assert document["looked_at"] == 18 and len(document["suggestions"]) == 3 and len(document["refused"]) == 1
    assert sorted((root / "pool").iterdir()) == before
