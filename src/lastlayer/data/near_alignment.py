"""How far one picture is from being a copy of another: what is left when place, size, blur and tone are fitted.

    b ≈ t₁ a + t₂ a² + u ∂a/∂y + v ∂a/∂x + s (y ∂a/∂y + x ∂a/∂x) + k ∇²a + const

a is first moved by whole pixels to where it fits best; the rest of the move (u, v), a slight crop (s), a resize or
recompression that blurred (k) and a change of brightness or contrast (t) are least squares. The distance is the root
of the share of b's variance that is left: 0 for a copy, 1 for pictures that have nothing in common. Copies that
differ by such changes come out near 0 however much their pixels differ; other pictures stay far.

First-order registration: Lucas & Kanade 1981, "An iterative image registration technique with an application to
stereo vision".

Shapes
------
P : pairs, h, w, C : height, width and channels of working pictures, at most `SIDE` a side; m : terms of the fit.
"""

from __future__ import annotations

import numpy as np

from lastlayer._arrays import Array, Float32, UInt8

SIDE = 32
"""Side of a working picture in pixels at most."""
SMALLEST = 6
"""Pictures with a shorter side hold too few pixels for the fit."""

_REACH = 1  # whole pixels
_ROUNDS = 3
_RIDGE = 1e-4  # of each term's own square: keeps flat pictures solvable
_FLAT = 1.0  # variance in grey levels below which a picture shows nothing
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def working_pictures(pixels: UInt8) -> Float32:
    """Images (P, H, W, C) as float32 of at most `SIDE` pixels a side, by area means; smaller ones keep their size."""
    images = pixels.astype(np.float32)
    _, height, width, _ = images.shape
    if height > SIDE:
        images = np.einsum("ih,nhwc->niwc", area_means(height, SIDE), images, optimize=True)
    if width > SIDE:
        images = np.einsum("jw,niwc->nijc", area_means(width, SIDE), images, optimize=True)
    return np.ascontiguousarray(images, dtype=np.float32)


def area_means(size: int, parts: int) -> Float32:
    """Matrix (parts, size) that takes means over equal parts of a line, shares of a pixel counted.

    >>> (area_means(3, 2) * 3).tolist()
    [[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]]
    """
    edges = np.linspace(0.0, size, parts + 1)
    pixel = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return np.asarray(np.maximum(overlap, 0.0) * (parts / size), dtype=np.float32)


def luma(images: Float32) -> Float32:
    """Gray (P, h, w) of (P, h, w, C)."""
    return np.asarray(images[..., 0] if images.shape[3] == 1 else images @ _LUMA)


def copy_distance(a: Float32, b: Float32) -> Float32:
    """Distance (P,) of pictures `b` from copies of pictures `a`, both gray (P, h, w), by one linear step.

    Not symmetric: a blurred copy is explained by its sharp original better than the other way round.
    """
    a, b = _smooth(a), _smooth(b)
    return _fit(_warp(a, _whole_moves(a, b)), b)[0]


def copy_distance_refined(a: Float32, b: Float32, limit: Float32 | None = None) -> Float32:
    """As `copy_distance`, of (P, h, w, C): place and size found in gray in rounds, then all channels fitted at once.

    Colour can only speak against a copy, so that the same drawing in another colour is none; it counts half, because
    files keep colour at half the size of gray. With a `limit` (P,) it is asked only of pairs that are below it in gray.
    """
    gray_a, gray_b = _smooth(luma(a)), _smooth(luma(b))
    place = _whole_moves(gray_a, gray_b)
    best = np.full(len(a), np.inf, dtype=np.float32)
    at = place.copy()
    for _ in range(_ROUNDS):
        found, step = _fit(_warp(gray_a, place), gray_b)
        closer = found < best
        best[closer], at[closer] = found[closer], place[closer]
        place = place + step
    if a.shape[3] == 1:
        return best
    asked = np.arange(len(a)) if limit is None else np.flatnonzero(best < limit)
    if len(asked):
        best[asked] = np.maximum(best[asked], 0.5 * _distance_in_colour(a[asked], b[asked], at[asked]))
    return best


def _smooth(images: Float32) -> Float32:
    """Binomial 1-2-1 in both directions, edges repeated: takes noise of single pixels out, keeps shapes."""
    p = np.pad(images, ((0, 0), (1, 1), (0, 0)), mode="edge")
    p = np.pad(p[:, :-2] + 2 * p[:, 1:-1] + p[:, 2:], ((0, 0), (0, 0), (1, 1)), mode="edge")
    return np.asarray((p[:, :, :-2] + 2 * p[:, :, 1:-1] + p[:, :, 2:]) * np.float32(1 / 16))


def _margin(height: int, width: int) -> int:
    """Pixels left out at every edge, where a moved picture shows what the other has not; small ones spare none."""
    return 2 if min(height, width) >= 16 else 0


def _inner(images: Array) -> Float32:
    """The part that is compared, centred: (P, h, w) to (P, p)."""
    m = _margin(*images.shape[1:])
    return _centred(images[:, m : images.shape[1] - m, m : images.shape[2] - m].reshape(len(images), -1))


