"""What ridge fits are worth on rows that they have not seen: every row left out in turn, for every λ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from lastlayer._arrays import Float64, IntArray
from lastlayer.linear.examples import Examples
from lastlayer.selection.spectrum import CHUNK, Spectrum, Targets

BLOCK_ROWS = 1024
"""Rows rotated at a time."""
UNDETERMINED = 1e-3
"""Share of rows without a leave-one-out residual above which a λ is not judged."""


@final
@dataclass(frozen=True, eq=False)
class LeaveOneOut:
    """What every λ is worth on rows that its fit has not seen.

    Attributes
    ----------
    loss : ndarray
        (L,) weighted mean of ``½‖r‖²`` over the rows, each left out in turn; NaN where more than one row in a thousand
        is undetermined.
    standard_error : ndarray
        (L,) of `loss`.
    train_loss : ndarray
        (L,) weighted mean of ``½‖r‖²`` with all rows in the fit.
    right : ndarray or None
        (L,) rows whose label has the largest score, each left out in turn; None for real targets.
    n_rows : int
        Rows of positive weight, which are those judged.
    undetermined : ndarray
        (L,) rows whose ``1 - h`` is lost in rounding: the fit passes through them, whatever their target. They count
        with a residual of the right size at most.
    predictions : ndarray or None
        (L, N, K) scores of every row in the fit of the others, where asked for.
    """

    loss: Float64
    standard_error: Float64
    train_loss: Float64
    right: IntArray | None
    n_rows: int
    undetermined: IntArray
    predictions: Float64 | None


@final
@dataclass(frozen=True, eq=False)
class Scaling:
    """Targets are fitted as ``(y - shift) / scale``: squares of huge ones stay in range, offsets cost no digits."""

    shift: Float64
    scale: float

    def outside(self, W: Float64, b: Float64) -> tuple[Float64, Float64]:
        """Weights and bias for the targets as given."""
        return W * self.scale, b * self.scale + self.shift


def judge(
    examples: Examples,
    targets: Targets,
    spectrum: Spectrum,
    l2s: Float64,
    scaling: Scaling,
    kept: Float64 | None = None,
) -> LeaveOneOut:
    """Leave out every row in turn: one walk over the rows, their sums added in the fixed order.

    Where `kept`, (L, n, K), is given, the predictions are written there. To be called inside `single_blas_thread`.
    """
    inner, scale = spectrum.inner(l2s), scaling.scale
    labels = examples.y if examples.y.ndim == 1 else None
    step = max(1, CHUNK // examples.n_outputs)

    def sums(start: int, stop: int) -> Float64:
        q = spectrum.rotated(start, stop)
        w = np.ones(stop - start) if examples.weights is None else examples.weights[start:stop].astype(np.float64)
        total = np.zeros((6, len(inner)))
        for first in range(0, len(inner), step):
            part = slice(first, first + step)
            found = spectrum.residuals(q, start, stop, inner[part])
            train, out = (
                0.5 * np.einsum("nlk,nlk->nl", r, r).astype(np.float64) for r in (found.fitted, found.left_out)
            )
            total[:4, part] = w @ train, w @ out, w**2 @ out, w**2 @ out**2
            total[4, part] = found.undetermined.sum(axis=0)
            if labels is not None or kept is not None:
                y = targets.block(start, stop)[:, None, :] + targets.mean
                guess = y.astype(q.dtype) - found.left_out
                if labels is not None:
                    total[5, part] = (guess.argmax(axis=2) == labels[start:stop, None]).sum(axis=0)
                if kept is not None:
                    kept[part, start:stop] = guess.transpose(1, 0, 2) * scale + scaling.shift
        return total

    n = len(examples.rows)
    train, out, once, twice, undetermined, right = examples.rows.sum_over(sums, BLOCK_ROWS)
    loss = out / n
    squares = n if examples.weights is None else float(np.square(examples.weights, dtype=np.float64).sum())
    error = np.sqrt(np.maximum(twice - 2 * loss * once + loss**2 * squares, 0.0)) / n
    judged = undetermined <= UNDETERMINED * n
    return LeaveOneOut(
        np.where(judged, loss, np.nan) * scale**2,
        error * scale**2,
        train / n * scale**2,
        None if labels is None else right.astype(np.intp),
        n,
        undetermined.astype(np.intp),
        None,
    )
