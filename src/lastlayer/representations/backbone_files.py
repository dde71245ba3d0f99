"""A backbone's file: read whole, named by its SHA-256, and found again from a model file that does not hold it.

Looked for in this order: beside the model file, in the folders of ``$LASTLAYER_BACKBONES``, at the path that the
model file states. Whatever is found must have the SHA-256 that the model was trained with.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, final

from lastlayer._arrays import InputError
from lastlayer._files import display_name

FOLDERS = "LASTLAYER_BACKBONES"
"""Environment variable: folders with the files of backbones, separated as in PATH."""
LARGEST = 2**31 - 1
"""Bytes of a file: what the format, Protocol Buffers, can hold."""
_BESIDE: ContextVar[str] = ContextVar("beside", default="")


@final
@dataclass(frozen=True, eq=False)
class Source:
    """Bytes of a file and of those it refers to.

    Attributes
    ----------
    path : str
    data : bytes
    parts : mapping
        Further files by the names the first one has for them.
    sha256 : str
        Of all of them.
    """

    path: str
    data: bytes
    parts: Mapping[str, bytes]
    sha256: str


@contextmanager
def looked_for_beside(model: str | os.PathLike[str]) -> Iterator[None]:
    """While a model file is read: its backbone may lie beside it."""
    token = _BESIDE.set(os.path.dirname(os.path.abspath(os.fspath(model))))
    try:
        yield
    finally:
        _BESIDE.reset(token)


def folder_beside() -> str:
    """Folder of the model file that is being read, or nothing."""
    return _BESIDE.get()


def check_name(owner: str, file: Any) -> str:
    """Refuse what is no path of a local file; names in model files come from anywhere."""
    if not isinstance(file, str) or not file.strip() or len(file) > 4096:
        raise InputError(f"{owner}: the file is {file!r:.60}; a path is needed")
    if any(ord(character) < 32 for character in file):
        raise InputError(f"{owner}: the file {display_name(file[:60])} has control characters in its name")
    if file.startswith(("\\\\", "//")) or "://" in file:
        raise InputError(f"{owner}: {file[:60]} is no local file", "Download it, and give the path")
    return file


def check_stored_name(owner: str, file: str) -> None:
    """Refuse a path with ``..`` in a model file: what `fit` stores has none."""
    if ".." in PureWindowsPath(file).parts or ".." in PurePosixPath(file).parts:
        raise InputError(f"{owner}: the stored path {file[:60]!r} leads upwards")


def read_regular(owner: str, path: str) -> bytes:
    """All bytes of a regular file; pipes and devices never block.

    Raises
    ------
    InputError
        When there is no such file, it cannot be read, is empty or too large.
    """
    shown = display_name(path)
    flags = os.O_RDONLY
    for flag in ("O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_BINARY"):
        flags |= getattr(os, flag, 0)
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        raise InputError(f"{owner}: there is no file {shown}", "Check the path") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"{owner}: {shown} cannot be opened: {reason}") from None
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        os.close(descriptor)
        raise InputError(f"{owner}: {shown} is no file")
    with os.fdopen(descriptor, "rb") as stream:
        if not 0 < facts.st_size <= LARGEST:
            raise InputError(f"{owner}: {shown} has {facts.st_size:,} bytes; 1 to {LARGEST:,} are possible")
        return stream.read()


def source(owner: str, path: str, data: bytes, others: Mapping[str, bytes]) -> Source:
    """Bytes with their common SHA-256; that of the file itself where it refers to no other."""
    digest = hashlib.sha256(data)
    for name, part in sorted(others.items()):
        digest.update(f"\n{name}\n{len(part)}\n".encode("utf-8", "surrogateescape"))
        digest.update(part)
    return Source(path, data, dict(others), digest.hexdigest())


def candidates(stored: str, beside: str) -> list[str]:
    """Paths at which the file of a model may be, in order; those that are no regular file left out."""
    name = PureWindowsPath(stored).name if "\\" in stored else os.path.basename(stored)
    folders = [folder for folder in [beside, *os.environ.get(FOLDERS, "").split(os.pathsep)] if folder]
    paths = [os.path.join(folder, name) for folder in folders] + [stored]
    return [path for path in dict.fromkeys(paths) if Path(path).is_file()]


def not_found(owner: str, stored: str, beside: str, sha256: str, differing: list[str]) -> InputError:
    """What to say when no file with the right hash is there."""
    name = display_name(PureWindowsPath(stored).name if "\\" in stored else os.path.basename(stored))
    mend = f"Put the file it was trained with beside the model file, or in a folder of ${FOLDERS}"
    if differing:
        return InputError(
            f"{owner}: {display_name(differing[0])} is not the file that the model was trained with "
            f"(SHA-256 {sha256[:12]}… is needed)",
            mend,
        )
    looked = ", ".join(filter(None, [display_name(beside), f"${FOLDERS}", display_name(os.path.dirname(stored))]))
    return InputError(f"{owner}: the model needs {name}, and it is not there (looked in {looked})", mend)