def _centred(values: Float32) -> Float32:
    return np.asarray(values - values.mean(axis=-1, keepdims=True))


def _whole_moves(a: Float32, b: Float32) -> Float32:
    """Rows and columns by which `a` is read to fit `b` best, and zoom 0: (P, 3)."""
    n, height, width = a.shape
    target = _inner(b)
    padded = np.pad(a, ((0, 0), (_REACH, _REACH), (_REACH, _REACH)), mode="edge")
    best = np.full(n, -np.inf, dtype=np.float32)
    moves = np.zeros((n, 3), dtype=np.float32)
    steps = [(dy, dx) for dy in range(-_REACH, _REACH + 1) for dx in range(-_REACH, _REACH + 1)]
    for dy, dx in sorted(steps, key=lambda step: abs(step[0]) + abs(step[1])):
        part = _inner(padded[:, _REACH + dy :, _REACH + dx :][:, :height, :width])
        size = np.einsum("np,np->n", part, part)
        fit = np.einsum("np,np->n", part, target) / np.sqrt(size + 1e-3)
        closer = fit > best  # the shorter move wins a tie
        best[closer] = fit[closer]
        moves[closer, 0], moves[closer, 1] = dy, dx
    return moves


def _warp(a: Float32, place: Float32) -> Float32:
    """Read each picture at ``c + (1 + s)(x - c) + (dy, dx)``, between pixels linearly, edges repeated."""
    n, height, width = a.shape
    zoom = 1 + place[:, 2:]
    rows = np.clip(_axis(height) * zoom + place[:, :1] + (height - 1) / 2, 0, height - 1)
    columns = np.clip(_axis(width) * zoom + place[:, 1:2] + (width - 1) / 2, 0, width - 1)
    top, left = np.minimum(rows.astype(np.intp), height - 2), np.minimum(columns.astype(np.intp), width - 2)
    down, right = (rows - top)[:, :, None], (columns - left)[:, None, :]
    every = np.arange(n)[:, None]
    upper = a[every, top]
    lines = upper + (a[every, top + 1] - upper) * down
    low = np.take_along_axis(lines, left[:, None, :], axis=2)
    return np.asarray(low + (np.take_along_axis(lines, left[:, None, :] + 1, axis=2) - low) * right)


def _axis(size: int) -> Float32:
    return (np.arange(size) - (size - 1) / 2).astype(np.float32)


def _terms(a: Float32) -> Float32:
    """What may explain a copy of `a`, over the part that is compared: (P, 6, p), each centred."""
    p = np.pad(a, ((0, 0), (1, 1), (1, 1)), mode="edge")
    up, down, left, right = p[:, :-2, 1:-1], p[:, 2:, 1:-1], p[:, 1:-1, :-2], p[:, 1:-1, 2:]
    gy, gx = (down - up) / 2, (right - left) / 2
    zoom = _axis(a.shape[1])[:, None] * gy + _axis(a.shape[2]) * gx
    terms = (gy, gx, zoom, a, a * a * np.float32(1 / 256), up + down + left + right - 4 * a)
    return np.stack([_inner(term) for term in terms], axis=1)


def _fit(a: Float32, b: Float32) -> tuple[Float32, Float32]:
    """Distance (P,), and the further move and zoom (P, 3) that the linear terms ask for."""
    weights, distance = _least_squares(_terms(a), _inner(b))
    tone = weights[:, 3:4]
    # t a(x + u) ≈ t a + t u a': the move is what the derivative weighs, by the tone
    step = np.where(tone > 1e-3, weights[:, :3] / np.maximum(tone, 1e-3), 0.0)
    reach = np.array([1.0, 1.0, 2.0 / min(a.shape[1:])])
    return distance, np.clip(step, -reach, reach).astype(np.float32)


def _distance_in_colour(a: Float32, b: Float32, place: Float32) -> Float32:
    """Distance (P,) over all channels, one set of weights for all of them."""
    terms = [_terms(_warp(_smooth(a[..., c]), place)) for c in range(a.shape[3])]
    target = [_inner(_smooth(b[..., c])) for c in range(b.shape[3])]
    return _least_squares(np.concatenate(terms, axis=2), np.concatenate(target, axis=1))[1]


def _least_squares(terms: Float32, target: Float32) -> tuple[Float32, Float32]:
    """Weights (P, m) and the root of the share of the target's square that is left (P,); 1 for flat targets."""
    gram = np.einsum("nip,njp->nij", terms, terms, optimize=True)
    own = np.einsum("nii->ni", gram)
    gram += np.eye(terms.shape[1], dtype=np.float32) * (_RIDGE * own + 1e-3)[:, :, None]
    against = np.einsum("nip,np->ni", terms, target)
    weights = np.linalg.solve(gram, against[..., None])[..., 0].astype(np.float32)
    left = target - np.einsum("ni,nip->np", weights, terms)
    size = np.einsum("np,np->n", target, target)
    share = np.einsum("np,np->n", left, left) / np.maximum(size, 1e-6)
    flat = size < _FLAT * target.shape[1]
    return weights, np.where(flat, 1.0, np.sqrt(np.minimum(share, 1.0))).astype(np.float32)
