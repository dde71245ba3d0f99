"""Newton's method with the whole Hessian and with conjugate gradients."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest

from lastlayer._arrays import InputError
from lastlayer.losses import by_name
from lastlayer.objective import Objective
from lastlayer.selection.inverses import preconditioner
from lastlayer.solvers.base import GRADIENT, HESSIAN, SMOOTH, CurvedPoint, Line, LineValue, Problem, Solver, StopReason
from lastlayer.solvers.function import FunctionProblem
from lastlayer.solvers.gradient_descent import GradientDescent
from lastlayer.solvers.lbfgs import LBFGS
from lastlayer.solvers.newton import Newton, NewtonCG, hessian
from lastlayer.solvers.preconditioner import Preconditioner
from lastlayer.solvers.steps import Scheduled, constant

SMOOTH_LOSSES = ["cross_entropy", "squared_hinge", "squared"]


class Curved(Problem):
    """A plain function with gradient and Hessian, counting passes as the objective does."""

    def __init__(self, function: Callable, begin: list[float]) -> None:
        self.function, self.begin, self.count = function, np.array(begin), 0.0

    name = "a curved function"
    provides = frozenset({GRADIENT, SMOOTH, HESSIAN})
    rounding = 1e-15

    @property
    def passes(self) -> float:
        return self.count

    def start(self) -> np.ndarray:
        return self.begin.copy()

    def at(self, params: np.ndarray) -> CurvedAt:
        self.count += 1
        return CurvedAt(self, params)

    def norm(self, gradient: np.ndarray) -> float:
        return float(np.linalg.norm(gradient) / np.linalg.norm(self.function(self.begin)[1]))

    def curvature_bound(self) -> float:
        return math.inf


class CurvedAt(CurvedPoint):
    def __init__(self, problem: Curved, where: np.ndarray) -> None:
        self.problem, self.where = problem, where
        with np.errstate(over="ignore", invalid="ignore"):
            self.parts = problem.function(where)

    params = property(lambda self: self.where)
    value = property(lambda self: float(self.parts[0]))
    gradient = property(lambda self: np.asarray(self.parts[1], dtype=float))

    def hessian_times(self, direction: np.ndarray) -> np.ndarray:
        self.problem.count += 1
        return np.asarray(self.parts[2], dtype=float) @ direction

    def line(self, direction: np.ndarray) -> Line:
        return CurvedLine(self, direction)


class CurvedLine(Line):
    def __init__(self, begin: CurvedAt, direction: np.ndarray) -> None:
        self.begin, self.direction = begin, direction

    def evaluate(self, step: float) -> LineValue:
        point = self.move(step)
        return LineValue(point.value, float(point.gradient @ self.direction), math.nan)

    def move(self, step: float) -> CurvedAt:
        return self.begin.problem.at(self.begin.where + step * self.direction)


def rosenbrock(x: np.ndarray) -> tuple:
    a, b = 1 - x[0], x[1] - x[0] ** 2
    H = [[2 - 400 * b + 800 * x[0] ** 2, -400 * x[0]], [-400 * x[0], 200.0]]
    return a * a + 100 * b * b, [-2 * a - 400 * x[0] * b, 200 * b], H


def double_well(x: np.ndarray) -> tuple:
    """Minima at (±1, 0), a saddle at the origin."""
    gradient = [x[0] ** 3 - x[0], x[1]]
    return x[0] ** 4 / 4 - x[0] ** 2 / 2 + x[1] ** 2 / 2, gradient, [[3 * x[0] ** 2 - 1, 0], [0, 1]]


def bowl_with_flat_sides(x: np.ndarray) -> tuple:
    """``√(1 + x²)``: the pure Newton step maps x to -x³."""
    root = math.sqrt(1 + float(x[0]) ** 2) if abs(x[0]) < 1e150 else math.inf
    return root, [x[0] / root], [[root**-3]]


def rows(n: int = 200, k: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping classes; a constant column and two equal ones."""
    rng = np.random.default_rng(seed)
    Z = rng.standard_normal((n, 6)) * [1, 3, 1, 1, 0.3, 1]
    Z[:, 3], Z[:, 5] = 2.0, Z[:, 2]
    y = (Z[:, :k] + rng.gumbel(size=(n, k))).argmax(axis=1)
    return Z, y


