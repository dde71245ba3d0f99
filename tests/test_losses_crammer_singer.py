"""Crammer and Singer's squared loss: against a slow reference, its quadratic program, and its published form."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from lastlayer.losses.crammer_singer import CrammerSinger
from lastlayer.losses.hinge import SquaredHinge
from lastlayer.objective import Objective
from lastlayer.solvers.check import check_gradient, loss_problem
from lastlayer.solvers.gradient_descent import GradientDescent
from lastlayer.solvers.steps import Scheduled, polynomial_decay

LOSS = CrammerSinger()


def scores(k: int, n: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return 2 * rng.standard_normal((n, k)), rng.integers(0, k, n)


def slow_value(z: np.ndarray, label: int) -> float:
    return max([0.0] + [1 + z[k] - z[label] for k in range(len(z)) if k != label]) ** 2


def slow_gradient(z: np.ndarray, label: int) -> np.ndarray:
    rivals = [k for k in range(len(z)) if k != label]
    best = max(rivals, key=lambda k: z[k])
    margin = max(0.0, 1 + z[best] - z[label])
    out = np.zeros(len(z))
    out[best] += 2 * margin
    out[label] -= 2 * margin
    return out


@pytest.mark.parametrize("k", [2, 3, 7])
def test_equals_the_slow_reference(k: int) -> None:
    Z, y = scores(k)
    gradient = Z.copy()
    losses = LOSS.gradient(gradient, y)
    expected = [slow_value(z, label) for z, label in zip(Z, y)]
    assert 0.0 in expected and max(expected) > 1
    np.testing.assert_allclose(losses, expected, rtol=1e-13)
    np.testing.assert_allclose(LOSS.values(Z, y), expected, rtol=1e-13)
    np.testing.assert_allclose(gradient, [slow_gradient(z, label) for z, label in zip(Z, y)], rtol=1e-13)


def test_example_by_hand() -> None:
    Z, y = np.array([[2.0, 1.5, 0.0], [2.0, 1.0, 0.0], [0.0, 3.0, 1.0]]), np.array([0, 0, 2])
    np.testing.assert_allclose(LOSS.values(Z, y), [0.25, 0.0, 9.0])
    LOSS.gradient(Z, y)
    np.testing.assert_allclose(Z, [[-1, 1, 0], [0, 0, 0], [0, 6, -6]])


@pytest.mark.parametrize("k", [2, 5])
def test_derivatives(k: int) -> None:
    Z, y = scores(k)
    table = check_gradient(loss_problem(LOSS, Z, y), Z)
    assert table.right and table.kinks == 0, str(table)
    V = np.random.default_rng(1).standard_normal(Z.shape)
    h = 1e-6
    ahead, behind = Z + h * V, Z - h * V
    LOSS.gradient(ahead, y)
    LOSS.gradient(behind, y)
    product = LOSS.hessian_times(Z.copy(), V, y)
    np.testing.assert_allclose(product, (ahead - behind) / (2 * h), atol=1e-6)
    values, slopes, curvatures = LOSS.along(Z.copy(), V, y)
    gradient = Z.copy()
    np.testing.assert_allclose(LOSS.gradient(gradient, y), values)
    np.testing.assert_allclose(slopes, (gradient * V).sum(axis=1), atol=1e-12)
    np.testing.assert_allclose(curvatures, (product * V).sum(axis=1), atol=1e-12)
    assert (curvatures <= 4 * np.square(V).sum(axis=1)).all()


def test_two_rivals_that_tie_make_a_kink_and_share_the_subgradient() -> None:
    Z, y = np.array([[0.5, 1.0, 1.0, -3.0]]), np.array([0])
    gradient = Z.copy()
    LOSS.gradient(gradient, y)
    np.testing.assert_allclose(gradient, [[-3.0, 1.5, 1.5, 0.0]])
    table = check_gradient(loss_problem(LOSS, Z, y), Z)
    assert table.right
    one_of_the_two = np.array([[-3.0, 3.0, 0.0, 0.0]])
    again = check_gradient(lambda z: (float(LOSS.values(z, y)[0]), one_of_the_two), Z)
    assert [row.verdict for row in again.rows] == ["ok", "kink", "kink", "ok"]
    assert not LOSS.is_smooth and LOSS.curvature_bound == np.inf


def test_subgradient_inequality_also_at_ties() -> None:
    rng = np.random.default_rng(0)
    Z, Q = rng.integers(-2, 3, (300, 4)).astype(float), 3 * rng.standard_normal((300, 4))
    y = rng.integers(0, 4, 300)
    gradient = Z.copy()
    here = LOSS.gradient(gradient, y)
    assert (LOSS.values(Q, y) >= here + (gradient * (Q - Z)).sum(axis=1) - 1e-12).all()


def test_two_classes_are_the_squared_hinge_of_the_difference() -> None:
    Z, y = scores(2)
    margin = (Z[:, 1] - Z[:, 0]) * np.where(y == 1, 1, -1)
    np.testing.assert_allclose(LOSS.values(Z, y), np.maximum(0, 1 - margin) ** 2)
    halves = np.column_stack([-margin, margin]) / 1.0
    np.testing.assert_allclose(SquaredHinge().values(halves, np.ones(40, int)), 2 * LOSS.values(Z, y))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_type_and_memory_order_are_kept(dtype: type) -> None:
    Z, y = scores(5)
    Z = Z.astype(dtype)
    plain, turned = Z.copy(), np.asfortranarray(Z)
    losses = LOSS.gradient(plain, y)
    np.testing.assert_array_equal(losses, LOSS.gradient(turned, y))
    np.testing.assert_array_equal(plain, turned)
    for out in (losses, LOSS.hessian_times(Z.copy(), Z, y), *LOSS.along(Z.copy(), Z, y)):
        assert out.dtype == dtype


@pytest.mark.parametrize("shares", [[0.2, 0.7, 0.1], [0.5, 0.3, 0.2], [0.4, 0.35, 0.25], [0.95, 0.05]])
def test_constant_scores_are_the_best_constant(shares: list[float]) -> None:
    f = np.array(shares)
    y = np.arange(len(f))

    def mean_loss(z: np.ndarray) -> float:
        return float(f @ LOSS.values(np.tile(z, (len(f), 1)), y))

    found = LOSS.constant_scores(f)
    assert found.sum() == pytest.approx(0, abs=1e-15)
    rng = np.random.default_rng(0)
    for size in (1e-4, 1e-2, 1.0):
        for _ in range(300):
            assert mean_loss(found + size * rng.standard_normal(len(f))) >= mean_loss(found) - 1e-12


def quadratic_program(Z: np.ndarray, y: np.ndarray, k: int, l2: float) -> float:
    """Lee & Lin's primal: ``min λ/2 ‖W‖² + mean ξ²`` under ``ξᵢ ≥ 1 + zₖ - z_y``, by sequential programming."""
    n, d = Z.shape
    rows = [(i, c) for i in range(n) for c in range(k) if c != y[i]]
    A = np.zeros((len(rows), d * k + k + n))
    for r, (i, c) in enumerate(rows):
        for column, sign in ((c, -1.0), (y[i], 1.0)):
            A[r, column : d * k : k] += sign * Z[i]
            A[r, d * k + column] += sign
        A[r, d * k + k + i] = 1.0
    weights = np.r_[np.full(d * k, l2), np.zeros(k), np.full(n, 2.0 / n)]
    result = minimize(
        lambda v: 0.5 * float(weights @ (v * v)),
        np.r_[np.zeros(d * k + k), np.ones(n)],
        jac=lambda v: weights * v,
        constraints={"type": "ineq", "fun": lambda v: A @ v - 1.0, "jac": lambda v: A},
        method="SLSQP",
        options={"ftol": 1e-13, "maxiter": 300},
    )
    assert result.success
    return float(result.fun)


