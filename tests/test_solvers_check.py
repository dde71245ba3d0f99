"""Finite differences, and the public check of gradients built on them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lastlayer._arrays import InputError
from lastlayer.losses import LOSSES, by_name
from lastlayer.losses.crammer_singer import CrammerSinger
from lastlayer.objective import Objective
from lastlayer.penalties import L2
from lastlayer.solvers.base import GRADIENT, SMOOTH, LineValue, StopReason
from lastlayer.solvers.check import check_gradient, loss_problem, penalty_problem
from lastlayer.solvers.differences import (
    FiniteDifferenceProblem,
    ValueProblem,
    difference_gradient,
    slopes,
    step_length,
)
from lastlayer.solvers.function import FunctionProblem
from lastlayer.solvers.gradient_descent import GradientDescent
from lastlayer.solvers.lbfgs import LBFGS
from lastlayer.solvers.newton import Newton
from lastlayer.solvers.steps import Armijo, ExactLineSearch

SCHEMES = ["one_sided", "central"]
LOSS_LIST = [
    *(loss for loss in LOSSES.values() if loss.has_gradient and loss.name != "crammer_singer"),
    CrammerSinger(),
]


def rosenbrock(x: np.ndarray) -> float:
    return float((1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2)


# ---------------------------------------------------------------- differences


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_error_is_smallest_near_the_chosen_step(scheme: str) -> None:
    """Truncation falls and rounding rises as h shrinks; the two sides of the valley are a power of ten a decade."""

    def value(x: np.ndarray) -> float:
        return math.exp(float(x[0])) + math.sin(3 * float(x[0]))

    def error(h: float) -> float:
        points = np.linspace(0.3, 0.9, 60)
        exact = np.exp(points) + 3 * np.cos(3 * points)
        column = 2 if scheme == "central" else 0
        found = [slopes(value, np.array([p]), (0,), h, value(np.array([p])))[column] for p in points]
        return float(np.median(np.abs(found - exact)))

    chosen = step_length(scheme, np.finfo(float).eps)
    steps = chosen * np.logspace(-4, 4, 33)
    errors = np.array([error(h) for h in steps])
    best = steps[errors.argmin()]
    assert chosen / 10 <= best <= chosen * 10
    assert error(chosen) <= 10 * errors.min()
    assert errors[0] > 100 * errors.min(), "rounding rules below"
    assert errors[-1] > 100 * errors.min(), "truncation rules above"


def test_central_differences_are_more_exact_and_cost_twice() -> None:
    calls = []

    def value(x: np.ndarray) -> float:
        calls.append(1)
        return float(np.exp(x).sum() + np.prod(np.sin(x)))

    x = np.array([0.3, -1.2, 2.0, 0.7])
    others = [np.prod(np.sin(np.delete(x, i))) for i in range(4)]
    exact = np.exp(x) + np.cos(x) * others
    errors, costs = {}, {}
    for scheme in SCHEMES:
        calls.clear()
        errors[scheme] = np.abs(difference_gradient(value, x, scheme, 1e-16) - exact).max()
        costs[scheme] = len(calls)
    assert costs == {"one_sided": 5, "central": 8}
    assert errors["central"] < 1e-9 < errors["one_sided"] < 1e-6
    calls.clear()
    difference_gradient(value, x, "one_sided", 1e-16, here=value(x))
    assert len(calls) == 5


def test_parameters_are_left_alone() -> None:
    x = np.array([1.0, 2.0])
    difference_gradient(lambda z: float(z @ z), x)
    np.testing.assert_array_equal(x, [1, 2])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_first_order_solvers_run_on_values_alone(scheme: str) -> None:
    problem = FiniteDifferenceProblem(ValueProblem(rosenbrock, np.array([-1.2, 1.0])), scheme)
    solution = LBFGS(tol=1e-6).minimise(problem)
    np.testing.assert_allclose(solution.params, [1, 1], atol=1e-4)
    assert solution.stop_reason in (StopReason.CONVERGED, StopReason.PRECISION)
    assert solution.passes == problem.passes > 4 * solution.iterations
    bowl = FiniteDifferenceProblem(ValueProblem(lambda x: float((x - 3) @ (x - 3)), np.zeros(5)), scheme)
    for rule in (Armijo(), ExactLineSearch()):
        found = GradientDescent(rule, tol=1e-4).minimise(bowl)
        assert found.stop_reason is StopReason.CONVERGED
        np.testing.assert_allclose(found.params, 3, atol=1e-3)


def test_costs_are_counted_in_values() -> None:
    inner = ValueProblem(lambda x: float(x @ x), np.ones(7))
    for scheme, gradient_cost, line_cost in (("central", 14, 3), ("one_sided", 8, 2)):
        problem = FiniteDifferenceProblem(inner, scheme)
        before = problem.passes
        point = problem.at(np.ones(7))
        assert problem.passes == before, "nothing is computed before it is asked for"
        np.testing.assert_allclose(point.gradient, 2, atol=1e-6)
        np.testing.assert_allclose(point.gradient, 2, atol=1e-6)
        assert problem.passes == before + gradient_cost
        here = point.line(np.full(7, -0.5)).evaluate(0.5)
        assert problem.passes == before + gradient_cost + line_cost
        assert isinstance(here, LineValue) and math.isnan(here.curvature)
        assert here.value == pytest.approx(7 * 0.75**2)
        assert here.slope == pytest.approx(-7 * 0.75, rel=1e-5)


def test_objective_by_differences_has_the_optimum_of_the_objective() -> None:
    rng = np.random.default_rng(0)
    Z, y = rng.standard_normal((60, 3)), rng.integers(0, 3, 60)
    J = Objective(Z, y, 3, by_name("cross_entropy"), 0.05)
    exact = Newton(tol=1e-12).minimise(J)
    problem = FiniteDifferenceProblem(J)
    assert {GRADIENT, SMOOTH} <= problem.provides
    solution = GradientDescent(tol=1e-6).minimise(problem)
    assert solution.stop_reason is StopReason.CONVERGED
    assert solution.value == pytest.approx(exact.value, rel=1e-10)
    hinge = FiniteDifferenceProblem(Objective(Z, y, 3, by_name("hinge"), 0.05))
    with pytest.raises(InputError, match="needs a continuous gradient"):
        LBFGS().minimise(hinge)


def test_step_functions_and_unknown_schemes_are_refused() -> None:
    rng = np.random.default_rng(0)
    J = Objective(rng.standard_normal((20, 3)), rng.integers(0, 3, 20), 3, by_name("zero_one"), 0.0)
    with pytest.raises(InputError, match="step function"):
        FiniteDifferenceProblem(J)
    with pytest.raises(InputError, match=r"'sideways'.*one_sided and central"):
        FiniteDifferenceProblem(ValueProblem(rosenbrock, np.ones(2)), "sideways")  # type: ignore[arg-type]
    plain = ValueProblem(rosenbrock, np.ones(2))
    with pytest.raises(InputError, match="cannot minimise a plain function without a gradient"):
        LBFGS().minimise(plain)
    for ask in (lambda: plain.at(np.ones(2)).gradient, lambda: plain.at(np.ones(2)).line(np.ones(2))):
        with pytest.raises(InputError, match="FiniteDifferenceProblem"):
            ask()


# ---------------------------------------------------------------- the check


@pytest.mark.parametrize("loss", LOSS_LIST, ids=lambda loss: loss.name)
def test_every_loss_passes(loss) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(0)
    Z, y = 2 * rng.standard_normal((30, 4)), rng.integers(0, 4, 30)
    table = check_gradient(loss_problem(loss, Z, y), Z)
    assert len(table.rows) == 120
    assert table.right and table.kinks == 0 and table.worst < 1e-6, str(table)


def test_loss_problem_can_be_minimised_and_takes_targets() -> None:
    T = np.array([[1.0, -2.0], [0.5, 4.0]])
    problem = loss_problem(by_name("squared"), np.zeros((2, 2)), T)
    assert check_gradient(problem, np.ones((2, 2))).right
    np.testing.assert_allclose(LBFGS(tol=1e-10).minimise(problem).params, T)


def test_penalties_pass() -> None:
    W = np.random.default_rng(0).standard_normal((4, 3))
    assert check_gradient(penalty_problem(L2(np.array([0.0, 0.1, 1.0, 30.0])), W), W).right

    class Wrong:
        def value(self, W: np.ndarray) -> float:
            return float(np.abs(W).sum())

        def gradient(self, W: np.ndarray) -> np.ndarray:
            return W

    assert not check_gradient(penalty_problem(Wrong(), W), W).right


@pytest.mark.parametrize("name", ["hinge", "perceptron"])
def test_kinks_of_losses_are_told_from_errors(name: str) -> None:
    Z, y = np.array([[1.0, -1.0, 0.3]]), np.array([0])
    if name == "perceptron":
        Z = np.array([[0.5, 0.5, -1.0]])
    table = check_gradient(loss_problem(by_name(name), Z, y), Z)
    assert table.right and table.kinks == 2, str(table)
    assert "kink" in str(table) and "WRONG" not in str(table)
    assert "1 of 3 derivatives agree to 1e-06, 2 at a kink" in str(table)


@pytest.mark.parametrize("offset", [0.0, 1e-9, 3e-7, 2e-6, -4e-6, 8e-6])
def test_a_corner_at_or_near_the_point_is_a_kink(offset: float) -> None:
    def relu(x: np.ndarray) -> tuple[float, np.ndarray]:
        z = x + offset
        return float(np.maximum(z, 0).sum() + (x**2).sum()), (z > 0) + 2 * x

    table = check_gradient(relu, np.zeros(1))
    assert table.rows[0].verdict == "kink"
    assert table.right


@pytest.mark.parametrize("given", [-0.5, 1.5, 7.0])
def test_a_wrong_derivative_at_a_kink_is_wrong(given: float) -> None:
    table = check_gradient(lambda x: (float(max(x[0], 0.0)), np.array([given])), np.zeros(1))
    assert table.rows[0].verdict == "WRONG"
    assert not table.right


@pytest.mark.parametrize("curvature", [1.0, 1e3, 1e6, -1e6])
def test_a_wrong_derivative_of_a_bent_function_is_no_kink(curvature: float) -> None:
    table = check_gradient(lambda x: (0.5 * curvature * float(x[0] ** 2) + float(x[0]), np.array([0.9])), np.zeros(1))
    assert table.rows[0].verdict == "WRONG"
    right = check_gradient(lambda x: (0.5 * curvature * float(x[0] ** 2) + float(x[0]), np.array([1.0])), np.zeros(1))
    assert right.rows[0].verdict == "ok"


def network(dtype: type = np.float64) -> tuple:
    """Two layers with ReLU between them, and its gradient by hand."""
    rng = np.random.default_rng(0)
    X, T = rng.standard_normal((20, 3)).astype(dtype), rng.standard_normal((20, 2)).astype(dtype)
    shapes = {"first.weight": (3, 5), "first.bias": (5,), "second.weight": (5, 2), "second.bias": (2,)}
    params = {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}

    def function(p: dict) -> tuple[float, dict]:
        hidden = X @ p["first.weight"] + p["first.bias"]
        active = np.maximum(hidden, 0)
        residual = active @ p["second.weight"] + p["second.bias"] - T
        back = (residual @ p["second.weight"].T) * (hidden > 0)
        gradient = {
            "first.weight": X.T @ back / 20,
            "first.bias": back.mean(axis=0),
            "second.weight": active.T @ residual / 20,
            "second.bias": residual.mean(axis=0),
        }
        return 0.5 * float(np.square(residual).sum(dtype=np.float64)) / 20, gradient

    return function, params


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_network_of_named_arrays(dtype: type) -> None:
    function, params = network(dtype)
    before = {name: array.copy() for name, array in params.items()}
    table = check_gradient(function, params)
    assert table.right, str(table)
    assert len(table.rows) == 15 + 5 + 10 + 2
    assert "first.weight[2,4]" in {row.label for row in table.rows}
    for name, array in params.items():
        np.testing.assert_array_equal(array, before[name])

    def wrong(p: dict) -> tuple[float, dict]:
        value, gradient = function(p)
        return value, gradient | {"second.bias": 1.1 * gradient["second.bias"]}

    broken = check_gradient(wrong, params)
    assert {row.name for row in broken.rows if row.verdict == "WRONG"} == {"second.bias"}
    assert "second.bias[0]" in str(broken).splitlines()[1] or "second.bias[1]" in str(broken).splitlines()[1]


def test_a_dead_unit_exactly_at_its_corner_is_a_kink_not_an_error() -> None:
    function, params = network()
    X = np.random.default_rng(0).standard_normal((20, 3))
    params["first.bias"][1] = -(X @ params["first.weight"])[4, 1]
    table = check_gradient(function, params)
    kinks = {row.label for row in table.rows if row.verdict == "kink"}
    assert table.right, str(table)
    assert "first.bias[1]" in kinks
    assert kinks <= {"first.bias[1]", "first.weight[0,1]", "first.weight[1,1]", "first.weight[2,1]"}


def test_choosing_parameters() -> None:
    function, params = network()
    table = check_gradient(function, params, [("first.weight", 0, 1), ("second.bias", 1)])
    assert [row.label for row in table.rows] == ["first.weight[0,1]", "second.bias[1]"]
    drawn = check_gradient(function, params, sample=3, seed=1)
    assert len(drawn.rows) == 3 + 3 + 3 + 2
    again = check_gradient(function, params, sample=3, seed=1)
    assert [row.label for row in drawn.rows] == [row.label for row in again.rows]
    assert [row.label for row in drawn.rows] != [row.label for row in check_gradient(function, params, sample=3).rows]


def test_the_table_shows_the_worst_first_and_counts_the_rest() -> None:
    def function(x: np.ndarray) -> tuple[float, np.ndarray]:
        return float(x @ x), 2 * x * np.where(np.arange(30) == 17, 1.5, 1)

    lines = str(check_gradient(function, np.ones(30))).splitlines()
    assert lines[0].split() == ["parameter", "analytic", "numeric", "rel.", "error", "verdict"]
    assert lines[1].split()[0] == "17" and lines[1].endswith("WRONG")
    assert lines[-2].strip() == "... and 10 more"
    assert lines[-1] == "29 of 30 derivatives agree to 1e-06"


def test_rounding_of_the_values_is_not_an_error() -> None:
    """At an optimum of a large value the numeric derivative is rounding and nothing else."""
    problem = FunctionProblem(lambda x: (1e6 + float(x @ x), 2 * x), np.ones(3))
    assert check_gradient(problem, np.zeros(3)).right
    assert not check_gradient(lambda x: (1e6 + float(x.sum()), np.full(3, 1.01)), np.zeros(3)).right
    noisy = check_gradient(lambda x: (float(np.float32(x @ x)), 2 * x), np.ones(3), rounding=1e-7)
    assert noisy.right


def test_impossible_input_is_refused() -> None:
    function, params = network()
    with pytest.raises(InputError, match=r"no gradient of second\.bias"):
        check_gradient(lambda p: (1.0, {k: v for k, v in function(p)[1].items() if k != "second.bias"}), params)
    with pytest.raises(InputError, match=r"gradient has shape \(2,\); its parameters \(3,\)"):
        check_gradient(lambda x: (0.0, x[:2]), np.ones(3))
    with pytest.raises(InputError, match="value is nan"):
        check_gradient(lambda x: (math.nan, x), np.ones(3))
    with pytest.raises(InputError, match="one array of parameters"):
        check_gradient(FunctionProblem(lambda x: (0.0, x), np.ones(3)), params)
    assert not check_gradient(lambda x: (0.0, np.array([math.nan])), np.ones(1)).right
