"""`LogisticRegressionCV`: scikit-learn's checks, its choice of C, its coefficients and its attributes."""

from __future__ import annotations

import warnings
from unittest import SkipTest

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegressionCV as Reference
from sklearn.metrics import get_scorer, log_loss, make_scorer
from sklearn.model_selection import GroupKFold, RepeatedStratifiedKFold, ShuffleSplit, StratifiedKFold
from sklearn.utils.estimator_checks import (
    check_class_weight_balanced_linear_classifier,
    estimator_checks_generator,
    parametrize_with_checks,
)

from lastlayer import LogisticRegression
from lastlayer._arrays import InputError
from lastlayer.estimators.logistic_regression_cv import LogisticRegressionCV

ESTIMATORS = [
    LogisticRegressionCV(Cs=2, cv=3),
    LogisticRegressionCV(Cs=[0.1, 10.0], cv=2, scoring="neg_log_loss", use_legacy_attributes=False, l1_ratios=(0,)),
]
NAMES = [str(estimator) for estimator in ESTIMATORS]
INSTANCES = 63
CS = [1e-3, 1e-1, 1.0]
TIGHT = {"tol": 1e-8, "max_iter": 5000}


@pytest.fixture(autouse=True)
def _array_api(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")


# scikit-learn's own splitter says so of the checks' smallest problems
@pytest.mark.filterwarnings("ignore:The least populated class in y has only")
@parametrize_with_checks(ESTIMATORS)
def test_check(estimator, check):
    try:
        check(estimator)
    except SkipTest as reason:
        pytest.fail(f"skipped: {reason}")


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=NAMES)
def test_every_instance_is_run(estimator):
    names = [getattr(check, "func", check).__name__ for _, check in estimator_checks_generator(clone(estimator))]
    assert len(names) >= INSTANCES
    assert "check_sample_weight_equivalence_on_dense_data" in names


@pytest.mark.filterwarnings("ignore:The least populated class in y has only")
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=NAMES)
def test_balanced_class_weights(estimator):
    check_class_weight_balanced_linear_classifier("lastlayer", clone(estimator))


