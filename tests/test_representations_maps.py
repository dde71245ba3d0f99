"""Every feature map against its formula, and what holds of all of them."""

from __future__ import annotations

import numpy as np
import pytest

from lastlayer._arrays import InputError
from lastlayer.representations import _products as products
from lastlayer.representations import _threads as threads
from lastlayer.representations.bandwidth import typical_gamma
from lastlayer.representations.fourier import FourierFeatures
from lastlayer.representations.monomials import Monomials
from lastlayer.representations.nystrom_features import NystromFeatures
from lastlayer.representations.pca import PCA
from lastlayer.representations.power import Power
from lastlayer.representations.radial import RadialFeatures
from lastlayer.representations.registry import MAPS
from lastlayer.representations.unit_length import UnitLength
from lastlayer.representations.zca import ZCA

RNG = np.random.default_rng
ALL = [
    *(PCA(5), PCA(0.8), PCA(5, whiten=True), ZCA(), ZCA(1.0), Monomials(2), Monomials(3, 0.2), Monomials(1)),
    *(FourierFeatures(64), FourierFeatures(30, 0.1, orthogonal=False), RadialFeatures(20), Power(), Power(1.5)),
    *(RadialFeatures(7, 0.3, "uniform"), NystromFeatures(30), NystromFeatures(12, "poly", 0.1, 2), UnitLength()),
    *(NystromFeatures(12, "laplacian"), NystromFeatures(12, "linear", landmarks="uniform")),
]


def rows(n: int = 700, d: int = 12, seed: int = 0) -> np.ndarray:
    mixing = RNG(9).normal(size=(d, d)) * np.linspace(0.2, 2, d)
    return (RNG(seed).normal(size=(n, d)) @ mixing + np.linspace(-1, 3, d)).astype(np.float32)


def squared_distances(X: np.ndarray, Z: np.ndarray) -> np.ndarray:
    return ((X.astype(float)[:, None] - Z.astype(float)[None]) ** 2).sum(axis=2)


def test_every_map_is_tested_here() -> None:
    assert {type(part) for part in ALL} == set(MAPS.values())
    assert all(MAPS[part.name] is type(part) for part in ALL)


@pytest.mark.parametrize("part", ALL, ids=str)
def test_a_row_becomes_the_same_in_any_company(part, monkeypatch: pytest.MonkeyPatch) -> None:
    Z = rows()
    before = Z.copy()
    fitted = part.fit(Z, RNG(0))
    found = fitted.transform(Z)
    assert found.dtype == np.float32 and found.shape == (700, fitted.width(12)) and np.isfinite(found).all()
    np.testing.assert_array_equal(Z, before)
    for some in (slice(0, 1), slice(5, 8), slice(250, 700)):
        np.testing.assert_array_equal(fitted.transform(Z[some]), found[some])
    monkeypatch.setattr(threads, "thread_count", lambda: 5)
    np.testing.assert_array_equal(part.fit(Z, RNG(0)).transform(Z), found)
    assert fitted.transform(Z[:0]).shape == (0, found.shape[1])
    again = type(part)(**fitted.parameters(), **fitted.arrays())
    np.testing.assert_array_equal(again.transform(Z), found)
    assert again.describe() == fitted.describe()


@pytest.mark.parametrize("part", [part for part in ALL if part.learns], ids=str)
def test_fit_comes_first_and_knows_the_width(part) -> None:
    if not isinstance(part, Monomials):
        with pytest.raises(InputError, match="not fitted"):
            part.transform(rows())
    elif part.gamma == "auto":
        with pytest.raises(InputError, match="not fitted"):
            part.transform(rows())
    if not isinstance(part, Monomials):
        fitted = part.fit(rows(), RNG(0))
        with pytest.raises(InputError, match="fitted on 12 features and meets 11"):
            fitted.width(11)
        with pytest.raises(InputError, match=r"shape \(700, 11\)"):
            fitted.transform(rows()[:, :11])
    for wrong in (rows()[:0], np.full((4, 3), np.nan, np.float32)):
        with pytest.raises(InputError, match=r"at least one row|NaN"):
            part.fit(wrong, RNG(0))


