"""KernelClassifier: scikit-learn's checks, the exact kernel machines where every row is a landmark, and refusals."""

from __future__ import annotations

import pickle
from functools import partial
from unittest import SkipTest

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris, make_circles, make_moons
from sklearn.exceptions import ConvergenceWarning
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics.pairwise import chi2_kernel, laplacian_kernel, polynomial_kernel, rbf_kernel
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from lastlayer._arrays import InputError
from lastlayer.estimators import kernel_all, kernel_classifier
from lastlayer.estimators.kernel_classifier import KernelClassifier
from lastlayer.estimators.kernel_scale import Spread
from lastlayer.selection.kernel_ridge import fit_kernel_ridge

ESTIMATORS = [
    KernelClassifier(),
    KernelClassifier("laplacian", loss="cross_entropy"),
    KernelClassifier("poly", loss="squared", landmarks="uniform", n_landmarks=10),
    KernelClassifier(loss="hinge", n_landmarks=10, fit_intercept=False),
    KernelClassifier(loss="squared", n_landmarks="all"),
]
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


def _two_moons(n=150):
    return make_moons(n, noise=0.25, random_state=0)


# -- every row a landmark: the kernel machine itself


@pytest.mark.parametrize(
    ("kernel", "options"),
    [("rbf", {}), ("rbf", {"gamma": 2.5}), ("rbf", {"gamma": "auto"}), ("poly", {"coef0": 1.0}), ("linear", {})],
)
def test_the_hinge_gives_the_decisions_of_svc(kernel, options):
    X, y = _two_moons()
    theirs = SVC(kernel=kernel, C=0.7, tol=1e-8, **options).fit(X, y)
    ours = KernelClassifier(kernel, C=0.7, loss="hinge", tol=1e-10, **options).fit(X, y)
    new = np.random.default_rng(0).normal(size=(50, 2))
    np.testing.assert_allclose(ours.decision_function(new), theirs.decision_function(new), rtol=1e-5, atol=2e-5)


def test_weights_and_class_weights_mean_what_they_mean_in_svc():
    X, y = _two_moons()
    weights = np.random.default_rng(0).integers(1, 4, len(y)).astype(float)
    options = {"gamma": 0.8, "C": 0.7, "class_weight": {0: 2.0, 1: 0.5}}
    theirs = SVC(tol=1e-8, **options).fit(X, y, weights)
    ours = KernelClassifier(loss="hinge", tol=1e-10, **options).fit(X, y, weights)
    np.testing.assert_allclose(ours.decision_function(X), theirs.decision_function(X), atol=2e-5)


def test_many_classes_are_one_against_the_rest():
    X, y = load_iris(return_X_y=True)
    theirs = OneVsRestClassifier(SVC(tol=1e-8)).fit(X, y)
    ours = KernelClassifier(loss="hinge", tol=1e-10, max_iter=20000).fit(X, y)
    np.testing.assert_allclose(ours.decision_function(X), theirs.decision_function(X), atol=1e-4)


@pytest.mark.parametrize("kernel", ["rbf", "laplacian", "poly"])
def test_the_squared_loss_is_kernel_ridge(kernel):
    X, y = _two_moons()
    theirs = KernelRidge(alpha=1 / 3.0, kernel=kernel, gamma=0.5).fit(X, 2.0 * y - 1)
    ours = KernelClassifier(kernel, gamma=0.5, loss="squared", C=3.0, coef0=1.0, fit_intercept=False).fit(X, y)
    np.testing.assert_allclose(ours.decision_function(X), theirs.predict(X), atol=1e-6)
    np.testing.assert_allclose(ours.decision_function(X[::-1] + 0.1), theirs.predict(X[::-1] + 0.1), atol=1e-6)


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_hinge"])
def test_smooth_losses_reach_the_optimum_over_the_kernels_values(loss):
    X, y = _two_moons(40)
    C, t = 2.0, 2.0 * y - 1
    K = rbf_kernel(X, gamma=0.5)

    def objective(p):
        """``C Σ L(t f) + ½ αᵀKα`` with ``f = Kα + b``."""
        f = K @ p[:-1] + p[-1]
        if loss == "cross_entropy":
            value, slope = np.logaddexp(0, -t * f), -t / (1 + np.exp(t * f))
        else:
            value, slope = np.maximum(0, 1 - t * f) ** 2, -2 * t * np.maximum(0, 1 - t * f)
        gradient = K @ (C * slope + p[:-1])
        return C * value.sum() + 0.5 * p[:-1] @ K @ p[:-1], np.append(gradient, C * slope.sum())

    best = minimize(objective, np.zeros(41), jac=True, method="BFGS", options={"gtol": 1e-9, "maxiter": 5000})
    ours = KernelClassifier(gamma=0.5, loss=loss, C=C, tol=1e-9).fit(X, y)
    np.testing.assert_allclose(ours.decision_function(X), K @ best.x[:-1] + best.x[-1], atol=2e-5)


