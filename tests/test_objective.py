"""The objective: derivatives, weights, centring, lines, and the same bits on any number of threads."""

from __future__ import annotations

import numpy as np
import pytest

from lastlayer._arrays import InputError
from lastlayer.linear import single_blas_thread
from lastlayer.losses import LOSSES, by_name
from lastlayer.objective import Objective
from lastlayer.objective.terms import CompiledTerms, PlainTerms
from lastlayer.solvers import check_gradient

SMOOTH = sorted(name for name, loss in LOSSES.items() if loss.is_smooth)
WITH_GRADIENT = sorted(name for name, loss in LOSSES.items() if loss.has_gradient)


def problem(n: int = 40, d: int = 5, k: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) + np.arange(d), rng.integers(0, k, n)


def some_params(d: int = 5, k: int = 3, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((d + 1, k))


def direct(Z: np.ndarray, y: np.ndarray, name: str, l2: float, W: np.ndarray, b: np.ndarray, s: np.ndarray) -> float:
    """J as the equation reads."""
    return float(s @ by_name(name).values(Z @ W + b, y) / s.sum() + 0.5 * l2 * (W**2).sum())


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("intercept", [True, False])
def test_gradient_is_the_derivative(name: str, weighted: bool, intercept: bool) -> None:
    Z, y = problem()
    weights = np.random.default_rng(2).random(40) if weighted else None
    J = Objective(Z, y, 3, by_name(name), 0.3, weights, intercept=intercept)
    params = some_params()
    indices = None if intercept else [(i, j) for i in range(5) for j in range(3)]
    table = check_gradient(J, params, indices)
    assert table.right, str(table)
    if not intercept:
        np.testing.assert_array_equal(J.at(params).gradient[-1], 0)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_value_is_the_equation(name: str) -> None:
    Z, y = problem()
    s = np.random.default_rng(2).random(40)
    J = Objective(Z, y, 3, by_name(name), 0.3, s)
    params = some_params()
    W, b = J.to_outside(params)
    assert J.value(params) == pytest.approx(direct(Z, y, name, 0.3, W, b, s), rel=1e-12)
    np.testing.assert_allclose(J.to_inside(W, b), params, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", SMOOTH)
def test_line_agrees_with_points_on_it(name: str) -> None:
    Z, y = problem()
    J = Objective(Z, y, 3, by_name(name), 0.3, np.random.default_rng(2).random(40))
    params, direction = some_params(), some_params(seed=5)
    point = J.at(params)
    line = point.line(direction)
    h = 1e-4
    for step in (0.0, 1.0, -0.7, 2.5):
        here = line.evaluate(step)
        there = J.at(params + step * direction)
        assert here.value == pytest.approx(there.value, rel=1e-12)
        assert here.slope == pytest.approx(float(np.vdot(there.gradient, direction)), rel=1e-9, abs=1e-12)
        if name != "squared_hinge":
            slopes = [line.evaluate(step + e).slope for e in (h, -h)]
            assert here.curvature == pytest.approx((slopes[0] - slopes[1]) / (2 * h), rel=1e-5)


def test_moving_along_a_line_keeps_the_scores_right() -> None:
    Z, y = problem()
    J = Objective(Z, y, 3, by_name("cross_entropy"), 0.1)
    begin = J.at(some_params())
    begin_value = begin.value
    direction = some_params(seed=5)
    point = begin.line(direction).move(0.5)
    fresh = J.at(some_params() + 0.5 * direction)
    assert point.value == pytest.approx(fresh.value, rel=1e-13)
    np.testing.assert_allclose(point.gradient, fresh.gradient, atol=1e-13)
    np.testing.assert_allclose(point.scores, fresh.scores, atol=1e-12)
    # the point left behind gave its scores away, and makes new ones when it is asked
    assert begin.value == begin_value
    np.testing.assert_allclose(begin.scores, J.scores(some_params()), atol=1e-13)


def test_another_l2_at_the_same_point_costs_no_pass() -> None:
    Z, y = problem()
    J = Objective(Z, y, 3, by_name("cross_entropy"), 0.1)
    point = J.at(some_params())
    assert point.value
    before = J.passes
    other = J.with_l2(0.7)
    there = point.under(other)
    fresh = Objective(Z, y, 3, by_name("cross_entropy"), 0.7).at(some_params())
    assert there.value == pytest.approx(fresh.value, rel=1e-13)
    np.testing.assert_allclose(there.gradient, fresh.gradient, atol=1e-13)
    assert J.passes == other.passes == before


def test_passes_count_products() -> None:
    Z, y = problem()
    J = Objective(Z, y, 3, by_name("cross_entropy"), 0.1)
    point = J.at(some_params())
    assert J.passes == 0.5
    assert point.value
    assert J.passes == 1.0
    line = point.line(some_params(seed=5))
    line.evaluate(1.0), line.evaluate(0.3)
    assert J.passes == 2.0, "forward, and backward in the hope that the step is 1"
    point = line.move(0.3)
    assert point.gradient is not None
    assert J.passes == 2.5, "the hope was in vain"
    line = point.line(some_params(seed=5))
    assert J.passes == 3.0, "after a step that was not 1 there is no hope"
    point = line.move(1.0)
    assert point.gradient is not None
    assert J.passes == 3.5
    assert point.line(some_params(seed=6)).move(1.0).gradient is not None
    assert J.passes == 4.5
    assert J.at(J.start()).value, "the start needs no forward product"
    assert J.passes == 5.0


@pytest.mark.parametrize("name", WITH_GRADIENT)
def test_weight_two_is_the_row_twice(name: str) -> None:
    Z, y = problem()
    weights = np.random.default_rng(3).integers(0, 4, 40)
    weighted = Objective(Z, y, 3, by_name(name), 0.1, weights)
    repeated = Objective(np.repeat(Z, weights, axis=0), np.repeat(y, weights), 3, by_name(name), 0.1)
    W, b = some_params()[:-1], some_params()[-1]
    value, gradient = weighted.value_and_gradient(weighted.to_inside(W, b))
    again, gradient_again = repeated.value_and_gradient(repeated.to_inside(W, b))
    assert value == pytest.approx(again, rel=1e-12)
    np.testing.assert_allclose(gradient, gradient_again, atol=1e-12)


def test_weight_zero_is_the_row_removed_to_the_bit() -> None:
    Z, y = problem()
    weights = np.ones(40)
    weights[[3, 17]] = 0
    Z[3] = 1e30  # not even looked at
    kept = np.flatnonzero(weights)
    a = Objective(Z, y, 3, by_name("cross_entropy"), 0.1, weights)
    b = Objective(Z[kept], y[kept], 3, by_name("cross_entropy"), 0.1)
    np.testing.assert_array_equal(a.at(some_params()).gradient, b.at(some_params()).gradient)


@pytest.mark.parametrize("factor", [2.0**40, 1e-300, 1e300, 1 / 3])
def test_scaling_all_weights_changes_nothing(factor: float) -> None:
    Z, y = problem()
    weights = np.random.default_rng(3).random(40) + 0.1
    a = Objective(Z, y, 3, by_name("cross_entropy"), 0.1, weights).at(some_params())
    b = Objective(Z, y, 3, by_name("cross_entropy"), 0.1, weights * factor).at(some_params())
    np.testing.assert_allclose(a.gradient, b.gradient, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.r_[np.ones(39), np.nan], "weight nan in row 39"),
        (np.r_[np.inf, np.ones(39)], "weight inf in row 0"),
        (np.r_[np.ones(7), -1, np.ones(32)], "-1.0 in row 7 is negative"),
        (np.zeros(40), "all sample weights are zero"),
        (np.ones(39), r"shape \(39,\); \(40,\) is needed"),
    ],
)
def test_impossible_weights_are_refused_by_name(weights: np.ndarray, message: str) -> None:
    Z, y = problem()
    with pytest.raises(InputError, match=message):
        Objective(Z, y, 3, by_name("cross_entropy"), 0.1, weights)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": np.arange(40)}, r"label 3 in row 3 is outside 0..2"),
        ({"y": np.zeros(40)}, "integers are needed"),
        ({"y": np.zeros(39, int)}, "40 rows of features but 39 labels"),
        ({"n_classes": 1, "y": np.zeros(40, int)}, "at least two"),
        ({"l2": -1.0}, "l2 is -1"),
        ({"l2": np.nan}, "l2 is nan"),
        ({"Z": np.zeros((40, 0))}, "at least one row and one column"),
        ({"Z": np.zeros(40)}, "is needed"),
        ({"Z": np.full((40, 5), "a")}, "real numbers"),
        ({"y": np.zeros((40, 2))}, "needs class labels"),
    ],
)
def test_impossible_input_is_refused(change: dict, message: str) -> None:
    Z, y = problem()
    given = {"Z": Z, "y": y, "n_classes": 3, "loss": by_name("cross_entropy"), "l2": 0.1} | change
    with pytest.raises(InputError, match=message):
        Objective(**given)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_nan_and_infinity_are_named_by_row_and_column(value: float, dtype: type) -> None:
    Z, y = problem(5000)
    Z = Z.astype(dtype)
    Z[4321, 2] = value
    with pytest.raises(InputError, match="row 4321, column 2"):
        Objective(Z, y, 3, by_name("cross_entropy"), 0.1)


