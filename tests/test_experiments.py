"""The experiments run, save their figures, and still show what they claim to show."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from lastlayer.linear import single_blas_thread

ROOT = Path(__file__).parent.parent
EXPERIMENTS = ROOT / "experiments"


def run(module: ModuleType, out: Path, capsys: pytest.CaptureFixture[str], *figures: str) -> str:
    """The main program: its text, after its figures were looked for."""
    assert module.main(["--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == sorted(f"{name}.png" for name in figures)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in out.iterdir())
    return capsys.readouterr().out


def test_every_experiment_is_tested_here() -> None:
    names = {path.stem for path in EXPERIMENTS.glob("*.py")} - {"show"}
    text = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_experiments*.py"))
    assert names == set(re.findall(r'(?:load|import_module)\("(\w+)"\)', text)) | {"lecun_heads"}


def test_only_the_squared_loss_is_moved_by_points_that_are_right(load, tmp_path, capsys, monkeypatch) -> None:
    experiment = load("why_not_squared")
    rows = experiment.measure((0.0, 5.0, 20.0))
    monkeypatch.setattr(experiment, "measure", lambda: rows)
    assert "turned (deg)" in run(experiment, tmp_path, capsys, "why_not_squared")
    for row in rows:
        if row.loss != "squared":
            assert abs(row.moved) < 1e-4 and abs(row.turned) < 1e-2, row
    near, _, far = (row for row in rows if row.loss == "squared")
    assert far.turned > 40 and far.wrong > 2 * near.wrong


def test_only_the_squared_loss_pushes_what_is_right_by_three(load, tmp_path, capsys) -> None:
    experiment = load("losses")
    text = run(experiment, tmp_path, capsys, "losses")
    slopes = {row[0]: row[-1] for row in experiment.measure()}
    assert slopes["squared"] == pytest.approx(2.0)
    assert slopes["cross_entropy"] == pytest.approx(-1 / (1 + np.exp(3)), rel=1e-3)
    assert all(slopes[name] == 0 for name in ("zero_one", "hinge", "squared_hinge", "perceptron"))
    assert "slope at 3" in text


def test_learning_rates_diverge_above_two_over_l(load, tmp_path, capsys, monkeypatch) -> None:
    experiment = load("learning_rates")
    measured = experiment.constant_rates()
    monkeypatch.setattr(experiment, "constant_rates", lambda: measured)
    text = run(experiment, tmp_path, capsys, "learning_rates", "learning_rate_search", "learning_rate_range")
    assert re.search(r"Learning rate 0\.\d+ is above 2/L = 0\.\d+", text)
    assert "chosen: ranked 1 of" in text and "suggested" in text
    rows, _, _ = measured
    gaps = [row.gap for row in rows[:-1]]
    assert gaps == sorted(gaps, reverse=True)
    assert [row.reason for row in rows][-1] == "diverged" and not any(row.note for row in rows[:-1])


def test_falling_schedules_end_below_the_constant_one(load, tmp_path, capsys, monkeypatch) -> None:
    experiment = load("schedules")
    monkeypatch.setattr(experiment, "EPOCHS", 6)
    text = run(experiment, tmp_path, capsys, "schedules")
    gaps = {line[:20].strip(): float(line.split()[-1]) for line in text.splitlines()[2:11]}
    assert len(gaps) == 9
    assert all(gaps[name] < 0.5 * gaps["constant"] for name in gaps if name != "constant"), gaps


def test_minibatches_begin_fast_and_need_a_falling_rate(load, tmp_path, capsys, monkeypatch) -> None:
    experiment = load("batch_or_stochastic")
    monkeypatch.setattr(experiment, "EPOCHS", 12)
    monkeypatch.setattr(experiment, "SIZES", (experiment.TRAIN, 16))
    monkeypatch.setattr(experiment, "RATES", (0.3, 3.0, 30.0))
    rows, solutions, best = experiment.measure(experiment.SIZES)
    whole, few, falling = rows
    assert few.after_1 < 0.5 * whole.after_1
    assert falling.after_all < 0.3 * few.after_all
    assert all(solution.value >= best * (1 - 1e-9) for solution in solutions.values())
    monkeypatch.setattr(experiment, "measure", lambda: (rows, solutions, best))
    assert "batches of 16, cosine" in run(experiment, tmp_path, capsys, "batch_or_stochastic")


def test_no_line_separates_xor_and_features_do(load, tmp_path, capsys) -> None:
    experiment = load("xor")
    run(experiment, tmp_path, capsys, "xor")
    rows = {(row.gate, row.features): row for row in experiment.measure()}
    plain = rows["XOR", "x1, x2"]
    assert plain.plane == "does not exist" and plain.logistic == "0/4, every probability ½"
    assert plain.perceptron.startswith("not separated")
    for key, row in rows.items():
        if key != ("XOR", "x1, x2"):
            assert row.plane == "exists" and row.logistic == "4/4" and row.perceptron.startswith("Separated"), row


def test_linear_and_logistic_regression_agree_with_the_peers(load, tmp_path, capsys) -> None:
    experiment = load("linear_and_logistic_regression")
    text = run(experiment, tmp_path, capsys, "linear_and_logistic_regression")
    assert "numpy.linalg.lstsq" in text
    rows = experiment.measure()
    assert [row.problem for row in rows] == ["linear regression", "ridge regression", "logistic regression"]
    assert all(row.largest_difference < 1e-7 for row in rows)


def test_second_derivatives_need_fewer_passes_and_values_alone_many_more(load, tmp_path, capsys, monkeypatch) -> None:
    pytest.importorskip("cma", reason="CMA-ES is an option; its row says so where it is missing")
    experiment = load("optimisers")
    for name, value in (("STEPS", 60), ("EPOCHS", 5), ("SPSA_STEPS", 50), ("GENERATIONS", 30), ("DIFFERENCES", 20)):
        monkeypatch.setattr(experiment, name, value)
    rows, solutions, best = experiment.measure()
    passes = {row.method: row.passes for row in rows}
    assert len(solutions) == len(rows) == 15
    assert all(solution.value >= best * (1 - 1e-12) for solution in solutions.values())
    assert all(passes[row.method][2] is not None for row in rows if row.order == "second")
    assert passes["L-BFGS, preconditioned"][2] < passes["L-BFGS"][2] / 2
    assert passes["momentum 0.9"][0] < 60 and passes["gradient descent, 1/L"][0] is None
    assert passes["L-BFGS on central differences"][0] > 20 * passes["L-BFGS"][0]
    monkeypatch.setattr(experiment, "measure", lambda: (rows, solutions, best))
    assert "never" in run(experiment, tmp_path, capsys, "optimisers")


def test_the_guide_runs(tmp_path, monkeypatch) -> None:
    """Every block of the guide, one after another in one namespace; its assertions are part of its text."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "learning.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) >= 5
    namespace: dict[str, object] = {}
    with single_blas_thread():  # products this small gain nothing from threads
        for block in blocks:
            exec(compile(block, "docs/learning.md", "exec"), namespace)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_planted_faults_are_found(load, tmp_path, capsys, monkeypatch) -> None:
    experiment = load("planted_truth")
    monkeypatch.setattr(experiment, "COPIES", 10)
    text = run(experiment, tmp_path, capsys, "planted_truth")
    assert "digits" in text


