"""``sweep``: folds that keep together what belongs together, an untouched test split, an honest choice."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import lastlayer
from lastlayer import InputError
from lastlayer._progress import SILENT, Progress, Task
from lastlayer.cli.app import run
from lastlayer.cli.sweep_scores import sweep_lines
from lastlayer.evaluation.resampling import corrected_interval
from lastlayer.pipeline import toml
from lastlayer.pipeline.learning_curves import fold_curve
from lastlayer.pipeline.settings import Execution, TrainSettings
from lastlayer.pipeline.sweep_choice import (
    Candidate,
    best_of,
    corrected_t_test,
    differences,
    nested,
)
from lastlayer.pipeline.sweep_folds import FoldTable, Problem, fit_fold, fold_table, out_of_fold
from lastlayer.pipeline.sweep_settings import SweepSettings, sweep_settings
from lastlayer.pipeline.sweeping import run_sweep
from lastlayer.selection.fit import fit_linear
from lastlayer.selection.folds import Fold, make_folds
from small_photos import make_folder, picture

PHIS = ("--phi", "pixels:size=4", "--phi", "colour:bins=2", "--C", "0.001,0.1,10", "--cv", "3")
SMALL = {"phi": ("pixels:size=2",), "C": (0.01, 1.0), "cv": 3}


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASTLAYER_CACHE", str(tmp_path_factory.mktemp("cache")))


def call(cwd: Path, *arguments: str) -> tuple[int, str, str]:
    """Run a verb in this process from another folder."""
    out, err = io.StringIO(), io.StringIO()
    before, streams = Path.cwd(), (sys.stdout, sys.stderr)
    os.chdir(cwd)
    sys.stdout, sys.stderr = out, err
    try:
        code = run(list(arguments))
    finally:
        sys.stdout, sys.stderr = streams
        os.chdir(before)
    return code, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A folder of photos, swept once with everything; the folder, stdout and stderr."""
    root = tmp_path_factory.mktemp("sweep")
    make_folder(root / "photos", per_class=16, side=12)
    options = ("--nested", "--learning-curve", "--no-cache", "--name", "all", "-q")
    code, out, err = call(root, "sweep", "photos", *PHIS, *options)
    assert code == 0, out + err
    return root, out, err


def document(root: Path, name: str = "all") -> dict:
    content: dict = json.loads((root / "runs" / name / "sweep.json").read_text())
    return content


def test_table_has_the_shape_of_the_design(place: tuple[Path, str, str]) -> None:
    _, out, err = place
    lines = out.splitlines()
    assert "test split (9) set aside and not touched · 39 images · 3 folds, stratified" in out
    start = next(i for i, line in enumerate(lines) if line.startswith("phi"))
    head = r"phi +dim +C  CV accuracy \(mean ± s\.d\. of 3 folds\)  95%, corrected  fit/fold"
    assert re.fullmatch(head, lines[start]), lines[start]
    row = r"{} +{} +(0\.001|0\.1|10)  \d+\.\d ± \d+\.\d +(\[[\d.]+, [\d.]+\])? +[\d.]+ m?s(  ← chosen)?"
    assert re.fullmatch(row.format("pixels:size=4", 48), lines[start + 1]), lines[start + 1]
    assert re.fullmatch(row.format("colour:bins=2", r"\d+"), lines[start + 2]), lines[start + 2]
    assert out.count("← chosen") == 1
    assert re.search(
        r'^nested estimate of "choose then fit": \d+\.\d ± \d+\.\d( \[[\d.]+, [\d.]+\])?      \((cost of|choosing)',
        out,
        re.M,
    )
    assert re.search(r"^within noise of the best: .+\.$", out, re.M)
    assert re.search(r"^Learning curve \(images: accuracy\): .*\n(Doubling|Too few).*\.$", out, re.M)
    assert lines[-1] == "runs/all/report.html   refit: lastlayer train --config runs/all/best.toml"
    assert "LL023" not in err, "the nested score chose nothing"


