from __future__ import annotations

import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from data_fixtures import Pickle2, idx_bytes
from lastlayer import InputError
from lastlayer.data.dataset import NONE, TEST, TRAIN, Dataset
from lastlayer.data.idx import is_idx_name, read_idx
from lastlayer.data.images import ImageFormat
from lastlayer.data.sources import open_dataset

RNG = np.random.default_rng(0)
TRAIN_IMAGES = RNG.integers(0, 256, (7, 5, 4), dtype=np.uint8)
TRAIN_LABELS = np.array([3, 0, 9, 3, 3, 0, 10], dtype=np.uint8)
TEST_IMAGES = RNG.integers(0, 256, (3, 5, 4), dtype=np.uint8)
TEST_LABELS = np.array([0, 3, 9], dtype=np.uint8)


def write_mnist(root: Path, packed: bool, separator: str = "-") -> Path:
    for name, array in (
        ("train-images-idx3", TRAIN_IMAGES),
        ("train-labels-idx1", TRAIN_LABELS),
        ("t10k-images-idx3", TEST_IMAGES),
        ("t10k-labels-idx1", TEST_LABELS),
    ):
        data = idx_bytes(array)
        file = root / (name.replace("-idx", f"{separator}idx") + "-ubyte" + (".gz" if packed else ""))
        file.write_bytes(gzip.compress(data) if packed else data)
    return root


def pixels(dataset: Dataset, height: int, width: int, channels: int) -> np.ndarray:
    return dataset.images.read(np.arange(len(dataset)), ImageFormat(height, width, channels)).pixels


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("separator", ["-", "."])
def test_mnist_names(tmp_path: Path, packed: bool, separator: str) -> None:
    dataset = open_dataset(write_mnist(tmp_path, packed, separator))
    assert dataset.layout == ("IDX files (gzipped), train/test" if packed else "IDX files, train/test")
    assert dataset.class_names == ("0", "3", "9", "10")
    assert [dataset.class_names[k] for k in dataset.labels] == [*map(str, TRAIN_LABELS), *map(str, TEST_LABELS)]
    assert dataset.given.tolist() == [TRAIN] * 7 + [TEST] * 3
    assert dataset.names[0] == "train#0"
    assert dataset.names[-1] == "test#2"
    np.testing.assert_array_equal(pixels(dataset, 5, 4, 1)[..., 0], np.concatenate([TRAIN_IMAGES, TEST_IMAGES]))
    assert [p.code for p in dataset.problems] == ["LL004"]  # class 10 has no test image


def test_one_pair_is_left_to_be_split(tmp_path: Path) -> None:
    write_mnist(tmp_path, packed=False)
    dataset = open_dataset(tmp_path / "train-images-idx3-ubyte")
    assert (dataset.layout, len(dataset)) == ("IDX files, no splits", 7)
    assert set(dataset.given.tolist()) == {NONE}


def test_the_plain_file_wins_over_the_packed_one(tmp_path: Path) -> None:
    write_mnist(tmp_path, packed=False)
    for file in list(tmp_path.iterdir()):
        Path(f"{file}.gz").write_bytes(b"not gzip")
    assert len(open_dataset(tmp_path)) == 10


def test_plain_files_are_mapped_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a-images-idx3-ubyte"
    path.write_bytes(idx_bytes(np.zeros((1000, 100, 100), np.uint8)))
    tracemalloc.start()
    try:
        array = read_idx(path)
        assert array.shape == (1000, 100, 100)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0, 0] = 1


def test_wide_labels(tmp_path: Path) -> None:
    (tmp_path / "x-images-idx3-ubyte").write_bytes(idx_bytes(TRAIN_IMAGES))
    header = b"\0\0\x0c\x01" + struct.pack(">I", 7)
    (tmp_path / "x-labels-idx1-ubyte").write_bytes(header + struct.pack(">7i", *range(300, 307)))
    assert open_dataset(tmp_path).class_names == tuple(map(str, range(300, 307)))


