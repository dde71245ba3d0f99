"""`fit_linear`: the optimum, whatever the data look like; or a refusal with a name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.svm import LinearSVC

from lastlayer._arrays import InputError
from lastlayer.losses import by_name
from lastlayer.objective import Objective
from lastlayer.selection import LinearFit, fit_linear
from lastlayer.solvers import StopReason

SMOOTH = ["cross_entropy", "squared", "squared_hinge"]


def data(n: int = 60, d: int = 5, k: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Classes that overlap, so that an optimum exists without a penalty too."""
    rng = np.random.default_rng(seed)
    Z = rng.standard_normal((n, d))
    return Z, (Z @ rng.standard_normal((d, k)) + 1.5 * rng.standard_normal((n, k))).argmax(axis=1)


def centred(Z: np.ndarray, y: np.ndarray, loss: str, l2: float, W: np.ndarray, b: np.ndarray) -> float:
    """J in float64 about the columns' means, so that large offsets lose no digits here."""
    Z = Z.astype(np.float64)
    mean = Z.mean(axis=0)
    scores = (Z - mean) @ W + (b + mean @ W)
    return float(by_name(loss).values(scores, y).mean() + 0.5 * l2 * (W**2).sum())


def newton(Z: np.ndarray, y: np.ndarray, k: int, l2: float) -> float:
    """Least cross-entropy by Newton's method on standardised columns, the penalty in the units as given."""
    Z = Z.astype(np.float64)
    middle = Z.min(axis=0) / 2 + Z.max(axis=0) / 2
    size = (Z - middle).std(axis=0)
    size[size == 0] = 1
    A = (Z - middle) / size
    A -= A.mean(axis=0)
    B = np.column_stack([A, np.ones(len(A))])
    price = np.r_[np.repeat(l2 / size**2, k), np.zeros(k)]
    target = np.eye(k)[y]

    def value(x: np.ndarray) -> tuple[float, np.ndarray]:
        z = B @ x.reshape(-1, k)
        top = z.max(axis=1, keepdims=True)
        e = np.exp(z - top)
        total = e.sum(axis=1, keepdims=True)
        losses = (np.log(total) + top)[:, 0] - (z * target).sum(axis=1)
        return float(losses.mean() + 0.5 * price @ x**2), e / total

    x = np.zeros(B.shape[1] * k)
    for _ in range(200):
        now, P = value(x)
        gradient = (B.T @ (P - target)).ravel() / len(y) + price * x
        H = np.einsum("ia,ib,ijk->ajbk", B, B, np.einsum("ij,jk->ijk", P, np.eye(k)) - P[:, :, None] * P[:, None, :])
        H = H.reshape(len(x), len(x)) / len(y) + np.diag(price)
        scale = 1 / np.sqrt(np.maximum(H.diagonal(), 1e-300))
        move = scale * (np.linalg.pinv(H * np.outer(scale, scale), rcond=1e-12, hermitian=True) @ (scale * gradient))
        step = 1.0
        while value(x - step * move)[0] > now and step > 1e-8:
            step /= 2
        x = x - step * move
        if gradient @ move < 1e-26:
            break
    return value(x)[0]


def gap(Z: np.ndarray, y: np.ndarray, l2: float, fit: LinearFit) -> float:
    best = newton(Z, y, 3, l2)
    return (centred(Z, y, "cross_entropy", l2, fit.weights, fit.bias) - best) / best


def column(j: int, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    def apply(Z: np.ndarray) -> np.ndarray:
        Z = Z.copy()
        Z[:, j] = change(Z)
        return Z

    return apply


CASES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "plain": lambda Z: Z,
    "constant": column(2, lambda Z: 3.0),
    "duplicated": column(2, lambda Z: Z[:, 1]),
    "collinear": column(2, lambda Z: Z[:, 0] + Z[:, 1]),
    "zero column": column(2, lambda Z: 0.0),
    "all zero": lambda Z: 0 * Z,
    "offset 1e4 on one": column(0, lambda Z: Z[:, 0] + 1e4),
    "offset 1e6": lambda Z: Z + 1e6,
    "scale 1e6": lambda Z: Z * 1e6,
    "scale 1e-6": lambda Z: Z * 1e-6,
    "scale 1e-30": lambda Z: Z * 1e-30,
    "scale 1e30": lambda Z: Z * 1e30,
    "mixed scales": lambda Z: Z * np.array([1e6, 1e-6, 1, 1e3, 1e-3]),
    "scale and offset": lambda Z: 30 * Z + 1000,
    "outlier": column(0, lambda Z: np.where(np.arange(len(Z)) == 5, 1e5, Z[:, 0])),
}


