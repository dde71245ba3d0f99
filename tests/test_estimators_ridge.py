"""Ridge, RidgeClassifier, RidgeClassifierCV and LinearRegressor: scikit-learn's checks, and scikit-learn's answers."""

from __future__ import annotations

from unittest import SkipTest

import numpy as np
import pytest
from scipy import sparse
from sklearn import linear_model
from sklearn.base import clone, is_classifier
from sklearn.datasets import load_iris, load_wine
from sklearn.metrics import f1_score, make_scorer
from sklearn.model_selection import GridSearchCV, KFold, LeaveOneOut, cross_val_predict
from sklearn.utils.estimator_checks import (
    check_class_weight_balanced_linear_classifier,
    estimator_checks_generator,
    parametrize_with_checks,
)

from lastlayer._arrays import InputError
from lastlayer.estimators.linear_regressor import LinearRegressor
from lastlayer.estimators.ridge import Ridge
from lastlayer.estimators.ridge_classifier import RidgeClassifier
from lastlayer.estimators.ridge_classifier_cv import RidgeClassifierCV

CLASSIFIERS = [RidgeClassifier(), RidgeClassifierCV(), RidgeClassifierCV(cv=3)]
REGRESSORS = [Ridge(), LinearRegressor()]
ESTIMATORS = CLASSIFIERS + REGRESSORS

# What a regressor and a classifier meet, with pandas installed and SCIPY_ARRAY_API=1.
INSTANCES = {"regressor": 60, "classifier": 63}


