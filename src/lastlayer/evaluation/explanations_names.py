"""What a feature is, in words: the j-th number that a representation gives.

Shapes
------
j : 0..D-1.
"""

from __future__ import annotations

import math
from functools import singledispatch

import numpy as np

from lastlayer.representations.base import Representation
from lastlayer.representations.chain import Chain
from lastlayer.representations.colour import Colour
from lastlayer.representations.concatenate import Concatenate
from lastlayer.representations.hog import Hog
from lastlayer.representations.patches import Patches
from lastlayer.representations.pixels import Pixels
from lastlayer.representations.standardise import Standardised
from lastlayer.representations.views import Averaged

_CHANNELS = {1: ("",), 3: (" red", " green", " blue")}
_COLOUR = {"gray": ("brightness",), "hsv": ("hue", "saturation", "value"), "lab": ("L*", "a*", "b*")}


@singledispatch
def feature_name(phi: Representation, j: int) -> str:
    """Name of the j-th feature; its number where there is nothing more to say."""
    return f"{phi.name} feature {j}"


@feature_name.register
def _(phi: Pixels, j: int) -> str:
    assert phi.image_shape is not None
    height, width, channels = phi.image_shape
    shape = phi.size or height, phi.size or width, 1 if phi.color == "gray" else channels
    row, column, channel = np.unravel_index(j, shape)
    return f"pixel row {row}, column {column}{_CHANNELS[shape[2]][channel]}"


@feature_name.register
def _(phi: Hog, j: int) -> str:
    assert phi.image_shape is not None and isinstance(phi.pixels_per_cell, tuple)
    rows, columns = (length // cell for length, cell in zip(phi.image_shape, phi.pixels_per_cell))
    bins = 3 * phi.orientations if phi.signed else phi.orientations
    level, shape = 0, _level_shape(phi, rows, columns, bins)
    while j >= math.prod(shape):
        j, level, rows, columns = j - math.prod(shape), level + 1, rows // 2, columns // 2
        shape = _level_shape(phi, rows, columns, bins)
    place = [int(i) for i in np.unravel_index(j, shape)]
    row, column = (place[0], place[1]) if phi.compact else (place[0] + place[2], place[1] + place[3])
    what = "strength" if place[-1] >= bins else f"edges towards {_degrees(phi, place[-1])}"
    size = f"{phi.pixels_per_cell[0] << level}x{phi.pixels_per_cell[1] << level}"
    return f"hog cell row {row}, column {column} ({size}), {what}"


def _level_shape(phi: Hog, rows: int, columns: int, bins: int) -> tuple[int, ...]:
    assert isinstance(phi.cells_per_block, tuple)
    tall, wide = phi.cells_per_block
    if phi.compact:
        return rows, columns, bins + tall * wide
    return rows - tall + 1, columns - wide + 1, tall, wide, bins


def _degrees(phi: Hog, k: int) -> str:
    if not phi.signed:
        return f"{180 * (k + 0.5) / phi.orientations:.0f}° or opposite"
    if k < 2 * phi.orientations:
        return f"{180 * (k + 0.5) / phi.orientations:.0f}°"
    return f"{180 * (k - 2 * phi.orientations + 0.5) / phi.orientations:.0f}° or opposite"


@feature_name.register
def _(phi: Colour, j: int) -> str:
    assert phi.image_shape is not None
    names = _COLOUR["gray" if phi.image_shape[2] == 1 else phi.space]
    row, column, channel, k = np.unravel_index(j, (phi.grid, phi.grid, len(names), phi.bins))
    return f"colour region row {row}, column {column}: {names[channel]} bin {k + 1} of {phi.bins}"


@feature_name.register
def _(phi: Patches, j: int) -> str:
    own = phi.filters // 2 if phi.mirror else phi.filters
    row, column, sign, k = np.unravel_index(j, (phi.pool, phi.pool, 2 if phi.encoding == "soft" else 1, own))
    against = ", its negative" if sign else ""
    return f"patches region row {row}, column {column}: filter {k}{against}"


@feature_name.register
def _(phi: Concatenate, j: int) -> str:
    for part in phi.parts[:-1]:
        if j < part.n_features:
            return feature_name(part, j)
        j -= part.n_features
    return feature_name(phi.parts[-1], j)


@feature_name.register
def _(phi: Standardised, j: int) -> str:
    return feature_name(phi.base, j)


@feature_name.register
def _(phi: Averaged, j: int) -> str:
    return feature_name(phi.base, j)


@feature_name.register
def _(phi: Chain, j: int) -> str:
    if phi.maps:
        return f"{phi.base.name}/{'/'.join(each.name for each in phi.maps)} feature {j}"
    return feature_name(phi.base, j)
