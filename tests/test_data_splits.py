from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_fixtures import tree
from lastlayer import InputError
from lastlayer.data.apportion import deal, fill, mix, quotas
from lastlayer.data.dataset import NONE, TEST, TRAIN, VAL, ArrayImages, Dataset
from lastlayer.data.sources import open_dataset
from lastlayer.data.splits import Split, make_split, read_split

SIDES = (TRAIN, VAL, TEST)


def digests(contents: object) -> np.ndarray:
    """SHA-256 of each content, (N, 32)."""
    rows = [np.frombuffer(hashlib.sha256(str(c).encode()).digest(), np.uint8) for c in contents]  # type: ignore[attr-defined]
    return np.stack(rows) if rows else np.zeros((0, 32), np.uint8)


def split_of(
    labels: object,
    contents: object = None,
    *,
    given: object = None,
    groups: object = None,
    readable: object = None,
    **options: object,
) -> Split:
    y = np.asarray(labels, dtype=np.int32)
    n = len(y)
    split, problems = make_split(
        y,
        digests(range(n) if contents is None else contents),
        given=np.zeros(n, np.uint8) if given is None else np.asarray(given, np.uint8),
        groups=None if groups is None else np.asarray(groups, np.int32),
        readable=np.ones(n, bool) if readable is None else np.asarray(readable, bool),
        **options,  # type: ignore[arg-type]
    )
    assert problems == ()
    return split


def counts(split: Split, labels: object) -> list[list[int]]:
    """Images of each class on each side, [train, val, test] per class."""
    y = np.asarray(labels)
    return [[int(((split.side == s) & (y == k)).sum()) for s in SIDES] for k in range(y.max() + 1)]


# quotas of single images


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (1, [1, 0, 0]),
        (2, [1, 0, 1]),
        (3, [1, 1, 1]),
        (4, [2, 1, 1]),
        (6, [4, 1, 1]),
        (10, [7, 1, 2]),
        (20, [14, 3, 3]),
        (100, [70, 15, 15]),
        (107, [75, 16, 16]),
    ],
)
def test_each_class_is_stratified_exactly(size: int, expected: list[int]) -> None:
    labels = [0] * size + [1] * 40
    assert counts(split_of(labels), labels) == [expected, [28, 6, 6]]


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=5),
    shares=st.sampled_from([(0.7, 0.15, 0.15), (0.8, 0.0, 0.2), (0.9, 0.1, 0.0), (1.0, 0.0, 0.0), (0.34, 0.33, 0.33)]),
    seed=st.integers(0, 2**40),
)
def test_shares_hold_for_every_class_to_one_image(sizes: list[int], shares: tuple[float, ...], seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    found = np.array(counts(split_of(labels, fractions=shares, seed=seed), labels))
    assert found.sum(axis=1).tolist() == sizes
    zero = np.array(shares) == 0
    for row, ideal, size in zip(found, np.outer(sizes, shares), sizes):
        assert (row[zero] == 0).all()
        assert row[0] >= 1
        if size >= 3:
            assert (abs(row - ideal)[1:] <= 1).all()
            assert (row[~zero] >= 1).all()


def test_names_and_order_of_files_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    labels, contents = rng.integers(0, 4, 300), rng.integers(0, 250, 300)
    groups = np.where(rng.random(300) < 0.5, rng.integers(0, 40, 300), -1)
    split = split_of(labels, contents, groups=groups)
    order = rng.permutation(300)
    relabelled_groups = np.where(groups >= 0, 39 - groups, -1)
    again = split_of(labels[order], contents[order], groups=relabelled_groups[order])
    assert (again.side == split.side[order]).all()


def test_seeds_differ_and_repeat() -> None:
    labels = [0] * 200
    first, again, other = (split_of(labels, seed=s).side for s in (0, 0, 1))
    assert (first == again).all()
    assert 20 < (first != other).sum() < 150


def test_nothing_readable_or_labelled_is_not_an_error() -> None:
    assert split_of([0, 1], readable=[False, False]).side.tolist() == [NONE, NONE]
    assert split_of([-1, -1]).side.tolist() == [NONE, NONE]
    assert split_of([]).side.tolist() == []


def test_unreadable_and_unlabelled_rows_are_left_out_of_the_quotas() -> None:
    labels = np.array([0] * 20 + [-1] * 20 + [0] * 20)
    split = split_of(labels, readable=[True] * 40 + [False] * 20)
    assert np.bincount(split.side[:20], minlength=4).tolist() == [0, 14, 3, 3]
    assert not split.side[20:].any()
    assert (split.unit[20:] == -1).all()


@pytest.mark.parametrize("shares", [(0.5, 0.2, 0.2), (0, 0.5, 0.5), (1.2, -0.1, -0.1), (float("nan"), 0, 1)])
def test_shares_that_are_no_shares(shares: tuple[float, float, float]) -> None:
    with pytest.raises(InputError, match="shares of train, val and test"):
        split_of([0] * 10, fractions=shares)


# what stays together


def units_are_whole(split: Split, ties: object) -> bool:
    """Rows of one tie (not negative) are all on one side."""
    tie = np.asarray(ties)
    used = split.side > NONE
    return all(len(set(split.side[(tie == t) & used].tolist())) == 1 for t in set(tie[(tie >= 0) & used].tolist()))


def test_copies_and_groups_stay_together_even_through_each_other() -> None:
    contents = [0, 1, 1, 2, 3, 4, *range(10, 40)]
    groups = [0, 0, 1, 1, 2, 2] + [-1] * 30
    split = split_of([0] * 36, contents, groups=groups)
    assert len(set(split.side[:4].tolist())) == 1  # group 0 and group 1 share an image
    assert len(set(split.unit[:4].tolist())) == 1
    assert split.dup_group.tolist() == [-1, 0, 0] + [-1] * 33


@settings(derandomize=True, max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), n_groups=st.integers(2, 60), copies=st.floats(0, 0.5))
def test_units_are_never_torn(seed: int, n_groups: int, copies: float) -> None:
    rng = np.random.default_rng(seed)
    n = 200
    labels = rng.integers(0, 3, n)
    contents = np.where(rng.random(n) < copies, rng.integers(0, n, n), np.arange(n))
    groups = np.where(rng.random(n) < 0.7, rng.integers(0, n_groups, n), -1)
    split = split_of(labels, contents, groups=groups, seed=seed)
    assert units_are_whole(split, contents)
    assert units_are_whole(split, groups)
    assert units_are_whole(split, split.unit)
    assert (split.side > NONE).all()