@pytest.mark.parametrize("power", [100, -100])
def test_ranges_beyond_squaring_are_refused_at_once(power: int) -> None:
    Z, y = problem()
    Z[:, 3] *= 10.0**power
    with pytest.raises(InputError, match=r"column 3 .* Scale that column"):
        Objective(Z, y, 3, by_name("cross_entropy"), 0.1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("intercept", [True, False])
def test_shifted_and_scaled_columns_keep_the_equation(dtype: type, intercept: bool) -> None:
    Z, y = problem(3000)
    Z = (Z * np.array([1e9, 1e-9, 1, 1, 1]) + (np.array([0, 0, 1e4, 0, 3e5]) if intercept else 0)).astype(dtype)
    Z[:, 3] = 7  # constant
    J = Objective(Z, y, 3, by_name("cross_entropy"), 1e-3, intercept=intercept)
    assert J.examples.rows.scale is not None
    params = some_params()
    if not intercept:
        params[-1] = 0
    W, b = J.to_outside(params)
    exact = Z.astype(np.longdouble) @ W.astype(np.longdouble)
    exact += -(Z.astype(np.longdouble).mean(axis=0) @ W) + params[-1] if intercept else 0.0
    if intercept:
        np.testing.assert_allclose(J.scores(params).T, (exact).astype(float), atol=1e-4, rtol=1e-4)
    else:
        np.testing.assert_allclose(J.scores(params).T, exact.astype(float), rtol=1e-9, atol=1e-9)
    assert np.isfinite(b).all()
    assert check_gradient(J, params, [(0, 0), (1, 1), (2, 2), (4, 0)], tolerance=1e-4).right


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.bool_, np.float16, np.int64])
def test_other_types_equal_floats(dtype: type) -> None:
    rng = np.random.default_rng(0)
    Z = rng.integers(0, 2 if dtype is np.bool_ else 100, (60, 5)).astype(dtype)
    y = rng.integers(0, 3, 60)
    a = Objective(Z, y, 3, by_name("cross_entropy"), 0.1).at(some_params())
    b = Objective(Z.astype(np.float64), y, 3, by_name("cross_entropy"), 0.1).at(some_params())
    np.testing.assert_array_equal(a.gradient, b.gradient)


