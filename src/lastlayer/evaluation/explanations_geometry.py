"""Which pixels a number stands for: area means, HOG cells and views, as matrices along one axis.

Shapes
------
map : float64 (H, W).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lastlayer._arrays import Float64, FloatArray
from lastlayer.representations.hog import Hog
from lastlayer.representations.pooling import pooling_matrix
from lastlayer.representations.views import Views, view


def area_means(length: int, size: int) -> Float64:
    """(size, length) weights of means over the area that each of `size` new pixels covers.

    >>> area_means(4, 2)
    array([[0.5, 0.5, 0. , 0. ],
           [0. , 0. , 0.5, 0.5]])
    """
    new, old = np.arange(size)[:, None] * length, np.arange(length)[None] * size
    covered = np.minimum(new + length, old + size) - np.maximum(new, old)
    return np.asarray(np.clip(covered, 0, None) / length)


def spread_back(spread: Float64, height: int, width: int) -> Float64:
    """A map of another size, each pixel's share over the area that it stands for; the sum stays."""
    return np.asarray(_overlap(height, len(spread)) @ spread @ _overlap(width, spread.shape[1]).T)


def _overlap(length: int, size: int) -> Float64:
    """(length, size): what share of each of `size` pixels lies on each of `length` pixels; columns sum to 1."""
    return area_means(length, size).T if size <= length else area_means(size, length) * (length / size)


def moved_back(views: Views, maps: list[Float64]) -> Float64:
    """The mean of maps of the views, each pixel's share where it comes from; the mean of the sums stays."""
    shape = maps[0].shape
    places, total = np.arange(maps[0].size).reshape(1, *shape, 1), np.zeros(maps[0].size)
    for move, each in zip(views.moves, maps):
        origin = view(places, move).ravel()  # type: ignore[arg-type]
        total += np.bincount(origin, each.ravel(), total.size)
    return total.reshape(shape) / len(maps)


def hog_levels(phi: Hog, terms: Float64, shape: tuple[int, int]) -> Iterator[tuple[Float64, Float64, Float64, Float64]]:
    """Each level of HOG: the matrices of its cells, and its terms.

    Yields
    ------
    down, across : (rows, H), (columns, W)
        With which pixels vote for cells.
    by_bin : (rows, columns, bins)
        Terms of each cell's directions.
    by_cell : (rows, columns)
        Terms of each cell's strengths, the sums over its directions.
    """
    assert isinstance(phi.pixels_per_cell, tuple)
    cell, soft, start = phi.pixels_per_cell, phi.interpolation, 0
    down, across = (pooling_matrix(length, side, soft) for length, side in zip(shape, cell))
    for level in range(phi.levels):
        if level:
            down = pooling_matrix(len(down), 2, soft) @ down
            across = pooling_matrix(len(across), 2, soft) @ across
        by_bin, by_cell, start = _cell_terms(phi, terms, start, len(down), len(across))
        yield down, across, by_bin, by_cell


def _cell_terms(phi: Hog, terms: Float64, start: int, rows: int, columns: int) -> tuple[Float64, Float64, int]:
    """Terms of one level, and where the next one begins."""
    assert isinstance(phi.cells_per_block, tuple)
    tall, wide = phi.cells_per_block
    bins = 3 * phi.orientations if phi.signed else phi.orientations
    if phi.compact:
        stop = start + rows * columns * (bins + tall * wide)
        cells = terms[start:stop].reshape(rows, columns, -1)
        return cells[:, :, :bins], cells[:, :, bins:].sum(axis=2), stop
    shape = (rows - tall + 1, columns - wide + 1, tall, wide, bins)
    stop = start + int(np.prod(shape))
    blocks, cells = terms[start:stop].reshape(shape), np.zeros((rows, columns, bins))
    for i in range(tall):
        for j in range(wide):
            cells[i : i + shape[0], j : j + shape[1]] += blocks[:, :, i, j]
    return cells, np.zeros((rows, columns)), stop


def grid_part(i: int, of: int, length: int) -> slice:
    """The i-th of so many parts of a length.

    >>> grid_part(1, 3, 10)
    slice(3, 6, None)
    """
    return slice(i * length // of, (i + 1) * length // of)


def divide(terms: FloatArray, by: FloatArray) -> Float64:
    """0 where there is nothing to share among."""
    return np.divide(terms, by, out=np.zeros(np.shape(terms)), where=by > 0)