def problem(n_classes, n=150, d=6, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(n_classes, size=n)
    X = rng.normal(size=(n_classes, d))[y] + 1.5 * rng.normal(size=(n, d))
    return X * np.linspace(0.2, 3.0, d) + np.linspace(-2.0, 5.0, d), y, rng


def reference(**parameters):
    return Reference(solver="newton-cholesky", tol=1e-12, max_iter=1000, **parameters)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize(
    ("scoring", "weighted", "refit"),
    [
        ("accuracy", False, True),
        ("accuracy", True, False),
        ("neg_log_loss", True, True),
        ("neg_log_loss", False, False),
        ("roc_auc_ovr", True, True),
        ("balanced_accuracy", False, True),
    ],
)
def test_everything_is_scikit_learns(n_classes, scoring, weighted, refit):
    X, y, rng = problem(n_classes)
    labels = np.array(["ant", "bee", "cow"])[y]
    weights = rng.uniform(0.1, 5.0, size=len(y)) if weighted else None
    shared = {"Cs": CS, "cv": 4, "scoring": scoring, "refit": refit, "class_weight": "balanced" if weighted else None}
    theirs = reference(**shared, l1_ratios=(0,), use_legacy_attributes=True).fit(X, labels, weights)
    ours = LogisticRegressionCV(**shared, l1_ratios=(0,), **TIGHT).fit(X, labels, weights)
    np.testing.assert_allclose(ours.C_, theirs.C_)
    np.testing.assert_allclose(ours.Cs_, theirs.Cs_)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, rtol=1e-6, atol=1e-7)
    assert ours.n_iter_.shape == theirs.n_iter_.shape
    assert ours.scores_.keys() == theirs.scores_.keys()
    assert ours.coefs_paths_.keys() == theirs.coefs_paths_.keys()
    for label in theirs.scores_:
        np.testing.assert_allclose(ours.scores_[label], theirs.scores_[label], rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(ours.coefs_paths_[label], theirs.coefs_paths_[label], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-7)
    assert ours.score(X, labels, sample_weight=weights) == pytest.approx(theirs.score(X, labels, sample_weight=weights))


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("ratios", [None, (0.0,)])
def test_attributes_have_scikit_learns_shapes(n_classes, legacy, ratios):
    X, y, _ = problem(n_classes)
    shared = {"Cs": 3, "cv": 4, "scoring": "accuracy", "l1_ratios": ratios, "use_legacy_attributes": legacy}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        theirs = reference(**shared).fit(X, y)
    ours = LogisticRegressionCV(**shared).fit(X, y)
    for name in ("C_", "Cs_", "l1_ratio_", "l1_ratios_", "n_iter_", "coef_", "intercept_", "classes_"):
        mine, other = getattr(ours, name), getattr(theirs, name)
        assert type(mine) is type(other), name
        assert np.shape(mine) == np.shape(other), name
    for name in ("scores_", "coefs_paths_"):
        mine, other = getattr(ours, name), getattr(theirs, name)
        assert type(mine) is type(other), name
        if legacy:
            assert {k: v.shape for k, v in mine.items()} == {k: v.shape for k, v in other.items()}
        else:
            assert mine.shape == other.shape
    np.testing.assert_array_equal(ours.l1_ratio_, theirs.l1_ratio_)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_the_refit_is_a_logistic_regression_at_the_chosen_C(n_classes, fit_intercept):
    X, y, _ = problem(n_classes)
    ours = LogisticRegressionCV(Cs=CS, cv=3, fit_intercept=fit_intercept).fit(X, y)
    alone = LogisticRegression(C=ours.C_[0], tol=1e-4, fit_intercept=fit_intercept).fit(X, y)
    np.testing.assert_array_equal(ours.coef_, alone.coef_)
    np.testing.assert_array_equal(ours.intercept_, alone.intercept_)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_out_of_fold_probabilities_come_from_the_fold_that_held_the_row_out(n_classes, fit_intercept):
    X, y, _ = problem(n_classes)
    ours = LogisticRegressionCV(Cs=CS, cv=5, fit_intercept=fit_intercept, **TIGHT).fit(X, y)
    assert ours.out_of_fold_.shape == (len(y), n_classes)
    assert ours.out_of_fold_.dtype == np.float32
    for train, test in StratifiedKFold(5).split(X, y):
        alone = LogisticRegression(C=ours.C_[0], fit_intercept=fit_intercept, **TIGHT).fit(X[train], y[train])
        np.testing.assert_allclose(ours.out_of_fold_[test], alone.predict_proba(X[test]), atol=1e-6)
    assert log_loss(y, ours.out_of_fold_) > log_loss(y, ours.predict_proba(X))


def test_rows_held_out_never_or_often():
    X, y, _ = problem(3)
    never = ShuffleSplit(1, test_size=0.2, random_state=0)
    held = next(never.split(X))[1]
    ours = LogisticRegressionCV(Cs=[1.0], cv=never).fit(X, y)
    seen = np.isfinite(ours.out_of_fold_).all(axis=1)
    assert set(np.flatnonzero(seen)) == set(held)
    often = LogisticRegressionCV(Cs=[1.0], cv=RepeatedStratifiedKFold(n_splits=3, n_repeats=2, random_state=0))
    assert np.isfinite(often.fit(X, y).out_of_fold_).all()
    assert often.scores_[0].shape == (6, 1)


def test_groups_are_held_out_together():
    X, y, rng = problem(3)
    groups = np.repeat(np.arange(30), 5)
    X = X + 5 * rng.normal(size=(30, X.shape[1]))[groups]
    kept = LogisticRegressionCV(Cs=CS, cv=3).fit(X, y, groups=groups)
    named = LogisticRegressionCV(Cs=CS, cv=GroupKFold(3)).fit(X, y, groups=groups)
    loose = LogisticRegressionCV(Cs=CS, cv=3).fit(X, y)
    assert not np.array_equal(kept.scores_[0], loose.scores_[0])
    theirs = reference(Cs=CS, cv=list(GroupKFold(3).split(X, y, groups)), l1_ratios=(0,), scoring="accuracy")
    theirs.set_params(use_legacy_attributes=False).fit(X, y)
    np.testing.assert_allclose(named.scores_[0], theirs.scores_[:, 0])


def test_callable_scoring_meets_a_fitted_estimator_the_rows_and_their_labels():
    X, y, _ = problem(3)
    labels = np.array(["ant", "bee", "cow"])[y]
    seen = []

    def scorer(estimator, X_held, y_held):
        seen.append((estimator.coef_.shape, X_held.shape, set(y_held)))
        return -log_loss(y_held, estimator.predict_proba(X_held), labels=estimator.classes_)

    by_hand = LogisticRegressionCV(Cs=CS, cv=3, scoring=scorer, **TIGHT).fit(X, labels)
    by_name = LogisticRegressionCV(Cs=CS, cv=3, scoring="neg_log_loss", **TIGHT).fit(X, labels)
    np.testing.assert_allclose(by_hand.scores_["ant"], by_name.scores_["ant"], rtol=1e-9)
    assert seen[0] == ((3, 6), (50, 6), {"ant", "bee", "cow"})
    assert by_hand.score(X, labels) == pytest.approx(by_name.score(X, labels))
    made = LogisticRegressionCV(Cs=CS, cv=3, scoring=make_scorer(lambda t, p: float((t == p).mean()))).fit(X, labels)
    plain = LogisticRegressionCV(Cs=CS, cv=3).fit(X, labels)
    np.testing.assert_allclose(made.scores_["ant"], plain.scores_["ant"])


def test_f1_speaks_for_the_second_of_two_labels():
    X, y, _ = problem(2)
    by_label = LogisticRegressionCV(Cs=CS, cv=3, scoring="f1").fit(X, np.array(["ant", "bee"])[y])
    by_number = LogisticRegressionCV(Cs=CS, cv=3, scoring="f1").fit(X, y)
    np.testing.assert_array_equal(by_label.scores_["bee"], by_number.scores_[1])
    assert by_number.scores_[1].mean() > 0.5


def test_any_order_of_Cs():
    X, y, _ = problem(3)
    up = LogisticRegressionCV(Cs=CS, cv=3).fit(X, y)
    down = LogisticRegressionCV(Cs=[*CS[::-1], CS[0]], cv=3).fit(X, y)
    np.testing.assert_array_equal(down.scores_[0][:, :3], up.scores_[0][:, ::-1])
    np.testing.assert_array_equal(down.scores_[0][:, 3], up.scores_[0][:, 0])
    assert down.C_[0] == up.C_[0]


@pytest.mark.parametrize("scoring", ["neg_log_loss", "neg_brier_score", "f1_macro"])
@pytest.mark.filterwarnings("ignore:(F-score|Precision|Recall) is ill-defined")
def test_a_fold_whose_held_out_rows_lack_a_class(scoring):
    X, y, _ = problem(3)
    y[:4], y[4:] = 2, y[4:] % 2
    cv = [(np.arange(2, 150), np.arange(2)), (np.r_[0:60, 110:150], np.arange(60, 110))]
    ours = LogisticRegressionCV(Cs=CS, cv=cv, scoring=scoring, **TIGHT).fit(X, y)
    theirs = reference(Cs=CS, cv=cv, scoring=scoring, l1_ratios=(0,), use_legacy_attributes=False).fit(X, y)
    np.testing.assert_allclose(ours.scores_[0], theirs.scores_[:, 0], rtol=1e-6)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"penalty": "l1"}, r"penalty='l1'.*saga"),
        ({"l1_ratios": (0.5,)}, r"l1_ratios=\(0.5,\).*saga"),
        ({"l1_ratios": ()}, r"l1_ratios=\(\)"),
        ({"dual": True}, "dual=True"),
        ({"solver": "liblinear"}, "solver='liblinear'"),
        ({"solver": "adam"}, "solver='adam'"),
        ({"intercept_scaling": 2.0}, "intercept_scaling=2.0"),
        ({"scoring": "beauty"}, "scoring='beauty'"),
        ({"scoring": 3}, "scoring=3"),
        ({"Cs": 0}, "Cs is 0"),
        ({"Cs": []}, "Cs is empty"),
        ({"Cs": [1.0, -1.0]}, r"Cs\[1\]"),
        ({"Cs": [np.inf]}, r"Cs\[0\]"),
        ({"refit": 1}, "refit is 1"),
        ({"cv": [(np.arange(10), np.arange(5, 20))]}, "trains on row 5"),
    ],
)
def test_what_cannot_be_is_refused_by_name(parameters, message):
    X, y, _ = problem(3)
    with pytest.raises(InputError, match=message):
        LogisticRegressionCV(**parameters).fit(X, y)