@pytest.fixture(autouse=True)
def _array_api(monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")


@parametrize_with_checks(ESTIMATORS)
def test_check(estimator, check):
    try:
        check(estimator)
    except SkipTest as reason:
        pytest.fail(f"skipped: {reason}")


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
def test_every_instance_is_run(estimator):
    kind = "classifier" if is_classifier(estimator) else "regressor"
    names = [getattr(check, "func", check).__name__ for _, check in estimator_checks_generator(clone(estimator))]
    assert len(names) >= INSTANCES[kind]
    assert {"check_sample_weight_equivalence_on_dense_data", "check_estimator_sparse_tag"} <= set(names)


def test_balanced_class_weights():
    check_class_weight_balanced_linear_classifier("lastlayer", RidgeClassifier())


def _regression(n=60, d=8, k=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * np.geomspace(0.1, 10, d) + 3
    return X, X @ rng.normal(size=(d, k)) + rng.normal(size=(n, k)) + 7, rng.uniform(0.1, 3, n)


def _assert_same(ours, theirs, X):
    assert ours.coef_.shape == theirs.coef_.shape
    assert np.shape(ours.intercept_) == np.shape(theirs.intercept_)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-8, atol=1e-8)
    assert ours.predict(X).shape == theirs.predict(X).shape


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("shape", ["flat", "one column", "many", "wide"])
@pytest.mark.parametrize("alpha", [0.01, 10.0])
def test_ridge_is_scikit_learns(alpha, shape, fit_intercept, weighted):
    X, Y, s = _regression(*((20, 40) if shape == "wide" else (60, 8)))
    y = {"flat": Y[:, 0], "one column": Y[:, :1]}.get(shape, Y)
    weights = s if weighted else None
    arguments = {"alpha": alpha, "fit_intercept": fit_intercept}
    ours = Ridge(**arguments).fit(X, y, weights)
    theirs = linear_model.Ridge(solver="svd", **arguments).fit(X, y, weights)
    _assert_same(ours, theirs, X)
    assert ours.score(X, y, s) == pytest.approx(theirs.score(X, y, s), rel=1e-9)


def test_one_alpha_for_each_target():
    X, Y, s = _regression()
    for alpha in ([1.0, 10.0, 1.0], [5.0, 5.0, 5.0], np.array(2.0)):
        _assert_same(Ridge(alpha=alpha).fit(X, Y, s), linear_model.Ridge(alpha=alpha).fit(X, Y, s), X)
    with pytest.raises(InputError, match="alpha has 2 numbers, but there are 3 targets"):
        Ridge(alpha=[1.0, 2.0]).fit(X, Y)


@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("n", [5, 8, 9, 60])
def test_regression_without_penalty_is_least_squares_of_least_norm(n, fit_intercept):
    X, Y, s = _regression(n)
    X = np.hstack([X, X[:, :2], np.ones((n, 1))])
    theirs = linear_model.LinearRegression(fit_intercept=fit_intercept).fit(X, Y, s)
    _assert_same(LinearRegressor(fit_intercept=fit_intercept).fit(X, Y, s), theirs, X)


def test_regressor_speaks_of_lambda():
    X, Y, s = _regression()
    ours = LinearRegressor(l2=0.3).fit(X, Y[:, 0], s)
    _assert_same(ours, linear_model.Ridge(alpha=0.3 * s.sum()).fit(X, Y[:, 0], s), X)
    n = 1e-6
    objective = [
        (s @ (X @ w + b - Y[:, 0]) ** 2) / (2 * s.sum()) + 0.15 * w @ w
        for w, b in (
            (ours.coef_, ours.intercept_),
            (ours.coef_ + n, ours.intercept_),
            (ours.coef_, ours.intercept_ + n),
        )
    ]
    assert objective[0] < min(objective[1:])


@pytest.mark.parametrize("offset", [0.0, 1e9])
@pytest.mark.parametrize("scale", [1e-150, 1.0, 1e150])
def test_targets_of_any_size(scale, offset):
    X, Y, _ = _regression()
    plain = LinearRegressor().fit(X, Y)
    moved = LinearRegressor().fit(X, scale * (Y + offset))
    np.testing.assert_allclose(moved.coef_ / scale, plain.coef_, rtol=1e-5 if offset else 1e-9, atol=1e-7)


def test_float32_images_far_from_zero():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (3000, 400), dtype=np.uint8)  # more than 2**20 numbers: products in float32
    y = X[:, :10].astype(float) @ rng.normal(size=10) + rng.normal(size=3000)
    theirs = linear_model.Ridge(alpha=10.0).fit(X.astype(float), y)
    ours = Ridge(alpha=10.0).fit(X, y)
    assert ours.coef_.dtype == np.float32
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-5 * np.abs(theirs.coef_).max())


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_ridge_classifier_is_scikit_learns(n_classes, fit_intercept, weighted):
    X, y = load_wine(return_X_y=True)
    X, y = X[y < n_classes], np.array(["a", "b", "c"])[y[y < n_classes]]
    weights = np.random.default_rng(0).uniform(0.1, 3, len(y)) if weighted else None
    for extra in ({}, {"class_weight": "balanced"}, {"class_weight": {"a": 3.0}}):
        arguments = {"alpha": 2.0, "fit_intercept": fit_intercept} | extra
        if extra and weighted:
            continue  # scikit-learn balances rows, this library weights
        ours = RidgeClassifier(**arguments).fit(X, y, weights)
        theirs = linear_model.RidgeClassifier(**arguments).fit(X, y, weights)
        np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(ours.intercept_, theirs.intercept_, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(ours.decision_function(X), theirs.decision_function(X), rtol=1e-6, atol=1e-7)
        assert (ours.predict(X) == theirs.predict(X)).all()
        assert ours.coef_.shape == theirs.coef_.shape


def test_ridge_classifier_with_an_alpha_for_each_class():
    X, y = load_iris(return_X_y=True)
    ours = RidgeClassifier(alpha=[0.1, 1.0, 10.0]).fit(X, y)
    theirs = linear_model.RidgeClassifier(alpha=[0.1, 1.0, 10.0]).fit(X, y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-6)


ALPHAS = np.geomspace(1e-4, 1e4, 9)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("wide", [False, True])
def test_leaving_out_in_turn_is_scikit_learns(wide, n_classes, fit_intercept, weighted):
    X, y = load_wine(return_X_y=True)
    X, y = X[y < n_classes] / X.std(axis=0), y[y < n_classes]
    if wide:
        X, y = np.random.default_rng(1).normal(size=(20, 30)) + y[::6][:20, None], y[::6][:20]
    weights = np.random.default_rng(0).uniform(0.1, 3, len(y)) if weighted else None
    arguments = {"alphas": ALPHAS, "fit_intercept": fit_intercept, "store_cv_results": True}
    ours = RidgeClassifierCV(**arguments).fit(X, y, weights)
    theirs = linear_model.RidgeClassifierCV(**arguments).fit(X, y, weights)
    assert ours.alpha_ == theirs.alpha_
    assert ours.best_score_ == pytest.approx(theirs.best_score_, rel=1e-8)
    np.testing.assert_allclose(ours.cv_results_, theirs.cv_results_, rtol=1e-6, atol=1e-10)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("scoring", ["accuracy", "f1_macro", make_scorer(f1_score, average="macro")])
@pytest.mark.parametrize("cv", [None, 3, KFold(4, shuffle=True, random_state=0)])
def test_scorers_are_scikit_learns(cv, scoring):
    X, y = load_wine(return_X_y=True)
    arguments = {"alphas": ALPHAS, "scoring": scoring, "cv": cv}
    ours, theirs = (c(**arguments).fit(X, y) for c in (RidgeClassifierCV, linear_model.RidgeClassifierCV))
    assert ours.alpha_ == theirs.alpha_
    assert ours.best_score_ == pytest.approx(theirs.best_score_, rel=1e-12)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-6)


