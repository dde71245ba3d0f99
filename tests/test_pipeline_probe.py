"""``probe`` from the command line: its protocols, what it writes, and what it refuses."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from lastlayer import InputError, pipeline
from lastlayer._progress import SILENT
from lastlayer.artifacts import read_artifact, write_artifact
from lastlayer.cli.app import run
from lastlayer.evaluation.intervals import wilson
from lastlayer.model import Model
from lastlayer.pipeline.few_shot import draw
from lastlayer.pipeline.info import describe, describe_json
from lastlayer.pipeline.knn import knn_baseline, nearest_rows
from lastlayer.pipeline.probe_data import open_probe
from lastlayer.pipeline.probe_head import ProbeHead, Scaling
from lastlayer.pipeline.probe_settings import ProbeSettings, parse_shots
from lastlayer.pipeline.probing import run_probe
from lastlayer.pipeline.settings import Execution

NAMES = np.array(["ant", "bee", "cat", "dog", "eel", "fox"])
K, D = len(NAMES), 12


def rows(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping clouds, one a class."""
    centres = np.random.default_rng(99).normal(size=(K, D)) * 0.7
    rng = np.random.default_rng(seed)
    y = np.arange(n) % K
    return (centres[y] + rng.normal(size=(n, D))).astype(np.float32), y


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with embeddings in files."""
    root = tmp_path_factory.mktemp("probe")
    for name, n, seed in (("train", 300, 1), ("test", 120, 2), ("val", 90, 3)):
        X, y = rows(n, seed)
        np.save(root / f"{name}.npy", X.astype(np.float16))
        np.save(root / f"{name}_y.npy", NAMES[y])
    X, y = rows(300, 1)
    np.savez(root / "all.npz", x=X, y=NAMES[y], id=np.array([f"r{i}" for i in range(300)]), ward=np.arange(300) // 5)
    return root


def call(cwd: Path, *arguments: str) -> tuple[int, str, str]:
    """Run ``lastlayer probe`` in this process from another folder."""
    out, err = io.StringIO(), io.StringIO()
    before, streams = Path.cwd(), (sys.stdout, sys.stderr)
    os.chdir(cwd)
    sys.stdout, sys.stderr = out, err
    try:
        code = run(["probe", *arguments])
    finally:
        sys.stdout, sys.stderr = streams
        os.chdir(before)
    return code, out.getvalue(), err.getvalue()


TRAIN = ("train.npy", "--labels", "train_y.npy")
TEST = ("--test", "test.npy", "--test-labels", "test_y.npy")


def metrics(root: Path, name: str) -> dict:
    content: dict = json.loads((root / "runs" / name / "metrics.json").read_text())
    return content


def test_score_line_has_everything_and_the_files_are_there(desk: Path) -> None:
    code, out, err = call(desk, *TRAIN, *TEST, "--name", "first", "--runs", "first", "-q")
    assert code == 0, err
    assert (
        "train 300×12 float16 · test 120×12 float16 · 6 classes · rows aligned by position (no ids given, LL031)" in out
    )
    assert re.search(
        r"^test   \d+/120 = \d+\.\d% \[\d+\.\d, \d+\.\d\]   top-5 \d+\.\d%   mean per class \d+\.\d%   C=[\d.e-]+   "
        r"majority 16\.7%   k-NN\(20\) \d+\.\d%   CPU [\d.]+ s   test look #1$",
        out,
        re.MULTILINE,
    ), out
    assert "holdout: C =" in out and "--protocol holdout" in out
    assert "LL031" in err
    folder = desk / "first" / "first"
    assert {path.name for path in folder.iterdir()} == {
        *("metrics.json", "predictions.csv", "model.safetensors", "config.toml", "env.json", "log.jsonl")
    }
    with (folder / "predictions.csv").open(newline="") as stream:
        found = list(csv.DictReader(stream))
    right = sum(row["label"] == row["predicted"] for row in found)
    stored = json.loads((folder / "metrics.json").read_text())
    assert stored["splits"]["test"]["accuracy"]["k"] == right and len(found) == 120
    assert found[7]["path"] == "test#7" and found[7]["split"] == "test"
    assert stored["protocol"] == "holdout" and stored["selection"].startswith("holdout:")


def test_saved_head_gives_the_scores_that_were_told(desk: Path) -> None:
    for option in ([], ["--normalize", "l2"], ["--protocol", "clip"], ["--head", "svm"]):
        name = "head" + "".join(option).replace("-", "")
        code, _, err = call(desk, *TRAIN, *TEST, "--name", name, "-q", *option)
        assert code == 0, err
        head = ProbeHead.load(desk / "runs" / name / "model.safetensors")
        X, y = np.load(desk / "test.npy"), np.load(desk / "test_y.npy")
        z = head.scores(X)
        answers = np.array(head.class_names)[z.argmax(axis=1)]
        told = metrics(desk, name)["splits"]["test"]
        assert int((answers == y).sum()) == told["accuracy"]["k"], option
        p = head.probabilities(z)
        k = np.searchsorted(NAMES, y)
        assert -np.log(p[np.arange(len(y)), k]).mean() == pytest.approx(told["log_loss"], rel=1e-5)
    with pytest.raises(InputError):
        Model.load(desk / "runs" / "head" / "model.safetensors")
    with pytest.raises(InputError, match=r"shape \(3, 4\)"):
        head.scores(np.zeros((3, 4)))


@pytest.mark.parametrize(("protocol", "words"), [("clip", "of 97 values"), ("dinov2", "45 values"), ("cv", "folds")])
def test_every_protocol_says_what_it_did(desk: Path, protocol: str, words: str) -> None:
    code, out, err = call(desk, *TRAIN, *TEST, "--protocol", protocol, "--name", f"p-{protocol}", "-q")
    assert code == 0, err
    stored = metrics(desk, f"p-{protocol}")
    assert words in out and stored["selection"] in out
    assert stored["standardised"] is (protocol == "cv")
    assert sum(point["chosen"] for point in stored["path"]) == 1
    chosen = next(point for point in stored["path"] if point["chosen"])
    assert chosen["C"] == stored["C"]
    assert stored["splits"]["test"]["accuracy"]["value"] > 0.6


def test_looks_are_counted_and_the_same_probe_adds_none(desk: Path) -> None:
    def look(*options: str) -> tuple[int, str]:
        _, out, err = call(desk, *TRAIN, *TEST, "--json", "-q", "--runs", "looks", *options)
        return json.loads(out)["look"], err

    first, err = look()
    assert first == 1 and "LL020" not in err
    assert look()[0] == 1, "the same probe on the same rows"
    second, err = look("--C", "0.5")
    assert second == 2 and "LL020" in err


def test_without_test_rows_the_score_is_labelled_for_what_it_is(desk: Path) -> None:
    code, out, err = call(desk, *TRAIN, "-q", "--name", "val-only")
    assert code == 0
    assert "val" in out and "(these rows chose C; there are no test rows, LL023)" in out and "LL023" in err
    assert metrics(desk, "val-only")["look"] is None
    assert metrics(desk, "val-only")["splits"]["val"]["n"] == 45
    for protocol in ("clip", "dinov2"):
        code, out, err = call(desk, *TRAIN, "-q", "--name", f"{protocol}-only", "--protocol", protocol)
        assert code == 0 and "LL023" in err
        assert metrics(desk, f"{protocol}-only")["splits"]["val"]["n"] == 30


def test_nested_scores_cover_every_row_once(desk: Path) -> None:
    code, out, err = call(desk, "all.npz", "--ids", "id", "--cv", "3", "--group-by", "ward", "--name", "nested", "-q")
    assert code == 0, err
    assert "nested cv" in out and "whole groups" in out and "LL023" not in err
    with (desk / "runs" / "nested" / "predictions.csv").open(newline="") as stream:
        names = [row["path"] for row in csv.DictReader(stream)]
    assert names == [f"r{i}" for i in range(300)]


def test_test_rows_never_choose(tmp_path: Path) -> None:
    """With other test rows, and with other test labels, the probe is the same to the last bit."""
    X, y = rows(200, 5)
    kept = []
    for seed in (6, 7):
        X_test, y_test = rows(60, seed)
        settings = ProbeSettings(protocol="dinov2")
        found = run_probe(
            settings, Execution(runs=tmp_path), arrays={"train": (X, y), "test": (X_test, (y_test + seed) % K)}
        )
        kept.append(ProbeHead.load(found.model_path))
    np.testing.assert_array_equal(kept[0].weights, kept[1].weights)


def test_nested_score_of_noise_is_chance(tmp_path: Path) -> None:
    y = np.arange(160) % 2
    settings = ProbeSettings(protocol="cv", cv=4, C=(0.001, 0.1, 1.0))
    right = []
    for seed in range(4):  # one draw may be two standard errors off
        X = np.random.default_rng(seed).normal(size=(160, 20)).astype(np.float32)
        found = run_probe(settings, Execution(runs=tmp_path), arrays={"train": (X, y)})
        right.append(found.metrics["splits"]["nested cv"]["accuracy"]["k"])
    low, high = wilson(sum(right), 4 * len(y))
    assert low < 0.5 < high, right


def test_shots_table(desk: Path) -> None:
    options = ("--shots", "4,1,2", "--repeats", "3", "--C", "0.01,0.1,1", "-q")
    code, out, err = call(desk, *TRAIN, *TEST, *options, "--name", "shots", "--runs", "shots")
    assert code == 0, err
    lines = out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("shots"))
    assert re.match(r"shots  accuracy \(mean over 3 draws ± s\.d\.\)  val used for C", lines[start])
    assert re.match(r"1      \d+\.\d ± \d+\.\d +none: C fixed at its default \(LL034", lines[start + 1])
    assert re.match(r"2      \d+\.\d ± \d+\.\d +from the same 2 per class, 2 folds \(LL034\)", lines[start + 2])
    assert "LL034" in err
    stored = json.loads((desk / "shots" / "shots" / "metrics.json").read_text())
    means = [row["mean"] for row in stored["shots"]["rows"]]
    assert means[0] < means[2], "four rows a class teach more than one"
    assert stored["look"] == 1, "a table of means is one look"
    assert len((desk / "shots" / "looks.jsonl").read_text().splitlines()) == 1
    _, again, _ = call(desk, *TRAIN, *TEST, *options, "--json", "--runs", "shots")
    assert [row["mean"] for row in json.loads(again)["shots"]["rows"]] == means


def test_shots_without_test_rows_score_what_was_not_drawn(desk: Path) -> None:
    code, out, err = call(desk, "all.npz", "--shots", "2", "--repeats", "2", "--group-by", "ward", "--json", "-q")
    assert code == 0, err
    stored = json.loads(out)
    sizes = [score["n"] for score in stored["shots"]["rows"][0]["scores"]]
    assert stored["shots"]["scored_on"] == "the rows not drawn"
    assert all(size <= 300 - 2 * K and size >= 300 - 5 * 2 * K for size in sizes)
    assert all(size < 300 - 2 * K for size in sizes), "rows of drawn groups are left out as well"
    code, _, err = call(desk, *TRAIN, "--shots", "50", "-q")
    assert code == 1 and "LL009" in err and "ant (50)" in err
    code, _, err = call(desk, *TRAIN, "--shots", "2", "--val", "val.npy", "--val-labels", "val_y.npy")
    assert code == 1 and "LL034" in err


def test_draws_are_nested_and_seeded() -> None:
    y = np.arange(60) % 3
    np.testing.assert_array_equal(draw(y, 4, (0, 1))[:, :2], draw(y, 2, (0, 1)))
    assert (draw(y, 4, (0, 1)) != draw(y, 4, (0, 2))).any()
    assert all((y[row] == k).all() for k, row in enumerate(draw(y, 4, (0, 1))))


def test_given_validation_rows_choose(desk: Path) -> None:
    code, out, err = call(
        desk, *TRAIN, *TEST, "--val", "val.npy", "--val-labels", "val_y.npy", "--name", "with-val", "-q"
    )
    assert code == 0, err
    assert "the validation set given" in out and "(chose C)" in out
    assert list(metrics(desk, "with-val")["splits"]) == ["val", "test"]


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (["train.npy"], "no labels that can be told"),
        (["nothing.npy"], "no file"),
        ([*TRAIN, "--test", "test.npy"], "no labels that can be told"),
        ([*TRAIN, "--test-labels", "test_y.npy"], "--test-labels without --test"),
        ([*TRAIN, "--protocol", "clip", "--C", "1"], "values of C of its own"),
        ([*TRAIN, "--protocol", "dinov2", "--head", "svm"], "logistic regression"),
        ([*TRAIN, "--shots", "two"], "--shots 'two' cannot be read"),
        ([*TRAIN, "--shots", "0"], "numbers from 1 up"),
        ([*TRAIN, "--C", "-1"], "positive numbers"),
        (["all.npz", "--x", "ward"], "shape (300,)"),
        (["all.npz", "--labels", "test_y.npy"], "300 rows and test_y.npy 120 labels"),
        (["all.npz", "--ids", "ward"], "LL033"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(desk: Path, arguments: list[str], fact: str) -> None:
    code, out, err = call(desk, *arguments, "-q", "--name", "refused")
    assert code == 1, out + err
    assert fact in err and "Traceback" not in err
    assert not (desk / "runs" / "refused").exists()


def test_logits_are_refused_unless_allowed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(120) % 4
    logits = (rng.normal(size=(120, 4)) + 8 * np.eye(4)[y]).astype(np.float32)
    np.savez(tmp_path / "out.npz", x=logits, y=y)
    code, _, err = call(tmp_path, "out.npz", "-q")
    assert code == 1 and "LL032" in err and "--allow-logits" in err
    code, _, err = call(tmp_path, "out.npz", "-q", "--allow-logits")
    assert code == 0, err


def test_sides_are_checked_against_each_other() -> None:
    X, y = rows(60, 1)
    settings = ProbeSettings()
    with pytest.raises(InputError, match="test embeddings have 11 columns, training ones 12"):
        open_probe(settings, {"train": (X, y), "test": (X[:, :11], y)})
    with pytest.raises(InputError, match="1 classes"):
        open_probe(settings, {"train": (X, y * 0)})
    with pytest.raises(InputError, match="no test row has a label"):
        open_probe(settings, {"train": (X, y), "test": (X, y + 50)})
    labels = np.array(["", *NAMES[y][1:]])
    data = open_probe(settings, {"train": (X, labels), "test": (X[:9], np.array(["yak", *NAMES[y][1:9]]))})
    codes = [problem.code for problem in data.problems]
    assert codes == ["LL004", "LL008"], "an unknown class is not scored; shared rows are leaks"
    assert len(data.train) == 59 and len(data.test or ()) == 8
    assert "train: 1 rows without label are not used" in data.notes
    narrow = open_probe(settings, {"train": (X, y), "test": (rows(60, 2)[0][y < 2], y[y < 2])})
    assert [problem.code for problem in narrow.problems] == ["LL022"]


def test_threads_and_order_of_options_change_no_bit(desk: Path) -> None:
    for name, threads in (("one", "1"), ("two", "2")):
        assert call(desk, *TRAIN, *TEST, "--threads", threads, "--name", name, "-q")[0] == 0
    models = [(desk / "runs" / name / "model.safetensors").read_bytes() for name in ("one", "two")]
    assert models[0] == models[1]


def test_config_runs_again_to_the_same_probe(desk: Path) -> None:
    assert call(desk, *TRAIN, *TEST, "--protocol", "cv", "--cv", "3", "--name", "made", "-q")[0] == 0
    code, _, err = call(desk, "--config", "runs/made/config.toml", "--name", "again", "-q")
    assert code == 0, err
    models = [(desk / "runs" / name / "model.safetensors").read_bytes() for name in ("made", "again")]
    assert models[0] == models[1]
    assert call(desk, "-q")[0] == 2


def test_ridge_and_svm_probabilities_are_tempered(desk: Path) -> None:
    for head in ("ridge", "svm"):
        assert call(desk, *TRAIN, *TEST, "--head", head, "--name", head, "-q")[0] == 0
        stored = metrics(desk, head)
        assert stored["temperature"] != 1.0
        assert stored["splits"]["test"]["log_loss"] < np.log(K)


def test_scaling_is_that_of_the_rows_given() -> None:
    X = np.random.default_rng(0).normal(size=(500, 4)) * [1, 1e3, 1e-3, 0] + [0, 1e4, 0, 7]
    Z = Scaling.of(X).apply(X)
    np.testing.assert_allclose(Z[:, :3].mean(axis=0), 0, atol=1e-2)
    np.testing.assert_allclose(Z[:, :3].std(axis=0), 1, rtol=1e-3)
    np.testing.assert_array_equal(Z[:, 3], 0)


def test_nearest_rows_agree_with_a_full_sort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lastlayer.pipeline.knn._TRAIN_BLOCK", 16)
    monkeypatch.setattr("lastlayer.pipeline.knn._QUERY_BLOCK", 7)
    rng = np.random.default_rng(0)
    X, Q = rng.normal(size=(90, 5)), rng.normal(size=(23, 5))
    X[40] = X[3]  # a tie
    cosine, found = nearest_rows(X, np.arange(90), Q, np.arange(23), 6, SILENT)
    unit = [A / np.linalg.norm(A, axis=1, keepdims=True) for A in (X, Q)]
    exact = unit[1].astype(np.float32) @ unit[0].astype(np.float32).T
    order = np.argsort(-exact, axis=1, kind="stable")[:, :6]
    np.testing.assert_allclose(cosine, np.take_along_axis(exact, order, 1), rtol=1e-5)
    assert (found == order).mean() > 0.98
    few = nearest_rows(X, np.arange(4), Q, np.arange(23), 4, SILENT)[1]
    assert (np.sort(few, axis=1) == np.arange(4)).all()


def test_knn_baseline_counts_and_says_when_it_drew() -> None:
    X, y = rows(600, 1)
    X_test, y_test = rows(120, 2)
    full = knn_baseline(X, y, X_test, y_test)
    assert full.name == "k-NN(20)" and full.accuracy.n == 120 and full.accuracy.value > 0.6
    drawn = knn_baseline(X, y, X_test, y_test, budget_flops=2 * 120 * 60 * D)
    assert "60 of 600" in drawn.note and "drawn by class" in drawn.note


def test_parse_shots() -> None:
    assert parse_shots("16,1,4") == (1, 4, 16)


def test_help_names_every_option_of_the_design() -> None:
    out, before = io.StringIO(), sys.stdout
    sys.stdout = out
    try:
        run(["probe", "--help"])
    finally:
        sys.stdout = before
    text = out.getvalue()
    wanted = "--x --y --labels --test --test-labels --val --val-labels --ids --group-by --normalize --shots --repeats"
    for option in [*wanted.split(), "--cv", "--protocol", "--allow-logits", "--head", "--C", "--seed", "--json"]:
        assert option in text, option


def test_python_functions_take_arrays_and_files(desk: Path, tmp_path: Path) -> None:
    X, y = rows(120, 1)
    X_test, y_test = rows(60, 2)
    made = pipeline.probe((X, NAMES[y]), test=(X_test, NAMES[y_test]), runs=tmp_path, protocol="cv", cv=3)
    assert made.metrics["quote"] == "test" and made.metrics["look"] == 1
    grouped = pipeline.probe((X, y), groups=np.arange(120) // 4, runs=tmp_path, C=[0.1, 1.0])
    assert "whole groups" in grouped.metrics["selection"]
    files = pipeline.probe(desk / "train.npy", labels=str(desk / "train_y.npy"), runs=tmp_path, C=0.1)
    assert files.metrics["C"] == 0.1 and files.predictions[0]["path"].startswith("train#")
    with pytest.raises(InputError, match="unknown setting 'protocoll'"):
        pipeline.probe((X, y), protocoll="cv")
    with pytest.raises(InputError, match="no pair"):
        pipeline.probe((X, y), test=X, runs=tmp_path)


def test_info_describes_a_probe_and_damage_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(80, 6)).astype(np.float32), np.arange(80) % 3
    run = pipeline.probe((X, y), runs=tmp_path)
    lines = describe(run.folder)
    assert lines[0] == "probe       6 features -> 3 classes: 0, 1, 2"
    assert describe_json(run.folder)["kind"] == "probe"
    header, tensors = read_artifact(run.folder / "model.safetensors")
    for changed, damage in (
        ({"class_names": ["a", "b"]}, "do not fit 2 classes"),
        ({"temperature": 0.0}, "temperature or normalisation"),
        ({"representation": {"name": "identity", "n_features": 7, "normalize": ""}}, "do not fit 3 classes"),
    ):
        write_artifact(tmp_path / "bad.safetensors", header | changed, tensors, overwrite=True)
        with pytest.raises(InputError, match=damage):
            describe(tmp_path / "bad.safetensors")
