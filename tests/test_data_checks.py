from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from data_fixtures import png, tree
from lastlayer._codes import CODES, Problem
from lastlayer.data.checks import alteration_counts, check_dataset
from lastlayer.data.dataset import NONE, TEST, TRAIN, VAL, ArrayImages, Dataset, FileImages
from lastlayer.data.decoding import Decoded
from lastlayer.data.images import ImageFormat
from lastlayer.data.name_groups import suggest_groups
from lastlayer.data.sources import open_dataset
from lastlayer.data.splits import Split, make_split


def dataset_of(labels: object, names: list[str] | None = None, **fields: object) -> Dataset:
    y = np.asarray(labels, np.int32)
    n = len(y)
    names = names or [f"c{k}/{i:04d}.png" for i, k in enumerate(y.tolist())]
    values: dict[str, object] = {
        "source": "x",
        "layout": "class folders",
        "images": FileImages(Path("x"), names),
        "names": names,
        "labels": y,
        "class_names": tuple(f"c{k}" for k in range(int(y.max()) + 1)),
        "given": np.zeros(n, np.uint8),
    }
    return Dataset(**{**values, **fields})  # type: ignore[arg-type]


def decoded_of(contents: object, refusals: dict[int, tuple[str, str]] | None = None) -> Decoded:
    sha = np.stack([np.frombuffer(hashlib.sha256(str(c).encode()).digest(), np.uint8) for c in contents])  # type: ignore[attr-defined]
    n = len(sha)
    readable = np.ones(n, bool)
    readable[list(refusals or {})] = False
    return Decoded(
        pixels=np.zeros((n, 1, 1, 1), np.uint8),
        sha256=sha,
        sizes=np.ones((n, 2), np.int32),
        readable=readable,
        alterations={"rotated": np.array([0]), "alpha": np.array([0, 1]), "cmyk": np.array([], int)},
        refusals=refusals or {},
    )


def check(dataset: Dataset, decoded: Decoded) -> tuple[dict[str, Problem], Split]:
    split, _ = make_split(
        dataset.labels,
        decoded.sha256,
        given=dataset.given,
        groups=dataset.groups,
        readable=decoded.readable,
    )
    problems = check_dataset(dataset, decoded, split)
    assert len({p.code for p in problems}) == len(problems), problems
    assert [p.code for p in problems] == sorted(p.code for p in problems)
    assert all("\n" not in p.line() for p in problems)
    return {p.code: p for p in problems}, split


def test_clean_data_has_no_problem() -> None:
    problems, _ = check(dataset_of([0] * 50 + [1] * 50), decoded_of(range(100)))
    assert problems == {}


def test_refused_files_are_all_named_with_reason_and_mend() -> None:
    names = [f"a/{i}.png" for i in range(40)]
    names[3], names[5] = "a/line\nbreak.png", "a/\udcff.png"
    refusals = {5: ("truncated", "Copy it again"), 3: ("empty", ""), 7: ("truncated", "Copy it again")}
    problems, split = check(dataset_of([0] * 20 + [1] * 20, names), decoded_of(range(40), refusals))
    found = problems["LL003"]
    assert found.message == "3 of 40 files cannot be used (2 truncated, 1 empty)"
    assert found.files == ("a/line\\x0abreak.png", "a/\\xff.png", "a/7.png")
    assert found.details == ("empty", "truncated: Copy it again", "truncated: Copy it again")
    assert (split.side[[3, 5, 7]] == NONE).all()


def test_copies_and_conflicting_labels() -> None:
    labels = [0] * 20 + [1] * 20
    contents = list(range(40))
    contents[1] = contents[0]
    contents[25] = contents[3]
    contents[30] = contents[3]
    problems, split = check(dataset_of(labels), decoded_of(contents))
    assert set(problems) == {"LL006", "LL007"}
    conflict, copies = problems["LL006"], problems["LL007"]
    assert conflict.files == ("c0/0003.png", "c1/0025.png", "c1/0030.png")
    assert conflict.details == ("c0 (dup_group 1)", "c1 (dup_group 1)", "c1 (dup_group 1)")
    assert "3 images in 1 group" in conflict.message
    assert copies.files == ("c0/0000.png", "c0/0001.png", *conflict.files)
    assert "5 images are copies of each other (2 groups)" in copies.message
    assert len({int(split.side[row]) for row in (3, 25, 30)}) == 1


