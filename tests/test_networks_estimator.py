"""`NetworkClassifier`: scikit-learn's own checks, and what they do not know: images."""

from __future__ import annotations

from unittest import SkipTest

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from lastlayer._arrays import InputError
from lastlayer.estimators.network_classifier import NetworkClassifier

torch = pytest.importorskip("torch", reason="torch is not installed: networks are not tested")

ESTIMATORS = [NetworkClassifier("mlp:100", epochs=12, rate=0.03)]
INSTANCES = 50
EXPECTED_FAILURES: dict[str, str] = {}


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    torch.set_num_threads(1)


@parametrize_with_checks(ESTIMATORS, expected_failed_checks=lambda estimator: EXPECTED_FAILURES)
def test_check(estimator, check):
    try:
        check(estimator)
    except SkipTest as reason:
        pytest.fail(f"skipped: {reason}")


def test_every_instance_is_run():
    names = [getattr(check, "func", check).__name__ for _, check in estimator_checks_generator(clone(ESTIMATORS[0]))]
    assert len(names) >= INSTANCES and EXPECTED_FAILURES == {}
    assert {"check_methods_subset_invariance", "check_fit_idempotent", "check_classifiers_train"} <= set(names)


def bars(n: int = 160, side: int = 12, channels: int = 0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.array(["across", "down", "flat"])[np.arange(n) % 3]
    X = rng.integers(0, 80, (n, side, side), dtype=np.uint8)
    for i in range(n):
        at = int(rng.integers(2, side - 2))
        if y[i] == "across":
            X[i, at] = 220
        if y[i] == "down":
            X[i, :, at] = 220
    return (np.repeat(X[..., None], channels, axis=3) if channels else X), y


def test_images_are_learned_gray_and_in_colour():
    for channels in (0, 1, 3):
        X, y = bars(channels=channels)
        test, labels = bars(60, channels=channels, seed=1)
        classifier = NetworkClassifier("mlp:32", epochs=25, batch_size=16, random_state=0).fit(X, y)
        assert classifier.score(test, labels) > 0.8
        assert classifier.n_features_in_ == X[0].size
        assert classifier.classes_.tolist() == ["across", "down", "flat"]
        p = classifier.predict_proba(test)
        np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)
        z = classifier.decision_function(test)
        assert z.shape == (60, 3)
        np.testing.assert_array_equal(classifier.predict(test), classifier.classes_[z.argmax(axis=1)])
        np.testing.assert_array_equal(classifier.decision_function(test[5:6])[0], z[5])
        with pytest.raises(InputError, match="those of fit had"):
            classifier.predict(test[:, 1:])


def test_a_convolution_net_takes_images_and_no_table():
    X, y = bars(60, side=28)
    classifier = NetworkClassifier("lenet5:modern", epochs=3, batch_size=16, validation_fraction=0.2).fit(X, y)
    assert classifier.n_iter_ == 3 and len(classifier.history_) == 3
    assert classifier.history_[0]["val_count"] == 12
    with pytest.raises(InputError):
        NetworkClassifier("lenet5").fit(np.zeros((20, 784)), np.arange(20) % 2)


def test_the_same_seed_gives_the_same_network_and_another_one_another():
    X, y = load_digits(return_X_y=True)
    X, y = X[:300], y[:300]
    a, b, c = (NetworkClassifier("mlp:16", epochs=3, random_state=s).fit(X, y).decision_function(X) for s in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_precision_is_that_of_the_training():
    X, y = bars(side=20)
    usual, wide, narrow = (
        NetworkClassifier("lenet5:modern", epochs=8, batch_size=16, precision=precision).fit(X, y)
        for precision in (None, "float32", "bfloat16")
    )
    np.testing.assert_array_equal(usual.decision_function(X), wide.decision_function(X))
    assert not np.array_equal(narrow.decision_function(X), wide.decision_function(X))
    assert narrow.decision_function(X).dtype == np.float32
    assert wide.score(X, y) > 0.9 and narrow.score(X, y) > 0.9
    with pytest.raises(InputError, match="precision is 'float8'"):
        NetworkClassifier("lenet5:modern", precision="float8").fit(X, y)


def test_the_unit_of_a_column_does_not_matter():
    X, y = load_digits(return_X_y=True)
    X, y = X[:200], y[:200]
    plain = NetworkClassifier("mlp:16", epochs=3).fit(X, y)
    other = NetworkClassifier("mlp:16", epochs=3).fit(1024.0 * X + 4096, y)
    np.testing.assert_allclose(
        plain.decision_function(X), other.decision_function(1024.0 * X + 4096), rtol=1e-3, atol=1e-3
    )


def test_it_is_searched_and_piped():
    X, y = load_digits(return_X_y=True)
    X, y = X[:150], y[:150]
    pipe = make_pipeline(FunctionTransformer(np.sqrt), NetworkClassifier(epochs=4))
    grid = {"networkclassifier__architecture": ["mlp:2", "mlp:32"]}
    search = GridSearchCV(pipe, grid, cv=2).fit(X, y)
    assert search.best_params_ == {"networkclassifier__architecture": "mlp:32"}


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"architecture": "mlp"}, "mlp"),
        ({"architecture": 3}, "architecture is 3"),
        ({"architecture": "resnet"}, "no network is called"),
        ({"epochs": -1}, "epochs"),
        ({"rate": "fast"}, "rate"),
        ({"schedule": "sometimes"}, "sometimes"),
        ({"validation_fraction": 1.5}, "validation_fraction"),
        ({"augmentation": "wobble"}, "wobble"),
        ({"random_state": "x"}, "random_state"),
        ({"verbose": -1}, "verbose"),
    ],
)
def test_faulty_parameters_are_refused(parameters, said):
    X, y = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 2
    with pytest.raises(InputError, match=said):
        NetworkClassifier(**{"architecture": "mlp:4", **parameters}).fit(X, y)


def test_a_validation_share_leaves_every_class_a_row():
    X = np.random.default_rng(0).normal(size=(12, 3))
    y = np.array([0] * 10 + [1, 2])
    classifier = NetworkClassifier("mlp:4", epochs=2, validation_fraction=0.9).fit(X, y)
    assert classifier.classes_.tolist() == [0, 1, 2]
