"""What scikit-learn's users do with an estimator: pipelines, searches, copies, odd input, and what they are told."""

from __future__ import annotations

import pickle
import tracemalloc
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lastlayer import InputError, LinearClassifier, LogisticRegression
from lastlayer.selection import fit_linear
from lastlayer.solvers.base import StopReason

X, Y = load_iris(return_X_y=True)
BOTH = [LogisticRegression(), LinearClassifier(l2=0.01)]
IDS = ["LogisticRegression", "LinearClassifier"]
both = pytest.mark.parametrize("estimator", BOTH, ids=IDS)


@both
def test_grid_search_through_a_pipeline(estimator):
    name = type(estimator).__name__.lower()
    knob, values = ("C", [1e-4, 1.0]) if name == "logisticregression" else ("l2", [1e-3, 100.0])
    pipeline = make_pipeline(StandardScaler(), clone(estimator))
    search = GridSearchCV(pipeline, {f"{name}__{knob}": values}, cv=3, scoring="neg_log_loss").fit(X, Y)
    best = values[1] if knob == "C" else values[0]
    assert search.best_params_ == {f"{name}__{knob}": best}
    assert search.best_estimator_[-1].get_params()[knob] == best
    assert search.score(X, Y) > -0.2


def test_grid_search_over_losses_and_flags():
    grid = {"loss": ["cross_entropy", "squared", "squared_hinge"], "standardise": [True, False]}
    search = GridSearchCV(LinearClassifier(l2=0.01), grid, cv=3).fit(X, Y)
    assert len(search.cv_results_["params"]) == 6
    assert min(search.cv_results_["mean_test_score"]) > 0.7


@both
def test_copies_and_pickles_predict_alike(estimator):
    fitted = clone(estimator).fit(X, Y)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
    assert again.get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        clone(fitted).predict(X)


@both
def test_fit_leaves_constructor_arguments_alone(estimator):
    weights = {0: 2.0, 1: 1.0, 2: 0.5}
    unfitted = clone(estimator).set_params(class_weight=weights)
    before = {name: (id(value), repr(value)) for name, value in unfitted.get_params().items()}
    unfitted.fit(X, Y)
    assert {name: (id(value), repr(value)) for name, value in unfitted.get_params().items()} == before


@both
def test_html_and_text_representation(estimator):
    assert type(estimator).__name__ in clone(estimator).fit(X, Y)._repr_html_()
    assert repr(clone(estimator)).startswith(type(estimator).__name__)


@both
def test_meta_estimators(estimator):
    assert OneVsRestClassifier(clone(estimator)).fit(X, Y).score(X, Y) > 0.9
    assert CalibratedClassifierCV(clone(estimator), cv=3).fit(X, Y).score(X, Y) > 0.9
    assert cross_val_predict(clone(estimator), X, Y, cv=3, method="predict_proba").shape == (150, 3)


def test_probabilities_where_the_loss_has_them():
    assert hasattr(LinearClassifier(), "predict_proba")
    hinge = LinearClassifier("squared_hinge", l2=0.1).fit(X, Y)
    assert not hasattr(hinge, "predict_proba")
    with pytest.raises(AttributeError, match="predict_proba") as caught:
        hinge.predict_proba(X)
    assert "CalibratedClassifierCV" in str(caught.value.__cause__)


@both
def test_labels_of_any_kind(estimator):
    for labels in (np.array(["setosa", "Ünïcode", "z"]), np.array([-1.0, 0.0, 3.0]), np.array([7, 2, 5])):
        fitted = clone(estimator).fit(X, labels[Y])
        assert fitted.classes_.tolist() == sorted(labels.tolist())
        assert (fitted.predict(X) == labels[Y]).mean() > 0.9
    flags = clone(estimator).fit(X, Y == 0)
    assert flags.predict(X).dtype == bool and flags.score(X, Y == 0) == 1.0


@both
def test_column_names_are_kept_and_checked(estimator):
    frame = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    fitted = clone(estimator).fit(frame, Y)
    assert fitted.feature_names_in_.tolist() == ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(frame[["b", "a", "c", "d"]])
    frame.loc[17, "c"] = np.nan
    with pytest.raises(InputError, match=r"LL030 X is NaN in row 17, column 2 \('c'\)"):
        fitted.predict(frame)


