"""Training end to end through the Python functions: what must hold of every run."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import lastlayer
from lastlayer import InputError
from lastlayer._progress import Progress, Task
from lastlayer.pipeline import toml
from lastlayer.pipeline.learn import class_weights, fit_temperature
from lastlayer.pipeline.run import RunWriter
from lastlayer.pipeline.settings import Execution, TrainSettings, parse_Cs, settings_from
from lastlayer.pipeline.training import run_training
from small_photos import CLASSES, make_folder, picture

FILES = set(
    "config.toml decisions.json distance.safetensors env.json held_out.safetensors log.jsonl metrics.json "
    "model.safetensors predictions.csv report.html report.safetensors split.csv".split()
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASTLAYER_CACHE", str(tmp_path_factory.mktemp("cache")))


def sides(run: lastlayer.Run) -> dict[str, str]:
    import csv

    with (run.folder / "split.csv").open(newline="") as stream:
        return {row["path"]: row["split"] for row in csv.DictReader(stream)}


@pytest.mark.parametrize("head", ["logistic", "svm", "ridge", "perceptron"])
def test_every_head_learns_and_its_model_repeats_the_predictions(tmp_path: Path, head: str) -> None:
    photos = make_folder(tmp_path / "photos")
    run = lastlayer.train(photos, phi="pixels:size=6", head=head, runs=tmp_path / "runs")
    assert {path.name for path in run.folder.iterdir()} == FILES
    score = run.metrics["splits"]["test"]["accuracy"]
    assert score["k"] >= score["n"] - 1 and score["n"] == 9
    stored = {row["path"]: row for row in run.predictions if row["split"] == "test"}
    again = lastlayer.predict(run, [photos / path for path in stored], top_k=3)
    for (path, row), prediction in zip(stored.items(), again):
        assert prediction.label == row["predicted"], path
        assert prediction.top[0][1] == pytest.approx(float(row["p_predicted"]), abs=2e-6)
        assert sum(p for _, p in prediction.top) == pytest.approx(1, abs=1e-9)


def test_stratified_split_and_files_keep_their_side_when_images_are_added(tmp_path: Path) -> None:
    photos = make_folder(tmp_path / "photos")
    first = lastlayer.train(photos, phi="pixels:size=6", runs=tmp_path / "runs")
    before = sides(first)
    for name in CLASSES:
        counts = [sum(s == side and p.startswith(name) for p, s in before.items()) for side in ("train", "val", "test")]
        assert counts == [14, 3, 3]
    make_folder(photos, per_class=7, first=100)
    after = sides(lastlayer.train(photos, phi="pixels:size=6", runs=tmp_path / "runs"))
    assert len(after) == 81
    assert {path: after[path] for path in before} == before


def test_same_command_gives_the_same_bytes(tmp_path: Path) -> None:
    photos = make_folder(tmp_path / "photos")
    models = []
    for name, cache, workers in (("a", True, 1), ("b", True, 2), ("c", False, 2)):
        run = lastlayer.train(photos, phi="hog+colour", name=name, runs=tmp_path / "runs", cache=cache, workers=workers)
        models.append((run.folder / "model.safetensors").read_bytes())
    assert models[0] == models[1] == models[2]
    assert not lastlayer.load(tmp_path / "runs" / "a").metrics["cache"]["images"]
    assert lastlayer.load(tmp_path / "runs" / "b").metrics["cache"] == {"images": True, "features": True}


def test_another_head_reuses_the_features_and_a_changed_file_does_not(tmp_path: Path) -> None:
    photos = make_folder(tmp_path / "photos")
    lastlayer.train(photos, phi="hog", runs=tmp_path / "runs")
    second = lastlayer.train(photos, phi="hog", head="ridge", runs=tmp_path / "runs")
    assert second.metrics["cache"] == {"images": True, "features": True}
    target = photos / "red" / "000.png"
    target.write_bytes((photos / "blue" / "001.png").read_bytes())
    third = lastlayer.train(photos, phi="hog", runs=tmp_path / "runs")
    assert third.metrics["cache"] == {"images": False, "features": False}
    codes = {problem["code"] for problem in third.metrics["problems"]}
    assert "LL006" in codes, "a blue picture among the red ones: identical images with different labels"


def test_arrays_and_labels_of_any_kind(tmp_path: Path) -> None:
    X = np.stack([picture(k, i, 12, 1) for i in range(20) for k in range(3)])
    y = np.array(["top", "middle", "bottom"])[np.tile(np.arange(3), 20)]
    run = lastlayer.train((X, y), phi="pixels", runs=tmp_path / "runs")
    assert run.model.class_names == ("bottom", "middle", "top")
    assert run.metrics["splits"]["test"]["accuracy"]["value"] > 0.8


def test_given_train_and_test_folders_are_kept(tmp_path: Path) -> None:
    make_folder(tmp_path / "data" / "train")
    make_folder(tmp_path / "data" / "TEST", per_class=5, first=300)
    run = lastlayer.train(tmp_path / "data", phi="pixels:size=6", runs=tmp_path / "runs")
    by_side = {side: sum(s == side for s in sides(run).values()) for side in ("train", "val", "test")}
    assert by_side == {"train": 51, "val": 9, "test": 15}


def test_refit_keeps_C_and_uses_training_and_validation(tmp_path: Path) -> None:
    photos = make_folder(tmp_path / "photos")
    run = lastlayer.train(photos, phi="pixels:size=4", runs=tmp_path / "runs")
    metrics = run.metrics
    assert metrics["l2"] == pytest.approx(1 / (metrics["C"] * 51))
    assert any(point["chosen"] for point in metrics["path"])
    oof = {row["split"]: row["oof"] for row in run.predictions}
    assert oof == {"train": "0", "val": "1", "test": "1"}


def test_second_look_at_the_same_test_split_is_counted(tmp_path: Path) -> None:
    photos = make_folder(tmp_path / "photos")
    looks = [
        lastlayer.train(photos, phi="pixels:size=4", head=head, runs=tmp_path / "runs").metrics["look"]
        for head in ("logistic", "ridge", "ridge")
    ]
    assert looks == [1, 2, 2], "scoring the same model again adds no look"


def test_majority_like_noise_is_not_sold_as_skill(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, size=(90, 6, 6), dtype=np.uint8)
    run = lastlayer.train((X, rng.integers(0, 2, 90)), phi="pixels", runs=tmp_path / "runs")
    assert "LL021" in {problem["code"] for problem in run.metrics["problems"]}


def test_failure_leaves_no_folder_behind(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    make_folder(folder)
    for name in CLASSES[1:]:
        for file in (folder / name).iterdir():
            file.unlink()
        (folder / name).rmdir()
    with pytest.raises(InputError, match="two classes"):
        lastlayer.train(folder, runs=tmp_path / "runs")
    assert list((tmp_path / "runs").iterdir()) == []


class Interrupting(Progress):
    """Presses Ctrl-C at the n-th step of one task."""

    def __init__(self, task: str, step: int) -> None:
        self.name, self.left = task, step

    @contextmanager
    def task(self, name: str, total: float) -> Iterator[Task]:
        yield self if name == self.name else SILENT_TASK  # type: ignore[misc]

    def advance(self, steps: float = 1, note: str = "") -> None:
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGINT)


class SilentTask(Task):
    def advance(self, steps: float = 1, note: str = "") -> None:
        return None


SILENT_TASK = SilentTask()


@pytest.mark.parametrize("step", [1, 4])
def test_ctrl_c_on_the_path_keeps_the_best_so_far(tmp_path: Path, step: int) -> None:
    photos = make_folder(tmp_path / "photos")
    how = Execution(runs=tmp_path / "runs", progress=Interrupting("path", step))
    run = run_training(TrainSettings(data=str(photos), phi="pixels:size=6"), how)
    assert run.interrupted and run.metrics["interrupted"]
    assert 1 <= len(run.metrics["path"]) <= step
    assert {path.name for path in run.folder.iterdir()} == FILES
    assert run.metrics["splits"]["test"]["accuracy"]["value"] > 0.6


def test_ctrl_c_before_there_is_a_model_leaves_nothing(tmp_path: Path) -> None:
    photos = make_folder(tmp_path / "photos", per_class=40)
    how = Execution(runs=tmp_path / "runs", progress=Interrupting("Features", 1))
    with pytest.raises(KeyboardInterrupt):
        run_training(TrainSettings(data=str(photos), phi="pixels:size=6"), how)
    assert list((tmp_path / "runs").iterdir()) == []


def test_runs_are_numbered_and_names_checked(tmp_path: Path) -> None:
    for expected in ("train-001", "train-002"):
        with RunWriter(tmp_path, "train") as writer:
            assert writer.finish().name == expected
    with pytest.raises(InputError, match="not a folder name"):
        RunWriter(tmp_path, "train", name="../outside")
    with pytest.raises(ZeroDivisionError), RunWriter(tmp_path, "train"):
        raise ZeroDivisionError
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train-001", "train-002"]


def test_overwrite_replaces_the_named_run_only(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with RunWriter(tmp_path, "train", name="x", overwrite=True) as writer:
            (writer.folder / text).write_text(text)
            writer.finish()
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_temperature_minimises_log_loss_and_stays_finite() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 4000)
    z = rng.standard_normal((4000, 3)).astype(np.float32)
    z[np.arange(4000), y] += 1.5
    overconfident = (z * 7).astype(np.float32)
    T = fit_temperature(overconfident, y)

    def loss(temperature: float) -> float:
        scaled = overconfident.astype(np.float64) / temperature
        scaled -= scaled.max(axis=1, keepdims=True)
        return float(np.mean(np.log(np.exp(scaled).sum(axis=1)) - scaled[np.arange(4000), y]))

    assert loss(T) < min(loss(T * 1.1), loss(T / 1.1)) + 1e-4
    assert loss(T) < loss(1.0)
    separable = np.eye(3, dtype=np.float32)[y[:20]] * 2
    assert 0.05 < fit_temperature(separable, y[:20]) < 5, "twenty right answers do not make certainty"


def test_balanced_weights_sum_to_n_and_equalise_classes() -> None:
    y = np.array([0] * 90 + [1] * 10)
    weight = class_weights(y, 3, "balanced")
    assert weight is not None
    assert weight.sum() == pytest.approx(100)
    assert weight[y == 0].sum() == pytest.approx(weight[y == 1].sum())
    assert class_weights(y, 3, "") is None


def test_settings_refuse_nonsense_by_name() -> None:
    for bad, hint in (
        ({"head": "forest"}, "head"), ({"val": 0.9, "test": 0.2}, "leave nothing"), ({"C": (0.0,)}, "positive"),
        ({"size": -1}, "side"), ({"l2": -1.0}, "l2"), ({"max_iter": 0}, "max-iter"), ({"colour": 1}, "colour"),
        ({"seed": "x"}, "seed"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=hint):
            settings_from(bad, "options")
    assert parse_Cs("1,0.1") == (0.1, 1.0)
    with pytest.raises(InputError, match="logspace"):
        parse_Cs("logspace:1:2")


def test_toml_round_trip_of_every_setting(tmp_path: Path) -> None:
    settings = TrainSettings(data='a "quoted"\n\x7f\udcff name', C=(1e-5, 3.0), l2=0.5)
    import dataclasses

    values = dataclasses.asdict(settings)
    path = tmp_path / "config.toml"
    path.write_text(toml.dump({"train": values}), encoding="utf-8")
    assert settings_from(toml.load(path)["train"], "file") == settings
    assert math.isnan(toml.load(_written(tmp_path, "[train]\nl2 = nan\n"))["train"]["l2"])
    with pytest.raises(InputError, match="line 1"):
        toml.load(_written(tmp_path, "[train\n"))


def _written(folder: Path, text: str) -> Path:
    path = folder / "other.toml"
    path.write_text(text)
    return path


def test_log_is_one_json_event_per_line(tmp_path: Path) -> None:
    photos = make_folder(tmp_path / "photos")
    run = lastlayer.train(photos, phi="pixels:size=4", runs=tmp_path / "runs")
    events = [json.loads(line)["event"] for line in (run.folder / "log.jsonl").read_text().splitlines()]
    assert events[0] == "start" and events[-1] == "end" and "scored" in events
