"""Crammer and Singer's squared hinge, minimised through a smoothed loss whose kinks sharpen step by step.

    J_μ ≤ J ≤ (1 + 2μ) J_μ        (`losses.smoothed`)

so a minimum of J_μ is at most the share 2μ above the minimum of J. From a large μ to the one asked for, each stage
begins at the minimum of the one before: rivals that tie there still do, and the last stages take a few passes where a
cold start would take thousands (Nesterov 2005; Becker, Bobin & Candès 2011 on the continuation).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import final

import numpy as np

from lastlayer._arrays import Float64
from lastlayer.losses.smoothed import SmoothedCrammerSinger
from lastlayer.objective import Objective
from lastlayer.solvers.base import Callback, Point, Record, Solution, Solver, StopReason

FIRST = 0.1
"""μ of the first stage."""
FACTOR = 0.1
"""From one stage to the next."""
LEAST = 32.0
"""Least μ in units of the products' rounding: below it the shares of rivals that tie are rounding noise."""


def stages(gap: float, rounding: float) -> list[float]:
    """The values of μ, from large to small, for an answer at most `gap` above the optimum through smoothing.

    >>> stages(2e-3, 1e-16)
    [0.1, 0.01, 0.001]
    """
    last = min(FIRST, max(gap / 2.0, LEAST * rounding))
    count = int(np.ceil(np.log(FIRST / last) / np.log(1.0 / FACTOR) - 1e-9)) + 1
    return [max(last, float(f"{FIRST * FACTOR**i:.12g}")) for i in range(count)]


@final
@dataclass
class _Stages:
    """Records of all stages as one history."""

    callback: Callback | None
    iterations: int = 0
    passes: float = 0.0
    seconds: float = 0.0
    history: list[Record] = field(default_factory=list)
    stopped: bool = False

    def report(self, record: Record, params: Float64) -> bool:
        """Pass a record of the stage under way on, counted from the beginning."""
        if self.history and record.iteration == 0:
            return False  # the last record of the stage before, under another loss
        moved = record._replace(
            iteration=self.iterations + record.iteration,
            passes=self.passes + record.passes,
            seconds=self.seconds + record.seconds,
        )
        self.history.append(moved)
        self.stopped = bool(self.callback and self.callback(moved, params))
        return self.stopped

    def end(self, solution: Solution) -> None:
        """Count what a stage took."""
        self.iterations += solution.iterations
        self.passes += solution.passes
        self.seconds += solution.history[-1].seconds if solution.history else 0.0


def minimise_smoothed(
    objective: Objective,
    solver: Callable[[Objective, int], Solver],
    gap: float,
    max_iter: int,
    start: Point | None = None,
    callback: Callback | None = None,
) -> Solution:
    """Minimise an objective with the loss crammer_singer.

    Parameters
    ----------
    objective : Objective
    solver : callable
        Makes the solver of a stage from its smoothed objective and the iterations that are left.
    gap : float
        Share of the objective that smoothing may cost.
    max_iter : int
        Most iterations of all stages.
    start : Point, optional
    callback : callable, optional
        Called with the records of all stages as one history; their values are of the smoothed objectives.

    Returns
    -------
    Solution
        Its value is the objective's own; the reason is the last stage's. Ctrl-C and callbacks end it where it is.
    """
    log = _Stages(callback)
    params = objective.start() if start is None else start.params
    solution: Solution | None = None
    for mu in stages(gap, objective.rounding):
        smoothed = objective.with_loss(SmoothedCrammerSinger(mu))
        left = max_iter - log.iterations
        if solution is not None and left <= 0:
            break
        solution = solver(smoothed, left).minimise(smoothed, smoothed.at(params), log.report)
        log.end(solution)
        params = solution.params
        if log.stopped or solution.stop_reason in (StopReason.INTERRUPTED, StopReason.MAX_ITER):
            break
    assert solution is not None
    point = objective.at(params)
    return replace(
        solution, value=point.value, passes=log.passes, history=tuple(log.history), point=point
    )  # fmt: skip