@pytest.mark.parametrize("case", sorted(CASES))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("l2", [1e-2, 1e-8])
def test_gap_to_the_optimum(case: str, dtype: type, l2: float) -> None:
    Z, y = data()
    Z = CASES[case](Z).astype(dtype)
    fit = fit_linear(Z, y, 3, l2=l2, tol=1e-9)
    assert fit.solution.stop_reason is StopReason.CONVERGED
    assert gap(Z, y, l2, fit) <= 1e-8
    assert fit.solution.iterations <= 160


def test_the_cases_catch_a_solver_without_centring() -> None:
    """scikit-learn's lbfgs, however tight: the comparison above would fail for it."""
    Z, y = data()
    far = Z + 1e6
    theirs = LogisticRegression(C=1 / (60 * 1e-2), tol=1e-10, max_iter=10_000).fit(far, y)
    best = newton(far, y, 3, 1e-2)
    assert (centred(far, y, "cross_entropy", 1e-2, theirs.coef_.T, theirs.intercept_) - best) / best > 1e-4


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_offset_of_1e12_is_solved_inside(dtype: type) -> None:
    """float64 cannot hold the bias that such an offset asks for; the objective inside is exact all the same."""
    Z, y = data()
    far = (Z + 1e12).astype(dtype)
    fit = fit_linear(far, y, 3, l2=1e-2, tol=1e-9)
    best = newton(far, y, 3, 1e-2)
    assert (fit.solution.value - best) / best == pytest.approx(0, abs=1e-8)
    assert gap(far, y, 1e-2, fit) <= 1e-6


def test_float32_products_on_many_rows() -> None:
    Z, y = data(40_000, 30)
    Z = Z.astype(np.float32) * 3 + 5
    fit = fit_linear(Z, y, 3, l2=1e-4, tol=1e-5)
    exact = fit_linear(Z.astype(np.float64), y, 3, l2=1e-4, tol=1e-10)
    assert fit.solution.stop_reason.converged
    price = centred(Z, y, "cross_entropy", 1e-4, fit.weights, fit.bias)
    assert price <= exact.solution.value * (1 + 1e-8)
    uint8 = np.clip(Z * 10, 0, 255).astype(np.uint8)
    a, b = (fit_linear(given, y, 3, l2=1e-4, tol=1e-6) for given in (uint8, uint8.astype(np.float64)))
    prices = [centred(uint8, y, "cross_entropy", 1e-4, f.weights, f.bias) for f in (a, b)]
    assert prices[0] == pytest.approx(prices[1], rel=1e-8)


