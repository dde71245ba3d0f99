"""Pictures of colour histograms' weights: one row a bin, its colour beside a bar for its weight."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np

from lastlayer._arrays import Float32, Float64, FloatArray
from lastlayer.representations.colour_spaces import WHITE, XYZ_OF_RGB
from lastlayer.representations.glyphs import diverging, per_class_scale

_ROW = 12  # pixels of a row
_WIDTH = 160
_SWATCH = 54
_SHOWN = 12  # bins drawn: the strongest for and against


def bin_swatches(space: str, bins: int, reach: float) -> Float64:
    """Return a strip of colours for each bin of each channel, (channels · bins, width, 3).

    A saturation is a strip of all hues with that saturation; every other bin has one colour, with the other
    channels at a typical value.
    """
    grays = [(v, v, v) for v in np.linspace(0, 1, bins)]
    if space == "gray":
        return _plain(grays)
    if space == "hsv":
        hues = _plain([colorsys.hsv_to_rgb(k / bins, 0.85, 0.9) for k in range(bins)])
        around = np.linspace(0, 1, _SWATCH, endpoint=False)
        strips = [[colorsys.hsv_to_rgb(hue, s, 0.9) for hue in around] for s in np.linspace(0, 1, bins)]
        return np.concatenate([hues, np.array(strips), _plain(grays)])
    shades = np.linspace(-reach, reach, bins)
    lab = [(100 * k / (bins - 1), 0.0, 0.0) for k in range(bins)]
    lab += [(65.0, shade, 0.0) for shade in shades] + [(65.0, 0.0, shade) for shade in shades]
    return _plain([_lab_to_rgb(*colour) for colour in lab])


def _plain(colours: Sequence[tuple[float, float, float]]) -> Float64:
    return np.array(colours, dtype=np.float64)[:, None, :].repeat(_SWATCH, axis=1)


def draw_swatches(weights: FloatArray, swatches: Float64) -> Float32:
    """Pictures (K, h, w, 3) of weights (bins, K): the strongest bins for and against each class, sorted."""
    scaled = np.clip(per_class_scale(weights), -1, 1)
    shown = min(_SHOWN, len(swatches))
    pictures = np.ones((scaled.shape[1], shown * _ROW, _WIDTH, 3), np.float32)
    for picture, column in zip(pictures, scaled.T):
        order = np.argsort(-column, kind="stable")
        chosen = np.concatenate([order[: (shown + 1) // 2], order[len(order) - shown // 2 :]])
        for row, k in enumerate(chosen):
            _draw_row(picture[row * _ROW : (row + 1) * _ROW], float(column[k]), swatches[k])
    return pictures


def _draw_row(area: Float32, weight: float, swatch: Float64) -> None:
    area[1:-1, 1 : _SWATCH + 3] = 0.75  # a frame, so that a white swatch is seen on white
    area[2:-2, 2 : _SWATCH + 2] = swatch
    middle = (_SWATCH + _WIDTH) // 2
    length = round(abs(weight) * (_WIDTH - middle - 3))
    left, right = (middle, middle + length) if weight >= 0 else (middle - length, middle)
    area[2:-2, left:right] = diverging(np.array(0.7 if weight >= 0 else -0.7))
    area[:, middle : middle + 1] = 0.6


def _lab_to_rgb(light: float, a: float, b: float) -> tuple[float, float, float]:
    """SRGB in 0..1 of one L*a*b* colour, clipped to what a screen shows."""
    y = (light + 16) / 116
    cubes = np.array([y + a / 500, y, y - b / 200])
    xyz = np.where(cubes > 0.2068966, cubes**3, (cubes - 16 / 116) / 7.787) * WHITE
    linear = np.clip(np.linalg.solve(XYZ_OF_RGB, xyz), 0, 1)
    red, green, blue = np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
    return float(red), float(green), float(blue)
