"""`KNeighborsClassifier`: scikit-learn's checks and answers, ties, weights, and the choice of k."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, LeaveOneOut, PredefinedSplit
from sklearn.neighbors import KNeighborsClassifier as Theirs
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks
from threadpoolctl import threadpool_limits

from lastlayer._arrays import InputError
from lastlayer.estimators.k_neighbors import AUTO, KNeighborsClassifier

ESTIMATORS = [
    KNeighborsClassifier(),
    KNeighborsClassifier(weights="distance", metric="l1"),
    KNeighborsClassifier("auto", metric="cosine"),
    KNeighborsClassifier([1, 3], cv="leave_one_out", p=3),
]
INSTANCES = 50
ESSENTIAL = {"check_methods_subset_invariance", "check_fit_idempotent", "check_readonly_memmap_input"}


@pytest.fixture(autouse=True)
def _array_api(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")


@parametrize_with_checks(ESTIMATORS)
def test_check(estimator, check):
    check(estimator)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
def test_every_instance_is_run(estimator):
    names = [getattr(check, "func", check).__name__ for _, check in estimator_checks_generator(clone(estimator))]
    assert len(names) >= INSTANCES
    assert set(names) >= ESSENTIAL


@pytest.fixture(autouse=True)
def _one_thread():
    """For scikit-learn's searches: waiting threads take time from others on a busy machine."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def blobs():
    """Rows in general position: no two distances are alike."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 400)
    X = rng.normal(size=(400, 6)) + rng.normal(size=(4, 6))[y]
    return X[:300], np.array(["a", "b", "c", "d"])[y[:300]], X[300:], np.array(["a", "b", "c", "d"])[y[300:]]


@pytest.mark.parametrize("weights", ["uniform", "distance", None, lambda d: np.exp(-d)])
@pytest.mark.parametrize("metric", [{}, {"p": 1}, {"p": 3}, {"metric": "cosine"}, {"metric": "euclidean"}])
def test_answers_are_scikit_learns(blobs, metric, weights):
    X, y, Q, t = blobs
    for k in (1, 4):
        ours = KNeighborsClassifier(k, weights=weights, **metric).fit(X, y)
        theirs = Theirs(k, weights=weights, algorithm="brute", **metric).fit(X, y)
        np.testing.assert_array_equal(ours.predict(Q), theirs.predict(Q))
        np.testing.assert_allclose(ours.predict_proba(Q), theirs.predict_proba(Q), rtol=1e-9, atol=1e-12)
        assert ours.score(Q, t) == theirs.score(Q, t)
        for given in (Q, None):
            a, b = ours.kneighbors(given), theirs.kneighbors(given)
            np.testing.assert_array_equal(a[1], b[1])
            np.testing.assert_allclose(a[0], b[0], rtol=1e-7)
        for mode in ("connectivity", "distance"):
            a, b = ours.kneighbors_graph(Q, mode=mode), theirs.kneighbors_graph(Q, mode=mode)
            np.testing.assert_allclose(a.toarray(), b.toarray(), rtol=1e-7)
        assert (ours.effective_metric_, ours.effective_metric_params_.get("p")) == (
            theirs.effective_metric_,
            theirs.effective_metric_params_.get("p"),
        )
        assert ours.n_samples_fit_ == theirs.n_samples_fit_


def test_equal_distances_go_to_the_first_row_and_equal_votes_to_the_first_class():
    X, y = np.array([[0.0], [2.0], [2.0], [4.0]]), ["z", "b", "a", "a"]
    one = KNeighborsClassifier(1).fit(X, y)
    assert one.predict([[1.0], [2.0], [3.0]]).tolist() == ["z", "b", "b"]
    assert one.kneighbors([[1.0]], 3, return_distance=False).tolist() == [[0, 1, 2]]
    assert KNeighborsClassifier(2).fit(X, y).predict([[1.0], [2.0]]).tolist() == ["b", "a"]


def test_rows_at_no_distance_count_alone():
    X, y = np.array([[0.0], [0.0], [1.0], [1.0], [1.0]]), [0, 1, 2, 2, 2]
    voter = KNeighborsClassifier(5, weights="distance").fit(X, y)
    np.testing.assert_allclose(voter.predict_proba([[0.0], [0.5]]), [[0.5, 0.5, 0.0], [0.2, 0.2, 0.6]])
    # 1 / 5e-324 is beyond float64: as good as no distance.
    assert voter.predict_proba([[5e-324]]).tolist() == [[0.5, 0.5, 0.0]]


def test_pixels_stay_bytes_and_give_what_floats_give():
    X, y = load_digits(return_X_y=True)
    for metric in ("l2", "l1", "l3", "cosine"):
        floats = KNeighborsClassifier(4, metric=metric, weights="distance").fit(X[:900], y[:900])
        small = KNeighborsClassifier(4, metric=metric, weights="distance").fit(X[:900].astype(np.uint8), y[:900])
        assert small._index.X.dtype == np.uint8
        np.testing.assert_array_equal(small.predict(X[900:].astype(np.uint8)), floats.predict(X[900:]))
        if metric != "cosine":
            np.testing.assert_array_equal(small.kneighbors(X[900:].astype(np.uint8))[1], floats.kneighbors(X[900:])[1])


@pytest.mark.parametrize("weights", ["uniform", "distance"])
def test_one_search_chooses_the_k_that_a_grid_search_chooses(blobs, weights):
    X, y, Q, _ = blobs
    ks = [1, 2, 3, 7, 30]
    split = PredefinedSplit(np.arange(len(X)) % 4)
    ours = KNeighborsClassifier(ks, weights=weights, cv=split).fit(X, y)
    grid = GridSearchCV(Theirs(weights=weights, algorithm="brute"), {"n_neighbors": ks}, cv=split).fit(X, y)
    assert ours.n_neighbors_ == grid.best_params_["n_neighbors"]
    for name in ("mean_test_score", "std_test_score", "split2_test_score"):
        np.testing.assert_allclose(ours.cv_results_[name], grid.cv_results_[name])
    assert ours.cv_results_["rows"].tolist() == [300] * 5
    np.testing.assert_array_equal(ours.predict(Q), grid.predict(Q))


def test_leaving_one_row_out_is_one_search(blobs):
    X, y, *_ = blobs
    X, y = X[:60], y[:60]
    ours = KNeighborsClassifier([1, 5, 9], cv="leave_one_out").fit(X, y)
    scores = [
        np.mean([Theirs(k).fit(X[train], y[train]).score(X[test], y[test]) for train, test in LeaveOneOut().split(X)])
        for k in (1, 5, 9)
    ]
    np.testing.assert_allclose(ours.cv_results_["mean_test_score"], scores)
    np.testing.assert_array_equal(ours.predict(None), Theirs(ours.n_neighbors_).fit(X, y).predict(None))


def test_of_equally_good_k_the_smallest_is_taken_and_auto_takes_what_fits():
    X, y = np.r_[np.arange(20.0), 100 + np.arange(20.0)][:, None], np.repeat([0, 1], 20)
    made = KNeighborsClassifier("auto").fit(X, y)
    assert made.n_neighbors_ == 1
    assert made.cv_results_["n_neighbors"].tolist() == [k for k in AUTO if k <= 32]
    assert not hasattr(made.set_params(n_neighbors=3).fit(X, y), "cv_results_")


def test_rows_of_a_group_are_held_out_together():
    rng = np.random.default_rng(1)
    X, y = np.repeat(rng.normal(size=(30, 3)), 2, axis=0), np.repeat(rng.integers(0, 2, 30), 2)
    alone = KNeighborsClassifier([1, 2, 3]).fit(X, y).cv_results_
    grouped = KNeighborsClassifier([1, 2, 3]).fit(X, y, groups=np.arange(60) // 2).cv_results_
    assert alone["mean_test_score"][0] > grouped["mean_test_score"][0] + 0.1  # twins give the answer away


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_neighbors": 0}, "whole number of at least 1"),
        ({"n_neighbors": "best"}, "'auto' is needed"),
        ({"n_neighbors": []}, "n_neighbors is empty"),
        ({"n_neighbors": [1, 250]}, "240 others"),
        ({"n_neighbors": [1, 300], "cv": "leave_one_out"}, "299 others"),
        ({"n_neighbors": "auto", "cv": "loo"}, "cv is 'loo'"),
        ({"n_neighbors": "auto", "cv": 1}, "1 folds of 300 rows"),
        ({"weights": "cubic"}, "weights is 'cubic'"),
        ({"metric": "chebyshev"}, "scikit-learn's KNeighborsClassifier"),
        ({"p": 4}, "There are 1, 2 and 3"),
        ({"metric_params": {"w": [1]}}, "no parameters but p"),
        ({"algorithm": "kd_tree"}, "no trees"),
        ({"algorithm": "fast"}, "'auto' and 'brute'"),
        ({"leaf_size": 0}, "leaf_size"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(blobs, options, words):
    with pytest.raises(InputError, match=words):
        KNeighborsClassifier(**options).fit(*blobs[:2])


def test_more_neighbours_than_rows_are_refused_as_in_scikit_learn(blobs):
    X, y, Q, _ = blobs
    small = KNeighborsClassifier(5).fit(X[:4], y[:4])
    with pytest.raises(ValueError, match="Expected n_neighbors <= n_samples_fit"):
        small.predict(Q)
    assert small.kneighbors(Q, 4)[1].shape == (100, 4)
    with pytest.raises(InputError, match="n_neighbors = 4"):
        small.kneighbors(None, 4)


def test_not_a_number_is_refused_with_its_place(blobs):
    X, y, Q, _ = (part.copy() for part in blobs)
    X[7, 2] = np.nan
    with pytest.raises(InputError, match="row 7, column 2"):
        KNeighborsClassifier().fit(X, y)
    Q[3, 1] = np.inf
    with pytest.raises(InputError, match="row 3, column 1"):
        KNeighborsClassifier().fit(*blobs[:2]).predict(Q)


def test_weights_of_no_use_are_refused(blobs):
    X, y, Q, _ = blobs
    for weights, words in (
        (lambda d: np.zeros(d.shape), "weight 0"),
        (lambda d: -d, "negative"),
        (lambda d: d[0], "one weight for each"),
    ):
        with pytest.raises(InputError, match=words):
            KNeighborsClassifier(weights=weights).fit(X, y).predict(Q)


def test_threads_and_pickles_change_nothing(blobs):
    X, y, Q, _ = blobs
    one, many = (KNeighborsClassifier(5, n_jobs=n).fit(X, y) for n in (1, 3))
    again = pickle.loads(pickle.dumps(one))
    for other in (many, again):
        for a, b in zip(one.kneighbors(Q), other.kneighbors(Q)):
            np.testing.assert_array_equal(a, b)


def test_a_memory_map_is_searched(blobs, tmp_path):
    X, y, Q, _ = blobs
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    np.testing.assert_array_equal(
        KNeighborsClassifier().fit(mapped, y).predict(Q), KNeighborsClassifier().fit(X, y).predict(Q)
    )
