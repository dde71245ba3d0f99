"""Early stopping: when it ends a run, and what it returns to."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from lastlayer._arrays import Float64, InputError
from lastlayer.losses import by_name
from lastlayer.objective import Objective
from lastlayer.solvers.base import Record, Solver, StopReason
from lastlayer.solvers.directions import Adam
from lastlayer.solvers.function import FunctionProblem
from lastlayer.solvers.gradient_descent import GradientDescent
from lastlayer.solvers.lbfgs import LBFGS
from lastlayer.solvers.schedules import constant
from lastlayer.solvers.steps import Scheduled
from lastlayer.solvers.stochastic import SGD
from lastlayer.solvers.stopping import EarlyStopping, Watch, minimise_with_early_stopping
from lastlayer.solvers.variance_reduced import SVRG


def bowl() -> FunctionProblem:
    return FunctionProblem(lambda x: (float(x @ x), 2 * x), np.ones(1), bound=2.0)


def towards(place: float) -> Callable[[Float64], float]:
    return lambda x: float((x[0] - place) ** 2)


SLOW = GradientDescent(Scheduled(constant(0.05)), 1e-4, 500)


def test_it_stops_after_patience_records_and_returns_to_the_best() -> None:
    problem = bowl()
    fit = minimise_with_early_stopping(SLOW, problem, towards(0.5), patience=3)
    assert fit.solution.stop_reason is StopReason.EARLY
    assert not fit.solution.stop_reason.converged
    path = 0.9 ** np.arange(11)
    np.testing.assert_allclose(fit.validation, (path - 0.5) ** 2, rtol=1e-12)
    assert fit.best == int(np.argmin((path - 0.5) ** 2)) == 7
    assert len(fit.solution.history) == 7 + 3 + 1
    np.testing.assert_allclose(fit.solution.params, 0.9**7, rtol=1e-12)
    assert fit.solution.value == problem.at(fit.solution.params).value == fit.solution.history[7].value
    assert fit.solution.gradient_norm == fit.solution.history[7].gradient_norm
    assert "at iteration 7 of 10" in fit.solution.note
    assert fit.solution.point is None


def test_a_run_that_never_worsens_ends_as_the_solver_ends_it() -> None:
    fit = minimise_with_early_stopping(SLOW, bowl(), towards(0.0), patience=3)
    alone = SLOW.minimise(bowl())
    assert fit.solution.stop_reason is StopReason.CONVERGED
    assert fit.best == len(fit.validation) - 1 == alone.iterations
    np.testing.assert_array_equal(fit.solution.params, alone.params)


def test_convergence_past_the_best_is_called_early() -> None:
    fit = minimise_with_early_stopping(SLOW, bowl(), towards(0.5), patience=1000)
    assert fit.solution.stop_reason is StopReason.EARLY
    assert fit.best == 7
    np.testing.assert_allclose(fit.solution.params, 0.9**7)
    used_up = GradientDescent(Scheduled(constant(0.05)), 1e-4, 20)
    assert minimise_with_early_stopping(used_up, bowl(), towards(0.5), 999).solution.stop_reason is StopReason.MAX_ITER


def test_patience_begins_anew_with_every_improvement() -> None:
    losses = iter([5.0, 6, 6, 4, 6, 6, 3, 9, 9, 9, 1])
    fit = minimise_with_early_stopping(SLOW, bowl(), lambda x: next(losses), patience=3)
    assert fit.validation == (5.0, 6, 6, 4, 6, 6, 3, 9, 9, 9)
    assert fit.best == 6


def test_min_delta_asks_for_more_than_a_little() -> None:
    losses = [1.0, 0.95, 0.9, 0.85, 0.8, 0.5]
    little = iter(losses)
    fit = minimise_with_early_stopping(SLOW, bowl(), lambda x: next(little), patience=2, min_delta=0.2)
    assert fit.best == 0 and len(fit.validation) == 3
    often = iter([*losses, 9.0, 9.0])
    fit = minimise_with_early_stopping(SLOW, bowl(), lambda x: next(often), patience=2)
    assert fit.best == 5


def test_a_loss_that_is_not_a_number_is_no_improvement() -> None:
    losses = iter([1.0, math.nan, math.nan, 0.5, math.nan, math.inf, math.nan])
    fit = minimise_with_early_stopping(SLOW, bowl(), lambda x: next(losses), patience=3)
    assert fit.best == 3 and len(fit.validation) == 7
    with pytest.raises(InputError, match="validation loss is nan at the start"):
        minimise_with_early_stopping(SLOW, bowl(), lambda x: math.nan)


def overfitting() -> tuple[Objective, Callable[[Float64], float]]:
    """Few rows, many features, no penalty: the training loss falls while the validation loss rises."""
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((340, 25))
    y = (Z[:, :2] @ rng.standard_normal((2, 3)) + rng.standard_normal((340, 3))).argmax(axis=1)
    train = Objective(Z[:40], y[:40], 3, by_name("cross_entropy"), 1e-4)
    held_out = Objective(Z[40:], y[40:], 3, by_name("cross_entropy"), 0.0)

    def validation(params: Float64) -> float:
        W, b = train.to_outside(params)
        return held_out.value(held_out.to_inside(W, b))

    return train, validation


EVERY: list[Solver] = [
    LBFGS(tol=1e-8),
    GradientDescent(None, 1e-8, 3000),
    SGD(batch_size=8, schedule=constant(0.1), epochs=300),
    SGD(Adam(), constant(0.01), batch_size=8, epochs=300),
    SVRG(batch_size=8, epochs=300),
]


@pytest.mark.parametrize("solver", EVERY, ids=["lbfgs", "gradient_descent", "sgd", "adam", "svrg"])
def test_any_solver_stops_before_it_overfits(solver: Solver) -> None:
    train, validation = overfitting()
    fit = minimise_with_early_stopping(solver, train, validation, patience=4)
    assert fit.solution.stop_reason is StopReason.EARLY
    assert validation(fit.solution.params) == pytest.approx(min(fit.validation), rel=1e-12)
    assert train.value(fit.solution.params) == pytest.approx(fit.solution.value, rel=1e-9)
    assert fit.solution.value > min(record.value for record in fit.solution.history)
    assert len(fit.validation) == len(fit.solution.history) == fit.best + 5
    full = LBFGS(tol=1e-8).minimise(train)
    assert min(fit.validation) < 0.7 * validation(full.params)


def test_ctrl_c_returns_the_best_checkpoint() -> None:
    calls = []

    def validation(x: Float64) -> float:
        calls.append(x)
        if len(calls) == 12:
            raise KeyboardInterrupt
        return towards(0.5)(x)

    fit = minimise_with_early_stopping(SLOW, bowl(), validation, patience=50)
    assert fit.solution.stop_reason is StopReason.INTERRUPTED
    assert fit.best == 7 and len(fit.validation) == 11
    np.testing.assert_allclose(fit.solution.params, 0.9**7)


def test_the_callers_callback_sees_every_record_and_may_stop() -> None:
    seen: list[int] = []

    def watch(record: Record, params: Float64) -> bool:
        seen.append(record.iteration)
        return record.iteration == 5

    fit = minimise_with_early_stopping(SLOW, bowl(), towards(0.5), 3, callback=watch)
    assert seen == [0, 1, 2, 3, 4, 5]
    assert fit.solution.stop_reason is StopReason.CALLBACK
    seen.clear()
    minimise_with_early_stopping(SLOW, bowl(), towards(0.5), 3, callback=lambda record, x: bool(seen.append(1)))  # type: ignore[func-returns-value]
    assert len(seen) == 11


def test_the_checkpoint_is_a_copy() -> None:
    x = np.ones(1)
    watch = EarlyStopping(towards(1.0)).watch()
    watch(Record(0, 1.0, 1.0, 0.0, 0.0, 0.0), x)
    x += 5.0
    assert watch.params is not None and watch.params[0] == 1.0


def test_a_watch_is_a_callback_for_one_run() -> None:
    rule = EarlyStopping(towards(0.5), patience=2)
    first, second = rule.watch(), rule.watch()
    solution = first.back_to_best(SLOW.minimise(bowl(), callback=first))
    assert solution.stop_reason is StopReason.EARLY
    assert second.scores == [] and not second.stopped
    untouched = SLOW.minimise(bowl())
    assert Watch(rule).back_to_best(untouched) is untouched


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"patience": 0}, "patience"),
        ({"patience": 1.5}, "patience"),
        ({"patience": True}, "patience"),
        ({"min_delta": -1.0}, "min_delta"),
        ({"min_delta": math.nan}, "min_delta"),
    ],
)
def test_nonsense_is_refused_by_name(settings: dict[str, float], word: str) -> None:
    with pytest.raises(InputError, match=word):
        EarlyStopping(towards(0.0), **settings)  # type: ignore[arg-type]
