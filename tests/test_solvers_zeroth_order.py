"""SPSA and the evolution strategy: values alone."""

from __future__ import annotations

import importlib.util
import itertools
import math
import sys

import numpy as np
import pytest

from lastlayer._arrays import InputError
from lastlayer.losses import by_name
from lastlayer.objective import Objective
from lastlayer.solvers.base import Solver, StopReason
from lastlayer.solvers.differences import ValueProblem
from lastlayer.solvers.function import FunctionProblem
from lastlayer.solvers.newton import Newton
from lastlayer.solvers.zeroth_order import SPSA, EvolutionStrategy

needs_cma = pytest.mark.skipif(importlib.util.find_spec("cma") is None, reason="the library cma is not installed")
BOTH = [
    pytest.param(SPSA(seed=1, max_iter=600), id="spsa"),
    pytest.param(EvolutionStrategy(seed=1), id="cma", marks=needs_cma),
]


def bowl(n: int = 4) -> ValueProblem:
    return ValueProblem(lambda x: float(np.arange(1, n + 1) @ (x - 1) ** 2), np.zeros(n))


def points_in_the_plane(n: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    Z = rng.normal(size=(n, 2))
    return Z, (2 * Z[:, 0] + Z[:, 1] + 1.5 * rng.normal(size=n) > 0.5).astype(int)


def fewest_mistakes(Z: np.ndarray, y: np.ndarray) -> int:
    """Of any straight line: only those through two points need be tried, with these on whichever side suits them."""
    best = len(y)
    for i, j in itertools.combinations(range(len(y)), 2):
        side = (Z - Z[i]) @ np.array([Z[i, 1] - Z[j, 1], Z[j, 0] - Z[i, 0]])
        others = np.delete(np.arange(len(y)), [i, j])
        for positive in (side[others] > 0, side[others] < 0):
            best = min(best, int((positive != (y[others] == 1)).sum()))
    return best


@needs_cma
def test_both_reach_the_fewest_mistakes_of_the_zero_one_loss() -> None:
    Z, y = points_in_the_plane()
    fewest = fewest_mistakes(Z, y)
    assert fewest == 4
    J = Objective(Z, y, 2, by_name("zero_one"), 0.0, threads=1)
    for solver in (
        SPSA(c=0.5, max_iter=300, seed=0),
        SPSA(c=0.5, max_iter=300, seed=0, blocking=0.05),
        EvolutionStrategy(population=20, seed=0),
    ):
        solution = solver.minimise(J)
        mistakes = round(solution.value * 40)
        assert fewest <= mistakes <= fewest + 1
        W, b = J.to_outside(solution.params)
        assert ((Z @ W + b).argmax(axis=1) != y).sum() == mistakes
    cross_entropy = Newton().minimise(Objective(Z, y, 2, by_name("cross_entropy"), 0.0))
    rule = (J.scores(cross_entropy.params).argmax(axis=0) != y).sum()
    assert rule > fewest, "the smooth loss does not find the line of fewest mistakes here"


@pytest.mark.parametrize("solver", BOTH)
def test_a_smooth_bowl_is_solved(solver: Solver) -> None:
    solution = solver.minimise(bowl())
    assert solution.value < (1e-3 if isinstance(solver, SPSA) else 1e-9)
    np.testing.assert_allclose(solution.params, 1, atol=0.05)
    assert solution.value == min(record.value for record in solution.history)


@needs_cma
def test_evolution_learns_the_valley_of_rosenbrock() -> None:
    problem = ValueProblem(lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2, np.array([-1.2, 1.0]))
    solution = EvolutionStrategy(seed=0).minimise(problem)
    assert solution.stop_reason is StopReason.CONVERGED
    np.testing.assert_allclose(solution.params, [1, 1], atol=1e-4)
    assert "tolfun" in solution.note


@pytest.mark.parametrize("n", [2, 50])
def test_spsa_needs_two_values_an_iteration_in_any_dimension(n: int) -> None:
    problem = bowl(n)
    solution = SPSA(a=1e-5, max_iter=30).minimise(problem)
    assert solution.passes == 1 + 2 * 30 + 1
    assert SPSA(max_iter=30).minimise(problem).passes == 1 + 2 * 10 + 2 * 30 + 1
    assert SPSA(a=1e-5, max_iter=30, blocking=0.0).minimise(problem).passes == 1 + 3 * 30
    assert SPSA(max_iter=0).minimise(problem).passes == 1


def test_spsa_follows_spalls_gains() -> None:
    """By hand for two iterations, from the definition."""
    problem = bowl(3)
    solution = SPSA(a=0.2, c=0.1, A=5.0, max_iter=2, seed=3).minimise(problem)
    x = np.zeros(3)
    for k in range(2):
        delta = np.random.default_rng((3, k)).choice(np.array([-1.0, 1.0]), 3)
        c = 0.1 / (k + 1) ** 0.101
        slope = (problem.function(x + c * delta) - problem.function(x - c * delta)) / (2 * c * delta)
        x = x - 0.2 / (5 + k + 1) ** 0.602 * slope
    assert solution.history[-1].value == pytest.approx(problem.function(x), rel=1e-12)
    assert [record.iteration for record in solution.history] == [0, 1, 2, 3]
    assert solution.history[1].step == pytest.approx(0.2 / 6**0.602)


def test_spsa_estimates_the_gradient_without_bias() -> None:
    """Over many directions the mean of the estimates is the gradient (of a quadratic: exactly on average)."""
    problem = bowl(3)
    solver, x = SPSA(), np.zeros(3)
    estimates = [solver._probe(problem, x, 0.1, k)[2] * solver._signs(x, k) for k in range(1500)]
    np.testing.assert_allclose(np.mean(estimates, axis=0), [-2, -4, -6], atol=0.6)


def test_blocking_never_lets_the_value_rise() -> None:
    rough = ValueProblem(lambda x: float(x @ x + np.abs(np.sin(20 * x)).sum()), np.full(5, 2.0))
    history = SPSA(a=0.5, seed=0, blocking=0.0, max_iter=200).minimise(rough).history
    values = [record.value for record in history]
    assert all(b <= a for a, b in itertools.pairwise(values))
    free = [record.value for record in SPSA(a=0.5, seed=0, max_iter=200).minimise(rough).history]
    assert any(b > a for a, b in itertools.pairwise(free))


def test_too_large_a_gain_is_named() -> None:
    problem = FunctionProblem(lambda x: (float(x @ x), 2 * x), np.ones(4), bound=2.0)
    solution = SPSA(a=500.0, A=0.0, max_iter=3000).minimise(problem)
    assert solution.stop_reason is StopReason.DIVERGED
    assert "gain a = 500" in solution.note and "2/L = 1" in solution.note
    assert len(solution.history) < 300
    assert solution.value <= 4.0
    gone = ValueProblem(lambda x: float(x[0]) if x[0] > -0.5 else math.nan, np.zeros(1))
    assert SPSA(a=1.0, c=0.1, A=0.0).minimise(gone).stop_reason is StopReason.DIVERGED


@pytest.mark.parametrize("solver", BOTH)
class TestManners:
    def test_same_seed_same_result(self, solver: Solver) -> None:
        state = np.random.get_state()[1].copy()  # noqa: NPY002 (the global generator must be left alone)
        first, again = solver.minimise(bowl()), solver.minimise(bowl())
        np.testing.assert_array_equal(first.params, again.params)
        assert [r.value for r in first.history] == [r.value for r in again.history]
        other = type(solver)(seed=2).minimise(bowl())  # type: ignore[call-arg]
        assert [r.value for r in first.history] != [r.value for r in other.history]
        np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002

    def test_leaves_no_files_and_prints_nothing(self, solver: Solver, tmp_path, monkeypatch, capfd) -> None:  # type: ignore[no-untyped-def]
        monkeypatch.chdir(tmp_path)
        solver.minimise(bowl())
        assert not list(tmp_path.iterdir())
        assert capfd.readouterr() == ("", "")

    def test_interrupt_returns_the_best_so_far(self, solver: Solver) -> None:
        seen = []

        def interrupt(record, params) -> bool:  # type: ignore[no-untyped-def]
            seen.append(record.value)
            if len(seen) == 12:
                raise KeyboardInterrupt
            return False

        problem = bowl()
        solution = solver.minimise(problem, callback=interrupt)
        assert solution.stop_reason is StopReason.INTERRUPTED
        assert solution.value == min(seen) == problem.function(solution.params)

    def test_callback_and_target_stop(self, solver: Solver) -> None:
        stopped = solver.minimise(bowl(), callback=lambda record, params: record.iteration == 4)
        assert stopped.stop_reason is StopReason.CALLBACK and stopped.iterations == 4
        reached = type(solver)(target=1.0).minimise(bowl())  # type: ignore[call-arg]
        assert reached.stop_reason is StopReason.CONVERGED and reached.value <= 1.0
        assert reached.passes < 300

    def test_history_passes_and_unknown_gradients(self, solver: Solver) -> None:
        problem = bowl()
        solution = type(solver)(max_iter=7).minimise(problem)  # type: ignore[call-arg]
        assert solution.stop_reason is StopReason.MAX_ITER
        assert solution.passes == problem.passes == solution.history[-1].passes
        assert math.isnan(solution.gradient_norm)
        assert len(solution.history) == 9
        passes = [record.passes for record in solution.history]
        assert all(a < b for a, b in itertools.pairwise(passes))

    def test_keeps_the_shape_and_begins_where_it_is_told(self, solver: Solver) -> None:
        problem = ValueProblem(lambda x: float(((x - 1) ** 2).sum()), np.zeros((2, 3)))
        begin = problem.at(np.full((2, 3), 0.9))
        solution = solver.minimise(problem, begin)
        assert solution.params.shape == (2, 3)
        assert solution.history[0].value == begin.value
        np.testing.assert_array_equal(begin.params, 0.9)

    def test_a_start_without_a_value_is_refused(self, solver: Solver) -> None:
        with pytest.raises(InputError, match="value of a plain function without a gradient is nan at the start"):
            solver.minimise(ValueProblem(lambda x: math.nan, np.zeros(2)))

    def test_flat_functions_are_said_to_be_flat(self, solver: Solver) -> None:
        flat = ValueProblem(lambda x: 3.0, np.zeros(2))
        if isinstance(solver, SPSA):
            with pytest.raises(InputError, match=r"does not change within c = 0\.1 of the start\. Give a larger c"):
                solver.minimise(flat)
        else:
            solution = solver.minimise(flat)
            assert solution.stop_reason is StopReason.PRECISION
            assert "does not change within sigma" in solution.note


@needs_cma
def test_holes_in_the_function_are_avoided() -> None:
    holes = ValueProblem(lambda x: float(x @ x) if x[0] > 0.2 else math.nan, np.ones(2))
    solution = EvolutionStrategy(seed=0).minimise(holes)
    assert solution.value == pytest.approx(0.04, abs=1e-3)
    nowhere = ValueProblem(lambda x: 1.0 if (x == 0).all() else math.inf, np.zeros(2))
    assert EvolutionStrategy(seed=0).minimise(nowhere).stop_reason is StopReason.DIVERGED


@needs_cma
def test_one_parameter_and_many() -> None:
    assert EvolutionStrategy(seed=0).minimise(bowl(1)).value < 1e-9
    many = ValueProblem(lambda x: float(((x - 1) ** 2).sum()), np.zeros(600))
    solution = EvolutionStrategy(seed=0, max_iter=60).minimise(many)
    assert solution.value < 0.9 * 600


def test_a_missing_library_is_named(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setitem(sys.modules, "cma", None)
    with pytest.raises(InputError, match=r"needs the library cma\. pip install cma") as caught:
        EvolutionStrategy().minimise(bowl())
    assert caught.value.code == "LL060"


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (SPSA, {"a": 0.0}),
        (SPSA, {"c": -1.0}),
        (SPSA, {"first_step": math.nan}),
        (SPSA, {"A": -1.0}),
        (SPSA, {"blocking": -0.1}),
        (EvolutionStrategy, {"sigma": 0.0}),
        (EvolutionStrategy, {"population": 2}),
    ],
)
def test_impossible_settings_are_refused(kind: type, wrong: dict) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        kind(**wrong)
