"""R: the price of large weights.

The bias is never penalised; the caller passes the weights only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from lastlayer._arrays import Float64


@final
@dataclass(frozen=True)
class L2:
    """``R(W) = ½ Σⱼ λⱼ ‖wⱼ‖²``, with one λ for each feature.

    One strength for all features is the usual case. A vector is needed when the features are scaled inside the
    solver: with columns times sⱼ and weights ``w̃ⱼ = wⱼ / sⱼ`` the same penalty reads ``λ sⱼ²``, so that scaling
    changes no answer.

    Shapes
    ------
    strength : (D,), W : (D, K).
    """

    strength: Float64

    def value(self, W: Float64) -> float:
        """The penalty."""
        return 0.5 * self._inner(W, W)

    def gradient(self, W: Float64) -> Float64:
        """``λⱼ wⱼ``, (D, K)."""
        return np.asarray(self.strength[:, None] * W)

    def along(self, W: Float64, V: Float64) -> tuple[float, float]:
        """Slope and curvature at W in the direction V; along a line the penalty is a parabola."""
        return self._inner(W, V), self._inner(V, V)

    def _inner(self, W: Float64, V: Float64) -> float:
        """``Σⱼ λⱼ wⱼ · vⱼ``, without a copy of either."""
        return float(self.strength @ np.einsum("jk,jk->j", W, V))