def test_given_sides_that_share_images() -> None:
    given = np.array([TRAIN] * 30 + [TEST] * 10, np.uint8)
    contents = list(range(40))
    contents[3] = contents[39]
    labels = [0, 1] * 20
    problems, split = check(dataset_of(labels, given=given), decoded_of(contents))
    assert set(problems) == {"LL008"}
    assert problems["LL008"].files == ("c1/0003.png",)
    assert problems["LL008"].details == ("same as c1/0039.png",)
    assert (split.side[3], split.side[39]) == (NONE, TEST)


def test_given_sides_that_share_groups() -> None:
    given = np.array([TRAIN] * 20 + [VAL] * 10 + [TEST] * 10, np.uint8)
    groups = np.full(40, -1, np.int32)
    groups[[0, 25]], groups[[1, 2]] = 0, 1
    dataset = dataset_of([0, 1] * 20, given=given, groups=groups, group_names=("patient 7", "patient 8"))
    problems, split = check(dataset, decoded_of(range(40)))
    assert problems["LL008"].files == ("patient 7",)
    assert split.side.tolist() == given.tolist()


@pytest.mark.parametrize(("size", "reported"), [(1, True), (2, True), (3, False)])
def test_small_classes(size: int, reported: bool) -> None:
    problems, _ = check(dataset_of([0] * 20 + [1] * size), decoded_of(range(20 + size)))
    assert ("LL009" in problems) == reported
    if reported:
        assert problems["LL009"].files == ("c1",)
        assert problems["LL009"].details == (f"{size} different",)
        assert problems["LL022"].files == ("c1",)
        assert problems["LL022"].details == ({1: "none in val and test", 2: "none in val"}[size],)


def test_copies_do_not_make_a_class_large() -> None:
    contents = [*range(20), *[99] * 10]
    problems, _ = check(dataset_of([0] * 20 + [1] * 10), decoded_of(contents))
    assert problems["LL009"].details == ("1 different",)


def test_small_classes_are_nothing_to_a_given_split() -> None:
    given = np.array([TRAIN, VAL, TEST] * 10 + [TRAIN, TEST, VAL], np.uint8)
    problems, _ = check(dataset_of([0] * 30 + [1] * 3, given=given), decoded_of(range(33)))
    assert "LL009" not in problems


def test_imbalance() -> None:
    quiet, _ = check(dataset_of([0] * 100 + [1] * 10), decoded_of(range(110)))
    assert "LL010" not in quiet
    loud, _ = check(dataset_of([0] * 101 + [1] * 10), decoded_of(range(111)))
    assert loud["LL010"].message == "c0 has 101 images, c1 10 (10 to 1)"


def test_a_class_whose_only_test_files_are_broken_is_absent() -> None:
    given = np.array([TRAIN] * 8 + [TEST] * 4, np.uint8)
    dataset = dataset_of([0, 1] * 4 + [0, 0, 0, 1], given=given)
    problems, _ = check(dataset, decoded_of(range(12), {11: ("empty", "")}))
    assert problems["LL022"].files == ("c1",)
    assert problems["LL022"].details == ("none in test",)


def test_classes_that_listing_found_missing_are_reported_once() -> None:
    given = np.array([TRAIN] * 40 + [TEST] * 3, np.uint8)
    problems, _ = check(dataset_of([0, 1] * 20 + [0, 0, 0], given=given), decoded_of(range(43)))
    assert "LL022" not in problems


# LL011