def small(k: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    Z = rng.standard_normal((24, 2))
    return Z, (Z @ rng.standard_normal((2, k)) + 0.5 * rng.gumbel(size=(24, k))).argmax(axis=1)


def test_objective_reaches_the_optimum_of_the_quadratic_program() -> None:
    Z, y = small()
    best = quadratic_program(Z, y, 3, 0.1)
    J = Objective(Z, y, 3, LOSS, 0.1, threads=1)
    solver = GradientDescent(Scheduled(polynomial_decay(0.5, 10.0, 1.0)), tol=0.0, max_iter=1200)
    solution = solver.minimise(J)
    assert best - 1e-9 <= solution.value <= best * (1 + 3e-4)


def test_predicts_as_well_as_the_unsquared_form() -> None:
    from sklearn.svm import LinearSVC

    rng = np.random.default_rng(0)
    Z = rng.standard_normal((200, 4))
    y = (Z @ rng.standard_normal((4, 4)) + 0.3 * rng.gumbel(size=(200, 4))).argmax(axis=1)
    solution = GradientDescent(Scheduled(polynomial_decay(0.3, 20.0, 0.7)), tol=0.0, max_iter=250).minimise(
        J := Objective(Z, y, 4, LOSS, 1e-3, threads=1)
    )
    W, b = J.to_outside(solution.params)
    ours = float(((Z @ W + b).argmax(axis=1) == y).mean())
    peer = LinearSVC(multi_class="crammer_singer", C=1.0, random_state=0, max_iter=5000).fit(Z, y).score(Z, y)
    assert ours >= peer - 0.02
