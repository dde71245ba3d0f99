"""The search for a learning rate and the range test: on problems whose best rate is known, and on hopeless ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
import pytest

from lastlayer._arrays import InputError
from lastlayer.losses import by_name
from lastlayer.objective import Objective
from lastlayer.selection.learning_rate import RateSearch, decades, search_learning_rate
from lastlayer.selection.range_test import _smooth, range_test
from lastlayer.solvers import FunctionProblem, GradientDescent, Problem, Scheduled, Solution, Solver, StopReason
from lastlayer.solvers.base import Callback, Point, Recorder
from lastlayer.solvers.steps import constant


def quadratic(condition: float = 30.0, n: int = 5) -> FunctionProblem:
    """Largest curvature 1, minimum 0."""
    curvatures = np.geomspace(1.0, 1.0 / condition, n)
    return FunctionProblem(lambda x: (0.5 * float(x @ (curvatures * x)), curvatures * x), np.ones(n), bound=1.0)


def descend(rate: float) -> Solver:
    return GradientDescent(Scheduled(constant(rate)), 1e-12, 10_000)


def digits_like(n: int = 400, d: int = 6, k: int = 3, loss: str = "cross_entropy") -> Objective:
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((n, d))
    y = (Z @ rng.standard_normal((d, k)) + rng.standard_normal((n, k))).argmax(axis=1)
    return Objective(Z, y, k, by_name(loss), 1e-3)


@final
@dataclass(frozen=True)
class Scripted(Solver):
    """Records the values of a function of the iteration; notices nothing."""

    values: Callable[[int], float]

    @property
    def name(self) -> str:
        return "scripted"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset()

    def minimise(self, problem: Problem, start: Point | None = None, callback: Callback | None = None) -> Solution:
        recorder = Recorder(problem, callback)
        for iteration in range(1000):
            fixed = self.values(iteration)
            point = FunctionProblem(lambda x: (fixed, x), np.zeros(1)).at(np.zeros(1))  # noqa: B023
            problem.at(problem.start())  # one pass
            if recorder.add(iteration, point, 1.0, 0.0):
                return recorder.solution(StopReason.CALLBACK)
        return recorder.solution(StopReason.MAX_ITER)


def test_decades() -> None:
    assert decades(1e-4, 10.0) == (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)
    assert decades(0.1, 0.1) == (0.1,)
    for low, high in ((0.0, 1.0), (1.0, 0.1), (1.0, math.inf)):
        with pytest.raises(InputError, match="0 < low <= high"):
            decades(low, high)


def test_the_best_rate_of_a_quadratic_is_found_and_everything_is_told() -> None:
    rates = (1e-3, 1e-2, 0.1, 0.5, 1.0, 3.0, 10.0)
    found = search_learning_rate(quadratic(), descend, rates, budget=45)
    ends = {rate: descend(rate).minimise(quadratic(), None, lambda r, _: r.passes >= 46).value for rate in rates[:5]}
    assert found.best == min(ends, key=ends.__getitem__) == 1.0
    assert found.solution.value == ends[1.0]
    assert [sum(t.rung == rung for t in found.trials) for rung in (1, 2, 3)] == [7, 3, 1]
    assert [t.budget for t in found.trials if t.rate == 1.0] == [5, 15, 45]
    assert all(t.budget <= t.passes <= t.budget + 1 for t in found.trials if t.outcome != "diverged")
    assert found.passes == sum(t.passes for t in found.trials) < 7 * 45 / 2
    assert found.measure == "objective" and not found.at_edge and not found.note
    first = {t.rate: t for t in found.trials if t.rung == 1}
    assert [first[rate].outcome for rate in rates[:3]] == ["dropped", "dropped", "kept"]
    for rate in (3.0, 10.0):
        assert first[rate].outcome in ("diverged", "dropped")
        assert not any(t.rate == rate and t.rung > 1 for t in found.trials)
    assert found.table().count("\n") == len(found.trials)


def test_divergence_is_named_by_the_solver() -> None:
    found = search_learning_rate(quadratic(), descend, (0.5, 5.0), budget=60, least=30)
    [bad] = [t for t in found.trials if t.outcome == "diverged"]
    assert bad.rate == 5.0
    assert "is above 2/L = 2" in bad.why
    assert bad.value == math.inf
    assert bad.stop_reason is StopReason.DIVERGED
    assert found.best == 0.5
    assert found.at_edge and "smaller one may be better" in found.note


def test_nan_that_the_solver_does_not_notice_ends_the_run_and_is_named() -> None:
    def solver(rate: float) -> Solver:
        return Scripted(lambda i: math.nan if rate > 1 and i >= 3 else 1.0 / (1.0 + rate * i))

    found = search_learning_rate(quadratic, solver, (0.5, 1.0, 2.0), budget=27)
    [bad] = [t for t in found.trials if t.outcome == "diverged"]
    assert bad.rate == 2.0 and bad.passes == 4
    assert "no longer finite in iteration 3" in bad.why
    assert found.best == 1.0


def test_overflow_is_no_warning() -> None:
    problem = FunctionProblem(lambda x: (float((x**4).sum()), 4 * x**3), np.full(3, 2.0))
    found = search_learning_rate(problem, descend, (1e-3, 1e3), budget=9)
    assert found.best == 1e-3


def test_rates_that_diverge_late_give_way_to_those_dropped_before() -> None:
    def solver(rate: float) -> Solver:
        return Scripted(lambda i: math.nan if rate > 1 and i > 6 else 1.0 / (1.0 + rate * i))

    found = search_learning_rate(quadratic, solver, (0.1, 0.5, 2.0), budget=9, least=3)
    assert [(t.rate, t.rung, t.outcome) for t in found.trials] == [
        (0.1, 1, "dropped"),
        (0.5, 1, "dropped"),
        (2.0, 1, "kept"),
        (2.0, 2, "diverged"),
        (0.5, 2, "chosen"),
    ]
    assert found.best == 0.5


def test_when_everything_diverges_all_rates_are_listed() -> None:
    with pytest.raises(InputError, match=r"every learning rate diverged: 3, 10, 1e\+03 .*Try rates below 3"):
        search_learning_rate(quadratic(), descend, (3.0, 10.0, 1000.0), budget=100, least=100)


@pytest.mark.parametrize("as_problem", [False, True])
def test_validation_decides_where_it_is_given(as_problem: bool) -> None:
    """The validation loss is lowest a little on the way, where small rates end."""
    other = FunctionProblem(lambda x: (float(((x - 0.9) ** 2).sum()), x), np.zeros(5))
    validation = other if as_problem else (lambda x: other.at(x).value)
    rates = (1e-2, 0.1, 1.0)
    found = search_learning_rate(quadratic(), descend, rates, budget=9, least=9, validation=validation)
    assert found.measure == "validation"
    assert found.best == 1e-2
    assert search_learning_rate(quadratic(), descend, rates, budget=9, least=9).best == 1.0
    [chosen] = [t for t in found.trials if t.outcome == "chosen"]
    assert chosen.value == other.at(found.solution.params).value


def test_validation_that_is_not_finite_counts_as_divergence() -> None:
    def loss(x: np.ndarray) -> float:
        return math.nan if float(x.max()) < 0.5 else float(x[0])

    found = search_learning_rate(quadratic(2.0), descend, (1e-2, 1.0), budget=9, validation=loss)
    assert {t.rate: t.why for t in found.trials if t.outcome == "diverged"} == {1.0: "validation gives nan"}


def test_a_factory_makes_every_trial_its_own_problem() -> None:
    made: list[FunctionProblem] = []

    def factory() -> Problem:
        made.append(quadratic())
        return made[-1]

    found = search_learning_rate(factory, descend, (0.1, 1.0, 1.5), budget=9)
    assert len(made) == len(found.trials)
    assert [p.passes for p in made] == [t.passes for t in found.trials]


def test_a_rate_that_never_helps_is_said_to() -> None:
    found = search_learning_rate(quadratic, lambda rate: Scripted(lambda i: 1.0 - i * (rate < 1)), (0.5, 2.0), budget=3)
    assert [t.why for t in found.trials if t.rate == 2.0] == ["ranked 2 of 2, never below its start"]


def test_small_budgets_have_fewer_rungs() -> None:
    found = search_learning_rate(quadratic(), descend, (0.1, 0.5, 1.0, 1.5), budget=4, least=2)
    assert [t.budget for t in found.trials] == [4.0] * 4
    assert sum(t.outcome == "chosen" for t in found.trials) == 1
    one = search_learning_rate(quadratic(), descend, (0.5,), budget=100)
    assert len(one.trials) == 1 and not one.at_edge


def test_every_trial_makes_a_step_however_small_its_budget() -> None:
    found = search_learning_rate(quadratic(), descend, (0.1, 1.0), budget=0.5, least=0.1)
    assert found.best == 1.0
    assert all(t.passes == 2 and t.value < 2.0 for t in found.trials)


def test_ctrl_c_returns_the_best_so_far() -> None:
    calls = [0]

    def interrupted(x: np.ndarray) -> tuple[float, np.ndarray]:
        calls[0] += 1
        if calls[0] == 30:
            raise KeyboardInterrupt
        return 0.5 * float(x @ x), x

    found = search_learning_rate(
        FunctionProblem(interrupted, np.ones(2), bound=1.0), descend, (0.1, 0.5, 1.5), budget=36
    )
    assert found.note == "Interrupted: the best so far"
    assert found.trials[-1].outcome == "interrupted"
    assert isinstance(found, RateSearch) and found.best in (0.1, 0.5, 1.5)


@pytest.mark.parametrize("rates", [(), (0.0, 1.0), (-1.0,), (math.nan,), (math.inf,)])
def test_rates_that_make_no_sense_are_refused(rates: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="positive, finite"):
        search_learning_rate(quadratic(), descend, rates, budget=9)


@pytest.mark.parametrize("settings", [{"budget": 0.0}, {"budget": 9, "shrink": 1}, {"budget": 9, "least": 0}])
def test_budgets_that_make_no_sense_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(InputError, match="passes above 0"):
        search_learning_rate(quadratic(), descend, (0.1,), **settings)  # type: ignore[arg-type]


def test_range_test_suggests_a_tenth_of_the_lowest_and_the_rate_works() -> None:
    J = digits_like()
    seen = range_test(J, 1e-4, 1e3, steps=150, batch_size=32)
    assert seen.suggestion == pytest.approx(0.1 * seen.rates[seen.smoothed.argmin()])
    assert "above 4 times its start" in seen.stopped
    assert len(seen.rates) == len(seen.losses) == len(seen.smoothed) < 150
    rates = np.geomspace(1e-3, 1e2, 6)
    ends = [range_test(J, r, 1.0001 * r, steps=60, batch_size=32).smoothed[-1] for r in rates]
    # plain SGD with the suggestion ends close to what the best rate reaches
    suggested = range_test(J, seen.suggestion, 1.0001 * seen.suggestion, steps=60, batch_size=32).smoothed[-1]
    assert suggested < min(ends) + 0.15 * (seen.begin - min(ends))


def test_range_test_on_the_squared_loss_ends_above_two_over_the_curvature() -> None:
    J = digits_like(loss="squared")
    seen = range_test(J, 1e-3, 1e3, steps=120, batch_size=400)
    limit = 2.0 / J.curvature_bound()
    assert seen.rates[-1] > limit
    assert 0.005 * limit < seen.suggestion < limit


def test_range_test_survives_overflow_and_says_so() -> None:
    J = digits_like(loss="squared")
    seen = range_test(J, 1e-4, 1e30, steps=400, blow_up=1e308)
    assert "no longer finite" in seen.stopped
    assert np.isfinite(seen.losses).all() and np.isfinite(seen.smoothed).all()
    assert seen.suggestion is not None and seen.suggestion < 2.0 / J.curvature_bound() * 10


def test_range_test_tells_a_grid_that_is_too_low_or_too_high() -> None:
    J = digits_like()
    low = range_test(J, 1e-3, 1.0, steps=60)
    assert "try a larger high" in low.note and low.stopped == "all rates were tried"
    nothing = range_test(J, 1e-9, 1e-7, steps=60, batch_size=16)
    assert nothing.suggestion is None and "larger high" in nothing.note
    high = range_test(J, 1e3, 1e6, steps=60)
    assert high.suggestion is None and "smaller low" in high.note


def test_range_test_takes_every_row_once_an_epoch_and_repeats_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    J = digits_like(n=96)
    seen: list[np.ndarray] = []
    batch = Objective.batch

    def watched(self: Objective, params: np.ndarray, rows: np.ndarray) -> tuple[float, np.ndarray]:
        seen.append(rows)
        return batch(self, params, rows)

    monkeypatch.setattr(Objective, "batch", watched)
    start = J.at(J.start())
    before = start.params.copy()
    first = range_test(J, 1e-4, 1e-1, steps=12, batch_size=16, seed=3, start=start)
    np.testing.assert_array_equal(start.params, before)
    for epoch in (seen[:6], seen[6:12]):
        assert sorted(np.concatenate(epoch)) == list(range(96))
    assert not np.array_equal(np.concatenate(seen[:6]), np.concatenate(seen[6:12]))
    again = range_test(J, 1e-4, 1e-1, steps=12, batch_size=16, seed=3)
    np.testing.assert_array_equal(first.losses, again.losses)
    assert not np.array_equal(first.losses, range_test(J, 1e-4, 1e-1, steps=12, batch_size=16, seed=4).losses)


def test_the_running_mean_does_not_lag() -> None:
    np.testing.assert_allclose(_smooth(np.full(20, 3.0), 4), 3.0)
    ramp = np.arange(30.0)
    np.testing.assert_allclose(_smooth(ramp, 4)[4:-4], ramp[4:-4])
    assert len(_smooth(np.zeros(0), 3)) == 0
    assert len(_smooth(np.ones(2), 8)) == 2


@pytest.mark.parametrize("settings", [{"low": 0.0}, {"low": 1.0, "high": 0.1}, {"steps": 9}, {"batch_size": 0}])
def test_range_tests_that_make_no_sense_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(InputError, match="range test"):
        range_test(digits_like(), **settings)  # type: ignore[arg-type]
