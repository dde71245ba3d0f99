from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest

from data_fixtures import picture, png, tree
from lastlayer import InputError
from lastlayer._codes import Problem
from lastlayer.data import tables
from lastlayer.data.dataset import NONE, TEST, TRAIN, VAL, ArrayImages, Dataset, FileImages
from lastlayer.data.images import ImageFormat
from lastlayer.data.inputs import list_sources
from lastlayer.data.sources import open_dataset


def codes(dataset: Dataset) -> list[str]:
    return [problem.code for problem in dataset.problems]


def only(dataset: Dataset, code: str) -> Problem:
    found = [problem for problem in dataset.problems if problem.code == code]
    assert len(found) == 1, dataset.problems
    return found[0]


def labels_of(dataset: Dataset) -> dict[str, str]:
    names = (*dataset.class_names, "")
    return {name: names[k] for name, k in zip(dataset.names, dataset.labels.tolist())}


# folders


def test_flat_class_folders_with_hidden_and_empty_ones(tmp_path: Path) -> None:
    tree(tmp_path, {"tulip": 2, "daisy/garden/june": 1, "daisy": 2, "__MACOSX/daisy": 1, ".git": 1, "none": 0})
    for name in ("tulip/.DS_Store", "tulip/Thumbs.db", "daisy/desktop.ini", "daisy/@eaDir/x.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    dataset = open_dataset(tmp_path)
    assert dataset.layout == "class folders, no splits"
    assert dataset.class_names == ("daisy", "tulip")
    assert list(dataset.names) == [
        *("daisy/000.png", "daisy/001.png", "daisy/garden/june/000.png"),
        *("tulip/000.png", "tulip/001.png"),
    ]
    assert dataset.labels.tolist() == [0, 0, 0, 1, 1]
    assert not dataset.given.any()
    assert codes(dataset) == ["LL002", "LL002"]
    assert dataset.problems[0].files == ("none",)
    assert dataset.problems[1].message.startswith("6 hidden")
    assert dataset.describe() == "5 images, 2 classes (daisy 3, tulip 2)"


@pytest.mark.parametrize("train", ["train", "Training", "TRAIN"])
@pytest.mark.parametrize("val", ["val", "valid", "Validation", "dev", None])
@pytest.mark.parametrize("test", ["test", "Testing", None])
def test_every_usual_spelling_of_the_sides(tmp_path: Path, train: str, val: str | None, test: str | None) -> None:
    sides = {train: TRAIN, val: VAL, test: TEST}
    tree(tmp_path, {f"{name}/{c}": 1 for name in sides if name for c in ("cat", "dog")})
    dataset = open_dataset(str(tmp_path))
    given = {name.split("/")[0]: side for name, side in zip(dataset.names, dataset.given.tolist())}
    assert given == {name: side for name, side in sides.items() if name}
    words = [word for word, name in (("train", train), ("val", val), ("test", test)) if name]
    assert dataset.layout == "class folders, " + "/".join(words)
    assert dataset.problems == ()


def test_a_class_called_train_is_a_class(tmp_path: Path) -> None:
    tree(tmp_path, {"train": 2, "car": 2, "plane": 2})
    assert open_dataset(tmp_path).class_names == ("car", "plane", "train")
    (tmp_path / "nested").mkdir()
    tree(tmp_path / "nested", {"train/steam": 2, "car/suv": 2})
    assert open_dataset(tmp_path / "nested").class_names == ("car", "train")


def test_train_and_test_without_class_folders_are_no_classes(tmp_path: Path) -> None:
    tree(tmp_path, {"train": 3, "test": 3})
    with pytest.raises(InputError, match=r"LL001 found 0 class folders .* manifest"):
        open_dataset(tmp_path)


def test_unlabelled_test_images_and_folders_beside_are_named(tmp_path: Path) -> None:
    tree(tmp_path, {"train/cat": 2, "train/dog": 2, "test": 3})
    stray = only(open_dataset(tmp_path), "LL005")
    assert len(stray.files) == 3
    tree(tmp_path, {"val/cat": 1, "val/dog": 1, "backup": 2})
    assert only(open_dataset(tmp_path), "LL002").files == ("backup",)


def test_sides_inside_class_folders(tmp_path: Path) -> None:
    tree(tmp_path, {"cat/train": 2, "cat/test": 1, "dog/train": 2, "dog/test": 1})
    dataset = open_dataset(tmp_path)
    assert dataset.class_names == ("cat", "dog")
    assert dataset.layout == "class folders, each with train/test"
    assert np.bincount(dataset.given).tolist() == [0, 4, 0, 2]


def test_classes_match_by_name_never_by_position(tmp_path: Path) -> None:
    tree(tmp_path, {"train/bee": 2, "train/cat": 2, "train/dog": 2, "test/ant": 3, "test/cat": 1, "test/dog": 1})
    dataset = open_dataset(tmp_path)
    assert dataset.class_names == ("bee", "cat", "dog")
    assert labels_of(dataset)["test/cat/000.png"] == "cat"
    assert labels_of(dataset)["test/ant/000.png"] == ""
    unknown, missing = dataset.problems
    assert (unknown.code, unknown.files, missing.code, missing.files) == ("LL004", ("ant",), "LL004", ("bee",))
    assert "3 test images" in unknown.message


def test_a_test_folder_alone_keeps_its_classes(tmp_path: Path) -> None:
    tree(tmp_path, {"test/cat": 1, "test/dog": 1})
    dataset = open_dataset(tmp_path)
    assert (dataset.class_names, set(dataset.given.tolist())) == (("cat", "dog"), {TEST})


def test_natural_order_and_case_twins(tmp_path: Path) -> None:
    tree(tmp_path, {"10": 1, "9": 1, "Cat": 1, "cat": 1, "b2": 1, "b10": 1})
    dataset = open_dataset(tmp_path)
    assert dataset.class_names == ("9", "10", "b2", "b10", "Cat", "cat")
    assert only(dataset, "LL004").files == ("Cat", "cat")


def test_unicode_twins_are_an_error_and_sides_match_across_forms(tmp_path: Path) -> None:
    nfc, nfd = unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")
    tree(tmp_path / "split", {f"train/{nfc}": 1, "train/tea": 1, f"test/{nfd}": 1, "test/tea": 1})
    dataset = open_dataset(tmp_path / "split")
    assert dataset.class_names == (nfc, "tea")
    assert dataset.problems == ()
    tree(tmp_path / "flat", {nfc: 1, nfd: 1})
    with pytest.raises(InputError, match=r"'cafe\\u0301' and 'caf\\xe9'") as caught:
        open_dataset(tmp_path / "flat")
    assert caught.value.code == "LL004"


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    root = tree(tmp_path / "data", {"cat": 2, "dog/inner": 1})
    elsewhere = tree(tmp_path / "elsewhere", {"more": 2}, first=10)
    (root / "cat" / "linked").symlink_to(elsewhere / "more")
    (root / "cat" / "one.png").symlink_to(elsewhere / "more" / "000.png")
    (root / "cat" / "again").symlink_to(root / "cat")
    (root / "dog" / "inner" / "up").symlink_to(root)
    (root / "dog" / "broken.png").symlink_to(root / "nowhere")
    (root / "dog" / "self").symlink_to(root / "dog" / "self")
    (root / "bird").symlink_to(elsewhere / "more")
    (root / "fish").symlink_to(root / "nowhere")
    dataset = open_dataset(root)
    assert [name for name in dataset.names if name.startswith("cat/")] == [
        *("cat/000.png", "cat/001.png", "cat/linked/000.png", "cat/linked/001.png", "cat/one.png"),
    ]
    # what is no folder is left to be refused by name when it is read
    dogs = [name for name in dataset.names if name.startswith("dog/")]
    assert dogs == ["dog/broken.png", "dog/inner/000.png", "dog/self"]
    assert dataset.class_names == ("bird", "cat", "dog")
    refused = only(dataset, "LL003")
    assert dict(zip(refused.files, refused.details)) == {
        "cat/again": "link: leads back to a folder listed already",
        "dog/inner/up": "link: leads back to a folder listed already",
        "fish": "link: leads nowhere",
    }


def test_links_in_a_chain_of_doublings_are_listed_once(tmp_path: Path) -> None:
    tree(tmp_path, {f"class/{i}": 1 for i in range(12)} | {"other": 1})
    for i in range(11):  # without memory this is 2^11 ways to the last folder
        for name in ("a", "b"):
            (tmp_path / "class" / str(i) / name).symlink_to(tmp_path / "class" / str(i + 1))
    assert len(open_dataset(tmp_path)) == 13


def test_a_closed_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, {"cat": 1, "dog": 1, "dog/closed": 1})
    scandir = os.scandir

    def guarded(path: str) -> object:  # permissions do not stop the administrator who may run the tests
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    refused = only(open_dataset(tmp_path), "LL003")
    assert (refused.files, refused.details) == (("dog/closed",), ("permission",))
    assert f"{tmp_path}/dog/closed" in list_sources([f"{tmp_path}/dog"])
    with pytest.raises(InputError, match="cannot be listed"):
        list_sources([f"{tmp_path}/dog/closed"])