def test_groups_are_spread_over_sides_by_class() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(300), rng.integers(1, 12, 300))
    labels = rng.integers(0, 3, 300)[groups]
    found = np.array(counts(split_of(labels, groups=groups), labels))
    np.testing.assert_allclose(found / found.sum(axis=1, keepdims=True), [[0.7, 0.15, 0.15]] * 3, atol=0.02)


@pytest.mark.parametrize(("n_groups", "expected"), [(1, [1, 0, 0]), (2, [1, 0, 1]), (3, [1, 1, 1]), (5, [3, 1, 1])])
def test_few_large_groups_still_reach_every_side(n_groups: int, expected: list[int]) -> None:
    labels = [0] * 20 * n_groups + [1] * 100
    groups = [*np.repeat(np.arange(n_groups), 20), *[-1] * 100]
    split = split_of(labels, groups=groups)
    first = np.bincount(split.side[: 20 * n_groups : 20], minlength=4)[1:]
    assert first.tolist() == expected


def test_one_large_group_goes_to_training() -> None:
    groups = [0] * 60 + [-1] * 40
    split = split_of([0] * 100, groups=groups)
    assert set(split.side[:60].tolist()) == {TRAIN}
    assert np.bincount(split.side).tolist() == [0, 70, 15, 15]


def test_identical_images_with_different_labels_share_a_side() -> None:
    labels = [0, 1] + [0] * 20 + [1] * 20
    split = split_of(labels, [7, 7, *range(100, 140)])
    assert split.side[0] == split.side[1] > NONE
    assert split.dup_group[:2].tolist() == [0, 0]


# sides that the source gives


def test_given_test_is_kept_and_validation_drawn_from_train() -> None:
    given = [TRAIN] * 100 + [TEST] * 50
    split = split_of([0] * 150, given=given)
    assert (split.side[100:] == TEST).all()
    assert np.bincount(split.side[:100]).tolist() == [0, 85, 15]
    assert split.how == "given train/test; val 15% of the rest, stratified, seed 0"


def test_given_validation_is_kept_and_test_drawn() -> None:
    split = split_of([0] * 150, given=[TRAIN] * 100 + [VAL] * 50)
    assert np.bincount(split.side[:100]).tolist() == [0, 85, 0, 15]
    assert (split.side[100:] == VAL).all()


def test_all_given_is_all_kept() -> None:
    given = [TRAIN, TRAIN, VAL, TEST] * 10
    split = split_of([0, 1] * 20, given=given)
    assert split.side.tolist() == given
    assert split.how == "given train/val/test"
    alone = split_of([0, 1], given=[TEST, TEST])
    assert (alone.side.tolist(), alone.how) == ([TEST, TEST], "given test")


