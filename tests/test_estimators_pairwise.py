"""One unit for every two classes: scikit-learn's checks, closed forms against iterative fits, and the scores."""

from __future__ import annotations

from itertools import combinations
from unittest import SkipTest

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge
from sklearn.multiclass import OneVsOneClassifier
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from lastlayer import InputError, LinearClassifier
from lastlayer.estimators import pairwise
from lastlayer.estimators.pairwise import PairwiseClassifier

ESTIMATORS = [
    PairwiseClassifier(),
    PairwiseClassifier(outputs="tanh"),
    PairwiseClassifier("squared_hinge", outputs="sign"),
    PairwiseClassifier("hinge", l2=0.01),
    PairwiseClassifier("cross_entropy"),
]


@pytest.fixture(autouse=True)
def _array_api(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")


@parametrize_with_checks(ESTIMATORS)
def test_check(estimator, check):
    try:
        check(estimator)
    except SkipTest as reason:
        pytest.fail(f"skipped: {reason}")


def _problem(n: int = 300, d: int = 6, k: int = 4, seed: int = 0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n)
    X = rng.normal(size=(n, d)) + 1.2 * rng.normal(size=(k, d))[y] + 5
    return X, np.array(list("dcba"))[y], rng.integers(0, 4, n).astype(float)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_least_squares_units_are_ridge_regressions_of_two_classes(intercept: bool, weighted: bool) -> None:
    X, y, weights = _problem()
    s = weights if weighted else np.ones(len(X))
    found = PairwiseClassifier(l2=0.03, fit_intercept=intercept).fit(X, y, weights if weighted else None)
    assert found.classes_.tolist() == list("abcd")
    for unit, (i, j) in enumerate(combinations("abcd", 2)):
        assert found.classes_[found.pairs_[unit]].tolist() == [i, j]
        rows = (y == i) | (y == j)
        sign = np.where(y[rows] == j, 1.0, -1.0)
        alone = Ridge(0.03 * s[rows].sum(), fit_intercept=intercept).fit(X[rows], sign, s[rows])
        np.testing.assert_allclose(found.pair_coef_[unit], alone.coef_, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(found.pair_intercept_[unit], alone.intercept_, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("loss", ["squared", "squared_hinge", "cross_entropy"])
def test_units_are_classifiers_of_two_classes(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y, _ = _problem()
    monkeypatch.setattr(pairwise, "LARGEST", 0)  # without moments, whatever the loss
    found = PairwiseClassifier(loss, l2=0.02, tol=1e-9).fit(X, y)
    for unit, (i, j) in enumerate(combinations("abcd", 2)):
        rows = (y == i) | (y == j)
        alone = LinearClassifier(loss, l2=0.02, tol=1e-9).fit(X[rows], y[rows])
        np.testing.assert_allclose(found.pair_coef_[unit], alone.coef_[0], rtol=1e-5, atol=1e-7)
    if loss == "squared":
        monkeypatch.undo()
        moments = PairwiseClassifier(l2=0.02).fit(X, y)
        np.testing.assert_allclose(moments.pair_coef_, found.pair_coef_, rtol=1e-7, atol=1e-9)


def test_votes_of_hinges_are_those_of_a_support_vector_machine() -> None:
    X, y, _ = _problem()
    found = PairwiseClassifier("hinge", outputs="sign", l2=1 / (1.0 * 150), tol=1e-7).fit(X, y)
    exact = SVC(kernel="linear", C=1.0, tol=1e-8)
    units = OneVsOneClassifier(exact).fit(X, y).estimators_
    signs = np.stack([np.sign(unit.decision_function(X)) for unit in units], axis=1)
    counts = np.stack(
        [sum(signs[:, p] * ((j == k) * 1 - (i == k) * 1) for p, (i, j) in enumerate(found.pairs_)) for k in range(4)],
        axis=1,
    )
    assert (np.rint(found.decision_function(X)) == counts).mean() > 0.98  # C depends a little on the rows of a pair


@pytest.mark.parametrize("outputs", ["linear", "tanh", "sign"])
def test_scores_are_sums_of_signed_outputs(outputs: str) -> None:
    X, y, _ = _problem()
    found = PairwiseClassifier(outputs=outputs).fit(X, y)
    values = X @ found.pair_coef_.T + found.pair_intercept_
    g = {"linear": lambda v: v, "tanh": np.tanh, "sign": np.sign}[outputs](values)
    expected = np.zeros((len(X), 4))
    for unit, (i, j) in enumerate(combinations(range(4), 2)):
        expected[:, j] += g[:, unit]
        expected[:, i] -= g[:, unit]
    scores = found.decision_function(X)
    np.testing.assert_allclose(scores, expected, atol=0.5 if outputs == "sign" else 1e-9)
    assert (found.predict(X) == found.classes_[scores.argmax(axis=1)]).all()
    np.testing.assert_array_equal(found.decision_function(X[5:6]), scores[5:6])
    if outputs == "sign":
        np.testing.assert_array_equal(np.rint(scores), expected)
        tied = np.sort(expected, axis=1)[:, -2] == expected.max(axis=1)
        assert len(np.unique(scores[tied])) > 3  # a tie is decided by the outputs


def test_without_a_penalty_the_solution_of_least_norm_is_taken() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(90, 5)) @ rng.normal(size=(5, 12))
    y = np.arange(90) % 3
    found = PairwiseClassifier(l2=0.0).fit(X, y)
    for unit, (i, j) in enumerate(combinations(range(3), 2)):
        rows = (y == i) | (y == j)
        Xc = X[rows] - X[rows].mean(axis=0)
        t = np.where(y[rows] == j, 1.0, -1.0)
        least = np.linalg.lstsq(Xc, t - t.mean(), rcond=1e-10)[0]
        np.testing.assert_allclose(found.pair_coef_[unit], least, atol=1e-8)


def test_one_warning_for_all_units_that_did_not_converge() -> None:
    X, y, _ = _problem()
    with pytest.warns(ConvergenceWarning, match=r"LL040 \d of 6 units did not converge; a against b: LL040") as said:
        PairwiseClassifier("cross_entropy", l2=1e-6, max_iter=1, tol=1e-9).fit(X, y)
    assert len(said) == 1


def test_parameters_are_checked() -> None:
    X, y = load_iris(return_X_y=True)
    for wrong, said in (
        ({"loss": "log"}, "loss is 'log'"),
        ({"outputs": "max"}, "outputs is 'max'"),
        ({"l2": -1}, "l2"),
    ):
        with pytest.raises(InputError, match=said):
            PairwiseClassifier(**wrong).fit(X, y)
