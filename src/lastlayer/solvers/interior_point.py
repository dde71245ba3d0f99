"""An interior point method for the hinge loss: few steps whatever the scales, for problems that fit in the cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from lastlayer._arrays import Float64, InputError
from lastlayer.solvers._dual_ascent import best_bias
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
from lastlayer.solvers.dual_problem import DUAL, DualProblem, ValuedPoint

WORK = 2e9
"""Most operations for the equations of one step of all classes: about a tenth of a second."""
SHRINK, BACK = 0.1, 0.995
"""What is left of the gap after a full step; how far towards a bound a step may go."""


@final
@dataclass(frozen=True, eq=False)
class InteriorPoint(Solver):
    """Primal-dual interior point method for linear support vector machines (Ferris & Munson 2002).

    For each class ``½ Σ λⱼ vⱼ² + Σ cᵢ ξᵢ`` with ``sᵢ = tᵢ (v·aᵢ + b) - 1 + ξᵢ ≥ 0`` and ``ξᵢ ≥ 0``, columns centred and
    divided by their range, the penalty carried over. α and c - α are the multipliers of s and ξ. Newton's equation for
    ``α s = ξ (c - α) = μ`` is one system of D + 1 unknowns,

        ``(Λ + Σ αᵢ/θᵢ aᵢ aᵢᵀ) Δ = Σ tᵢ aᵢ ρᵢ/θᵢ - (Λ v - Σ αᵢ tᵢ aᵢ)``,  ``θ = s + α ξ / (c - α)``,

    and μ falls tenfold a step. The number of steps, some thirty, hardly depends on λ or on the columns' scales, where
    coordinate ascent would need millions of visits; a step costs N D² operations.

    Parameters
    ----------
    gap : float
        Relative gap between the primal and the dual value to be reached.
    max_iter : int
        Most steps.
    """

    gap: float = 1e-8
    max_iter: int = 100

    @property
    def name(self) -> str:
        """Name for refusals."""
        return "interior_point"

    @property
    def needs(self) -> frozenset[str]:
        """A dual."""
        return frozenset({DUAL})

    def minimise(self, problem: Problem, start: Point | None = None, callback: Callback | None = None) -> Solution:
        """Minimise; `start` is the answer to beat, and Ctrl-C returns the best so far."""
        refuse_impossible(self, problem, "loss hinge with solver interior_point and l2 > 0")
        if not isinstance(problem, DualProblem):
            raise InputError(f"{problem.name} has no rows with boxes", "Give selection.hinge.HingeProblem")
        recorder = Recorder(problem, callback)
        try:
            stop = recorder.add(0, start or problem.at(problem.start()), 1.0, 0.0)
            return self._run(problem, recorder, stop)
        except KeyboardInterrupt:
            return recorder.solution(StopReason.INTERRUPTED)

    def _run(self, problem: DualProblem, recorder: Recorder, stop: bool) -> Solution:
        columns = _Columns.of(problem)
        signs = [np.where(problem.dual.y == k, 1.0, -1.0) for k in problem.dual.classes]
        states = [_State.begin(columns) for _ in signs]
        least, stalled, iteration = np.inf, 0, 0
        while not stop and iteration < self.max_iter:
            iteration += 1
            states = problem.spread(lambda pair: _step(columns, pair[0], pair[1], self.gap), list(zip(signs, states)))
            problem.count(columns.A.shape[1] / 2.0)
            values, gaps = np.array([_price(columns, t, state) for t, state in zip(signs, states)]).T
            gap = float(gaps.sum() / values.sum()) if values.sum() > 0 else 0.0
            W, bias = columns.outside(np.array([_with_bias(columns, t, s.v) for t, s in zip(signs, states)]))
            value = float(values.sum()) * columns.total * problem.unit
            if gap <= self.gap:  # of equal values the certified one
                recorder.forget_best()
            stop = recorder.add(iteration, ValuedPoint(problem, problem.params_of(W, bias), value), gap, 1.0)
            if gap <= self.gap:
                return recorder.solution(StopReason.CONVERGED, f"Duality gap {gap:.2g} of the objective")
            stalled = 0 if gap < 0.9 * least else stalled + 1
            least = min(least, gap)
            if stalled >= 5:
                return recorder.solution(StopReason.PRECISION, f"Duality gap {least:.2g} of the objective")
        return recorder.solution(StopReason.CALLBACK if stop else StopReason.MAX_ITER)


def fits_interior_point(problem: DualProblem) -> bool:
    """Whether a step is quick."""
    data = problem.dual
    return bool(float(len(data.rows)) * (data.X.shape[1] + 1.0) ** 2 * len(data.classes) <= WORK)


@final
class _Columns(NamedTuple):
    """Columns of mean 0 and range 1 and one of ones (zeros without a bias), their weights' prices, the rows' shares."""

    A: Float64
    cost: Float64
    middle: Float64
    size: Float64
    share: Float64
    total: float
    centre: Float64

    @classmethod
    def of(cls, problem: DualProblem) -> _Columns:
        data = problem.dual
        X = np.asarray(data.X[data.rows], dtype=np.float64)
        largest = float(data.box.max())
        total = float((data.box / largest).sum())
        share = data.box / largest / total
        middle = X.min(axis=0) / 2 + X.max(axis=0) / 2 if data.intercept else np.zeros(X.shape[1])
        if data.intercept:
            middle = middle + share @ (X - middle)
        X -= middle
        size = np.abs(X).max(axis=0)
        size[size == 0.0] = 1.0
        A = np.column_stack([X / size, np.full(len(X), float(data.intercept))])
        cost = np.r_[1.0 / size / (total * largest) / size, 0.0]
        return cls(A, cost, middle, size, share, total * largest, data.centre)

    def outside(self, v: Float64) -> tuple[Float64, Float64]:
        """Weights (C, D) and biases (C,) for the rows as given."""
        W = v[:, :-1] / self.size
        return W, v[:, -1] - W @ self.middle


@final
class _State(NamedTuple):
    """Weights with the bias, ξ, s, and the multipliers of s and of ξ."""

    v: Float64
    xi: Float64
    s: Float64
    alpha: Float64
    rest: Float64

    @classmethod
    def begin(cls, columns: _Columns) -> _State:
        """Far from every bound."""
        n, d = columns.A.shape
        half = columns.share / 2
        return cls(np.zeros(d), np.full(n, 2.0), np.ones(n), half, half.copy())


def _step(columns: _Columns, t: Float64, state: _State, goal: float) -> _State:
    v, xi, s, alpha, rest = state
    TA, cost = t[:, None] * columns.A, columns.cost
    gap = float(alpha @ s + rest @ xi)
    if _bound(columns, TA, state) <= 0.1 * goal * _value(columns, state):
        return state
    target = SHRINK * gap / (2 * len(t))
    theta = s + alpha * xi / rest
    rho = target - alpha * s - alpha * target / rest + alpha * xi
    right = TA.T @ (rho / theta) - (cost * v - TA.T @ alpha)
    dv = _solve(np.diag(cost) + TA.T @ ((alpha / theta)[:, None] * TA), right)
    moved = TA @ dv
    dalpha = (rho - alpha * moved) / theta
    dxi = (target - rest * xi + xi * dalpha) / rest
    step = min(_room(alpha, dalpha), _room(rest, -dalpha), _room(xi, dxi), _room(s, moved + dxi))
    v, xi = v + step * dv, xi + step * dxi
    # s afresh, so that it means what it says; where only rounding is left of it, a little above nothing.
    s = np.maximum(TA @ v + xi - 1.0, 0.1 * (1.0 - BACK) * s)
    return _State(v, xi, s, alpha + step * dalpha, rest - step * dalpha)


def _room(value: Float64, change: Float64) -> float:
    """Longest step, at most 1, that leaves all positive."""
    falling = change < 0
    return float((BACK * value[falling] / -change[falling]).min(initial=1.0))


def _solve(H: Float64, right: Float64) -> Float64:
    """``H⁺ right`` with the unknowns scaled to a unit diagonal."""
    diagonal = H.diagonal()
    scale = np.where(diagonal > 0, 1.0 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0)), 0.0)
    values, vectors = np.linalg.eigh(H * np.outer(scale, scale))
    keep = values > 1e-13 * values[-1]
    return np.asarray(scale * (vectors[:, keep] @ ((vectors[:, keep].T @ (scale * right)) / values[keep])))


def _value(columns: _Columns, state: _State) -> float:
    return float(columns.share @ state.xi + 0.5 * columns.cost @ (state.v * state.v))


def _bound(columns: _Columns, TA: Float64, state: _State) -> float:
    """The gap to the dual: products with multipliers, and what the weights' equation leaves over."""
    left = columns.cost * state.v - TA.T @ state.alpha
    return float(state.alpha @ state.s + state.rest @ state.xi + np.abs(left) @ np.abs(state.v))


def _with_bias(columns: _Columns, t: Float64, v: Float64) -> Float64:
    """Weights with the best bias for them."""
    if columns.A[0, -1] == 0.0:
        return v
    return np.append(v[:-1], best_bias(columns.A[:, :-1] @ v[:-1], t, columns.share))


def _price(columns: _Columns, t: Float64, state: _State) -> tuple[float, float]:
    """Value with the best bias, and the bound of its gap."""
    v = _with_bias(columns, t, state.v)
    value = float(columns.share @ np.maximum(0.0, 1.0 - t * (columns.A @ v)) + 0.5 * columns.cost @ (v * v))
    excess = value - _value(columns, state)
    return value, max(0.0, _bound(columns, t[:, None] * columns.A, state) + excess)
