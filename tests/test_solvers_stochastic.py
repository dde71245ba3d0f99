"""Minibatch solvers on rows whose optimum is known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from lastlayer._arrays import Float64, InputError, IntArray
from lastlayer.losses import by_name
from lastlayer.objective import Objective
from lastlayer.solvers.base import CURVATURE_BOUND, GRADIENT, ROWS, SMOOTH, Point, RowProblem, Solver, StopReason
from lastlayer.solvers.directions import Adam, Direction, Momentum, Nesterov, Plain
from lastlayer.solvers.function import FunctionProblem
from lastlayer.solvers.gradient_descent import GradientDescent
from lastlayer.solvers.lbfgs import LBFGS
from lastlayer.solvers.minibatches import batch_curvature, row_curvature
from lastlayer.solvers.schedules import (
    Plateau,
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
from lastlayer.solvers.steps import Scheduled
from lastlayer.solvers.stochastic import SGD
from lastlayer.solvers.variance_reduced import SVRG


class LeastSquares(RowProblem):
    """½ mean (x·w - t)², with a diary of the rows asked for."""

    def __init__(self, n: int = 60, d: int = 4, noise: float = 0.5, scale: float = 1.0) -> None:
        rng = np.random.default_rng(0)
        self.X = scale * rng.standard_normal((n, d))
        self.t = self.X @ rng.standard_normal(d) + noise * rng.standard_normal(n)
        self.best = np.linalg.lstsq(self.X, self.t)[0]
        self.whole = FunctionProblem(lambda w: self.on(w, np.arange(n)), np.zeros(d))
        self.L = float(np.linalg.eigvalsh(self.X.T @ self.X / n)[-1])
        self.diary: list[IntArray] = []
        self.asked = 0.0

    def on(self, w: Float64, rows: IntArray) -> tuple[float, Float64]:
        r = self.X[rows] @ w - self.t[rows]
        return 0.5 * float(r @ r) / len(rows), self.X[rows].T @ r / len(rows)

    name = property(lambda self: "least squares")  # type: ignore[assignment]
    provides = property(lambda self: frozenset({GRADIENT, SMOOTH, CURVATURE_BOUND, ROWS}))  # type: ignore[assignment]
    passes = property(lambda self: self.whole.passes + self.asked)  # type: ignore[assignment]
    rounding = property(lambda self: 1e-15)  # type: ignore[assignment]
    n_rows = property(lambda self: len(self.X))  # type: ignore[assignment]

    def start(self) -> Float64:
        return self.whole.start()

    def at(self, params: Float64) -> Point:
        return self.whole.at(params)

    def norm(self, gradient: Float64) -> float:
        return self.whole.norm(gradient)

    def curvature_bound(self) -> float:
        return self.L

    def take(self, rows: IntArray) -> tuple[Float64, IntArray, Float64]:
        return self.X[rows].copy(), np.zeros(len(rows), dtype=np.intp), np.ones(len(rows))

    def batch(self, params: Float64, rows: IntArray) -> tuple[float, Float64]:
        self.diary.append(rows)
        self.asked += len(rows) / len(self.X)
        return self.on(params, rows)

    def gap(self, params: Float64) -> float:
        everything = np.arange(len(self.X))
        return self.on(params, everything)[0] - self.on(self.best, everything)[0]


def classes(loss: str = "cross_entropy", l2: float = 1e-2, weighted: bool = False) -> Objective:
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((200, 6)) * np.linspace(0.5, 2, 6)
    y = (Z @ rng.standard_normal((6, 3)) + 2 * rng.standard_normal((200, 3))).argmax(axis=1)
    return Objective(Z + 3.0, y, 3, by_name(loss), l2, rng.uniform(0.2, 3.0, 200) if weighted else None)


SCHEDULES = {
    "constant": constant,
    "polynomial_decay": lambda rate: polynomial_decay(rate, 50.0, 0.5),
    "inverse_time": lambda rate: inverse_time(rate, 50.0),
    "step_drop": lambda rate: step_drop(rate, 100, 0.5),
    "exponential_decay": lambda rate: exponential_decay(rate, 0.99),
    "cosine": lambda rate: cosine(rate, 240),
    "cosine_restarts": lambda rate: cosine_restarts(rate, 34, 2),
    "one_cycle": lambda rate: one_cycle(rate, 240),
    "warm_up": lambda rate: warm_up(cosine(rate, 220), 20),
}
DIRECTIONS: dict[str, Direction] = {
    "plain": Plain(),
    "momentum": Momentum(0.8),
    "nesterov": Nesterov(0.8),
    "nesterov-1983": Nesterov(None),
    "adam": Adam(),
}


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_every_direction_goes_with_every_schedule(direction: Direction, schedule) -> None:  # type: ignore[no-untyped-def]
    problem = LeastSquares()
    solution = SGD(direction, schedule(0.03), batch_size=5, epochs=20, tol=0.0, keep_best=False).minimise(problem)
    assert solution.stop_reason is StopReason.MAX_ITER
    assert problem.gap(solution.params) < 0.1 * problem.gap(problem.start())


@pytest.mark.parametrize("solver", [SGD(batch_size=7, epochs=3), SVRG(batch_size=7, epochs=3, walks=1)], ids=repr)
def test_every_row_is_taken_once_an_epoch_in_an_order_of_its_own(solver: Solver) -> None:
    problem = LeastSquares()
    solver.minimise(problem)
    copies = 2 if isinstance(solver, SVRG) else 1  # SVRG asks for each batch here and at its anchor
    diary = problem.diary[::copies]
    assert len(diary) == 3 * 9
    epochs = [diary[i : i + 9] for i in range(0, 27, 9)]
    for epoch in epochs:
        assert [len(rows) for rows in epoch] == [7] * 8 + [4]
        assert sorted(np.concatenate(epoch)) == list(range(60))
    firsts = [tuple(epoch[0]) for epoch in epochs]
    assert len(set(firsts)) == 3
    order = np.random.default_rng((0, 2)).permutation(60)
    assert firsts[1] == tuple(sorted(order[:7]))


@pytest.mark.parametrize(
    "make", [lambda seed: SGD(Momentum(), seed=seed, epochs=4), lambda seed: SVRG(seed=seed, epochs=4)]
)
def test_the_same_seed_gives_the_same_bits(make) -> None:  # type: ignore[no-untyped-def]
    problem = classes()
    first, again, other = (make(seed).minimise(problem) for seed in (3, 3, 4))
    assert first.params.tobytes() == again.params.tobytes()
    assert [r.value for r in first.history] == [r.value for r in again.history]
    assert first.params.tobytes() != other.params.tobytes()


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
def test_one_batch_of_all_rows_is_gradient_descent(direction: Direction) -> None:
    problem = LeastSquares()
    rule = cosine(0.1, 20)
    few = SGD(direction, rule, batch_size=60, epochs=20, tol=0.0, keep_best=False).minimise(problem)
    full = GradientDescent(Scheduled(rule), 0.0, 20, direction).minimise(problem)
    np.testing.assert_allclose([r.value for r in few.history], [r.value for r in full.history], rtol=1e-9)
    assert [r.step for r in few.history] == [r.step for r in full.history]


@pytest.mark.parametrize("loss", ["cross_entropy", "squared", "squared_hinge"])
@pytest.mark.parametrize("weighted", [False, True])
def test_sgd_and_svrg_find_the_optimum_that_lbfgs_finds(loss: str, weighted: bool) -> None:
    problem = classes(loss, weighted=weighted)
    best = LBFGS(tol=1e-10).minimise(problem)
    start = problem.value(problem.start()) - best.value
    plain = SGD(batch_size=8, epochs=20, tol=0.0).minimise(problem)
    averaged = SGD(batch_size=8, epochs=20, tol=0.0, average=0.5).minimise(problem)
    reduced = SVRG(batch_size=10, epochs=60, tol=1e-6).minimise(problem)
    assert plain.value - best.value < 3e-3 * start
    assert averaged.value - best.value < 3e-3 * start
    assert reduced.stop_reason is StopReason.CONVERGED
    assert reduced.value - best.value < 1e-8
    np.testing.assert_allclose(reduced.params, best.params, atol=1e-4)


def test_svrg_converges_at_a_linear_rate_where_sgd_stays_in_its_noise() -> None:
    problem = LeastSquares(noise=1.0)
    rate = 1.0 / batch_curvature(problem, 2)
    reduced = SVRG(batch_size=2, epochs=30, tol=0.0).minimise(problem)
    noisy = SGD(Plain(), constant(rate), batch_size=2, epochs=75, tol=0.0, keep_best=False).minimise(problem)
    gaps = [record.value - problem.on(problem.best, np.arange(60))[0] for record in reduced.history]
    assert all(b < 0.5 * a for a, b in itertools.pairwise(g for g in gaps if g > 1e-13))
    assert gaps[-1] < 1e-14
    assert problem.gap(noisy.params) > 1e-4
    assert noisy.passes <= reduced.passes


def test_averaging_takes_out_the_noise_of_a_constant_rate() -> None:
    problem = LeastSquares(n=400, noise=1.0)
    gaps = {}
    for share in (0.0, 0.5, 1.0):
        solver = SGD(Plain(), constant(0.05), batch_size=1, epochs=8, average=share, tol=0.0, keep_best=False)
        gaps[share] = problem.gap(solver.minimise(problem).params)
    assert gaps[0.5] < 0.1 * gaps[0.0]
    assert gaps[1.0] < 0.1 * gaps[0.0]


def test_the_average_is_the_mean_of_the_later_steps() -> None:
    problem = LeastSquares()
    w, visited = problem.start(), []
    for epoch in (1, 2):
        order = np.random.default_rng((0, epoch)).permutation(60)
        for i in range(0, 60, 20):
            w = w - 0.05 * problem.on(w, order[i : i + 20])[1]
            visited.append(w)
    solver = SGD(Plain(), constant(0.05), batch_size=20, epochs=2, average=0.5, keep_best=False)
    np.testing.assert_allclose(solver.minimise(problem).params, np.mean(visited[3:], axis=0), rtol=1e-12)


def test_passes_are_counted_in_full() -> None:
    problem = LeastSquares()
    assert SGD(epochs=5, tol=0.0, batch_size=7).minimise(problem).passes == pytest.approx(1 + 5 * 2)
    assert SVRG(epochs=5, tol=0.0, batch_size=7, walks=3).minimise(problem).passes == pytest.approx(1 + 5 * 7)
    history = SGD(epochs=5, tol=0.0).minimise(classes()).history
    assert [round(r.passes - history[0].passes, 9) for r in history] == [0, 2, 4, 6, 8, 10]


def test_expected_smoothness_runs_from_the_steepest_row_to_all_rows() -> None:
    problem = LeastSquares()
    one, all_rows = batch_curvature(problem, 1), batch_curvature(problem, 60)
    assert one == pytest.approx(float(np.square(problem.X).sum(axis=1).max()), rel=1e-9)
    assert one == pytest.approx(row_curvature(problem))
    assert all_rows == problem.L == batch_curvature(problem, 1000)
    between = [batch_curvature(problem, b) for b in (1, 2, 5, 20, 60)]
    assert between == sorted(between, reverse=True)
    assert batch_curvature(problem, 5, gain=10.0) > between[2]
    assert batch_curvature(problem, 60, gain=10.0) == problem.L


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("batch_size", [1, 16])
@pytest.mark.parametrize("direction", [Plain(), Momentum(), Nesterov()], ids=repr)
def test_the_own_rate_suits_any_scale_and_batch(scale: float, batch_size: int, direction: Direction) -> None:
    problem = LeastSquares(scale=scale)
    solution = SGD(direction, batch_size=batch_size, epochs=15, tol=0.0).minimise(problem)
    assert problem.gap(solution.params) < 0.02 * problem.gap(problem.start())


def test_learning_rates_too_small_and_too_large() -> None:
    problem = LeastSquares()
    small, right, large = (
        SGD(Plain(), constant(rate), batch_size=6, epochs=10, tol=0.0).minimise(problem) for rate in (1e-5, 0.05, 3.0)
    )
    assert problem.gap(small.params) > 0.9 * problem.gap(problem.start())
    assert problem.gap(right.params) < 0.05 * problem.gap(problem.start())
    assert large.stop_reason is StopReason.DIVERGED
    assert large.note == f"Learning rate 3 is above 2/L = {2 / problem.L:.3g}; the last good parameters are kept"
    assert large.value <= large.history[0].value
    assert len(large.history) < 10


@pytest.mark.parametrize("rate", [30.0, 1e6, 1e200])
@pytest.mark.parametrize("loss", ["cross_entropy", "squared", "squared_hinge"])
def test_divergence_leaves_finite_parameters(rate: float, loss: str) -> None:
    problem = classes(loss)
    solution = SGD(Plain(), constant(rate), batch_size=10, epochs=6, keep_best=False).minimise(problem)
    full = GradientDescent(Scheduled(constant(rate)), 0.0, 40).minimise(problem)
    assert solution.stop_reason is full.stop_reason is StopReason.DIVERGED
    assert f"Learning rate {rate:.3g} is above 2/L" in solution.note
    assert full.note == solution.note
    assert np.isfinite(solution.params).all() and math.isfinite(solution.value)
    assert np.isfinite(full.params).all() and full.value <= full.history[0].value


def test_a_rate_too_large_for_small_batches_alone_is_told_so() -> None:
    problem = LeastSquares(n=200, d=50)
    rate = 1.5 / problem.L
    assert SGD(Plain(), constant(rate), batch_size=200, epochs=9).minimise(problem).note == ""
    solution = SGD(Plain(), constant(rate), batch_size=1, epochs=9).minimise(problem)
    assert solution.stop_reason is StopReason.DIVERGED
    assert "too large for batches of 1: 2/L" in solution.note
    suits = float(solution.note.split("about ")[1].split(" ")[0])
    assert SGD(Plain(), constant(suits), batch_size=1, epochs=9).minimise(problem).note == ""


def test_a_good_start_is_not_taken_for_divergence() -> None:
    problem = LeastSquares(noise=1e-6)
    start = problem.at(problem.best)
    solution = SGD(Adam(), constant(0.01), batch_size=5, epochs=8, tol=0.0).minimise(problem, start)
    assert solution.stop_reason is StopReason.MAX_ITER
    np.testing.assert_array_equal(solution.params, problem.best)


def test_best_or_last_parameters() -> None:
    problem = LeastSquares(noise=2.0)
    settings = {"schedule": constant(0.2), "batch_size": 1, "epochs": 12, "tol": 0.0}
    best = SGD(Plain(), **settings).minimise(problem)  # type: ignore[arg-type]
    last = SGD(Plain(), keep_best=False, **settings).minimise(problem)  # type: ignore[arg-type]
    values = [record.value for record in best.history]
    assert values.index(min(values)) < 12
    assert best.value == min(values)
    assert last.value == values[-1] == last.history[-1].value


def test_schedules_count_steps_or_epochs() -> None:
    problem = LeastSquares()
    counts: list[int] = []

    def schedule(count: int) -> float:
        counts.append(count)
        return 0.01

    SGD(Plain(), schedule, batch_size=20, epochs=3).minimise(problem)
    assert counts == list(range(9))
    counts.clear()
    SGD(Plain(), schedule, batch_size=20, epochs=3, per_epoch=True).minimise(problem)
    assert counts == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_plateau_follows_training_or_validation_loss() -> None:
    problem = LeastSquares(noise=2.0)
    settings = {"schedule": constant(0.15), "batch_size": 2, "epochs": 40, "tol": 0.0, "keep_best": False}
    wobbling = SGD(Plain(), **settings).minimise(problem)  # type: ignore[arg-type]
    dropping = SGD(Plain(), plateau=Plateau(0.5, 2), **settings).minimise(problem)  # type: ignore[arg-type]
    assert problem.gap(dropping.params) < 0.1 * problem.gap(wobbling.params)
    rates = [record.step for record in dropping.history[1:]]
    assert rates == sorted(rates, reverse=True) and rates[-1] < 0.01 < rates[0]
    settings["epochs"] = 6
    seen: list[Float64] = []

    def validation(params: Float64) -> float:
        seen.append(params)
        return 1.0

    stuck = SGD(Plain(), plateau=Plateau(0.1, 1), validation=validation, **settings).minimise(problem)  # type: ignore[arg-type]
    assert [r.step for r in stuck.history[1:]] == pytest.approx([0.15, 0.15, 0.015, 0.015, 0.0015, 0.0015])
    assert len(seen) == 6


def test_sgd_stops_at_its_tolerance_and_before_the_first_epoch() -> None:
    problem = LeastSquares(noise=0.0)
    solution = SGD(batch_size=5, epochs=200, tol=1e-3).minimise(problem)
    assert solution.stop_reason is StopReason.CONVERGED
    assert solution.iterations < 200 and solution.gradient_norm <= 1e-3
    again = SGD(epochs=5, tol=1e-3).minimise(problem, problem.at(problem.best))
    assert again.stop_reason is StopReason.CONVERGED and again.iterations == 0
    nothing = SGD(epochs=0).minimise(problem)
    assert nothing.stop_reason is StopReason.MAX_ITER
    np.testing.assert_array_equal(nothing.params, 0.0)


SOLVERS: list[Solver] = [
    SGD(epochs=9, tol=0.0),
    SGD(Momentum(), average=0.5, epochs=9, tol=0.0),
    SGD(Adam(), epochs=9, tol=0.0),
    SVRG(epochs=9, tol=0.0),
    GradientDescent(None, 0.0, direction=Nesterov()),
    GradientDescent(Scheduled(constant(0.01)), 0.0, direction=Adam()),
]


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: f"{s.name}-{type(s.direction).__name__}")
def test_ctrl_c_returns_the_best_so_far(solver: Solver) -> None:
    problem, seen = classes(), []

    def interrupt(record, params) -> bool:  # type: ignore[no-untyped-def]
        seen.append(record.value)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return False

    solution = solver.minimise(problem, callback=interrupt)
    assert solution.stop_reason is StopReason.INTERRUPTED
    assert solution.value == min(seen) and len(solution.history) == 4
    assert problem.value(solution.params) == pytest.approx(solution.value, rel=1e-12)


def test_ctrl_c_within_an_epoch_returns_the_last_record() -> None:
    problem = LeastSquares()
    honest = problem.batch

    def batch(params: Float64, rows: IntArray) -> tuple[float, Float64]:
        if len(problem.diary) == 25:
            raise KeyboardInterrupt
        return honest(params, rows)

    problem.batch = batch  # type: ignore[method-assign]
    solution = SGD(batch_size=6, epochs=5, tol=0.0).minimise(problem)
    assert solution.stop_reason is StopReason.INTERRUPTED
    assert solution.iterations == 2


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: f"{s.name}-{type(s.direction).__name__}")
def test_callback_stops(solver: Solver) -> None:
    solution = solver.minimise(classes(), callback=lambda record, params: record.iteration == 2)
    assert solution.stop_reason is StopReason.CALLBACK
    assert solution.iterations == 2


def test_impossible_pairs_are_refused_before_the_first_pass() -> None:
    hinge = classes("hinge")
    for solver, missing in [(SGD(), "a bound on its curvature"), (SVRG(), "a continuous gradient")]:
        before = hinge.passes
        with pytest.raises(
            InputError, match=f"Solver {solver.name} cannot minimise the hinge loss: it needs .*{missing}"
        ):
            solver.minimise(hinge)
        assert hinge.passes == before
    plain = FunctionProblem(lambda x: (float(x @ x), 2 * x), np.ones(2), bound=2.0)
    with pytest.raises(InputError, match="a sum over rows"):
        SGD().minimise(plain)
    with pytest.raises(InputError, match="a sum over rows"):
        SVRG().minimise(plain)


def test_pegasos_comes_down_from_first_steps_that_are_far_too_long() -> None:
    problem = classes("hinge", l2=0.1)
    solver = SGD(Plain(), inverse_time(1.0 / 0.1, 50.0), batch_size=10, epochs=80, average=0.3, tol=0.0)
    answer = solver.minimise(problem)
    assert answer.history[1].value > 2.0 * answer.history[0].value
    reference = GradientDescent(Scheduled(polynomial_decay(0.3, 10.0, 0.5)), 0.0, 400).minimise(problem)
    assert answer.value < 1.03 * reference.value


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: SGD(batch_size=0), "batch_size"),
        (lambda: SGD(batch_size=2.5), "batch_size"),  # type: ignore[arg-type]
        (lambda: SGD(epochs=-1), "epochs"),
        (lambda: SGD(tol=math.nan), "tol"),
        (lambda: SGD(average=1.5), "average"),
        (lambda: SVRG(walks=0), "walks"),
        (lambda: SVRG(batch_size=0), "batch_size"),
    ],
)
def test_nonsense_is_refused_by_name(make, word: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=word):
        make()


def test_svrg_takes_a_rate_or_a_schedule() -> None:
    problem = LeastSquares()
    fixed = SVRG(0.05, epochs=6, tol=0.0).minimise(problem)
    followed = SVRG(constant(0.05), epochs=6, tol=0.0).minimise(problem)
    assert fixed.params.tobytes() == followed.params.tobytes()
    with pytest.raises(InputError, match="rate"):
        SVRG(-1.0).minimise(problem)
