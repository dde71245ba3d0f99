"""Muon: momentum whose matrix is made orthogonal before the step, so that every direction moves equally far.

Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers"; the iteration after Kovarik 1970 and Björck & Bowie
1971.
"""

from __future__ import annotations

from typing import Any

from lastlayer.networks.architecture import Architecture
from lastlayer.networks.layers import BatchNorm, Convolution, Linear, MaxPool

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Steepest at 0 of the odd quintics that bring (0, 1] near 1: singular values end within about 0.7 to 1.2."""
ITERATIONS = 5
SMALLEST = 1e-12


def orthogonal(matrix: Any, iterations: int = ITERATIONS) -> Any:
    r"""About ``U Vᵀ`` of a matrix ``U S Vᵀ``: its nearest one with orthonormal rows, or columns if these are fewer.

    ``X ← a X + (b A + c A²) X`` with ``A = X Xᵀ``, begun at the matrix over its Frobenius norm: products alone, no
    singular value decomposition.

    Parameters
    ----------
    matrix : tensor (M, N)
    iterations : int

    Returns
    -------
    tensor (M, N)
        Zero where the matrix is.
    """
    a, b, c = QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=SMALLEST)
    for _ in range(iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


def turn(weight: Any, direction: Any, rate: float, keep_norm: bool) -> None:
    """Move an array, in place, by `rate` of its norm against the orthogonal matrix of `direction`.

    Parameters
    ----------
    weight, direction : tensor (M, …)
        Axes after the first are one.
    rate : float
        Length of the step as a share of the array's norm.
    keep_norm : bool
        Whether the norm is afterwards what it was.
    """
    step = orthogonal(direction.reshape(len(direction), -1)).reshape(weight.shape)
    norm = weight.norm().clamp(min=SMALLEST)
    weight.sub_(step * (rate * norm / step.norm().clamp(min=SMALLEST)))
    if keep_norm:
        weight.mul_(norm / weight.norm().clamp(min=SMALLEST))


def matrices(architecture: Architecture) -> dict[str, bool]:
    """Weights that Muon turns, each with whether its scale has no effect: those of full and convolution layers.

    The last layer's are not turned, nor are biases, nor filters of groups and connection tables, which are not one
    matrix. The scale has no effect where batch normalisation follows, with nothing but pooling between.
    """
    found: dict[str, bool] = {}
    layers = architecture.layers
    for index, (name, layer) in enumerate(layers[:-1]):
        if isinstance(layer, Linear) or (isinstance(layer, Convolution) and layer.groups == 1 and not layer.table):
            after = (one for _, one in layers[index + 1 :] if not isinstance(one, MaxPool))
            found[f"{name}.weight"] = isinstance(next(after, None), BatchNorm)
    return found
