"""The optimum is scikit-learn's: coefficients and objective, two classes and more, weighted and not."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression as Reference
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from lastlayer import LinearClassifier, LogisticRegression

TIGHT = {"tol": 1e-11, "max_iter": 5000}


def problem(n_classes, n=120, d=6, seed=0):
    """Overlapping classes in columns of unlike scale and offset."""
    rng = np.random.default_rng(seed)
    y = rng.integers(n_classes, size=n)
    X = rng.normal(size=(n_classes, d))[y] + 1.5 * rng.normal(size=(n, d))
    return X * np.linspace(0.2, 3.0, d) + np.linspace(-2.0, 5.0, d), y, rng


def reference(**parameters):
    return Reference(solver="newton-cholesky", tol=1e-13, max_iter=1000, **parameters)


def price(model, X, y, C, weights):
    """scikit-learn's objective, ``C Σ s L + ½‖W‖²``, at the coefficients."""
    loss = log_loss(y, model.predict_proba(X), sample_weight=weights, normalize=False)
    return C * loss + 0.5 * np.sum(model.coef_.astype(float) ** 2)


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 3.0, 1: 0.2}])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_logistic_regression_is_scikit_learns(n_classes, weighted, class_weight, fit_intercept):
    X, y, rng = problem(n_classes)
    weights = rng.uniform(0.1, 5.0, size=len(y)) if weighted else None
    shared = {"C": 0.3, "fit_intercept": fit_intercept, "class_weight": class_weight}
    theirs = reference(**shared).fit(X, y, weights)
    ours = LogisticRegression(**shared, **TIGHT).fit(X, y, weights)
    assert ours.coef_.shape == theirs.coef_.shape
    assert ours.intercept_.shape == theirs.intercept_.shape
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-9)
    np.testing.assert_allclose(ours.decision_function(X), theirs.decision_function(X), rtol=1e-7, atol=1e-7)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("C", [1e-3, 1.0, 1e3])
def test_default_tolerance_leaves_no_gap_to_scikit_learns_tightest(n_classes, C):
    X, y, rng = problem(n_classes, seed=1)
    weights = rng.uniform(0.5, 2.0, size=len(y))
    theirs = price(reference(C=C).fit(X, y, weights), X, y, C, weights)
    ours = price(LogisticRegression(C=C).fit(X, y, weights), X, y, C, weights)
    assert ours <= theirs * (1 + 1e-8)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_unpenalised_three_ways(n_classes):
    X, y, _ = problem(n_classes, n=300, d=3)
    theirs = reference(C=np.inf).fit(X, y)
    for parameters in ({"C": np.inf}, {"penalty": None}, {"penalty": None, "C": 5.0}):
        ours = LogisticRegression(**parameters, **TIGHT).fit(X, y)
        np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_l2_and_C_are_the_same_strength(n_classes):
    X, y, rng = problem(n_classes)
    weights = rng.uniform(0.5, 2.0, size=len(y))
    by_C = LogisticRegression(C=0.7, **TIGHT).fit(X, y, weights)
    by_l2 = LinearClassifier(l2=1 / (0.7 * weights.sum()), **TIGHT).fit(X, y, weights)
    np.testing.assert_allclose(by_l2.coef_, by_C.coef_, rtol=1e-8)
    np.testing.assert_allclose(by_l2.predict_proba(X), by_C.predict_proba(X), rtol=1e-8)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("solver", ["auto", "lbfgs"])
def test_squared_loss_is_ridge_for_two_classes(fit_intercept, solver):
    X, y, rng = problem(2)
    weights = rng.uniform(0.5, 2.0, size=len(y))
    theirs = RidgeClassifier(alpha=0.05 * weights.sum(), fit_intercept=fit_intercept).fit(X, y, weights)
    ours = LinearClassifier("squared", solver=solver, l2=0.05, fit_intercept=fit_intercept, **TIGHT)
    ours.fit(X, y, weights)
    np.testing.assert_allclose(ours.coef_, np.atleast_2d(theirs.coef_), rtol=1e-7)
    np.testing.assert_allclose(ours.intercept_, np.ravel(theirs.intercept_), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(ours.decision_function(X), theirs.decision_function(X), rtol=1e-6, atol=1e-8)


def test_squared_loss_is_half_of_ridge_for_more_classes():
    # One-hot targets t against ridge's 2t - 1.
    X, y, _ = problem(4)
    theirs = RidgeClassifier(alpha=0.05 * len(y)).fit(X, y)
    ours = LinearClassifier("squared", l2=0.05).fit(X, y)
    np.testing.assert_allclose(2 * ours.coef_, theirs.coef_, rtol=1e-8)
    np.testing.assert_allclose(2 * ours.intercept_ - 1, theirs.intercept_, rtol=1e-8)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))