def test_one_warning_when_not_converged():
    X, y, _ = problem(3)
    with pytest.warns(ConvergenceWarning, match="LL040") as caught:
        LogisticRegressionCV(Cs=CS, cv=3, max_iter=1).fit(X, y)
    assert len(caught) == 1


def test_ctrl_c_goes_through(monkeypatch):
    from lastlayer.selection import cross_validation

    X, y, _ = problem(3)
    plain, calls = cross_validation._Run._judge, []

    def judge(*given):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        plain(*given)

    monkeypatch.setattr(cross_validation._Run, "_judge", judge)
    with pytest.raises(KeyboardInterrupt):
        LogisticRegressionCV(Cs=CS, cv=3).fit(X, y)


def test_large_problems_in_float32_keep_the_type_and_the_answer():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30_000, 40)).astype(np.float32)
    y = (X[:, :3] + 2 * rng.gumbel(size=(30_000, 3))).argmax(axis=1)
    ours = LogisticRegressionCV(Cs=[1e-4, 1e-2], cv=3, scoring="neg_log_loss").fit(X, y)
    alone = LogisticRegression(C=ours.C_[0], tol=1e-6).fit(X, y)
    assert ours.coef_.dtype == np.float32
    np.testing.assert_allclose(ours.coef_, alone.coef_, atol=1e-4)