@both
def test_sparse_input_is_refused_by_name(estimator):
    for container in (sparse.csr_array, sparse.csc_matrix, sparse.coo_array):
        with pytest.raises(InputError, match=r"sparse data is not supported.*Use scikit-learn's") as caught:
            clone(estimator).fit(container(X), Y)
        assert "toarray()" in caught.value.mend
    with pytest.raises(InputError, match="sparse"):
        clone(estimator).fit(X, Y).predict(sparse.csr_array(X))


def test_sparse_alternative_goes_with_the_loss():
    with pytest.raises(InputError, match="RidgeClassifier"):
        LinearClassifier("squared").fit(sparse.csr_array(X), Y)


@both
def test_one_class_is_named(estimator):
    with pytest.raises(InputError, match="one class only: 'cat'"):
        clone(estimator).fit(X[:5], ["cat"] * 5)
    with pytest.raises(InputError, match="one class only where their weight is positive: 2"):
        clone(estimator).fit(X, Y, sample_weight=(Y == 2).astype(float))
    with pytest.raises(InputError, match="one class only"):
        clone(estimator).set_params(class_weight={0: 0.0, 1: 0.0}).fit(X, Y)


@both
def test_a_class_in_rows_of_weight_zero_only_is_absent(estimator):
    weights = (Y != 1).astype(float)
    fitted = clone(estimator).set_params(class_weight="balanced").fit(X, Y, weights)
    removed = clone(estimator).set_params(class_weight="balanced").fit(X[Y != 1], Y[Y != 1])
    assert fitted.classes_.tolist() == [0, 2]
    np.testing.assert_allclose(fitted.coef_, removed.coef_, rtol=1e-6)


@both
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.zeros(150), "every sample weight is zero"),
        (-np.ones(150), "negative in row 0"),
        (np.r_[np.ones(149), np.nan], "not finite in row 149"),
        (np.ones(149), r"shape \(149,\)"),
        (np.ones((150, 1)), r"shape \(150, 1\)"),
        (["heavy"] * 150, "not a number"),
    ],
)
def test_weights_that_cannot_be_used(estimator, weights, message):
    with pytest.raises(InputError, match=message):
        clone(estimator).fit(X, Y, sample_weight=weights)


@both
def test_class_weights_that_cannot_be_used(estimator):
    for wrong in ("balance", [1, 2, 3], {0: -1.0}, {0: "two"}, {0: np.inf}, {0: 1.0, 4: 2.0}):
        with pytest.raises(InputError, match="class_weight"):
            clone(estimator).set_params(class_weight=wrong).fit(X, Y)
    # A fold without class 2 is fitted with a dict for all three.
    clone(estimator).set_params(class_weight={0: 1.0, 1: 2.0, 2: 3.0}).fit(X[Y < 2], Y[Y < 2])


def test_scale_of_weights():
    # l2 goes with the mean: only ratios count. C goes with the sum.
    weights = np.linspace(0.5, 2.0, len(Y))
    plain = LinearClassifier(l2=0.1).fit(X, Y, weights)
    for factor in (1e300, 1e-300, 7.0):
        scaled = LinearClassifier(l2=0.1).fit(X, Y, weights * factor)
        np.testing.assert_allclose(scaled.coef_, plain.coef_, rtol=1e-7)
    by_C = LogisticRegression(C=1.0).fit(X, Y, weights)
    by_weight = LogisticRegression(C=1e-200).fit(X, Y, weights * 1e200)
    np.testing.assert_allclose(by_weight.coef_, by_C.coef_, rtol=1e-7)
    with pytest.raises(InputError, match="sum of the sample weights is infinite"):
        LogisticRegression().fit(X, Y, np.full(len(Y), 1e307))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"penalty": "l1"}, r"does not support penalty='l1'.*saga"),
        ({"penalty": "elasticnet"}, "penalty='elasticnet'"),
        ({"l1_ratio": 0.5}, "l1_ratio=0.5"),
        ({"dual": True}, "dual=True"),
        ({"solver": "liblinear"}, "solver='liblinear'.*penalises the intercept"),
        ({"solver": "adam"}, "solver='adam'.*lbfgs, newton-cg"),
        ({"intercept_scaling": 10.0}, "intercept_scaling=10.0"),
        ({"C": 0.0}, "C is 0.0"),
        ({"C": "1"}, "C is '1'"),
        ({"C": np.nan}, "C is nan"),
        ({"tol": -1.0}, "tol is -1.0"),
        ({"max_iter": 2.5}, "max_iter is 2.5"),
        ({"fit_intercept": "yes"}, "fit_intercept is 'yes'"),
        ({"warm_start": 1}, "warm_start is 1"),
        ({"n_jobs": 0}, "n_jobs is 0"),
        ({"verbose": -1}, "verbose is -1"),
    ],
)
def test_parameters_that_are_refused_by_name(parameters, message):
    unfitted = LogisticRegression(**parameters)
    with pytest.raises(InputError, match=message):
        unfitted.fit(X, Y)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"loss": "log"}, "No loss is called 'log'"),
        ({"loss": None}, "loss is None"),
        ({"solver": "magic"}, "No solver is called 'magic'"),
        ({"loss": "hinge", "solver": "lbfgs"}, "lbfgs cannot minimise the hinge loss"),
        ({"loss": "zero_one"}, "zero_one"),
        ({"l2": -1.0}, "l2 is -1.0"),
        ({"l2": np.inf}, "l2 is inf"),
        ({"max_iter": -1}, "max_iter is -1"),
        ({"standardise": "yes"}, "standardise is 'yes'"),
        ({"random_state": "seed", "loss": "perceptron"}, "random_state is 'seed'"),
    ],
)
def test_parameters_of_the_general_classifier(parameters, message):
    with pytest.raises(InputError, match=message):
        LinearClassifier(**parameters).fit(X, Y)