def squared_hinge_by_newton(X, t, l2, weights):
    """Generalised Newton (Mangasarian 2002) for one column and its unpenalised bias, t = ±1."""
    A = np.hstack([X, np.ones((len(X), 1))])
    s = weights / weights.sum()
    ridge = np.diag([l2] * X.shape[1] + [0.0])
    u = np.zeros(A.shape[1])
    for _ in range(200):
        short = np.maximum(1 - t * (A @ u), 0)
        gradient = -2 * A.T @ (s * t * short) + ridge @ u
        hessian = 2 * (A * (s * (short > 0))[:, None]).T @ A + ridge
        u = u - np.linalg.solve(hessian, gradient)
    assert np.linalg.norm(gradient) < 1e-12
    return u[:-1], u[-1]


@pytest.mark.parametrize("n_classes", [2, 3])
def test_squared_hinge_is_one_machine_per_class(n_classes):
    X, y, rng = problem(n_classes)
    weights = rng.uniform(0.5, 2.0, size=len(y))
    ours = LinearClassifier("squared_hinge", l2=0.02, **TIGHT).fit(X, y, weights)
    for row, k in enumerate([1] if n_classes == 2 else range(n_classes)):
        w, b = squared_hinge_by_newton(X, np.where(y == k, 1.0, -1.0), 0.02, weights)
        np.testing.assert_allclose(ours.coef_[row], w, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(ours.intercept_[row], b, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("loss", ["cross_entropy", "squared", "squared_hinge"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_standardise_is_a_scaler_in_front(loss, fit_intercept):
    X, y, rng = problem(3)
    X[:, 2] = 7.0
    weights = rng.integers(0, 4, size=len(y)).astype(float)
    scaler = StandardScaler(with_mean=fit_intercept).fit(X, sample_weight=weights)
    shared = {"loss": loss, "l2": 0.01, "fit_intercept": fit_intercept, **TIGHT}
    behind = LinearClassifier(**shared).fit(scaler.transform(X), y, weights)
    inside = LinearClassifier(**shared, standardise=True).fit(X, y, weights)
    expected = behind.decision_function(scaler.transform(X))
    np.testing.assert_allclose(inside.decision_function(X), expected, rtol=1e-6, atol=1e-7)


def test_two_classes_have_one_penalised_column():
    # The certificate: the gradient of (1/n) Σ log(1 + exp(-t z)) + (λ/2)‖w‖² vanishes.
    X, y, _ = problem(2)
    ours = LinearClassifier(l2=0.1, **TIGHT).fit(X, y)
    w = ours.coef_[0]
    p = ours.predict_proba(X)[:, 1]
    gradient = X.T @ (p - y) / len(y) + 0.1 * w
    assert np.linalg.norm(gradient) < 1e-10
    assert abs((p - y).mean()) < 1e-10


@pytest.mark.parametrize("loss", ["cross_entropy", "squared", "squared_hinge"])
def test_weights_are_repetitions_at_the_optimum(loss, monkeypatch):
    # Above `SMALL` numbers the rows stay as they are given, and it is the optimum that makes the two agree.
    monkeypatch.setattr("lastlayer.estimators.fitting.SMALL", 0)
    X, y, rng = problem(3, n=3000)
    times = rng.integers(0, 3, size=len(y))
    order = rng.permutation(times.sum())
    unfitted = LinearClassifier(loss, l2=0.01, tol=1e-11)
    weighted = clone(unfitted).fit(X, y, sample_weight=times)
    repeated = clone(unfitted).fit(X.repeat(times, axis=0)[order], y.repeat(times)[order])
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(weighted.intercept_, repeated.intercept_, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_without_a_step_logistic_regression_has_learned_nothing(n_classes):
    X, y = load_iris(return_X_y=True)
    X, y = X[y < n_classes], y[y < n_classes]
    with pytest.warns(ConvergenceWarning, match="LL040 max_iter is 0"):
        fresh = LogisticRegression(max_iter=0).fit(X, y)
    assert fresh.n_iter_ == 0
    np.testing.assert_allclose(fresh.predict_proba(X), 1 / n_classes)
    fitted = LogisticRegression(warm_start=True).fit(X, y)
    before = fitted.coef_.copy()
    with pytest.warns(ConvergenceWarning, match="before the first step"):
        fitted.set_params(max_iter=0).fit(X, y)
    np.testing.assert_array_equal(fitted.coef_, before)