@pytest.mark.parametrize("name", WITH_GRADIENT)
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_same_bits_for_any_number_of_threads(name: str, dtype: type) -> None:
    rng = np.random.default_rng(0)
    n, d, k = 40_000, 30, 4
    Z = (rng.random((n, d)) * 255).astype(dtype)
    y = rng.integers(0, k, n)
    weights = rng.random(n)
    seen = set()
    with single_blas_thread():
        for threads in (1, 2, 3, 16):
            J = Objective(Z, y, k, by_name(name), 1e-3, weights, threads)
            assert J.examples.rows.dtype == np.float32
            point = J.at(some_params(d, k) / 255)
            here = point.line(-point.gradient).evaluate(0.37)
            seen.add((point.gradient.tobytes(), point.value, tuple(here), J.examples.second_moments().tobytes()))
    assert len(seen) == 1


def test_readonly_strided_fortran_and_memmap_features(tmp_path) -> None:  # type: ignore[no-untyped-def]
    Z, y = problem()
    expected = Objective(Z, y, 3, by_name("cross_entropy"), 0.1).at(some_params()).gradient
    frozen = Z.copy()
    frozen.flags.writeable = False
    np.save(tmp_path / "z.npy", Z)
    for given in (
        frozen,
        np.asfortranarray(Z),
        np.repeat(Z, 2, axis=0)[::2],
        np.load(tmp_path / "z.npy", mmap_mode="r"),
    ):
        gradient = Objective(given, y, 3, by_name("cross_entropy"), 0.1).at(some_params()).gradient
        np.testing.assert_array_equal(gradient, expected)


