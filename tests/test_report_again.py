"""A report kept in its run folder and rendered again: the verb, the file, the figures, the page of a comparison."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from lastlayer._arrays import InputError
from lastlayer.artifacts import FORMAT_VERSION, write_artifact
from lastlayer.cli.app import run as cli
from lastlayer.pipeline.report_again import open_report
from lastlayer.report import figure_files, pack_report, render_report, unpack_report
from lastlayer.report.thumbnails import pictures
from report_fixtures import HOSTILE, hostile_data, report_data


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs on photos of three classes that are hard to tell apart; the photos are gone afterwards."""
    root = tmp_path_factory.mktemp("again")
    rng = np.random.default_rng(0)
    for k, name in enumerate(("a<b>", "b", "c")):
        (root / "photos" / name).mkdir(parents=True)
        for i in range(110):
            pixels = rng.integers(0, 200, (12, 12, 3)) + 12 * np.array([k == 0, k == 1, k == 2])
            Image.fromarray(np.minimum(pixels, 255).astype(np.uint8)).save(root / "photos" / name / f"{i}.png")
    patch = pytest.MonkeyPatch()
    patch.setenv("LASTLAYER_CACHE", str(root / "cache"))
    common = [
        "train",
        str(root / "photos"),
        "--val",
        "0.25",
        "--test",
        "0.25",
        "--runs",
        str(root / "runs"),
        "-q",
        "--json",
    ]
    assert cli([*common, "--phi", "pixels:size=8", "--C", "0.001,0.01", "--learning-curve", "--name", "one"]) == 0
    assert cli([*common, "--phi", "colour", "--C", "0.01", "--name", "two"]) == 0
    patch.undo()
    shutil.rmtree(root / "photos")
    shutil.rmtree(root / "cache")
    return root / "runs"


def call(capsys, *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = cli([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def test_without_the_data_the_same_page_is_rendered_again(runs, tmp_path, capsys):
    page = tmp_path / "again.html"
    code, out, err = call(capsys, "report", runs / "one", "--out", page)
    assert (code, err) == (0, "") and "again.html" in out
    assert page.read_bytes() == (runs / "one" / "report.html").read_bytes()
    assert "<img" in page.read_text() and "oubling" in page.read_text()


def test_size_is_kept_below_what_is_asked(runs, tmp_path, capsys):
    page = tmp_path / "small.html"
    code, out, _ = call(capsys, "report", runs / "one", "--max-mb", "0.13", "--out", page, "--json")
    assert code == 0 and json.loads(out)["files"][0]["bytes"] == page.stat().st_size <= 130_000
    assert "pictures were left out" in page.read_text()


def test_a_run_that_kept_no_pictures_says_so(runs, tmp_path, capsys):
    shutil.copytree(runs / "one", tmp_path / "old")
    (tmp_path / "old" / "report.safetensors").unlink()
    code, _, err = call(capsys, "report", tmp_path / "old")
    text = (tmp_path / "old" / "report.html").read_text()
    assert code == 0 and "kept no pictures" in err
    assert "the run folder keeps none" in text and "<img" not in text
    new = (runs / "one" / "report.html").read_text()
    for part in (r"<h1>.*?</h1>", r'<table class="scores">.*?</table>', r'<table class="pathtable">.*?</table>'):
        ours, theirs = (re.search(part, html, re.DOTALL)[0] for html in (text, new))
        assert re.sub(r"<td class=\"role\">.*?</td>", "", ours) == re.sub(r"<td class=\"role\">.*?</td>", "", theirs)


def test_markdown_of_a_run(runs, tmp_path, capsys):
    target = tmp_path / "summary.md"
    assert call(capsys, "report", runs / "one", "--markdown", target)[0] == 0
    text = target.read_text()
    assert text.startswith("### one\n") and "a&lt;b&gt;" in text and "<b>" not in text
    assert "Most confused:" in text and ("buy" in text or "Too few" in text)
    assert not (tmp_path / "report.html").exists()


def test_figures_are_files_that_other_programs_read(runs, tmp_path, capsys):
    assert call(capsys, "report", runs / "one", "--out", tmp_path / "r.html", "--figures", tmp_path / "figures")[0] == 0
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {"confusion.png", "learning-curve.svg", "path-accuracy.svg", "risk-coverage.svg"} <= names
    for name in names - {"confusion.png"}:
        tree = ElementTree.parse(tmp_path / "figures" / name).getroot()
        assert tree.tag == "{http://www.w3.org/2000/svg}svg" and tree.find("{*}style") is not None
    with Image.open(tmp_path / "figures" / "confusion.png") as picture:
        assert picture.width >= 480 and picture.mode == "RGB"


def test_what_is_no_run_is_refused(tmp_path, capsys):
    code, _, err = call(capsys, "report", tmp_path)
    assert code == 1 and "metrics.json" in err
    assert call(capsys, "report", tmp_path, "--markdown", tmp_path / "x.md")[0] == 1
    (tmp_path / "metrics.json").write_text("{}")
    assert "cannot be read as a run" in call(capsys, "report", tmp_path)[2]
    (tmp_path / "report.safetensors").write_bytes(b"\x00" * 20)
    assert "cannot be read" in call(capsys, "report", tmp_path)[2]


# ---- the file -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make", [report_data, hostile_data, lambda: report_data(class_names=[f"c{k}" for k in range(80)])]
)
def test_what_was_kept_renders_to_the_same_bytes(tmp_path, make):
    data = make()
    encoded = pictures(data)
    pack_report(tmp_path / "r.safetensors", data, encoded)
    again, kept = unpack_report(tmp_path / "r.safetensors")
    assert [(key, pixmap) for key, pixmap in kept] == encoded
    assert render_report(again, encoded=kept) == render_report(data)


def test_of_very_many_classes_as_well(tmp_path):
    data = report_data(class_names=[f"class {k}" for k in range(1000)], N=3000, side=4)
    pack_report(tmp_path / "r.safetensors", data)
    again, kept = unpack_report(tmp_path / "r.safetensors")
    assert len(render_report(again, encoded=kept).encode()) < 5_000_000


def altered(path: Path, change) -> Path:
    pack_report(path, report_data())
    from lastlayer.artifacts import read_artifact

    _, tensors = read_artifact(path)
    document = json.loads(tensors["document"].tobytes())
    change(document)
    tensors = {**tensors, "document": np.frombuffer(json.dumps(document).encode(), np.uint8)}
    write_artifact(path, {"format_version": FORMAT_VERSION, "kind": "report"}, tensors, overwrite=True)
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(version=99),
        lambda d: d.pop("mistakes"),
        lambda d: d["pictures"][0].__setitem__(6, 10**9),
        lambda d: d["pictures"][0].__setitem__(3, "svg+xml"),
        lambda d: d["mistakes"][0].pop(),
        lambda d: d.update(splits=[1]),
    ],
)
def test_a_damaged_or_hostile_file_is_refused(tmp_path, change):
    with pytest.raises(InputError):
        unpack_report(altered(tmp_path / "r.safetensors", change))


