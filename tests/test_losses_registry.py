"""Every loss of the registry: derivatives against differences, extremes, bounds, and the twins that must agree."""

from __future__ import annotations

import numpy as np
import pytest

from lastlayer._arrays import InputError
from lastlayer.losses import LOSSES, Loss, by_name

ALL = sorted(LOSSES)
WITH_GRADIENT = sorted(name for name, loss in LOSSES.items() if loss.has_gradient)
SMOOTH = sorted(name for name, loss in LOSSES.items() if loss.is_smooth)


def random_scores(k: int = 4, n: int = 30, scale: float = 2.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return scale * rng.standard_normal((n, k)), rng.integers(0, k, n)


def value(loss: Loss, z: np.ndarray, y: np.ndarray) -> np.ndarray:
    return loss.values(z.copy(), y)


def assert_matches_differences(loss: Loss, Z: np.ndarray, y: np.ndarray, limit: float = 1e-7) -> None:
    gradient = Z.copy()
    losses = loss.gradient(gradient, y)
    np.testing.assert_allclose(losses, loss.values(Z, y), rtol=1e-13, atol=1e-13)
    h = 1e-6
    for k in range(Z.shape[1]):
        ahead, behind = Z.copy(), Z.copy()
        ahead[:, k] += h
        behind[:, k] -= h
        numeric = (value(loss, ahead, y) - value(loss, behind, y)) / (2 * h)
        np.testing.assert_allclose(gradient[:, k], numeric, atol=limit * max(1.0, np.abs(gradient).max()))


@pytest.mark.parametrize("name", WITH_GRADIENT)
@pytest.mark.parametrize("k", [2, 5])
def test_gradient_is_the_derivative(name: str, k: int) -> None:
    assert_matches_differences(by_name(name), *random_scores(k))


def test_a_wrong_gradient_is_noticed() -> None:
    class Wrong(type(by_name("squared"))):  # type: ignore[misc]
        def gradient(self, Z: np.ndarray, y: np.ndarray) -> np.ndarray:
            losses = super().gradient(Z, y)
            Z *= 1.001
            return losses

    with pytest.raises(AssertionError):
        assert_matches_differences(Wrong(), *random_scores())


@pytest.mark.parametrize("name", ALL)
def test_values_leave_scores_alone_and_memory_order_does_not_matter(name: str) -> None:
    Z, y = random_scores()
    before = Z.copy()
    loss = by_name(name)
    plain = loss.values(Z, y)
    np.testing.assert_array_equal(Z, before)
    np.testing.assert_allclose(loss.values(np.asfortranarray(Z), y), plain, rtol=1e-14)
    a, b = Z.copy(), np.asfortranarray(Z.copy())
    loss.gradient(a, y)
    loss.gradient(b, y)
    np.testing.assert_allclose(a, b, rtol=1e-14)


@pytest.mark.parametrize("name", ALL)
def test_along_a_line(name: str) -> None:
    loss = by_name(name)
    Z, y = random_scores()
    V = np.random.default_rng(1).standard_normal(Z.shape)
    kept = V.copy()
    values, slopes, curvatures = loss.along(Z.copy(), V, y)
    np.testing.assert_array_equal(V, kept)
    np.testing.assert_allclose(values, loss.values(Z, y), rtol=1e-13, atol=1e-13)
    gradient = Z.copy()
    loss.gradient(gradient, y)
    np.testing.assert_allclose(slopes, (gradient * V).sum(axis=1), atol=1e-12)
    if loss.is_smooth:
        h = 1e-5
        ahead, behind = Z + h * V, Z - h * V
        loss.gradient(ahead, y)
        loss.gradient(behind, y)
        np.testing.assert_allclose(curvatures, ((ahead - behind) * V).sum(axis=1) / (2 * h), atol=1e-4)


@pytest.mark.parametrize("name", SMOOTH)
def test_curvature_bound_holds_and_is_reached(name: str) -> None:
    loss = by_name(name)
    rng = np.random.default_rng(2)
    k = 3
    Z = np.concatenate([3 * rng.standard_normal((2000, k)), np.zeros((1, k)), [[0.0, 0.0, -50.0]]])
    y = np.r_[rng.integers(0, k, 2000), 0, 0]
    largest = 0.0
    for direction in [*rng.standard_normal((200, k)), np.array([1.0, -1.0, 0.0])]:
        v = direction / np.linalg.norm(direction)
        curvature = loss.along(Z.copy(), np.tile(v, (len(Z), 1)), y)[2]
        largest = max(largest, float(curvature.max()))
    assert largest <= loss.curvature_bound * (1 + 1e-9)
    assert largest >= 0.95 * loss.curvature_bound, "the bound is not needlessly large"


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_scores_stay_finite(name: str, dtype: type) -> None:
    loss = by_name(name)
    Z = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0], [1e4, 1e4, 1e4], [-1e4, -1e4, -1e4]], dtype=dtype)
    y = np.array([0, 0, 1, 2])
    for result in (loss.values(Z, y), loss.gradient(Z.copy(), y), *loss.along(Z.copy(), np.ones_like(Z), y)):
        assert result.dtype == dtype
        assert np.isfinite(result).all()


