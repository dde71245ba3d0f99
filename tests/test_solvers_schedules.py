"""Schedules against their formulas, step rules against their conditions, directions against their papers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest

from lastlayer._arrays import InputError
from lastlayer.solvers import steps
from lastlayer.solvers.base import LineValue, StopReason
from lastlayer.solvers.directions import Adam, Direction, Memory, Momentum, Nesterov, Plain
from lastlayer.solvers.function import FunctionProblem
from lastlayer.solvers.gradient_descent import GradientDescent
from lastlayer.solvers.schedules import (
    Plateau,
    PlateauState,
    Schedule,
    constant,
    cosine,
    cosine_restarts,
    exponential_decay,
    inverse_time,
    one_cycle,
    polynomial_decay,
    step_drop,
    warm_up,
)
from lastlayer.solvers.steps import Armijo, ExactLineSearch, Scheduled, StepRule, StrongWolfe

SCHEDULES: dict[str, Callable[[float], Schedule]] = {
    "constant": constant,
    "polynomial_decay": lambda rate: polynomial_decay(rate, 50.0, 0.5),
    "inverse_time": lambda rate: inverse_time(rate, 20.0),
    "step_drop": lambda rate: step_drop(rate, 40, 0.5),
    "exponential_decay": lambda rate: exponential_decay(rate, 0.99),
    "cosine": lambda rate: cosine(rate, 150),
    "cosine_restarts": lambda rate: cosine_restarts(rate, 20, 2),
    "one_cycle": lambda rate: one_cycle(rate, 150),
    "warm_up": lambda rate: warm_up(cosine(rate, 140), 10),
}
DIRECTIONS: dict[str, Direction] = {
    "plain": Plain(),
    "momentum": Momentum(0.8),
    "nesterov": Nesterov(0.8),
    "nesterov-1983": Nesterov(None),
    "adam": Adam(0.8),
}


def quadratic(n: int = 6, condition: float = 100.0) -> tuple[FunctionProblem, np.ndarray]:
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    H = (Q * np.geomspace(1, 1 / condition, n)) @ Q.T
    best = rng.standard_normal(n)

    def function(x: np.ndarray) -> tuple[float, np.ndarray]:
        g = H @ (x - best)
        return 0.5 * float((x - best) @ g), g

    return FunctionProblem(function, np.zeros(n), bound=1.0), best


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_every_direction_goes_with_every_schedule(direction: Direction, schedule: Callable[[float], Schedule]) -> None:
    problem, _ = quadratic()
    rule = Scheduled(schedule(0.05 if direction.limit is None else 0.5))
    solution = GradientDescent(rule, 0.0, 150, direction).minimise(problem)
    assert solution.stop_reason is StopReason.MAX_ITER
    assert solution.value < 0.03 * solution.history[0].value
    assert [record.step for record in solution.history[1:]] == [rule.schedule(count) for count in range(150)]


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
@pytest.mark.parametrize("rule", [Armijo(), StrongWolfe(curvature=0.1), ExactLineSearch()], ids=repr)
def test_every_direction_goes_with_every_line_search(direction: Direction, rule: StepRule) -> None:
    problem, _ = quadratic()
    solution = GradientDescent(rule, 1e-4, 2000, direction).minimise(problem)
    assert solution.stop_reason is StopReason.CONVERGED
    values = [record.value for record in solution.history]
    assert all(b <= a for a, b in itertools.pairwise(values))


# Values worked out by hand from the formulas, which are those of torch.optim.lr_scheduler.
@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (constant(0.3), {0: 0.3, 999: 0.3}),
        (polynomial_decay(1.0, 4.0, 0.5), {0: 1.0, 12: 0.5, 60: 0.25}),
        (inverse_time(2.0, 10.0), {0: 2.0, 10: 1.0, 90: 0.2}),
        (step_drop(0.1, 30), {0: 0.1, 29: 0.1, 30: 0.01, 59: 0.01, 60: 0.001, 89: 0.001}),
        (exponential_decay(1.0, 0.9), {0: 1.0, 1: 0.9, 2: 0.81, 10: 0.9**10}),
        (cosine(1.0, 6, 0.1), {0: 1.0, 2: 0.775, 3: 0.55, 4: 0.325, 6: 0.1, 7: 0.1, 99: 0.1}),
        (one_cycle(1.0, 100), {0: 0.04, 29: 1.0, 99: 4e-6, 500: 4e-6}),
        (one_cycle(1.0, 100, linear=True), {0: 0.04, 14.5: 0.52, 29: 1.0, 64: 0.500002, 99: 4e-6}),
        (one_cycle(1.0, 21, rise=1.0), {0: 0.04, 10: 0.52, 20: 1.0, 21: 1.0}),
        (one_cycle(1.0, 3), {0: 1.0, 1: 0.500002, 2: 4e-6}),
        (warm_up(cosine(1.0, 2), 4), {0: 0.2, 3: 0.8, 4: 1.0, 5: 0.5, 6: 0.0}),
        (warm_up(constant(1.0), 0), {0: 1.0}),
    ],
)
def test_schedule_values(schedule: Schedule, expected: dict[int, float]) -> None:
    for count, rate in expected.items():
        assert schedule(count) == pytest.approx(rate, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(
    ("T_0", "T_mult", "restarts"),
    [(10, 1, [0, 10, 20, 30, 1000]), (10, 2, [0, 10, 30, 70, 150, 310]), (1, 3, [0, 1, 4, 13, 40, 121, 364])],
)
def test_restarts_are_exactly_where_they_should_be(T_0: int, T_mult: int, restarts: list[int]) -> None:
    schedule = cosine_restarts(0.4, T_0, T_mult, floor=0.02)
    at_top = [count for count in range(restarts[-1] + 1) if schedule(count) == 0.4]
    assert at_top == (list(range(0, 1001, 10)) if T_mult == 1 else restarts)
    for begin, end in itertools.pairwise(restarts):
        length = end - begin if T_mult > 1 else T_0
        for since in range(length):
            expected = 0.02 + 0.19 * (1 + math.cos(math.pi * since / length))
            assert schedule(begin + since) == pytest.approx(expected, rel=1e-12)


def test_restarts_keep_their_place_after_millions_of_steps() -> None:
    schedule = cosine_restarts(1.0, 10, 2)
    far = 10 * (2**30 - 1)
    assert schedule(far) == 1.0
    assert schedule(far - 1) < 1e-15


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_schedules_are_positive_and_never_above_their_rate(schedule: Callable[[float], Schedule]) -> None:
    rates = [schedule(0.7)(count) for count in range(150)]
    assert all(0.0 < rate <= 0.7 for rate in rates)
    assert max(rates) == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: constant(0.0), "rate"),
        (lambda: constant(math.nan), "rate"),
        (lambda: polynomial_decay(-1.0), "rate"),
        (lambda: polynomial_decay(1.0, half_life=0.0), "half_life"),
        (lambda: polynomial_decay(1.0, power=-1.0), "power"),
        (lambda: inverse_time(1.0, 0.0), "shift"),
        (lambda: step_drop(1.0, 0), "every"),
        (lambda: step_drop(1.0, 2.5), "every"),  # type: ignore[arg-type]
        (lambda: step_drop(1.0, 2, 1.5), "factor"),
        (lambda: exponential_decay(1.0, 0.0), "factor"),
        (lambda: exponential_decay(math.inf, 0.5), "rate"),
        (lambda: cosine(1.0, 0), "steps"),
        (lambda: cosine(1.0, 10, 2.0), "floor"),
        (lambda: cosine(1.0, 10, -0.1), "floor"),
        (lambda: cosine_restarts(1.0, 0), "T_0"),
        (lambda: cosine_restarts(1.0, 5, 0), "T_mult"),
        (lambda: cosine_restarts(1.0, 5, True), "T_mult"),
        (lambda: cosine_restarts(1.0, math.nan), "T_0"),  # type: ignore[arg-type]
        (lambda: one_cycle(1.0, 1), "steps"),
        (lambda: one_cycle(1.0, 10, rise=0.0), "rise"),
        (lambda: one_cycle(1.0, 10, first=2.0), "first"),
        (lambda: one_cycle(1.0, 10, last=-1.0), "last"),
        (lambda: warm_up(constant(1.0), -1), "steps"),
        (lambda: Plateau(factor=1.0), "factor"),
        (lambda: Plateau(patience=-1), "patience"),
        (lambda: Plateau(threshold=1.0), "threshold"),
        (lambda: Plateau(minimum=-1.0), "minimum"),
        (lambda: Momentum(1.0), "beta"),
        (lambda: Nesterov(-0.1), "beta"),
        (lambda: Adam(eps=0.0), "eps"),
        (lambda: Adam(beta2=1.0), "beta"),
        (lambda: StrongWolfe(curvature=1e-5), "curvature"),
        (lambda: StrongWolfe(first=0.0), "first"),
    ],
)
def test_nonsense_is_refused_by_name(make: Callable[[], object], word: str) -> None:
    with pytest.raises(InputError, match=word):
        make()


def test_steps_still_offers_the_schedules_it_had() -> None:
    assert steps.constant is constant
    assert steps.polynomial_decay is polynomial_decay
    assert steps.Schedule is Schedule


def states(rule: Plateau, losses: list[float]) -> list[float]:
    state, multipliers = PlateauState(), []
    for loss in losses:
        state = rule.look(state, loss)
        multipliers.append(state.multiplier)
    return multipliers


def test_plateau_drops_after_more_than_patience_misses() -> None:
    rule = Plateau(factor=0.5, patience=2)
    assert states(rule, [1.0, 0.9, 0.9, 0.9]) == [1.0] * 4
    assert states(rule, [1.0, 0.9, 0.9, 0.9, 0.9])[-1] == 0.5
    # After a drop it counts anew: two more drops need three misses each.
    assert states(rule, [1.0] * 10) == [1.0] * 3 + [0.5] * 3 + [0.25] * 3 + [0.125]
    # A fall begins the count anew.
    assert states(rule, [1.0, 1.0, 1.0, 0.5, 0.5, 0.5]) == [1.0] * 6


def test_plateau_threshold_is_relative_and_works_below_zero() -> None:
    rule = Plateau(factor=0.1, patience=0, threshold=0.1)
    assert states(rule, [100.0, 91.0])[-1] == 0.1
    assert states(rule, [100.0, 89.0])[-1] == 1.0
    assert states(rule, [-100.0, -109.0])[-1] == 0.1
    assert states(rule, [-100.0, -111.0])[-1] == 1.0
    assert states(rule, [1.0, math.nan])[-1] == 0.1


def test_plateau_minimum_holds_the_rate_but_does_not_raise_it() -> None:
    rule, state = Plateau(factor=0.1, patience=0, minimum=0.01), PlateauState(multiplier=1e-4)
    assert rule.rate(state, 1.0) == 0.01
    assert rule.rate(state, 0.001) == 0.001


def test_plateau_in_gradient_descent_follows_training_or_validation() -> None:
    # |x| with a constant step ends in a wobble of the step's size; dropping on the plateau ends it.
    problem = FunctionProblem(lambda x: (float(np.abs(x).sum()), np.sign(x)), np.full(2, 1.03), smooth=False)
    rule = Scheduled(constant(0.1))
    plain = GradientDescent(rule, 0.0, 120).minimise(problem)
    dropped = GradientDescent(rule, 0.0, 120, plateau=Plateau(0.5, 3)).minimise(problem)
    assert plain.value > 0.05
    assert dropped.value < 1e-3
    never = GradientDescent(rule, 0.0, 20, plateau=Plateau(0.5, 3), validation=lambda x: float(-problem.passes))
    assert {record.step for record in never.minimise(problem).history[1:]} == {0.1}
    always = GradientDescent(rule, 0.0, 9, plateau=Plateau(0.5, 0), validation=lambda x: 1.0).minimise(problem)
    assert [record.step for record in always.history[1:4]] == [0.1, 0.05, 0.025]
    with pytest.raises(InputError, match="line search"):
        GradientDescent(Armijo(), plateau=Plateau())


def test_heavy_ball_is_polyaks_recursion() -> None:
    problem, _ = quadratic()
    x = before = problem.start()
    for _ in range(30):
        x, before = x - 0.7 * problem.at(x).gradient + 0.6 * (x - before), x
    solution = GradientDescent(Scheduled(constant(0.7)), 0.0, 30, Momentum(0.6)).minimise(problem)
    np.testing.assert_allclose(solution.params, x, rtol=1e-10)


@pytest.mark.parametrize("beta", [0.6, None])
def test_nesterov_is_the_recursion_of_two_sequences(beta: float | None) -> None:
    problem, _ = quadratic()
    x = y = problem.start()
    for k in range(30):
        new = y - 0.9 * problem.at(y).gradient
        momentum = k / (k + 3) if beta is None else beta
        y, x = new + momentum * (new - x), new
    visited: list[np.ndarray] = []
    solver = GradientDescent(Scheduled(constant(0.9)), 0.0, 30, Nesterov(beta))
    solver.minimise(problem, callback=lambda record, params: bool(visited.append(params)))  # type: ignore[func-returns-value]
    np.testing.assert_allclose(visited[-1], y, rtol=1e-9)


def test_nesterov_keeps_his_bound() -> None:
    problem, best = quadratic(20, 1e5)
    solution = GradientDescent(None, 0.0, 300, Nesterov(None)).minimise(problem)
    distance = float(best @ best)
    for record in solution.history[1:]:
        assert record.value <= 2.0 * distance / record.iteration**2
    plain = GradientDescent(None, 0.0, 300).minimise(problem)
    assert solution.value < 0.05 * plain.value


def test_momentum_with_the_best_constants_needs_the_root_of_the_steps() -> None:
    problem, _ = quadratic(8, 1e3)
    root = math.sqrt(1e3)
    best = Momentum(((root - 1) / (root + 1)) ** 2)
    rate = 4.0 / (1.0 + 1.0 / root) ** 2
    fast = GradientDescent(Scheduled(constant(rate)), 1e-6, 20_000, best).minimise(problem)
    slow = GradientDescent(None, 1e-6, 20_000).minimise(problem)
    assert fast.stop_reason is slow.stop_reason is StopReason.CONVERGED
    assert fast.iterations * 10 < slow.iterations


def test_adam_is_algorithm_1() -> None:
    rng = np.random.default_rng(0)
    m = v = np.zeros(4)
    memory, adam = Memory(), Adam(0.9, 0.99, 1e-3)
    for t in range(1, 8):
        g = rng.standard_normal(4)
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
        expected = -(m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.99**t)) + 1e-3)
        direction, memory = adam.follow(g, memory)
        np.testing.assert_allclose(direction, expected, rtol=1e-13)


def test_adam_does_not_see_the_scale() -> None:
    g = np.array([1e-3, 5.0, -4e6])
    direction, _ = Adam(eps=1e-30).follow(g, Memory())
    np.testing.assert_allclose(direction, [-1, -1, 1], rtol=1e-12)


@pytest.mark.parametrize("direction", [Plain(), Momentum(0.9), Nesterov(0.9)], ids=repr)
def test_limits_are_where_divergence_begins(direction: Direction) -> None:
    problem = FunctionProblem(lambda x: (0.5 * float(x @ x), x), np.ones(1), bound=1.0)
    limit = direction.limit
    assert limit is not None
    below = GradientDescent(Scheduled(constant(0.98 * limit.factor)), 1e-6, 9999, direction).minimise(problem)
    assert below.stop_reason is StopReason.CONVERGED
    above = GradientDescent(Scheduled(constant(1.02 * limit.factor)), 1e-6, 9999, direction).minimise(problem)
    assert above.stop_reason is StopReason.DIVERGED
    assert f"is above {limit.text} = {limit.factor:.3g}" in above.note
    assert above.value <= above.history[0].value


def test_learning_rates_too_small_and_too_large() -> None:
    problem, _ = quadratic()
    small = GradientDescent(Scheduled(constant(1e-4)), 1e-4, 500).minimise(problem)
    right = GradientDescent(Scheduled(constant(1.0)), 1e-4, 500).minimise(problem)
    large = GradientDescent(Scheduled(constant(3.0)), 1e-4, 500).minimise(problem)
    enormous = GradientDescent(Scheduled(constant(1e200)), 1e-4, 500).minimise(problem)
    assert small.stop_reason is StopReason.MAX_ITER
    assert right.stop_reason is StopReason.CONVERGED
    assert large.stop_reason is enormous.stop_reason is StopReason.DIVERGED
    assert small.value > 100 * right.value
    assert large.note == "Learning rate 3 is above 2/L = 2; the last good parameters are kept"
    assert np.isfinite(enormous.params).all() and enormous.value == problem.at(enormous.params).value


class Path:
    """f along a line, with the evaluations counted."""

    def __init__(self, f: Callable[[float], float], slope: Callable[[float], float]) -> None:
        self.f, self.slope, self.trials = f, slope, 0

    def evaluate(self, t: float) -> LineValue:
        self.trials += 1
        return LineValue(self.f(t), self.slope(t), math.nan)


LINES = {
    "parabola": Path(lambda t: (t - 2) ** 2, lambda t: 2 * (t - 2)),
    "far": Path(lambda t: (t / 1e4 - 1) ** 2, lambda t: 2e-4 * (t / 1e4 - 1)),
    "quartic": Path(lambda t: (t - 1) ** 4, lambda t: 4 * (t - 1) ** 3),
    "more-thuente-1": Path(lambda t: -t / (t * t + 2), lambda t: (t * t - 2) / (t * t + 2) ** 2),
    "more-thuente-2": Path(
        lambda t: (t + 0.004) ** 5 - 2 * (t + 0.004) ** 4, lambda t: 5 * (t + 0.004) ** 4 - 8 * (t + 0.004) ** 3
    ),
    "waves": Path(lambda t: -t - math.sin(3 * t) / 2 + t * t / 8, lambda t: -1 - 1.5 * math.cos(3 * t) + t / 4),
    "wall": Path(
        lambda t: -math.log(3 - t) - t if t < 3 else math.inf, lambda t: 1 / (3 - t) - 1 if t < 3 else math.nan
    ),
}


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("first", [1e-3, 0.1, 1.0, 10.0, 1e3])
@pytest.mark.parametrize("curvature", [0.1, 0.9])
def test_strong_wolfe_conditions_hold(name: str, first: float, curvature: float) -> None:
    line = LINES[name]
    f0, slope0 = line.f(0.0), line.slope(0.0)
    line.trials = 0
    step = StrongWolfe(first, curvature=curvature).length(line, LineValue(f0, slope0, math.nan), 0, 1e-15)  # type: ignore[arg-type]
    assert step is not None
    assert line.f(step) <= f0 + 1e-4 * step * slope0 + 4e-15 * abs(f0)
    assert abs(line.slope(step)) <= curvature * abs(slope0)
    assert line.trials <= 25


def test_strong_wolfe_gives_up_where_nothing_falls() -> None:
    rising = Path(lambda t: 1.0 + t, lambda t: 1.0)
    assert StrongWolfe().length(rising, LineValue(1.0, -1.0, math.nan), 0, 1e-15) is None  # type: ignore[arg-type]
    assert StrongWolfe().length(rising, LineValue(1.0, 1.0, math.nan), 0, 1e-15) is None  # type: ignore[arg-type]
    assert rising.trials <= 60
    falling = Path(lambda t: -t, lambda t: -1.0)
    step = StrongWolfe(trials=10).length(falling, LineValue(0.0, -1.0, math.nan), 0, 1e-15)  # type: ignore[arg-type]
    assert step == 4.0**9


def test_strong_wolfe_solves_rosenbrock() -> None:
    def rosenbrock(x: np.ndarray) -> tuple[float, np.ndarray]:
        a, b = 1 - x[0], x[1] - x[0] ** 2
        return float(a * a + 100 * b * b), np.array([-2 * a - 400 * x[0] * b, 200 * b])

    problem = FunctionProblem(rosenbrock, np.array([-1.2, 1.0]))
    solution = GradientDescent(StrongWolfe(curvature=0.1), 1e-6, 5000, Momentum(0.9)).minimise(problem)
    assert solution.stop_reason is StopReason.CONVERGED
    np.testing.assert_allclose(solution.params, [1, 1], atol=1e-3)