def test_odd_names_are_used_and_printable(tmp_path: Path) -> None:
    base = os.fsencode(tmp_path)
    for name in (b"caf\xe9/a\nb.png", b"caf\xe9/\xff.png", b"tea\t/x.png"):
        os.makedirs(os.path.dirname(os.path.join(base, name)), exist_ok=True)
        png(Path(os.fsdecode(os.path.join(base, name))), 1)
    dataset = open_dataset(tmp_path)
    assert dataset.class_names == ("caf\\xe9", "tea\\x09")
    assert os.fsencode(dataset.names[0]) == b"caf\xe9/a\nb.png"
    assert dataset.images.read(np.arange(3), ImageFormat(6, 6, 3)).readable.all()
    "".join(dataset.class_names).encode("utf-8")


# nothing found


@pytest.mark.parametrize(
    ("layout", "source", "wanted"),
    [
        ({"flowers/daisy": 1, "flowers/tulip": 1}, ".", "You probably want {root}/flowers"),
        ({"a/b/train/x": 1, "a/b/train/y": 1, "a/b/test/x": 1}, ".", "You probably want {root}/a"),
        ({"daisy": 1, "tulip": 1}, "daisy", "you probably want its parent {root}"),
        ({"photos": 0}, ".", "Point at the folder"),
        ({".": 2}, ".", "write a manifest"),
    ],
)
def test_the_error_says_what_was_probably_meant(
    tmp_path: Path, layout: dict[str, int], source: str, wanted: str
) -> None:
    root = tree(tmp_path / "data", layout)
    with pytest.raises(InputError, match="LL001") as caught:
        open_dataset(root / source)
    assert wanted.format(root=root) in caught.value.mend


