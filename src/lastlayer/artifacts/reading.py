"""File to header and tensors, or one clear refusal; nothing is executed, nothing is believed unchecked.

The order matters: lengths before any byte is read, the header before the tensors, sizes before allocation,
the digest before any number is used.
"""

from __future__ import annotations

import hashlib
import os
import stat
from typing import Any, BinaryIO

import numpy as np

from lastlayer._arrays import Array, UInt8
from lastlayer._files import display_name
from lastlayer.artifacts.canonical import parse
from lastlayer.artifacts.errors import OTHER, ModelFileError, Refusal
from lastlayer.artifacts.layout import (
    MAX_FILE,
    MAX_HEADER,
    Slot,
    check_finite,
    check_version,
    data_size,
    read_slots,
)
from lastlayer.artifacts.writing import BLANK


def read_artifact(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the header and the tensors (read-only, by name) of a model file.

    Raises
    ------
    ModelFileError
        When there is no such file, or anything is wrong with it.
    """
    name = display_name(os.fspath(path))
    descriptor = _open(path, name)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
        raise ModelFileError(f"{name} is {kind}", OTHER)
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        return decode_artifact(stream, status.st_size, name)


def decode_artifact(stream: BinaryIO, length: int, name: str) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the header and the tensors of the model file in `stream`, which has `length` bytes.

    No more than `length` bytes are ever asked for, whatever the file says of itself. `name` is what error
    messages call it.

    Raises
    ------
    ModelFileError
        When anything is wrong with the file.
    """
    try:
        return _decode(stream, length)
    except Refusal as refusal:
        raise ModelFileError(f"{name} cannot be used: {refusal.fact}", refusal.mend) from None
    except OSError as error:
        raise ModelFileError(
            f"{name} cannot be read: {error.strerror}", "Check the disk, or copy the file again"
        ) from None
    except MemoryError:
        raise ModelFileError(
            f"{name} has {length:,} bytes, more than the memory that is left", "Free memory and try again"
        ) from None


def _open(path: str | os.PathLike[str], name: str) -> int:
    # Non-blocking: opening a named pipe must not wait for its writer.
    flags = os.O_RDONLY
    for flag in ("O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_BINARY"):
        flags |= getattr(os, flag, 0)
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        raise ModelFileError(f"{name} does not exist", OTHER) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ModelFileError(f"{name} cannot be opened: {reason}", "Check the name and permissions") from None


def _decode(stream: BinaryIO, length: int) -> tuple[dict[str, Any], dict[str, Array]]:
    head, outer = _read_head(stream, length)
    header, digest = _metadata(outer)
    slots = read_slots(outer)
    _check_length(length, len(head) + data_size(slots))
    data = _read_exactly(stream, data_size(slots))
    if stream.read(1):
        raise Refusal("it grew while it was read", "Try again once it is complete")
    _check_digest(head, data, digest)
    return header, {slot.name: _tensor(data, slot) for slot in sorted(slots, key=lambda slot: slot.name)}


def _read_head(stream: BinaryIO, length: int) -> tuple[bytes, dict[str, Any]]:
    """Return the length field with the header's bytes, and the header parsed."""
    if length == 0:
        raise Refusal("it is empty")
    if length > MAX_FILE:
        raise Refusal(f"it has {length:,} bytes, more than the {MAX_FILE:,} of a model file", OTHER)
    prefix = _read_exactly(stream, min(8, length)).tobytes()
    count = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or not 2 <= count <= MAX_HEADER:
        raise Refusal("it is no model file", OTHER)
    if 8 + count > length:
        raise Refusal("it ends early")
    raw = _read_exactly(stream, count).tobytes()
    if not raw.startswith(b"{") or not raw.isascii():
        raise Refusal("it is no model file", OTHER)
    text = raw.decode("ascii").rstrip(" ")
    outer = parse(text)
    if count != len(text) + -len(text) % 8:
        raise Refusal("its header is not padded to a multiple of 8 bytes")
    return prefix + raw, outer


def _metadata(outer: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Take lastlayer's header and the digest out of the outer header."""
    metadata = outer.pop("__metadata__", None)
    if not isinstance(metadata, dict) or not isinstance(metadata.get("lastlayer"), str):
        raise Refusal("it is a safetensors file, but no model of lastlayer", OTHER)
    header = parse(metadata["lastlayer"])
    check_version(header)
    digest = metadata.get("sha256")
    if len(metadata) != 2 or not isinstance(digest, str):
        raise Refusal("it carries no SHA-256")
    return header, digest


def _check_length(length: int, expected: int) -> None:
    if length != expected:
        raise Refusal(f"it has {length:,} bytes where its header describes {expected:,}")


def _read_exactly(stream: BinaryIO, count: int) -> UInt8:
    """Return the next `count` bytes as one aligned array."""
    data: UInt8 = np.empty(count, np.uint8)
    done = 0
    while done < count:
        got = stream.readinto(data.data[done:])  # type: ignore[attr-defined]
        if not got:
            raise Refusal("it ends early")
        done += got
    return data


def _check_digest(head: bytes, data: UInt8, digest: str) -> None:
    # Quotes inside strings are escaped, so this text occurs once: as the key and value of the digest.
    blank = head.replace(f'"sha256":"{digest}"'.encode(), f'"sha256":"{BLANK}"'.encode())
    found = hashlib.sha256(blank)
    found.update(data.data)
    if found.hexdigest() != digest:
        raise Refusal("its content does not agree with its SHA-256")


def _tensor(data: UInt8, slot: Slot) -> Array:
    array: Array = data[slot.start : slot.stop].view(slot.dtype).reshape(slot.shape)
    array = array.astype(slot.dtype.newbyteorder("="), copy=False)
    check_finite(slot.name, array)
    array.setflags(write=False)
    return array
