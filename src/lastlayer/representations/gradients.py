"""Edge orientations: the gradient of every pixel, and its votes into histograms over direction and place.

For a pixel with central differences (gx, gy), magnitude m = √(gx² + gy²) and angle θ = atan2(gy, gx), the cell c
and direction bin k receive::

    h[c, k] = (1 / pixels in a cell) Σ_pixels  m · w_k(θ) · v_c(row, column)

Without interpolation w and v are 0 or 1 (Dalal and Triggs 2005 as scikit-image computes it); with interpolation
both are the linear hats of their paper: a vote is shared by the two nearest directions and the four nearest cells.
Directions run over 0..180° (an edge and its negative are the same) or, signed, over 0..360°.

Shapes
------
planes : float32 (C, H, W, n), images last; gradients : float32 (H, W, n);
histogram : float32 (rows, columns, bins, n).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from lastlayer._arrays import Float32, Float64, FloatArray, InputError, IntArray, UInt8, check_images
from lastlayer.representations._batches import Scratch, batch_size, images_last, map_batches
from lastlayer.representations._checks import as_pair, check_whole
from lastlayer.representations.pooling import pool


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
        return grid.reshape(-1, len(batch)).T

    flat = map_batches(kernel, images, rows * columns * bins, batch_size(height, width))
    return flat.reshape(len(images), rows, columns, bins)


def cell_histograms(
    images: UInt8,
    bins: int,
    cell: tuple[int, int],
    scratch: Scratch,
    *,
    signed: bool,
    interpolation: bool,
    transform_sqrt: bool,
) -> Float32:
    """Histograms of one batch, uint8 (n, H, W, C) -> float32 (rows, columns, bins, n), in the scratch memory."""
    n, height, width, _ = images.shape
    turn = 360.0 if signed else 180.0
    if transform_sqrt:  # in float64: directions such as 60° are met exactly, and lie on the edge of two bins
        planes = images_last(images, scratch, np.float64)
        gx, gy, strength = strongest_gradient(np.sqrt(planes, out=planes), np.hypot, scratch)
        magnitude = strength.astype(np.float32)
        position = _bin_positions(np.arctan2(gy, gx), bins, turn, interpolation)
    else:
        gx, gy, strength = strongest_gradient(images_last(images, scratch), _square, scratch)
        magnitude = np.sqrt(strength, out=strength)
        position = _table_positions(gx, gy, bins, turn, interpolation, scratch)
    cells = height // cell[0], width // cell[1]
    histogram: Float32 = scratch("histogram", (bins, *cells, n))
    votes, around = scratch("votes", position.shape), scratch("around", position.shape)
    one, zero = np.float32(1), np.float32(0)
    for k in range(bins):
        np.subtract(position, np.float32(k), out=votes)
        np.abs(votes, out=votes)
        if k == 0:  # the circle closes: bin 0 is also one step above the last bin
            np.minimum(votes, np.subtract(np.float32(bins), position, out=around), out=votes)
        np.clip(votes, zero, one, out=votes)  # a scalar minimum is several times slower
        np.subtract(one, votes, out=votes)
        np.multiply(votes, magnitude, out=votes)
        pool(votes, cell, interpolation, histogram[k], scratch)
    histogram *= np.float32(1 / (cell[0] * cell[1]))
    return histogram.transpose(1, 2, 0, 3)


def strongest_gradient(
    planes: FloatArray, measure: Callable[..., FloatArray], scratch: Scratch
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Central differences and their strength, of the channel where that is largest; the first one on ties.

    `measure` is `numpy.hypot`, or, for whole numbers, the cheaper and exact gx² + gy².
    """
    shape = planes.shape[1:]
    gx, gy, strength = _gradient(planes[0], measure, scratch, "best")
    wins = scratch("wins", shape, np.int64 if planes.dtype == np.float64 else np.int32)
    for plane in planes[1:]:
        other_x, other_y, other = _gradient(plane, measure, scratch, "other")
        np.copyto(wins, np.greater(other, strength, out=scratch("greater", shape, np.bool_)))
        np.negative(wins, out=wins)  # all bits set where the other channel wins
        _replace(gx, other_x, wins, scratch)
        _replace(gy, other_y, wins, scratch)
        np.maximum(strength, other, out=strength)
    return gx, gy, strength


def _replace(best: FloatArray, other: FloatArray, wins: IntArray, scratch: Scratch) -> None:
    """Copy `other` into `best` where all bits are set; several times faster than a masked copy, and as exact."""
    bits = best.view(wins.dtype)
    different = np.bitwise_xor(bits, other.view(wins.dtype), out=scratch("different", bits.shape, wins.dtype))
    different &= wins
    bits ^= different


def _gradient(
    plane: FloatArray, measure: Callable[..., FloatArray], scratch: Scratch, name: str
) -> tuple[FloatArray, FloatArray, FloatArray]:
    gx, gy, strength = (scratch(f"{name}.{part}", plane.shape, plane.dtype) for part in ("x", "y", "strength"))
    gx[:, :1] = gx[:, -1:] = 0
    gy[:1] = gy[-1:] = 0
    np.subtract(plane[:, 2:], plane[:, :-2], out=gx[:, 1:-1])
    np.subtract(plane[2:], plane[:-2], out=gy[1:-1])
    return gx, gy, measure(gx, gy, out=strength)


def _square(gx: FloatArray, gy: FloatArray, out: FloatArray) -> FloatArray:
    np.multiply(gx, gx, out=out)
    out += gy * gy
    return out


def _table_positions(gx: FloatArray, gy: FloatArray, bins: int, turn: float, soft: bool, scratch: Scratch) -> Float32:
    """`_bin_positions` of differences of uint8, of which there are few enough for a table."""
    entry = np.multiply(gy, np.float32(511), out=scratch("entry", gx.shape))
    entry += gx
    entry += np.float32(255 * 511 + 255)
    index = scratch("index", gx.shape, np.intp)
    np.copyto(index, entry, casting="unsafe")
    position: Float32 = _position_table(bins, turn, soft).take(index, mode="clip", out=entry)
    return position


@lru_cache(maxsize=16)
def _position_table(bins: int, turn: float, soft: bool) -> Float32:
    steps = np.arange(-255, 256, dtype=np.float64)
    table = _bin_positions(np.arctan2(steps[:, None], steps[None, :]), bins, turn, soft).ravel()
    table.flags.writeable = False
    return table


def _bin_positions(angle: Float64, bins: int, turn: float, soft: bool) -> Float32:
    """Direction in units of bins, 0 <= p < bins: whole numbers, or with `soft` measured from bin 0's middle."""
    degrees = np.rad2deg(angle) % turn
    if not soft:
        edges = turn / bins * np.arange(1, bins)  # compared as scikit-image does: exact at the edges
        return np.searchsorted(edges, degrees, side="right").astype(np.float32)
    position = ((degrees * (bins / turn) - 0.5) % bins).astype(np.float32)
    position[position >= bins] = 0  # rounded up to the full turn
    return position
