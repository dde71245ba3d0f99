"""LinearSVC and Perceptron: scikit-learn's checks, its optimum, and what is refused by name."""

from __future__ import annotations

from unittest import SkipTest

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris, make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Perceptron as TheirPerceptron
from sklearn.svm import SVC
from sklearn.svm import LinearSVC as TheirLinearSVC
from sklearn.utils.estimator_checks import (
    check_class_weight_balanced_linear_classifier,
    estimator_checks_generator,
    parametrize_with_checks,
)

from lastlayer._arrays import InputError
from lastlayer.estimators.linear_svc import LinearSVC
from lastlayer.estimators.perceptron import Perceptron

ESTIMATORS = [LinearSVC(), LinearSVC(loss="hinge"), Perceptron()]
INSTANCES = 63


@pytest.fixture(autouse=True)
def _array_api(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")


@parametrize_with_checks(ESTIMATORS)
def test_check(estimator, check):
    try:
        check(estimator)
    except SkipTest as reason:
        pytest.fail(f"skipped: {reason}")


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
def test_every_instance_is_run(estimator):
    assert len(list(estimator_checks_generator(clone(estimator)))) >= INSTANCES


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
def test_balanced_class_weights(estimator):
    check_class_weight_balanced_linear_classifier("lastlayer", clone(estimator))


@pytest.mark.parametrize(("ours", "theirs"), [(LinearSVC, TheirLinearSVC), (Perceptron, TheirPerceptron)])
def test_the_constructor_is_scikit_learns(ours, theirs):
    assert ours().get_params() == theirs().get_params()


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
@pytest.mark.parametrize("classes", [2, 3])
def test_without_an_intercept_the_optimum_is_scikit_learns(loss, classes):
    X, y = load_iris(return_X_y=True)
    X, y = X[y < classes] - X.mean(axis=0), y[y < classes]
    ours = LinearSVC(loss=loss, C=0.1, fit_intercept=False, tol=1e-7, max_iter=20000).fit(X, y)
    theirs = TheirLinearSVC(loss=loss, C=0.1, fit_intercept=False, tol=1e-9, max_iter=10**6, random_state=0).fit(X, y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=2e-4)


def test_the_hinge_is_that_of_svc_with_its_free_intercept():
    X, y = make_classification(150, 6, class_sep=0.6, random_state=1)
    X += 3.0
    weights = np.random.default_rng(0).integers(1, 4, len(y)).astype(float)
    ours = LinearSVC(loss="hinge", C=0.5, tol=1e-9, max_iter=20000).fit(X, y, weights)
    theirs = SVC(kernel="linear", C=0.5, tol=1e-9).fit(X, y, weights)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-4)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, atol=1e-3)


def test_unsupported_arguments_are_refused_by_name():
    X, y = load_iris(return_X_y=True)
    for wrong in (
        {"penalty": "l1"},
        {"loss": "logistic"},
        {"multi_class": "crammer_singer"},
        {"intercept_scaling": 2.0},
    ):
        with pytest.raises(InputError, match=f"LinearSVC does not support {next(iter(wrong))}="):
            LinearSVC(**wrong).fit(X, y)
    for wrong in ({"penalty": "l2"}, {"early_stopping": True}):
        with pytest.raises(InputError, match=f"Perceptron does not support {next(iter(wrong))}="):
            Perceptron(**wrong).fit(X, y)
    for wrong in ({"C": np.inf}, {"tol": 0.0}, {"dual": "yes"}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            LinearSVC(**wrong).fit(X, y)


def test_a_hinge_cut_short_warns_with_its_gap():
    X, y = make_classification(300, 10, flip_y=0.3, random_state=0)
    with pytest.warns(ConvergenceWarning, match="LL040 dual did not converge .* relative duality gap"):
        LinearSVC(loss="hinge", C=100.0, max_iter=1).fit(X, y)


def test_the_perceptron_says_that_xor_repeats():
    X = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    rule = Perceptron(shuffle=False, tol=None)
    with pytest.warns(ConvergenceWarning, match="not linearly separable: the weights after epoch"):
        rule.fit(X, [0, 1, 1, 0])
    assert rule.n_iter_ < 10


def test_the_perceptron_settles_by_tol_and_separates_iris():
    X, y = load_iris(return_X_y=True)
    overlapping = Perceptron().fit(X[50:], y[50:])
    assert overlapping.n_iter_ < 100
    assert overlapping.score(X[50:], y[50:]) > 0.9
    apart = Perceptron().fit(X[:100], y[:100])
    assert apart.mistakes_[-1] == 0
    assert apart.score(X[:100], y[:100]) == 1.0


def test_eta0_scales_the_coefficients_and_a_warm_start_goes_on():
    X, y = load_iris(return_X_y=True)
    X, y = X[:100], y[:100]
    one, three = Perceptron().fit(X, y), Perceptron(eta0=3.0).fit(X, y)
    np.testing.assert_allclose(three.coef_, 3.0 * one.coef_)
    again = Perceptron(eta0=3.0, warm_start=True).fit(X, y).fit(X, y)
    assert again.mistakes_ == (0,)
    np.testing.assert_allclose(again.coef_, three.coef_)
