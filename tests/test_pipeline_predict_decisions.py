"""`predict`: answers withheld, images far from the training images, unknown ones, and copies sorted by label."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import lastlayer
from lastlayer import InputError
from lastlayer.cli.app import run as call_verb
from lastlayer.model import Model
from lastlayer.pipeline.predicting import Prediction, answer_threshold, predictions
from lastlayer.pipeline.run import Run
from lastlayer.pipeline.run_decisions import DISTANCE, FILE, RunDecisions, read_decisions
from lastlayer.pipeline.settings import Execution
from lastlayer.pipeline.sorting import sort_into
from small_photos import make_folder, picture

HOW = Execution(workers=1)


def strange(seed: int) -> np.ndarray:
    """A picture of no class: hard stripes, far brighter and darker than any photo."""
    pixels = np.zeros((24, 24, 3), np.uint8)
    pixels[:, seed % 4 :: 4] = 255
    pixels[:: 2 + seed % 3] = 255 * (seed % 2)
    return pixels


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    root = tmp_path_factory.mktemp("decisions")
    photos = make_folder(root / "photos", per_class=80)
    (photos / "unknown").mkdir()
    for seed in range(24):
        pixels = strange(seed)
        pixels[seed, 0] = (seed, 7, 7)  # no two alike to the bit
        Image.fromarray(pixels).save(photos / "unknown" / f"{seed:02d}.png")
    run = lastlayer.train(
        photos, phi="pixels:size=6", C=(0.01,), val=0.3, runs=root / "runs", cache=False, label_check=False, workers=1
    )
    odd = root / "odd"
    odd.mkdir()
    Image.fromarray(strange(5)).save(odd / "stripes.png")
    Image.fromarray(picture(1, 999)).save(odd / "green.png")
    blend = (picture(0, 998).astype(int) + picture(1, 998)) // 2
    Image.fromarray(blend.astype(np.uint8)).save(odd / "between.png")
    (odd / "broken.png").write_bytes(b"no image")
    return root, run


def verb(*arguments: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = out, err
    try:
        code = call_verb([*arguments, "--workers", "1", "-q"])
    finally:
        sys.stdout, sys.stderr = streams
    return code, out.getvalue(), err.getvalue()


def test_unknown_images_are_never_a_class_and_test_the_abstention(place: tuple[Path, Run]) -> None:
    _, run = place
    assert run.model.class_names == ("blue", "green", "red")
    assert not [row for row in run.predictions if row["path"].startswith("unknown/")]
    stored = json.loads((run.folder / FILE).read_text())
    assert stored == run.metrics["decisions"]
    tested, chosen = stored["unknown"], stored["chosen_on"]
    assert tested["either"]["n"] + chosen["unknown"] == 24 and min(tested["either"]["n"], chosen["unknown"]) > 0
    assert tested["far"]["k"] == tested["far"]["n"] and tested["either"]["k"] >= tested["abstained"]["k"]
    assert chosen["val"] == run.metrics["splits"]["val"]["accuracy"]["n"]
    assert 0.5 < stored["wanted"] < 1 and stored["sure"] == 0.95


def test_answers_are_withheld_below_the_threshold_only(place: tuple[Path, Run]) -> None:
    root, run = place
    files = [str(root / "odd" / name) for name in ("green.png", "between.png", "broken.png")]
    every = list(predictions(run, files, HOW))
    p = [one.top[0][1] for one in every[:2]]
    assert p[0] > p[1] and not any(one.abstained for one in every)
    middle = (p[0] + p[1]) / 2
    kept, withheld, broken = predictions(run, files, HOW, abstain=middle)
    assert kept.label == "green" and not kept.abstained
    assert withheld.label is None and withheld.abstained and withheld.note.startswith("abstained (p ≤ ")
    assert withheld.top == every[1].top and withheld.to_dict()["label"] is None
    assert not broken.abstained and broken.note.startswith("LL003")
    exact = list(predictions(run, files[:1], HOW, abstain=p[0]))
    assert exact[0].abstained, "the threshold itself does not answer"


def test_far_images_are_noted_and_near_ones_are_not(place: tuple[Path, Run]) -> None:
    root, run = place
    stripes, green = predictions(run, [str(root / "odd" / "stripes.png"), str(root / "odd" / "green.png")], HOW)
    assert stripes.far and "far from training data" in stripes.note
    assert green.far is False and green.note == ""
    alone = root / "alone.safetensors"
    alone.write_bytes(run.model_path.read_bytes())
    (one,) = predictions(alone, [str(root / "odd" / "stripes.png")], HOW)
    assert one.far is None and one.note == "" and one.top == stripes.top
    with pytest.raises(InputError, match="no threshold"):
        list(predictions(alone, [str(root / "odd" / "green.png")], HOW, abstain="auto"))


def test_few_training_images_are_called_far(place: tuple[Path, Run]) -> None:
    root, run = place
    rows = [row["path"] for row in run.predictions if row["split"] == "test"]
    found = list(predictions(run, [str(root / "photos" / path) for path in rows], HOW))
    assert len(rows) > 20 and sum(bool(one.far) for one in found) <= 0.1 * len(rows)


def test_the_threshold_asked_for() -> None:
    decided = RunDecisions(0.7, 0.95, None)
    assert np.isnan(answer_threshold(None, decided)) and answer_threshold("auto", decided) == 0.7
    assert answer_threshold("0.25", None) == 0.25 and answer_threshold(0.0, None) == 0.0
    for wrong in ("1", "-0.1", "nan", "often"):
        with pytest.raises(InputError, match="no probability"):
            answer_threshold(wrong, decided)
    with pytest.raises(InputError, match="no promise"):
        answer_threshold("auto", RunDecisions(float("nan"), 0.95, None))


def test_what_another_model_decided_is_not_used(place: tuple[Path, Run], tmp_path: Path) -> None:
    _, run = place
    model = run.model
    other = Model(
        model.class_names, model.image_format, model.representation, model.weights, model.bias + 1, model.loss, 1.0, {}
    )
    assert read_decisions(run.folder, model) is not None and read_decisions(run.folder, other) is None
    assert read_decisions(tmp_path, model) is None
    for name in (FILE, DISTANCE):
        (tmp_path / name).write_bytes((run.folder / name).read_bytes())
    text = (tmp_path / FILE).read_text()
    for damage in ("", "[]", text.replace('"threshold"', '"x"'), text.replace('"wanted": 0', '"wanted": "a", "y": 0')):
        (tmp_path / FILE).write_text(damage)
        with pytest.raises(InputError, match="damaged"):
            read_decisions(tmp_path, model)


def test_formats_of_the_verb(place: tuple[Path, Run]) -> None:
    root, run = place
    asked = ["predict", str(run.folder), str(root / "odd" / "between.png"), "--abstain", "0.9999"]
    code, out, _ = verb(*asked)
    assert code == 0 and "—" in out and "abstained (p ≤ 1.00)" in out
    code, out, _ = verb(*asked, "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(out))
    assert row["label"] == "" and float(row["p"]) < 0.9999 and row["note"].startswith("abstained")
    code, out, _ = verb(*asked, "--format", "jsonl")
    stored = json.loads(out)
    assert stored["label"] is None and stored["abstained"] is True and stored["far"] in (True, False)
    code, _, err = verb(*asked[:-1], "sometimes")
    assert code == 1 and "no probability" in err
    code, _, err = verb(*asked, "--dry-run")
    assert code == 2 and "--sort-into" in err


def test_sorting_copies_and_never_moves_or_overwrites(place: tuple[Path, Run], tmp_path: Path) -> None:
    root, run = place
    asked = ["predict", str(run.folder), str(root / "odd"), "--sort-into", str(tmp_path / "s"), "--format", "csv"]
    code, out, err = verb(*asked, "--dry-run")
    assert code == 1 and "3 images would be copied" in err and not (tmp_path / "s").exists()
    code, again, err = verb(*asked)
    assert code == 1 and out == again and "3 images copied" in err
    made = sorted(path.relative_to(tmp_path / "s").as_posix() for path in (tmp_path / "s").rglob("*.png"))
    assert "green/green.png" in made and len(made) == 3
    copy = tmp_path / "s" / "green" / "green.png"
    source = root / "odd" / "green.png"
    assert copy.read_bytes() == source.read_bytes() and copy.stat().st_mtime == source.stat().st_mtime
    verb(*asked)
    assert len(list((tmp_path / "s").rglob("*.png"))) == 3, "the same content again is no second copy"
    copy.write_bytes(b"mine")
    verb(*asked)
    assert copy.read_bytes() == b"mine" and (copy.parent / "green-2.png").read_bytes() == source.read_bytes()


def test_sorting_keeps_inside_its_folder(tmp_path: Path) -> None:
    Image.fromarray(picture(0, 1)).save(tmp_path / "a.png")
    (tmp_path / "b").mkdir()
    Image.fromarray(picture(0, 2)).save(tmp_path / "b" / "a.png")
    path = str(tmp_path / "a.png")
    answers = [
        Prediction(path, (("../../evil", 0.9),)),
        Prediction(str(tmp_path / "b" / "a.png"), (("../../evil", 0.9),)),
        Prediction(path, (("cat", 0.4),), abstained=True),
        Prediction(path, ()),
    ]
    folder = tmp_path / "sorted"
    placed = [target for _, target in sort_into(answers, folder)]
    names = [None if one is None else one.relative_to(folder).as_posix() for one in placed]
    assert names == ["_.._.._evil/a.png", "_.._.._evil/a-2.png", "_abstained/a.png", None]
    inside = Prediction(str(placed[0]), (("cat", 0.9),))
    with pytest.raises(InputError, match="inside"):
        list(sort_into([inside], folder))
    with pytest.raises(InputError, match="not a folder"):
        list(sort_into(answers, path))
    assert os.path.exists(path)