HEADER = b"\0\0\x08\x03" + struct.pack(">3I", 7, 5, 4)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "not an IDX file"),
        (b"\0\0\x08", "not an IDX file"),
        (b"\x89PNG\r\n", "not an IDX file"),
        (b"\0\0\x0d\x03" + HEADER[4:], "not an IDX file of integers"),
        (HEADER[:9], "ends inside its header"),
        (HEADER + b"x" * 139, "has 155 bytes where its header promises 156"),
        (HEADER + b"x" * 141, "has 157 bytes where its header promises 156"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "promises"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_damage_is_named_before_memory_is_taken(tmp_path: Path, data: bytes, text: str, packed: bool) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(gzip.compress(data) if packed else data)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=text):
            read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_gzip_bomb_and_cut_gzip(tmp_path: Path) -> None:
    path = tmp_path / "train-images-idx3-ubyte.gz"
    header = b"\0\0\x08\x03" + struct.pack(">3I", 60_000, 1000, 1000)
    path.write_bytes(gzip.compress(header + bytes(3_000_000)))
    with pytest.raises(InputError, match="promises 60,000,000,000 unpacked"):
        read_idx(path)
    path.write_bytes(gzip.compress(idx_bytes(TRAIN_IMAGES))[:-9])
    with pytest.raises(InputError, match="cannot be read"):
        read_idx(path)


def test_pairs_that_do_not_fit(tmp_path: Path) -> None:
    write_mnist(tmp_path, packed=False)
    labels = tmp_path / "train-labels-idx1-ubyte"
    labels.write_bytes(idx_bytes(TEST_LABELS))
    with pytest.raises(InputError, match=r"7 images, .* shape \(3,\)"):
        open_dataset(tmp_path)
    labels.unlink()
    with pytest.raises(InputError, match="no labels file"):
        open_dataset(tmp_path)


def test_two_sets_in_one_folder_are_refused(tmp_path: Path) -> None:
    for kind in ("letters", "digits"):
        (tmp_path / f"emnist-{kind}-train-images-idx3-ubyte").write_bytes(idx_bytes(TRAIN_IMAGES))
        (tmp_path / f"emnist-{kind}-train-labels-idx1-ubyte").write_bytes(idx_bytes(TRAIN_LABELS))
    with pytest.raises(InputError, match="several sets"):
        open_dataset(tmp_path)
    assert len(open_dataset(tmp_path / "emnist-letters-train-images-idx3-ubyte")) == 7


def test_idx_names() -> None:
    good = ["train-images-idx3-ubyte", "t10k-labels.idx1-ubyte.gz", "emnist-letters-train-images-idx3-ubyte"]
    assert all(map(is_idx_name, good))
    assert not any(map(is_idx_name, ["train-images.png", "images", "labels.csv", "idx3-ubyte"]))


# CIFAR

PLANES = RNG.integers(0, 256, (4, 3072), dtype=np.uint8)
PICTURES = PLANES.reshape(4, 3, 32, 32).transpose(0, 2, 3, 1)


def write_binary(root: Path, labels: list[int], name: str = "data_batch_1.bin") -> None:
    records = [bytes([label]) + row.tobytes() for label, row in zip(labels, PLANES)]
    (root / name).write_bytes(b"".join(records))


def test_cifar10_binary(tmp_path: Path) -> None:
    (tmp_path / "batches.meta.txt").write_text("airplane\nautomobile\nbird\n\n")
    write_binary(tmp_path, [2, 0, 1, 2])
    write_binary(tmp_path, [0, 0, 0, 2], "data_batch_2.bin")
    write_binary(tmp_path, [1, 1, 0, 2], "test_batch.bin")
    dataset = open_dataset(tmp_path)
    assert dataset.layout == "CIFAR-10, binary version, train/test"
    assert dataset.class_names == ("airplane", "automobile", "bird")
    assert dataset.labels.tolist() == [2, 0, 1, 2, 0, 0, 0, 2, 1, 1, 0, 2]
    assert (dataset.names[7], dataset.names[8]) == ("train#7", "test#0")
    assert len(set(dataset.names)) == 12
    np.testing.assert_array_equal(pixels(dataset, 32, 32, 3)[:4], PICTURES)