def gram(J: Objective) -> NewtonCG:
    return NewtonCG(preconditioner(J, J.examples.second_moments()), tol=1e-12)


@pytest.mark.parametrize("name", SMOOTH_LOSSES)
@pytest.mark.parametrize("l2", [1e-3, 0.0])
@pytest.mark.parametrize("intercept", [True, False])
def test_polish_to_machine_precision_and_agreement(name: str, l2: float, intercept: bool) -> None:
    Z, y = rows()
    J = Objective(Z, y, 3, by_name(name), l2, intercept=intercept)
    newton = Newton(tol=1e-12).minimise(J)
    others = [gram(J).minimise(J), NewtonCG(tol=1e-12).minimise(J)]
    for solution in (newton, *others):
        assert solution.stop_reason is StopReason.CONVERGED
        assert solution.gradient_norm <= 1e-12
        assert solution.iterations <= 8
        assert J.norm(J.at(solution.params).gradient) <= 1e-11
        assert not intercept or np.all(solution.params[3] == 0), "the constant column says what the bias says"
    quasi = LBFGS(preconditioner(J, J.examples.second_moments()), tol=1e-11).minimise(J)
    for other in (*others, quasi):
        assert other.value == pytest.approx(newton.value, rel=1e-14)
        # Values that differ by their last bit say no more about the scores than its square root.
        np.testing.assert_allclose(J.scores(other.params), J.scores(newton.params), atol=1e-6)
    for other in others:
        np.testing.assert_allclose(J.scores(other.params), J.scores(newton.params), atol=1e-10)


def test_convergence_is_quadratic() -> None:
    Z, y = rows()
    J = Objective(Z, y, 3, by_name("cross_entropy"), 1e-3)
    near = []
    for seed in range(5):
        begin = 0.5 * np.random.default_rng(seed).standard_normal(J.start().shape)
        begin[3] = 0.0
        norms = [record.gradient_norm for record in Newton(tol=1e-13).minimise(J, J.at(begin)).history]
        near += [(a, b) for a, b in itertools.pairwise(norms) if 1e-6 < a < 0.1]
    assert len(near) >= 8
    assert all(b <= 5 * a * a for a, b in near), near


def test_newton_on_a_quadratic_needs_one_step_and_n_and_a_half_passes() -> None:
    Z, y = rows()
    J = Objective(Z, y, 3, by_name("squared"), 0.1)
    solution = Newton(tol=1e-9).minimise(J)
    assert solution.iterations == 1
    # The gradient at the start needs no forward product; n products with H; one along the line, one for the gradient.
    assert solution.passes == 0.5 + J.start().size + 1.0


def test_every_product_with_the_hessian_is_counted() -> None:
    Z, y = rows()
    J = Objective(Z, y, 3, by_name("cross_entropy"), 1e-3)
    products = []
    original = type(J.at(J.start())).hessian_times

    def counted(point, direction):  # type: ignore[no-untyped-def]
        products.append(1)
        return original(point, direction)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(J.at(J.start())), "hessian_times", counted)
        solution = NewtonCG(tol=1e-10).minimise(J)
    # A product along each line and one for the gradient at its end, which may be made twice where the step is not 1.
    other = solution.passes - 0.5 - len(products) - solution.iterations
    assert 0.0 <= other <= 0.5 * sum(record.step != 1.0 for record in solution.history[1:])
    assert len(products) > solution.iterations


def test_hessian_is_symmetric_and_matches_differences() -> None:
    Z, y = rows()
    for intercept in (True, False):
        J = Objective(Z, y, 3, by_name("cross_entropy"), 0.01, intercept=intercept)
        rng = np.random.default_rng(1)
        x = rng.standard_normal(J.start().shape)
        held = np.zeros(x.shape, bool)
        held[3] = True
        held[-1] = not intercept
        x[held] = 0.0
        H = hessian(J.at(x))
        np.testing.assert_array_equal(H, H.T)
        V = np.where(held, 0.0, rng.standard_normal(x.shape))
        h = 1e-5
        expected = (J.at(x + h * V).gradient - J.at(x - h * V).gradient) / (2 * h)
        np.testing.assert_allclose((H @ V.ravel()).reshape(x.shape), expected, atol=1e-9)