def test_files_and_their_content(place: tuple[Path, str, str]) -> None:
    root, _, _ = place
    folder = root / "runs" / "all"
    assert {path.name for path in folder.iterdir()} == {
        *("sweep.json", "best.toml", "split.csv", "report.html", "report.safetensors", "env.json", "log.jsonl")
    }
    found = document(root)
    assert found["test"] == {"n": 9, "touched": False}
    for row in found["rows"]:
        accuracy = [fold["k"] / fold["n"] for fold in row["folds"]]
        assert row["accuracy"]["mean"] == pytest.approx(np.mean(accuracy))
        assert row["accuracy"]["sd"] == pytest.approx(np.std(accuracy, ddof=1))
        expected = corrected_interval(accuracy, 13 / 26)
        found_interval = row["accuracy"]["interval"]
        if expected.low == expected.high:
            assert found_interval["low"] is None and found_interval["high"] is None
        else:
            assert found_interval["low"] == pytest.approx(max(0.0, expected.low))
            assert found_interval["high"] == pytest.approx(min(1.0, expected.high))
        assert sum(fold["n"] for fold in row["folds"]) == 39
        assert [point["C"] for point in row["path"]] == [0.001, 0.1, 10.0]
    inner = found["nested"]["accuracy"]
    assert set(inner) == {"mean", "sd", "interval"} and inner["interval"]["value"] == pytest.approx(inner["mean"])
    assert len(found["nested"]["chosen"]) == 3 and found["nested"]["pooled"]["n"] == 39
    assert found["learning_curve"]["points"][-1]["n"] == 26
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert "nested" in report and "each image by a fit whose φ and C were chosen without it" in report


def test_best_toml_trains_the_winner_on_the_same_split(place: tuple[Path, str, str]) -> None:
    root, _, _ = place
    code, out, err = call(root, "train", "--config", "runs/all/best.toml", "--name", "refit", "--no-cache", "-q")
    assert code == 0, out + err
    best = document(root)["best"]
    made = lastlayer.load(root / "runs" / "refit")
    assert made.config["train"]["phi"] == best["phi"] and made.metrics["C"] == best["C"]
    assert made.metrics["look"] == 1, "the sweep did not look at the test rows"

    def test_names(name: str) -> set[str]:
        with (root / "runs" / name / "split.csv").open(newline="") as stream:
            return {row["path"] for row in csv.DictReader(stream) if row["split"] == "test"}

    assert test_names("refit") == test_names("all") and len(test_names("all")) == 9


def test_json_is_one_document_and_repeats_are_more_folds(place: tuple[Path, str, str]) -> None:
    root, _, _ = place
    code, out, err = call(root, "sweep", "photos", *PHIS, "--repeats", "2", "--json", "-q", "--no-cache")
    assert code == 0
    found = json.loads(out)
    assert len(found["rows"][0]["folds"]) == 6 and len(found["rows"][0]["Cs"]) == 2
    assert "LL023" in err, "without --nested the score is of what chose"
    assert "C (median)" in "\n".join(sweep_lines(found, "runs/x"))


def test_test_images_change_nothing(tmp_path: Path) -> None:
    """Other pixels and labels on the test side: the same sweep."""
    found = []
    for twist in (0, 1):
        images = np.stack([picture(k % 3, k, side=8) for k in range(60)])
        labels = np.arange(60) % 3
        split = np.array(["train"] * 45 + ["test"] * 15)
        if twist:
            images[45:] = 255 - images[45:]
            labels[45:] = (labels[45:] + 1) % 3
        np.savez(
            tmp_path / f"{twist}.npz",
            X_train=images[split == "train"],
            y_train=labels[split == "train"],
            X_test=images[split == "test"],
            y_test=labels[split == "test"],
        )
        settings = sweep_settings({"data": str(tmp_path / f"{twist}.npz"), **SMALL}, "test")
        made = run_sweep(settings, Execution(runs=tmp_path / "runs", use_cache=False)).document
        assert made["test"]["n"] == 15
        found.append([(row["accuracy"], row["C"], row["folds"]) for row in made["rows"]])
    assert found[0] == found[1]


