from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import lastlayer.cli.app as app
from lastlayer._codes import CODES, Problem
from lastlayer.data.dataset import FileImages
from lastlayer.data.listing import Listing
from lastlayer.data.near_duplicates import find_near_duplicates
from lastlayer.data.near_groups import merge_groups
from lastlayer.data.overrides import override_labels
from lastlayer.data.sources import open_dataset
from lastlayer.data.splits import make_split
from lastlayer.evaluation.intervals import Proportion
from lastlayer.pipeline.checking import SEVERITY, by_severity, run_check, write_fix_list
from lastlayer.pipeline.observer import SilentObserver
from lastlayer.pipeline.settings import Execution, TrainSettings
from lastlayer.pipeline.suspects import (
    Suspects,
    cell_label,
    cell_path,
    cross_validated_probabilities,
    suspects,
    write_suspects,
)
from lastlayer.selection.cross_validation import cross_validate
from planted_images import CHANGES, as_picture, patterns, strokes

NO_CACHE = Execution(use_cache=False)
CLASSES = ("circle", "line", "star")


def save(path: Path, image: np.ndarray, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    as_picture(image).save(path, **options)


def folder(root: Path, n: int = 60, sides: bool = False) -> Path:
    pixels, labels = strokes(n, classes=3, seed=4)
    for i, (image, label) in enumerate(zip(pixels, labels.tolist())):
        side = ("test" if i % 3 == 0 else "train") if sides else ""
        save(root / side / CLASSES[label] / f"{i:03d}.png", image)
    return root


class Told(SilentObserver):  # what the observer is told, in order
    def __init__(self) -> None:
        self.codes: list[str] = []

    def problem(self, problem: Problem) -> None:
        self.codes.append(problem.code)


def check(path: Path, **asked: object):  # type: ignore[no-untyped-def]
    return run_check(TrainSettings(data=str(path)), NO_CACHE, **asked)  # type: ignore[arg-type]


def test_a_clean_folder_has_no_problem(tmp_path: Path) -> None:
    findings = check(folder(tmp_path))
    assert findings.problems == () and findings.summary().endswith("no problem found")
    assert findings.near_duplicates == {**findings.near_duplicates, "images": 0, "groups": 0}
    assert findings.shortcuts == {"images": 60, "properties": [], "regions": []}
    assert findings.labels is None
    json.dumps(findings.to_dict(), allow_nan=False)


def test_copies_of_every_kind_across_given_sides(tmp_path: Path) -> None:
    root = folder(tmp_path, sides=True)
    originals = sorted(root.glob("test/*/*.png"))[: len(CHANGES)]
    for path, (name, change) in zip(originals, CHANGES.items()):
        image = change(np.asarray(Image.open(path))[..., None])
        save(root / "train" / path.parent.name / f"copy {name}.png", image)
    findings = check(root)
    assert [problem.code for problem in findings.problems] == ["LL013"]
    (leak,) = findings.problems
    assert len(leak.files) == len(CHANGES) and all("copy " in file for file in leak.files)
    assert all(detail.startswith("like test/") and detail.endswith("(test)") for detail in leak.details)
    assert findings.near_duplicates["groups"] == len(CHANGES)  # type: ignore[index]
    assert check(root, near_dup=False).problems == ()


def test_copies_and_labels_that_disagree_in_data_without_sides(tmp_path: Path) -> None:
    root = folder(tmp_path)
    first, second = sorted(root.glob("circle/*.png"))[:2]
    Image.open(first).save(root / "circle" / "again.jpg", quality=90)
    Image.open(second).save(root / "star" / "again.jpg", quality=90)
    findings = check(root)
    assert [problem.code for problem in findings.problems] == ["LL014", "LL007"]
    conflict, copies = findings.problems
    assert sorted(conflict.files) == sorted([f"circle/{second.name}", "star/again.jpg"])
    assert all(detail.split(",")[0] in CLASSES for detail in conflict.details)
    assert len(copies.files) == 4 and "2 groups" in copies.message and "--no-near-dup" in copies.mend


def test_identical_files_are_told_once(tmp_path: Path) -> None:
    root = folder(tmp_path)
    one = sorted(root.glob("line/*.png"))[0]
    (root / "line" / "same.png").write_bytes(one.read_bytes())
    findings = check(root)
    assert [problem.code for problem in findings.problems] == ["LL007"]
    assert "copies of each other" in findings.problems[0].message


def test_near_duplicates_stay_on_one_side_of_a_split_drawn_with_their_groups() -> None:
    pixels, labels = strokes(120, classes=3)
    made = np.stack([CHANGES["right"](image) for image in pixels[:60]])
    pixels, labels = np.concatenate([pixels, made]), np.concatenate([labels, labels[:60]])
    near = find_near_duplicates(pixels, labels)
    sha256 = np.random.default_rng(0).integers(0, 256, (180, 32), dtype=np.uint8)
    given = np.zeros(180, np.uint8)
    asked = {"given": given, "readable": np.ones(180, bool), "seed": 3}
    split, _ = make_split(labels.astype(np.int32), sha256, groups=merge_groups(None, near.group), **asked)
    assert (split.side[:60] == split.side[120:]).all()
    loose, _ = make_split(labels.astype(np.int32), sha256, groups=None, **asked)
    assert (loose.side[:60] != loose.side[120:]).sum() > 10


def test_shortcuts_of_files_and_of_regions(tmp_path: Path) -> None:
    pixels, labels = patterns(150, classes=3)
    exif = Image.Exif()
    exif[271], exif[272] = "Nikon", "D90"
    for i, (image, label) in enumerate(zip(pixels, labels.tolist())):
        if label == 2:
            image[:4, :4] = (250, 250, 0)
        options = {"exif": exif} if label == 0 else {}
        save(tmp_path / CLASSES[label] / f"{i:03d}.jpg", image, quality=90, **options)
    findings = check(tmp_path)
    # the camera's name also makes the files larger than their pictures explain
    assert [problem.code for problem in findings.problems] == ["LL015", "LL015", "LL016"]
    *properties, corner = findings.problems
    camera = next(problem for problem in properties if "the camera alone" in problem.message)
    assert camera.files[0] == "circle"
    assert "top left corner" in corner.message and corner.files == ("star",)
    assert len(findings.shortcuts["properties"]) == 2  # type: ignore[index]
    assert check(tmp_path, shortcuts=False).problems == ()


def with_errors(root: Path, n: int = 120, wrong: int = 6) -> list[str]:
    """Three kinds of slopes with noise, and some files in the folder of another class; the names of these."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:16, 0:16]
    slopes = np.stack([x, y, x + y]) * 6
    for i in range(n):
        image = np.clip(slopes[i % 3] + 60 + 25 * rng.standard_normal((16, 16)), 0, 255).astype(np.uint8)[..., None]
        save(root / CLASSES[i % 3] / f"{i:03d}.png", image)
    moved = []
    for path in sorted(root.glob("circle/*.png"))[:wrong]:
        path.rename(root / "star" / f"moved {path.name}")
        moved.append(f"star/moved {path.name}")
    return moved


def test_wrong_labels_are_found_written_corrected_and_applied(tmp_path: Path) -> None:
    root = tmp_path / "data"
    moved = with_errors(root)
    table = tmp_path / "labels.suspect.csv"
    findings = check(root, shortcuts=False, labels_suspect=table)
    (problem,) = findings.problems
    found = [file for file in problem.files if file in moved]
    assert problem.code == "LL024" and len(found) >= 5 and len(problem.files) <= len(moved) + 4
    assert findings.labels["judged"] == 120 and "star → circle" in findings.summary()  # type: ignore[index]
    before = open_dataset(root)
    assert (open_dataset(root, labels_file=table).labels == before.labels).all()  # nothing accepted, nothing changed

    rows = list(csv.DictReader(io.StringIO(table.read_text("utf-8"), newline="")))
    assert list(rows[0]) == ["path", "label", "suggested", "score"]
    assert [row["path"] for row in rows] == list(problem.files)
    assert [float(row["score"]) for row in rows] == sorted(float(row["score"]) for row in rows)
    accepted, taken_out = found[:2]
    for row in rows:
        if row["path"] == accepted:
            row["label"] = row["suggested"]
        elif row["path"] == taken_out:
            row["label"] = ""
    with table.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    after = open_dataset(root, labels_file=table)
    changed = np.flatnonzero(after.labels != before.labels)
    assert {after.names[row]: after.labels[row] for row in changed} == {accepted: 0, taken_out: -1}
    assert sorted(path.name for path in (root / "star").iterdir() if "moved" in path.name)  # files never move
    again = run_check(TrainSettings(data=str(root), labels=str(table)), NO_CACHE, shortcuts=False, label_check=True)
    assert accepted not in [file for problem in again.problems for file in problem.files]


def test_probabilities_are_those_of_the_cross_validation_and_cost_no_fit_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 90)
    Z = (rng.standard_normal((90, 6)) + 1.5 * np.eye(3, 6)[y]).astype(np.float32)
    done = cross_validate(Z, y, 3, "cross_entropy", (0.01, 0.1), 5, seed=1)
    p, C = cross_validated_probabilities(Z, y, 3, Cs=(0.01, 0.1), seed=1)
    assert C == done.C
    z = done.out_of_fold.astype(np.float64)
    np.testing.assert_allclose(p, np.exp(z) / np.exp(z).sum(axis=1, keepdims=True), rtol=1e-5)
    calls = []
    monkeypatch.setattr(
        "lastlayer.pipeline.suspects.cross_validate", lambda *a, **k: calls.append(a) or cross_validate(*a, **k)
    )
    cross_validated_probabilities(Z, y, 3, Cs=(0.01, 0.1), seed=1)
    assert len(calls) == 1


def test_copies_are_held_out_together() -> None:
    """A wrong label beside its copy with the right one would else be known by heart."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 60)
    Z = rng.standard_normal((60, 200)).astype(np.float32)  # each row is as good as its own number
    Z2, y2, units = np.concatenate([Z, Z]), np.concatenate([y, y]), np.tile(np.arange(60), 2)
    apart, _ = cross_validated_probabilities(Z2, y2, 2, Cs=(1.0,), units=np.full(120, -1))
    together, _ = cross_validated_probabilities(Z2, y2, 2, Cs=(1.0,), units=units)
    known = (apart.argmax(axis=1) == y2).mean()
    assert known > 0.85 and (together.argmax(axis=1) == y2).mean() < 0.7


def test_suspects_carry_what_the_table_needs() -> None:
    rows, labels = np.array([10, 20, 30, 40]), np.array([0, 0, 1, 1])
    p = np.array([[0.9, 0.1], [0.1, 0.9], [0.1, 0.9], [0.1, 0.9]])
    found = suspects(rows, labels, p, 0.5)
    assert found.rows.tolist() == [20] and found.suggested.tolist() == [1] and found.accuracy == Proportion(3, 4)
    assert found.p_label.tolist() == [0.1] and found.p_suggested.tolist() == [0.9]


def test_the_label_check_refuses_what_it_cannot_judge(tmp_path: Path) -> None:
    for i in range(30):
        save(tmp_path / "only" / f"{i}.png", patterns(30)[0][i])
    with pytest.raises(Exception, match="two classes"):
        check(tmp_path, label_check=True)


NAMES = (
    st.binary(min_size=1, max_size=12)
    .map(lambda raw: raw.decode("utf-8", "surrogateescape"))
    .filter(lambda name: "\0" not in name and "/" not in name and name not in (".", ".."))
)
FORMULA = st.sampled_from(
    ["=1+1", "+cmd", "-2", "@SUM(A1)", '=HYPERLINK("x")', "\t=1", "\r=1", " ", "a\r\nb", 'say "x"', "a,b"]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(NAMES | FORMULA, min_size=2, max_size=6, unique=True), st.data())
def test_the_table_survives_any_file_name(tmp_path_factory: pytest.TempPathFactory, names: list[str], data) -> None:  # type: ignore[no-untyped-def]
    names = [name for name in names if not (cell_path(name) != name and "\\" in name)]
    if not names:
        return
    root = tmp_path_factory.mktemp("table")
    classes = ("=cat", "dog", "-1")
    labels = np.arange(len(names), dtype=np.int32) % 3
    listing = Listing("folders", FileImages(root, names), labels, classes, np.zeros(len(names), np.uint8))
    dataset = type("Data", (), {"names": names, "class_names": classes})
    rows = np.array(data.draw(st.permutations(range(len(names)))))
    found = Suspects(
        rows=rows,
        labels=labels[rows],
        suggested=(labels[rows] + 1) % 3,
        score=np.linspace(0, 0.5, len(rows)),
        p_label=np.zeros(len(rows)),
        p_suggested=np.ones(len(rows)),
        judged=len(rows),
        estimate=len(rows),
        accuracy=Proportion(0, len(rows)),
        C=1.0,
    )
    table = root / "labels.suspect.csv"
    write_suspects(table, found, dataset)  # type: ignore[arg-type]
    cells = list(csv.reader(io.StringIO(table.read_bytes().decode("utf-8", "surrogateescape"), newline="")))
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for row in cells for cell in row)
    same = override_labels(listing, table)
    assert same.labels.tolist() == labels.tolist() and same.class_names == classes
    # every suggestion accepted, as a person would: the cell of one column copied into the other
    accepted = [[row[0], row[2], row[2], row[3]] for row in cells[1:]]
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows([cells[0], *accepted])
    table.write_bytes(text.getvalue().encode("utf-8", "surrogateescape"))
    assert override_labels(listing, table).labels.tolist() == ((labels + 1) % 3).tolist()


