"""The solvers on functions whose answer is known, without data."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lastlayer._arrays import InputError
from lastlayer.losses import by_name
from lastlayer.objective import Objective
from lastlayer.solvers import (
    LBFGS,
    Armijo,
    ClosedForm,
    ExactLineSearch,
    FactoredInverse,
    FunctionProblem,
    GradientDescent,
    PerceptronRule,
    PseudoInverse,
    Scheduled,
    Solver,
    StopReason,
    check_gradient,
)
from lastlayer.solvers.base import LineValue
from lastlayer.solvers.steps import constant, polynomial_decay, search


def quadratic(n: int = 8, condition: float = 1e3) -> tuple[FunctionProblem, np.ndarray]:
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    H = (Q * np.geomspace(1, 1 / condition, n)) @ Q.T
    best = rng.standard_normal(n)

    def function(x: np.ndarray) -> tuple[float, np.ndarray]:
        g = H @ (x - best)
        return 0.5 * float((x - best) @ g), g

    return FunctionProblem(function, np.zeros(n), bound=1.0), best


def rosenbrock(x: np.ndarray) -> tuple[float, np.ndarray]:
    a, b = 1 - x[0], x[1] - x[0] ** 2
    return float(a * a + 100 * b * b), np.array([-2 * a - 400 * x[0] * b, 200 * b])


FIRST_ORDER = [
    LBFGS(tol=1e-9),
    GradientDescent(tol=1e-9, max_iter=40_000),
    GradientDescent(ExactLineSearch(), 1e-9, 40_000),
]


@pytest.mark.parametrize("solver", FIRST_ORDER, ids=["lbfgs", "constant", "exact"])
def test_quadratic_is_solved(solver: Solver) -> None:
    problem, best = quadratic()
    solution = solver.minimise(problem)
    assert solution.stop_reason is StopReason.CONVERGED
    assert solution.gradient_norm <= 1e-9
    np.testing.assert_allclose(solution.params, best, atol=1e-5)
    assert len(solution.history) == solution.iterations + 1
    values = [record.value for record in solution.history]
    assert all(a >= b - 1e-15 for a, b in itertools.pairwise(values))


@pytest.mark.parametrize("solver", [LBFGS(tol=1e-10), GradientDescent(Armijo(), 1e-4, 20_000)], ids=["lbfgs", "armijo"])
def test_rosenbrock_is_solved(solver: Solver) -> None:
    solution = solver.minimise(FunctionProblem(rosenbrock, np.array([-1.2, 1.0])))
    assert solution.stop_reason is StopReason.CONVERGED
    np.testing.assert_allclose(solution.params, [1, 1], atol=0.05 if isinstance(solver, GradientDescent) else 1e-7)


def test_lbfgs_needs_far_fewer_passes_than_gradient_descent() -> None:
    problem, _ = quadratic()
    assert (
        LBFGS(tol=1e-6).minimise(problem).passes * 10
        < GradientDescent(tol=1e-6, max_iter=9999).minimise(problem).passes
    )


def test_exact_preconditioner_makes_lbfgs_newton() -> None:
    problem, objective = ridge()
    H = objective.examples.second_moments(None) + 0.1 * np.eye(4)
    M = np.linalg.inv(np.linalg.cholesky(H))
    assert LBFGS(FactoredInverse(M, 1.0), tol=1e-8).minimise(problem).iterations <= 2


def ridge(l2: float = 0.1) -> tuple[Objective, Objective]:
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((50, 4)) * [1, 10, 0.1, 1] + 5
    objective = Objective(Z, rng.integers(0, 3, 50), 3, by_name("squared"), l2)
    return objective, objective


def test_closed_form_solves_the_normal_equations() -> None:
    problem, objective = ridge()
    H = objective.examples.second_moments(None) + 0.1 * np.eye(4)
    solution = ClosedForm(FactoredInverse(np.linalg.inv(np.linalg.cholesky(H)), 1.0), tol=1e-12).minimise(problem)
    assert solution.stop_reason is StopReason.EXACT
    assert solution.iterations <= 2
    Z = np.asarray(objective.examples.rows.Z)
    Zc, T = Z - Z.mean(axis=0), np.eye(3)[objective.examples.y]
    expected = np.linalg.solve(Zc.T @ Zc / 50 + 0.1 * np.eye(4), Zc.T @ (T - T.mean(axis=0)) / 50)
    W, b = objective.to_outside(solution.params)
    np.testing.assert_allclose(W, expected, atol=1e-12)
    np.testing.assert_allclose(b, T.mean(axis=0) - Z.mean(axis=0) @ expected, atol=1e-12)


def test_closed_form_repairs_a_bad_inverse_by_conjugate_gradients() -> None:
    problem, objective = ridge()
    H = objective.examples.second_moments(None) + 0.1 * np.eye(4)
    rough = FactoredInverse(np.linalg.inv(np.linalg.cholesky(H * (1 + 0.3 * np.eye(4)))), 1.0)
    solution = ClosedForm(rough, tol=1e-12).minimise(problem)
    assert solution.stop_reason is StopReason.EXACT
    assert 1 < solution.iterations <= 8


def test_pseudo_inverse_gives_the_minimum_norm() -> None:
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((50, 3))
    Z = np.column_stack([Z, Z[:, 0], Z[:, 1] + Z[:, 2]])
    y = rng.integers(0, 3, 50)
    J = Objective(Z, y, 3, by_name("squared"), 0.0)
    inverse = PseudoInverse.of(J.examples.second_moments(None), 1.0, 2e-16)
    assert inverse.values.shape == (3,)
    W, _ = J.to_outside(ClosedForm(inverse, tol=1e-10).minimise(J).params)
    T = np.eye(3)[y]
    expected = np.linalg.lstsq(Z - Z.mean(axis=0), T - T.mean(axis=0))[0]
    np.testing.assert_allclose(W, expected, atol=1e-10)


def test_divergence_is_noticed_and_named_and_the_last_good_point_returned() -> None:
    problem, _ = quadratic()
    solution = GradientDescent(Scheduled(constant(3.0)), max_iter=500).minimise(problem)
    assert solution.stop_reason is StopReason.DIVERGED
    assert "Learning rate 3 is above 2/L = 2" in solution.note
    assert solution.value == min(record.value for record in solution.history)
    assert len(solution.history) < 30
    assert not solution.stop_reason.converged


def test_constant_step_just_below_the_limit_does_not_diverge() -> None:
    problem, _ = quadratic()
    assert GradientDescent(Scheduled(constant(1.99)), 1e-6, 9999).minimise(problem).stop_reason is StopReason.CONVERGED


def test_not_converged_is_said() -> None:
    solution = LBFGS(tol=1e-12, max_iter=3).minimise(FunctionProblem(rosenbrock, np.array([-1.2, 1.0])))
    assert solution.stop_reason is StopReason.MAX_ITER
    assert solution.iterations == 3


def test_no_iterations_give_the_start() -> None:
    problem, _ = quadratic()
    for solver in (LBFGS(max_iter=0), GradientDescent(max_iter=0)):
        solution = solver.minimise(problem)
        np.testing.assert_array_equal(solution.params, 0)
        assert solution.stop_reason is StopReason.MAX_ITER
        assert solution.iterations == 0


@pytest.mark.parametrize(
    "solver", [LBFGS(tol=0), GradientDescent(tol=0), ClosedForm(PseudoInverse.of(np.eye(4), 1.0, 0), 0)]
)
def test_interrupt_returns_the_best_so_far(solver: Solver) -> None:
    problem, _ = ridge()
    seen = []

    def interrupt(record, params) -> bool:  # type: ignore[no-untyped-def]
        seen.append(record.value)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return False

    solution = solver.minimise(problem, callback=interrupt)
    assert solution.stop_reason is StopReason.INTERRUPTED
    assert solution.value == min(seen)
    assert problem.value(solution.params) == pytest.approx(solution.value, rel=1e-12)


@pytest.mark.parametrize(
    "solver", [LBFGS(tol=0), GradientDescent(tol=0), ClosedForm(PseudoInverse.of(np.eye(4), 1.0, 0), 0)]
)
def test_callback_stops(solver: Solver) -> None:
    problem, _ = ridge()
    solution = solver.minimise(problem, callback=lambda record, params: record.iteration == 2)
    assert solution.stop_reason is StopReason.CALLBACK
    assert solution.iterations == 2


def test_precision_is_a_reason_of_its_own() -> None:
    exact, _ = quadratic()

    def noisy(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = exact.function(x)
        return value, gradient + 1e-6 * np.sin(1e9 * x)

    solution = LBFGS(tol=1e-12, max_iter=500).minimise(FunctionProblem(noisy, np.zeros(8)))
    assert solution.stop_reason is StopReason.PRECISION
    assert solution.gradient_norm < 1e-4
    assert solution.iterations < 100


def test_a_promise_below_rounding_counts_as_converged() -> None:
    def far_below(x: np.ndarray) -> tuple[float, np.ndarray]:
        return 1.0 + 1e-60 * float(x @ x), 2e-60 * x

    solution = LBFGS(tol=1e-6).minimise(FunctionProblem(far_below, np.ones(3)))
    assert solution.stop_reason is StopReason.CONVERGED


@pytest.mark.parametrize(
    "name", sorted(["cross_entropy", "squared", "hinge", "squared_hinge", "perceptron", "zero_one"])
)
def test_impossible_pairs_are_refused_before_the_first_iteration(name: str) -> None:
    rng = np.random.default_rng(0)
    J = Objective(rng.standard_normal((20, 4)), rng.integers(0, 2, 20), 2, by_name(name), 0.0)
    loss = by_name(name)
    possible = {
        "lbfgs": loss.is_smooth,
        "gradient_descent": loss.is_smooth,
        "closed_form": name == "squared",
        "perceptron": name == "perceptron",
    }
    identity = PseudoInverse.of(np.eye(4), 1.0, 0)
    solvers = (LBFGS(max_iter=1), GradientDescent(max_iter=1), ClosedForm(identity, max_iter=1), PerceptronRule(1))
    for solver in solvers:
        if possible[solver.name]:
            solver.minimise(J)
            continue
        before = J.passes
        with pytest.raises(
            InputError, match=f"Solver {solver.name} cannot minimise the {name} loss: it needs"
        ) as caught:
            solver.minimise(J)
        assert "A pair that works: loss" in caught.value.mend
        assert J.passes == before


def test_subgradients_go_with_a_decaying_schedule() -> None:
    def function(x: np.ndarray) -> tuple[float, np.ndarray]:
        return float(np.abs(x - 0.3).sum()), np.sign(x - 0.3)

    problem = FunctionProblem(function, np.ones(2), smooth=False)
    solution = GradientDescent(Scheduled(polynomial_decay(0.5, power=0.5)), 0.0, 5000).minimise(problem)
    assert solution.value < 0.02
    with pytest.raises(InputError, match="a continuous gradient"):
        LBFGS().minimise(problem)


class _Parabola:
    """f(t) = (t - 2)²; NaN beyond `limit`."""

    def __init__(self, curvature: bool, limit: float = np.inf) -> None:
        self.curvature, self.limit, self.trials = curvature, limit, 0

    def evaluate(self, t: float) -> LineValue:
        self.trials += 1
        if t > self.limit:
            return LineValue(np.nan, np.nan, np.nan)
        return LineValue((t - 2) ** 2, 2 * (t - 2), 2.0 if self.curvature else np.nan)


@pytest.mark.parametrize("first", [1e-3, 1.0, 2.0, 50.0])
def test_line_search_finds_the_minimum(first: float) -> None:
    newton, secant = _Parabola(True), _Parabola(False)
    begin = LineValue(4.0, -4.0, np.nan)
    assert search(newton, begin, first, 1e-6) == pytest.approx(2.0, abs=1e-5)  # type: ignore[arg-type]
    assert newton.trials <= 7
    assert search(secant, begin, first, 1e-6) == pytest.approx(2.0, abs=1e-5)  # type: ignore[arg-type]


def test_line_search_backs_off_from_what_is_not_finite() -> None:
    line = _Parabola(True, limit=2.5)
    assert search(line, LineValue(4.0, -4.0, np.nan), 1000.0, 1e-6) == pytest.approx(2.0, abs=1e-5)  # type: ignore[arg-type]


def test_line_search_gives_up_where_nothing_falls() -> None:
    class Rising:
        def evaluate(self, t: float) -> LineValue:
            return LineValue(1.0 + t, 1.0, np.nan)

    assert search(Rising(), LineValue(1.0, -1.0, np.nan)) is None  # type: ignore[arg-type]


def test_check_gradient_finds_the_wrong_parameter() -> None:
    def wrong(x: np.ndarray) -> tuple[float, np.ndarray]:
        return float(x @ x), 2 * x * np.array([1, 1.01, 1])

    table = check_gradient(FunctionProblem(wrong, np.ones(3)), np.array([1.0, 2.0, 3.0]))
    assert [row.right for row in table.rows] == [True, False, True]
    assert not table.right
    assert "WRONG" in str(table)
    assert "2 of 3 derivatives agree" in str(table)
    assert table.worst == pytest.approx(0.01, rel=0.02)