def test_a_folder_of_datasets_is_no_dataset(tmp_path: Path) -> None:
    sides = [f"{side}/{c}" for side in ("train", "test") for c in "01"]
    tree(tmp_path, {f"{name}/{side}": 1 for name in ("mnist", "fashion") for side in sides})
    with pytest.raises(InputError, match="is no class") as caught:
        open_dataset(tmp_path)
    assert str(tmp_path / "fashion") in caught.value.mend


def test_files_that_are_no_source(tmp_path: Path) -> None:
    tree(tmp_path, {"photos/cat": 1, "photos/dog": 1})
    (tmp_path / "photos.zip").write_bytes(b"PK")
    (tmp_path / "x.pkl").write_bytes(b"\x80\x04N.")
    (tmp_path / "x.npy").write_bytes(b"")
    (tmp_path / "x.doc").write_bytes(b"")
    for name, code, text in (
        ("photo", "LL001", f"Did you mean {tmp_path}/photos?"),
        ("photos.zip", "LL001", "Unpack it"),
        ("photos/cat/000.png", "LL001", "is one image"),
        ("x.pkl", "LL012", "can run any code"),
        ("x.npy", "", "without labels"),
        ("x.doc", "LL001", "is none of"),
        ("a\0b", "LL001", "does not exist"),
    ):
        with pytest.raises(InputError, match=re.escape(text)) as caught:
            open_dataset(f"{tmp_path}/{name}")
        assert caught.value.code == code
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "data.tar.gz").write_bytes(b"")
    with pytest.raises(InputError, match=r"Unpack data\.tar\.gz first"):
        open_dataset(tmp_path / "empty")


# manifests


def manifest(root: Path, name: str, text: str, encoding: str = "utf-8") -> Path:
    tree(root, {"cats": 2, "dogs": 2})
    (root / name).write_text(text, encoding, newline="")
    return root / name


ROWS = "path,label,split,group\ncats/000.png,cat,train,a\ncats/001.png,cat,TEST,b\ndogs/000.png,dog,,a\n"


@pytest.mark.parametrize(
    ("name", "text", "encoding"),
    [
        ("m.csv", ROWS, "utf-8"),
        ("m.csv", ROWS, "utf-8-sig"),
        ("m.csv", ROWS, "utf-16"),
        ("m.csv", ROWS.replace("\n", "\r\n"), "utf-8"),
        ("m.csv", ROWS.replace(",", ";"), "utf-8"),
        ("m.csv", ROWS.replace("/", "\\"), "utf-8"),
        ("m.csv", ROWS.replace("cats/", "./cats//").replace("cat,", " cat ,"), "utf-8"),
        ("m.csv", ROWS.replace("path,label,split,group", '"File_Name","CLASS","Set","Group_ID"'), "utf-8"),
        ("m.tsv", ROWS.replace(",", "\t"), "utf-8"),
        ("m.txt.csv", "\n" + ROWS + "\n\n", "utf-8"),
    ],
)
def test_manifest_dialects(tmp_path: Path, name: str, text: str, encoding: str) -> None:
    dataset = open_dataset(manifest(tmp_path, name, text, encoding))
    assert labels_of(dataset) == {"cats/000.png": "cat", "cats/001.png": "cat", "dogs/000.png": "dog"}
    assert dataset.given.tolist() == [TRAIN, TEST, NONE]
    assert dataset.groups is not None
    assert [dataset.group_names[g] for g in dataset.groups] == ["a", "b", "a"]
    assert dataset.layout == f"manifest {name}, train/test"
    assert dataset.problems[0].code == "LL004"  # no test image of dog
    assert dataset.images.read(np.arange(3), ImageFormat(6, 6, 3)).readable.all()


