"""compare, the gates of evaluate, Markdown, and decisions made on validation rows."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from lastlayer._arrays import InputError
from lastlayer.cli.app import run as cli
from lastlayer.evaluation.predictions import COLUMNS
from lastlayer.model import Model, softmax
from lastlayer.pipeline.comparing import run_comparison
from lastlayer.pipeline.deciding import DecisionSettings, decisions
from lastlayer.pipeline.held_out import FILE, read_held_out, write_held_out
from lastlayer.pipeline.markdown import comparison_markdown, escaped, evaluation_markdown
from lastlayer.pipeline.requirements import check_requirements, parse_requirement
from lastlayer.pipeline.scoring import SideScores
from small_photos import make_folder

NAMES = tuple(f"{i:03d}.png" for i in range(200))
LABELS = [("cat", "dog", "owl")[i % 3] for i in range(200)]


def make_run(folder: Path, wrong: range, *, names=NAMES, labels=LABELS, digests=True, split="test", look=1) -> Path:
    """A scored run whose answers are wrong on the rows `wrong`."""
    folder.mkdir(parents=True)
    rows = []
    for i, (name, label) in enumerate(zip(names, labels)):
        answer = ("dog" if label != "dog" else "cat") if i in wrong else label
        p = 0.2 if i in wrong else 0.8
        rows.append((name, split, label, answer, "0.8", str(p), str(-np.log(p)), "", "1", ""))
    write_table(folder / "predictions.csv", COLUMNS, rows)
    (folder / "metrics.json").write_text(json.dumps({"quote": split, "look": look}))
    if digests:
        write_table(
            folder / "split.csv",
            ("path", "label", "split", "sha256"),
            [(name, label, split, f"{i:064x}") for i, (name, label) in enumerate(zip(names, labels))],
        )
    return folder


def write_table(path: Path, header, rows) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = cli([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


# ---- compare ------------------------------------------------------------------------------------


def test_two_runs_on_the_same_images(tmp_path, capsys):
    one, two = make_run(tmp_path / "one", range(0, 40)), make_run(tmp_path / "two", range(30, 50), look=2)
    code, out, _ = call(capsys, "compare", one, two)
    assert code == 0
    assert "same test split: 200 images, content (SHA-256) and label of every image" in out
    lines = out.splitlines()
    assert lines[3].split()[:2] == ["two", "180/200"] and "test look #2" in lines[3], "the best first"
    assert "+10.0 points [" in out
    assert "two right where one wrong: 30, the reverse: 10   exact McNemar p = 0.0022" in out
    assert "→ two is better on this data (90.0% vs 80.0%)" in out


def test_a_difference_within_noise_is_called_that(tmp_path, capsys):
    one, two = make_run(tmp_path / "one", range(0, 22)), make_run(tmp_path / "two", range(10, 30))
    _, out, _ = call(capsys, "compare", one, two)
    assert "within noise" in out and "claim nothing" in out and "is better" not in out


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "macro_f1", "log_loss"])
def test_every_metric_as_json(tmp_path, capsys, metric):
    one, two = make_run(tmp_path / "one", range(0, 60)), make_run(tmp_path / "two", range(50, 70))
    code, out, _ = call(capsys, "compare", one, two, "--metric", metric, "--json")
    document = json.loads(out)
    assert code == 0 and document["n"] == 200
    assert [entry["run"] for entry in document["runs"]] == ["two", "one"]
    (pair,) = document["pairs"]
    assert pair["better"] == "two" and not pair["within_noise"]
    low, high = pair["difference"]["low"], pair["difference"]["high"]
    assert low < pair["difference"]["value"] < high
    assert (low > 0) != (metric == "log_loss")


def test_several_runs_are_corrected_for_their_number(tmp_path):
    wrong = {"a": range(0, 40), "b": range(25, 45), "c": range(20, 45)}
    runs = [make_run(tmp_path / name, rows) for name, rows in wrong.items()]
    every = run_comparison(runs)
    assert len(every.pairs) == 3
    assert all(pair.p_holm >= pair.result.p_value for pair in every.pairs)
    assert every.pair("a", "b").p_holm == pytest.approx(3 * every.pair("a", "b").result.p_value)
    against = run_comparison(runs, reference=str(runs[0]))
    assert [(pair.first, pair.second) for pair in against.pairs] == [("a", "b"), ("a", "c")]
    assert against.pair("b", "c") is None
    assert against.pairs[0].p_holm == pytest.approx(2 * against.pairs[0].result.p_value)
    with pytest.raises(InputError, match="none of the runs"):
        run_comparison(runs, reference="d")


def test_folders_of_the_same_name_are_told_apart(tmp_path):
    one, two = make_run(tmp_path / "x" / "run", range(0, 40)), make_run(tmp_path / "y" / "run", range(0))
    assert [run.name for run, _, _ in run_comparison([one, two]).runs] == ["run (2)", "run"]


def test_without_digests_names_are_what_is_known(tmp_path):
    one, two = make_run(tmp_path / "one", range(9), digests=False), make_run(tmp_path / "two", range(9))
    assert run_comparison([one, two]).same_by == "name and label of every image"


def test_different_splits_are_refused_and_the_difference_is_named(tmp_path, capsys):
    one = make_run(tmp_path / "one", range(9))
    fewer = make_run(tmp_path / "fewer", range(9), names=NAMES[:-2], labels=LABELS[:-2])
    code, out, err = call(capsys, "compare", one, fewer)
    assert (code, out) == (1, "")
    assert "2 of 200 only in one (198.png, 199.png)" in err and "→" in err
    relabelled = make_run(tmp_path / "relabelled", range(9), labels=["owl", *LABELS[1:]])
    with pytest.raises(InputError, match="1 with another label"):
        run_comparison([one, relabelled])
    swapped = make_run(tmp_path / "swapped", range(9))
    text = (swapped / "split.csv").read_text().replace(f"{5:064x}", "f" * 64)
    (swapped / "split.csv").write_text(text)
    with pytest.raises(InputError, match=r"1 of the same name but with another content \(005.png\)"):
        run_comparison([one, swapped])


def test_what_is_no_scored_run_is_refused(tmp_path, capsys):
    one = make_run(tmp_path / "one", range(9))
    (tmp_path / "empty").mkdir()
    for other, hint in ((tmp_path / "empty", "metrics.json"), (tmp_path / "none", "metrics.json")):
        code, _, err = call(capsys, "compare", one, other)
        assert code == 1 and hint in err
    assert "two run folders" in call(capsys, "compare", one)[2]
    assert "give --split" in call(capsys, "compare", one, one, "--split", "val")[2]
    damaged = make_run(tmp_path / "damaged", range(9))
    text = (damaged / "predictions.csv").read_text().replace(str(-np.log(0.8)), "much", 1)
    (damaged / "predictions.csv").write_text(text)
    assert "damaged" in call(capsys, "compare", one, damaged)[2]


def test_markdown_of_a_comparison_escapes_names(tmp_path, capsys):
    one, two = make_run(tmp_path / "a|b<i>", range(0, 40)), make_run(tmp_path / "two", range(30, 50))
    target = tmp_path / "summary.md"
    assert call(capsys, "compare", one, two, "--markdown", target)[0] == 0
    text = target.read_text()
    assert "a\\|b&lt;i&gt;" in text and "<i>" not in text
    assert "| two | 180/200 | 90.0% [" in text and "**two is better" in text
    assert text == comparison_markdown(run_comparison([one, two]))
    assert escaped("@me [x](y)") == "&#64;me \\[x\\]\\(y\\)"


# ---- requirements -------------------------------------------------------------------------------

METRICS = {
    "quote": "test",
    "splits": {
        "test": {
            "accuracy": {"k": 90, "n": 100, "value": 0.9, "low": 0.826, "high": 0.945},
            "balanced_accuracy": 0.88,
            "macro_f1": 0.87,
            "log_loss": 0.3,
            "top5": None,
            "intervals": {
                "balanced_accuracy": {"value": 0.88, "low": 0.8, "high": 0.93},
                "macro_f1": {"value": 0.87, "low": 0.79, "high": 0.92},
                "log_loss": {"value": 0.3, "low": 0.2, "high": 0.4},
                "ece": {"value": 0.04, "debiased": 0.02, "low": 0.0, "high": 0.06},
            },
            "per_class": [
                {
                    "name": "a]b >= 1",
                    "f1": 0.7,
                    "f1_low": 0.5,
                    "f1_high": 0.8,
                    "recall": {"value": 0.75, "low": 0.6, "high": 0.9},
                    "precision": {"value": None, "low": None, "high": None},
                },
            ],
        }
    },
}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("accuracy>=0.9", True),
        ("accuracy > 90%", False),
        ("accuracy.low>=0.9", False),
        ("accuracy.high<=95%", True),
        ("balanced_accuracy.low >= .8", True),
        ("macro_f1<0.87", False),
        ("log_loss.high<=4e-1", True),
        ("ece<=0.05", True),
        ("ece.high<=0.05", False),
        ("recall[a]b >= 1]>=0.75", True),
        ("recall[a]b >= 1].low>=0.75", False),
        ("f1[a]b >= 1].high>0.75", True),
        ("precision[a]b >= 1]>=0", False),
        ("top5>=0", False),
    ],
)
def test_conditions_are_held_against_the_quoted_split(text, holds):
    (verdict,) = check_requirements([parse_requirement(text)], METRICS)
    assert verdict.holds is holds
    assert verdict.to_dict()["met"] is holds
    assert verdict.line().startswith("met" if holds else "NOT MET")


@pytest.mark.parametrize(
    "text",
    ["accuracy", "accuracy==1", "speed>=1", "recall>=0.5", "accuracy[cat]>=1", "accuracy.mid>=1", "accuracy>=e",
     "accuracy>=1;import os", "__import__('os')>=1", "accuracy>=0.9 and 1", ""],
)  # fmt: skip
def test_what_is_no_condition_is_refused_with_the_grammar(text):
    with pytest.raises(InputError, match="require") as caught:
        parse_requirement(text)
    assert "SCORE" in caught.value.mend


def test_an_unknown_class_is_named_with_those_there_are():
    with pytest.raises(InputError, match="no class 'cow'") as caught:
        check_requirements([parse_requirement("recall[cow]>=0.5")], METRICS)
    assert "a]b" in caught.value.mend


# ---- decisions on validation rows ---------------------------------------------------------------


def side(N: int, seed: int) -> SideScores:
    """Scores twice as sure as they should be."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 1.5, (N, 4))
    labels = np.minimum((softmax(z).cumsum(axis=1) < rng.random((N, 1))).sum(axis=1), 3)
    z = (2 * z).astype(np.float32)
    return SideScores("test", np.arange(N), labels, z, softmax(z), True)


