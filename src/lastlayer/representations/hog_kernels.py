"""The compiled steps of HOG, each over a small batch whose numbers stay in the cache.

    gradients -> votes into cells -> cells of twice the size -> factors of the blocks -> features

Everything about an image is computed from that image alone and in one fixed order, so its features do not depend on
the batch or on the number of threads. The steps do not call each other: what calls is compiled together with what it
calls, and that twice takes longer than most jobs.

Shapes
------
planes : uint8 (n, C, H, W); position, magnitude : float32 (n, H, W); cells : float32 (n, rows, columns, bins);
factors : float32 (n, 2, rows + b_r − 1, columns + b_c − 1); out : float32 (n, D), filled from `column` on.
"""

from __future__ import annotations

import math

import numpy as np

from lastlayer._arrays import Float32, Float64, IntArray, UInt8
from lastlayer._compiled import compiled

L1, L1_SQRT, L2, L2_HYS = range(4)
_EPS = np.float32(1e-5)
_EPS2 = np.float32(1e-10)
_CLIP = np.float32(0.2)
_NO_CLIP = np.float32(np.inf)
_REACH = 255  # differences of two bytes lie between -255 and 255
_SIDE = 2 * _REACH + 1


@compiled
def directions(planes: UInt8, table: Float32, position: Float32, magnitude: Float32) -> None:
    """Direction, in units of bins, from a table, and magnitude of every pixel's central differences.

    The channel of largest magnitude speaks for a pixel, the first one on ties; what would reach outside is 0.
    """
    n, channels, height, width = planes.shape
    best_x, best_y, best = np.empty(width, np.int32), np.empty(width, np.int32), np.empty(width, np.int32)
    gx, gy = np.zeros(width, np.int32), np.empty(width, np.int32)
    for i in range(n):
        for y in range(height):
            edge = y == 0 or y == height - 1
            for c in range(channels):
                row = planes[i, c, y]
                above, below = planes[i, c, y if edge else y - 1], planes[i, c, y if edge else y + 1]
                for x in range(width - 2):
                    gx[x + 1] = np.int32(row[x + 2]) - np.int32(row[x])
                for x in range(width):
                    gy[x] = np.int32(below[x]) - np.int32(above[x])
                if c == 0:
                    for x in range(width):
                        best_x[x], best_y[x], best[x] = gx[x], gy[x], gx[x] * gx[x] + gy[x] * gy[x]
                else:
                    for x in range(width):
                        strength = gx[x] * gx[x] + gy[x] * gy[x]
                        wins = strength > best[x]
                        best_x[x] = gx[x] if wins else best_x[x]
                        best_y[x] = gy[x] if wins else best_y[x]
                        best[x] = strength if wins else best[x]
            for x in range(width):
                magnitude[i, y, x] = math.sqrt(np.float32(best[x]))
            for x in range(width):
                position[i, y, x] = table[(best_y[x] + _REACH) * _SIDE + best_x[x] + _REACH]


@compiled
def root_directions(
    planes: UInt8, edges: Float64, bins: int, turn: float, soft: bool, position: Float32, magnitude: Float32
) -> None:
    """`directions` of square roots, in float64: an angle such as 60° is met exactly, on the edge of two bins."""
    n, channels, height, width = planes.shape
    for i in range(n):
        for y in range(height):
            for x in range(width):
                best_x, best_y, best = 0.0, 0.0, -1.0
                for c in range(channels):
                    gx, gy = 0.0, 0.0
                    if 0 < x < width - 1:
                        gx = math.sqrt(float(planes[i, c, y, x + 1])) - math.sqrt(float(planes[i, c, y, x - 1]))
                    if 0 < y < height - 1:
                        gy = math.sqrt(float(planes[i, c, y + 1, x])) - math.sqrt(float(planes[i, c, y - 1, x]))
                    strength = math.hypot(gx, gy)
                    if strength > best:
                        best_x, best_y, best = gx, gy, strength
                degrees = (math.atan2(best_y, best_x) * (180.0 / math.pi)) % turn
                place = np.float32((degrees * (bins / turn) - 0.5) % bins)
                if soft:
                    place = place if place < bins else np.float32(0)  # rounded up to the full turn
                else:
                    k = 0
                    while k < len(edges) and edges[k] <= degrees:
                        k += 1
                    place = np.float32(k)
                position[i, y, x] = place
                magnitude[i, y, x] = best