@pytest.mark.parametrize("loss", ["cross_entropy", "squared"])
@pytest.mark.parametrize("l2", [1e-3, 1e-9])
def test_moments_kept_in_float32_change_the_way_but_not_the_optimum(
    loss: str, l2: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    Z, y = data(40_000, 30)
    Z = (Z * np.geomspace(1, 1e-2, 30)).astype(np.float32)
    Z[:, 7] = Z[:, 6]
    usual = fit_linear(Z, y, 3, loss, l2=l2, tol=1e-5)
    monkeypatch.setattr("lastlayer.linear.rows.WIDE", 16)
    monkeypatch.setattr("lastlayer.selection.inverses.WIDE", 16)
    wide = fit_linear(Z, y, 3, loss, l2=l2, tol=1e-5)
    assert wide.solution.stop_reason.converged
    assert wide.solution.value == pytest.approx(usual.solution.value, rel=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_agrees_with_scikit_learn(weighted: bool) -> None:
    Z, y = data(200)
    s = np.random.default_rng(1).random(200) + 0.1 if weighted else np.ones(200)
    theirs = LogisticRegression(C=1 / (s.sum() * 1e-2), tol=1e-12, max_iter=10_000).fit(Z, y, s)
    ours = fit_linear(Z, y, 3, l2=1e-2, sample_weight=s, tol=1e-10)
    J = Objective(Z, y, 3, by_name("cross_entropy"), 1e-2, s)
    at_theirs = J.value(J.to_inside(theirs.coef_.T, theirs.intercept_))
    assert ours.solution.value == pytest.approx(at_theirs, rel=1e-9)
    assert ours.solution.value <= at_theirs * (1 + 1e-12)
    np.testing.assert_allclose(ours.weights, theirs.coef_.T, atol=1e-4)


def test_two_class_softmax_is_the_logistic_model_at_twice_the_penalty() -> None:
    Z, y = data(200, k=2)
    theirs = LogisticRegression(C=1 / (200 * 1e-2), tol=1e-12, max_iter=10_000).fit(Z, y)
    ours = fit_linear(Z, y, 2, l2=2e-2, tol=1e-10)
    np.testing.assert_allclose(ours.weights[:, 1] - ours.weights[:, 0], theirs.coef_[0], atol=1e-5)
    assert ours.bias[1] - ours.bias[0] == pytest.approx(theirs.intercept_[0], abs=1e-5)
    np.testing.assert_allclose(ours.weights.sum(axis=1), 0, atol=1e-9)


def test_squared_loss_agrees_with_scikit_learn() -> None:
    Z, y = data(200)
    Z = Z * [1, 100, 0.01, 1, 1] + 50
    theirs = RidgeClassifier(alpha=200 * 1e-2, solver="svd").fit(Z, y)
    ours = fit_linear(Z, y, 3, "squared", l2=1e-2, tol=1e-12)
    assert ours.solver == "closed_form"
    assert ours.solution.stop_reason is StopReason.EXACT
    np.testing.assert_allclose(2 * ours.weights, theirs.coef_.T, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(2 * ours.bias - 1, theirs.intercept_, rtol=1e-9)


def test_real_targets_are_linear_regression() -> None:
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((80, 4)) + 3
    t = Z @ rng.standard_normal((4, 1)) + 7 + rng.standard_normal((80, 1))
    ours = fit_linear(Z, t, 1, "squared", l2=0.0, tol=1e-12)
    theirs = LinearRegression().fit(Z, t)
    np.testing.assert_allclose(ours.weights.T, theirs.coef_, rtol=1e-10)
    np.testing.assert_allclose(ours.bias, theirs.intercept_, rtol=1e-10)


def test_collinear_columns_without_penalty_give_the_minimum_norm() -> None:
    Z, y = data()
    Z = np.column_stack([Z, Z[:, 0]])
    for loss in ("squared", "cross_entropy"):
        fit = fit_linear(Z, y, 3, loss, l2=0.0, tol=1e-10)
        np.testing.assert_allclose(fit.weights[0], fit.weights[-1], atol=1e-6)
        assert fit.solution.stop_reason.converged


def test_squared_hinge_agrees_with_liblinear() -> None:
    Z, y = data(200)
    l2 = 1e-2
    # LIBLINEAR penalises its bias; a large intercept_scaling makes that price small
    theirs = LinearSVC(C=1 / (200 * l2), tol=1e-10, max_iter=100_000, dual=False, intercept_scaling=1e3).fit(Z, y)
    ours = fit_linear(Z, y, 3, "squared_hinge", l2=l2, tol=1e-10)
    J = Objective(Z, y, 3, by_name("squared_hinge"), l2)
    assert ours.solution.value <= J.value(J.to_inside(theirs.coef_.T, theirs.intercept_)) * (1 + 1e-12)
    np.testing.assert_allclose(ours.weights, theirs.coef_.T, atol=1e-3)


@pytest.mark.parametrize("loss", SMOOTH)
def test_gradient_descent_arrives_at_the_same_optimum(loss: str) -> None:
    Z, y = data()
    fast = fit_linear(Z, y, 3, loss, l2=1e-1, tol=1e-8)
    slow = fit_linear(Z, y, 3, loss, l2=1e-1, tol=1e-8, solver="gradient_descent", max_iter=5000)
    assert slow.solution.stop_reason is StopReason.CONVERGED
    assert slow.solution.value == pytest.approx(fast.solution.value, rel=1e-10)
    assert slow.solution.passes > fast.solution.passes


def test_hinge_comes_close_by_subgradients_and_does_not_claim_more() -> None:
    Z, y = data(200)
    fit = fit_linear(Z, y, 3, "hinge", l2=1e-2, max_iter=3000, solver="gradient_descent")
    exact = fit_linear(Z, y, 3, "hinge", l2=1e-2, tol=1e-6)
    theirs = LinearSVC(C=1 / (200 * 1e-2), loss="hinge", tol=1e-8, max_iter=500_000, intercept_scaling=10).fit(Z, y)
    J = Objective(Z, y, 3, by_name("hinge"), 1e-2)
    best = J.value(J.to_inside(exact.weights, exact.bias))
    assert exact.solver in ("dual", "interior_point") and exact.solution.stop_reason.converged
    assert best <= (1 + 1e-6) * J.value(J.to_inside(theirs.coef_.T, theirs.intercept_))
    assert not fit.solution.stop_reason.converged
    assert best <= (1 + 1e-6) * fit.solution.value <= 1.01 * best
    assert fit_linear(Z, y, 3, "hinge", l2=0.0, max_iter=3).solver == "gradient_descent"


@pytest.mark.parametrize("loss", SMOOTH)
@pytest.mark.parametrize("intercept", [True, False])
def test_weight_two_is_the_row_twice(loss: str, intercept: bool) -> None:
    Z, y = data(300, k=4)
    weights = np.random.default_rng(2).integers(0, 6, 300)
    shared = {"l2": 1e-3, "tol": 1e-11, "fit_intercept": intercept}
    a = fit_linear(Z, y, 4, loss, sample_weight=weights, **shared)
    order = np.random.default_rng(3).permutation(int(weights.sum()))
    b = fit_linear(np.repeat(Z, weights, axis=0)[order], np.repeat(y, weights)[order], 4, loss, **shared)
    c = fit_linear(Z, y, 4, loss, sample_weight=weights * 0.3, **shared)
    for other in (b, c):
        np.testing.assert_allclose(a.weights, other.weights, atol=1e-8)
        np.testing.assert_allclose(a.bias, other.bias, atol=1e-8)


@pytest.mark.parametrize("loss", SMOOTH)
def test_permutations_carry_through(loss: str) -> None:
    Z, y = data(300, k=4)
    rng = np.random.default_rng(5)
    rows, columns, classes = rng.permutation(300), rng.permutation(5), rng.permutation(4)
    a = fit_linear(Z, y, 4, loss, l2=1e-2, tol=1e-11)
    b = fit_linear(Z[rows][:, columns], np.argsort(classes)[y][rows], 4, loss, l2=1e-2, tol=1e-11)
    np.testing.assert_allclose(b.weights, a.weights[columns][:, classes], atol=1e-8)
    np.testing.assert_allclose(b.bias, a.bias[classes], atol=1e-8)


@pytest.mark.parametrize("loss", [*SMOOTH, "hinge", "perceptron"])
def test_same_bits_for_any_number_of_threads(loss: str) -> None:
    Z, y = data(30_000, 40, 4)
    Z = Z.astype(np.float32)
    seen = set()
    for threads in (1, 2, 3, 16):
        l2 = 0.0 if loss == "perceptron" else 1e-3
        fit = fit_linear(Z, y, 4, loss, l2=l2, threads=threads, max_iter=3 if loss == "perceptron" else 15)
        seen.add((fit.weights.tobytes(), fit.bias.tobytes(), fit.solution.value))
    assert len(seen) == 1


def test_few_rows_of_many_columns_take_the_short_way() -> None:
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((60, 700)) * np.geomspace(1, 0.1, 700) + 2
    y = (Z[:, :3] + 0.3 * rng.standard_normal((60, 3))).argmax(axis=1)
    start = (0.1 * rng.standard_normal((700, 3)), np.ones(3))
    for loss in SMOOTH:
        fit = fit_linear(Z, y, 3, loss, l2=1e-2, tol=1e-9)
        warm = fit_linear(Z, y, 3, loss, l2=1e-2, tol=1e-9, start=start)
        J = Objective(Z, y, 3, by_name(loss), 1e-2)
        params = J.to_inside(fit.weights, fit.bias)
        assert J.norm(J.at(params).gradient) < 1e-7
        assert J.value(params) == pytest.approx(fit.solution.value, rel=1e-10)
        np.testing.assert_allclose(warm.weights, fit.weights, atol=1e-6)


def test_a_warm_start_at_the_optimum_is_converged_at_once() -> None:
    Z, y = data()
    first = fit_linear(Z, y, 3, l2=1e-2, tol=1e-8)
    again = fit_linear(Z, y, 3, l2=1e-2, tol=1e-6, start=(first.weights, first.bias))
    assert again.solution.iterations == 0
    assert again.solution.stop_reason is StopReason.CONVERGED


def test_imbalance_of_one_in_ten_thousand() -> None:
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((20_000, 3))
    y = np.zeros(20_000, int)
    y[:2] = 1
    Z[:2] += 1
    fit = fit_linear(Z, y, 2, l2=1e-3, tol=1e-8)
    theirs = LogisticRegression(C=1 / (20_000 * 5e-4), tol=1e-12, max_iter=10_000).fit(Z, y)
    np.testing.assert_allclose(fit.weights[:, 1] - fit.weights[:, 0], theirs.coef_[0], atol=1e-5)


def test_a_thousand_classes_and_one_example_each() -> None:
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((1000, 20))
    fit = fit_linear(Z, np.arange(1000), 1000, l2=1e-2, tol=1e-6)
    assert fit.solution.stop_reason.converged
    np.testing.assert_allclose(fit.weights.sum(axis=1), 0, atol=1e-6)


def test_same_rows_with_different_labels() -> None:
    Z, y = data()
    fit = fit_linear(np.r_[Z, Z, Z], np.r_[y, (y + 1) % 3, (y + 2) % 3], 3, l2=1e-3, tol=1e-9)
    np.testing.assert_allclose(fit.weights, 0, atol=1e-7)
    assert fit.solution.value == pytest.approx(np.log(3))


def test_separable_without_penalty_has_no_optimum_and_says_so() -> None:
    Z, _ = data()
    y = (Z[:, 0] > 0).astype(int) + (Z[:, 0] > 1)
    solution = fit_linear(Z, y, 3, l2=0.0).solution
    assert solution.stop_reason is StopReason.NO_OPTIMUM
    assert not solution.stop_reason.converged
    assert "separable" in solution.note
    weak = fit_linear(Z, y, 3, l2=1e-12, tol=1e-10, max_iter=50).solution
    assert weak.stop_reason in (StopReason.MAX_ITER, StopReason.PRECISION)


def test_a_class_without_rows_is_improbable_but_no_error() -> None:
    Z, y = data()
    fit = fit_linear(Z, y, 4, l2=1e-2)
    assert fit.solution.stop_reason.converged
    scores = Z @ fit.weights + fit.bias
    assert (scores[:, 3] < scores.max(axis=1) - 8).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": np.ones(60, int)}, "all rows of positive weight have class 1"),
        ({"sample_weight": np.r_[1.0, np.zeros(59)]}, "at least two classes are needed"),
        ({"loss": "log"}, "No loss is called 'log'"),
        ({"solver": "simplex"}, "No solver is called 'simplex'. There are auto, closed_form"),
        (
            {"loss": "hinge", "solver": "lbfgs"},
            "lbfgs cannot minimise the hinge loss: .*pair that works: loss squared_hinge",
        ),
        ({"loss": "cross_entropy", "solver": "closed_form"}, "closed_form cannot minimise the cross_entropy loss"),
        ({"loss": "perceptron"}, "no penalty, but l2 is 0.01"),
        ({"loss": "zero_one"}, "cannot minimise the zero_one loss"),
        ({"l2": -1.0}, "l2 is -1"),
    ],
)
def test_what_cannot_be_is_refused_by_name(change: dict, message: str) -> None:
    Z, y = data()
    given = {"y": y, "loss": "cross_entropy", "l2": 1e-2} | change
    with pytest.raises(InputError, match=message):
        fit_linear(Z, given.pop("y"), 3, given.pop("loss"), **given)


def test_no_iterations_give_the_start() -> None:
    Z, y = data()
    fit = fit_linear(Z, y, 3, l2=1e-2, max_iter=0)
    np.testing.assert_array_equal(fit.weights, 0)
    assert fit.solution.stop_reason is StopReason.MAX_ITER
    assert fit.W.dtype == fit.b.dtype == np.float32


def test_interrupt_returns_the_best_so_far() -> None:
    Z, y = data()

    def interrupt(record, params) -> bool:  # type: ignore[no-untyped-def]
        if record.iteration == 3:
            raise KeyboardInterrupt
        return False

    fit = fit_linear(Z, y, 3, l2=1e-3, tol=1e-12, callback=interrupt)
    assert fit.solution.stop_reason is StopReason.INTERRUPTED
    assert fit.solution.value < np.log(3)
    assert fit.solution.point is None, "the answer does not hold on to the data"