class Fixed:
    """What `read_held_out` needs of a model."""

    class_names = ("a", "b", "c", "d")

    def probabilities(self, z):
        return softmax(z)


def test_held_out_scores_are_kept_and_read_again(tmp_path):
    val = side(400, 1)
    assert write_held_out(tmp_path / FILE, val.scores, val.labels, Fixed.class_names)
    found = read_held_out(tmp_path, Fixed())
    assert found is not None and np.array_equal(found.scores, val.scores)
    assert found.p_label == pytest.approx(val.probabilities[np.arange(400), val.labels])
    assert np.array_equal(found.correct, val.correct)
    other = Fixed()
    other.class_names = ("a", "b", "c", "e")
    with pytest.raises(InputError, match="not of this model"):
        read_held_out(tmp_path, other)
    assert not write_held_out(tmp_path / "none", val.scores[:0], val.labels[:0], Fixed.class_names)
    assert read_held_out(tmp_path / "nowhere", Fixed()) is None


def test_decisions_do_on_new_rows_what_they_promise(tmp_path):
    val, test = side(1500, 1), side(3000, 2)
    write_held_out(tmp_path / FILE, val.scores, val.labels, Fixed.class_names)
    settings = DecisionSettings(accuracy=0.8, coverage=0.9, rule="aps")
    document = decisions(test, read_held_out(tmp_path, Fixed()), settings)
    json.dumps(document, allow_nan=False)
    calibration = document["calibration"]
    assert calibration["temperature"]["temperature"] == pytest.approx(2.0, rel=0.15)
    assert calibration["before"]["ece"]["low"] > 0.05
    assert calibration["temperature"]["ece"]["debiased"] < 0.02
    assert calibration["vector"]["log_loss"]["value"] < calibration["before"]["log_loss"]["value"]
    abstention = document["abstention"]
    assert abstention["right"]["value"] >= 0.8 and 0 < abstention["answered"]["k"] < 3000
    low, high = document["prediction_sets"]["coverage_range"]
    covered = document["prediction_sets"]["covered"]
    assert low < 0.9 < high and covered["low"] < high and covered["high"] > low
    assert document["prediction_sets"]["rule"]["rule"] == "aps"


