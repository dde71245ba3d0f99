"""The scale of a kernel where none is given: the median distance between training rows (Gretton et al. 2005)."""

from __future__ import annotations

import numpy as np

from lastlayer._arrays import Float32
from lastlayer.representations.maps import check_number

_PAIRS = 4096
_NUMBERS = 2**22


def typical_gamma(Z: Float32, rng: np.random.Generator, kernel: str = "rbf") -> float:
    """γ with which the kernel of an ordinary pair of rows is 1/e.

    One over the median squared distance of random pairs; "laplacian": one over the median city-block distance;
    "poly": one over the mean squared length of a row. 1 where all rows are the same.
    """
    first = rng.integers(0, len(Z), _PAIRS)
    second = (first + rng.integers(1, max(2, len(Z)), _PAIRS)) % len(Z)
    sizes = np.empty(_PAIRS)
    step = max(1, _NUMBERS // Z.shape[1])
    for start in range(0, _PAIRS, step):
        part = slice(start, start + step)
        a = Z[first[part]].astype(np.float64)
        if kernel != "poly":
            a -= Z[second[part]]
        sizes[part] = np.abs(a).sum(axis=1) if kernel == "laplacian" else np.einsum("ij,ij->i", a, a)
    middle = float(sizes.mean() if kernel == "poly" else np.median(sizes))
    if middle == 0.0:  # more than half of the rows are the same
        middle = float(sizes.mean())
    return float(np.clip(1.0 / middle, 1e-12, 1e12)) if middle > 0 else 1.0


def check_gamma(owner: str, gamma: float | str) -> float | str:
    """Refuse anything but "auto" and a positive number."""
    return "auto" if gamma == "auto" else check_number(owner, "gamma", gamma, 1e-12, 1e12)
