"""Which pairs of pictures may be copies: a description that a small move does not change, and all close pairs of it.

The description is the root of the magnitudes of a picture's lowest frequencies under a window: a move changes only
their phases, a change of brightness or contrast only their common factor, and blur, noise and a slight crop little.
Pictures of one description may still be quite different; their outlines, pictures of `COARSE` pixels a side, tell most
of those apart for next to nothing.

Shapes
------
N : pictures, D : numbers of a description, unit length; E : pixels of an outline, centred, unit length.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from lastlayer._arrays import BoolArray, Float32, IntArray, UInt8
from lastlayer._progress import Task
from lastlayer._threads import parallel
from lastlayer.data.near_alignment import area_means, luma, working_pictures

Float16 = npt.NDArray[np.float16]

COARSE = 8
"""Side of an outline at most."""
ALIKE = 0.5
"""Correlation of the outlines of copies at least: of 407 found in CIFAR-10 the least was 0.58, half exceed 0.95."""

_BATCH = 512
_BLOCK = 2048
_FREQUENCIES = 6
_GRID = 32
_MOST_A_ROW = 32


def describe_pictures(pixels: UInt8, rows: IntArray, threads: int = 1) -> tuple[Float32, Float16]:
    """Descriptions (N, D) and outlines (N, E) of ``pixels[rows]``; zeros for pictures without contrast."""

    def part(start: int) -> tuple[Float32, Float32]:
        gray = luma(working_pictures(pixels[rows[start : start + _BATCH]]))
        return _describe(gray), _outline(gray)

    parts = parallel(part, range(0, len(rows), _BATCH), threads)
    if not parts:
        return np.zeros((0, 1), np.float32), np.zeros((0, 1), np.float16)
    descriptions, outlines = zip(*parts)
    return np.concatenate(descriptions), np.concatenate(outlines).astype(np.float16)


def _outline(gray: Float32) -> Float32:
    down, across = (area_means(side, min(side, COARSE)) for side in gray.shape[1:])
    small = np.einsum("ih,nhw,jw->nij", down, gray, across, optimize=True).reshape(len(gray), -1)
    small -= small.mean(axis=1, keepdims=True)
    return np.asarray(small / np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1e-6), dtype=np.float32)


def outlines_agree(outlines: Float16, i: IntArray, j: IntArray) -> BoolArray:
    """Whether the outlines of each pair correlate by `ALIKE` at least, (P,)."""
    parts = [
        np.einsum("pe,pe->p", outlines[i[s : s + _BLOCK]], outlines[j[s : s + _BLOCK]], dtype=np.float32) >= ALIKE
        for s in range(0, len(i), _BLOCK)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=bool)


def _describe(gray: Float32) -> Float32:
    gray = gray - gray.mean(axis=(1, 2), keepdims=True)
    window = [np.sqrt(np.hanning(side + 2)[1:-1]).astype(np.float32) for side in gray.shape[1:]]
    spectrum = np.fft.rfft2(gray * (window[0][:, None] * window[1]), s=(_GRID, _GRID))
    low = np.r_[0 : _FREQUENCIES + 1, _GRID - _FREQUENCIES : _GRID]
    found = np.sqrt(np.abs(spectrum[:, low, : _FREQUENCIES + 1])).reshape(len(gray), -1)
    found -= found.mean(axis=1, keepdims=True)
    length = np.linalg.norm(found, axis=1, keepdims=True)
    shows = gray.std(axis=(1, 2))[:, None] >= 1.0
    return np.where(shows, found / np.maximum(length, 1e-6), 0).astype(np.float32)


def nearest_in_description(descriptions: Float32, rows: IntArray, k: int) -> IntArray:
    """The `k` nearest others of each of `rows`, in no order: (n, k)."""
    found = np.empty((len(rows), k), dtype=np.int64)
    step = max(1, 8_388_608 // max(1, len(descriptions)))
    for start in range(0, len(rows), step):
        here = rows[start : start + step]
        cosines = descriptions[here] @ descriptions.T
        cosines[np.arange(len(here)), here] = -np.inf
        found[start : start + step] = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
    return found


def close_pairs(
    descriptions: Float32, reach: Float32, task: Task, threads: int = 1
) -> Iterator[tuple[IntArray, IntArray, Float32]]:
    """Pairs i < j nearer than both reaches, block by block: row numbers and distances.

    Where a block holds very many pairs, the nearest `_MOST_A_ROW` of each row are given.

    Parameters
    ----------
    descriptions : float32 (N, D)
        Rows of like reach side by side make it fast.
    reach : float32 (N,)
        Largest distance of a pair; 0 for rows without pairs.
    threads : int
        Blocks side by side; changes no bit.
    """
    least = 1 - reach.astype(np.float64) ** 2 / 2  # cosines of unit vectors: |x - y|² = 2 - 2 x·y
    n = len(descriptions)
    for top in range(0, n, _BLOCK):
        rows = slice(top, min(top + _BLOCK, n))

        def block(left: int, rows: slice = rows) -> tuple[IntArray, IntArray, Float32]:
            columns = slice(left, min(left + _BLOCK, n))
            cosines = descriptions[rows] @ descriptions[columns].T
            bound = max(least[rows].min(), least[columns].min())
            return _above(cosines, np.float32(bound - 1e-6), least, rows.start, left)

        yield from parallel(block, range(top, n, _BLOCK), threads)
        task.advance(2 * (rows.stop - top) * (n - top) / (n + _BLOCK))


def _above(
    cosines: Float32, bound: np.float32, least: np.ndarray[tuple[int, ...], np.dtype[np.float64]], top: int, left: int
) -> tuple[IntArray, IntArray, Float32]:
    flat = np.flatnonzero(cosines > bound)
    if len(flat) > 4 * _MOST_A_ROW * len(cosines) and cosines.shape[1] > _MOST_A_ROW:
        nearest = np.argpartition(-cosines, _MOST_A_ROW - 1, axis=1)[:, :_MOST_A_ROW]
        flat = (np.arange(len(cosines))[:, None] * cosines.shape[1] + nearest).ravel()
    i, j = flat // cosines.shape[1] + top, flat % cosines.shape[1] + left
    value = cosines.reshape(-1)[flat]
    keep = (i < j) & (value > least[i]) & (value > least[j])
    return i[keep], j[keep], np.sqrt(np.maximum(2 - 2 * value[keep], 0)).astype(np.float32)
