"""Where in an image the feature terms come from: a map over its pixels that sums to them.

``w · φ(x) = Σ_pixels map + leftover`` for weights w (D,). A feature that is a sum over places is shared among them
exactly as they contribute to it, also where it is then raised to a power or divided by a length. The part of a
standardised feature that is its mean, ``-w mean / scale``, lies evenly over where the feature looks
(`explanations_regions`). What is left over has no place, or is rounding.

One function a representation, found by its class (`evidence`); a representation without one has no map, and `Evidence`
says why.

Shapes
------
image : uint8 (H, W, C), w : float64 (D,), map : float64 (H, W).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import singledispatch
from typing import final

import numpy as np

from lastlayer._arrays import Float64, UInt8
from lastlayer.evaluation.explanations_geometry import (
    area_means,
    divide,
    grid_part,
    hog_levels,
    moved_back,
    spread_back,
)
from lastlayer.evaluation.explanations_patches import patch_map
from lastlayer.evaluation.explanations_regions import STAY, columns_of, reach
from lastlayer.representations.base import Representation
from lastlayer.representations.chain import Chain
from lastlayer.representations.colour import Colour
from lastlayer.representations.concatenate import Concatenate
from lastlayer.representations.gradients import orientation_histogram
from lastlayer.representations.hog import Hog
from lastlayer.representations.maps import FeatureMap
from lastlayer.representations.patches import Patches
from lastlayer.representations.pixels import Pixels
from lastlayer.representations.power import Power
from lastlayer.representations.standardise import Standardised
from lastlayer.representations.unit_length import UnitLength
from lastlayer.representations.views import Averaged

_LUMA = np.array([0.299, 0.587, 0.114])


@final
@dataclass(frozen=True, eq=False)
class Evidence:
    """The feature terms spread over the pixels.

    Attributes
    ----------
    map : float64 (H, W)
    leftover : float
        Terms that have no place.
    without : tuple of str
        Parts of the representation that have no map, each with the reason; their terms are in `leftover`.
    """

    map: Float64
    leftover: float
    without: tuple[str, ...] = ()

    @property
    def total(self) -> float:
        """``w · φ(x)``."""
        return float(self.map.sum()) + self.leftover


def features_of(phi: Representation, image: UInt8) -> Float64:
    """φ(x) of one image, (D,)."""
    return np.asarray(phi.transform(image[None])[0], dtype=np.float64)


def _nowhere(phi: Representation, image: UInt8, w: Float64, why: str) -> Evidence:
    return Evidence(np.zeros(image.shape[:2]), float(w @ features_of(phi, image)), (why,))


def _rest(phi: Representation, image: UInt8, w: Float64, spread: Float64) -> Evidence:
    return Evidence(spread, float(w @ features_of(phi, image)) - float(spread.sum()))


@singledispatch
def evidence(phi: Representation, image: UInt8, w: Float64) -> Evidence:
    """Spread the terms ``w_j φ_j(x)`` over the pixels of the image.

    Parameters
    ----------
    phi : Representation
        Fitted.
    image : uint8 (H, W, C)
    w : float64 (D,)
        Weights on its features, such as those of a class minus those of another.
    """
    return _nowhere(phi, image, w, f"{phi.name}: its features do not belong to places in the image")


@evidence.register
def _(phi: Pixels, image: UInt8, w: Float64) -> Evidence:
    """A pixel's own terms, of all channels; reduced pixels are shared as the pixels they are means of."""
    height, width, channels = image.shape
    rows, columns = phi.size or height, phi.size or width
    down, across = area_means(height, rows), area_means(width, columns)
    back = np.einsum("rh,rcd,cw->hwd", down, w.reshape(rows, columns, -1), across, optimize=True)
    if phi.color == "gray" and channels == 3:
        back = back * _LUMA
    return _rest(phi, image, w, (back * (image / 255.0)).sum(axis=2))


@evidence.register
def _(phi: Hog, image: UInt8, w: Float64) -> Evidence:
    """A cell's terms, shared by the votes of the pixels in and around it for each direction."""
    histogram = orientation_histogram(
        image[None],
        phi.orientations,
        (1, 1),
        signed=phi.signed,
        interpolation=phi.interpolation,
        transform_sqrt=phi.transform_sqrt,
    )
    votes = histogram[0].astype(np.float64)
    if phi.signed:
        opposite = votes[..., : phi.orientations] + votes[..., phi.orientations :]
        votes = np.concatenate([votes, opposite], axis=2)
    spread = np.zeros(image.shape[:2])
    for down, across, by_bin, by_cell in hog_levels(phi, w * features_of(phi, image), image.shape[:2]):
        cells = np.einsum("ry,cx,yxk->rck", down, across, votes, optimize=True)
        each = divide(by_bin, cells) + divide(by_cell, cells.sum(axis=2))[:, :, None]
        spread += (np.einsum("ry,cx,rck->yxk", down, across, each, optimize=True) * votes).sum(axis=2)
    return _rest(phi, image, w, spread)


