"""Where features look: terms spread over the part of an image that each is about, whatever is there.

A standardised feature that is absent speaks as well: its term ``-w mean / scale`` belongs to where it is missing.

Shapes
------
terms : float64 (D,), map : float64 (H, W), which sums to them.
"""

from __future__ import annotations

from functools import singledispatch

import numpy as np

from lastlayer._arrays import Float64
from lastlayer.evaluation.explanations_geometry import area_means, grid_part, hog_levels, moved_back, spread_back
from lastlayer.evaluation.explanations_patches import region_map
from lastlayer.representations.base import Representation
from lastlayer.representations.blur import Blur
from lastlayer.representations.chain import Chain
from lastlayer.representations.colour import Colour
from lastlayer.representations.concatenate import Concatenate
from lastlayer.representations.contrast import Contrast
from lastlayer.representations.denoise import Denoise
from lastlayer.representations.equalise import Equalise
from lastlayer.representations.hog import Hog
from lastlayer.representations.median import Median
from lastlayer.representations.patches import Patches
from lastlayer.representations.pixels import Pixels
from lastlayer.representations.power import Power
from lastlayer.representations.resize import Resize
from lastlayer.representations.unit_length import UnitLength
from lastlayer.representations.views import Averaged

STAY = (Blur, Contrast, Denoise, Equalise, Median, Resize)
"""Steps after which a pixel still shows what it showed there: a map after them is one of the image."""
ALIKE = (Power, UnitLength)
"""Maps whose j-th output is about the same as their j-th input."""


def reach(phi: Representation, terms: Float64, shape: tuple[int, int]) -> tuple[Float64, float]:
    """The terms over the pixels of images of `shape` (H, W), and the sum of those that have no place."""
    parts = [region(part, terms[columns], shape) for part, columns in columns_of(phi)]
    placed = np.sum([part for part in parts if part is not None] or [np.zeros(shape)], axis=0)
    return placed, float(terms.sum()) - float(placed.sum())


def columns_of(phi: Representation) -> list[tuple[Representation, slice]]:
    """The parts of ``A+B``, or the representation alone, each with its features."""
    found, start = [], 0
    for part in phi.parts if isinstance(phi, Concatenate) else (phi,):
        found.append((part, slice(start, start + part.n_features)))
        start += part.n_features
    return found


@singledispatch
def region(phi: Representation, terms: Float64, shape: tuple[int, int]) -> Float64 | None:
    """Spread terms over the pixels that the features look at; None where they look at no place."""
    return None


@region.register
def _(phi: Pixels, terms: Float64, shape: tuple[int, int]) -> Float64:
    rows, columns = phi.size or shape[0], phi.size or shape[1]
    grid = terms.reshape(rows, columns, -1).sum(axis=2)
    return np.asarray(area_means(shape[0], rows).T @ grid @ area_means(shape[1], columns))


@region.register
def _(phi: Hog, terms: Float64, shape: tuple[int, int]) -> Float64:
    out = np.zeros(shape)
    for down, across, by_bin, by_cell in hog_levels(phi, terms, shape):
        cells = by_bin.sum(axis=2) + by_cell
        out += (down / down.sum(axis=1, keepdims=True)).T @ cells @ (across / across.sum(axis=1, keepdims=True))
    return out


@region.register
def _(phi: Colour, terms: Float64, shape: tuple[int, int]) -> Float64:
    out, grid = np.zeros(shape), terms.reshape(phi.grid, phi.grid, -1).sum(axis=2)
    for i in range(phi.grid):
        for j in range(phi.grid):
            here = (grid_part(i, phi.grid, shape[0]), grid_part(j, phi.grid, shape[1]))
            out[here] = grid[i, j] / out[here].size
    return out


@region.register
def _(phi: Patches, terms: Float64, shape: tuple[int, int]) -> Float64:
    return region_map(phi, terms, shape)


@region.register
def _(phi: Concatenate, terms: Float64, shape: tuple[int, int]) -> Float64:
    return reach(phi, terms, shape)[0]


@region.register
def _(phi: Averaged, terms: Float64, shape: tuple[int, int]) -> Float64 | None:
    alone = region(phi.base, terms, shape)
    return None if alone is None else moved_back(phi.views, [alone] * len(phi.views))


@region.register
def _(phi: Chain, terms: Float64, shape: tuple[int, int]) -> Float64 | None:
    if not all(isinstance(step, STAY) for step in phi.steps) or not all(isinstance(each, ALIKE) for each in phi.maps):
        return None
    assert phi.base.image_shape is not None
    inner = region(phi.base, terms, phi.base.image_shape[:2])
    return None if inner is None else spread_back(inner, *shape)
