"""Many image files at once, on all cores: the pixels of a data set, and what happened to each file.

A few files are decoded by threads of this process. More go to worker processes (`decode_pool.py`), so that a file that
crashes, hangs or fills the memory of its decoder costs that one file and nothing else.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from lastlayer._arrays import BoolArray, InputError, Int32, IntArray, UInt8
from lastlayer._progress import SILENT, Progress
from lastlayer.data.images import ALTERATIONS, ImageFormat, ImageReadError, read_image

FEW = 64
_KINDS = tuple(ALTERATIONS)


@dataclass(frozen=True)
class Decoded:
    """Decoded files; every array is aligned with the paths that were given.

    Attributes
    ----------
    pixels : ndarray of uint8, (N, H, W, C)
        Rows of refused files are zero.
    sha256 : ndarray of uint8, (N, 32)
        Of each file's bytes; zero for refused files.
    sizes : ndarray of int32, (N, 2)
        Width and height as shown, before the resize; zero for refused files.
    readable : ndarray of bool, (N,)
        Whether the file is used.
    alterations : dict of str to ndarray of int
        Kind (a key of `ALTERATIONS`) to the rows it happened to, ascending; kinds that happened only.
    refusals : dict of int to (str, str)
        Row to the reason (a key of `REFUSALS`) and the advice in one line.
    """

    pixels: UInt8
    sha256: UInt8
    sizes: Int32
    readable: BoolArray
    alterations: dict[str, IntArray]
    refusals: dict[int, tuple[str, str]]


class Results:
    """The arrays being filled, from several threads, each row by one of them."""

    def __init__(self, count: int, format: ImageFormat, out: UInt8 | None) -> None:
        shape = (count, format.height, format.width, format.channels)
        if out is None:
            out = np.zeros(shape, dtype=np.uint8)
        elif out.shape != shape or out.dtype != np.uint8 or not out.flags.c_contiguous or not out.flags.writeable:
            raise InputError(f"out is {out.dtype} {out.shape}; a writable, C-contiguous uint8 array {shape} is needed")
        self.pixels = out
        self.sha256 = np.zeros((count, 32), dtype=np.uint8)
        self.sizes = np.zeros((count, 2), dtype=np.int32)
        self.flags = np.zeros(count, dtype=np.uint16)
        self.readable = np.zeros(count, dtype=np.bool_)
        self.refusals: dict[int, tuple[str, str]] = {}
        self.bytes_per_row = format.height * format.width * format.channels
        self._flat = out.reshape(-1).data if count else memoryview(b"")
        self._hashes = self.sha256.reshape(-1).data if count else memoryview(b"")

    def row(self, row: int) -> memoryview:
        """The pixels of one row, to be read into."""
        return self._flat[row * self.bytes_per_row : (row + 1) * self.bytes_per_row]

    def accept(self, row: int, flags: int, width: int, height: int, sha256: bytes) -> None:
        """Note a file whose pixels are in place."""
        self._hashes[32 * row : 32 * row + 32] = sha256
        self.sizes[row] = width, height
        self.flags[row] = flags
        self.readable[row] = True

    def refuse(self, row: int, reason: str, advice: str) -> None:
        """Note a file that cannot be used."""
        self.pixels[row] = 0
        self.refusals[row] = (reason, advice)

    def decoded(self) -> Decoded:
        """The finished result, in an order that does not depend on which worker was first."""
        alterations = {kind: np.flatnonzero(self.flags & (1 << i)) for i, kind in enumerate(_KINDS)}
        return Decoded(
            self.pixels,
            self.sha256,
            self.sizes,
            self.readable,
            {kind: rows for kind, rows in alterations.items() if len(rows)},
            dict(sorted(self.refusals.items())),
        )


def decode_files(
    paths: Sequence[str],
    format: ImageFormat,
    *,
    workers: int | None = None,
    progress: Progress = SILENT,
    out: UInt8 | None = None,
) -> Decoded:
    """Decode files to one format.

    Parameters
    ----------
    paths : sequence of str
        As the system gives them (surrogateescape for names that are not UTF-8).
    format : ImageFormat
        What each becomes.
    workers : int, optional
        Worker processes; None: one a core. 0: threads of this process, which a hostile file can crash or
        hold up. Up to 64 files are decoded by threads unless a number is given.
    progress : Progress
        Gets the task ``"Decode"``.
    out : ndarray of uint8, (N, H, W, C), optional
        Where the pixels go, for example a memory map.

    Raises
    ------
    InputError
        When `out` does not fit, or worker processes cannot be started. Unreadable files do not raise: they
        are in `Decoded.refusals`.
    """
    if workers is not None and workers < 0:
        raise InputError(f"workers is {workers}; 0 or more are needed")
    results = Results(len(paths), format, out)
    in_process = len(paths) <= FEW if workers is None else workers == 0
    with progress.task("Decode", len(paths)) as task:
        if in_process:
            steps = _decode_here(paths, format, results)
        else:
            from lastlayer.data.decode_pool import DecodePool  # not needed for a few files

            steps = DecodePool(paths, format, results, min(workers or cores(), len(paths))).run()
        with contextlib.closing(steps):  # an interrupt anywhere in this loop ends the workers at once
            for done in steps:
                if done:
                    task.advance(done)
    return results.decoded()


def cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _decode_here(paths: Sequence[str], format: ImageFormat, results: Results) -> Generator[int, None, None]:
    """Decode by threads; Pillow gives the lock away while it decodes."""

    def decode(row: int) -> None:
        try:
            image = read_image(paths[row], format)
        except ImageReadError as error:
            results.refuse(row, error.reason, error.advice)
            return
        results.row(row)[:] = image.pixels.reshape(-1).data
        flags = sum(1 << _KINDS.index(kind) for kind in image.alterations)
        results.accept(row, flags, image.width, image.height, image.sha256)

    pool = ThreadPoolExecutor(cores(), thread_name_prefix="decode")
    try:
        for _ in pool.map(decode, range(len(paths))):
            yield 1
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