def test_copies_of_held_out_images_leave_training() -> None:
    #          train copy of test, of val, val copy of test, undecided copy of test, own
    contents = [1, 2, 1, 1, 1, 2, *range(10, 30)]
    given = [TRAIN, TRAIN, VAL, NONE, TEST, VAL] + [TRAIN] * 20
    split = split_of([0] * 26, contents, given=given)
    assert split.side[:6].tolist() == [NONE, NONE, NONE, TEST, TEST, VAL]


def test_blank_rows_of_a_partly_split_source() -> None:
    groups = [0, 0, 0] + [-1] * 20
    split = split_of([0] * 23, given=[TEST, NONE, TRAIN] + [NONE] * 20, groups=groups)
    assert split.side[:3].tolist() == [TEST, TEST, TRAIN]  # joins its group; what was given stays
    assert np.bincount(split.side[3:], minlength=4)[[NONE, TEST]].tolist() == [0, 0]


def test_nothing_to_train_on() -> None:
    with pytest.raises(InputError, match="nothing is left to train on"):
        split_of([0, 0], [1, 1], given=[TRAIN, TEST])


# earlier splits


def previous_of(split: Split, contents: object) -> dict[str, int]:
    return {row.tobytes().hex(): int(side) for row, side in zip(digests(contents), split.side)}


def test_files_keep_their_side_when_others_come_and_go() -> None:
    labels = np.arange(300) % 3
    split = split_of(labels)
    more = np.arange(500) % 3
    grown, _ = make_split(
        more.astype(np.int32),
        digests(range(500)),
        given=np.zeros(500, np.uint8),
        groups=None,
        readable=np.ones(500, bool),
        previous=previous_of(split, range(300)),
    )
    assert (grown.side[:300] == split.side).all()
    np.testing.assert_allclose(np.bincount(grown.side)[1:] / 500, [0.7, 0.15, 0.15], atol=0.01)
    assert grown.how.endswith("300 images keep an earlier side")
    half = np.arange(0, 300, 2)
    shrunk = split_of(labels[half], half, previous=previous_of(split, range(300)))
    assert (shrunk.side == split.side[half]).all()


def test_an_earlier_side_is_found_by_name_when_the_content_changed() -> None:
    previous = {f"a/{i}.png": TEST for i in range(5)}
    split = split_of([0] * 40, names=[f"a/{i}.png" for i in range(40)], previous=previous)
    assert (split.side[:5] == TEST).all()


def test_new_ties_move_files_towards_the_held_out_side() -> None:
    labels = np.zeros(40, np.int32)
    earlier = {digests([i])[0].tobytes().hex(): side for i, side in enumerate([TRAIN, VAL, TEST, TRAIN])}
    groups = np.array([0, 0, 1, 1] + [-1] * 36, np.int32)
    split, problems = make_split(
        labels,
        digests(range(40)),
        given=np.zeros(40, np.uint8),
        groups=groups,
        readable=np.ones(40, bool),
        previous=earlier,
        names=[f"{i}.png" for i in range(40)],
    )
    assert split.side[:4].tolist() == [VAL, VAL, TEST, TEST]
    assert [(p.code, p.files) for p in problems] == [("LL007", ("0.png", "3.png"))]


def test_earlier_sides_that_are_now_given_are_forgotten() -> None:
    previous = previous_of(split_of([0] * 50), range(50))
    split = split_of([0] * 60, given=[TRAIN] * 50 + [TEST] * 10, previous=previous)
    assert not (split.side[:50] == TEST).any()


# the file


def test_split_csv_round_trip_with_odd_names(tmp_path: Path) -> None:
    names = ["a/1.png", 'ü, "quoted".png', "line\nbreak.png", "re\rturn.png", "\udcff.png", " space.png ", "x.png"]
    labels = np.array([0, 1, 0, 1, 0, 1, -1], np.int32)
    sha = digests(range(7))
    sha[6] = 0
    store = ArrayImages(np.zeros((7, 2, 2, 1), np.uint8), names)
    dataset = Dataset(
        *("x", "x", store, names, labels, ("cat", "dog, big"), np.zeros(7, np.uint8)),
        groups=np.array([0, 0, -1, 1, -1, -1, -1], np.int32),
        group_names=("p 1", "p,2"),
    )
    side = np.array([TRAIN, TRAIN, VAL, TEST, TEST, TRAIN, NONE], np.uint8)
    dup = np.array([-1, -1, 0, -1, 0, -1, -1], np.int32)
    Split(side, dup, 0, "", dup).save(tmp_path / "split.csv", dataset, sha)
    text = (tmp_path / "split.csv").read_bytes().decode("utf-8", "surrogateescape").split("\r\n")
    assert text[0] == "path,label,split,group,sha256,dup_group"
    assert text[1] == f"a/1.png,cat,train,p 1,{sha[0].tobytes().hex()},"
    assert text[-2] == "x.png,,,,,"
    sides = read_split(tmp_path / "split.csv")
    assert {name: sides.get(name, NONE) for name in names} == dict(zip(names, side.tolist()))
    assert {sides[row.tobytes().hex()] for row in sha[:2]} == {TRAIN}
    again = split_of(labels[:6], range(6), previous=sides)
    assert again.side.tolist() == side[:6].tolist()


