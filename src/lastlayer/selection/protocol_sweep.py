"""The sweeps over C of the probe protocols, and what they end in (`selection.protocols` says what they are)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import final

import numpy as np

from lastlayer._arrays import Array, Float64
from lastlayer._progress import Progress, Task
from lastlayer.selection.fit import LinearFit
from lastlayer.selection.path import PathPoint, Walk, judge, reason_to_stop
from lastlayer.solvers import StopReason

PROTOCOLS = ("holdout", "cv", "clip", "dinov2")
CS = tuple(float(C) for C in np.logspace(-5, 2, 15))
"""Values of C for `holdout` and `cv`."""
CLIP_CS = tuple(float(C) for C in 10.0 ** (np.arange(97) / 8 - 6))
DINOV2_CS = tuple(float(C) for C in 10.0 ** np.linspace(-6, 5, 45))
SHARES = {"holdout": 0.15, "clip": 0.10, "dinov2": 0.10}
"""Of the training rows, held out where no validation set is given."""
PATIENCE = 2
"""Values of C in a row that must raise the validation loss before `holdout` ends its path."""
MAX_ITER = 1000
CHOICE_GAP = 1e-5
"""Share of the objective that a step may still promise where fits are compared."""
FINAL_GAP, FINAL_TOL = 1e-6, 1e-3
"""The same, and the relative gradient norm, for the fit that is kept."""
WORDS = {
    "holdout": "{n} values tried from strong to weak",
    "clip": "{n} of 97 values, 1e-6..1e6, bisected to 8 a decade",
    "dinov2": "{n} values 1e-6..1e5",
}
_NEARER = "optimum approached to a share of the objective, where the published code stops by iterations and gradient"
DEPARTURES: dict[str, tuple[str, ...]] = {
    "holdout": (),
    "cv": (),
    "clip": ("own validation rows where the source gives none (the authors' share is unpublished): 10%", _NEARER),
    "dinov2": (
        "fits warm-started from strong to weak, where the published code begins each at zero",
        "products in float32 for float32 features, where the published code uses float64",
        _NEARER,
    ),
}


@final
@dataclass(frozen=True, eq=False)
class ProtocolResult:
    """A probe, and how its C was chosen.

    Attributes
    ----------
    protocol : str
        One of `PROTOCOLS`.
    C : float
        The value chosen.
    l2 : float
        λ of the fit that is kept: mean loss + (λ/2)‖W‖², ``1 / (C Σ s)`` (see Notes of `choose_by_protocol`).
    weights, bias : ndarray
        (D, K) and (K,) float64, for the features as given.
    fit : LinearFit
        The same, with the solver's reason.
    points : tuple of PathPoint
        Every C tried, ascending, with validation accuracy and loss (of all folds together for `cv`).
    best : int
        Index of the point chosen.
    how : str
        One line: what was tried, on which rows it was chosen, by what, and what was fitted in the end.
    departures : tuple of str
        In which respects this is not what the published code does.
    n_fitted : int
        Fits made, the final one included.
    at_edge : bool
        Whether C is the first or last value of its grid.
    interrupted : bool
        Whether Ctrl-C ended the choice early; C is the best of what was tried.
    out_of_fold : ndarray or None
        For `cv`: (N, K) float32 scores of every row by the fit that did not see it, at the C chosen.
    """

    protocol: str
    C: float
    l2: float
    weights: Float64
    bias: Float64
    fit: LinearFit
    points: tuple[PathPoint, ...]
    best: int
    how: str
    departures: tuple[str, ...]
    n_fitted: int
    at_edge: bool
    interrupted: bool
    out_of_fold: Array | None = None


@final
@dataclass
class Sweep:
    """Values of C tried so far, and the fit of the best."""

    protocol: str
    walk: Walk
    Z_val: Array
    y_val: Array
    C_factor: float
    points: dict[float, PathPoint] = field(default_factory=dict)
    params: dict[float, Float64] = field(default_factory=dict)
    best: float = 0.0
    fit: LinearFit | None = None
    at_best: Float64 | None = None

    def price(self, C: float) -> tuple[float, float]:
        """What is to be lowest: the loss or the mistakes, then C."""
        point = self.points[C]
        return (point.val_loss if self.protocol == "holdout" else -float(point.val_accuracy[0]), C)

    def run(self, grid: Sequence[float], progress: Progress) -> bool:
        """Try the protocol's values; True when Ctrl-C ended it early."""
        values = {"holdout": grid, "clip": CLIP_CS[::16], "dinov2": DINOV2_CS}[self.protocol]
        most = 15 if self.protocol == "clip" else len(values)
        with progress.task(self.protocol, most) as task:
            try:
                for C in values:
                    self.add(C, task)
                    if self.protocol == "holdout" and reason_to_stop(list(self.points.values()), PATIENCE):
                        return False
                if self.protocol == "clip":
                    self.bisect(task)
            except KeyboardInterrupt:
                if not self.points:
                    raise
                return True
        return False

    def bisect(self, task: Task) -> None:
        """Neighbours of the best at 8, 4, 2 and 1 steps of k, inside the grid."""
        for step in (8, 4, 2, 1):
            k = CLIP_CS.index(self.best)
            for neighbour in (k - step, k + step):
                if 0 <= neighbour < len(CLIP_CS):
                    self.add(CLIP_CS[neighbour], task)

    def add(self, C: float, task: Task) -> None:
        """Fit one C from the nearest one tried (the stronger of two), and judge it."""
        clock = time.perf_counter()
        near = min(self.params, key=lambda c: (abs(np.log(c / C)), c), default=None)
        going_on = near is None or near == next(reversed(self.points))
        fit, train_loss, l2 = self.walk.step(C * self.C_factor, None if going_on or near is None else self.params[near])
        if fit.solution.stop_reason is StopReason.INTERRUPTED:
            raise KeyboardInterrupt
        self.points[C] = judge(fit, C, l2, train_loss, self.Z_val, self.y_val, self.walk.first.loss, clock)
        if self.protocol != "clip":
            self.params.clear()
        self.params[C] = self.walk.point.params
        if self.fit is None or self.price(C) < self.price(self.best):
            self.best, self.fit, self.at_best = C, fit, self.walk.point.params
        k, n = self.points[C].val_accuracy
        task.advance(1, f"C = {C:.3g}: {k}/{n} right")

    def finish(self, where: str, weights: Float64, grid: Sequence[float], interrupted: bool) -> ProtocolResult:
        """The fit that is kept, and the line that says how it came about."""
        assert self.fit is not None
        points = tuple(sorted(self.points.values(), key=lambda point: point.C))
        fit, l2, rows = self.fit, self.points[self.best].l2, "not refitted"
        if not interrupted:
            last = replace(self.walk, tol=FINAL_TOL, gap=FINAL_GAP)
            if self.protocol != "holdout":
                last, rows = last.reweighted(weights), f"refitted on all {np.count_nonzero(weights):,} rows"
            fit, _, l2 = last.step(self.best * self.C_factor, self.at_best)
        edges = {"holdout": grid, "clip": CLIP_CS, "dinov2": DINOV2_CS}[self.protocol]
        by = "lowest loss" if self.protocol == "holdout" else "highest accuracy"
        ended = "; interrupted, best so far" if interrupted else ""
        how = (
            f"{self.protocol}: C = {self.best:.4g} of {WORDS[self.protocol].format(n=len(points))}, "
            f"by the {by} on {where}; {rows}{ended}"
        )
        return ProtocolResult(
            self.protocol,
            self.best,
            l2,
            fit.weights,
            fit.bias,
            fit,
            points,
            [point.C for point in points].index(self.best),
            how,
            DEPARTURES[self.protocol],
            len(points) + (not interrupted),
            len(edges) > 1 and self.best in (edges[0], edges[-1]),
            interrupted or fit.solution.stop_reason is StopReason.INTERRUPTED,
        )