@pytest.mark.parametrize("solver", [Newton(tol=1e-12), NewtonCG(tol=1e-12)], ids=["newton", "newton_cg"])
def test_rosenbrock(solver: Solver) -> None:
    solution = solver.minimise(Curved(rosenbrock, [-1.2, 1.0]))
    assert solution.stop_reason is StopReason.CONVERGED
    assert solution.iterations <= 60
    np.testing.assert_allclose(solution.params, [1, 1], atol=1e-10)


@pytest.mark.parametrize("solver", [Newton(), NewtonCG(tol=1e-10)], ids=["newton", "newton_cg"])
def test_negative_curvature_leads_away_from_the_saddle(solver: Solver) -> None:
    solution = solver.minimise(Curved(double_well, [0.01, 2.0]))
    assert solution.stop_reason is StopReason.CONVERGED
    np.testing.assert_allclose(solution.params, [1, 0], atol=1e-9)
    assert solution.value == pytest.approx(-0.25)


def test_line_search_makes_newton_safe_where_the_pure_step_diverges() -> None:
    problem = Curved(bowl_with_flat_sides, [2.0])
    assert Newton().minimise(problem).stop_reason is StopReason.CONVERGED
    pure = Newton(step=Scheduled(constant(1.0))).minimise(problem)
    assert pure.stop_reason in (StopReason.DIVERGED, StopReason.MAX_ITER)
    np.testing.assert_array_equal(pure.params, [2.0])
    assert Newton(step=Scheduled(constant(1.0))).minimise(Curved(bowl_with_flat_sides, [0.5])).stop_reason.converged


def test_values_beyond_the_finite_range_are_divergence() -> None:
    problem = Curved(lambda x: (x[0] ** 2 if abs(x[0]) < 10 else math.inf, [2 * x[0]], [[1e-3]]), [1.0])
    solution = Newton(step=Scheduled(constant(1.0))).minimise(problem)
    assert solution.stop_reason is StopReason.DIVERGED
    assert "last good parameters" in solution.note
    assert solution.value == 1.0


def test_separable_rows_without_penalty_end_with_a_tiny_loss() -> None:
    Z, _ = rows()
    J = Objective(Z, (Z[:, 0] > 0).astype(int), 2, by_name("cross_entropy"), 0.0)
    for solver in (Newton(), NewtonCG(tol=1e-10)):
        solution = solver.minimise(J)
        assert np.isfinite(solution.params).all()
        assert 0 <= solution.value < 1e-8


def test_softmax_bias_does_not_drift() -> None:
    Z, y = rows()
    J = Objective(Z, y, 3, by_name("cross_entropy"), 1e-2)
    solution = Newton(tol=1e-13).minimise(J)
    np.testing.assert_allclose(solution.params.sum(axis=1), 0, atol=1e-12)


def test_second_moments_save_products_on_correlated_columns() -> None:
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((30, 30)))[0]
    Z = (rng.standard_normal((400, 30)) * np.geomspace(1, 1e-2, 30)) @ basis.T
    y = (20 * Z[:, :3] + rng.gumbel(size=(400, 3))).argmax(axis=1)
    J = Objective(Z, y, 3, by_name("cross_entropy"), 1e-6)
    plain, helped = NewtonCG(tol=1e-8).minimise(J), gram(J).minimise(J)
    assert plain.stop_reason.converged and helped.stop_reason.converged
    assert helped.passes < 0.5 * plain.passes
    assert helped.value == pytest.approx(plain.value, rel=1e-10)


def test_forcing_trades_inner_for_outer_steps() -> None:
    Z, y = rows()
    J = Objective(Z, y, 3, by_name("cross_entropy"), 1e-4)
    rough = NewtonCG(tol=1e-9, forcing=0.5).minimise(J)
    exact = NewtonCG(tol=1e-9, forcing=1e-8).minimise(J)
    chosen = NewtonCG(tol=1e-9).minimise(J)
    assert rough.iterations > chosen.iterations >= exact.iterations
    assert chosen.passes < exact.passes


def test_float32_products_stop_at_their_precision() -> None:
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((36_000, 30)).astype(np.float32)
    y = (Z[:, :3] + rng.gumbel(size=(36_000, 3))).argmax(axis=1)
    J = Objective(Z, y, 3, by_name("cross_entropy"), 1e-4)
    assert J.rounding > 1e-8
    solution = NewtonCG(tol=1e-12, max_iter=30).minimise(J)
    assert solution.stop_reason in (StopReason.PRECISION, StopReason.CONVERGED)
    assert solution.gradient_norm < 1e-5


