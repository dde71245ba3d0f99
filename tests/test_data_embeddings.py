"""Embeddings from every format: read without a copy, joined by id, and refused by name."""

from __future__ import annotations

import builtins
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from lastlayer import InputError
from lastlayer.data import embedding_formats
from lastlayer.data.embedding_formats import open_arrays, widen_bfloat16
from lastlayer.data.embeddings import as_embeddings, normalise, read_embeddings, refuse_outputs, take

N, D = 30, 5


@pytest.fixture
def X() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(N, D))


@pytest.fixture
def y() -> np.ndarray:
    return np.arange(N) % 3


def write_table(path: Path, header: str, rows: list[tuple[object, ...]], separator: str = ",") -> Path:
    lines = [header, *(separator.join(str(cell) for cell in row) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def raw_safetensors(path: Path, header: dict[str, Any] | bytes, data: bytes) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def is_on_disk(array: np.ndarray) -> bool:
    """Whether the memory belongs to a file and not to a copy."""
    base: Any = array
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    return isinstance(base, np.memmap) or type(base).__name__ in ("mmap", "memoryview")


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8"])
def test_npy_is_mapped_and_keeps_its_type(tmp_path: Path, X: np.ndarray, y: np.ndarray, dtype: str) -> None:
    given = (X * 20 + 100).astype(dtype)
    np.save(tmp_path / "x.npy", given)
    np.save(tmp_path / "y.npy", y)
    found = read_embeddings(str(tmp_path / "x.npy"), "train", labels=str(tmp_path / "y.npy"))
    assert found.X.dtype == dtype and is_on_disk(found.X)
    np.testing.assert_array_equal(found.X, given)
    assert found.labels[:4] == ("0", "1", "2", "0")
    assert [problem.code for problem in found.problems] == ["LL031"]
    assert found.shape() == f"{N}×{D} {dtype}"


def test_npz_finds_usual_names_and_takes_named_ones(tmp_path: Path, X: np.ndarray, y: np.ndarray) -> None:
    np.savez_compressed(tmp_path / "e.npz", embeddings=X, other=X + 1, label=y, kind=y % 2)
    path = str(tmp_path / "e.npz")
    usual = read_embeddings(path, "train")
    np.testing.assert_array_equal(usual.X, X)
    assert not usual.problems, "labels of the same file need no alignment"
    named = read_embeddings(path, "train", x="other", y="kind")
    np.testing.assert_array_equal(named.X, X + 1)
    assert set(named.labels) == {"0", "1"}
    with pytest.raises(InputError, match=r"--x 'otter' is not in e\.npz.*Did you mean 'other'"):
        read_embeddings(path, "train", x="otter")


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64", "uint8"])
def test_safetensors_agrees_with_the_reference_writer(tmp_path: Path, X: np.ndarray, dtype: str) -> None:
    given = (X * 10).astype(dtype)
    save_file({"a": np.arange(3), "feats": given, "y": np.arange(N) % 2}, tmp_path / "f.safetensors")
    found = read_embeddings(str(tmp_path / "f.safetensors"), "train", x="feats")
    np.testing.assert_array_equal(found.X, given)
    assert found.X.dtype == dtype and is_on_disk(found.X)


def test_bfloat16_becomes_float32(tmp_path: Path, X: np.ndarray) -> None:
    exact = widen_bfloat16((X.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16))
    bits = (exact.view(np.uint32) >> 16).astype("<u2").tobytes()
    header = {"x": {"dtype": "BF16", "shape": [N, D], "data_offsets": [0, len(bits)]}}
    file = open_arrays(str(raw_safetensors(tmp_path / "b.safetensors", header, bits)))
    loaded = file.load("x")
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded, exact)
    np.testing.assert_allclose(loaded, X, rtol=2**-7)


@pytest.mark.parametrize(
    ("header", "data", "fact"),
    [
        (b"{", b"", "not JSON|would have"),
        (b'{"x":1,"x":2}', b"", "occurs twice"),
        (b"[1, 2]", b"", "no JSON object"),
        ({"x": {"dtype": "F32", "shape": [2, 2]}}, b"", "lacks its dtype"),
        ({"x": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 12]}}, bytes(12), r"has 12 bytes"),
        ({"x": {"dtype": "F32", "shape": [2, -2], "data_offsets": [0, 16]}}, bytes(16), "whole numbers"),
        ({"x": {"dtype": "F32", "shape": [2, 2], "data_offsets": [4, 20]}}, bytes(20), "begin where"),
        ({"x": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}, bytes(9), "describes"),
        ({"x": {"dtype": "F32", "shape": [True, 2], "data_offsets": [0, 8]}}, bytes(8), "whole numbers"),
    ],
)
def test_damaged_safetensors_is_one_sentence(tmp_path: Path, header: Any, data: bytes, fact: str) -> None:
    path = raw_safetensors(tmp_path / "d.safetensors", header, data)
    with pytest.raises(InputError, match=fact):
        open_arrays(str(path))


def test_header_longer_than_the_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "long.safetensors"
    path.write_bytes((1 << 60).to_bytes(8, "little") + b"{}")
    with pytest.raises(InputError, match="no whole safetensors file"):
        open_arrays(str(path))