# -- what is given to scorers and splitters


def test_a_scorer_is_called_fold_by_fold_from_the_smallest_C_up():
    X, y = make_classification(60, random_state=0)
    seen: list[tuple[int, float]] = []

    def scorer(model, X, y):  # type: ignore[no-untyped-def]
        seen.append((len(X), float(np.abs(model.coef_).sum())))
        return len(seen) % 3

    LogisticRegressionCV(Cs=[10.0, 0.1, 1.0], cv=2, scoring=scorer).fit(X, y)
    sizes = np.array([size for _, size in seen]).reshape(2, 3)
    assert (np.diff(sizes, axis=1) > 0).all()


def test_routing_gives_weights_to_scorers_that_request_them():
    X, y = make_classification(200, flip_y=0.3, random_state=0)
    weights = np.where(np.arange(200) < 100, 5.0, 1.0)
    with config_context(enable_metadata_routing=True):
        plain, weighted = (
            LogisticRegressionCV(scoring=get_scorer("accuracy").set_score_request(sample_weight=asked)).fit(
                X, y, sample_weight=weights
            )
            for asked in (False, True)
        )
        assert not np.allclose(plain.scores_[1], weighted.scores_[1])
        with pytest.raises(TypeError, match="not routed to any object"):
            plain.score(X, y, sample_weight=weights)
        right = weighted.predict(X) == y
        assert weighted.score(X, y, sample_weight=weights) == pytest.approx(np.average(right, weights=weights))
    with pytest.raises(InputError, match="only supported if enable_metadata_routing=True"):
        LogisticRegressionCV().fit(X, y, metadata=1)
    with pytest.raises(InputError, match="only supported if enable_metadata_routing=True"):
        plain.score(X, y, metadata=1)


def test_routing_gives_groups_to_a_splitter_that_requests_them():
    X, y = make_classification(80, random_state=0)
    groups = np.arange(80) // 8
    with config_context(enable_metadata_routing=True):
        routed = LogisticRegressionCV(cv=GroupKFold(5).set_split_request(groups=True)).fit(X, y, groups=groups)
    folds = list(GroupKFold(5).split(X, y, groups))
    np.testing.assert_allclose(routed.scores_[1], LogisticRegressionCV(cv=folds).fit(X, y).scores_[1])