def test_curvature_bound_bounds_the_hessian() -> None:
    Z, y = problem()
    for name in SMOOTH:
        J = Objective(Z, y, 3, by_name(name), 0.05)
        bound = J.curvature_bound()
        largest = 0.0
        for seed in range(30):
            direction = some_params(seed=seed)
            direction /= np.linalg.norm(direction)
            largest = max(largest, J.at(0.01 * some_params()).line(direction).evaluate(0.0).curvature)
        assert largest <= bound
        assert bound <= 60 * largest


def test_norm_is_one_at_the_start_and_free_of_units() -> None:
    Z, y = problem()
    for factor in (1.0, 1e8, 1e-8):
        J = Objective(Z * factor, y, 3, by_name("cross_entropy"), 0.0)
        assert J.norm(J.at(J.start()).gradient) == pytest.approx(1.0)
    flat = Objective(np.full((40, 5), 3.0), y, 3, by_name("cross_entropy"), 0.0)
    assert flat.norm(flat.at(flat.start()).gradient) < 1e-10, "constant columns say nothing: the start is the optimum"


def test_rows_taken_for_the_perceptron_are_centred() -> None:
    Z, y = problem()
    Z[:, 2] = 4
    X, labels, weights = Objective(Z, y, 3, by_name("perceptron"), 0.0).take(np.array([5, 1]))
    expected = (Z - Z.mean(axis=0))[[5, 1]]
    np.testing.assert_allclose(X[:, :-1], expected, atol=1e-12)
    np.testing.assert_array_equal(X[:, -1], 1)
    np.testing.assert_array_equal(labels, y[[5, 1]])
    np.testing.assert_array_equal(weights, 1)


@pytest.mark.parametrize("name", ["cross_entropy", "squared_hinge", "squared"])
@pytest.mark.parametrize("intercept", [True, False])
def test_hessian_products_and_batches(name: str, intercept: bool) -> None:
    rng = np.random.default_rng(3)
    Z = rng.normal(size=(60, 5)) * [1, 2, 0.5, 1, 1] + [0, 3, 0, 0, 1]
    Z[:, 3] = 2.0
    y, weights = rng.integers(0, 3, 60), rng.uniform(0.2, 2.0, 60)
    problem = Objective(Z, y, 3, by_name(name), 0.1, weights, 1, intercept)
    params = problem.at(rng.normal(size=(6, 3))).params * 0.3
    V = rng.normal(size=(6, 3))
    V[3] = 0.0
    V[-1] *= intercept
    point = problem.at(params)
    h = 1e-5
    differences = (problem.at(params + h * V).gradient - problem.at(params - h * V).gradient) / (2 * h)
    np.testing.assert_allclose(point.hessian_times(V), differences, atol=1e-6)
    params[3] = 0.0
    params[-1] *= intercept
    value, gradient = problem.batch(params, np.arange(60))
    whole = problem.at(params)
    assert value == pytest.approx(whole.value, rel=1e-12)
    if intercept:
        np.testing.assert_allclose(gradient, whole.gradient, atol=1e-12)
    halves = [problem.batch(params, np.arange(60)[half]) for half in (slice(0, 30), slice(30, 60))]
    assert np.mean([v for v, _ in halves]) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_classes", [2, 5, 10, 60])