def test_two_classes_are_scored_by_their_decisions():
    X, y = load_iris(return_X_y=True)
    X, y = X[50:, :2], y[50:]
    ours = RidgeClassifierCV(alphas=[1.0], scoring="accuracy", store_cv_results=True).fit(X, y)
    left_out = cross_val_predict(linear_model.RidgeClassifier(alpha=1.0), X, y, cv=LeaveOneOut())
    assert ours.best_score_ == pytest.approx((left_out == y).mean())
    assert 0.6 < ours.best_score_ < 0.9
    assert ours.cv_results_.shape == (100, 1, 1)
    assert RidgeClassifierCV(scoring="roc_auc").fit(X, y).best_score_ > 0.7


def test_rows_of_weight_zero_do_not_count():
    X, y = load_wine(return_X_y=True)
    weights = np.r_[np.ones(150), np.zeros(28)]
    weights[:20] = 0
    for arguments in ({}, {"scoring": "accuracy"}, {"cv": KFold(3, shuffle=True, random_state=1)}):
        ours = RidgeClassifierCV(alphas=ALPHAS, **arguments).fit(X, y, weights)
        if "cv" not in arguments:
            few = RidgeClassifierCV(alphas=ALPHAS, **arguments).fit(X[20:150], y[20:150])
            assert ours.alpha_ == few.alpha_
            np.testing.assert_allclose(ours.coef_, few.coef_, rtol=1e-9)
        assert np.isfinite(ours.coef_).all()


def test_search_over_ridge():
    X, y = load_iris(return_X_y=True)
    search = GridSearchCV(RidgeClassifier(), {"alpha": [0.1, 1.0, 1e4]}).fit(X, y)
    theirs = GridSearchCV(linear_model.RidgeClassifier(), {"alpha": [0.1, 1.0, 1e4]}).fit(X, y)
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"])


@pytest.mark.parametrize(
    ("estimator", "words"),
    [
        (Ridge(positive=True), r"Ridge\(positive=True\)"),
        (Ridge(solver="lbfgs"), "solver='lbfgs'.*leave it at 'auto'"),
        (RidgeClassifier(solver="newton"), "There are auto, svd, cholesky"),
        (Ridge(alpha=-1.0), "alpha is -1.0"),
        (Ridge(alpha=[1.0, np.nan]), r"alpha\[1\] is nan"),
        (Ridge(fit_intercept=1), "True or False"),
        (Ridge(max_iter=0), "max_iter is 0"),
        (LinearRegressor(l2=-1), "l2 is -1"),
        (RidgeClassifierCV(alphas=[]), "alphas is empty"),
        (RidgeClassifierCV(alphas=[1.0, 0.0]), r"alphas\[1\] is 0.0"),
        (RidgeClassifierCV(cv=3, store_cv_results=True), "needs cv=None"),
    ],
    ids=str,
)
def test_refusals(estimator, words):
    X, Y, _ = _regression()
    y = (Y[:, 0] > Y[:, 0].mean()).astype(int) if is_classifier(estimator) else Y[:, :2]
    with pytest.raises(InputError, match=words):
        estimator.fit(X, y)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
def test_sparse_is_refused_naming_the_class_to_use(estimator):
    X = _regression()[0]
    name = {"LinearRegressor": "LinearRegression"}.get(type(estimator).__name__, type(estimator).__name__)
    with pytest.raises(InputError, match=f"Use scikit-learn's {name}"):
        clone(estimator).fit(sparse.csr_matrix(X), np.arange(len(X)) % 2)


def test_several_labels_a_row_are_refused():
    X, Y, _ = _regression()
    for estimator in (RidgeClassifier(), RidgeClassifierCV()):
        with pytest.raises(InputError, match=r"takes one label a row.*Ridge on the targets"):
            estimator.fit(X, (Y > 0).astype(int))


def test_columns_beyond_squaring_are_refused():
    X, Y, _ = _regression()
    for estimator in (Ridge(), LinearRegressor()):
        with pytest.raises(InputError, match="column 0 of the features"):
            estimator.fit(X * 1e100, Y)


def test_the_solver_said_is_the_one_asked_for():
    X, y = np.arange(6.0)[:, None], np.array([0, 0, 0, 1, 1, 1])
    assert Ridge(solver="sag").fit(X, y).solver_ == "sag"
    assert RidgeClassifier().fit(X, y).solver_ == "cholesky"
