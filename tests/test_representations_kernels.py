"""Kernel values against their formulas in extended precision, landmarks, and the Nyström map against K itself."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.kernel_approximation import Nystroem
from sklearn.metrics.pairwise import laplacian_kernel, polynomial_kernel, rbf_kernel

from lastlayer._arrays import InputError
from lastlayer.linear import single_blas_thread
from lastlayer.representations import kernels, landmarks
from lastlayer.representations.kernels import (
    KERNELS,
    RBF,
    CustomKernel,
    Laplacian,
    LinearKernel,
    Polynomial,
    kernel_named,
)
from lastlayer.representations.landmarks import choose_landmarks
from lastlayer.representations.nystrom import NystromMap

ALL = [LinearKernel(), Polynomial(0.3, 3, 1.0), Polynomial(0.3, 5), RBF(0.2), Laplacian(0.1)]


def _rows(n=60, d=7, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def _exact(kernel, X, Z):
    """The formula, pair by pair, in extended precision."""
    X, Z = X.astype(np.longdouble)[:, None, :], Z.astype(np.longdouble)[None, :, :]
    if isinstance(kernel, RBF):
        return np.exp(-kernel.gamma * ((X - Z) ** 2).sum(axis=2))
    if isinstance(kernel, Laplacian):
        return np.exp(-kernel.gamma * np.abs(X - Z).sum(axis=2))
    inner = (X * Z).sum(axis=2)
    return inner if isinstance(kernel, LinearKernel) else (kernel.gamma * inner + kernel.coef0) ** kernel.degree


@pytest.mark.parametrize("kernel", ALL, ids=str)
@pytest.mark.parametrize(("dtype", "error"), [(np.float64, 1e-13), (np.float32, 3e-5)])
def test_values_are_those_of_the_formula(kernel, dtype, error):
    X, Z = _rows(40).astype(dtype), _rows(30, seed=1).astype(dtype)
    values = kernel.against(Z)(X)
    assert values.dtype == dtype
    np.testing.assert_allclose(values, _exact(kernel, X, Z).astype(float), rtol=error, atol=error)


def test_meaning_of_the_parameters_is_scikit_learns():
    X, Z = _rows(20), _rows(10, seed=1)
    np.testing.assert_allclose(kernel_named("rbf", 0.7).against(Z)(X), rbf_kernel(X, Z, gamma=0.7))
    np.testing.assert_allclose(kernel_named("laplacian", 0.7).against(Z)(X), laplacian_kernel(X, Z, gamma=0.7))
    np.testing.assert_allclose(
        kernel_named("poly", 0.7, 4, 0.5).against(Z)(X), polynomial_kernel(X, Z, gamma=0.7, degree=4, coef0=0.5)
    )


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_distances_survive_a_far_offset(dtype, monkeypatch):
    monkeypatch.setattr(kernels, "_sum_differences", None)  # centring alone is enough
    # Multiples of 1/8 are exact in float32 up to two million: the shift changes no difference.
    X, Z = (np.round(8 * _rows(n, seed=n)) / 8 for n in (40, 30))
    far = 1e5
    moved = RBF(0.05).against((Z + far).astype(dtype))((X + far).astype(dtype))
    np.testing.assert_allclose(moved, RBF(0.05).against(Z)(X), atol=1e-10 if dtype == np.float64 else 1e-5)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_distances_survive_two_groups_far_from_each_other(dtype):
    far = np.where(np.arange(40) % 2, 1.0, -1.0)[:, None] * (1e6 if dtype == np.float64 else 1e3)
    X = (_rows(40) + far).astype(dtype)
    values = RBF(0.2).against(X)(X)
    np.testing.assert_allclose(values, _exact(RBF(0.2), X, X).astype(float), atol=1e-9 if dtype == np.float64 else 1e-5)
    np.testing.assert_array_equal(values.diagonal(), 1.0)


def test_the_compiled_city_block_is_the_plain_one(monkeypatch):
    X, Z = _rows(9, 20), _rows(8, 20, seed=1)
    plain = Laplacian(0.1).against(Z)(X)
    monkeypatch.setattr(kernels, "COMPILED_FROM", 0)
    np.testing.assert_allclose(Laplacian(0.1).against(Z)(X), plain, rtol=1e-14)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kernel_named("sigmoid"), r"not positive semidefinite.*SVC\(kernel='sigmoid'\)"),
        (lambda: kernel_named("precomputed"), "no rows to take landmarks from"),
        (lambda: kernel_named("gauss"), "There are linear, poly, rbf, laplacian"),
        (lambda: kernel_named("rbf", 0.0), "gamma is 0.0"),
        (lambda: kernel_named("laplacian", np.nan), "gamma is nan"),
        (lambda: kernel_named("poly", 1.0, 0), "degree is 0"),
        (lambda: kernel_named("poly", 1.0, 3, -1.0), "coef0 is -1.0.*not positive semidefinite"),
    ],
)
def test_impossible_kernels_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_parameters_rebuild_a_kernel():
    for name in KERNELS:
        kernel = kernel_named(name, 0.5, 4, 0.25)
        given = kernel.parameters()
        assert kernel_named(given.pop("kernel"), **given) == kernel
    with pytest.raises(InputError, match="cannot be saved"):
        CustomKernel(rbf_kernel).parameters()


# -- landmarks


def test_uniform_landmarks_are_different_rows():
    X = np.arange(100.0).reshape(50, 2)
    chosen = choose_landmarks(X, 20, "uniform", np.random.default_rng(0))
    assert len(np.unique(chosen[:, 0])) == 20
    assert set(chosen[:, 0]) <= set(X[:, 0])


def test_few_rows_are_all_landmarks_and_rows_of_weight_zero_none():
    X = _rows(10)
    np.testing.assert_array_equal(choose_landmarks(X, 10, "kmeans", np.random.default_rng(0)), X)
    weights = np.array([1.0] * 4 + [0.0] * 6)
    np.testing.assert_array_equal(choose_landmarks(X, 5, "uniform", np.random.default_rng(0), weights), X[:4])


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8])
def test_kmeans_ends_at_the_weighted_means_of_its_groups(dtype, monkeypatch):
    for name, value in (("SMALL", 100), ("ROUNDS", 60), ("GROUPED_ROWS", 300)):
        monkeypatch.setattr(landmarks, name, value)
    rng = np.random.default_rng(2)
    X = rng.integers(90, 131, (900, 3)).astype(dtype)
    weights = rng.integers(0, 4, 900).astype(float)
    found = choose_landmarks(X, 5, "kmeans", np.random.default_rng(1), weights)
    X = X.astype(float)
    nearest = ((X[:, None] - found[None]) ** 2).sum(axis=2).argmin(axis=1)
    means = [np.average(X[nearest == k], axis=0, weights=weights[nearest == k]) for k in range(5)]
    np.testing.assert_allclose(found, means, rtol=1e-5)


def test_centres_lie_between_the_rows():
    X = np.where(np.random.default_rng(0).random((500, 8)) < 0.5, 0.0, 0.1)
    found = choose_landmarks(X, 40, "kmeans", np.random.default_rng(0))
    assert found.min() == 0.0
    assert found.max() == 0.1


def test_kmeans_lowers_the_quantisation_error_and_repeats_itself():
    X = np.random.default_rng(0).integers(0, 256, (600, 20)).astype(np.uint8)

    def error(how, threads=None):
        Z = choose_landmarks(X, 30, how, np.random.default_rng(3), None, threads)
        return ((X[:, None] - Z[None]) ** 2).sum(axis=2).min(axis=1).mean()

    assert error("kmeans") < 0.95 * error("uniform")
    assert error("kmeans", 1) == error("kmeans", 3)


def test_an_unknown_choice_is_refused():
    with pytest.raises(InputError, match="landmarks is 'random'; one of kmeans, uniform"):
        choose_landmarks(_rows(), 3, "random", np.random.default_rng(0))


# -- the map


@pytest.mark.parametrize("kernel", [*ALL, CustomKernel(rbf_kernel)], ids=str)
def test_with_every_row_a_landmark_scalar_products_are_the_kernel(kernel):
    X = _rows()
    made = NystromMap(kernel).fit(X, np.random.default_rng(0))
    Z = made.transform(X)
    assert Z.shape == (60, made.n_features)
    # Eigenvalues down to the cut are kept: their square roots carry half of the digits.
    size = np.abs(kernel.against(X)(X)).max()
    np.testing.assert_allclose(Z @ Z.T, kernel.against(X)(X), atol=1e-6 * size)
    np.testing.assert_allclose(Z.T @ Z / np.square(Z).sum(axis=0), np.eye(made.n_features), atol=1e-3)


def test_fewer_landmarks_give_the_nystrom_approximation():
    X, new = _rows(200), _rows(50, seed=5)
    made = NystromMap(RBF(0.3), 25, "uniform").fit(X, np.random.default_rng(0))
    assert made.landmarks.shape == (25, 7)
    near, inner = rbf_kernel(new, made.landmarks, gamma=0.3), rbf_kernel(made.landmarks, gamma=0.3)
    Z = made.transform(new)
    np.testing.assert_allclose(Z @ Z.T, near @ np.linalg.solve(inner, near.T), atol=1e-10)


def test_kmeans_landmarks_approximate_better_than_scikit_learns_nystroem():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(15, 6))[rng.integers(0, 15, 800)] * 2 + 0.4 * rng.normal(size=(800, 6))
    K = rbf_kernel(X, gamma=0.05)

    def error(Z):
        return np.linalg.norm(Z @ Z.T - K) / np.linalg.norm(K)

    ours = error(NystromMap(RBF(0.05), 30).fit(X, np.random.default_rng(0)).transform(X))
    theirs = [error(Nystroem(gamma=0.05, n_components=30, random_state=seed).fit(X).transform(X)) for seed in range(5)]
    assert ours < 0.7 * min(theirs)


def test_landmarks_given_twice_lower_the_rank_and_change_nothing():
    X = _rows(30)
    once, twice = (NystromMap(RBF(0.3)).fit(A, np.random.default_rng(0)) for A in (X, np.vstack([X, X])))
    assert once.n_features == twice.n_features == 30
    A, B = once.transform(X), twice.transform(X)
    np.testing.assert_allclose(A @ A.T, B @ B.T, atol=1e-10)


def test_rank_of_linear_and_constant_features():
    assert NystromMap(LinearKernel()).fit(_rows(40, 5), np.random.default_rng(0)).n_features == 5
    assert NystromMap(RBF(1.0)).fit(np.ones((20, 3)), np.random.default_rng(0)).n_features == 1
    zeros = NystromMap(LinearKernel()).fit(np.zeros((20, 3)), np.random.default_rng(0))
    np.testing.assert_array_equal(zeros.transform(np.ones((2, 3))), np.zeros((2, 1)))


@pytest.mark.parametrize("kernel", ALL, ids=str)
def test_float32_features_are_those_of_float64_but_for_rounding(kernel):
    X = _rows(500).astype(np.float32)
    wide, single = (
        NystromMap(kernel, 40, "uniform", p).fit(X, np.random.default_rng(0)) for p in ("float64", "float32")
    )
    assert single.transform(X).dtype == np.float32
    means = NystromMap(kernel, 40, "kmeans", "float32").fit(X, np.random.default_rng(0)).landmarks
    np.testing.assert_array_equal(means, means.astype(np.float32))
    A, B = wide.transform(X), single.transform(X)
    size = np.square(A).sum(axis=1).max()
    np.testing.assert_allclose(A @ A.T, B @ B.T, atol=2e-3 * size)


def test_a_row_does_not_depend_on_its_batch_nor_on_threads():
    X = _rows(700, 30)
    made = NystromMap(RBF(0.02), 50).fit(X, np.random.default_rng(0))
    A, b = made.shares(_rows(made.n_features, 3)), np.arange(3.0)
    with single_blas_thread():
        whole = made.scores(X, A, b, threads=3)
        parts = [made.scores(X[i : i + 7], A, b, threads=1) for i in range(0, 700, 7)]
    np.testing.assert_array_equal(whole, np.vstack(parts))


def test_scores_are_those_of_the_features():
    X = _rows(300)
    made = NystromMap(RBF(0.2), 40).fit(X, np.random.default_rng(0))
    W, b = _rows(made.n_features, 4), _rows(1, 4)[0]
    np.testing.assert_allclose(made.scores(X, made.shares(W), b), made.transform(X) @ W + b, atol=1e-9)


def test_saved_arrays_rebuild_the_map_and_cannot_be_written_to():
    X = _rows()
    made = NystromMap(RBF(0.2), 10).fit(X, np.random.default_rng(0))
    given = made.parameters()
    kernel = kernel_named(given.pop("kernel"), given.pop("gamma"))
    again = NystromMap(kernel, **given, **made.arrays())
    np.testing.assert_array_equal(again.transform(X), made.transform(X))
    with pytest.raises(ValueError, match="read-only"):
        again.landmarks[0] = 0


def test_what_is_no_kernel_is_refused():
    X, rng = _rows(), np.random.default_rng(0)
    for function, message in (
        (lambda A, B: -rbf_kernel(A, B), "not positive semidefinite: .* eigenvalue -"),
        (lambda A, B: rbf_kernel(A, B) + A[:, :1], "not symmetric"),
        (lambda A, B: rbf_kernel(A, B)[:1], r"gave float64 of shape \(1, 60\)"),
        (lambda A, B: rbf_kernel(A, B) * np.nan, "values beyond float64"),
    ):
        with pytest.raises(InputError, match=message):
            NystromMap(CustomKernel(function)).fit(X, rng)
    with pytest.raises(InputError, match=r"poly has values beyond float64.*lower gamma and degree"):
        NystromMap(Polynomial(1.0, 9)).fit(1e40 * X, rng)


def test_misuse_is_refused():
    X = _rows()
    with pytest.raises(InputError, match="not fitted"):
        NystromMap(RBF(1.0)).transform(X)
    made = NystromMap(RBF(1.0), 5).fit(X, np.random.default_rng(0))
    with pytest.raises(InputError, match=r"X has shape \(60, 3\); \(N, 7\)"):
        made.transform(X[:, :3])
    with pytest.raises(InputError, match="n_landmarks is 0"):
        NystromMap(RBF(1.0), 0)
    with pytest.raises(InputError, match="belong together"):
        NystromMap(RBF(1.0), landmarks=X)
    with pytest.raises(InputError, match="no finite matrix"):
        NystromMap(RBF(1.0), landmarks=X * np.nan, projection=X)


def test_an_error_on_a_thread_is_raised():
    def fails(A, B):
        raise RuntimeError("my kernel broke")

    made = NystromMap(CustomKernel(rbf_kernel), 5).fit(_rows(), np.random.default_rng(0))
    broken = NystromMap(CustomKernel(fails), 5, landmarks=made.landmarks, projection=made.projection)
    with pytest.raises(RuntimeError, match="my kernel broke"):
        broken.transform(_rows(2000), threads=2)


@pytest.mark.parametrize(("dtype", "tol"), [(np.float32, 2e-5), (np.float64, 2e-9)])
def test_rows_far_from_all_others_are_not_worth_summing_differences(dtype, tol, monkeypatch) -> None:
    rng = np.random.default_rng(0)
    Z, X = rng.normal(size=(40, 30)), rng.normal(size=(50, 30))
    X[:5] *= 4 if dtype is np.float32 else 1e4  # the products cancel somewhat, and the values are next to nothing
    X[5:8] = 1e4 + rng.normal(size=(3, 30)) * 1e-2  # far from the mean, and near each other
    Z[:3] = 1e4 + rng.normal(size=(3, 30)) * 1e-2
    wanted: list[np.ndarray] = []
    summed = kernels._sum_differences

    def watched(K, X, Z, mask):  # type: ignore[no-untyped-def]
        wanted.append(mask)
        summed(K, X, Z, mask)

    monkeypatch.setattr(kernels, "_sum_differences", watched)
    Z, X = Z.astype(dtype), X.astype(dtype)
    values = RBF(0.05).against(Z)(X)
    exact = np.exp(-0.05 * ((X[:, None].astype(float) - Z[None].astype(float)) ** 2).sum(axis=2))
    np.testing.assert_allclose(values, exact, atol=tol)
    (mask,) = wanted
    assert mask[5:8, :3].all()
    assert not mask[:5, 3:].any()