@pytest.mark.parametrize("solver", [Newton(), NewtonCG(tol=1e-10)], ids=["newton", "newton_cg"])
class TestManners:
    def test_interrupt_returns_the_best_so_far(self, solver: Solver) -> None:
        seen = []

        def interrupt(record, params) -> bool:  # type: ignore[no-untyped-def]
            seen.append(record.value)
            if len(seen) == 3:
                raise KeyboardInterrupt
            return False

        Z, y = rows()
        solution = solver.minimise(Objective(Z, y, 3, by_name("cross_entropy"), 1e-4), callback=interrupt)
        assert solution.stop_reason is StopReason.INTERRUPTED
        assert solution.value == min(seen)

    def test_callback_stops(self, solver: Solver) -> None:
        Z, y = rows()
        J = Objective(Z, y, 3, by_name("cross_entropy"), 1e-4)
        solution = solver.minimise(J, callback=lambda record, params: record.iteration == 2)
        assert solution.stop_reason is StopReason.CALLBACK
        assert solution.iterations == 2

    def test_starts_where_it_is_told(self, solver: Solver) -> None:
        Z, y = rows()
        J = Objective(Z, y, 3, by_name("cross_entropy"), 1e-4)
        first = solver.minimise(J)
        again = solver.minimise(J, J.at(first.params))
        assert again.stop_reason is StopReason.CONVERGED
        assert again.iterations == 0 and again.passes <= 1

    @pytest.mark.parametrize("loss", ["hinge", "perceptron", "zero_one"])
    def test_refuses_what_has_no_second_derivative(self, solver: Solver, loss: str) -> None:
        Z, y = rows()
        J = Objective(Z, y, 3, by_name(loss), 0.0)
        with pytest.raises(InputError, match=f"Solver {solver.name} cannot minimise the {loss} loss: it needs"):
            solver.minimise(J)
        assert J.passes == 0
        with pytest.raises(InputError, match="needs second derivatives"):
            solver.minimise(FunctionProblem(lambda x: (float(x @ x), 2 * x), np.ones(2)))


def test_iterations_used_up_are_said() -> None:
    Z, y = rows()
    J = Objective(Z, y, 3, by_name("cross_entropy"), 1e-4)
    for solver in (Newton(max_iter=1), NewtonCG(tol=1e-10, max_iter=1)):
        solution = solver.minimise(J)
        assert solution.stop_reason is StopReason.MAX_ITER
        assert solution.iterations == 1
    assert Newton(max_iter=0).minimise(J).passes <= 0.5


def test_too_many_parameters_are_refused_before_any_work() -> None:
    rng = np.random.default_rng(0)
    J = Objective(rng.standard_normal((20, 400)), rng.integers(0, 10, 20), 10, by_name("cross_entropy"), 0.1)
    with pytest.raises(InputError, match=r"4,010 parameters; it is for at most 3,000\. Use newton_cg or lbfgs"):
        Newton().minimise(J)
    assert J.passes == 0


@pytest.mark.parametrize("wrong", [{"forcing": 0.0}, {"forcing": 1.0}, {"max_inner": 0}])
def test_impossible_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        NewtonCG(**wrong)


def test_far_fewer_passes_than_gradient_descent() -> None:
    Z, y = rows()
    J = Objective(Z, y, 3, by_name("cross_entropy"), 1e-2, threads=1)
    steepest = GradientDescent(tol=1e-5, max_iter=9999).minimise(J).passes
    assert NewtonCG(tol=1e-5).minimise(J).passes * 5 < steepest


def test_second_derivatives_that_are_not_finite_are_said() -> None:
    problem = Curved(lambda x: (float(x[0] ** 2), [2 * x[0]], [[math.inf]]), [1.0])
    solution = Newton().minimise(problem)
    assert solution.stop_reason is StopReason.DIVERGED
    assert "Second derivatives are not finite" in solution.note


def test_a_preconditioner_that_is_not_positive_is_not_called_converged() -> None:
    class Uphill(Preconditioner):
        def apply(self, gradient: np.ndarray) -> np.ndarray:
            return -gradient

    solution = NewtonCG(Uphill()).minimise(Curved(rosenbrock, [-1.2, 1.0]))
    assert solution.stop_reason is StopReason.PRECISION
    assert "does not descend" in solution.note
