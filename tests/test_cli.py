"""The commands as a user types them, in a process of their own where start-up matters."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from lastlayer import __version__
from lastlayer.cli.app import VERBS, run
from small_photos import CLASSES, make_folder


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos and one finished run."""
    root = tmp_path_factory.mktemp("work")
    make_folder(root / "photos")
    (root / "photos" / "red" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    code, out, err = call(root, "train", "photos", "--phi", "pixels:size=8", "--name", "first", "-q")
    assert code == 0, out + err
    return root


def call(cwd: Path, *arguments: str) -> tuple[int, str, str]:
    """Run a verb in this process from another folder; returns exit code, stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    before, streams = Path.cwd(), (sys.stdout, sys.stderr)
    cache = os.environ.get("LASTLAYER_CACHE")
    os.environ["LASTLAYER_CACHE"] = str(cwd / "cache")
    os.chdir(cwd)
    sys.stdout, sys.stderr = out, err
    try:
        code = run(list(arguments))
    finally:
        sys.stdout, sys.stderr = streams
        os.chdir(before)
        if cache is None:
            del os.environ["LASTLAYER_CACHE"]
        else:
            os.environ["LASTLAYER_CACHE"] = cache
    return code, out.getvalue(), err.getvalue()


def test_train_prints_score_with_interval_and_names_the_broken_file(workplace: Path) -> None:
    code, out, err = call(workplace, "train", "photos", "--phi", "pixels:size=8")
    assert code == 0
    assert "← quote this one" in out and "majority" in out and "1-NN pixels" in out
    assert "correct/n" in out and "[" in out
    assert "report.html" in out
    assert "LL003" in err and "broken.jpg" in err
    assert "--phi" in out and "--split" in out, "the plan names the flags"


def test_json_is_one_document_on_stdout(workplace: Path) -> None:
    code, out, _ = call(workplace, "train", "photos", "--phi", "pixels:size=8", "--json", "-q")
    assert code == 0
    document = json.loads(out)
    assert document["quote"] == "test"
    assert document["splits"]["test"]["accuracy"]["n"] == 9
    assert document["schema_version"] == 1


def test_nothing_is_overwritten_without_being_asked(workplace: Path) -> None:
    before = (workplace / "runs" / "first" / "model.safetensors").read_bytes()
    code, _, err = call(workplace, "train", "photos", "--phi", "pixels:size=8", "--name", "first")
    assert code == 1 and "exists already" in err
    assert (workplace / "runs" / "first" / "model.safetensors").read_bytes() == before


def test_evaluate_own_test_split_agrees_with_training(workplace: Path) -> None:
    trained = json.loads((workplace / "runs" / "first" / "metrics.json").read_text())
    code, out, _ = call(workplace, "evaluate", "runs/first", "--json", "-q")
    assert code == 0
    assert json.loads(out)["splits"]["test"]["confusion"] == trained["splits"]["test"]["confusion"]


def test_evaluate_other_data_matches_classes_by_name(workplace: Path) -> None:
    other = workplace / "other"
    make_folder(other, per_class=3, first=500)
    (other / "blue").rename(other / "violet")
    code, out, err = call(workplace, "evaluate", "runs/first", "other")
    assert code == 0
    assert "LL004" in err and "violet" in err
    assert "6/6" in out, "green and red are recognised although the class list has shifted"


@pytest.mark.parametrize(("rule", "code"), [("accuracy>=0.5", 0), ("accuracy<0.5", 3), ("accuracy", 1)])
def test_require_is_a_gate(workplace: Path, rule: str, code: int) -> None:
    assert call(workplace, "evaluate", "runs/first", "--require", rule, "-q")[0] == code


def test_predict_in_three_formats(workplace: Path) -> None:
    images = [f"photos/{name}/000.png" for name in CLASSES]
    code, out, _ = call(workplace, "predict", "runs/first", *images)
    assert code == 0
    assert [line.split()[1] for line in out.splitlines()[1:]] == list(CLASSES)
    code, out, _ = call(workplace, "predict", "runs/first", *images, "--format", "csv", "--top-k", "3")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["label"] for row in rows] == list(CLASSES)
    assert all(abs(sum(float(row[k]) for k in ("p", "p_2", "p_3")) - 1) < 1e-4 for row in rows)
    code, out, _ = call(workplace, "predict", "runs/first", *images, "--format", "jsonl")
    assert [json.loads(line)["label"] for line in out.splitlines()] == list(CLASSES)


def test_predict_names_what_it_cannot_read_and_goes_on(workplace: Path) -> None:
    code, out, _ = call(workplace, "predict", "runs/first", "photos/red/broken.jpg", "photos/red/001.png")
    assert code == 1
    assert "LL003" in out and "red" in out.splitlines()[2]


def test_info_tells_classes_and_scores(workplace: Path) -> None:
    code, out, _ = call(workplace, "info", "runs/first")
    assert code == 0
    assert "red" in out and "pixels" in out and "test" in out
    code, out, _ = call(workplace, "info", "runs/first", "--json")
    assert json.loads(out)["classes"] == list(CLASSES)


def test_check_lists_problem_files_and_strict_fails(workplace: Path) -> None:
    code, out, err = call(workplace, "check", "photos", "--fix-list", "fix.csv")
    assert code == 0 and "broken.jpg" in err and "60 of 61" in out
    rows = list(csv.DictReader(io.StringIO((workplace / "fix.csv").read_text())))
    assert any(row["code"] == "LL003" and row["path"].endswith("broken.jpg") for row in rows)
    assert call(workplace, "check", "photos", "--strict")[0] == 4
    assert call(workplace, "check", "photos", "--strict", "--ignore", "LL003")[0] == 0
    assert call(workplace, "train", "photos", "--strict")[0] == 4


def test_config_gives_identical_weights_also_after_images_were_added(workplace: Path) -> None:
    first = workplace / "runs" / "first"
    code, _, err = call(workplace, "train", "--config", "runs/first/config.toml", "--name", "again", "-q")
    assert code == 0, err
    model = (workplace / "runs" / "again" / "model.safetensors").read_bytes()
    assert model == (first / "model.safetensors").read_bytes()
    assert (workplace / "runs" / "again" / "split.csv").read_bytes() == (first / "split.csv").read_bytes()


def test_translates_the_assignment_spelling(workplace: Path) -> None:
    code, _, err = call(workplace, "train", "data=./photos", "imgsz=32")
    assert code == 2 and "lastlayer train ./photos --size 32" in err


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("trian", "photos"), "train"),
        (("train", "photos", "--hed", "svm"), "--head"),
        (("train", "photos", "--phi", "hgo"), "hog"),
        (("train", "nowhere"), "nowhere"),
        (("train", "photos", "--C", "none"), "logspace"),
        (("predict", "runs/first", "no.jpg"), "no.jpg"),
        (("evaluate", "runs/none"), "runs/none"),
        (("explain-code", "LL999"), "LL999"),
        (("train",), "DATA"),
        (("photos",), "lastlayer train photos"),
    ],
)
def test_mistakes_get_one_clear_message(workplace: Path, arguments: tuple[str, ...], hint: str) -> None:
    code, _, err = call(workplace, *arguments)
    assert code in (1, 2)
    assert hint in err and "Traceback" not in err


def test_aliases_lead_to_their_verbs(workplace: Path) -> None:
    code, out, _ = call(workplace, "val", "runs/first", "-q")
    assert code == 0 and "balanced accuracy" in out


def test_help_lists_every_verb_without_importing_numpy() -> None:
    script = (
        "import sys; from lastlayer.cli.app import run; run(['--help']); "
        "print('numpy' in sys.modules, 'rich' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    for verb in VERBS:
        assert verb in done.stdout
    assert done.stdout.splitlines()[-1] == "False False"


def test_version_says_offline() -> None:
    done = subprocess.run([sys.executable, "-m", "lastlayer", "--version"], capture_output=True, text=True, check=True)
    assert __version__ in done.stdout and "no telemetry" in done.stdout


def test_predict_imports_neither_scikit_learn_nor_scipy_nor_matplotlib(workplace: Path) -> None:
    image = workplace / "photos" / "red" / "001.png"
    script = (
        "import sys; from lastlayer.cli.app import run; "
        f"code = run(['predict', {str(workplace / 'runs' / 'first')!r}, {str(image)!r}]); "
        "print(code, [m for m in ('sklearn', 'scipy', 'matplotlib', 'pandas', 'jinja2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


def test_every_verb_works_with_sockets_blocked(workplace: Path) -> None:
    script = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise AssertionError('a socket was opened')\n"
        "socket.socket.connect = refuse; socket.create_connection = refuse; socket.getaddrinfo = refuse\n"
        "from lastlayer.cli.app import run\n"
        "codes = [run(c.split()) for c in ('check photos', 'train photos --phi pixels:size=8', 'evaluate runs/first', "
        "'predict runs/first photos/red/001.png', 'info runs/first')]\n"
        "print(codes)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=workplace)
    assert done.stdout.splitlines()[-1] == "[0, 0, 0, 0, 0]"


def test_hostile_class_and_file_names_are_escaped(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "photos", per_class=8)
    (folder / "red").rename(folder / "<script>alert(1)<")
    evil = folder / "green" / 'x" onerror="alert(2).png'
    Image.new("RGB", (24, 24), (120, 120, 200)).save(evil)
    code, _, err = call(tmp_path, "train", "photos", "--phi", "pixels:size=8", "-q")
    assert code == 0, err
    report = (tmp_path / "runs" / "train-001" / "report.html").read_text(encoding="utf-8")
    assert "<script>alert(1)" not in report
    assert 'x" onerror="' not in report