def test_types_that_numpy_lacks_are_named(tmp_path: Path) -> None:
    header = {"x": {"dtype": "F8_E4M3", "shape": [2, 2], "data_offsets": [0, 4]}}
    file = open_arrays(str(raw_safetensors(tmp_path / "f8.safetensors", header, bytes(4))))
    with pytest.raises(InputError, match="is F8_E4M3"):
        file.load("x")


def test_parquet_without_its_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_pyarrow(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "pyarrow":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_pyarrow)
    (tmp_path / "e.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"lastlayer\[parquet\]") as caught:
        read_embeddings(str(tmp_path / "e.parquet"), "train")
    assert caught.value.code == "LL060"


def test_parquet_lists_become_rows(tmp_path: Path, X: np.ndarray, y: np.ndarray) -> None:
    pa = pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(X.astype(np.float32).ravel()), D)
    table = pa.table(
        {"embedding": pa.array(X.tolist()), "fixed": fixed, "label": y, "patient": [f"p{k // 2}" for k in range(N)]}
    )
    parquet.write_table(table, tmp_path / "e.parquet", row_group_size=7)
    path = str(tmp_path / "e.parquet")
    lists = read_embeddings(path, "train", group_by="patient")
    np.testing.assert_array_equal(lists.X, X)
    assert lists.groups is not None and lists.groups[:4].tolist() == [0, 0, 1, 1]
    np.testing.assert_array_equal(read_embeddings(path, "train", x="fixed").X, X.astype(np.float32))
    for broken, fact in (
        ([[1.0, 2.0], [3.0]], "2 numbers in row 0 and 1 in row 1"),
        ([[1.0], None], "no embedding in row 1"),
    ):
        parquet.write_table(pa.table({"embedding": broken, "label": [0, 1]}), tmp_path / "broken.parquet")
        with pytest.raises(InputError, match=fact):
            read_embeddings(str(tmp_path / "broken.parquet"), "train")


def test_pickles_are_never_opened(tmp_path: Path, X: np.ndarray) -> None:
    np.save(tmp_path / "o.npy", np.array([{"a": 1}, None], dtype=object))
    np.savez(tmp_path / "o.npz", x=np.array([{"a": 1}, None], dtype=object), y=np.arange(2))
    (tmp_path / "o.pkl").write_bytes(pickle.dumps(X))
    for name in ("o.npy", "o.npz", "o.pkl"):
        with pytest.raises(InputError) as caught:
            read_embeddings(str(tmp_path / name), "train")
        assert caught.value.code == "LL012", name


def test_rows_are_joined_by_id_whatever_their_order(tmp_path: Path, X: np.ndarray, y: np.ndarray) -> None:
    np.savez(tmp_path / "e.npz", x=X, id=[f"r{k}" for k in range(N)])
    order = np.random.default_rng(1).permutation(N)
    rows: list[tuple[object, ...]] = [(f"r{k}", "abc"[y[k]]) for k in order.tolist()]
    labels = write_table(tmp_path / "y.csv", "id,label", [*rows, ("spare", "a")])
    found = read_embeddings(str(tmp_path / "e.npz"), "train", labels=str(labels), ids="id")
    assert found.labels == tuple("abc"[k] for k in y)
    assert found.row_names()[3] == "r3"
    assert not found.problems and "1 of y.csv not used" in found.notes[0]
    tsv = write_table(tmp_path / "y.tsv", "id\tlabel", rows, "\t")
    assert read_embeddings(str(tmp_path / "e.npz"), "train", labels=str(tsv), ids="id").labels == found.labels


@pytest.mark.parametrize(
    ("ids", "label_ids", "fact"),
    [
        (["a", "b", "b"], ["a", "b", "c"], r"e\.npz repeats 1 ids: 'b' \(rows 1 and 2\)"),
        (["a", "b", "c"], ["a", "c", "c"], r"y\.csv repeats 1 ids: 'c'"),
        (["a", "b", "x"], ["a", "b", "c"], r"1 of 3 ids of e\.npz are not in y\.csv: 'x' \(row 2\)"),
        (["a", "", "c"], ["a", "b", "c"], r"e\.npz has no id in row 1"),
    ],
)
def test_wrong_ids_are_named(tmp_path: Path, ids: list[str], label_ids: list[str], fact: str) -> None:
    np.savez(tmp_path / "e.npz", x=np.eye(3), id=ids)
    labels = write_table(tmp_path / "y.csv", "id,label", [(i, "c") for i in label_ids])
    with pytest.raises(InputError, match=fact) as caught:
        read_embeddings(str(tmp_path / "e.npz"), "train", labels=str(labels), ids="id")
    assert caught.value.code == "LL033"