@pytest.mark.parametrize("part", ALL, ids=str)
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_constant_rows_do_no_harm(part, value: float) -> None:
    Z = np.full((40, 12), value, np.float32)
    assert np.isfinite(part.fit(Z, RNG(0)).transform(Z)).all()


# ------------------------------------------------------------------------------------------------------------- linear


@pytest.mark.parametrize("n", [700, 9])
def test_pca_is_numpys_svd(n: int) -> None:
    Z = rows(n)
    k = 5
    centred = Z.astype(float) - Z.astype(float).mean(axis=0)
    _, lengths, directions = np.linalg.svd(centred, full_matrices=False)
    expected = centred @ directions[:k].T
    expected *= np.sign((PCA(k).fit(Z, RNG(0)).transform(Z) * expected).sum(axis=0))
    np.testing.assert_allclose(PCA(k).fit(Z, RNG(0)).transform(Z), expected, atol=2e-5)
    white = PCA(k, whiten=True).fit(Z, RNG(0))
    np.testing.assert_allclose(white.transform(Z), expected / (lengths[:k] / np.sqrt(n)), atol=2e-5)


def test_a_share_of_the_variance_takes_as_many_components_as_hold_it() -> None:
    Z = rows()
    variances = np.linalg.eigvalsh(np.cov(Z.T.astype(float), bias=True))[::-1]
    shares = np.cumsum(variances) / variances.sum()
    for share in (0.3, 0.8, 0.999):
        assert PCA(share).fit(Z, RNG(0)).width(12) == (shares < share).sum() + 1


def test_whitening_leaves_out_what_is_rounding() -> None:
    Z = rows()
    Z[:, 3] = Z[:, 4]
    found = PCA(12, whiten=True).fit(Z, RNG(0)).transform(Z)
    np.testing.assert_allclose(found.std(axis=0)[:11], 1, atol=1e-4)
    np.testing.assert_array_equal(found[:, 11], 0)


def test_more_components_than_can_be_are_refused_with_their_number() -> None:
    with pytest.raises(InputError, match=r"n=13 components of 12 features of 700 training rows.*n=12 or fewer"):
        PCA(13).fit(rows(), RNG(0))
    with pytest.raises(InputError, match="At most 4"):
        PCA(5).fit(rows(4), RNG(0))


@pytest.mark.parametrize("n", [700, 9])
def test_zca_is_the_inverse_root_of_the_covariance(n: int) -> None:
    Z = rows(n)
    eps = 0.05
    values, vectors = np.linalg.eigh(np.cov(Z.T.astype(float), bias=True) + eps * np.eye(12))
    root = vectors / np.sqrt(values) @ vectors.T
    np.testing.assert_allclose(
        ZCA(eps).fit(Z, RNG(0)).transform(Z), (Z - Z.astype(float).mean(axis=0)) @ root, atol=5e-5
    )


@pytest.mark.parametrize("part", [PCA(5), PCA(5, whiten=True), ZCA(), Power(1.0)], ids=str)
def test_weights_pulled_back_give_the_same_scores_but_for_a_constant(part) -> None:
    Z = rows()
    fitted = part.fit(Z, RNG(0))
    W = RNG(1).normal(size=(fitted.width(12), 3))
    gap = Z @ fitted.pull_back(W) - fitted.transform(Z) @ W
    np.testing.assert_allclose(gap, np.broadcast_to(gap[:1], gap.shape), atol=1e-4)


@pytest.mark.parametrize("part", [Monomials(), FourierFeatures(8), RadialFeatures(4), NystromFeatures(4), Power()])
def test_what_is_not_linear_is_not_pulled_back(part) -> None:
    fitted = part.fit(rows(), RNG(0))
    assert fitted.pull_back(np.zeros((fitted.width(12), 2))) is None


# ------------------------------------------------------------------------------------------------------------ kernels


@pytest.mark.parametrize("degree", [1, 2, 3, 4])
def test_products_have_the_polynomial_kernel_as_their_scalar_product(degree: int) -> None:
    X, gamma = rows(40, 5).astype(np.float32), 0.07
    found = Monomials(degree, gamma).transform(X).astype(float)
    expected = (gamma * X.astype(float) @ X.astype(float).T + 1) ** degree - 1
    lengths = np.sqrt(np.diag(expected))
    np.testing.assert_allclose(
        found @ found.T / np.outer(lengths, lengths), expected / np.outer(lengths, lengths), atol=1e-6
    )