def test_cifar100_binary_uses_fine_labels(tmp_path: Path) -> None:
    (tmp_path / "fine_label_names.txt").write_text("apple\nbee\ncow")
    (tmp_path / "coarse_label_names.txt").write_text("fruit\nanimal")
    for name in ("train.bin", "test.bin"):
        (tmp_path / name).write_bytes(b"".join(bytes([9, i % 3]) + row.tobytes() for i, row in enumerate(PLANES)))
    dataset = open_dataset(tmp_path)
    assert dataset.layout == "CIFAR-100, binary version, train/test"
    assert dataset.class_names == ("apple", "bee", "cow")
    assert dataset.labels.tolist() == [0, 1, 2, 0] * 2
    np.testing.assert_array_equal(pixels(dataset, 32, 32, 3)[4:], PICTURES)


def test_cifar_binary_damage(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1.bin").write_bytes(bytes(3072))
    with pytest.raises(InputError, match="not a multiple of 3,073"):
        open_dataset(tmp_path)
    (tmp_path / "batches.meta.txt").write_text("airplane\n")
    write_binary(tmp_path, [0, 1, 0, 0])
    with pytest.raises(InputError, match="label 1, but there are 1 class names"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
def test_cifar10_python(tmp_path: Path, core: str) -> None:
    writer = Pickle2(core)
    batch = {b"data": PLANES, b"labels": [1, 0, 1, 0], b"filenames": [b"a_s_000004.png"] * 4}
    (tmp_path / "data_batch_1").write_bytes(writer.dumps(batch))
    (tmp_path / "test_batch").write_bytes(Pickle2(core).dumps(batch))
    (tmp_path / "batches.meta").write_bytes(Pickle2().dumps({b"label_names": [b"cat", b"dog"]}))
    (tmp_path / "readme.html").write_text("")
    dataset = open_dataset(tmp_path)
    assert dataset.layout == "CIFAR-10, python version, train/test"
    assert dataset.class_names == ("cat", "dog")
    assert dataset.labels.tolist() == [1, 0, 1, 0] * 2
    np.testing.assert_array_equal(pixels(dataset, 32, 32, 3)[:4], PICTURES)


def test_cifar100_python(tmp_path: Path) -> None:
    batch = {b"data": PLANES, b"fine_labels": [1, 0, 1, 0], b"coarse_labels": [0, 0, 0, 0]}
    for name in ("train", "test"):
        (tmp_path / name).write_bytes(Pickle2().dumps(batch))
    (tmp_path / "meta").write_bytes(Pickle2().dumps({b"fine_label_names": [b"ant", b"bee"]}))
    dataset = open_dataset(tmp_path)
    assert dataset.layout == "CIFAR-100, python version, train/test"
    assert dataset.class_names == ("ant", "bee")


@pytest.mark.parametrize(
    ("batch", "text"),
    [
        ([1], "no dictionary"),
        ({b"labels": [1]}, "no uint8 array 'data'"),
        ({b"data": PLANES[:, :10], b"labels": [1, 1, 1, 1]}, "no uint8 array 'data'"),
        ({b"data": PLANES, b"labels": [1]}, "no list 'labels' of 4"),
        ({b"data": PLANES, b"labels": [b"1", 1, 1, 1]}, "no list 'labels' of 4"),
    ],
)
def test_cifar_python_of_another_shape(tmp_path: Path, batch: object, text: str) -> None:
    (tmp_path / "data_batch_1").write_bytes(Pickle2().dumps(batch))
    with pytest.raises(InputError, match=text):
        open_dataset(tmp_path)


def test_a_planted_pickle_is_refused_and_does_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "hacked"
    attack = b"\x80\x02cposix\nsystem\nX" + struct.pack("<I", len(f"touch {mark}")) + f"touch {mark}".encode()
    (tmp_path / "data_batch_1").write_bytes(attack + b"\x85R.")
    with pytest.raises(InputError, match=r"posix\.system") as caught:
        open_dataset(tmp_path)
    assert caught.value.code == "LL012"
    assert not mark.exists()
