"""The objective at a point and along a line, with the scores kept: moving along a line costs no product."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import numpy as np

from lastlayer._arrays import Float64, FloatArray
from lastlayer.objective.terms import N_SUMS
from lastlayer.solvers.base import Line, LineValue, SampledPoint

if TYPE_CHECKING:
    from lastlayer.objective.problem import Objective


@final
class ObjectivePoint(SampledPoint):
    """The objective at one value of the parameters.

    Parameters
    ----------
    problem : Objective
    params : (D + 1, K)
    scores : (K, N)
    data : mean loss and its gradient, where they are known.
    pending : a step and the change of the scores per unit of it, not yet added to them; at a step of 0 memory only.
    whole_step : whether the step that led here was 1, or none did: the next one then probably is 1 as well.
    """

    def __init__(
        self,
        problem: Objective,
        params: Float64,
        scores: FloatArray,
        data: tuple[float, Float64] | None = None,
        pending: tuple[float, FloatArray] | None = None,
        whole_step: bool = True,
    ) -> None:
        self.problem = problem
        self._params = params
        self._scores: FloatArray | None = scores
        self._data = data
        self._pending = pending
        self.whole_step = whole_step

    @property
    def scores(self) -> FloatArray:
        """Scores (K, N); computed again when a line from here has taken them over."""
        if self._scores is None:
            self._scores, self._pending = self.problem.scores(self._params), None
        if self._pending is not None and self._pending[0] != 0.0:
            (step, change), scores = self._pending, self._scores
            for k in range(len(scores)):  # class by class: no third array of that size
                scores[k] += float(step) * change[k]
            self._pending = 0.0, change  # nothing is left to be added, but the next line takes its memory
        return self._scores

    def take_scores(self) -> tuple[FloatArray, tuple[float, FloatArray] | None]:
        """Scores for a line from here, with what is still to be added to them; the line adds it."""
        if self._scores is None:
            return self.scores, None
        pending, self._pending = self._pending, None
        return self._scores, pending

    def hand_over(self) -> None:
        """The scores now belong to the next point, which changes them in place."""
        self._scores = None

    @property
    def params(self) -> Float64:
        """The parameters."""
        return self._params

    @property
    def value(self) -> float:
        """J."""
        return self._loss_and_gradient()[0] + self.problem.penalty.value(self._params[:-1])

    @property
    def gradient(self) -> Float64:
        """∂J/∂params."""
        gradient = self._loss_and_gradient()[1].copy()
        gradient[:-1] += self.problem.penalty.gradient(self._params[:-1])
        return gradient

    def hessian_times(self, direction: Float64) -> Float64:
        """``H v`` of J: one pass."""
        problem, scores = self.problem, self.scores
        right, added = problem.factors(direction)
        rows = problem.examples.rows
        total = rows.sum_over(lambda a, b: problem.terms.hessian((a, b), right, added, scores), size=self._params.size)
        problem.count(2)
        product = problem.finish(total.reshape(problem.examples.n_outputs, -1))
        product[:-1] += problem.penalty.gradient(direction[:-1])
        return product

    def sample(self, n_rows: int, seed: tuple[int, ...]) -> ObjectivePoint:
        """Draw about `n_rows` rows for estimates of the Hessian at this point; the value on them means nothing.

        Row i is drawn with probability ``min(1, n_rows (0.9 τᵢ / Σ τ + 0.1 / N))`` and weighted by its inverse, τᵢ the
        trace of its Hessian in z times its weight: rows that are predicted with confidence hardly bend the objective.
        """
        problem, scores = self.problem, self.scores
        ex = problem.examples
        tau = problem.traces(scores)
        total = float(tau.sum(dtype=np.float64))
        share = n_rows * (0.9 * tau / total + 0.1 / len(tau)) if total > 0 else np.full(len(tau), n_rows / len(tau))
        chosen = np.flatnonzero(np.random.default_rng(seed).random(len(tau)) < share)
        inverse = 1.0 / np.minimum(1.0, share[chosen])
        return ObjectivePoint(problem.part(chosen, inverse), self._params, ex.rows.choose(scores, chosen))

    def under(self, problem: Objective) -> ObjectivePoint:
        """The same point of the same objective with another λ: nothing is computed again."""
        data = self._loss_and_gradient()
        return ObjectivePoint(problem, self._params, self.scores, data)

    def line(self, direction: Float64) -> ObjectiveLine:
        """The line from here: one forward product, and one backward where the first trial will probably be taken."""
        return ObjectiveLine(self, direction)

    def _loss_and_gradient(self) -> tuple[float, Float64]:
        """Mean loss and its gradient: one backward product, unless they are known."""
        if self._data is None:
            problem = self.problem
            scores, pending = self.take_scores()
            step, change = (0.0, None) if pending is None else pending
            rows = problem.examples.rows
            total = rows.sum_over(
                lambda a, b: problem.terms.gradient((a, b), scores, change, step), size=self._params.size
            )
            problem.count(1)
            if change is not None:
                self._pending = 0.0, change  # as in `scores`: memory for the next line
            self._data = problem.means(total)
            problem.see(self._params, self._data[1])
        return self._data


@final
class ObjectiveLine(Line):
    """The objective along a direction: the scores change by ``t Z·direction``, which is computed once."""

    def __init__(self, begin: ObjectivePoint, direction: Float64) -> None:
        self.begin, self.direction = begin, direction
        problem = begin.problem
        self._penalty = problem.penalty.along(begin.params[:-1], direction[:-1])
        self._penalty_value = problem.penalty.value(begin.params[:-1])
        self.scores, pending = begin.take_scores()
        step, self.change = (0.0, problem.examples.rows.empty(len(self.scores))) if pending is None else pending
        right, added = problem.factors(direction)
        ahead = begin.whole_step
        sums = problem.examples.rows.sum_over(
            lambda a, b: problem.terms.line((a, b), right, added, self.scores, self.change, step, ahead),
            size=direction.size,
        )
        problem.count(1 + ahead)
        self._at_one = self._finish(1.0, sums[:N_SUMS])
        self._data_at_one = problem.means(sums) if ahead else None

    def evaluate(self, step: float) -> LineValue:
        """Value, slope and curvature at `step`: elementwise work only."""
        if step == 1.0:
            return self._at_one
        problem = self.begin.problem
        sums = problem.examples.rows.sum_over(lambda a, b: problem.terms.along((a, b), self.scores, self.change, step))
        return self._finish(step, sums)

    def _finish(self, step: float, sums: Float64) -> LineValue:
        """Means, and the penalty's parabola."""
        value, slope, curvature = sums / len(self.begin.problem.examples.rows)
        first, second = self._penalty
        return LineValue(
            float(value + self._penalty_value + step * first + 0.5 * step * step * second),
            float(slope + first + step * second),
            float(curvature + second),
        )

    def move(self, step: float) -> ObjectivePoint:
        """The point at `step`; takes over the scores of the point it began at."""
        params = self.begin.params + step * self.direction
        self.begin.hand_over()
        data = self._data_at_one if step == 1.0 else None
        return ObjectivePoint(self.begin.problem, params, self.scores, data, (step, self.change), step == 1.0)
