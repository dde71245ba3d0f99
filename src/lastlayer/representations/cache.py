"""Features kept on disk, found again by a hash of everything they depend on.

An entry is one file: an ordinary ``.npy`` with 40 bytes behind it, a mark and the SHA-256 of all bytes before.
It is written under another name and renamed, so that processes sharing the folder see whole entries or none;
every read checks the hash, and an entry that does not fit is computed again and said so. The least recently used
entries go when the folder grows beyond its limit.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lastlayer._arrays import Array
from lastlayer._files import atomic_writer

_MARK = b"LLcache1"
_TAIL = len(_MARK) + 32
_CHUNK = 1 << 24
_KEY = re.compile(r"[A-Za-z0-9_-]{1,200}")
_STALE_SECONDS = 86_400  # temporary files of a process that was killed
_log = logging.getLogger(__name__)


class FeatureCache:
    """Arrays by key, in one folder.

    Parameters
    ----------
    folder : Path, optional
        Made when something is first stored; None switches the cache off, and nothing is read or written.
    max_bytes : int
        What the folder may hold; an array larger than that is not stored.

    Attributes
    ----------
    hits, misses : int
        How often `array` found its entry, and how often it computed.
    notes : list of str
        What went wrong without stopping anything: a damaged entry, a full disk. Also logged as warnings.
    """

    def __init__(self, folder: str | os.PathLike[str] | None, max_bytes: int = 10 * 2**30) -> None:
        self.folder = None if folder is None else Path(folder)
        self.max_bytes = max_bytes
        self.hits = 0
        self.misses = 0
        self.notes: list[str] = []

    def key(self, kind: str, **parts: Any) -> str:
        """SHA-256 of the canonical JSON of `kind` and `parts` (JSON values: no NaN, no bytes, no arrays).

        >>> FeatureCache(None).key("features", size=8, color="gray")[:16]
        '7cce92e0f864d933'
        """
        text = json.dumps([kind, parts], sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    def array(self, key: str, compute: Callable[[], Array]) -> Array:
        """Return the array of this key: the stored one, or `compute()`, which is then stored.

        Returns
        -------
        ndarray
            Read-only; a memory map when it was stored.
        """
        if not _KEY.fullmatch(key):
            raise ValueError(f"not a cache key: {key!r}")
        path = None if self.folder is None else self.folder / f"{key}.npy"
        if path is not None:
            found = self._read(path)
            if found is not None:
                self.hits += 1
                return found
        self.misses += 1
        array = np.asarray(compute()).view()
        if path is not None:
            self._write(path, array)
        array.flags.writeable = False
        return array

    def _read(self, path: Path) -> Array | None:
        try:
            with open(path, "rb") as stream:
                fault = _fault(stream)
            if fault:
                raise ValueError(fault)
            found: Array = np.load(path, mmap_mode="r", allow_pickle=False)
            with contextlib.suppress(OSError):  # a read-only folder: then it is not the least recently used for long
                os.utime(path)
            return found
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            self._note(f"cache entry {path} cannot be used ({error}); computed again")
            return None

    def _write(self, path: Path, array: Array) -> None:
        header = _npy_header(array)
        size = len(header) + array.nbytes + _TAIL
        if size > self.max_bytes:
            self._note(f"{size:,} bytes of features exceed the cache's {self.max_bytes:,}; not stored")
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._make_room(size)
            with atomic_writer(path) as stream:
                _write_entry(stream, header, array)
        except OSError as error:
            self._note(f"features could not be stored in {path.parent} ({error})")

    def _make_room(self, size: int) -> None:
        """Remove the least recently used entries until `size` more bytes fit."""
        assert self.folder is not None
        entries = []
        for item in os.scandir(self.folder):
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                facts = item.stat()
                if item.name.endswith(".npy"):
                    entries.append((facts.st_mtime_ns, item.path, facts.st_size))
                elif item.name.endswith(".tmp") and time.time() - facts.st_mtime > _STALE_SECONDS:
                    os.unlink(item.path)
        total = size + sum(entry[2] for entry in entries)
        for _, old, freed in sorted(entries):
            if total <= self.max_bytes:
                return
            with contextlib.suppress(FileNotFoundError, PermissionError):  # Windows keeps a file that is in use
                os.unlink(old)
                total -= freed

    def _note(self, text: str) -> None:
        self.notes.append(text)
        _log.warning(text)


def _npy_header(array: Array) -> bytes:
    if array.dtype.hasobject:
        raise TypeError("arrays of objects cannot be cached")
    stream = io.BytesIO()
    description = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": array.shape}
    np.lib.format.write_array_header_1_0(stream, description)
    return stream.getvalue()


def _write_entry(stream: BinaryIO, header: bytes, array: Array) -> None:
    """Header, data in C order, mark and hash; big arrays go row block by row block."""
    digest = hashlib.sha256()

    def put(data: bytes | memoryview) -> None:
        digest.update(data)
        stream.write(data)

    put(header)
    rows = max(1, _CHUNK // max(1, array.nbytes // max(1, len(array)))) if array.ndim else 1
    parts = (array[start : start + rows] for start in range(0, len(array), rows)) if array.ndim else (array,)
    for part in parts:
        put(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
    put(_MARK)
    stream.write(digest.digest())


def _fault(stream: BinaryIO) -> str:
    """What is wrong with an entry, or nothing."""
    left = os.fstat(stream.fileno()).st_size - 32
    if left < _TAIL:
        return "too short"
    digest, last = hashlib.sha256(), b""
    while left:
        chunk = stream.read(min(_CHUNK, left))
        if not chunk:
            return "cut short while it was read"
        digest.update(chunk)
        last = (last + chunk)[-len(_MARK) :]
        left -= len(chunk)
    if last != _MARK:
        return "no cache entry"
    return "" if stream.read() == digest.digest() else "its hash does not fit"


def default_cache_folder() -> Path:
    """``$LASTLAYER_CACHE``, else ``lastlayer`` in the platform's folder for caches."""
    own = os.environ.get("LASTLAYER_CACHE")
    if own:
        return Path(own)
    shared = os.environ.get("XDG_CACHE_HOME")
    if shared and os.path.isabs(shared):
        return Path(shared) / "lastlayer"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "lastlayer"
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "lastlayer" / "Cache"
    return Path.home() / ".cache" / "lastlayer"