def test_softmax_probabilities_for_many_classes():
    X, y = load_iris(return_X_y=True)
    ours = KernelClassifier(loss="cross_entropy", tol=1e-8).fit(X, y)
    scores = ours.decision_function(X)
    proba = ours.predict_proba(X)
    np.testing.assert_allclose(proba, np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True))
    # At the optimum the unpenalised intercepts make the mean probabilities the shares of the classes.
    np.testing.assert_allclose(proba.mean(axis=0), np.full(3, 1 / 3), atol=1e-6)
    with pytest.raises(AttributeError, match="has no attribute 'predict_proba'"):
        KernelClassifier(loss="hinge").fit(X, y).predict_proba(X)


# -- what no line separates


@pytest.mark.parametrize("loss", kernel_classifier.LOSSES)
@pytest.mark.parametrize("kernel", ["rbf", "poly", "laplacian"])
def test_xor_and_circles_are_solved(loss, kernel):
    corners = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    xor = KernelClassifier(kernel, degree=2, coef0=1.0, C=100.0, loss=loss).fit(corners, [0, 1, 1, 0])
    assert xor.predict(corners).tolist() == [0, 1, 1, 0]
    X, y = make_circles(300, factor=0.4, noise=0.05, random_state=1)
    circles = KernelClassifier(kernel, degree=2, coef0=1.0, n_landmarks=25, C=10.0, loss=loss).fit(X[:200], y[:200])
    assert circles.score(X[200:], y[200:]) == 1.0
    line = KernelClassifier("linear", loss=loss).fit(X[:200], y[:200])
    assert line.score(X[200:], y[200:]) < 0.75


def test_landmarks_nearly_reach_the_exact_machine_on_digits():
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    train, test = order[:600], order[600:1200]
    options = {"C": 10.0, "loss": "squared_hinge"}
    exact = KernelClassifier(**options).fit(X[train], y[train]).score(X[test], y[test])
    svc = SVC(C=10.0).fit(X[train], y[train]).score(X[test], y[test])
    kmeans = KernelClassifier(n_landmarks=150, **options).fit(X[train], y[train]).score(X[test], y[test])
    assert exact > svc - 0.01
    assert kmeans > exact - 0.01


def test_a_function_is_a_kernel():
    X, y = load_digits(n_class=2, return_X_y=True)
    chi2 = partial(chi2_kernel, gamma=0.05)
    theirs = SVC(kernel=chi2, C=10.0, tol=1e-8).fit(X[:200] / 16, y[:200])
    ours = KernelClassifier(chi2, loss="hinge", C=10.0, tol=1e-10).fit(X[:200] / 16, y[:200])
    np.testing.assert_allclose(ours.decision_function(X / 16), theirs.decision_function(X / 16), atol=2e-5)
    assert ours.gamma_ is None
    X, y = load_digits(n_class=4, return_X_y=True)
    few = KernelClassifier(chi2, n_landmarks=60).fit(X[::2], y[::2])  # centres of counts are not negative
    assert few.score(X[1::2], y[1::2]) > 0.95
    same = KernelClassifier(lambda A, B: rbf_kernel(A, B, gamma=0.01), n_landmarks=60).fit(X, y)
    named = KernelClassifier(gamma=0.01, n_landmarks=60).fit(X, y)
    np.testing.assert_allclose(same.decision_function(X), named.decision_function(X), atol=1e-6)


# -- attributes, determinism, types


