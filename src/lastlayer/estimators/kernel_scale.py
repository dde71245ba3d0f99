"""How widely features are spread, for the width γ of a kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from lastlayer._arrays import Array, Float64, InputError

ROWS = 4096
LARGEST = 1e150
"""Features further from their mean than this, or all nearer than its inverse, are refused: squares leave float64."""
TAME = 1e15
"""Features that far from their mean, and no nearer than its inverse, may be multiplied in float32."""


@final
@dataclass(frozen=True)
class Spread:
    """Of all numbers of X (N, D), each row with its weight.

    Attributes
    ----------
    n_features : int
        D.
    variance : float
        ``Σᵢ sᵢ Σⱼ (xᵢⱼ - μ)² / (D Σ s)``.
    largest : float
        ``max |xᵢⱼ - μ|`` over rows of positive weight.
    """

    n_features: int
    variance: float
    largest: float

    @classmethod
    def of(cls, X: Array, weights: Float64 | None) -> Spread:
        """Two passes in float64 over blocks of rows.

        Raises
        ------
        InputError
            For features whose squares leave the range of float64.
        """
        s = np.ones(len(X)) if weights is None else weights / weights.max()
        starts, total = range(0, len(X), ROWS), float(s.sum()) * X.shape[1]
        # Divided before they are summed: the sum may be infinite where the mean is not.
        mean = sum(float(s[i : i + ROWS] @ (X[i : i + ROWS] / total).sum(axis=1, dtype=np.float64)) for i in starts)
        squares = largest = 0.0
        for i in starts:
            used = s[i : i + ROWS] > 0
            away = np.abs(X[i : i + ROWS][used].astype(np.float64) - mean)
            largest = max(largest, float(away.max(initial=0.0)))
            if largest <= LARGEST:
                squares += float(s[i : i + ROWS][used] @ np.einsum("ij,ij->i", away, away))
        if largest > LARGEST or 0.0 < largest < 1.0 / LARGEST:
            raise InputError(
                f"the features are up to {largest:.3g} from their mean, beyond what can be squared", "Scale them"
            )
        return cls(int(X.shape[1]), squares / total, largest)

    @property
    def is_tame(self) -> bool:
        """Whether squared distances fit float32."""
        return self.largest == 0.0 or 1.0 / TAME <= self.largest <= TAME

    def gamma(self, power: int = 2) -> float:
        """``1 / (D variance)``, scikit-learn's "scale"; 1 for constant features.

        For distances that grow with the first power of the features, ``1 / (D standard deviation)``.

        >>> spread = Spread.of(np.array([[0.0, 1.0], [1.0, 0.0]]), None)
        >>> spread.gamma(), spread.gamma(power=1)
        (2.0, 1.0)
        """
        size = float(np.sqrt(self.variance)) if power == 1 else self.variance
        return 1.0 / (self.n_features * size) if size > 0 else 1.0
