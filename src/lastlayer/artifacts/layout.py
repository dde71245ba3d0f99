"""Which tensors a model file can hold and where each lies: the layout follows from the tensors alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lastlayer._arrays import Array, first_not_finite
from lastlayer.artifacts.errors import OTHER, Refusal

FORMAT_VERSION = 1
"""The format this version writes; it reads this one and every earlier one."""

MAX_HEADER = 1 << 20
"""Bytes of the header: room for 10,000 class names of 80 ASCII characters, or of 13 others."""

MAX_FILE = 1 << 32
"""Bytes of a file: room for 100,000 features and 10,000 classes."""

MAX_TENSORS = 64
"""Tensors of a file: the weights, the bias, and the fitted arrays of φ (two or three a part)."""

MAX_RANK = 4

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "|u1"}
"""The types of numbers a tensor may have, by the names that safetensors gives them."""

DTYPE_NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
_NAME = re.compile(r"[a-z][a-z0-9_.]{0,127}")


@dataclass(frozen=True)
class Slot:
    """Where one tensor lies, in bytes from the start of the data."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    stop: int

    def entry(self) -> dict[str, Any]:
        """Return what the header says of it."""
        return {
            "dtype": DTYPE_NAMES[self.dtype],
            "shape": list(self.shape),
            "data_offsets": [self.start, self.stop],
        }


def make_slots(tensors: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]) -> tuple[Slot, ...]:
    """Lay the tensors out: largest items first (so that every one is aligned), then by name, without gaps."""
    slots, start = [], 0
    for name in sorted(tensors, key=lambda name: (-tensors[name][0].itemsize, name)):
        dtype, shape = tensors[name]
        stop = start + _size(name, dtype, shape)
        slots.append(Slot(name, dtype, shape, start, stop))
        start = stop
    return tuple(slots)


def read_slots(entries: dict[str, Any]) -> tuple[Slot, ...]:
    """Return the layout that a header states, which must be the only layout of its tensors."""
    if len(entries) > MAX_TENSORS:
        raise Refusal(f"it holds {len(entries)} tensors, more than {MAX_TENSORS}")
    for name, entry in entries.items():
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise Refusal(f"the entry of tensor {name[:40]!a} is not as it must be")
        check_tensor(name, entry["dtype"], entry["shape"])
    slots = make_slots({n: (np.dtype(DTYPES[e["dtype"]]), tuple(e["shape"])) for n, e in entries.items()})
    for slot in slots:
        offsets = entries[slot.name]["data_offsets"]
        # `false` equals 0 in Python, but is no offset.
        if offsets != [slot.start, slot.stop] or any(type(offset) is not int for offset in offsets):
            raise Refusal(f"tensor {slot.name} does not lie where it must")
    return slots


def data_size(slots: tuple[Slot, ...]) -> int:
    """Bytes of all tensors together."""
    return slots[-1].stop if slots else 0


def check_tensor(name: str, dtype: Any, shape: Any) -> None:
    """Refuse a name, type or shape that no tensor of a model file has."""
    if not _NAME.fullmatch(name):
        raise Refusal(f"it holds a tensor named {name[:40]!a}")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise Refusal(f"tensor {name} is of the type {str(dtype)[:20]!a}; {', '.join(DTYPES)} are possible")
    if not isinstance(shape, list) or any(type(length) is not int or length < 1 for length in shape):
        raise Refusal(f"tensor {name} has no shape of whole lengths of 1 or more")
    if len(shape) > MAX_RANK:
        raise Refusal(f"tensor {name} has {len(shape)} axes, more than {MAX_RANK}")


def check_finite(name: str, array: Array) -> None:
    """Refuse NaN and infinite numbers."""
    where = first_not_finite(array.reshape(-1))
    if where is not None:
        raise Refusal(f"tensor {name} holds {array.reshape(-1)[where[0]]}, which is no finite number")


def check_version(header: Any) -> None:
    """Refuse a header without a format version, or with one that this program cannot know."""
    version = header.get("format_version") if isinstance(header, dict) else None
    if type(version) is not int or version < 1:
        raise Refusal("its header states no format version", OTHER)
    if version > FORMAT_VERSION:
        raise Refusal(
            f"it was written by a newer lastlayer (format {version}; this one reads up to {FORMAT_VERSION})",
            "Upgrade lastlayer; if it is the newest, the file is damaged",
        )


def _size(name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    """Bytes of a tensor; refused as soon as the product passes the largest file."""
    size = dtype.itemsize
    for length in shape:
        size *= length
        if size > MAX_FILE:
            raise Refusal(f"tensor {name} is larger than a model file can be ({MAX_FILE:,} bytes)")
    return size
