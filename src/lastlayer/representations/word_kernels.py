"""The compiled steps of visual words; each handles one image at a time and calls none of the others."""

from __future__ import annotations

import math

import numpy as np

from lastlayer._arrays import Float32, IntArray, UInt8
from lastlayer._compiled import compiled


@compiled
def colour_cells(images: UInt8, cell: int, out: Float32) -> None:
    """Mean and standard deviation of each channel in every cell, uint8 (n, H, W, C) -> (n, rows, columns, 2 C).

    Colours are turned to brightness (R + G + B) / 3, red against green R − G and yellow against blue (R + G − 2 B) / 2;
    levels are in 0..1.
    """
    n, rows, columns, numbers = out.shape
    channels, pixels = numbers // 2, cell * cell
    total, squares = np.empty(3, np.int64), np.empty(3, np.int64)
    value, unit = np.empty(3, np.int64), np.empty(3, np.float64)
    unit[0], unit[1], unit[2] = 1 / (3 * 255 if channels == 3 else 255), 1 / 255, 1 / (2 * 255)
    for i in range(n):
        for r in range(rows):
            for c in range(columns):
                for k in range(3):
                    total[k] = squares[k] = 0
                for y in range(r * cell, (r + 1) * cell):
                    for x in range(c * cell, (c + 1) * cell):
                        if channels == 3:
                            red, green = np.int64(images[i, y, x, 0]), np.int64(images[i, y, x, 1])
                            blue = np.int64(images[i, y, x, 2])
                            value[0], value[1], value[2] = red + green + blue, red - green, red + green - 2 * blue
                        else:
                            value[0] = images[i, y, x, 0]
                        for k in range(channels):
                            total[k] += value[k]
                            squares[k] += value[k] * value[k]
                for k in range(channels):
                    # whole numbers: a flat cell has a spread of exactly 0
                    spread = math.sqrt(float(pixels * squares[k] - total[k] * total[k]))
                    out[i, r, c, k] = total[k] * unit[k] / pixels
                    out[i, r, c, channels + k] = spread * unit[k] / pixels


@compiled
def unit_length(rows: Float32, shift: Float32, flat: float, lengths: Float32) -> None:
    """Subtract `shift` (d,) from every row (P, d) in place, divide by √(‖·‖² + flat); `lengths` get the new ‖·‖²."""
    for p in range(rows.shape[0]):
        total = np.float32(0)
        for j in range(rows.shape[1]):
            rows[p, j] -= shift[j]
            total += rows[p, j] * rows[p, j]
        factor = np.float32(1) / math.sqrt(total + np.float32(flat))
        for j in range(rows.shape[1]):
            rows[p, j] *= factor
        lengths[p] = total * factor * factor


@compiled
def add_triangles(products: Float32, lengths: Float32, centres: Float32, region: IntArray, out: Float32) -> None:
    """Add max(mean distance − distance, 0) to every word, in each descriptor's region: out (regions, words).

    `products` (P, words) are x·c and are overwritten; `lengths` (P,) and `centres` (words,) are ‖x‖² and ‖c‖².
    """
    n_words = products.shape[1]
    for p in range(products.shape[0]):
        total = np.float32(0)
        for k in range(n_words):
            square = lengths[p] + centres[k] - np.float32(2) * products[p, k]
            distance = math.sqrt(max(square, np.float32(0)))
            products[p, k] = distance
            total += distance
        mean = total / np.float32(n_words)
        for k in range(n_words):
            out[region[p], k] += max(mean - products[p, k], np.float32(0))


@compiled
def count_nearest(products: Float32, centres: Float32, region: IntArray, out: Float32) -> None:
    """Add 1 to the nearest word (the first one on ties), in each descriptor's region: out (regions, words)."""
    for p in range(products.shape[0]):
        best, found = np.float32(-np.inf), 0
        for k in range(products.shape[1]):
            near = products[p, k] - np.float32(0.5) * centres[k]
            if near > best:
                best, found = near, k
        out[region[p], found] += np.float32(1)


@compiled
def count_patterns(
    light: IntArray, bin_of_code: IntArray, row_of: IntArray, column_of: IntArray, grid: int, out: Float32
) -> None:
    """Count the local binary patterns of the inner pixels, int32 (n, H, W) -> out (n, grid², bins).

    Pixel (y, x) belongs to region (row_of[y - 1], column_of[x - 1]).
    """
    n, height, width = light.shape
    for i in range(n):
        for r in range(out.shape[1]):
            for k in range(out.shape[2]):
                out[i, r, k] = 0
        for y in range(1, height - 1):
            for x in range(1, width - 1):
                v = light[i, y, x]
                code = 1 * (light[i, y, x + 1] >= v) + 2 * (light[i, y - 1, x + 1] >= v)
                code += 4 * (light[i, y - 1, x] >= v) + 8 * (light[i, y - 1, x - 1] >= v)
                code += 16 * (light[i, y, x - 1] >= v) + 32 * (light[i, y + 1, x - 1] >= v)
                code += 64 * (light[i, y + 1, x] >= v) + 128 * (light[i, y + 1, x + 1] >= v)
                out[i, row_of[y - 1] * grid + column_of[x - 1], bin_of_code[code]] += np.float32(1)
