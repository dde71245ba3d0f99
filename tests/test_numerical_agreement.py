"""Our optimum is no worse than scikit-learn's at its tightest, on data that are kind and on data that are not.

Values of J are compared in extended precision (`numerical_reference.price`), about the columns' middles, so that
neither side is judged by the other's rounding.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression as TheirLogistic
from sklearn.linear_model import RidgeClassifier as TheirRidge
from sklearn.svm import LinearSVC as TheirSVC

from lastlayer._arrays import InputError
from lastlayer.estimators.linear_svc import LinearSVC
from lastlayer.estimators.logistic_regression import LogisticRegression
from lastlayer.estimators.ridge_classifier import RidgeClassifier
from lastlayer.selection.fit import LinearFit, fit_linear
from numerical_reference import certified_gap, price, truth

LOSSES = ["cross_entropy", "squared_hinge", "squared"]
NO_WORSE = 1e-7
EXACT = 1e-8
Pair = tuple[np.ndarray, np.ndarray]


def data(n: int = 200, d: int = 6, k: int = 3, seed: int = 0) -> Pair:
    rng = np.random.default_rng(seed)
    Z = rng.standard_normal((n, d))
    return Z, (Z @ rng.standard_normal((d, k)) + 1.5 * rng.standard_normal((n, k))).argmax(axis=1)


def theirs(Z: np.ndarray, y: np.ndarray, loss: str, l2: float, s: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
    """scikit-learn's W (D, K) and b (K,) for our objective, at the tightest tolerance that it takes."""
    k, total = int(y.max()) + 1, float(len(y) if s is None else s.sum())
    with warnings.catch_warnings():
        # Line searches fail at these tolerances when nothing is left to gain.
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        if loss == "cross_entropy":
            # Two columns have twice the penalty of the one that their difference is.
            C = 1 / (total * (l2 / 2 if k == 2 else l2))
            model = TheirLogistic(C=C, tol=1e-14, max_iter=20_000).fit(Z, y, s)
            W, b = model.coef_.T, model.intercept_
            return (W, b) if k > 2 else (np.hstack([-W / 2, W / 2]), np.r_[-b / 2, b / 2])
        if loss == "squared":
            model = TheirRidge(alpha=total * l2, solver="svd").fit(Z, y, s)
            W, b = np.atleast_2d(model.coef_).T, np.atleast_1d(model.intercept_)
            W, b = (W, b) if k > 2 else (np.hstack([-W, W]), np.r_[-b, b])
            return W / 2, (b + 1) / 2  # targets 0 and 1 for -1 and 1
        # LIBLINEAR penalises its intercept; a large scaling makes that price small.
        svc = TheirSVC(C=1 / (total * l2), tol=1e-12, max_iter=200_000, dual=False, intercept_scaling=1e3)
        svc.fit(Z, y, s)
        W, b = svc.coef_.T, svc.intercept_
        return (W, b) if k > 2 else (np.hstack([-W, W]), np.r_[-b, b])


def ours(Z: np.ndarray, y: np.ndarray, loss: str, l2: float, s: np.ndarray | None = None) -> LinearFit:
    fit = fit_linear(Z, y, int(y.max()) + 1, loss, l2=l2, sample_weight=s, tol=1e-9)
    assert fit.solution.stop_reason.converged
    return fit


def excess(Z: np.ndarray, y: np.ndarray, loss: str, l2: float, s: np.ndarray | None = None) -> float:
    """How far our J is above scikit-learn's, relative to it; negative where ours is lower."""
    fit = ours(Z, y, loss, l2, s)
    here = price(Z, y, loss, l2, fit.weights, fit.bias, s)
    there = price(Z, y, loss, l2, *theirs(Z, y, loss, l2, s), s)
    return (here - there) / there


def column(j: int, change: Callable[[np.ndarray], np.ndarray | float]) -> Callable[[np.ndarray], np.ndarray]:
    def apply(Z: np.ndarray) -> np.ndarray:
        Z = Z.copy()
        Z[:, j] = change(Z)
        return Z

    return apply


SHAPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "plain": lambda Z: Z,
    "shifted by 1e6": lambda Z: Z + 1e6,
    "one column shifted by 1e6": column(2, lambda Z: Z[:, 2] + 1e6),
    "scale 1e6": lambda Z: Z * 1e6,
    "scale 1e-6": lambda Z: Z * 1e-6,
    "scales 1e6 and 1e-6": lambda Z: Z * np.array([1e6, 1e-6, 1.0, 1e3, 1e-3, 1.0]),
    "duplicated column": column(2, lambda Z: Z[:, 1]),
    "constant column": column(2, lambda Z: 1e3),
    "column of zeros": column(2, lambda Z: 0.0),
}


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("shape", SHAPES)
def test_no_worse_than_scikit_learn(shape: str, loss: str, k: int) -> None:
    Z, y = data(k=k)
    assert excess(SHAPES[shape](Z), y, loss, 1e-2) <= NO_WORSE


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("shape", SHAPES)
def test_at_the_optimum_of_the_reference(shape: str, loss: str) -> None:
    Z, y = data()
    Z = SHAPES[shape](Z)
    fit = ours(Z, y, loss, 1e-2)
    best = truth(Z, y, 3, loss, 1e-2).value
    assert (price(Z, y, loss, 1e-2, fit.weights, fit.bias) - best) / best <= EXACT


@pytest.mark.parametrize("loss", LOSSES)
def test_weights_and_strong_and_weak_penalties(loss: str) -> None:
    Z, y = data(k=4)
    s = np.random.default_rng(1).random(200) + 0.1
    for l2 in (1.0, 1e-6):
        assert excess(Z, y, loss, l2, s) <= NO_WORSE


def test_data_shifted_by_1e6_where_scikit_learn_is_wrong_without_a_word() -> None:
    """The comparison above can fail: scikit-learn's lbfgs, however tight, does."""
    Z, y = data(60, 5)
    far = Z + 1e6
    best = truth(far, y, 3, "cross_entropy", 1e-2).value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        their = TheirLogistic(C=1 / 0.6, tol=1e-8, max_iter=10_000).fit(far, y)
    off = (price(far, y, "cross_entropy", 1e-2, their.coef_.T, their.intercept_) - best) / best
    our = LogisticRegression(C=1 / 0.6, tol=1e-9).fit(far, y)
    ahead = (price(far, y, "cross_entropy", 1e-2, our.coef_.T, our.intercept_) - best) / best
    assert off > 1e-3
    assert ahead <= EXACT
    plain = LogisticRegression(C=1 / 0.6, tol=1e-9).fit(Z, y)
    np.testing.assert_array_equal(our.predict(far), plain.predict(Z))
    assert (their.predict(far) != plain.predict(Z)).mean() > 0.05


def test_features_beyond_what_can_be_squared_are_refused_at_once() -> None:
    """scikit-learn's LinearSVC hangs on these."""
    Z, y = data()
    for classifier in (LogisticRegression(), LinearSVC(), RidgeClassifier()):
        began = time.perf_counter()
        with pytest.raises(InputError, match=r"column 0 of the features runs from -.*e\+100 to .*e\+100"):
            classifier.fit(Z * 1e100, y)
        assert time.perf_counter() - began < 1.0


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("n", [200, 40_000])
def test_what_is_not_finite_is_refused_with_its_row_and_column(n: int, wrong: float, dtype: type) -> None:
    Z, y = data(n)
    Z = Z.astype(dtype)
    Z[n - 3, 4] = wrong
    for loss in LOSSES:
        with pytest.raises(InputError, match=f"{wrong} in row {n - 3}, column 4"):
            fit_linear(Z, y, 3, loss, l2=1e-2)