def test_jsonl_manifest_with_numbers_and_nested_columns(tmp_path: Path) -> None:
    rows = [
        {"image": "cats/000.png", "target": 1, "boxes": [[1, 2]], "patient": 7},
        {"image": "dogs/000.png", "target": 2.0, "patient": 7},
        {"image": "dogs/001.png", "target": None},
    ]
    text = "\n".join(map(json.dumps, rows)) + "\n\n"
    dataset = open_dataset(manifest(tmp_path, "m.jsonl", text), group_by="patient")
    assert labels_of(dataset) == {"cats/000.png": "1", "dogs/000.png": "2", "dogs/001.png": ""}
    assert dataset.groups is not None
    assert dataset.groups.tolist() == [0, 0, -1]
    assert only(dataset, "LL005").files == ("dogs/001.png",)


def test_a_manifest_without_header(tmp_path: Path) -> None:
    dataset = open_dataset(manifest(tmp_path, "m.csv", "cats/000.png,cat\ndogs/000.png,dog\n"))
    assert labels_of(dataset) == {"cats/000.png": "cat", "dogs/000.png": "dog"}


def test_rows_without_file_label_or_novelty_are_named(tmp_path: Path) -> None:
    text = "path,label\ncats/000.png,cat\ncats,cat\nno.png,cat\n,cat\na\0b,cat\ncats/001.png,\n"
    text += "cats/000.png,cat\ndogs/000.png,dog\ndogs/000.png,cat\n"
    dataset = open_dataset(manifest(tmp_path, "m.csv", text))
    assert codes(dataset) == ["LL005", "LL005", "LL005", "LL006"]
    missing, unlabelled, repeated, conflict = dataset.problems
    assert missing.files == ("cats", "no.png", "", "a\\x00b")
    assert missing.details[1] == "m.csv line 4"
    assert unlabelled.files == ("cats/001.png",)
    assert repeated.files == ("cats/000.png",)
    assert conflict.details == ("'dog' on line 9 is used, 'cat' on m.csv line 10 is not",)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.csv", "", "is empty"),
        ("m.csv", "path,label\n", "has no rows"),
        ("m.csv", "file,colour\ncats/000.png,red\n", "no label column; its columns are 'file', 'colour'"),
        ("m.csv", "name,label\ncats/000.png,red\n", "no path column"),
        ("m.csv", "path,label,label\na,b,c\n", "two columns named 'label'"),
        ("m.csv", "path,label\ncats/000.png,a,b\n", "line 2: 3 cells, but 2 columns"),
        ("m.csv", 'path,label\n"cats/000.png,a\n', "line 2: unexpected end of data"),
        ("m.csv", "path,label,split\ncats/000.png,a,holdout\n", "line 2: split is 'holdout'"),
        ("m.csv", "path,label\nnope/000.png,a\n", "none of the 1 files named in m.csv exists"),
        ("m.csv", "path,label\nhttps://x.org/a.png,a\n", "never uses the network"),
        ("m.csv", "path,label\n000.png,a\n", "cats/000.png exists"),
        ("m.jsonl", "", "is empty"),
        ("m.jsonl", "{\n", "line 1: not JSON"),
        ("m.jsonl", "[1]\n", "line 1: not a JSON object"),
        ("m.jsonl", "[" * 100_000, "line 1: not JSON"),
        ("m.jsonl", '{"path": "cats/000.png", "label": ["a"]}', "line 1: 'label' is a list"),
        ("m.jsonl", '{"path": "\\ud800.png", "label": "a"}', "none of the 1 files"),
    ],
)
def test_nonsense_is_named_with_its_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        open_dataset(manifest(tmp_path, name, text))


def test_parquet_needs_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "m.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="LL060"):
        open_dataset(tmp_path / "m.parquet")