def test_hand_written_split_files(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("Split,path,note\nValidation,a.png,x\n,b.png,y\nTEST,c.png,z\n", "utf-8-sig")
    assert read_split(path) == {"a.png": VAL, "c.png": TEST}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na,b\n", "columns split, and sha256 or path, are needed"),
        ("split\ntrain\n", "columns split, and sha256 or path, are needed"),
        ("path,split\na,train\nb,hold-out\n", "line 3: split is 'hold-out'"),
        ("path,split\na,train\nb,val\na,test\n", "line 4: a is in test, but in train on line 2"),
        ("sha256,split\n" + "0" * 63 + ",train\n", "line 2: sha256 is"),
        ("", "is empty"),
    ],
)
def test_nonsense_in_split_files_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "split.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_split(tmp_path / "split.csv")
    with pytest.raises(InputError, match="cannot be read"):
        read_split(tmp_path / "missing.csv")


def test_a_real_folder_keeps_its_split_through_the_file(tmp_path: Path) -> None:
    from lastlayer.data.images import ImageFormat

    def read(root: Path) -> tuple[Dataset, np.ndarray]:
        dataset = open_dataset(root)
        return dataset, dataset.images.read(np.arange(len(dataset)), ImageFormat(6, 6, 3)).sha256

    root = tree(tmp_path / "data", {"cat": 20, "dog": 20})
    dataset, sha = read(root)
    split = split_of(dataset.labels, None)
    first, _ = make_split(dataset.labels, sha, given=dataset.given, groups=None, readable=np.ones(40, bool), seed=3)
    first.save(tmp_path / "split.csv", dataset, sha)
    (root / "cat" / "000.png").rename(root / "cat" / "zzz.png")
    tree(root / "new", {"bird": 10}, first=100)
    (root / "new" / "bird").rename(root / "bird")
    (root / "new").rmdir()
    grown, grown_sha = read(root)
    second, _ = make_split(
        grown.labels,
        grown_sha,
        given=grown.given,
        groups=None,
        readable=np.ones(50, bool),
        seed=99,
        previous=read_split(tmp_path / "split.csv"),
    )
    before = {row.tobytes(): side for row, side in zip(sha, first.side.tolist())}
    assert len(split.side) == 40
    kept = [
        before[row.tobytes()] == side for row, side in zip(grown_sha, second.side.tolist()) if row.tobytes() in before
    ]
    assert (len(kept), all(kept)) == (40, True)
    assert counts(second, grown.labels)[0] == [7, 1, 2]


# pieces


def test_fill_is_exact_and_proportional() -> None:
    need = fill(np.array([[7, 2, 1], [10, -3, 3], [-1, -1, -1]]), np.array([10, 8, 4]))
    assert need.sum(axis=1).tolist() == [10, 8, 4]
    assert need[0].tolist() == [7, 2, 1]
    assert need[1].tolist() == [6, 0, 2]


def test_deal_follows_the_keys() -> None:
    key = np.array([5, 1, 4, 2, 3], np.uint64)
    dealt = deal(np.zeros(5, np.int64), key, np.array([[2, 1, 2]]))
    assert dealt.tolist() == [0, 2, 0, 2, 1]


def test_quotas_of_small_classes_prefer_train_then_test() -> None:
    # 50 rows in one, two or three units; train, test, validation
    found = quotas(np.full(3, 50), np.array([1, 2, 3]), np.array([0.7, 0.15, 0.15]))
    assert found[0].tolist() == [50, 0, 0]
    assert (found[1] > 0).tolist() == [True, True, False]
    assert (found[2] > 0).all()


def test_mix_depends_on_every_bit_of_the_seed() -> None:
    words = np.arange(1000, dtype=np.uint64)
    assert len(np.unique(mix(words, 0))) == 1000
    assert (mix(words, 0) != mix(words, 2**40)).all()
