"""The container of the model file: one file a content, no changed byte passes, safetensors as oracle."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from artifact_mutants import seal, split
from lastlayer._arrays import Array, InputError
from lastlayer.artifacts import (
    ModelFileError,
    encode_artifact,
    read_artifact,
    write_artifact,
)
from small_artifacts import DATA, FILE, HEADER, TENSORS, TEXT, assert_same, from_bytes, to_bytes

# --------------------------------------------------------------------------------------------- round trips


def test_what_was_written_is_read(tmp_path: Path) -> None:
    digest = write_artifact(tmp_path / "m", HEADER, TENSORS)
    header, tensors = read_artifact(tmp_path / "m")
    assert header == HEADER
    assert_same(tensors, TENSORS)
    assert (tmp_path / "m").read_bytes() == FILE
    assert digest.encode() in FILE
    assert list(tensors) == sorted(tensors)


def test_tensors_are_aligned_and_read_only() -> None:
    _, tensors = from_bytes(FILE)
    for array in tensors.values():
        assert array.ctypes.data % array.itemsize == 0
        assert not array.flags.writeable
    count = int.from_bytes(FILE[:8], "little")
    assert count % 8 == 0


def test_equal_contents_give_equal_files() -> None:
    shuffled = dict(reversed(TENSORS.items()))
    shuffled["weights"] = np.asfortranarray(shuffled["weights"])
    shuffled["phi.mean"] = shuffled["phi.mean"].astype(">f8")
    header = dict(reversed(HEADER.items()))
    assert to_bytes(header, shuffled) == FILE


def test_the_digest_is_the_documented_one() -> None:
    digest = json.loads(TEXT)["__metadata__"]["sha256"]
    assert FILE.count(digest.encode()) == 1
    blank = FILE.replace(digest.encode(), b"0" * 64)
    assert hashlib.sha256(blank).hexdigest() == digest
    assert seal(TEXT, DATA) == FILE


def test_a_file_without_tensors_is_possible() -> None:
    assert from_bytes(to_bytes({"format_version": 1}, {})) == ({"format_version": 1}, {})


def test_safetensors_reads_the_same_tensors(tmp_path: Path) -> None:
    write_artifact(tmp_path / "m", HEADER, TENSORS)
    assert_same(safetensors.numpy.load_file(tmp_path / "m"), TENSORS)
    with safetensors.safe_open(tmp_path / "m", "np") as opened:
        assert json.loads(opened.metadata()["lastlayer"]) == HEADER


NAMES = st.from_regex(r"[a-z][a-z0-9_.]{0,12}", fullmatch=True)
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
ARRAYS = st.sampled_from(["<f8", "<f4", "<f2", "<i8", "<i4", "|u1"]).flatmap(
    lambda dtype: hnp.arrays(
        dtype,
        hnp.array_shapes(min_dims=0, max_dims=4, max_side=3),
        elements=hnp.from_dtype(np.dtype(dtype), allow_nan=False, allow_infinity=False),
    )
)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.dictionaries(st.text(max_size=6), PLAIN, max_size=4), st.dictionaries(NAMES, ARRAYS, max_size=4))
def test_any_content_survives_and_agrees_with_safetensors(header: dict[str, Any], tensors: dict[str, Array]) -> None:
    header["format_version"] = 1
    file = to_bytes(header, tensors)
    found, arrays = from_bytes(file)
    assert found == header
    assert_same(arrays, tensors)
    assert to_bytes(found, arrays) == file
    assert_same(safetensors.numpy.load(file), tensors)


# --------------------------------------------------------------------------------- what the writer refuses


@pytest.mark.parametrize(
    ("header", "tensors", "message"),
    [
        ({}, {}, "states no format version"),
        ({"format_version": 2}, {}, "newer lastlayer"),
        ({"format_version": 1, "x": float("nan")}, {}, "no plain JSON"),
        ({"format_version": 1, "x": (1, 2)}, {}, "no plain JSON"),
        ({"format_version": 1, "x": {1: 2}}, {}, "no plain JSON"),
        ({"format_version": 1, "x": np.float32(1)}, {}, "no plain JSON"),
        ({"format_version": 1, "x": 2**63}, {}, "beyond 64 bits"),
        ({"format_version": 1, "x": "\ud83d\ude00"}, {}, "no plain JSON"),
        ({"format_version": 1}, {"a": np.array([np.nan])}, "tensor a holds nan"),
        ({"format_version": 1}, {"a": np.zeros((0, 3))}, "no shape"),
        ({"format_version": 1}, {"a": np.zeros((1, 1, 1, 1, 1))}, "5 axes"),
        ({"format_version": 1}, {"a": np.zeros(3, bool)}, "of the type 'bool'"),
        ({"format_version": 1}, {"a": np.zeros(3, complex)}, "of the type 'complex128'"),
        ({"format_version": 1}, {"a": np.array(["x"], object)}, "of the type 'object'"),
        ({"format_version": 1}, {"A": np.zeros(3)}, "a tensor named 'A'"),
        ({"format_version": 1}, {"__metadata__": np.zeros(3)}, "a tensor named"),
        ({"format_version": 1}, {f"t{i}": np.zeros(1) for i in range(65)}, "65 tensors, more than 64"),
        ({"format_version": 1, "x": "a" * 2**20}, {}, "Shorten the class names"),
    ],
)
def test_the_writer_refuses(header: Any, tensors: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=message):
        write_artifact(tmp_path / "m", header, tensors)
    assert list(tmp_path.iterdir()) == []


def test_a_tensor_too_large_is_refused_before_it_is_copied() -> None:
    huge = np.broadcast_to(np.uint8(0), (2**16, 2**16, 2))
    with pytest.raises(ModelFileError, match="larger than a model file"):
        encode_artifact({"format_version": 1}, {"a": huge})


def test_a_file_too_large_is_refused_before_anything_is_copied() -> None:
    half = np.broadcast_to(np.uint8(0), (2**16, 2**15))
    with pytest.raises(ModelFileError, match=r"more than 4,294,967,296 bytes\. Use fewer features"):
        encode_artifact({"format_version": 1}, {"a": half, "b": half})


def test_the_limit_of_the_header_is_exact() -> None:
    def header_of(length: int) -> dict[str, Any]:
        return {"format_version": 1, "x": "a" * length}

    spare = 2**20 - (len(to_bytes(header_of(0), {})) - 8)
    file = to_bytes(header_of(spare), {})
    assert len(file) == 2**20 + 8
    assert from_bytes(file)[0] == header_of(spare)
    text, _ = split(to_bytes(header_of(spare - 8), {}))
    with pytest.raises(ModelFileError, match="1,048,584 bytes and 1,048,576 are possible"):
        to_bytes(header_of(spare + 8), {})
    with pytest.raises(ModelFileError, match="no model file"):
        from_bytes(seal(text.replace(b"aaa", b"a" * 19, 1), b""))


def test_ten_thousand_class_names_fit() -> None:
    for name in ("猫" * 12 + "{:06d}", "n{:06d}" + "x" * 70):
        header = {"format_version": 1, "class_names": [name.format(i) for i in range(10_000)]}
        assert from_bytes(to_bytes(header, {}))[0] == header


def test_an_existing_file_is_kept_unless_asked(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_bytes(b"mine")
    with pytest.raises(ModelFileError, match="exists already"):
        write_artifact(path, HEADER, TENSORS)
    assert path.read_bytes() == b"mine"
    write_artifact(path, HEADER, TENSORS, overwrite=True)
    assert path.read_bytes() == FILE


# ------------------------------------------------------------------------------------- odd files and names


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="does not exist"):
        read_artifact(tmp_path / "m")


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="is a folder"):
        read_artifact(tmp_path)


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc")
def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(FILE)
    (tmp_path / "damaged").write_bytes(FILE[:-1])
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        read_artifact(tmp_path / "m")
        for odd in (tmp_path, tmp_path / "damaged"):
            with pytest.raises(ModelFileError):
                read_artifact(odd)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_name_with_nul() -> None:
    with pytest.raises(ModelFileError, match=r"a\\x00b cannot be opened"):
        read_artifact("a\0b")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m")
    done = threading.Event()

    def read() -> None:
        with pytest.raises(ModelFileError, match="no regular file"):
            read_artifact(tmp_path / "m")
        done.set()

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(5)
    assert done.is_set()


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="needs /dev/zero")
def test_a_device() -> None:
    with pytest.raises(ModelFileError, match="no regular file"):
        read_artifact("/dev/zero")


def test_a_sparse_giant_is_refused_at_once(tmp_path: Path) -> None:
    with open(tmp_path / "m", "wb") as stream:
        stream.truncate(2**33)
    with pytest.raises(ModelFileError, match="more than the 4,294,967,296"):
        read_artifact(tmp_path / "m")


def test_a_sparse_file_costs_no_memory_unless_its_header_describes_it(tmp_path: Path) -> None:
    with open(tmp_path / "m", "wb") as stream:
        stream.write(FILE)
        stream.truncate(2**31)
    with pytest.raises(ModelFileError, match="where its header describes"):
        read_artifact(tmp_path / "m")


def test_a_name_with_control_characters_is_shown_escaped(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError) as caught:
        read_artifact(tmp_path / "a\n\x1b[31mb")
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_the_error_is_an_input_error_and_survives_pickling() -> None:
    error = ModelFileError("what", "mend")
    assert isinstance(error, InputError)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (ModelFileError, "what. mend")