def test_file_of_another_kind_is_refused(tmp_path):
    tensors = {"document": np.zeros(3, np.uint8)}
    write_artifact(tmp_path / "r.safetensors", {"format_version": FORMAT_VERSION, "kind": "held_out"}, tensors)
    with pytest.raises(InputError, match="no report"):
        unpack_report(tmp_path / "r.safetensors")


def test_figures_of_hostile_names_are_still_xml():
    for name, content in figure_files(hostile_data()).items():
        if name.endswith(".svg"):
            ElementTree.fromstring(content)
            assert b"<script" not in content


# ---- comparison ---------------------------------------------------------------------------------


def test_a_comparison_page_shows_where_the_runs_differ(runs, tmp_path, capsys):
    page = tmp_path / "compare.html"
    code, out, _ = call(capsys, "compare", runs / "one", runs / "two", "--html", page)
    text = page.read_text()
    assert code == 0 and "McNemar" in text
    only = re.search(r"right where \w+ wrong: (\d+), the reverse: (\d+)", out)
    shown = [int(n) for n in re.findall(r'<td class="r tell">(\d+)</td>', text)]
    assert shown == [int(only[1]), int(only[2])] and sum(shown) > 0
    assert text.count("<figcaption>") == sum(min(24, n) for n in shown)
    assert "<img" in text and "a<b>" not in text and "a&lt;b&gt;" in text
    assert "http://" not in text and "https://" not in text


def test_names_in_a_comparison_are_text():
    from lastlayer.evaluation import Proportion
    from lastlayer.report import ClassPair, ComparedPair, ComparedRun, ComparisonData, Differs, render_comparison

    bad = "".join(HOSTILE)
    differs = (Differs(bad, bad, bad, bad, None),)
    pair = ComparedPair(bad, bad, bad, bad, bad, bad, bad, bad, 1, 1, 1, 1, (differs, differs),
                        (ClassPair(bad, Proportion(1, 2), Proportion(2, 2)),))  # fmt: skip
    run = ComparedRun(bad, Proportion(1, 2), bad, 3)
    for pairs in ((pair,), (pair, pair, pair)):
        text = render_comparison(ComparisonData(bad, bad, 2, bad, bad, bad, (run, run), pairs))
        assert "<script>alert" not in text and "<img src=x" not in text and text.count("<script>") == 1
        text.encode("utf-8")


def test_open_report_takes_a_file_of_the_run(runs):
    assert open_report(runs / "one" / "model.safetensors").data.title == "one"