@pytest.mark.parametrize("classes", [2, 4])
def test_scores_can_be_recomputed_from_the_attributes(classes):
    X, y = load_digits(n_class=classes, return_X_y=True)
    ours = KernelClassifier("laplacian", gamma=0.02, n_landmarks=30).fit(X, y)
    rows = 1 if classes == 2 else classes
    assert ours.landmarks_.shape == (30, 64)
    assert ours.dual_coef_.shape == (rows, 30)
    assert ours.coef_.shape == (rows, ours.map_.n_features)
    assert ours.gamma_ == 0.02
    by_hand = laplacian_kernel(X, ours.landmarks_, gamma=0.02) @ ours.dual_coef_.T + ours.intercept_
    np.testing.assert_allclose(ours.decision_function(X).reshape(len(X), -1), by_hand, atol=1e-9)
    by_features = ours.map_.transform(X) @ ours.coef_.T + ours.intercept_
    np.testing.assert_allclose(by_features, by_hand, atol=1e-5)


def test_gamma_means_what_it_means_in_svc():
    X, y = load_digits(return_X_y=True)
    assert KernelClassifier(n_landmarks=5).fit(X, y).gamma_ == pytest.approx(SVC().fit(X, y)._gamma, rel=1e-12)
    favoured = KernelClassifier(n_landmarks=5, class_weight={0: 100.0}).fit(X, y)
    assert favoured.gamma_ == pytest.approx(SVC().fit(X, y)._gamma, rel=1e-12)
    assert KernelClassifier(gamma="auto", n_landmarks=5).fit(X, y).gamma_ == 1 / 64
    laplacian = KernelClassifier("laplacian", n_landmarks=5).fit(X, y)
    assert laplacian.gamma_ == pytest.approx(1 / (64 * X.std()), rel=1e-12)
    assert KernelClassifier(n_landmarks=5).fit(np.ones((6, 2)), [0, 1] * 3).gamma_ == 1.0


def test_the_spread_weighs_rows_and_survives_large_numbers():
    X = np.random.default_rng(0).normal(3.0, 2.0, (9000, 3)) + 1e6
    weights = np.random.default_rng(1).integers(0, 3, 9000).astype(float)
    assert Spread.of(X, weights).variance == pytest.approx(np.repeat(X, weights.astype(int), axis=0).var(), rel=1e-9)
    assert Spread.of(X * 1e140, None).gamma() == pytest.approx(1e-280 * Spread.of(X, None).gamma(), rel=1e-9)
    assert Spread.of(np.array([[1e300], [-1e300], [5.0]]), np.array([0.0, 0.0, 1.0])).largest == 0.0


def test_same_seed_same_bits_on_any_number_of_threads(monkeypatch):
    monkeypatch.setattr(kernel_classifier, "SMALL", 2**10)  # as for large data
    X, y = load_digits(return_X_y=True)
    X = X.astype(np.uint8)
    one, two = (KernelClassifier(n_landmarks=80, n_jobs=jobs).fit(X, y) for jobs in (1, 3))
    assert one.coef_.dtype == np.float32
    np.testing.assert_array_equal(one.dual_coef_, two.dual_coef_)
    np.testing.assert_array_equal(one.decision_function(X), two.decision_function(X))
    alone = np.vstack([two.decision_function(X[i : i + 1]) for i in range(20)])
    np.testing.assert_array_equal(alone, two.decision_function(X)[:20])
    other = KernelClassifier(n_landmarks=80, random_state=1).fit(X, y)
    assert not np.array_equal(one.landmarks_, other.landmarks_)
    wide = KernelClassifier(n_landmarks=80).fit(X.astype(np.float64), y)
    assert wide.coef_.dtype == np.float64
    assert (wide.predict(X) == one.predict(X)).mean() > 0.998


