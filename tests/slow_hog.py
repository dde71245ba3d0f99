"""HOG of one image as the definitions read, in float64 and without any of the package's code."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np


def gradients(image: np.ndarray, sqrt: bool) -> tuple[np.ndarray, np.ndarray]:
    """Central differences (H, W) of the channel where they are longest, the first one on ties."""
    x = image.astype(float)
    x = np.sqrt(x) if sqrt else x
    gx, gy = np.zeros(x.shape), np.zeros(x.shape)
    gx[:, 1:-1] = x[:, 2:] - x[:, :-2]
    gy[1:-1] = x[2:] - x[:-2]
    best = np.argmax(np.hypot(gx, gy), axis=2)[..., None]
    return np.take_along_axis(gx, best, 2)[..., 0], np.take_along_axis(gy, best, 2)[..., 0]


def hats(length: int, size: int) -> np.ndarray:
    """(cells, length): 1 at a cell's middle, 0 at the next ones' middles, a straight line between."""
    pixel, cell = np.arange(length) + 0.5, (np.arange(length // size) + 0.5)[:, None]
    return np.maximum(0, 1 - np.abs(pixel / size - cell))


def boxes(length: int, size: int) -> np.ndarray:
    return (np.arange(length) // size == np.arange(length // size)[:, None]).astype(float)


def cells(image: np.ndarray, bins: int, cell: tuple[int, int], signed: bool, soft: bool, sqrt: bool) -> np.ndarray:
    """Histograms (rows, columns, bins over the turn)."""
    gx, gy = gradients(image, sqrt)
    turn = 360.0 if signed else 180.0
    degrees = np.rad2deg(np.arctan2(gy, gx)) % turn
    along = hats if soft else boxes
    down, across = along(len(image), cell[0]), along(image.shape[1], cell[1])
    out = np.zeros((len(down), len(across), bins))
    for k in range(bins):
        if soft:
            off = np.abs(degrees / turn * bins - 0.5 - k)
            shares = [np.maximum(0, 1 - np.abs(off - bins * around)) for around in (-1, 0, 1)]
            votes = np.hypot(gx, gy) * sum(shares)
        else:
            votes = np.hypot(gx, gy) * (
                (degrees >= turn / bins * k) & ((degrees < turn / bins * (k + 1)) | (k + 1 == bins))
            )
        out[:, :, k] = down @ votes @ across.T
    return out / (cell[0] * cell[1])


def normalised(block: np.ndarray, norm: str) -> np.ndarray:
    if norm.startswith("L1"):
        block = block / (np.abs(block).sum() + 1e-5)
        return np.sqrt(block) if norm == "L1-sqrt" else block
    block = block / np.sqrt((block**2).sum() + 1e-10)
    if norm == "L2-Hys":
        block = np.minimum(block, 0.2)
        block = block / np.sqrt((block**2).sum() + 1e-10)
    return block


def level(grid: np.ndarray, block: tuple[int, int], norm: str, compact: bool, root: bool) -> np.ndarray:
    rows, columns, bins = grid.shape
    over, beside = (block[0] - 1, block[1] - 1) if compact else (0, 0)
    padded = np.zeros((rows + 2 * over, columns + 2 * beside, bins))
    padded[over : over + rows, beside : beside + columns] = grid
    blocks = [
        [normalised(padded[i : i + block[0], j : j + block[1]], norm) for j in range(padded.shape[1] - block[1] + 1)]
        for i in range(padded.shape[0] - block[0] + 1)
    ]
    if not compact:
        return np.array(blocks).ravel()
    out = np.zeros((rows, columns, bins + block[0] * block[1]))
    for r, c in itertools.product(range(rows), range(columns)):
        places = list(itertools.product(range(block[0]), range(block[1])))
        copies = [blocks[r + over - a][c + beside - b][a, b] for a, b in places]
        mean = np.mean(copies, axis=0)
        out[r, c] = [*(np.sqrt(mean) if root else mean), *(copy.sum() for copy in copies)]
    return out.ravel()


def hog(
    image: np.ndarray, orientations: int, cell: tuple[int, int], block: tuple[int, int], **options: Any
) -> np.ndarray:
    """All levels; options as `lastlayer.representations.Hog`'s."""
    signed, soft = options["signed"], options["interpolation"]
    bins = 2 * orientations if signed else orientations
    grid = cells(image, bins, cell, signed, soft, options["transform_sqrt"])
    if signed:
        grid = np.concatenate([grid, grid[..., :orientations] + grid[..., orientations:]], axis=2)
    least = (1, 1) if options["compact"] else block
    parts: list[np.ndarray] = []
    while len(parts) < options["levels"] and grid.shape[0] >= least[0] and grid.shape[1] >= least[1]:
        parts.append(level(grid, block, options["block_norm"], options["compact"], options["root"]))
        along = hats if soft else boxes
        # a hat over cells is the hat over pixels of the same width: weights ¼ ¾ ¾ ¼
        grid = np.einsum("ri,cj,ijk->rck", along(grid.shape[0], 2), along(grid.shape[1], 2), grid)
    return np.concatenate(parts)