PLAIN = {
    "digits": lambda k, i: f"{k}/{i}.png",
    "padded": lambda k, i: f"{k}/{i:04d}.png",
    "split": lambda k, i: f"train/{k}/{i:04d}.png",
    "camera": lambda k, i: f"{k}/IMG_{i:04d}.JPG",
    "class name": lambda k, i: f"class{k}/class{k}_{i}.jpg",
    "phone": lambda k, i: f"{k}/IMG_20240{1 + i % 9}1{i % 10}_{100000 + 7 * i}.jpg",
    "imagenet": lambda k, i: f"n0{k}/n0{k}_{10000 + i}.JPEG",
    "hashes": lambda k, i: f"{k}/{hashlib.sha256(f'{k}{i}'.encode()).hexdigest()[:20]}_n.jpg",
    "subclasses": lambda k, i: f"{k}/{'abcd'[i % 4]}{'xyz'[k]}_{i:03d}.jpg",
    "folders by side": lambda k, i: f"{('train', 'val', 'test')[i % 3]}/{k}/{i}.png",
    "few folders": lambda k, i: f"{k}/{'ab'[i % 2]}/{i}.png",
}
GROUPED = {
    "patients": (lambda k, i: f"{k}/p{k}{i // 5:03d}_{i % 5}.png", "p0000"),
    "dashes": (lambda k, i: f"{k}/scan-{k}-{i // 4}-{i % 4}.tif", "scan-0-0"),
    "brackets": (lambda k, i: f"{k}/holiday{k}{i // 3} ({i % 3}).jpg", "holiday00"),
    "people": (lambda k, i: f"{k}/{'abcdefghij'[i // 3 % 10]}{'klmnopqrst'[i // 30]}{k}x_{i % 3:04d}.jpg", "ak0x"),
    "words": (lambda k, i: f"{k}/{'abcdefghij'[i // 3 % 10]}{'klm'[k]}{'pqrst'[i // 30]}_{i % 3}.jpg", "akp"),
    "subfolders": (lambda k, i: f"{k}/case{i // 6}/x{hashlib.md5(bytes([k, i])).hexdigest()}.png", "0/case0"),
}


def named(make: object, per_class: int = 120) -> Dataset:
    labels = np.repeat(np.arange(3), per_class)
    return dataset_of(labels, [make(k, i) for k in range(3) for i in range(per_class)])  # type: ignore[operator]


@pytest.mark.parametrize("style", PLAIN)
def test_plain_numbering_is_silent(style: str) -> None:
    dataset = named(PLAIN[style])
    assert suggest_groups(dataset) is None


@pytest.mark.parametrize("style", GROUPED)
def test_names_of_groups_are_noticed_and_the_pattern_works(style: str, tmp_path: Path) -> None:
    make, example = GROUPED[style]
    dataset = named(make)
    problems, _ = check(dataset, decoded_of(range(len(dataset))))
    found = problems["LL011"]
    assert repr(example) in found.message
    pattern = found.mend.split("'")[1]
    for name in dataset.names:
        png(tmp_path / name, 0)
    grouped = open_dataset(tmp_path, group_by=pattern)
    assert grouped.groups is not None
    assert (np.bincount(grouped.groups) > 1).all()
    assert f"look like {len(grouped.group_names)} groups" in found.message
    again, _ = check(grouped, decoded_of(range(len(dataset))))
    assert "LL011" not in again


def test_arrays_have_no_file_names() -> None:
    names = [f"p{i // 5}_{i % 5}.png" for i in range(100)]
    store = ArrayImages(np.zeros((100, 1, 1, 1), np.uint8), names)
    assert suggest_groups(dataset_of([0, 1] * 50, names, images=store)) is None


# all of it on files


def test_alterations_are_counted() -> None:
    assert alteration_counts(decoded_of(range(3))) == {"alpha": 2, "rotated": 1}


def test_a_dirty_folder_end_to_end(tmp_path: Path) -> None:
    tree(tmp_path, {"cat": 30, "dog": 30})
    (tmp_path / "cat" / "empty.png").write_bytes(b"")
    (tmp_path / "cat" / "text.txt").write_text("hello")
    (tmp_path / "dog" / "cut.png").write_bytes((tmp_path / "dog" / "000.png").read_bytes()[:-30])
    (tmp_path / "dog" / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "dog" / "copy.png").write_bytes((tmp_path / "cat" / "000.png").read_bytes())
    dataset = open_dataset(tmp_path)
    decoded = dataset.images.read(np.arange(len(dataset)), ImageFormat(6, 6, 3))
    problems, split = check(dataset, decoded)
    assert set(problems) == {"LL003", "LL006", "LL007"}
    reasons = dict(zip(problems["LL003"].files, (d.split(":")[0] for d in problems["LL003"].details)))
    assert set(reasons) == {"cat/empty.png", "cat/text.txt", "dog/cut.png", "dog/gone.png"}
    assert reasons["cat/empty.png"] == "empty"
    assert problems["LL006"].files == ("cat/000.png", "dog/copy.png")
    assert (split.side > NONE).sum() == 61


def test_every_code_used_is_in_the_table() -> None:
    assert {"LL003", "LL006", "LL007", "LL008", "LL009", "LL010", "LL011", "LL022"} <= set(CODES)
