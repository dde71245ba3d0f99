"""Fewer rows than columns: the same problem in as many columns as there are rows, exactly.

With an L2 penalty the optimal weights are a combination of the (centred) rows (the representer theorem: Kimeldorf &
Wahba 1971), so nothing is lost by rotating the features into the rows' own span:

    Z − 1 zᵀ = Rᵀ Qᵀ   (QR of the transpose),      W = Q V,      ‖W‖ = ‖V‖,

and the problem in V has the features Rᵀ. A thousand photos with four thousand features become a problem of a
thousand columns.

Shapes
------
Z : (N, D) with N < D, Q : (D, N) orthonormal columns, R : (N, N), V : (N, K), W : (D, K).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from lastlayer._arrays import Float64, FloatArray
from lastlayer.linear.examples import FLOAT64_UP_TO

WORTH_IT = 0.75
"""The rotation costs about 4 D N² operations; it pays when the columns shrink to this share or less."""


@final
@dataclass(frozen=True, eq=False)
class ThinBasis:
    """An orthonormal basis of the centred rows' span.

    Attributes
    ----------
    mean : ndarray of float64, (D,)
        What is subtracted from every row.
    Q : ndarray of float64, (D, N)
    """

    mean: Float64
    Q: Float64

    def weights(self, V: FloatArray, b: FloatArray) -> tuple[Float64, Float64]:
        """Weights (D, K) and bias (K,) for the features as given, from those of the rotated ones."""
        W: Float64 = self.Q @ np.asarray(V, dtype=np.float64)
        return W, np.asarray(b, dtype=np.float64) - self.mean @ W

    def start(self, W: FloatArray, b: FloatArray) -> tuple[Float64, Float64]:
        """Weights and bias in the rotated features, from those for the features as given."""
        W64 = np.asarray(W, dtype=np.float64)
        return self.Q.T @ W64, np.asarray(b, dtype=np.float64) + self.mean @ W64


def is_thin(Z: FloatArray) -> bool:
    """Whether there are so many fewer rows than columns that rotating pays."""
    return len(Z) <= WORTH_IT * int(Z.shape[1])


def thin(Z: FloatArray) -> tuple[FloatArray, ThinBasis]:
    """Rotate features into the span of their rows.

    Parameters
    ----------
    Z : (N, D), N ≤ D.

    Returns
    -------
    rotated : (N, r), r ≤ N
        Features with the same scores, distances and penalties: float64 for float64 and small ones, else float32.
    basis : ThinBasis
        Brings weights back.
    """
    mean = Z.mean(axis=0, dtype=np.float64)
    Q, R = np.linalg.qr((Z - mean).T)
    # copies and the centring itself leave directions in which nothing varies but rounding errors
    size = np.sqrt((R * R).sum(axis=1))
    alive = size > 1e-9 * size.max(initial=0.0)
    # Never in float16, where rounding the rotated features would change the problem.
    dtype = np.float64 if Z.size <= FLOAT64_UP_TO else np.result_type(Z.dtype, np.float32)
    return np.ascontiguousarray(R[alive].T, dtype=dtype), ThinBasis(mean, np.ascontiguousarray(Q[:, alive]))
