"""scikit-learn's own checks: all of them, for every loss and solver, none skipped and none expected to fail."""

from __future__ import annotations

from unittest import SkipTest

import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import (
    check_class_weight_balanced_linear_classifier,
    estimator_checks_generator,
    parametrize_with_checks,
)

from lastlayer import LinearClassifier, LogisticRegression

ESTIMATORS = [
    LogisticRegression(),
    LinearClassifier(),
    LinearClassifier(solver="gradient_descent", l2=0.1),
    LinearClassifier(standardise=True),
    LinearClassifier(loss="squared"),
    LinearClassifier(loss="squared_hinge"),
    LinearClassifier(loss="hinge"),
    LinearClassifier(loss="perceptron"),
]
NAMES = [str(estimator) for estimator in ESTIMATORS]

# What a classifier with class and sample weights meets, with pandas installed and SCIPY_ARRAY_API=1.
INSTANCES = 63
ESSENTIAL = {
    "check_sample_weight_equivalence_on_dense_data",
    "check_estimator_sparse_tag",
    "check_sample_weights_pandas_series",
    "check_array_api_input",
    "check_classifiers_one_label_sample_weights",
    "check_methods_subset_invariance",
    "check_fit_idempotent",
    "check_readonly_memmap_input",
}


@pytest.fixture(autouse=True)
def _array_api(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")


# Gradient descent is the slow reference, the perceptron never stops on inseparable data: they warn, rightly.
@pytest.mark.filterwarnings("ignore:LL040 (gradient_descent|perceptron) did not converge")
@parametrize_with_checks(ESTIMATORS)
def test_check(estimator, check):
    try:
        check(estimator)
    except SkipTest as reason:
        pytest.fail(f"skipped: {reason}")


def _name(check) -> str:
    return getattr(check, "func", check).__name__


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=NAMES)
def test_every_instance_is_run(estimator):
    names = [_name(check) for _, check in estimator_checks_generator(clone(estimator))]
    assert len(names) >= INSTANCES
    assert set(names) >= ESSENTIAL


@pytest.mark.filterwarnings("ignore:LL040 (gradient_descent|perceptron) did not converge")
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=NAMES)
def test_balanced_class_weights(estimator):
    # scikit-learn runs this check for subclasses of its private linear mixin only.
    check_class_weight_balanced_linear_classifier("lastlayer", clone(estimator))