def test_without_validation_rows_nothing_is_decided():
    document = decisions(side(50, 0), None, DecisionSettings())
    assert document["fitted_on"] is document["abstention"] is document["prediction_sets"] is None
    assert document["risk_coverage"]["n"] == 50


# ---- evaluate, from a folder of photos to its gates -----------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("gates")
    make_folder(root / "photos")
    patch = pytest.MonkeyPatch()
    patch.setenv("LASTLAYER_CACHE", str(root / "cache"))
    arguments = ["train", str(root / "photos"), "--phi", "pixels:size=8", "--C", "1", "--val", "0.3", "--test", "0.3"]
    assert cli([*arguments, "--runs", str(root / "runs"), "--name", "first", "-q", "--json"]) == 0
    patch.undo()
    return root


def evaluate(trained: Path, capsys, *more: object) -> tuple[int, str, str]:
    capsys.readouterr()
    return call(capsys, "evaluate", trained / "runs" / "first", "--runs", trained / "runs", "-q", *more)


def test_every_gate_has_its_line_and_one_that_fails_decides_the_exit_code(trained, capsys):
    target = trained / "summary.md"
    code, out, err = evaluate(
        trained, capsys, "--require", "accuracy>=0.5", "--require", "recall[red].low>=0.999", "--markdown", target
    )
    assert code == 3
    assert "met      accuracy>=0.5   found 1" in out
    assert "NOT MET  recall[red].low>=0.999" in err
    assert "✅" in target.read_text() and "recall\\[red\\].low&gt;=0.999" in target.read_text()
    assert "test look #1" in out and "balanced accuracy 100.0% [" in out and "F1 [95%]" in out
    assert "abstaining" in out and "sets " in out and "18 val rows" in out
    assert evaluate(trained, capsys, "--require", "accuracy>=0.5")[0] == 0
    assert evaluate(trained, capsys, "--require", "accuracy>=half")[0] == 1