@pytest.mark.parametrize("solver", ["lbfgs", "newton-cg", "newton-cholesky", "sag", "saga"])
def test_scikit_learns_names_for_the_same_optimum(solver):
    same = LogisticRegression(solver=solver, penalty="l2", l1_ratio=None, random_state=3).fit(X, Y)
    np.testing.assert_array_equal(same.coef_, LogisticRegression().fit(X, Y).coef_)


@both
def test_not_converged_is_one_warning_that_says_what_to_do(estimator):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fitted = clone(estimator).set_params(max_iter=1).fit(X, Y)
    assert [w.category for w in caught] == [ConvergenceWarning]
    text = str(caught[0].message)
    assert text.startswith("LL040 lbfgs did not converge")
    assert "Raise max_iter, standardise" in text
    assert caught[0].filename == __file__
    assert np.max(fitted.n_iter_) == 1


def test_no_iterations_give_the_constant_prediction():
    with pytest.warns(ConvergenceWarning, match="LL040"):
        fitted = LinearClassifier(max_iter=0).fit(X, Y, sample_weight=np.where(Y == 1, 3.0, 1.0))
    assert not fitted.coef_.any() and np.max(fitted.n_iter_) == 1
    np.testing.assert_allclose(fitted.predict_proba(X[:1])[0], [0.2, 0.6, 0.2], atol=1e-6)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("loss", ["cross_entropy", "squared", "squared_hinge"])
@pytest.mark.parametrize("standardise", [False, True])
def test_warm_start_begins_at_the_optimum(classes, loss, standardise):
    rows = Y < classes
    again = LinearClassifier(loss, solver="lbfgs", l2=0.05, warm_start=True, standardise=standardise, tol=1e-9)
    again.fit(X[rows], Y[rows])
    coef = again.coef_.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        again.set_params(tol=1e-7, max_iter=0).fit(X[rows], Y[rows])
    np.testing.assert_allclose(again.coef_, coef, rtol=1e-5)


@both
def test_warm_start_with_other_classes_is_refused(estimator):
    fitted = clone(estimator).set_params(warm_start=True).fit(X, Y)
    with pytest.raises(InputError, match=r"warm_start=True.*classes \[0, 1, 2\].*\[0, 1\]"):
        fitted.fit(X[Y < 2], Y[Y < 2])


@both
def test_types_in_and_out(estimator):
    for given, wide in (
        (np.float32, False),
        (np.float64, True),
        (np.int64, True),
        (np.uint8, False),
        (np.float16, False),
    ):
        Z = (10 * X).astype(given)
        fitted = clone(estimator).fit(Z, Y)
        expected = np.float64 if wide else np.float32
        assert fitted.coef_.dtype == fitted.intercept_.dtype == expected
        for method in ("decision_function", "predict_proba", "predict_log_proba"):
            assert getattr(fitted, method)(Z).dtype == expected, (given, method)
        np.testing.assert_allclose(fitted.predict_proba(Z).sum(axis=1), 1.0, rtol=1e-5)
        # A model of one type answers the others: as float64 where either is.
        assert fitted.decision_function(Z.astype(np.float64)).dtype == np.float64


