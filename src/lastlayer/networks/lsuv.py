"""Layer-sequential unit variance: a start found on data instead of by a formula (Mishkin & Matas 2016)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lastlayer._arrays import Array, Float32
from lastlayer._errors import InputError
from lastlayer.networks._checks import need_torch
from lastlayer.networks.architecture import Architecture
from lastlayer.networks.base import EVALUATION
from lastlayer.networks.layers import Convolution, Linear, LocallyConnected

ROUNDS = 10


def lsuv(
    architecture: Architecture, arrays: Mapping[str, Float32], images: Array, *, tolerance: float = 0.01, seed: int = 0
) -> dict[str, Float32]:
    """Arrays whose weights are orthonormal, then scaled layer by layer until outputs have variance 1.

    Every weight but the last layer's is drawn anew with orthonormal rows or columns; biases and the last layer's
    weights stay as given.

    Parameters
    ----------
    architecture : Architecture
    arrays : mapping
        All arrays, as `Architecture.initial` and `prepare` give them.
    images : (N, H, W, C)
        A few hundred training images.
    tolerance : float
        How far from 1 the variance may stay.
    seed : int

    Raises
    ------
    InputError
        When a layer's outputs do not vary at all.
    """
    torch = need_torch()
    architecture.check_images(images)
    rng = np.random.default_rng(seed)
    found = dict(arrays)
    with torch.inference_mode():
        mean, std = (torch.from_numpy(np.array(found[f"input.{key}"])) for key in ("mean", "std"))
        x = architecture.input.forward(torch.from_numpy(np.array(images)), mean, std)
        for index, (name, layer, keys) in enumerate(architecture.plan):
            scaled = isinstance(layer, (Convolution, Linear, LocallyConnected)) and index < len(architecture.plan) - 1
            if scaled:
                found[f"{name}.weight"] = _orthonormal(rng, found[f"{name}.weight"].shape)
            own = {key: torch.from_numpy(np.array(found[full])) for key, full in keys}
            y = layer.forward(x, own, EVALUATION)
            for _ in range(ROUNDS if scaled else 0):
                variance = float(y.var())
                if not variance > 0:
                    raise InputError(f"layer {name}: its outputs do not vary", "Give more, and different, images")
                if abs(variance - 1.0) < tolerance:
                    break
                own["weight"] /= variance**0.5
                y = layer.forward(x, own, EVALUATION)
            if scaled:
                found[f"{name}.weight"] = np.array(own["weight"].numpy())
            x = y
    return found


def _orthonormal(rng: np.random.Generator, shape: tuple[int, ...]) -> Float32:
    """Random weights whose rows (or columns, where there are more rows) are orthonormal; groups of a batch each."""
    if len(shape) == 3 and shape[1] != shape[2]:  # locally connected: a matrix at every place
        return np.stack([_orthonormal(rng, shape[1:]) for _ in range(shape[0])])
    drawn = rng.standard_normal((shape[0], int(np.prod(shape[1:], dtype=np.int64))))
    u, _, v = np.linalg.svd(drawn, full_matrices=False)
    return np.ascontiguousarray((u if u.shape == drawn.shape else v).reshape(shape), dtype=np.float32)