def test_parquet_columns_become_a_table(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow", reason="the parquet extra is not installed")
    import pyarrow.parquet

    tree(tmp_path, {"cats": 1, "dogs": 1})
    table = arrow.table({"path": ["cats/000.png", "dogs/000.png"], "label": [1, 2], "box": [[1], [2]]})
    pyarrow.parquet.write_table(table, tmp_path / "m.parquet")
    assert open_dataset(tmp_path / "m.parquet").class_names == ("1", "2")
    (tmp_path / "m.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="cannot be read"):
        open_dataset(tmp_path / "m.parquet")


def test_lone_surrogates_in_labels_stay_printable(tmp_path: Path) -> None:
    text = '{"path": "cats/000.png", "label": "\\ud800"}\n{"path": "dogs/000.png", "label": "\\udcff"}'
    names = open_dataset(manifest(tmp_path, "m.jsonl", text)).class_names
    assert set(names) == {"\\ud800", "\\xff"}


# metadata files


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_metadata_overrides_folder_names(tmp_path: Path, kind: str) -> None:
    tree(tmp_path, {"a": 2, "b": 2})
    rows = [("a/000.png", "cat"), ("a/001.png", "dog"), ("b/000.png", "dog")]
    if kind == "csv":
        text = "file_name,label,text\n" + "".join(f"{path},{label},hi\n" for path, label in rows)
    else:
        text = "".join(json.dumps({"file_name": path, "label": label}) + "\n" for path, label in rows)
    (tmp_path / f"metadata.{kind}").write_text(text)
    dataset = open_dataset(tmp_path)
    assert labels_of(dataset) == dict(rows)
    assert dataset.layout == f"folder with metadata.{kind}, no splits"
    assert only(dataset, "LL005").files == ("b/001.png",)


def test_metadata_in_each_split_folder_or_above_them(tmp_path: Path) -> None:
    tree(tmp_path, {"train": 2, "test": 1})
    (tmp_path / "train" / "metadata.csv").write_text("file_name,label\n000.png,cat\n001.png,dog\n")
    (tmp_path / "test" / "metadata.csv").write_text("file_name,label\n000.png,dog\n")
    split = open_dataset(tmp_path)
    assert split.given.tolist() == [TRAIN, TRAIN, TEST]
    assert labels_of(split)["test/000.png"] == "dog"
    for side in ("train", "test"):
        (tmp_path / side / "metadata.csv").unlink()
    rows = "train/000.png,cat\ntrain/001.png,dog\ntest/000.png,dog\n"
    (tmp_path / "metadata.csv").write_text("file_name,label\n" + rows)
    above = open_dataset(tmp_path)
    assert above.given.tolist() == [TRAIN, TRAIN, TEST]
    assert labels_of(above) == labels_of(split)


def test_metadata_without_labels_leaves_the_folder_names(tmp_path: Path) -> None:
    tree(tmp_path, {"cat": 1, "dog": 1})
    (tmp_path / "metadata.csv").write_text("file_name,width\ncat/000.png,6\n")
    assert open_dataset(tmp_path).class_names == ("cat", "dog")
    tree(tmp_path / "flat", {".": 2})
    (tmp_path / "flat" / "metadata.csv").write_text("file_name,width\n000.png,6\n")
    with pytest.raises(InputError, match="no label column"):
        open_dataset(tmp_path / "flat")
    (tmp_path / "flat" / "metadata.jsonl").write_text("")
    with pytest.raises(InputError, match="are both there"):
        open_dataset(tmp_path / "flat")


# groups and labels files


def test_group_by_pattern(tmp_path: Path) -> None:
    for name in ("a/p1_1.png", "a/p1_2.png", "a/p2_1.png", "b/p1_3.png", "b/other.png"):
        png(tmp_path / name, 0)
    groups = open_dataset(tmp_path, group_by=r"([^/]+)_\d+\.png$").groups
    assert groups is not None
    assert groups.tolist() == [0, 0, 1, -1, 0]
    whole = open_dataset(tmp_path, group_by=r"p[0-9]").group_names
    assert whole == ("p1", "p2")


@pytest.mark.parametrize(
    ("group_by", "text"),
    [
        ("(", "is not a valid pattern"),
        ("zzz+", "matches none of 4 names"),
        ("patent", "Did you mean 'patient'?"),
        ("nothing", "neither a column (available: patient) nor a pattern"),
        ("", "neither a column"),
    ],
)
def test_group_by_nonsense(tmp_path: Path, group_by: str, text: str) -> None:
    rows = "".join(f"{c}/00{i}.png,{c},1\n" for c in ("cats", "dogs") for i in range(2))
    path = manifest(tmp_path, "m.csv", "path,label,patient\n" + rows)
    with pytest.raises(InputError, match=re.escape(text)):
        open_dataset(path, group_by=group_by)


def test_labels_file_overrides_by_name(tmp_path: Path) -> None:
    root = tree(tmp_path / "data", {"cat": 2, "dog": 2})
    labels = tmp_path / "labels.suspect.csv"
    labels.write_text(
        "path,label,suggested,score\ncat/000.png,dog,dog,0.9\n./data/cat/001.png,,dog,0.1\n"
        "dog/001.png,wolf,cat,0.2\ngone.png,cat,dog,0.3\n"
    )
    dataset = open_dataset(root, labels_file=labels)
    assert labels_of(dataset) == {
        **{"cat/000.png": "dog", "cat/001.png": ""},
        **{"dog/000.png": "dog", "dog/001.png": "wolf"},
    }
    assert dataset.class_names == ("dog", "wolf")
    assert only(dataset, "LL005").files == ("gone.png",)
    assert only(dataset, "LL004").files == ("wolf",)
    labels.write_text("path,label\nx.png,cat\n")
    with pytest.raises(InputError, match="none of the 1 rows"):
        open_dataset(root, labels_file=labels)
    labels.write_text("path,label\ncat/000.png,cat\ncat/000.png,dog\n")
    with pytest.raises(InputError, match=r"line 3: cat/000\.png has another label above"):
        open_dataset(root, labels_file=labels)
    labels.write_text("path,suggested\ncat/000.png,cat\n")
    with pytest.raises(InputError, match="columns path,label are needed"):
        open_dataset(root, labels_file=labels)


def test_labels_file_for_a_folder_without_class_folders(tmp_path: Path) -> None:
    root = tree(tmp_path / "data", {".": 3})
    (root / "labels.jsonl").write_text('{"image": "000.png", "label": "a"}\n{"image": "001.png", "label": "b"}')
    dataset = open_dataset(root, labels_file=root / "labels.jsonl")
    assert labels_of(dataset) == {"000.png": "a", "001.png": "b", "002.png": ""}
    assert dataset.problems == ()


# arrays

X = np.random.default_rng(0).integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)
Y = np.array([2, 10, 2, 0, 0, 2])


def test_a_pair_from_python() -> None:
    dataset = open_dataset((X, Y))
    assert dataset.class_names == ("0", "2", "10")
    assert dataset.labels.tolist() == [1, 2, 1, 0, 0, 1]
    assert (dataset.names[5], dataset.layout) == ("image#5", "arrays, no splits")
    read = dataset.images.read(np.array([4, 0]), ImageFormat(5, 4, 3))
    np.testing.assert_array_equal(read.pixels, X[[4, 0]])
    assert read.sizes.tolist() == [[4, 5], [4, 5]]
    assert read.readable.all()
    gray = open_dataset((X[..., 0].astype(np.int64), ["a", "b", None, "a", float("nan"), b"c"]))
    assert gray.labels.tolist() == [0, 1, -1, 0, -1, 2]
    np.testing.assert_array_equal(gray.images.read(np.arange(6), ImageFormat(5, 4, 1)).pixels[..., 0], X[..., 0])


@pytest.mark.parametrize(
    ("images", "mend"),
    [
        (X / 255.0, "numpy.round(X * 255 / X.max()).astype('uint8')"),
        (X > 9, "(X * 255).astype('uint8')"),
        (X.astype(int) * 2, "Scale it to 0..255"),
        (X.astype(int) - 1, "Scale it to 0..255"),
        (X.transpose(0, 3, 1, 2), "X.transpose(0, 2, 3, 1)"),
        (np.concatenate([X, X[..., :1]], axis=3), "X[..., :3]"),
        (X[:, :3, :3, 0].reshape(6, 9), "X.reshape(-1, 3, 3)"),
        (X[:0], "Images are (N, H, W)"),
        (X[0, 0, 0], "Images are (N, H, W)"),
        (np.array([None] * 6), "Save plain arrays"),
        (X.astype(complex), "(X * 255)"),
    ],
)
def test_arrays_that_would_have_to_be_guessed_are_refused(images: np.ndarray, mend: str) -> None:
    with pytest.raises(InputError) as caught:
        open_dataset((images, Y))
    assert mend in caught.value.mend


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (Y[:5], "6 images and 5 labels"),
        (np.eye(6), "argmax"),
        (Y + 0.5, "has the label 2.5"),
        ([{}] * 6, "type dict"),
        (np.array(3), "one label per image"),
    ],
)
def test_labels_that_make_no_sense(labels: object, text: str) -> None:
    with pytest.raises(InputError, match=re.escape(text)):
        open_dataset((X, labels))
    with pytest.raises(InputError, match="3 arrays"):
        open_dataset((X, Y, Y))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("keys", "given"),
    [
        ({"X": X, "y": Y}, [NONE] * 6),
        ({"images": X, "labels": Y}, [NONE] * 6),
        ({"arr_0": X, "arr_1": Y}, [NONE] * 6),
        ({"x_train": X, "y_train": Y, "x_test": X[:2], "y_test": Y[:2]}, [TRAIN] * 6 + [TEST] * 2),
        (
            {"train_images": X, "train_labels": Y[:, None], "val_images": X[:1], "val_labels": Y[:1, None]},
            [TRAIN] * 6 + [VAL],
        ),
    ],
)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_keys(tmp_path: Path, keys: dict[str, np.ndarray], given: list[int], save: object) -> None:
    save(tmp_path / "d.npz", **keys)  # type: ignore[operator]
    dataset = open_dataset(tmp_path / "d.npz")
    assert dataset.given.tolist() == given
    assert dataset.class_names == ("0", "2", "10")
    assert len(set(dataset.names)) == len(given)
    assert dataset.layout.startswith("arrays d.npz, ")