def test_duplicates_stay_in_one_fold(tmp_path: Path) -> None:
    """Each picture is there twice with labels of chance: a fold with its twin in training would know it."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, size=(40, 6, 6, 1), dtype=np.uint8)
    labels = rng.permutation(np.arange(40) % 2)
    settings = sweep_settings({**SMALL, "phi": ("pixels",), "C": (100.0,), "test": 0.0, "val": 0.0}, "test")
    how = Execution(runs=tmp_path, use_cache=False)
    twice = (np.concatenate([images, images]), np.concatenate([labels, labels]))
    made = run_sweep(settings, how, arrays=twice).document
    assert made["units_kept_together"] is True
    assert made["rows"][0]["accuracy"]["mean"] < 0.75, "twins on both sides would give 1.0"
    assert all(fold["n"] % 2 == 0 for fold in made["rows"][0]["folds"])


def blobs(n: int, spread: float, seed: int = 0) -> Problem:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    Z = (rng.normal(size=(3, 8))[y] + spread * rng.normal(size=(n, 8))).astype(np.float32) * 100 + 500
    return Problem(Z, y, 3, "cross_entropy", "", True)


def test_columns_are_standardised_by_the_training_rows_of_the_fold() -> None:
    problem = blobs(90, 1.0)
    fold = make_folds(problem.y, 3)[0]
    outlier = Problem(problem.Z.copy(), problem.y, 3, "cross_entropy", "", True)
    outlier.Z[fold.test[0]] = 1e7
    clean, _ = problem.sides(fold)
    other, held = outlier.sides(fold)
    np.testing.assert_array_equal(clean, other)
    assert held[0].max() > 1e3, "a held-out row may be far out"
    np.testing.assert_allclose(clean.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(clean.std(axis=0), 1, rtol=1e-3)


@pytest.mark.parametrize("loss", ["cross_entropy", "squared", "squared_hinge"])
def test_every_cell_of_the_table_is_the_fit_it_says(loss: str) -> None:
    problem = Problem(blobs(120, 1.5).Z, np.arange(120) % 3, 3, loss, "", True)
    folds = make_folds(problem.y, 3)
    Cs = (0.001, 0.1)
    table = fold_table(problem, Cs, folds)
    for f, fold in enumerate(folds):
        Z, Z_out = problem.sides(fold)
        for c, C in enumerate(Cs):
            fit = fit_linear(Z, problem.y[fold.train], 3, loss, l2=1 / (C * len(fold.train)), tol=1e-6, gap=1e-9)
            right = ((Z_out @ fit.weights + fit.bias).argmax(axis=1) == problem.y[fold.test]).sum()
            assert abs(int(right) - int(table.right[f, c])) <= 1
    scores = out_of_fold(problem, folds, table.C)
    right = int((scores.argmax(axis=1) == problem.y).sum())
    assert abs(right - int(table.right[:, table.best].sum())) <= 1


def table_of(accuracies: list[float], C: float = 1.0, n: int = 100) -> FoldTable:
    right = np.array([[round(a * n)] for a in accuracies])
    one = np.ones(right.shape)
    return FoldTable(
        np.array([C]), one, right, np.full(len(right), n), one, one, one, one, one > 0, np.ones(len(right))
    )


def test_the_best_and_what_is_within_its_noise() -> None:
    close = Candidate("close", 5, (table_of([0.90, 0.85, 0.88, 0.91]),))
    best = Candidate("best", 9, (table_of([0.89, 0.88, 0.90, 0.90]),))
    far = Candidate("far", 2, (table_of([0.60, 0.61, 0.59, 0.63]),))
    candidates = (close, far, best)
    assert best_of(candidates) == 2
    found = {d.phi: d for d in differences(candidates, 2)}
    assert found["close"].within_noise and not found["far"].within_noise
    assert found["far"].points == pytest.approx(0.285)
    tie = (Candidate("big", 9, best.tables), Candidate("small", 3, best.tables))
    assert best_of(tie) == 1, "of equals the one with fewer features"


def test_corrected_t_test_against_scipy() -> None:
    from scipy.stats import ttest_1samp

    gaps = np.random.default_rng(0).normal(0.01, 0.02, size=10)
    assert corrected_t_test(gaps, 0.0) == pytest.approx(ttest_1samp(gaps, 0).pvalue)
    assert corrected_t_test(gaps, 0.25) > corrected_t_test(gaps, 0.0), "shared training rows widen the noise"
    assert corrected_t_test(np.zeros(5), 0.25) == 1.0
    assert corrected_t_test(np.full(5, 0.1), 0.25) == 0.0


def test_the_interval_does_not_shrink_to_nothing_with_repeats() -> None:
    rng = np.random.default_rng(3)
    y = rng.integers(0, 2, 60)
    Z = (rng.standard_normal((60, 3)) + y[:, None]).astype(np.float32)
    problem = Problem(Z, y, 2, "cross_entropy", "", True)
    tables = tuple(fold_table(problem, (0.1,), make_folds(y, 5, seed=seed)) for seed in range(20))
    once, often = Candidate("a", 3, tables[:1]), Candidate("a", 3, tables)
    assert often.ratio == pytest.approx(0.25) and often.accuracies.shape == (100,)
    width = often.interval.high - often.interval.low
    plain = 2 * 1.984 * often.sd / 10  # what 100 experiments would give
    assert width == pytest.approx(plain * np.sqrt(1 + 100 * 0.25), rel=1e-3)
    assert once.interval.low < often.mean < once.interval.high
    perfect = dataclasses.replace(tables[0], right=np.tile(tables[0].sizes[:, None], (1, 1)))
    assert np.isnan(Candidate("b", 3, (perfect,)).interval.high)  # equal folds tell no spread
    nearly = dataclasses.replace(perfect, right=perfect.right - np.eye(5, dtype=np.int64)[:, :1])
    assert Candidate("c", 3, (nearly,)).interval.high == 1.0  # never beyond what can be


def test_nested_estimate_of_noise_pays_for_the_choice() -> None:
    """Many useless φ: the best of them looks better than chance, the nested estimate does not."""
    rng = np.random.default_rng(0)
    y = np.arange(90) % 2
    problems = [
        (f"noise{k}", Problem(rng.normal(size=(90, 6)).astype(np.float32), y, 2, "cross_entropy", "", True))
        for k in range(8)
    ]
    folds = make_folds(y, 3)
    flat = [Candidate(phi, 6, (fold_table(p, (0.1,), folds),)) for phi, p in problems]
    top = flat[best_of(flat)].mean
    with SILENT.task("nested", 1) as task:
        honest = nested(problems, (0.1,), [folds], None, 3, 7, task)
    assert honest.mean < top
    assert honest.right == int((honest.scores.argmax(axis=1) == y).sum()) and honest.n == 90
    assert len(honest.chosen) == 3


def test_nested_estimate_of_repeats_holds_the_folds_of_all() -> None:
    problem = blobs(90, 1.0)
    repeats = [make_folds(problem.y, 3, seed=seed) for seed in (0, 1)]
    with SILENT.task("nested", 1) as task:
        both = nested([("blobs", problem)], (0.01, 1.0), repeats, None, 3, 7, task)
        parts = [nested([("blobs", problem)], (0.01, 1.0), [repeats[r]], None, 3, 7 + r, task) for r in (0, 1)]
    assert both.accuracies == parts[0].accuracies + parts[1].accuracies
    assert both.chosen == parts[0].chosen + parts[1].chosen
    assert (both.right, both.n) == (parts[0].right, 90) and np.array_equal(both.scores, parts[0].scores)
    assert both.ratio == pytest.approx(0.5)


def test_the_curve_of_folds_ends_in_the_cross_validation_itself() -> None:
    problem = blobs(400, 3.0)
    folds = make_folds(problem.y, 5)
    with SILENT.task("curve", 10) as task:
        curve = fold_curve(problem, 0.01, folds, 0, task)
    sizes = [point.n for point in curve.points]
    assert sizes == sorted(sizes) and sizes[-1] == 320
    right = sum(int((fit_fold(problem, fold, 0.01).argmax(axis=1) == problem.y[fold.test]).sum()) for fold in folds)
    assert curve.points[-1].accuracy.value == pytest.approx(right / 400)
    assert curve.points[-1].accuracy.value > curve.points[0].accuracy.value


def test_a_class_smaller_than_the_folds_is_named(tmp_path: Path) -> None:
    make_folder(tmp_path / "photos", per_class=6, side=8)
    for path in sorted((tmp_path / "photos" / "red").iterdir())[3:]:
        path.unlink()
    code, _, err = call(tmp_path, "sweep", "photos", "--phi", "pixels:size=2", "--no-cache", "-q")
    assert code == 1 and "LL009" in err and "red" in err and "--cv" in err


@pytest.mark.parametrize(
    ("values", "fact"),
    [
        ({"head": "perceptron"}, "no C to sweep"),
        ({"l2": 0.1}, "fixes what a sweep chooses"),
        ({"cv": 1}, "less than 2"),
        ({"phi": ("hog", "hog")}, "given twice"),
        ({"phi": (3,)}, "not a list"),
        ({"cv": "five"}, "should be a int"),
        ({"nonsense": 1}, "unknown setting"),
        ({"C": (0.0,)}, "positive"),
    ],
)
def test_settings_are_refused_by_name(values: dict, fact: str) -> None:
    with pytest.raises(InputError, match=fact):
        sweep_settings(values, "options")


def test_unknown_phi_is_refused_before_the_data_are_read(tmp_path: Path) -> None:
    settings = SweepSettings(train=TrainSettings(data=str(tmp_path)), phis=("hogg",))
    with pytest.raises(InputError, match="Did you mean 'hog'"):
        run_sweep(settings, Execution(runs=tmp_path, use_cache=False))


class StopAt(Progress):
    """Raises KeyboardInterrupt when the named task begins, as Ctrl-C would."""

    def __init__(self, name: str) -> None:
        self.name = name

    def task(self, name: str, total: float) -> object:
        if name == self.name:
            raise KeyboardInterrupt
        return SILENT.task(name, total)


def test_interruption_keeps_what_is_complete(tmp_path: Path) -> None:
    images = np.stack([picture(k % 3, k, side=8) for k in range(45)])
    settings = sweep_settings({**SMALL, "phi": ("pixels:size=2", "pixels:size=4")}, "test")
    how = Execution(runs=tmp_path, use_cache=False, progress=StopAt("CV pixels:size=4"))
    made = run_sweep(settings, how, arrays=(images, np.arange(45) % 3))
    assert made.interrupted and made.document["interrupted"]
    assert [row["phi"] for row in made.document["rows"]] == ["pixels:size=2"]
    assert toml.load(made.folder / "best.toml")["train"]["phi"] == "pixels:size=2"
    first = Execution(runs=tmp_path, use_cache=False, progress=StopAt("CV pixels:size=2"))
    with pytest.raises(KeyboardInterrupt):
        run_sweep(settings, first, arrays=(images, np.arange(45) % 3))


def test_folds_are_the_ones_asked_for() -> None:
    problem = blobs(60, 1.0)
    advanced: list[float] = []

    class Counting(Task):
        def advance(self, steps: float = 1, note: str = "") -> None:
            advanced.append(steps)

    fold_table(problem, (0.1,), make_folds(problem.y, 4), Counting())
    assert len(advanced) == 4
    assert isinstance(make_folds(problem.y, 4)[0], Fold)
