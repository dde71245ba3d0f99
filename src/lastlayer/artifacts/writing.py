"""Header and tensors to file: the one file of that content, written atomically."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lastlayer._arrays import Array
from lastlayer._files import display_name, write_bytes
from lastlayer.artifacts.canonical import canonical, parse
from lastlayer.artifacts.errors import DAMAGED, ModelFileError, Refusal
from lastlayer.artifacts.layout import (
    DTYPE_NAMES,
    DTYPES,
    MAX_FILE,
    MAX_HEADER,
    MAX_TENSORS,
    Slot,
    check_finite,
    check_tensor,
    check_version,
    data_size,
    make_slots,
)

BLANK = "0" * 64
"""What stands in the place of the digest while the digest is computed."""


@dataclass(frozen=True)
class Artifact:
    """A model file in memory.

    Attributes
    ----------
    parts : tuple of bytes-like
        Put together they are the file.
    digest : str
        The SHA-256 that it carries, in hexadecimal.
    """

    parts: tuple[bytes | memoryview, ...]
    digest: str


def encode_artifact(header: dict[str, Any], tensors: Mapping[str, Array]) -> Artifact:
    """Return the one file of this content, in memory.

    Parameters
    ----------
    header : dict
        Plain JSON values; ``header["format_version"]`` is at most `FORMAT_VERSION`.
    tensors : mapping of str to array
        At most 64, finite, not empty, of rank 0 to 4 and of a type in `DTYPES`; names are a lower-case letter
        and up to 127 of ``a-z0-9_.``.

    Raises
    ------
    ModelFileError
        When the content cannot be a model file.
    """
    try:
        return _encode(header, tensors)
    except Refusal as refusal:
        mend = "" if refusal.mend == DAMAGED else refusal.mend
        raise ModelFileError(f"The model cannot be saved: {refusal.fact}", mend) from None


def write_artifact(
    path: str | os.PathLike[str],
    header: dict[str, Any],
    tensors: Mapping[str, Array],
    *,
    overwrite: bool = False,
) -> str:
    """Write a model file, atomically, and return its digest; an existing file is replaced only on request.

    Raises
    ------
    ModelFileError
        When the content cannot be a model file, or the file exists and `overwrite` is False.
    OSError
        When the disk is full or the folder cannot be written; nothing is left behind.
    """
    artifact = encode_artifact(header, tensors)
    if not overwrite and os.path.lexists(path):
        raise ModelFileError(
            f"{display_name(os.fspath(path))} exists already", "Choose another name, or give overwrite=True"
        )
    write_bytes(path, *artifact.parts)
    return artifact.digest


def _encode(header: dict[str, Any], tensors: Mapping[str, Array]) -> Artifact:
    text = _header_text(header)
    if len(tensors) > MAX_TENSORS:
        raise Refusal(f"it holds {len(tensors)} tensors, more than {MAX_TENSORS}")
    slots = make_slots({name: (_stored_type(name, array), array.shape) for name, array in tensors.items()})
    blank = _head(text, slots, BLANK)
    if len(blank) - 8 > MAX_HEADER:
        raise Refusal(
            f"its header takes {len(blank) - 8:,} bytes and {MAX_HEADER:,} are possible",
            "Shorten the class names",
        )
    if len(blank) + data_size(slots) > MAX_FILE:
        raise Refusal(f"it takes more than {MAX_FILE:,} bytes", "Use fewer features")
    data = tuple(_stored_bytes(tensors[slot.name], slot) for slot in slots)
    digest = hashlib.sha256(blank)
    for part in data:
        digest.update(part)
    return Artifact((_head(text, slots, digest.hexdigest()), *data), digest.hexdigest())


def _header_text(header: dict[str, Any]) -> str:
    check_version(header)
    try:
        text = canonical(header)
    except (TypeError, ValueError, RecursionError) as error:
        raise Refusal(f"its header is no plain JSON ({error})") from None
    if parse(text) != header:
        raise Refusal("its header is no plain JSON (only str, int, float, bool, None, list and dict are)")
    return text


def _stored_type(name: str, array: Array) -> np.dtype[Any]:
    little = array.dtype.newbyteorder("<")
    check_tensor(name, DTYPE_NAMES.get(little, str(array.dtype)), list(array.shape))
    return np.dtype(DTYPES[DTYPE_NAMES[little]])


def _stored_bytes(array: Array, slot: Slot) -> memoryview:
    """Return the array as it lies in the file: little-endian, in C order."""
    check_finite(slot.name, array)
    return np.ascontiguousarray(array, slot.dtype).reshape(-1).view(np.uint8).data


def _head(text: str, slots: tuple[Slot, ...], digest: str) -> bytes:
    """Return the length and the header, padded so that the data start at a multiple of 8."""
    metadata = {"lastlayer": text, "sha256": digest}
    entries = {slot.name: slot.entry() for slot in slots}
    head = canonical({"__metadata__": metadata, **entries}).encode("ascii")
    head += b" " * (-len(head) % 8)
    return len(head).to_bytes(8, "little") + head