def test_npz_class_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", X=X, y=Y % 3, class_names=np.array(["ant", "bee", "cow"]))
    dataset = open_dataset(tmp_path / "d.npz")
    assert [dataset.class_names[k] for k in dataset.labels] == ["cow", "bee", "cow", "ant", "ant", "cow"]
    np.savez(tmp_path / "d.npz", X=X, y=Y, class_names=np.array(["ant", "bee", "cow"]))
    with pytest.raises(InputError, match="label 10, but there are 3 class names"):
        open_dataset(tmp_path / "d.npz")


def test_npy_pair_is_mapped(tmp_path: Path) -> None:
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", Y)
    dataset = open_dataset((str(tmp_path / "X.npy"), tmp_path / "y.npy"))
    assert isinstance(dataset.images, ArrayImages)
    assert isinstance(dataset.images.blocks[0], np.memmap)
    (tmp_path / "X.npy").write_bytes((tmp_path / "X.npy").read_bytes()[:-1])
    with pytest.raises(InputError, match="cannot be read"):
        open_dataset((tmp_path / "X.npy", Y))


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "X.npy", np.array([None]), allow_pickle=True)
    with pytest.raises(InputError, match="LL012"):
        open_dataset((tmp_path / "X.npy", Y))
    np.savez(tmp_path / "d.npz", X=X, y=np.array(["a", None, "b", "a", "b", "c"], dtype=object))
    with pytest.raises(InputError, match="LL012"):
        open_dataset(tmp_path / "d.npz")