def test_unequal_numbers_of_rows_and_labels_are_refused(tmp_path: Path, X: np.ndarray) -> None:
    np.save(tmp_path / "x.npy", X)
    labels = write_table(tmp_path / "y.csv", "cat", [("dog",)] * (N - 1))
    with pytest.raises(InputError, match=rf"{N} rows and y\.csv {N - 1} labels.*header line") as caught:
        read_embeddings(str(tmp_path / "x.npy"), "train", labels=str(labels))
    assert "--ids" in caught.value.mend


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_names_row_and_column(X: np.ndarray, y: np.ndarray, value: float) -> None:
    X[17, 3] = value
    with pytest.raises(InputError, match="in row 17, column 3") as caught:
        as_embeddings("train", X.astype(np.float16), y)
    assert caught.value.code == "LL030"


@pytest.mark.parametrize(
    ("shape", "mend"), [((4, 3, 5), "X.mean"), ((4, 8, 8, 3), "lastlayer train"), ((4,), "reshape"), ((0, 3), "")]
)
def test_other_shapes_are_refused_with_the_mend(shape: tuple[int, ...], mend: str) -> None:
    with pytest.raises(InputError) as caught:
        as_embeddings("train", np.zeros(shape), np.zeros(shape[0]))
    assert str(shape) in caught.value.what and mend in caught.value.mend


def test_what_a_file_holds_is_said_when_labels_are_missing(tmp_path: Path, X: np.ndarray) -> None:
    np.savez(tmp_path / "e.npz", x=X, scores=X[:, 0])
    with pytest.raises(InputError, match=r"'scores' \(30,\), no labels") as caught:
        read_embeddings(str(tmp_path / "e.npz"), "train")
    assert "--labels" in caught.value.mend
    with pytest.raises(InputError, match="no file"):
        read_embeddings(str(tmp_path / "missing.npy"), "train")
    with pytest.raises(InputError, match="a folder") as caught:
        read_embeddings(str(tmp_path), "train")
    assert "train" in caught.value.mend


def test_groups_come_from_a_column_or_from_the_ids(tmp_path: Path, X: np.ndarray, y: np.ndarray) -> None:
    np.savez(tmp_path / "e.npz", x=X, y=y, id=[f"p{k // 3}_{k}" for k in range(N)], ward=np.arange(N) // 10)
    path = str(tmp_path / "e.npz")
    by_column = read_embeddings(path, "train", group_by="ward")
    assert by_column.groups is not None and by_column.groups.tolist() == (np.arange(N) // 10).tolist()
    by_pattern = read_embeddings(path, "train", ids="id", group_by=r"^(p\d+)_")
    assert by_pattern.groups is not None and by_pattern.groups.tolist() == (np.arange(N) // 3).tolist()
    with pytest.raises(InputError, match="--group-by 'wart' is in neither"):
        read_embeddings(path, "train", group_by="wart")


def test_normalised_rows_have_length_one_even_at_the_ends_of_the_range(X: np.ndarray) -> None:
    X[0] *= 1e300
    X[1] *= 1e-300
    X[2] = 0
    out, zeros = normalise(X, "l2")
    length = np.linalg.norm(out, axis=1)
    assert zeros == 1 and length[2] == 0
    np.testing.assert_allclose(np.delete(length, 2), 1, rtol=1e-12)
    half, _ = normalise(np.full((3, 4), 60000, np.float16), "l2")
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, 0.5)
    assert normalise(X, "")[0] is X


def softmax(z: np.ndarray) -> np.ndarray:
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(p / p.sum(axis=1, keepdims=True))


def test_outputs_of_a_classifier_are_refused(y: np.ndarray) -> None:
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(N, 3)) + 9 * np.eye(3)[y]
    for made, word in ((softmax(logits), "probabilities"), (np.log(softmax(logits)), "log-prob"), (logits, "logits")):
        with pytest.raises(InputError, match=word) as caught:
            refuse_outputs(made, y, 3, "train X")
        assert caught.value.code == "LL032" and "--allow-logits" in caught.value.mend
    refuse_outputs(softmax(logits).astype(np.float64) * 2, (y + 1) % 3, 3, "features that do not sum to 1")
    refuse_outputs(rng.normal(size=(N, 3)), y, 3, "as many columns as classes by chance")
    refuse_outputs(rng.normal(size=(N, 7)), y, 3, "plain features")


def test_half_precision_probabilities_are_recognised(y: np.ndarray) -> None:
    p = softmax(np.random.default_rng(3).normal(size=(N, 50))).astype(np.float16)
    with pytest.raises(InputError, match="probabilities"):
        refuse_outputs(p, y, 3, "train X")


def test_parts_keep_the_names_of_their_file(X: np.ndarray, y: np.ndarray) -> None:
    part = take(take(as_embeddings("train", X, y), np.array([4, 7, 9])), np.array([0, 2]))
    assert part.row_names() == ["train#4", "train#9"]
    assert part.labels == ("1", "0")


def test_digests_tell_rows_apart_by_their_numbers(X: np.ndarray, y: np.ndarray) -> None:
    X[5] = X[11]
    digests = as_embeddings("train", X, y).digests()
    assert (digests[5] == digests[11]).all()
    assert len({row.tobytes() for row in digests}) == N - 1


def test_no_suffix_is_read_by_two_readers() -> None:
    assert set(embedding_formats.MATRIX_SUFFIXES) < set(embedding_formats.LABEL_SUFFIXES)
