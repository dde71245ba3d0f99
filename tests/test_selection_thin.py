"""Rotating features into the span of their rows changes nothing but the time."""

from __future__ import annotations

import numpy as np
import pytest

from lastlayer.selection import fit_linear
from lastlayer.selection.thin import is_thin, thin


@pytest.fixture
def wide() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    Z = rng.standard_normal((40, 150)) * np.geomspace(1, 1e-2, 150) + 5
    Z[7] = Z[8]  # a copy: the rows do not have full rank
    return Z, rng.integers(0, 3, 40)


def test_rotation_keeps_inner_products_and_the_way_back(wide: tuple[np.ndarray, np.ndarray]) -> None:
    Z, _ = wide
    rotated, basis = thin(Z)
    centred = Z - Z.mean(axis=0)
    np.testing.assert_allclose(rotated @ rotated.T, centred @ centred.T, atol=1e-10)
    r = rotated.shape[1]
    assert r == 39, "40 rows less one for the mean"
    V, b = np.random.default_rng(0).standard_normal((r, 3)), np.array([1.0, 2.0, 3.0])
    W, bias = basis.weights(V, b)
    np.testing.assert_allclose(Z @ W + bias, rotated @ V + b, atol=1e-10)
    assert np.linalg.norm(W) == pytest.approx(np.linalg.norm(V))
    back, bias_back = basis.start(W, bias)
    np.testing.assert_allclose(back, V, atol=1e-10)
    np.testing.assert_allclose(bias_back, b, atol=1e-10)


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_hinge", "squared"])
def test_optimum_is_the_same(wide: tuple[np.ndarray, np.ndarray], loss: str) -> None:
    Z, y = wide
    direct = fit_linear(Z, y, 3, loss, l2=1e-2, tol=1e-9)
    rotated, basis = thin(Z)
    fit = fit_linear(rotated, y, 3, loss, l2=1e-2, tol=1e-9)
    W, b = basis.weights(fit.weights, fit.bias)
    assert fit.solution.value == pytest.approx(direct.solution.value, rel=1e-10)
    np.testing.assert_allclose(Z @ W + b, Z @ direct.weights + direct.bias, atol=1e-6)


def test_pays_only_with_clearly_fewer_rows_than_columns() -> None:
    assert is_thin(np.zeros((30, 100)))
    assert not is_thin(np.zeros((90, 100)))
    assert not is_thin(np.zeros((100, 10)))