def test_hostile_npz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "d.npz"
    path.write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(InputError, match="cannot be read"):
        open_dataset(path)
    np.savez(path, weights=X)
    with pytest.raises(InputError, match="holds 'weights'"):
        open_dataset(path)
    header = np.lib.format.magic(1, 0)
    text = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000, 1000), }"
    header += len(text).to_bytes(2, "little") + text
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("X.npy", header + bytes(10))
        archive.writestr("y.npy", header)
    with pytest.raises(InputError, match="not those of an array of shape"):
        open_dataset(path)
    np.savez(path, X=X, y=Y)
    monkeypatch.setattr("lastlayer.data.arrays._MOST_UNPACKED", 100)
    with pytest.raises(InputError, match="unpacks to"):
        open_dataset(path)


def test_arrays_are_resized_as_files_are(tmp_path: Path) -> None:
    for i in range(3):
        png(tmp_path / "a" / f"{i}.png", i)
    png(tmp_path / "b" / "3.png", 3)
    files = open_dataset(tmp_path)
    arrays = open_dataset((np.stack([picture(i) for i in range(4)]), [0, 0, 0, 1]))
    for format in (ImageFormat(4, 9, 3), ImageFormat(3, 3, 1, fit="stretch"), ImageFormat(6, 6, 3)):
        rows = np.array([2, 0, 3])
        expected, got = files.images.read(rows, format), arrays.images.read(rows, format)
        np.testing.assert_array_equal(expected.pixels, got.pixels)
        np.testing.assert_array_equal(expected.sizes, got.sizes)


# the dataset itself


