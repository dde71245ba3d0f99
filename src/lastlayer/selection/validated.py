"""What cross-validation gives: every C in every fold, and the fit of all rows at the one chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np

from lastlayer._arrays import BoolArray, Float32, Float64, FloatArray, IntArray
from lastlayer.selection.fit import LinearFit
from lastlayer.selection.folds import Fold
from lastlayer.selection.path import PathPoint


@final
@dataclass(frozen=True, eq=False)
class HeldOut:
    """A fold's fit, met by the rows it did not see.

    Attributes
    ----------
    rows : ndarray
        (n,) row numbers, those of weight zero left out.
    scores : ndarray
        (n, K).
    model : callable
        Gives the fit: weights (D, K) and bias (K,) for the columns as given.
    """

    rows: IntArray
    scores: FloatArray
    model: Callable[[], tuple[Float64, Float64]]


Measure = Callable[[HeldOut], float]
"""How good a fit is; greater is better."""


@final
@dataclass(frozen=True, eq=False)
class CrossValidation:
    """What every C is worth in every fold, and the fit of all rows at the one chosen.

    Shapes
    ------
    F : folds, L : values of C that were fitted in every fold.

    Attributes
    ----------
    Cs : ndarray
        (L,) ascending.
    l2 : ndarray
        (L,) λ of the fits of all rows, ``1 / (C Σ s)``.
    losses, accuracies : ndarray
        (F, L) of the held-out rows: weighted mean loss, and share of the weight that is right.
    right : ndarray
        (F, L) held-out rows of positive weight that are right, each counted once.
    n_held : ndarray
        (F,) held-out rows of positive weight.
    measures : ndarray or None
        (F, L) of the caller's own measure.
    train_losses : ndarray
        (L,) mean loss of all rows at the fits of all rows.
    passes : ndarray
        (F + 1, L) passes over the data, the last row for the fits of all rows.
    iterations : ndarray
        (F + 1, L).
    converged : ndarray
        (F + 1, L) whether the tolerance was met.
    seconds : ndarray
        (L,) what a C cost in all.
    best : int
        Index of the C chosen.
    fit : LinearFit
        All rows, at that C.
    out_of_fold : ndarray
        (N, K) float32 scores of every row at that C by the fit of the fold that held it out; the mean where several
        did, NaN where none.
    at_edge : bool
        Whether the C chosen is the first or last of its grid.
    rule : str
    skipped : tuple of float
        Values of C that an interruption left.
    fold_weights : ndarray or None
        (F, L, D, K), where asked for.
    fold_biases : ndarray or None
        (F, L, K), where asked for.
    """

    Cs: Float64
    l2: Float64
    losses: Float64
    accuracies: Float64
    right: IntArray
    n_held: IntArray
    measures: Float64 | None
    train_losses: Float64
    passes: Float64
    iterations: IntArray
    converged: BoolArray
    seconds: Float64
    best: int
    fit: LinearFit
    out_of_fold: Float32
    at_edge: bool
    rule: str
    folds: tuple[Fold, ...]
    skipped: tuple[float, ...] = ()
    fold_weights: FloatArray | None = None
    fold_biases: FloatArray | None = None

    @property
    def C(self) -> float:
        """The value chosen."""
        return float(self.Cs[self.best])

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the walk."""
        return bool(self.skipped)

    @property
    def mean_loss(self) -> Float64:
        """(L,) mean over the folds."""
        return np.asarray(self.losses.mean(axis=0))

    @property
    def sd_loss(self) -> Float64:
        """(L,) standard deviation between folds (n - 1), zeros for a single one."""
        return np.asarray(self.losses.std(axis=0, ddof=1) if len(self.losses) > 1 else np.zeros(len(self.Cs)))

    def points(self) -> tuple[PathPoint, ...]:
        """Every C in the terms of a path: all held-out rows together, the mean loss of the folds."""
        held = int(self.n_held.sum())
        return tuple(
            PathPoint(
                C=float(self.Cs[i]),
                l2=float(self.l2[i]),
                train_loss=float(self.train_losses[i]),
                val_accuracy=(int(self.right[:, i].sum()), held),
                val_loss=float(self.mean_loss[i]),
                passes=float(self.passes[:, i].sum()),
                seconds=float(self.seconds[i]),
                stop_reason="converged" if self.converged[:, i].all() else "not converged in every fold",
                converged=bool(self.converged[:, i].all()),
            )
            for i in range(len(self.Cs))
        )