def test_cross_entropy_at_extremes() -> None:
    Z = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0], [7.0, 7.0, 7.0]])
    np.testing.assert_allclose(by_name("cross_entropy").values(Z, np.array([0, 0, 1])), [0.0, 2e4, np.log(3)])


def test_ties_go_to_the_first_class() -> None:
    Z = np.zeros((2, 3))
    y = np.array([0, 2])
    np.testing.assert_array_equal(by_name("zero_one").values(Z, y), [0, 1])
    np.testing.assert_array_equal(by_name("perceptron").values(Z, y), [0, 0])
    gradient = Z.copy()
    by_name("perceptron").gradient(gradient, y)
    np.testing.assert_array_equal(gradient, [[0, 0, 0], [1, 0, -1]])


def test_margins_are_one_against_the_rest() -> None:
    Z = np.array([[2.0, -0.5, 0.25]])
    y = np.array([0])
    assert by_name("hinge").values(Z, y)[0] == pytest.approx(0 + 0.5 + 1.25)
    assert by_name("squared_hinge").values(Z, y)[0] == pytest.approx(0.25 + 1.25**2)
    at_kink = np.array([[1.0, -1.0, -1.0]])
    assert by_name("hinge").gradient(at_kink, y)[0] == 0
    np.testing.assert_array_equal(at_kink, 0)


def test_two_class_cross_entropy_is_the_logistic_loss() -> None:
    Z, y = random_scores(2)
    margin = (Z[:, 1] - Z[:, 0]) * np.where(y == 1, 1, -1)
    np.testing.assert_allclose(by_name("cross_entropy").values(Z, y), np.logaddexp(0, -margin), rtol=1e-12)


def test_squared_loss_takes_real_targets() -> None:
    Z, y = random_scores(3)
    loss = by_name("squared")
    one_hot = np.eye(3)[y]
    np.testing.assert_allclose(loss.values(Z, one_hot), loss.values(Z, y))
    gradient = Z.copy()
    loss.gradient(gradient, one_hot)
    np.testing.assert_allclose(gradient, Z - one_hot)


@pytest.mark.parametrize("name", ["cross_entropy", "squared", "squared_hinge"])
def test_constant_scores_are_optimal(name: str) -> None:
    loss = by_name(name)
    y = np.repeat([0, 1, 2], [50, 30, 20])
    frequencies = np.array([0.5, 0.3, 0.2])
    gradient = np.tile(loss.constant_scores(frequencies), (100, 1))
    loss.gradient(gradient, y)
    np.testing.assert_allclose(gradient.sum(axis=0), 0, atol=1e-12)


def test_unknown_name_is_refused_with_a_suggestion() -> None:
    with pytest.raises(InputError, match="Did you mean cross_entropy"):
        by_name("crossentropy")
    with pytest.raises(InputError, match="There are cross_entropy, squared"):
        by_name("xyz")


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_hessian_products_are_differences_of_the_gradient(name: str) -> None:
    loss = LOSSES[name]
    rng = np.random.default_rng(11)
    Z, V, y = rng.normal(size=(40, 4)) * 3, rng.normal(size=(40, 4)), rng.integers(0, 4, 40)
    h = 1e-6
    ahead, behind = Z + h * V, Z - h * V
    loss.gradient(ahead, y)
    loss.gradient(behind, y)
    product = loss.hessian_times(Z.copy(), V, y)
    np.testing.assert_allclose(product, (ahead - behind) / (2 * h), atol=1e-5)
    curvature = loss.along(Z.copy(), V, y)[2]
    np.testing.assert_allclose((product * V).sum(axis=1), curvature, atol=1e-9)