@pytest.mark.parametrize("name", ["cross_entropy", "squared_hinge", "squared"])
def test_compiled_loops_agree_with_numpy(name: str, n_classes: int, weighted: bool) -> None:
    rng = np.random.default_rng(n_classes)
    n, d = 4099, 1025  # leaves, rows and columns that do not divide evenly
    Z = rng.random((n, d), dtype=np.float32)
    y = rng.integers(0, n_classes, n)
    weights = rng.uniform(0.0, 2.0, n) if weighted else None
    J = Objective(Z, y, n_classes, by_name(name), 1e-3, weights, 2)
    assert isinstance(J.terms, CompiledTerms)
    exact = Objective(Z.astype(np.float64), y, n_classes, by_name(name), 1e-3, weights, 2)
    assert isinstance(exact.terms, PlainTerms)
    params, V = rng.normal(size=(2, d + 1, n_classes)) * 0.05
    for step in (1.0, 0.4):
        point, other = J.at(params.copy()), exact.at(params.copy())
        assert point.value == pytest.approx(other.value, rel=1e-6)
        np.testing.assert_allclose(point.gradient, other.gradient, atol=2e-5 * np.abs(other.gradient).max())
        line, right = point.line(V), other.line(V)
        for t in (1.0, 0.25):
            np.testing.assert_allclose(line.evaluate(t), right.evaluate(t), rtol=1e-4)
        moved, reference = line.move(step), right.move(step)
        assert moved.value == pytest.approx(reference.value, rel=1e-6)
        np.testing.assert_allclose(moved.gradient, reference.gradient, atol=2e-5 * np.abs(reference.gradient).max())
        again, further = moved.line(-V), reference.line(-V)
        np.testing.assert_allclose(again.evaluate(1.0), further.evaluate(1.0), rtol=1e-4)
        np.testing.assert_allclose(moved.scores, reference.scores, atol=1e-4)


@pytest.mark.parametrize("name", ["cross_entropy", "squared_hinge"])
def test_compiled_loops_pick_the_rows_of_a_part(name: str) -> None:
    rng = np.random.default_rng(7)
    Z, y = rng.random((9000, 530), dtype=np.float32), rng.integers(0, 4, 9000)
    chosen = np.sort(rng.choice(9000, 8101, replace=False))
    weights = rng.uniform(0.5, 2.0, len(chosen))
    params, V = rng.normal(size=(2, 531, 4)) * 0.05
    found = []
    for features in (Z, Z.astype(np.float64)):
        whole = Objective(features, y, 4, by_name(name), 1e-3, None, 2)
        part = whole.part(chosen, weights)
        assert isinstance(part.terms, CompiledTerms) == (features is Z)
        point = part.at(params)
        line = point.line(V)
        moved = line.move(0.5)
        moved.gradient  # noqa: B018  # the scores now wait for half a step
        scores = moved.scores.copy()
        again = moved.line(-V)
        found.append((
            np.r_[line.evaluate(1.0), line.evaluate(0.5), again.evaluate(1.0)], scores,
            part.at(params).hessian_times(V), moved.gradient, part.value(params),
        ))  # fmt: skip
    for mine, exact in zip(*found):
        np.testing.assert_allclose(mine, exact, rtol=1e-4, atol=2e-5 * np.abs(exact).max())


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
@pytest.mark.parametrize("n_classes", [3, 60])
def test_compiled_loops_give_the_same_bits_for_any_number_of_threads(dtype: str, n_classes: int) -> None:
    rng = np.random.default_rng(5)
    Z = (rng.random((9000, 520)) * 255).astype(dtype)
    y = rng.integers(0, n_classes, 9000)
    params = rng.normal(size=(521, n_classes)) * 1e-3
    results = []
    for threads in (1, 2, 3, 16):
        J = Objective(Z, y, n_classes, by_name("cross_entropy"), 1e-3, None, threads)
        assert isinstance(J.terms, CompiledTerms)
        with single_blas_thread():
            line = J.at(params).line(params)
            point = line.move(1.0)
            results.append((point.value, point.gradient, line.evaluate(0.5)))
    for value, gradient, half in results[1:]:
        assert value == results[0][0]
        assert half == results[0][2]
        np.testing.assert_array_equal(gradient, results[0][1])


def test_the_exponential_of_the_loops() -> None:
    from lastlayer.losses.kernels import exp_below_one

    x = -np.geomspace(1e-8, 86.0, 20_000).astype(np.float32)
    ours = np.array([exp_below_one(v) for v in x])
    np.testing.assert_allclose(ours, np.exp(x.astype(np.float64)), rtol=3e-7)
    assert exp_below_one(np.float32(0.0)) == 1.0
    assert 0.0 <= exp_below_one(np.float32(-1e30)) < 1e-37