def test_the_order_of_the_rows_changes_nothing():
    X, y = load_iris(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    a, b = (KernelClassifier(n_landmarks=20).fit(X[rows], y[rows]) for rows in (slice(None), order))
    np.testing.assert_array_equal(a.decision_function(X), b.decision_function(X))


@pytest.mark.parametrize("scale", [1e-100, 1e-6, 1e6, 1e100])
def test_scale_and_offset_of_the_features_do_not_matter_to_rbf(scale):
    X, y = _two_moons()
    plain = KernelClassifier(tol=1e-8).fit(X, y).decision_function(X)
    moved = KernelClassifier(tol=1e-8).fit(X * scale, y).decision_function(X * scale)
    np.testing.assert_allclose(moved, plain, atol=1e-6)
    far = KernelClassifier(tol=1e-8).fit(X + 1e6, y).decision_function(X + 1e6)
    np.testing.assert_allclose(far, plain, atol=1e-5)


def test_a_large_offset_of_float32_features_does_not_matter(monkeypatch):
    monkeypatch.setattr(kernel_classifier, "SMALL", 2**10)  # as for large data
    rng = np.random.default_rng(0)
    X = (rng.integers(-2560, 2561, (4000, 2)) / 64).astype(np.float32)  # exact beside 2^16
    y = (np.hypot(X[:, 0], X[:, 1]) < 30).astype(int)
    options = {"gamma": 0.002, "n_landmarks": 40, "C": 100.0}
    near, far = KernelClassifier(**options).fit(X, y), KernelClassifier(**options).fit(X + 2.0**16, y)
    assert near.coef_.dtype == far.coef_.dtype == np.float32
    assert near.score(X, y) > 0.99
    assert (near.predict(X) == far.predict(X + 2.0**16)).mean() > 0.995


def test_rare_classes_single_rows_and_pickles():
    X, y = _two_moons()
    y = y.copy()
    y[7] = 5
    ours = KernelClassifier(gamma=50.0, C=1e4, loss="hinge").fit(X, y)
    assert ours.predict(X[7:8]) == [5]
    again = pickle.loads(pickle.dumps(ours))
    np.testing.assert_array_equal(again.decision_function(X), ours.decision_function(X))


def test_grid_search_reaches_its_parameters():
    X, y = make_circles(120, factor=0.3, noise=0.1, random_state=0)
    search = GridSearchCV(KernelClassifier(n_landmarks=15), {"kernel": ["linear", "rbf"], "C": [0.1, 10.0]}, cv=3)
    assert search.fit(X, y).best_params_["kernel"] == "rbf"


# -- refusals


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kernel": "sigmoid"}, "not positive semidefinite"),
        ({"kernel": "precomputed"}, "no rows to take landmarks from"),
        ({"kernel": "gauss"}, "No kernel is called 'gauss'"),
        ({"kernel": 3}, "kernel is 3; a name or a function"),
        ({"gamma": "wide"}, "gamma is 'wide'"),
        ({"gamma": -1.0}, "gamma is -1.0"),
        ({"kernel": "poly", "degree": 2.5}, "degree is 2.5"),
        ({"kernel": "poly", "coef0": -1.0}, "coef0 is -1.0"),
        ({"loss": "perceptron"}, "loss is 'perceptron'. There are squared_hinge, hinge"),
        ({"C": 0.0}, "C is 0.0"),
        ({"n_landmarks": 0}, "n_landmarks is 0"),
        ({"landmarks": "leverage"}, "landmarks is 'leverage'"),
        ({"fit_intercept": "yes"}, "fit_intercept is 'yes'"),
        ({"tol": -1.0}, "tol is -1.0"),
        ({"max_iter": 1.5}, "max_iter is 1.5"),
        ({"random_state": "seed"}, "random_state is 'seed'"),
        ({"n_jobs": 0}, "n_jobs is 0"),
        ({"verbose": -1}, "verbose is -1"),
    ],
)
def test_wrong_parameters_are_refused_by_name(wrong, message):
    X, y = load_iris(return_X_y=True)
    with pytest.raises(InputError, match=message):
        KernelClassifier(**wrong).fit(X, y)


def test_unusable_data_are_refused():
    X, y = _two_moons()
    with pytest.raises(InputError, match=r"sparse csr_matrix.*Use scikit-learn's SVC"):
        KernelClassifier().fit(csr_matrix(X), y)
    broken = X.copy()
    broken[3, 1] = np.nan
    with pytest.raises(InputError, match="LL030 X is NaN in row 3, column 1"):
        KernelClassifier().fit(broken, y)
    with pytest.raises(InputError, match="one class only"):
        KernelClassifier().fit(X, np.zeros(len(y)))
    for factor in (1e160, 1e-160):
        with pytest.raises(InputError, match="beyond what can be squared"):
            KernelClassifier().fit(X * factor, y)
    with pytest.raises(InputError, match="poly has values beyond float64"):
        KernelClassifier("poly", gamma=1.0, degree=9).fit(X * 1e40, y)
    fitted = KernelClassifier("poly", gamma=1.0, degree=9).fit(X, y)
    with pytest.raises(InputError, match="poly has values beyond float64"):
        fitted.decision_function(X * 1e40)


