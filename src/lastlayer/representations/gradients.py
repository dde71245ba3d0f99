"""Edge orientations: the gradient of every pixel, and its votes into histograms over direction and place.

For a pixel with central differences (gx, gy), magnitude m = √(gx² + gy²) and angle θ = atan2(gy, gx), the cell c
and direction bin k receive::

    h[c, k] = (1 / pixels in a cell) Σ_pixels  m · w_k(θ) · v_c(row, column)

Without interpolation w and v are 0 or 1 (Dalal and Triggs 2005 as scikit-image computes it); with interpolation
both are the linear hats of their paper: a vote is shared by the two nearest directions and the four nearest cells.
Directions run over 0..180° (an edge and its negative are the same) or, signed, over 0..360°.

Shapes
------
images : uint8 (n, H, W, C); histogram : float32 (n, rows, columns, bins).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from lastlayer._arrays import Float32, Float64, InputError, IntArray, UInt8, check_images
from lastlayer.representations._batches import Scratch, map_batches
from lastlayer.representations._checks import as_pair, check_whole
from lastlayer.representations.pooling import hat

_BATCH_BYTES = 524_288  # directions and magnitudes of a batch
_MOST_CELLS = 12


def orientation_histogram(
    images: UInt8,
    orientations: int = 9,
    pixels_per_cell: tuple[int, int] = (8, 8),
    *,
    signed: bool = False,
    interpolation: bool = False,
    transform_sqrt: bool = False,
) -> Float32:
    """Histograms of edge orientation, one per cell, each pixel voting with its gradient magnitude.

    The channel of largest magnitude speaks for a pixel of a colour image; the outermost rows (columns) have no
    vertical (horizontal) difference. Rows and columns that fill no whole cell at the bottom and right are left out.

    Parameters
    ----------
    images : uint8 (N, H, W, C)
    orientations : int
        Bins over 180°; `signed` histograms have twice as many over 360°.
    pixels_per_cell : (int, int)
        Rows and columns of a cell.
    signed : bool
        Tell a dark-to-light edge from a light-to-dark one.
    interpolation : bool
        Share a vote linearly between neighbouring bins and cells.
    transform_sqrt : bool
        Take the square root of the intensities first.

    Returns
    -------
    float32 (N, cells down, cells across, bins)
        Mean vote per pixel of the cell, in grey levels per two pixels.

    Raises
    ------
    InputError
        When an image has not a single whole cell; names the size that is needed.

    References
    ----------
    Dalal and Triggs (2005), Histograms of oriented gradients for human detection, sections 6.2 and 6.3.

    Examples
    --------
    A step from dark (left) to light (right) has the direction 0°, the first of nine bins:

    >>> step = np.zeros((1, 8, 8, 1), np.uint8)
    >>> step[:, :, 4:] = 128
    >>> orientation_histogram(step)[0, 0, 0].round(1)
    array([32.,  0.,  0.,  0.,  0.,  0.,  0.,  0.,  0.], dtype=float32)
    """
    check_images(images)
    check_whole("orientation_histogram", "orientations", orientations, 1, 180)
    cell = as_pair("orientation_histogram", "pixels_per_cell", pixels_per_cell, 4096)
    height, width = images.shape[1:3]
    rows, columns = height // cell[0], width // cell[1]
    if rows < 1 or columns < 1:
        raise InputError(
            f"images of {height}x{width} pixels have no whole cell of {cell[0]}x{cell[1]}",
            f"They need at least {cell[0]}x{cell[1]} pixels, or smaller cells",
        )
    bins = 2 * orientations if signed else orientations

    def kernel(batch: UInt8, scratch: Scratch) -> Float32:
        grid = cell_histograms(
            batch,
            bins,
            cell,
            scratch,
            signed=signed,
            interpolation=interpolation,
            transform_sqrt=transform_sqrt,
        )
        return grid.reshape(len(batch), -1)

    flat = map_batches(kernel, images, rows * columns * bins, cached_batch(height, width))
    return flat.reshape(len(images), rows, columns, bins)


def cached_batch(height: int, width: int) -> int:
    """How many images of this size a kernel takes at a time.

    >>> cached_batch(32, 32), cached_batch(224, 224)
    (64, 1)
    """
    return int(np.clip(_BATCH_BYTES // (8 * height * width), 1, 64))


def cell_for(height: int, width: int) -> int:
    """Pixels of a cell: the smallest power of two (2 or more) that leaves at most 12 along the longer side.

    >>> cell_for(8, 8), cell_for(32, 32), cell_for(224, 160)
    (2, 4, 32)
    """
    cell = 2
    while max(height, width) > cell * _MOST_CELLS and min(height, width) >= 2 * cell:
        cell *= 2
    return cell


def cell_histograms(
    images: UInt8,
    bins: int,
    cell: tuple[int, int],
    scratch: Scratch,
    *,
    signed: bool,
    interpolation: bool,
    transform_sqrt: bool,
    folded: bool = False,
) -> Float32:
    """Histograms of one batch, uint8 (n, H, W, C) -> float32 (n, rows, columns, bins), in the scratch memory.

    Folded ones have bins / 2 more: the sums of opposite directions, which are one orientation.
    """
    from lastlayer.representations import hog_kernels

    n, height, width, channels = images.shape
    planes = scratch("gradients.planes", (n, channels, height, width), np.uint8)
    np.copyto(planes, images.transpose(0, 3, 1, 2))
    position, magnitude = (scratch(f"gradients.{name}", (n, height, width)) for name in ("position", "magnitude"))
    turn = 360.0 if signed else 180.0
    if transform_sqrt:
        edges = _edges(bins, turn)
        hog_kernels.root_directions(planes, edges, bins, turn, interpolation, position, magnitude)
    else:
        hog_kernels.directions(planes, _position_table(bins, turn, interpolation), position, magnitude)
    rows, columns = height // cell[0], width // cell[1]
    histogram: Float32 = scratch("gradients.histogram", (n, rows, columns, bins + bins // 2 if folded else bins))
    hog_kernels.vote(
        position,
        magnitude,
        *shares(height, cell[0], interpolation),
        *shares(width, cell[1], interpolation),
        np.float32(1 / (cell[0] * cell[1])),
        folded,
        scratch("gradients.line", (columns, bins)),
        histogram,
    )
    return histogram


@lru_cache(maxsize=64)
def shares(length: int, size: int, hats: bool) -> tuple[IntArray, Float32]:
    """The two cells that each pixel's vote goes to along one axis, and their shares; (length, 2) each.

    >>> shares(4, 2, True)[1]
    array([[0.75, 0.  ],
           [0.75, 0.25],
           [0.25, 0.75],
           [0.75, 0.  ]], dtype=float32)
    """
    cells = length // size
    index, share = np.zeros((length, 2), np.int64), np.zeros((length, 2), np.float32)
    used = np.zeros(length, np.int64)
    for cell in range(cells):
        for offset, weight in hat(size) if hats else [(i, 1.0) for i in range(size)]:
            pixel = cell * size + offset
            if 0 <= pixel < length:
                index[pixel, used[pixel]], share[pixel, used[pixel]] = cell, weight
                used[pixel] += 1
    index.flags.writeable = share.flags.writeable = False
    return index, share


@lru_cache(maxsize=16)
def _position_table(bins: int, turn: float, soft: bool) -> Float32:
    """`_bin_positions` of differences of bytes, of which there are few enough for a table.

    The entry of (gx, gy) is 511 (gy + 255) + gx + 255.
    """
    steps = np.arange(-255, 256, dtype=np.float64)
    table = _bin_positions(np.arctan2(steps[:, None], steps[None, :]), bins, turn, soft).ravel()
    table.flags.writeable = False
    return table


@lru_cache(maxsize=64)
def _edges(bins: int, turn: float) -> Float64:
    edges: Float64 = turn / bins * np.arange(1, bins, dtype=np.float64)
    edges.flags.writeable = False
    return edges


def _bin_positions(angle: Float64, bins: int, turn: float, soft: bool) -> Float32:
    """Direction in units of bins, 0 <= p < bins: whole numbers, or with `soft` measured from bin 0's middle."""
    degrees = np.rad2deg(angle) % turn
    if not soft:
        # compared as scikit-image does: exact at the edges
        return np.searchsorted(_edges(bins, turn), degrees, side="right").astype(np.float32)
    position = ((degrees * (bins / turn) - 0.5) % bins).astype(np.float32)
    position[position >= bins] = 0  # rounded up to the full turn
    return position
