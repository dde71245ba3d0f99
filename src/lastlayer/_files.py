"""The one place that writes files: atomically, durably, or not at all.

Protocol (`write_bytes`): temporary file in the same folder, all bytes out, fsync, close, rename over the
name, fsync of the folder. A crash at any point leaves the old file or the new one, never a mixture.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO


@contextlib.contextmanager
def atomic_writer(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Binary stream to a temporary file that takes the name `path` when the block ends without an error.

    Raises
    ------
    OSError
        When the disk is full or the folder cannot be written; the temporary file is removed and the
        old file of that name is untouched.
    """
    target = Path(path)
    temporary = target.parent / f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(temporary, flags, 0o644)
    try:
        with os.fdopen(descriptor, "w+b") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder for fsync
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: str | os.PathLike[str], *parts: bytes | memoryview) -> None:
    """Write the parts one after another as one file, atomically."""
    with atomic_writer(path) as stream:
        for part in parts:
            stream.write(part)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text, atomically; names that are not UTF-8 keep their bytes (surrogateescape)."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write strict, indented JSON (no NaN), atomically."""
    write_bytes(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode("ascii"))


def write_csv(path: str | os.PathLike[str], header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV table with a header row, atomically."""
    with atomic_writer(path) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape", newline="", write_through=True)
        # with "\r\n" (RFC 4180) the writer quotes names that hold either character
        writer = csv.writer(text, lineterminator="\r\n")
        writer.writerow(header)
        writer.writerows(rows)
        text.flush()
        text.detach()


def append_line(path: str | os.PathLike[str], line: str) -> None:
    """Append one line to a log in a single write, so that lines of two processes never mix."""
    flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(path, flags, 0o644)
    try:
        data = (line + "\n").encode("utf-8", "surrogateescape")
        while data:
            data = data[os.write(descriptor, data) :]
    finally:
        os.close(descriptor)


def new_folder(parent: Path, pattern: Callable[[int], str]) -> Path:
    """Make and return the first folder ``parent / pattern(1), pattern(2), …`` that does not exist yet."""
    parent.mkdir(parents=True, exist_ok=True)
    taken = 0
    while True:
        taken += 1
        folder = parent / pattern(taken)
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder


def display_name(path: str) -> str:
    r"""A printable form of a file name: control characters and non-UTF-8 bytes as ``\xNN``.

    Different names have different forms: where there is something to escape, or something that looks escaped, every
    backslash is doubled.

    >>> print(display_name("a\nb"))
    a\x0ab
    """
    if path.isprintable() and "\\x" not in path and "\\u" not in path:
        return path
    return "".join(_printable(character) for character in path)


def _printable(character: str) -> str:
    code = ord(character)
    if character == "\\":
        return "\\\\"
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, as the system hands it over
        return f"\\x{code - 0xDC00:02x}"
    if character.isprintable():
        return character
    # a control character of Latin-1 shares its \xNN with the byte above 0x7F: those are written in four digits
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"