def test_a_fit_cut_short_warns_once_with_its_code():
    X, y = _two_moons()
    for loss in ("cross_entropy", "hinge"):
        with pytest.warns(ConvergenceWarning, match="LL040") as caught:
            KernelClassifier(loss=loss, max_iter=1, C=1e4, tol=1e-12).fit(X, y)
        assert len(caught) == 1
        assert caught[0].filename == __file__


def test_progress_is_on_stderr_alone(capsys):
    X, y = _two_moons()
    quiet, loud = KernelClassifier().fit(X, y), KernelClassifier(verbose=1).fit(X, y)
    assert capsys.readouterr().out == ""
    np.testing.assert_array_equal(quiet.dual_coef_, loud.dual_coef_)


def test_polynomial_features_are_those_of_scikit_learns_kernel():
    X, y = _two_moons()
    ours = KernelClassifier("poly", gamma=0.5, degree=4, coef0=1.0).fit(X, y)
    K = polynomial_kernel(X, ours.landmarks_, degree=4, gamma=0.5, coef0=1.0)
    np.testing.assert_allclose(ours.decision_function(X), K @ ours.dual_coef_[0] + ours.intercept_[0], atol=1e-9)


# -- every row, however many


def test_all_rows_give_the_machine_of_as_many_landmarks_as_rows():
    X, y = load_digits(return_X_y=True)
    X, y = X[:500], y[:500]
    options = {"gamma": 1e-3, "loss": "squared", "C": 20.0}
    everything = KernelClassifier(n_landmarks="all", tol=1e-10, **options).fit(X, y)
    landmarks = KernelClassifier(n_landmarks=500, tol=1e-10, **options).fit(X, y)
    new = np.random.default_rng(0).normal(8.0, 4.0, size=(40, 64))
    np.testing.assert_allclose(everything.decision_function(new), landmarks.decision_function(new), atol=2e-5)
    np.testing.assert_array_equal(np.unique(everything.landmarks_, axis=0), np.unique(X, axis=0))
    assert everything.dual_coef_.shape == (10, 500)
    assert not hasattr(everything, "coef_")


def test_all_rows_with_weights_are_scikit_learns_kernel_ridge():
    X, y = _two_moons()
    weights = np.random.default_rng(0).uniform(0.5, 2.0, len(y))
    options = {"gamma": 0.8, "fit_intercept": False}
    ours = KernelClassifier(loss="squared", C=3.0, n_landmarks="all", tol=1e-10, **options).fit(X, y, weights)
    theirs = KernelRidge(alpha=1 / 3.0, kernel="rbf", gamma=0.8).fit(X, 2.0 * y - 1.0, weights)
    np.testing.assert_allclose(ours.decision_function(X), theirs.predict(X), atol=1e-5)


def test_a_fit_with_landmarks_after_one_with_all_rows_uses_its_own():
    X, y = _two_moons()
    classifier = KernelClassifier(loss="squared", n_landmarks="all").fit(X, y)
    classifier.set_params(n_landmarks=10).fit(X, y)
    assert classifier.landmarks_.shape == (10, 2)
    again = classifier.set_params(n_landmarks="all").fit(X, y)
    assert not hasattr(again, "map_")
    assert again.score(X, y) > 0.9


@pytest.mark.parametrize(
    ("options", "words"),
    [({"loss": "hinge"}, "goes with loss='squared'"), ({"loss": "squared", "n_landmarks": "every"}, "or 'all'")],
)
def test_all_rows_refuses_by_name(options, words):
    X, y = _two_moons()
    with pytest.raises(InputError, match=words):
        KernelClassifier(**{"n_landmarks": "all", **options}).fit(X, y)


def test_all_rows_says_when_the_gap_is_not_reached(monkeypatch):
    X, y = _two_moons(500)
    monkeypatch.setattr(kernel_all, "fit_kernel_ridge", partial(fit_kernel_ridge, landmarks=5))
    with pytest.warns(ConvergenceWarning, match="LL040 kernel_ridge did not converge"):
        KernelClassifier(loss="squared", gamma=50.0, C=1e6, n_landmarks="all", max_iter=1).fit(X, y)