def test_subset_sample_and_content_hash(tmp_path: Path) -> None:
    tree(tmp_path, {"a": 3, "b": 2})
    (tmp_path / "a" / "001.png").write_bytes(b"nothing")
    dataset = open_dataset(tmp_path)
    assert len(dataset.images.sample(np.array([0, 1, 2]))) == 2
    sha = dataset.images.read(np.arange(5), ImageFormat(6, 6, 3)).sha256
    order = np.array([4, 0, 2, 3])
    part = dataset.subset(order)
    assert list(part.names) == [dataset.names[i] for i in order]
    assert list(part.images.names()) == list(part.names)
    assert part.labels.tolist() == [1, 0, 0, 1]
    back = dataset.subset(order[::-1])
    assert part.content_hash(sha[order]) == back.content_hash(sha[order[::-1]])
    renamed = open_dataset(tree(tmp_path / "else", {"x": 1, "a": 3, "b": 2}))  # the same files plus one class
    assert renamed.class_names == ("a", "b", "x")
    relabelled = part.labels.copy()
    relabelled[0] = 0
    changed = Dataset(**{**vars(part), "labels": relabelled})
    assert changed.content_hash(sha[order]) != part.content_hash(sha[order])
    other_names = Dataset(**{**vars(part), "class_names": ("a", "c")})
    assert other_names.content_hash(sha[order]) != part.content_hash(sha[order])
    more_names = Dataset(**{**vars(part), "class_names": ("0", "a", "b"), "labels": part.labels + 1})
    assert more_names.content_hash(sha[order]) == part.content_hash(sha[order])


def test_array_store_of_several_blocks() -> None:
    blocks = [X, np.zeros((2, 3, 3, 1), np.uint8)]
    store = ArrayImages(blocks, [str(i) for i in range(8)])
    assert [image.pixels.shape for image in store.sample(np.array([7, 0]))] == [(3, 3, 1), (5, 4, 3)]
    assert [image.gray for image in store.sample(np.array([7, 0]))] == [True, False]
    part = store.subset(np.array([6, 1]))
    np.testing.assert_array_equal(part.sample(np.array([1]))[0].pixels, X[1])
    with pytest.raises(InputError, match="8 images but 1 names"):
        ArrayImages(blocks, ["a"])
    with pytest.raises(InputError, match="uint8"):
        ArrayImages(X.astype(float), ["a"] * 6)  # type: ignore[arg-type]


def test_demo_digits() -> None:
    dataset = open_dataset("demo:digits")
    assert len(dataset) == 1797
    assert dataset.class_names == tuple("0123456789")
    pixels = dataset.images.read(np.arange(1797), ImageFormat(8, 8, 1)).pixels
    assert (pixels.min(), pixels.max(), len(np.unique(pixels))) == (0, 255, 17)
    with pytest.raises(InputError, match="demo:digits"):
        open_dataset("demo:shapes")


# what predict is given


def test_list_sources(tmp_path: Path) -> None:
    tree(tmp_path, {"in/b": 1, "in/a": 2, "in/.hidden": 1})
    (tmp_path / "in" / "notes.txt").write_text("x")
    (tmp_path / ".own.png").write_bytes(b"x")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    inside = [f"{tmp_path}/in/{name}" for name in ("a/000.png", "a/001.png", "b/000.png", "notes.txt")]
    assert list_sources([f"{tmp_path}/in"]) == inside
    given = [f"{tmp_path}/dangling", f"{tmp_path}/.own.png", inside[2], f"{tmp_path}/in", inside[0]]
    assert list_sources(given) == [*given[:2], inside[2], *inside[:2], inside[3]]
    with pytest.raises(InputError, match=r"in/c\.png does not exist"):
        list_sources([inside[0], f"{tmp_path}/in/c.png"])


def test_opening_reads_no_image_and_imports_nothing_heavy(tmp_path: Path) -> None:
    tree(tmp_path, {"a": 2, "b": 2})
    script = (
        "import sys\n"
        "opened = []\n"
        "sys.addaudithook(lambda e, a: opened.append(str(a[0])) if e == 'open' else None)\n"
        "from lastlayer.data.sources import open_dataset\n"
        f"data = open_dataset({str(tmp_path)!r})\n"
        "assert len(data) == 4\n"
        "assert not [name for name in opened if name.endswith('.png')], opened\n"
        "heavy = {'PIL', 'pandas', 'sklearn', 'scipy', 'matplotlib', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "open(data.images.locations(__import__('numpy').arange(1))[0])\n"
        "assert [name for name in opened if name.endswith('.png')]\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(tables.__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_file_images_may_be_absolute(tmp_path: Path) -> None:
    path = png(tmp_path / "a.png", 0)
    store = FileImages(Path("elsewhere"), [str(path)])
    assert store.read(np.arange(1), ImageFormat(6, 6, 3)).readable.all()