def test_json_holds_decisions_groups_and_gates_and_markdown_is_made_of_it(trained, capsys):
    (trained / "runs" / "first" / "held_out.safetensors").unlink()  # as in a run of an earlier version
    code, out, err = evaluate(
        trained, capsys, "--json", "--require", "accuracy>2", "--by", r"(\d)\.png", "--coverage", "0.8"
    )
    document = json.loads(out)
    assert code == 3 and "NOT MET" in err
    assert document["requirements"] == [{"requirement": "accuracy>2", "found": 1.0, "met": False}]
    assert document["decisions"]["fitted_on"] == {"split": "val", "n": 18, "file": "predictions.csv"}
    assert document["decisions"]["calibration"] is None, "the column of labels' probabilities does not suffice"
    assert document["decisions"]["prediction_sets"]["rule"]["coverage"] == 0.8
    assert sum(row["n"] for row in document["groups"]["rows"]) == 18
    assert "baseline" in evaluation_markdown(document)


def test_with_kept_scores_calibration_is_shown(trained, capsys):
    run = trained / "runs" / "first"
    model = Model.load(run / "model.safetensors")
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    scores = (np.eye(3)[labels] + rng.normal(0, 0.7, (60, 3))).astype(np.float32)
    write_held_out(run / FILE, scores, labels, model.class_names)
    try:
        code, out, _ = evaluate(trained, capsys)
    finally:
        (run / FILE).unlink()
    assert code == 0 and "after temperature" in out and "60 val rows" in out


def test_rows_that_were_trained_on_decide_nothing(trained, capsys):
    code, out, _ = evaluate(trained, capsys, "--split", "val", "--json")
    assert code == 0 and json.loads(out)["decisions"]["fitted_on"] is None


def test_evaluations_of_the_same_images_can_be_compared(trained, capsys):
    runs = [trained / "runs" / name for name in ("first", "one")]
    assert evaluate(trained, capsys, "--name", "one", "--json")[0] == 0
    code, out, _ = call(capsys, "compare", *runs)
    assert code == 0 and "content (SHA-256)" in out and "within noise" in out
    assert evaluate(trained, capsys, "--name", "other", "--split", "val", "--json")[0] == 0
    code, _, err = call(capsys, "compare", runs[0], trained / "runs" / "other")
    assert code == 1 and "not scored on the same images" in err
