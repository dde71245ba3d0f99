"""Dual coordinate ascent for the hinge loss, with a certificate: the gap between primal and dual."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from lastlayer._arrays import InputError
from lastlayer.solvers._dual_ascent import Ascent
from lastlayer.solvers.base import (
    Callback,
    Point,
    Problem,
    Recorder,
    Solution,
    Solver,
    StopReason,
    refuse_impossible,
)
from lastlayer.solvers.dual_problem import DUAL as DUAL
from lastlayer.solvers.dual_problem import DualProblem as DualProblem
from lastlayer.solvers.dual_problem import DualRows as DualRows
from lastlayer.solvers.dual_problem import ValuedPoint

FIRST_EPOCHS, MOST_EPOCHS, GROWTH = 12, 100, 1.3
"""Visits of the rows between two checks."""
STAGE_GAP, STAGE_EPOCHS = 0.1, 300
"""Where a stage of smaller boxes ends."""


@final
@dataclass(frozen=True, eq=False)
class DualCoordinateAscent(Solver):
    """Dual coordinate ascent for the hinge loss (Hsieh et al. 2008; Shalev-Shwartz & Zhang 2013).

    The dual of ``½‖w‖² + Σ cᵢ max(0, 1 - tᵢ (w·xᵢ + b))`` is ``max Σ αᵢ - ½‖Σ αᵢ tᵢ xᵢ‖²`` over ``0 ≤ αᵢ ≤ cᵢ`` and, as
    the bias is not penalised, ``Σ αᵢ tᵢ = 0``. Rows are visited in random order without replacement, each α set to its
    best value in its box; rows at a bound that have no wish to leave it are skipped until the next check. The equation
    is kept by the method of multipliers, whose multiplier is the bias (Hestenes 1969); columns are centred through it.
    Once few coordinates are free, Newton's method on them (`_dual_newton.polish`) ends what coordinate by coordinate
    takes thousands of visits.

    Every check is a certificate over all rows: the primal value of the best weights so far, the bias exact by sorting,
    and the dual value of an α that meets every constraint. Their difference bounds how far the answer is from the
    optimum. It ends when the sum of the differences is at most `gap` times the sum of the primal values.

    Parameters
    ----------
    gap : float
        Relative duality gap to be reached.
    max_iter : int
        Most visits of the rows (epochs).
    seed : int
        Epoch e visits the rows in the order of the generator (seed, e).

    Notes
    -----
    The hinge has no gradient that vanishes at the optimum: `gradient_norm` of the solution and of each `Record` holds
    the relative duality gap. Its share of skipped rows makes an epoch cheaper than a pass; `passes` counts the work.
    """

    gap: float = 1e-3
    max_iter: int = 1000
    seed: int = 0

    @property
    def name(self) -> str:
        """Name for refusals."""
        return "dual"

    @property
    def needs(self) -> frozenset[str]:
        """A dual."""
        return frozenset({DUAL})

    def minimise(self, problem: Problem, start: Point | None = None, callback: Callback | None = None) -> Solution:
        """Minimise; `start` is the answer to beat, and Ctrl-C returns the best so far."""
        refuse_impossible(self, problem, "loss hinge with solver dual and l2 > 0")
        if not isinstance(problem, DualProblem):
            raise InputError(f"{problem.name} has no rows with boxes", "Give selection.hinge.HingeProblem")
        if not (np.isfinite(self.gap) and self.gap > 0):
            raise InputError(f"gap is {self.gap}; a positive number is needed")
        recorder = Recorder(problem, callback)
        begin = start or problem.at(problem.start())
        ascent = Ascent(problem, self.seed, self.gap)
        try:
            stop = recorder.add(0, begin, 1.0, 0.0)
            epochs = 0
            for share in ascent.stages():
                if stop or epochs >= self.max_iter:
                    break
                ascent.rescale(share, STAGE_GAP)
                epochs = self._stage(ascent, epochs)
                stop = recorder.add(epochs, problem.at(ascent.params()), 1.0, 1.0)
            ascent.rescale(1.0, self.gap)
            return self._run(problem, ascent, recorder, epochs, stop)
        except KeyboardInterrupt:
            ascent.stopped.set()
            return recorder.solution(StopReason.INTERRUPTED)

    def _stage(self, ascent: Ascent, epochs: int) -> int:
        """Epochs made in all after one stage of smaller boxes."""
        last, most = epochs + STAGE_EPOCHS, FIRST_EPOCHS
        while epochs < min(last, self.max_iter) and ascent.gap() > STAGE_GAP:
            epochs, most = ascent.round(epochs, min(most, self.max_iter - epochs)), int(most * GROWTH)
        return epochs

    def _run(self, problem: DualProblem, ascent: Ascent, recorder: Recorder, epochs: int, stop: bool) -> Solution:
        most, stalled, least = FIRST_EPOCHS, 0, np.inf
        while epochs < self.max_iter and not stop:
            epochs = ascent.round(epochs, min(most, self.max_iter - epochs))
            most = min(int(most * GROWTH), MOST_EPOCHS)
            gap = ascent.gap()
            point = ValuedPoint(problem, ascent.params(), ascent.value())
            stop = recorder.add(epochs, point, gap, 1.0)
            if gap <= self.gap:
                return self._answer(recorder, StopReason.CONVERGED, gap)
            stalled = 0 if gap < 0.95 * least else stalled + 1
            least = min(least, gap)
            if stalled >= 3 and gap <= 100.0 * problem.rounding:
                return self._answer(recorder, StopReason.PRECISION, gap)
        return self._answer(recorder, StopReason.CALLBACK if stop else StopReason.MAX_ITER, None)

    def _answer(self, recorder: Recorder, reason: StopReason, gap: float | None) -> Solution:
        last = recorder.history[-1].gradient_norm if gap is None else gap
        return recorder.solution(
            reason, f"Duality gap {last:.2g} of the objective after {recorder.problem.passes:.3g} passes"
        )