def test_patch_features_say_what_they_chose_and_scored(load, tmp_path, capsys) -> None:
    rng = np.random.default_rng(0)
    for side, count in (("train", 40), ("test", 10)):
        for k in range(2):
            folder = tmp_path / "data" / side / f"class{k}"
            folder.mkdir(parents=True)
            for i in range(count):
                stripes = np.zeros((14, 14), np.uint8)
                (stripes if k else stripes.T)[rng.integers(3) :: 3] = 200
                noisy = np.clip(stripes + rng.integers(0, 40, (14, 14)), 0, 255).astype(np.uint8)
                Image.fromarray(noisy).save(folder / f"{i}.png")
    experiment = load("patch_features")
    out = tmp_path / "found.json"
    experiment.main(
        [str(tmp_path / "data"), "--phi", "patches:filters=8", "--C", "0.01", "0.1", "--test", "--out", str(out)]
    )
    found = json.loads(out.read_text("utf-8"))
    assert found["features"] == 8 * 2 * 9 and found["C"] in (0.01, 0.1)
    assert found["validation"].startswith("8/8 =") and found["test"].startswith("20/20 =")
    assert "patches: 8 filters" in capsys.readouterr().err


def test_neighbours_choose_k_on_training_rows_and_score_once(load, tmp_path, capsys) -> None:
    rng = np.random.default_rng(0)
    for name, shape in (("mnist", (28, 28)), ("cifar", (32, 32, 3))):
        classes = rng.integers(0, 256, (10, *shape))
        for side, n in (("train", 300), ("test", 50)):
            y = np.arange(n) % 10
            X = np.clip(classes[y] + rng.normal(0, 40, (n, *shape)), 0, 255).astype(np.uint8)
            np.save(tmp_path / f"{name}_{side}.npy", X)
            np.save(tmp_path / f"{name}_{side}_y.npy", y)
    assert load("knn_mnist").main(["--arrays", str(tmp_path), "--json", str(tmp_path / "rows.json")]) == 0
    text = capsys.readouterr().out
    assert "0/50 = 0.0" in text and "50/50 = 100.0" in text and "3.09% (Wilder)" in text
