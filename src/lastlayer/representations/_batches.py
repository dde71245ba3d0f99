"""Batches small enough for the cache, spread over threads; what a row becomes never depends on its batch.

Inside a batch the images are the *last* axis, (…, n): neighbours in space are then whole contiguous vectors, so
that every shift, product and sum is a plain NumPy operation on long rows. Sums over pixels are written as
repeated ``+=`` (`add_over`): NumPy's own reductions choose their order from the strides, and a batch of one
image would be summed differently from a batch of two.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from lastlayer._arrays import Array, Float32, UInt8

_PLANE_BYTES = 1_048_576  # one float32 plane of a batch: the third-level cache holds several, and calls are long


class Scratch:
    """Arrays that a thread uses again for every batch.

    Memory asked for anew is mapped and cleared by the operating system page by page, which costs several times
    the arithmetic done in it.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, UInt8] = {}

    def __call__(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> Array:
        """Return an array with arbitrary content; the same memory for the same name."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        buffer = self._buffers.get(name)
        if buffer is None or len(buffer) < size:
            buffer = self._buffers[name] = np.empty(size, np.uint8)
        return buffer[:size].view(dtype).reshape(shape)


# images of a batch, scratch -> features
Kernel = Callable[[UInt8, Scratch], Float32]


def batch_size(height: int, width: int) -> int:
    """How many images of this size make a batch.

    >>> batch_size(32, 32), batch_size(224, 224)
    (256, 8)
    """
    return int(np.clip(_PLANE_BYTES // (4 * height * width), 8, 256))


def thread_count() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)


def images_last(images: UInt8, scratch: Scratch, dtype: npt.DTypeLike = np.float32) -> Array:
    """Return (n, H, W, C) as floats (C, H, W, n) in the scratch memory."""
    n, height, width, channels = images.shape
    turned = scratch("images.turned", (channels, height, width, n), np.uint8)
    np.copyto(turned, images.transpose(3, 1, 2, 0))  # turn, then convert: both at once takes twice as long
    planes = scratch("images.planes", turned.shape, dtype)
    np.copyto(planes, turned)
    return planes


def add_over(x: Array, axis: int, out: Array) -> Array:
    """Sum over one axis, first entry to last, whatever the strides."""
    parts = x.transpose(axis, *(i for i in range(x.ndim) if i != axis))
    np.copyto(out, parts[0])
    for part in parts[1:]:
        out += part
    return out


def map_batches(kernel: Kernel, images: UInt8, n_features: int, batch: int, threads: int | None = None) -> Float32:
    """Fill (N, D) with ``kernel(images[rows], scratch)`` for batches of rows, over threads (NumPy releases the GIL).

    Parameters
    ----------
    kernel : callable
        uint8 (n, H, W, C), scratch -> float32 (n, D); each row a function of its own image alone. What it
        returns may lie in the scratch memory.
    images : uint8 (N, H, W, C)
        May be a memory map; a batch is read when its turn comes.
    n_features, batch : int
        D, and the number of rows of a batch.
    threads : int, optional
        As many as there are cores when not given. The result is the same for any number.
    """
    out = np.empty((len(images), n_features), np.float32)
    starts = iter(range(0, len(images), batch))
    turn, stop = threading.Lock(), threading.Event()

    def work() -> None:
        scratch = Scratch()
        while not stop.is_set():
            with turn:
                start = next(starts, None)
            if start is None:
                return
            out[start : start + batch] = kernel(np.asarray(images[start : start + batch]), scratch)

    workers = min(threads or thread_count(), -(-len(images) // batch))
    if workers <= 1:
        work()
        return out
    with ThreadPoolExecutor(workers) as pool:
        running: list[Any] = [pool.submit(work) for _ in range(workers)]
        try:
            for worker in running:
                worker.result()
        finally:  # after an error or Ctrl-C the others end with their batch
            stop.set()
    return out
