"""Layers and activations as functions whose derivatives can be checked numerically (`solvers.check_gradient`)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lastlayer._arrays import Array, Float64
from lastlayer.networks._checks import need_torch
from lastlayer.networks.base import Layer, Mode, Shape

Arrays = dict[str, Array]
BATCH = 3


def layer_problem(
    layer: Layer, shape: Shape, seed: int = 0, *, training: bool = True
) -> tuple[Callable[[Arrays], tuple[float, Arrays]], Arrays]:
    """``Σ c ⊙ f(x)`` of a layer f with random numbers c, as a function of its learned arrays and its input x.

    Everything is float64. What dropout drops is the same at every call, and running statistics begin anew.

    Parameters
    ----------
    layer : Layer
    shape : tuple
        (H, W, C) or (D,) of one example; a batch of three is used.
    seed : int
        Of x, c and the arrays, which are drawn and not started at zeros and ones.
    training : bool

    Returns
    -------
    problem : callable
        Arrays by name -> (value, gradients by name): what `check_gradient` takes.
    arrays : dict
        Where to check: the learned arrays and ``x``.

    Examples
    --------
    >>> from lastlayer.networks.layers import Linear
    >>> problem, arrays = layer_problem(Linear(2), (3,))
    >>> sorted(arrays)
    ['bias', 'weight', 'x']
    """
    rng = np.random.default_rng(seed)
    batch = (BATCH, *((shape[2], shape[0], shape[1]) if len(shape) == 3 else shape))
    out = layer.output_shape(shape)
    c: Float64 = rng.standard_normal((BATCH, *((out[2], out[0], out[1]) if len(out) == 3 else out)))
    wanted = layer.parameters(shape)
    drawn = {name: np.abs(rng.standard_normal(one.shape)) + 0.5 for name, one in wanted.items()}
    learned = {name: drawn[name] * rng.choice([-1.0, 1.0], one.shape) for name, one in wanted.items() if one.learned}
    fixed = {name: drawn[name] for name, one in wanted.items() if not one.learned}

    def problem(arrays: Arrays) -> tuple[float, Arrays]:
        torch = need_torch()
        moved = {name: torch.tensor(array, dtype=torch.float64, requires_grad=True) for name, array in arrays.items()}
        own = {name: one for name, one in moved.items() if name != "x"}
        own |= {name: torch.tensor(array, dtype=torch.float64) for name, array in fixed.items()}
        mode = Mode(training, torch.Generator().manual_seed(seed))
        value = (layer.forward(moved["x"], own, mode) * torch.tensor(c)).sum()
        value.backward()
        return float(value.detach()), {name: one.grad.numpy() for name, one in moved.items()}

    return problem, {**learned, "x": rng.standard_normal(batch)}