def test_the_quadratic_features_by_hand() -> None:
    a, b = 3.0, -2.0
    found = Monomials(2, 1.0).transform(np.array([[a, b]], np.float32))
    np.testing.assert_allclose(found[0], [2**0.5 * a, 2**0.5 * b, a * a, 2**0.5 * a * b, b * b], rtol=1e-6)


def test_gamma_of_the_products_makes_rows_of_length_one() -> None:
    Z = rows()
    fitted = Monomials().fit(Z, RNG(0))
    assert fitted.gamma == pytest.approx(1 / (Z.astype(float) ** 2).sum(axis=1).mean())


@pytest.mark.parametrize("orthogonal", [False, True])
@pytest.mark.parametrize("gamma", [0.002, 0.05])
def test_fourier_features_approximate_the_gaussian_kernel(orthogonal: bool, gamma: float) -> None:
    X, n = rows(60), 20_000
    K = np.exp(-gamma * squared_distances(X, X))
    found = FourierFeatures(n, gamma, orthogonal).fit(X, RNG(0)).transform(X).astype(float)
    error = found @ found.T - K
    np.testing.assert_allclose(np.diag(error), 0, atol=1e-5)
    # each entry is a mean of n/2 cosines of variance (1 - K²)² / 2
    deviation = (1 - K**2) / np.sqrt(n) + 1e-5
    assert np.abs(error / deviation).max() < 6
    assert 0.5 < np.sqrt(np.mean((error / deviation)[K < 0.99] ** 2)) < 1.2 or orthogonal


def test_orthogonal_frequencies_have_a_smaller_error() -> None:
    X, gamma = rows(60) / 4, 0.03
    K = np.exp(-gamma * squared_distances(X, X))
    errors = {}
    for orthogonal in (False, True):
        per_seed = []
        for seed in range(20):
            found = FourierFeatures(24, gamma, orthogonal).fit(X, RNG(seed)).transform(X).astype(float)
            per_seed.append(((found @ found.T - K) ** 2).mean())
        errors[orthogonal] = np.mean(per_seed)
    assert errors[True] < 0.8 * errors[False]


def test_orthogonal_frequencies_are_orthogonal_in_groups() -> None:
    F = FourierFeatures(2 * 30, 0.5).fit(rows(), RNG(0)).frequencies.astype(float)
    for group in (F[:, :12], F[:, 12:24], F[:, 24:]):
        gram = group.T @ group
        np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-6 * gram.max())


def test_radial_functions_are_the_formula_at_centres_of_the_rows() -> None:
    Z = rows()
    fitted = RadialFeatures(20, 0.05).fit(Z, RNG(0))
    expected = np.exp(-0.05 * squared_distances(Z, fitted.points))
    np.testing.assert_allclose(fitted.transform(Z), expected, atol=1e-6)
    assert (fitted.points.min(axis=0) >= Z.min(axis=0)).all() and (fitted.points.max(axis=0) <= Z.max(axis=0)).all()
    assert RadialFeatures(20).fit(Z[:8], RNG(0)).width(12) == 8


@pytest.mark.parametrize(
    ("kernel", "formula"),
    [
        ("rbf", lambda X, g: np.exp(-g * squared_distances(X, X))),
        ("poly", lambda X, g: (g * X @ X.T + 1) ** 3),
        ("laplacian", lambda X, g: np.exp(-g * np.abs(X[:, None] - X[None]).sum(axis=2))),
        ("linear", lambda X, g: X @ X.T),
    ],
)
def test_with_every_row_a_landmark_nystroms_features_have_the_kernel(kernel: str, formula) -> None:
    X = rows(50, 4)
    fitted = NystromFeatures(50, kernel).fit(X, RNG(0))
    found = fitted.transform(X).astype(float)
    expected = formula(X.astype(float), fitted.gamma)
    np.testing.assert_allclose(found @ found.T, expected, atol=1e-4 * expected.max())