@given(st.text(max_size=8))
def test_cells_are_never_formulas(name: str) -> None:
    for cell in (cell_path(name), cell_label(name)):
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
        assert cell.endswith(name)


def test_problems_are_told_by_severity(tmp_path: Path) -> None:
    assert len(set(SEVERITY)) == len(SEVERITY) and set(SEVERITY) <= set(CODES)
    mixed = [Problem(code, "x") for code in ("LL007", "LL040", "LL003", "LL001", "LL013")]
    assert [problem.code for problem in by_severity(mixed)] == ["LL001", "LL013", "LL003", "LL007", "LL040"]
    root = folder(tmp_path)
    (root / "star" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    one = sorted(root.glob("line/*.png"))[0]
    (root / "star" / "same.png").write_bytes(one.read_bytes())
    told = Told()
    findings = run_check(TrainSettings(data=str(root)), NO_CACHE, told)
    assert told.codes == ["LL006", "LL003", "LL007"] == [problem.code for problem in findings.problems]
    told = Told()
    run_check(TrainSettings(data=str(root)), Execution(use_cache=False, ignore=("LL006",)), told)
    assert told.codes == ["LL003", "LL007"]


def test_what_was_found_before_an_error_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder(tmp_path)
    (root / "star" / "broken.png").write_bytes(b"")

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("later")

    monkeypatch.setattr("lastlayer.data.near_duplicates.find_near_duplicates", fail)
    told = Told()
    with pytest.raises(RuntimeError, match="later"):
        run_check(TrainSettings(data=str(root)), NO_CACHE, told)
    assert told.codes == ["LL003"]


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    moved = with_errors(tmp_path / "data")
    quiet = ["check", "data", "--no-cache", "-q", "--no-shortcuts"]
    assert app.run([*quiet, "--strict"]) == 0
    assert "no problem found" in capsys.readouterr().out
    asked = [*quiet, "--strict", "--labels-suspect", "s.csv", "--fix-list", "f.csv"]
    assert app.run(asked) == 4
    out, err = capsys.readouterr()
    assert "LL024" in err and "and " in err and " more" in err and "suspected labels in s.csv" in out
    rows = list(csv.DictReader(io.StringIO(Path("f.csv").read_text("utf-8"), newline="")))
    assert len(set(moved) & {row["path"] for row in rows if row["code"] == "LL024"}) >= 5
    assert app.run([*asked, "--ignore", "LL024"]) == 0
    capsys.readouterr()
    assert app.run([*quiet, "--json", "--label-check"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["labels"]["judged"] == 120 and document["problems"][0]["code"] == "LL024"


def test_fix_list_is_no_formula(tmp_path: Path) -> None:
    write_fix_list(tmp_path / "f.csv", [Problem("LL003", "x", ("=1+1.png", "b.png"))])
    assert [line.split(",")[1] for line in (tmp_path / "f.csv").read_text().splitlines()[1:]] == ["./=1+1.png", "b.png"]