@evidence.register
def _(phi: Colour, image: UInt8, w: Float64) -> Evidence:
    """A bin's term, shared by the votes of the region's pixels for it."""
    height, width, channels = image.shape
    alone = replace(phi, grid=1, root=False, image_shape=(1, 1, channels))
    votes = alone.transform(image.reshape(-1, 1, 1, channels)).astype(np.float64).reshape(height, width, -1)
    terms = (w * features_of(phi, image)).reshape(phi.grid, phi.grid, -1)
    spread = np.zeros((height, width))
    for i in range(phi.grid):
        for j in range(phi.grid):
            here = (grid_part(i, phi.grid, height), grid_part(j, phi.grid, width))
            inside = votes[here]
            spread[here] += inside @ divide(terms[i, j], inside.sum(axis=(0, 1)))
    return _rest(phi, image, w, spread)


@evidence.register
def _(phi: Patches, image: UInt8, w: Float64) -> Evidence:
    """A feature's term, shared by the activations of its filter, each of them by the pixels of its patch."""
    return _rest(phi, image, w, patch_map(phi, image, w * features_of(phi, image)))


@evidence.register
def _(phi: Concatenate, image: UInt8, w: Float64) -> Evidence:
    """The sum over the parts."""
    found = [evidence(part, image, w[columns]) for part, columns in columns_of(phi)]
    return Evidence(
        np.sum([each.map for each in found], axis=0),
        sum(each.leftover for each in found),
        tuple(why for each in found for why in each.without),
    )


@evidence.register
def _(phi: Standardised, image: UInt8, w: Float64) -> Evidence:
    """``w (φ - mean) / scale``: what there is more, or less, of a feature than usual."""
    assert phi.mean is not None and phi.scale is not None
    weights = w / phi.scale.astype(np.float64)
    inner = evidence(phi.base, image, weights)
    missing, without_place = reach(phi.base, -weights * phi.mean, image.shape[:2])
    return replace(inner, map=inner.map + missing, leftover=inner.leftover + without_place)


@evidence.register
def _(phi: Averaged, image: UInt8, w: Float64) -> Evidence:
    """The mean over the views, each brought back to where its pixels come from."""
    seen = [evidence(phi.base, np.ascontiguousarray(moved[0]), w) for moved in phi.views.of(image[None])]
    total = moved_back(phi.views, [each.map for each in seen])
    return Evidence(total, sum(each.leftover for each in seen) / len(seen), seen[0].without)


@evidence.register
def _(phi: Chain, image: UInt8, w: Float64) -> Evidence:
    """Through maps that are linear for this image, and steps that leave pixels where they are."""
    moving = [step for step in phi.steps if not isinstance(step, STAY)]
    if moving:
        return _nowhere(phi, image, w, f"chain: {moving[0].name} moves the pixels")
    seen = image[None]
    for step in phi.steps:
        seen = step.transform(seen)
    Z, inputs = phi.base.transform(seen), []
    for each in phi.maps:
        inputs.append(Z[0].astype(np.float64))
        Z = each.transform(Z)
    back = w
    for each, z in zip(reversed(phi.maps), reversed(inputs)):
        found = weights_before(each, z, back)
        if found is None:
            return _nowhere(phi, image, w, f"chain: {each.name} mixes features in a way that cannot be shared out")
        back = found
    inner = evidence(phi.base, seen[0], back)
    spread = spread_back(inner.map, image.shape[0], image.shape[1])
    return Evidence(spread, float(w @ Z[0].astype(np.float64)) - float(spread.sum()), inner.without)


@singledispatch
def weights_before(map_: FeatureMap, z: Float64, w: Float64) -> Float64 | None:
    """Weights v of a map's inputs z (D,) with ``v · z = w · map(z)`` but for a constant; None where there are none."""
    back = map_.pull_back(w[:, None])
    return None if back is None else np.asarray(back[:, 0], np.float64)


@weights_before.register
def _(map_: Power, z: Float64, w: Float64) -> Float64:
    """``w sign(z) |z|^p = (w |z|^(p-1)) z``."""
    size = np.abs(z)
    return np.where(size > 0, w * np.where(size > 0, size, 1.0) ** (map_.exponent - 1.0), 0.0)


@weights_before.register
def _(map_: UnitLength, z: Float64, w: Float64) -> Float64:
    """``w z / ‖z‖``."""
    length = float(np.linalg.norm(z))
    return w / length if length > 0 else np.zeros_like(w)
