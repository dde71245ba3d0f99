"""Dual coordinate ascent: its optimum, its certificate, and the problems on which ascents go wrong."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.svm import SVC, LinearSVC

from lastlayer._arrays import InputError
from lastlayer.losses import by_name
from lastlayer.objective import Objective
from lastlayer.selection.hinge import HingeProblem, fit_hinge
from lastlayer.solvers._dual_ascent import Ascent, best_bias
from lastlayer.solvers._dual_newton import Quadratic, polish
from lastlayer.solvers.base import StopReason
from lastlayer.solvers.dual import DualCoordinateAscent


def data(n: int = 150, d: int = 5, k: int = 3, noise: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    Z = rng.standard_normal((n, d)) + 2.0
    z = (Z - 2.0) @ rng.standard_normal((d, k))
    return Z, (z + noise * rng.standard_normal(z.shape)).argmax(axis=1)


def value(Z, y, k, l2, W, b, weights=None):
    t = np.where(np.arange(k) == y[:, None], 1.0, -1.0)
    s = np.ones(len(y)) if weights is None else weights / weights.mean()
    return (s[:, None] * np.maximum(0.0, 1.0 - t * (Z @ W + b))).sum() / len(y) + 0.5 * l2 * (W**2).sum()


def exact(Z, y, k, l2, weights=None):
    """One libsvm machine a class, with its free intercept."""
    s = np.ones(len(y)) if weights is None else weights / weights.mean()
    machines = [SVC(kernel="linear", C=1.0 / (l2 * len(y)), tol=1e-10).fit(Z, y == c, s) for c in range(k)]
    W = np.hstack([m.coef_.T for m in machines])
    return W, np.concatenate([m.intercept_ for m in machines])


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("l2", [1e-3, 0.3])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_objective_is_that_of_an_exact_solver(k, l2, weighted):
    Z, y = data(k=k)
    weights = np.random.default_rng(1).random(len(y)) + 0.1 if weighted else None
    fit = fit_hinge(Z, y, k, l2=l2, sample_weight=weights, gap=1e-8, max_iter=20_000)
    ours, theirs = (value(Z, y, k, l2, *p, weights) for p in ((fit.weights, fit.bias), exact(Z, y, k, l2, weights)))
    assert fit.solution.stop_reason is StopReason.CONVERGED
    assert ours <= theirs * (1 + 1e-6)
    assert fit.solution.value == pytest.approx(ours, rel=1e-12)


def test_without_an_intercept_it_is_liblinears_optimum():
    Z, y = data(k=3)
    fit = fit_hinge(Z, y, 3, l2=0.02, gap=1e-8, fit_intercept=False, max_iter=20_000)
    assert not fit.bias.any()
    theirs = LinearSVC(loss="hinge", C=1 / (0.02 * len(y)), fit_intercept=False, tol=1e-10, max_iter=10**6).fit(Z, y)
    ours = value(Z, y, 3, 0.02, fit.weights, 0.0)
    assert ours == pytest.approx(value(Z, y, 3, 0.02, theirs.coef_.T, 0.0), rel=1e-6)


@pytest.mark.parametrize("intercept", [True, False])
def test_every_gap_bounds_the_distance_to_the_optimum(intercept):
    Z, y = data(400, 8, noise=2.0)
    best = fit_hinge(Z, y, 3, l2=1e-3, gap=1e-9, fit_intercept=intercept, max_iter=20_000).solution.value
    history = fit_hinge(Z, y, 3, l2=1e-3, gap=1e-6, fit_intercept=intercept, max_iter=20_000).solution.history
    assert len(history) > 3
    for record in history[1:]:
        assert record.value - best <= record.gradient_norm * record.value + 1e-12
    values = [record.value for record in history]
    assert values == sorted(values, reverse=True)


def test_dual_values_stay_in_their_boxes_and_stand_for_the_weights():
    Z, y = data(300, 6, noise=2.0)
    problem = HingeProblem(Z, y, 3, 1e-2, np.random.default_rng(0).random(300))
    ascent = Ascent(problem, 0, 1e-7)
    for epochs in range(0, 60, 12):
        ascent.round(epochs, 12)
        assert (ascent.alpha >= 0).all()
        assert (ascent.alpha <= problem.dual.box).all()
        u = (ascent.alpha * ascent.signs) @ Z
        np.testing.assert_allclose(ascent.W, u, atol=1e-9 * np.abs(u).max())
    assert ((ascent.alpha > 0) & (ascent.alpha < problem.dual.box)).sum() <= 3 * 7


def test_a_row_twice_is_a_weight_of_two_and_no_weight_is_no_row():
    Z, y = data(120, 4)
    weights = np.random.default_rng(3).integers(0, 3, len(y))
    often = np.repeat(np.arange(len(y)), weights)
    one = fit_hinge(Z, y, 3, l2=0.01, sample_weight=weights.astype(float), gap=1e-9, max_iter=20_000)
    two = fit_hinge(Z[often], y[often], 3, l2=0.01, gap=1e-9, max_iter=20_000)
    np.testing.assert_allclose(one.weights, two.weights, atol=1e-4)
    assert one.solution.value == pytest.approx(two.solution.value, rel=1e-8)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_threads_change_no_bit(dtype):
    rng = np.random.default_rng(0)
    Z = rng.integers(0, 256, (2700, 400)).astype(dtype)
    y = (Z[:, :5].astype(float) + 40 * rng.standard_normal((2700, 5))).argmax(axis=1)
    fits = [fit_hinge(Z, y, 5, l2=100.0, gap=1e-2, threads=t, seed=4) for t in (1, 2, 5)]
    assert fits[0].solution.stop_reason is StopReason.CONVERGED
    for other in fits[1:]:
        np.testing.assert_array_equal(fits[0].weights, other.weights)
        np.testing.assert_array_equal(fits[0].bias, other.bias)
    elsewhere = fit_hinge(Z, y, 5, l2=100.0, gap=1e-2, seed=5)
    assert not np.array_equal(fits[0].weights, elsewhere.weights)
    assert elsewhere.solution.value == pytest.approx(fits[0].solution.value, rel=1e-2)


def test_all_types_and_orders_of_rows_give_one_optimum():
    Z, y = data(300, 5)
    Z = np.round(40 * Z) - np.round(40 * Z).min()
    first = fit_hinge(Z, y, 3, l2=10.0, gap=1e-8, max_iter=20_000).solution.value
    for other in (Z.astype(np.uint16), Z.astype(np.float16), Z.astype(np.float32), np.asfortranarray(Z)):
        assert fit_hinge(other, y, 3, l2=10.0, gap=1e-8, max_iter=20_000).solution.value == pytest.approx(first, 1e-7)


def test_far_from_zero_nothing_is_lost():
    Z, y = data(200, 4)
    near = fit_hinge(Z, y, 3, l2=0.01, gap=1e-8, max_iter=20_000)
    far = fit_hinge(Z + 1e6, y, 3, l2=0.01, gap=1e-8, max_iter=20_000)
    assert far.solution.value == pytest.approx(near.solution.value, rel=1e-6)
    np.testing.assert_array_equal(
        (Z @ near.weights + near.bias).argmax(axis=1), ((Z + 1e6) @ far.weights + far.bias).argmax(axis=1)
    )


@pytest.mark.parametrize("factor", [1e-7, 1e7])
def test_extreme_units_keep_the_penalty_of_their_own(factor):
    Z, y = data(150, 3, k=2)
    plain = fit_hinge(Z, y, 2, l2=0.01, gap=1e-8, max_iter=20_000)
    fit = fit_hinge(Z * factor, y, 2, l2=0.01 * factor**2, gap=1e-8, max_iter=20_000)
    assert fit.solution.value == pytest.approx(plain.solution.value, rel=1e-7)
    np.testing.assert_allclose(fit.weights * factor, plain.weights, atol=1e-4)


@pytest.mark.parametrize("l2", [1e-2, 1e-8])
def test_separable_classes_reach_the_greatest_margin(l2):
    rng = np.random.default_rng(0)
    y = np.arange(80) % 2
    Z = rng.standard_normal((80, 3))
    Z[:, 0] += np.where(y, 6.0, -6.0)
    fit = fit_hinge(Z, y, 2, l2=l2, gap=1e-6, max_iter=20_000)
    assert fit.solution.stop_reason is StopReason.CONVERGED
    theirs = value(Z, y, 2, l2, *(np.hstack([-p, p]) for p in _svc(Z, y, l2)))
    assert value(Z, y, 2, l2, fit.weights, fit.bias) <= theirs * (1 + 1e-5)


def _svc(Z, y, l2):
    machine = SVC(kernel="linear", C=1.0 / (l2 * len(y)), tol=1e-10).fit(Z, y)
    return machine.coef_.T, machine.intercept_


@pytest.mark.parametrize("l2", [1e-6, 1e-8])
def test_wide_boxes_are_filled_by_stages(l2):
    Z, y = data(1000, 4, k=2, noise=1.5)
    fit = fit_hinge(Z, y, 2, l2=l2, gap=1e-4, max_iter=3000)
    assert fit.solution.stop_reason is StopReason.CONVERGED


def test_imbalance_and_a_class_without_rows():
    Z, y = data(2001, 3, k=2)
    y = np.zeros_like(y)
    y[-1] = 2
    Z[-1] += 4.0
    fit = fit_hinge(Z, y, 3, l2=1e-4, gap=1e-7, max_iter=20_000)
    assert fit.solution.stop_reason is StopReason.CONVERGED
    assert not fit.weights[:, 1].any()
    assert fit.bias[1] <= -1.0
    ours = value(Z, y, 3, 1e-4, fit.weights, fit.bias)
    W, b = exact(Z, (y == 2).astype(int), 2, 1e-4)
    assert ours <= value(Z, y, 3, 1e-4, np.insert(W, 1, 0, axis=1), np.insert(b, 1, -1.0)) * (1 + 1e-6)


def test_constant_features_and_constant_classes():
    Z, y = np.ones((30, 2)), np.arange(30) % 3
    fit = fit_hinge(Z, y, 3, l2=0.1, gap=1e-8)
    assert fit.solution.stop_reason is StopReason.CONVERGED
    assert fit.solution.value == pytest.approx(2.0)
    with pytest.raises(InputError, match="class"):
        fit_hinge(Z, np.zeros(30, dtype=int), 3, l2=0.1)


def test_ctrl_c_and_callbacks_return_the_best_so_far():
    Z, y = data(500, 8, noise=3.0)
    calls = []

    def interrupt(record, params):
        calls.append(record)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return False

    fit = fit_hinge(Z, y, 3, l2=1e-5, gap=1e-10, callback=interrupt)
    assert fit.solution.stop_reason is StopReason.INTERRUPTED
    assert fit.solution.value == min(r.value for r in calls)
    assert value(Z, y, 3, 1e-5, fit.weights, fit.bias) == pytest.approx(fit.solution.value, rel=1e-9)
    early = fit_hinge(Z, y, 3, l2=1e-5, gap=1e-10, callback=lambda r, p: r.iteration > 0)
    assert early.solution.stop_reason is StopReason.CALLBACK
    assert len(early.solution.history) == 2


def test_an_ascent_cut_short_says_its_gap():
    Z, y = data(500, 8, noise=3.0)
    solution = fit_hinge(Z, y, 3, l2=1e-5, gap=1e-10, max_iter=5).solution
    assert solution.stop_reason is StopReason.MAX_ITER
    assert not solution.stop_reason.converged
    assert "Duality gap" in solution.note


def test_what_cannot_work_is_refused():
    Z, y = data()
    with pytest.raises(InputError, match="needs a penalty"):
        fit_hinge(Z, y, 3, l2=0.0)
    with pytest.raises(InputError, match="needs a dual"):
        DualCoordinateAscent().minimise(Objective(Z, y, 3, by_name("hinge"), 0.1))
    with pytest.raises(InputError, match="gap is 0"):
        fit_hinge(Z, y, 3, l2=0.1, gap=0.0)
    Z[3, 1] = np.nan
    with pytest.raises(InputError, match="row 3, column 1"):
        fit_hinge(Z, y, 3, l2=0.1)


def test_the_best_bias_is_least_of_all_kinks():
    rng = np.random.default_rng(0)
    for _ in range(20):
        z, t, c = rng.standard_normal(9), np.where(rng.random(9) < 0.4, 1.0, -1.0), rng.random(9)
        losses = [(c * np.maximum(0.0, 1.0 - t * (z + b))).sum() for b in (best_bias(z, t, c), *(t - z))]
        assert losses[0] <= min(losses) + 1e-12


@pytest.mark.parametrize("intercept", [True, False])
def test_newtons_method_meets_the_conditions_of_the_optimum(intercept):
    rng = np.random.default_rng(0)
    X, t = rng.standard_normal((60, 8)), np.where(np.arange(60) % 3, 1.0, -1.0)
    A = X * t[:, None]
    q = Quadratic(A @ A.T, -np.ones(60), t, np.full(60, 0.3), 0.5 if intercept else 0.0, intercept)
    a, bias = polish(q, np.zeros(60), 0.0, 1e-12)
    slope = q.Q @ a + q.linear + (bias * t if intercept else 0.0)
    inside = (a > 1e-9) & (a < 0.3 - 1e-9)
    assert inside.any()
    assert np.abs(slope[inside]).max() < 1e-6
    assert slope[a <= 1e-9].min() > -1e-6
    assert slope[a >= 0.3 - 1e-9].max() < 1e-6
    if intercept:
        assert t @ a == pytest.approx(0.5, abs=1e-8)
