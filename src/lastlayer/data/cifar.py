"""CIFAR-10 and CIFAR-100 as published: the binary version (memory-mapped) and the Python version.

Source: Krizhevsky, "Learning multiple layers of features from tiny images" (2009). Both versions store
red, green and blue planes of 32 × 32 one after another.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from lastlayer._arrays import Array, InputError, IntArray, UInt8
from lastlayer.data.arrays import Part, array_listing, map_file
from lastlayer.data.dataset import TEST, TRAIN
from lastlayer.data.listing import Listing
from lastlayer.data.unpickle import MAX_BYTES, unpickle

_PIXELS: Final = 3 * 32 * 32
_BATCH: Final = re.compile(r"data_batch_[0-9]+(\.bin)?")


def cifar_layout(root: Path, files: Sequence[str]) -> str | None:
    """Return ``binary`` or ``python`` when these files of a folder are CIFAR's, else None.

    CIFAR-100's Python version is recognised by the three files ``meta``, ``train`` and ``test``.
    """
    names = set(files)
    if names & {"test_batch.bin"} or any(_BATCH.fullmatch(n) and n.endswith(".bin") for n in names):
        return "binary"
    if names & {"train.bin", "test.bin"} and "fine_label_names.txt" in names:
        return "binary"
    if "test_batch" in names or any(_BATCH.fullmatch(n) for n in names):
        return "python"
    if {"meta"} <= names and names & {"train", "test"}:
        return "python"
    return None


def read_cifar(root: Path, files: Sequence[str], version: str) -> Listing:
    """Open CIFAR files; classes are the fine ones in CIFAR-100.

    Raises
    ------
    InputError
        When a file is damaged, or a pickle holds more than plain data (LL012).
    """
    names = sorted(files)
    by_side = [
        (TRAIN, [n for n in names if _BATCH.fullmatch(n) and n.endswith(".bin") == (version == "binary")]),
        (TEST, [n for n in names if n == ("test_batch.bin" if version == "binary" else "test_batch")]),
    ]
    hundred = not any(batch for _, batch in by_side)
    if hundred:
        ending = ".bin" if version == "binary" else ""
        by_side = [(TRAIN, ["train" + ending]), (TEST, ["test" + ending])]
    read = _read_binary if version == "binary" else _read_python
    parts = []
    for side, batch in by_side:
        for name in batch:
            if name in names:
                pixels, labels = read(root / name, hundred)
                parts.append(Part(side, pixels, labels, name))
    classes = _binary_names(root, hundred) if version == "binary" else _python_names(root, hundred)
    title = f"CIFAR-{100 if hundred else 10}, {version} version"
    return array_listing(title, parts, classes)


def _planes(flat: Array) -> UInt8:
    """(N, 3072) planes to (N, 32, 32, 3), without copying."""
    return flat.reshape(len(flat), 3, 32, 32).transpose(0, 2, 3, 1)


def _read_binary(path: Path, hundred: bool) -> tuple[UInt8, IntArray]:
    """Map records of one label byte (two in CIFAR-100: coarse, fine) and 3,072 pixels."""
    before = 2 if hundred else 1
    record = before + _PIXELS
    try:
        size = os.stat(path).st_size
        if size == 0 or size % record:
            raise InputError(f"{path.name} has {size:,} bytes, not a multiple of {record:,}", "Fetch the file again")
        records = map_file(path, np.dtype(np.uint8)).reshape(-1, record)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    return _planes(records[:, before:]), np.array(records[:, before - 1])


def _binary_names(root: Path, hundred: bool) -> list[str] | None:
    path = root / ("fine_label_names.txt" if hundred else "batches.meta.txt")
    if not path.is_file():
        return None
    lines = path.read_text("utf-8", "surrogateescape").split("\n")
    return [line.strip() for line in lines if line.strip()]


def _load(path: Path) -> dict[Any, Any]:
    try:
        size = os.stat(path).st_size
        if size > MAX_BYTES:
            raise InputError(f"{path.name} has {size:,} bytes; pickles above {MAX_BYTES:,} are not read")
        value = unpickle(path.read_bytes(), path.name)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    if not isinstance(value, dict):
        raise InputError(f"{path.name} holds no dictionary", "CIFAR's files hold b'data' and b'labels'")
    # Python 2 wrote keys as bytes, Python 3 as text
    return {key.decode("latin-1") if isinstance(key, bytes) else key: item for key, item in value.items()}


def _read_python(path: Path, hundred: bool) -> tuple[UInt8, IntArray]:
    batch = _load(path)
    key = "fine_labels" if hundred else "labels"
    data, labels = batch.get("data"), batch.get(key)
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (_PIXELS,):
        raise InputError(f"{path.name} has no uint8 array 'data' of shape (N, {_PIXELS:,})", "Fetch the file again")
    if not isinstance(labels, list) or len(labels) != len(data) or not all(type(y) is int for y in labels):
        raise InputError(f"{path.name} has no list {key!r} of {len(data):,} numbers", "Fetch the file again")
    return _planes(data), np.array(labels, dtype=np.int64)


def _python_names(root: Path, hundred: bool) -> list[str] | None:
    path = root / ("meta" if hundred else "batches.meta")
    if not path.is_file():
        return None
    names = _load(path).get("fine_label_names" if hundred else "label_names")
    if not isinstance(names, list) or not all(isinstance(n, (str, bytes)) for n in names):
        raise InputError(f"{path.name} has no list of class names", "Fetch the file again")
    return [n.decode("utf-8", "surrogateescape") if isinstance(n, bytes) else n for n in names]