@both
def test_any_memory_layout_gives_the_same_bits(estimator):
    fitted = clone(estimator).fit(X, Y)
    wide = np.zeros((300, 8))
    wide[::2, ::2] = X
    frozen = X.copy()
    frozen.flags.writeable = False
    for same in (np.asfortranarray(X), wide[::2, ::2], frozen, X.tolist(), pd.DataFrame(X).to_numpy()):
        np.testing.assert_array_equal(clone(estimator).fit(same, Y).coef_, fitted.coef_)
        np.testing.assert_array_equal(fitted.decision_function(same), fitted.decision_function(X))


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_rows_scores_do_not_depend_on_its_batch(classes, dtype):
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(500, 37)).astype(dtype)
    y = rng.integers(classes, size=500)
    fitted = LogisticRegression(C=0.1).fit(Z, y)
    together = fitted.decision_function(Z)
    order = rng.permutation(500)
    np.testing.assert_array_equal(fitted.decision_function(Z[order]), together[order])
    for i in (0, 1, 130, 499):
        np.testing.assert_array_equal(fitted.decision_function(Z[i : i + 1])[0], together[i])


def test_threads_change_no_bit():
    rng = np.random.default_rng(0)
    Z, y = rng.normal(size=(9000, 5)), rng.integers(3, size=9000)
    one, two = (LogisticRegression(n_jobs=n).fit(Z, y) for n in (1, 2))
    np.testing.assert_array_equal(one.coef_, two.coef_)
    np.testing.assert_array_equal(LogisticRegression(n_jobs=-2).fit(Z, y).coef_, one.coef_)


def test_images_are_not_copied_as_floats():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, size=(20_000, 256), dtype=np.uint8)
    y = rng.integers(2, size=20_000)
    LinearClassifier(l2=1e4, tol=1e-3).fit(pixels, y)  # loads the compiled loops, which are no copy of the pixels
    tracemalloc.start()
    LinearClassifier(l2=1e4, tol=1e-3).fit(pixels, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * pixels.size, f"{peak / pixels.size:.1f} bytes for every pixel"


def test_far_features_lose_no_digits():
    plain = LogisticRegression().fit(X, Y)
    moved = LogisticRegression().fit(X + 2.0**20, Y)
    np.testing.assert_allclose(moved.coef_, plain.coef_, rtol=1e-4)
    assert (moved.predict(X + 2.0**20) == plain.predict(X)).all()


def test_log_probabilities_stay_finite():
    fitted = LogisticRegression().fit(X, Y)
    far = fitted.predict_log_proba(1e4 * X)
    assert np.isfinite(far).all() and far.min() < -1000
    two = LogisticRegression().fit(X[:100], Y[:100])
    assert np.isfinite(two.predict_log_proba(1e4 * X)).all()
    np.testing.assert_allclose(np.exp(two.predict_log_proba(X)), two.predict_proba(X))


def test_separable_without_penalty_is_refused():
    apart = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    with pytest.raises(InputError, match=r"no finite optimum.*Give a positive l2"):
        LogisticRegression(C=np.inf).fit(apart, [0, 0, 1, 1])


def test_interrupt_is_raised_again(monkeypatch):
    def interrupted(*args, **options):
        fit = fit_linear(*args, **options)
        return replace(fit, solution=replace(fit.solution, stop_reason=StopReason.INTERRUPTED))

    monkeypatch.setattr("lastlayer.estimators.fitting.fit_linear", interrupted)
    with pytest.raises(KeyboardInterrupt):
        LogisticRegression().fit(X, Y)


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_hinge", "perceptron", "hinge"])
def test_weights_are_repetitions_and_order_does_not_count_to_the_last_bit(loss):
    rng = np.random.default_rng(4)
    Z = rng.normal(size=(60, 5))
    y = rng.integers(3, size=60)
    times = rng.integers(0, 4, size=60)
    unfitted = LinearClassifier(loss, l2=0.1, max_iter=50, random_state=1)
    order = rng.permutation(times.sum())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        weighted = clone(unfitted).fit(Z, y, sample_weight=times)
        repeated = clone(unfitted).fit(Z.repeat(times, axis=0)[order], y.repeat(times)[order])
    np.testing.assert_array_equal(weighted.coef_, repeated.coef_)
    np.testing.assert_array_equal(weighted.intercept_, repeated.intercept_)


def test_silent_unless_verbose(capfd):
    quiet = LogisticRegression(verbose=0).fit(X, Y)
    assert capfd.readouterr() == ("", "")
    loud = LogisticRegression(verbose=1).fit(X, Y)
    assert capfd.readouterr().out == ""
    np.testing.assert_array_equal(loud.coef_, quiet.coef_)