def test_a_broken_row_of_weight_zero_does_no_harm() -> None:
    Z, y = data()
    s = np.ones(200)
    s[7] = 0.0
    broken = Z.copy()
    broken[7] = np.nan
    a = fit_linear(broken, y, 3, l2=1e-2, sample_weight=s)
    b = fit_linear(np.delete(Z, 7, axis=0), np.delete(y, 7), 3, l2=1e-2)
    np.testing.assert_array_equal(a.weights, b.weights)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_products_in_float32_on_many_rows(loss: str, dtype: type) -> None:
    """More than a million numbers are multiplied as float32; the optimum is that of the same numbers in float64."""
    Z, y = data(40_000, 30, 4)
    Z = (Z * np.geomspace(1, 1e-2, 30) + np.linspace(-2, 5, 30)).astype(dtype)
    fit = fit_linear(Z, y, 4, loss, l2=1e-4, tol=1e-5)
    exact = fit_linear(Z.astype(np.float64), y, 4, loss, l2=1e-4, tol=1e-9)
    assert fit.solution.stop_reason.converged
    here, best = (price(Z, y, loss, 1e-4, f.weights, f.bias) for f in (fit, exact))
    assert (here - best) / best <= NO_WORSE


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_example_a_class_and_a_thousand_classes(dtype: type) -> None:
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((1000, 8)).astype(dtype)
    y = np.arange(1000)
    fit = fit_linear(Z, y, 1000, l2=1e-3, tol=1e-7)
    assert fit.solution.stop_reason.converged
    assert certified_gap(Z, y, "cross_entropy", 1e-3, fit.weights, fit.bias) <= EXACT


@pytest.mark.parametrize("loss", LOSSES)
def test_one_example_a_class(loss: str) -> None:
    Z, _ = data(12)
    assert excess(Z, np.arange(12), loss, 1e-2) <= NO_WORSE


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_imbalance_of_one_in_ten_thousand(loss: str, dtype: type) -> None:
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((20_000, 3))
    y = (np.arange(20_000) < 2).astype(int)
    Z[:2] += 1
    Z = Z.astype(dtype)
    fit = ours(Z, y, loss, 1e-3)
    best = truth(Z, y, 2, loss, 1e-3).value
    assert (price(Z, y, loss, 1e-3, fit.weights, fit.bias) - best) / best <= EXACT


@pytest.mark.parametrize(
    "make",
    [
        lambda total: LogisticRegression(C=100 / total, tol=1e-11),
        lambda total: LinearSVC(C=100 / total, tol=1e-11),
        lambda total: RidgeClassifier(alpha=total / 100),
    ],
    ids=["LogisticRegression", "LinearSVC", "RidgeClassifier"],
)
def test_weights_of_rows_and_classes_are_repetition(make: Callable) -> None:
    """5,000 rows, weights 0 to 5, shuffled; class weights are weights of the rows of a class."""
    Z, y = data(5000, 8, 10)
    s = np.random.default_rng(2).integers(0, 6, 5000)
    price_of = {c: 1 + c % 3 for c in range(10)}
    times = s * np.array([price_of[c] for c in y])
    order = np.random.default_rng(3).permutation(int(times.sum()))
    model = make(float(times.sum()))
    a = model.set_params(class_weight=price_of).fit(Z, y, sample_weight=s)
    b = make(float(times.sum())).fit(np.repeat(Z, times, axis=0)[order], np.repeat(y, times)[order])
    c = make(float(times.sum())).fit(Z, y, sample_weight=times.astype(float))
    for other in (b, c):
        np.testing.assert_allclose(a.coef_, other.coef_, atol=1e-8)
        np.testing.assert_allclose(a.intercept_, other.intercept_, atol=1e-8)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("constant", [0.0, 3.0, 1e6, 1e9])
def test_a_warm_start_with_weight_on_a_constant_column(loss: str, constant: float) -> None:
    """Such weight is bias by another name; the fit ends where it ends without it, and gives it up."""
    Z, y = data()
    Z[:, 2] = constant
    cold = ours(Z, y, loss, 1e-2)
    W, b = cold.weights.copy(), cold.bias.copy()
    W[2] = [5.0, -1.0, 2.0]
    warm = fit_linear(Z, y, 3, loss, l2=1e-2, tol=1e-9, start=(W, b - constant * W[2]))
    assert warm.solution.value == pytest.approx(cold.solution.value, rel=1e-9)
    np.testing.assert_array_equal(warm.weights[2], 0)
    np.testing.assert_allclose(warm.weights, cold.weights, atol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_start_worse_than_none_does_no_harm(loss: str) -> None:
    Z, y = data()
    Z[:, 2] = 1e9
    start = (1e3 * np.ones((6, 3)) * [1.0, -2.0, 1.0], np.zeros(3))
    cold, warm = (fit_linear(Z, y, 3, loss, l2=1e-2, tol=1e-9, start=s) for s in (None, start))
    np.testing.assert_array_equal(warm.weights, cold.weights)
