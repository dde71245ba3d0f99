"""Twelve thousand mutants of a small container; the same harness must find readers with a check left out."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from artifact_mutants import assert_reader_is_strict, damage, mutants, seal, split
from lastlayer._arrays import Array
from lastlayer.artifacts import decode_artifact, encode_artifact, layout, reading
from lastlayer.artifacts.errors import Refusal

Content = tuple[dict[str, Any], dict[str, Array]]

HEADER = {
    "format_version": 1,
    "class_names": ["a", "é", "\udc80"],
    "loss": "hinge",
    "x": {"y": [1, 0.5, None]},
}
TENSORS: dict[str, Array] = {
    "weights": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3),
    "bias": np.array([0.5, -0.25, 0], np.float32),
    "phi.mean": np.array([1 / 3, 2 / 3]),
    "phi.index": np.array([3, 1], np.int32),
}
FILE = b"".join(encode_artifact(HEADER, TENSORS).parts)


class Metered(io.BytesIO):
    """A file that must not be asked for more than it has, nor felt for its end (as if it were growing)."""

    def readinto(self, buffer: Any, /) -> int:
        assert len(buffer) <= len(self.getbuffer()) - self.tell(), "asked for more than the file has"
        return super().readinto(buffer)

    def read(self, size: int | None = -1, /) -> bytes:
        return b""


def read(data: bytes) -> Content:
    return decode_artifact(Metered(data), len(data), "m")


def write(content: Content) -> bytes:
    return b"".join(encode_artifact(*content).parts)


def read_both(data: bytes) -> Content:
    """Read with the oracle as well: what is accepted here must be the same there."""
    header, tensors = read(data)
    oracle = safetensors.numpy.load(data)
    assert set(oracle) == set(tensors)
    for name, array in tensors.items():
        assert array.dtype == oracle[name].dtype
        np.testing.assert_array_equal(array, oracle[name])
    return header, tensors


def test_no_mutant_is_accepted_wrongly() -> None:
    outcomes = assert_reader_is_strict(read_both, write, mutants(FILE, 12_000, seed=1))
    assert outcomes["refused"] > 9_000
    # The deep checks are reached: some mutants are other contents, correctly sealed.
    assert outcomes["accepted"] > 200


def test_raw_damage_is_never_accepted() -> None:
    rng = np.random.default_rng(2)
    damaged = (mutant for mutant in (damage(FILE, rng) for _ in range(3_000)) if mutant != FILE)
    assert assert_reader_is_strict(read, write, damaged)["accepted"] == 0


def test_ends_of_limits() -> None:
    text, data = split(FILE)
    for size in (2**20 - 64, 2**20 - 8, 2**20, 2**20 + 8):
        spaces = text + b" " * (size - len(text))
        assert assert_reader_is_strict(read, write, iter([seal(spaces, data)])) == {
            "refused": 1,
            "accepted": 0,
        }


def _nothing(*given: Any) -> None:
    return None


def _any_json(text: str) -> Any:
    """Take duplicate keys, NaN, spaces, any order of keys and any depth."""
    try:
        return json.loads(text)
    except ValueError:
        raise Refusal("no JSON") from None


def _wrapping_size(name: str, dtype: Any, shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64)) * dtype.itemsize


@pytest.mark.parametrize(
    ("module", "name", "planted"),
    [
        (reading, "_check_digest", _nothing),
        (reading, "_check_length", _nothing),
        (reading, "check_version", _nothing),
        (reading, "check_finite", _nothing),
        (reading, "parse", _any_json),
        (layout, "check_tensor", _nothing),
        (layout, "_size", _wrapping_size),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_harness_finds_a_reader_without(
    module: Any, name: str, planted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, name, planted)
    with pytest.raises(AssertionError):
        assert_reader_is_strict(read, write, mutants(FILE, 12_000, seed=1))