@compiled
def vote(
    position: Float32,
    magnitude: Float32,
    down: IntArray,
    down_share: Float32,
    across: IntArray,
    across_share: Float32,
    scale: np.float32,
    folded: bool,
    line: Float32,
    cells: Float32,
) -> None:
    """Sum of the votes in every cell, times `scale`; `line` (columns, directions) is room for one row of pixels.

    A pixel's vote goes to the two bins beside its direction, and along each axis to two cells with their shares
    (see `lastlayer.representations.gradients.shares`). Folded cells have, after the bins of the directions, half as
    many for the sums of opposite ones.
    """
    n, height, width = position.shape
    rows, (columns, bins) = cells.shape[1], line.shape
    for i in range(n):
        for r in range(rows):
            for c in range(columns):
                for k in range(bins):
                    cells[i, r, c, k] = 0
        for y in range(height):
            for c in range(columns):
                for k in range(bins):
                    line[c, k] = 0
            for x in range(width):
                first = np.int64(position[i, y, x])
                rest = position[i, y, x] - np.float32(first)
                near = np.float32(1) - rest
                second = first + 1 if first + 1 < bins else 0
                for side in range(2):
                    amount = magnitude[i, y, x] * across_share[x, side]
                    line[across[x, side], first] += amount * near
                    line[across[x, side], second] += amount * rest
            for side in range(2):
                share, r = down_share[y, side] * scale, down[y, side]
                if share > 0:
                    for c in range(columns):
                        for k in range(bins):
                            cells[i, r, c, k] += share * line[c, k]
        if folded:
            for r in range(rows):
                for c in range(columns):
                    for k in range(bins // 2):
                        cells[i, r, c, bins + k] = cells[i, r, c, k] + cells[i, r, c, bins // 2 + k]


@compiled
def coarser(fine: Float32, shares: Float32, coarse: Float32) -> None:
    """Cells of twice the size: sums over four cells along both axes, from one before to one after, with shares (4,)."""
    n, rows, columns, bins = coarse.shape
    for i in range(n):
        for r in range(rows):
            for c in range(columns):
                for k in range(bins):
                    coarse[i, r, c, k] = 0
                for a in range(4):
                    for b in range(4):
                        y, x, share = 2 * r + a - 1, 2 * c + b - 1, shares[a] * shares[b]
                        if share > 0 and 0 <= y < fine.shape[1] and 0 <= x < fine.shape[2]:
                            for k in range(bins):
                                coarse[i, r, c, k] += share * fine[i, y, x, k]


@compiled
def block_factors(cells: Float32, block: tuple[int, int], norm: int, factors: Float32) -> None:
    """The two factors of every block that touches the grid: v -> min(first v, 0.2 or ∞) second.

    Block (j, m) ends at cell (j, m), in the rows and columns beyond the grid as well; cells outside are empty.
    """
    n, rows, columns, bins = cells.shape
    down, across = block
    energy = np.empty((rows, columns), np.float32)
    for i in range(n):
        for r in range(rows):
            for c in range(columns):
                total = np.float32(0)
                for k in range(bins):
                    v = cells[i, r, c, k]
                    total += v * v if norm >= L2 else v
                energy[r, c] = total
        for j in range(rows + down - 1):
            for m in range(columns + across - 1):
                total, clipped = np.float32(0), np.float32(0)
                for r in range(max(0, j - down + 1), min(rows, j + 1)):
                    for c in range(max(0, m - across + 1), min(columns, m + 1)):
                        total += energy[r, c]
                first = np.float32(1) / (math.sqrt(total + _EPS2) if norm >= L2 else total + _EPS)
                for r in range(max(0, j - down + 1), min(rows, j + 1)):
                    for c in range(max(0, m - across + 1), min(columns, m + 1)):
                        for k in range(bins):
                            v = min(cells[i, r, c, k] * first, _CLIP)
                            clipped += v * v
                factors[i, 0, j, m] = first
                factors[i, 1, j, m] = np.float32(1) / math.sqrt(clipped + _EPS2) if norm == L2_HYS else np.float32(1)


@compiled
def whole_blocks(
    cells: Float32, factors: Float32, block: tuple[int, int], norm: int, out: Float32, column: int
) -> None:
    """Every block inside the grid, normalised, in C order (block rows, block columns, b_r, b_c, bins)."""
    n, rows, columns, bins = cells.shape
    down, across = block
    clip = _CLIP if norm == L2_HYS else _NO_CLIP
    for i in range(n):
        place = column
        for j in range(down - 1, rows):
            for m in range(across - 1, columns):
                first, second = factors[i, 0, j, m], factors[i, 1, j, m]
                for r in range(j - down + 1, j + 1):
                    for c in range(m - across + 1, m + 1):
                        for k in range(bins):
                            v = min(cells[i, r, c, k] * first, clip) * second
                            out[i, place + k] = math.sqrt(v) if norm == L1_SQRT else v
                        place += bins


@compiled
def compact_cells(
    cells: Float32, factors: Float32, block: tuple[int, int], norm: int, root: bool, out: Float32, column: int
) -> None:
    """Each cell once: the mean of its normalised copies, or its root, then the sum over directions of each copy.

    The copy (a, b) is from the block in which the cell is the a-th down and the b-th across.
    """
    n, rows, columns, bins = cells.shape
    down, across = block
    clip = _CLIP if norm == L2_HYS else _NO_CLIP
    share = np.float32(1) / np.float32(down * across)
    mean = np.empty(bins, np.float32)
    for i in range(n):
        place = column
        for r in range(rows):
            for c in range(columns):
                for k in range(bins):
                    mean[k] = 0
                for a in range(down):
                    for b in range(across):
                        first = factors[i, 0, r - a + down - 1, c - b + across - 1]
                        second = factors[i, 1, r - a + down - 1, c - b + across - 1]
                        total = np.float32(0)
                        for k in range(bins):
                            v = min(cells[i, r, c, k] * first, clip) * second
                            v = math.sqrt(v) if norm == L1_SQRT else v
                            mean[k] += v
                            total += v
                        out[i, place + bins + a * across + b] = total
                for k in range(bins):
                    v = mean[k] * share
                    out[i, place + k] = math.sqrt(v) if root else v
                place += bins + down * across