def test_the_typical_scale_makes_an_ordinary_kernel_value_one_over_e() -> None:
    Z = rows(400)
    squares = squared_distances(Z, Z)[np.triu_indices(400, 1)]
    assert typical_gamma(Z, RNG(0)) == pytest.approx(1 / np.median(squares), rel=0.1)
    assert typical_gamma(10 * Z, RNG(0)) == pytest.approx(typical_gamma(Z, RNG(0)) / 100, rel=1e-4)
    blocks = np.abs(Z[:, None] - Z[None]).sum(axis=2)[np.triu_indices(400, 1)]
    assert typical_gamma(Z, RNG(0), "laplacian") == pytest.approx(1 / np.median(blocks), rel=0.1)
    mostly = np.where(np.arange(400)[:, None] % 20 == 0, Z, 0).astype(np.float32)
    assert 0 < typical_gamma(mostly, RNG(0)) < np.inf
    assert typical_gamma(Z[:1], RNG(0)) == 1.0


# ----------------------------------------------------------------------------------------------------- rows one by one


def test_powers_keep_the_sign_and_lengths_become_one() -> None:
    Z = rows()
    np.testing.assert_allclose(Power().transform(Z), np.sign(Z) * np.sqrt(np.abs(Z)), rtol=1e-6)
    np.testing.assert_allclose(Power(2.0).transform(Z), np.sign(Z) * Z.astype(float) ** 2, rtol=1e-6)
    Z[3] = 0
    found = UnitLength().transform(Z)
    np.testing.assert_allclose(np.delete(np.linalg.norm(found, axis=1), 3), 1, rtol=1e-6)
    np.testing.assert_array_equal(found[3], 0)


def test_moments_survive_a_large_offset() -> None:
    Z = rows()
    moved = (Z + 4096).astype(np.float32)
    mean, variances, _ = products.spectrum(moved)
    np.testing.assert_allclose(mean, moved.astype(float).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(variances, np.linalg.eigvalsh(np.cov(moved.T.astype(float), bias=True))[::-1], rtol=1e-9)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: PCA(0), "n is 0"),
        (lambda: PCA(1.5), "n is 1.5; a whole number, or a share"),
        (lambda: PCA("many"), "n is 'many'"),
        (lambda: ZCA(0.0), "eps is 0.0"),
        (lambda: Monomials(5), "degree is 5"),
        (lambda: Monomials(2, -1.0), "gamma is -1.0"),
        (lambda: Monomials(3, 1.0).transform(rows(2, 300)), "4,590,550 products.*pca:40/poly:2"),
        (lambda: FourierFeatures(11), "n is 11; an even number"),
        (lambda: FourierFeatures(10, "wide"), "gamma is 'wide'"),
        (lambda: RadialFeatures(10, centres="middle"), "centres is 'middle'; one of kmeans, uniform"),
        (lambda: NystromFeatures(10, "sigmoid"), "kernel is 'sigmoid'"),
        (lambda: NystromFeatures(10, coef0=-1.0), "coef0 is -1.0"),
        (lambda: Power(0.0), "exponent is 0.0"),
        (lambda: PCA(2, mean=np.zeros(3, np.float32)), "directions is no finite float32 array"),
        (lambda: PCA(2, mean=np.zeros(3, np.float32), directions=np.zeros((3, 3), np.float32)), "do not fit n=2"),
        (lambda: ZCA(mean=np.zeros(3, np.float32), matrix=np.zeros((3, 2), np.float32)), "do not belong together"),
        (lambda: FourierFeatures(4, 1.0, frequencies=np.full((3, 2), np.inf, np.float32)), "no finite float32"),
        (lambda: FourierFeatures(4, frequencies=np.ones((3, 2), np.float32)), "do not fit"),
        (lambda: RadialFeatures(4, 1.0, points=np.ones((5, 2), np.float32)), "do not fit"),
        (lambda: NystromFeatures(4, gamma=1.0, points=np.ones((3, 2)), projection=np.ones((2, 2))), "do not fit"),
    ],
)
def test_what_cannot_be_is_refused(make, said: str) -> None:
    with pytest.raises(InputError, match=said):
        make()
