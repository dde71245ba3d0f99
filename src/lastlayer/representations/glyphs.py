"""Pictures of weights: a diverging colour map, oriented strokes, swatches. NumPy only; every picture is in 0..1.

Blue is for a class and red against it throughout, a pair that people with any of the common colour-vision
deficiencies tell apart; the larger the weight, the darker.
"""

from __future__ import annotations

import numpy as np

from lastlayer._arrays import Float32, Float64, FloatArray

# dark red, red, light red, white, light blue, blue, dark blue
_ANCHORS = np.array(
    [
        (0.40, 0.00, 0.08),
        (0.78, 0.20, 0.16),
        (0.97, 0.68, 0.54),
        (1.00, 1.00, 1.00),
        (0.58, 0.77, 0.90),
        (0.16, 0.44, 0.72),
        (0.02, 0.16, 0.38),
    ]
)
_PICTURE = 160  # pixels that a picture is scaled up to, about
_ROBUST = 99.5  # percentile of |weight| at full colour: a few extreme pixels must not bleach the rest


def diverging(values: FloatArray) -> Float32:
    """Colours (…, 3) of values in −1..1: red below zero, white at zero, blue above.

    >>> diverging(np.array([0.0]))
    array([[1., 1., 1.]], dtype=float32)
    """
    place = (np.clip(values, -1, 1) + 1) / 2 * (len(_ANCHORS) - 1)
    colours = np.stack([np.interp(place, np.arange(len(_ANCHORS)), band) for band in _ANCHORS.T], axis=-1)
    return colours.astype(np.float32)


def per_class_scale(weights: FloatArray) -> Float64:
    """Divide each class (last axis) by a high percentile of its absolute weights, symmetrically about zero."""
    flat = np.abs(weights.reshape(-1, weights.shape[-1])).astype(np.float64)
    scale = np.percentile(flat, _ROBUST, axis=0)
    scale = np.where(scale > 0, scale, flat.max(axis=0))
    return np.asarray(weights / np.where(scale > 0, scale, 1.0), dtype=np.float64)


def enlarge(images: Float32, side: int = _PICTURE) -> Float32:
    """Repeat the pixels of (K, h, w, 3) a whole number of times, to about `side`."""
    times = max(1, round(side / max(images.shape[1:3])))
    return images.repeat(times, axis=1).repeat(times, axis=2)


def draw_glyphs(weights: Float64) -> Float32:
    """Strokes along the edges of (rows, columns, orientations, K) weights, positive parts left, negative right.

    Returns
    -------
    float32 (K, h, w, 3)
    """
    rows, columns, orientations, classes = weights.shape
    cell = max(8, _PICTURE // max(rows, columns))
    bank = _strokes(orientations, cell)
    scaled = np.clip(per_class_scale(weights), -1, 1)
    gap = max(4, cell // 2)
    pictures = np.ones((classes, rows * cell, 2 * columns * cell + gap, 3), np.float32)
    for sign, left in ((1, 0), (-1, columns * cell + gap)):
        part = np.maximum(sign * scaled, 0)
        ink = np.zeros((classes, rows, cell, columns, cell))
        for o in range(orientations):  # the strongest stroke through a pixel is seen, as with a pen
            np.maximum(ink, part[:, :, o].transpose(2, 0, 1)[:, :, None, :, None] * bank[o][:, None, :], out=ink)
        panel = diverging(sign * ink.reshape(classes, rows * cell, columns * cell))
        pictures[:, :, left : left + columns * cell] = panel
    return pictures


def _strokes(orientations: int, cell: int) -> Float64:
    """Anti-aliased strokes (orientations, cell, cell), each perpendicular to the gradient of its bin's middle."""
    centre = np.arange(cell) - (cell - 1) / 2
    x, y = centre[None, :], centre[:, None]
    bank = []
    for o in range(orientations):
        angle = np.pi * (o + 0.5) / orientations
        across = x * np.cos(angle) + y * np.sin(angle)
        along = y * np.cos(angle) - x * np.sin(angle)
        width, length = max(1.0, cell / 14), cell / 2 - 0.5
        bank.append(np.clip(width + 0.5 - np.abs(across), 0, 1) * np.clip(length + 0.5 - np.abs(along), 0, 1))
    return np.array(bank)
