"""A small model file with every type of tensor, and its way into bytes and back."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from artifact_mutants import split
from lastlayer._arrays import Array
from lastlayer.artifacts import decode_artifact, encode_artifact

HEADER: dict[str, Any] = {
    "format_version": 1,
    "class_names": ["cat", "naïve 猫 😀", "\udcff\n\"'\\"],
    "C": 0.1,
}
TENSORS: dict[str, Array] = {
    "weights": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3),
    "bias": np.array([0.5, -0.25, 0], np.float32),
    "phi.mean": np.array([1 / 3, 2 / 3]),
    "phi.half": np.array([[[[1.5]]]], np.float16),
    "phi.bins": np.array([1, -2, 3], np.int32),
    "phi.count": np.array(2**60, np.int64),
    "phi.table": np.arange(5, dtype=np.uint8),
}


def to_bytes(header: dict[str, Any], tensors: dict[str, Array]) -> bytes:
    return b"".join(encode_artifact(header, tensors).parts)


def from_bytes(data: bytes) -> tuple[dict[str, Any], dict[str, Array]]:
    return decode_artifact(io.BytesIO(data), len(data), "m")


FILE = to_bytes(HEADER, TENSORS)
TEXT, DATA = split(FILE)


def assert_same(found: dict[str, Array], expected: dict[str, Array]) -> None:
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)
