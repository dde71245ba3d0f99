"""Influences against what they stand for: removing an image and fitting again."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from lastlayer import InputError
from lastlayer.evaluation import influence
from lastlayer.evaluation.influence import Influence
from lastlayer.evaluation.influence_leverage import Leverage, dense_inverse
from lastlayer.losses import by_name
from lastlayer.objective import Objective
from lastlayer.selection.coupled import CoupledHessian

CLASSES = 4
D = 16


def digits(n, seed=0):
    """Some digits of four classes as 4 x 4 means, in 0..1."""
    data = load_digits(n_class=CLASSES)
    order = np.random.default_rng(seed).permutation(len(data.target))
    means = data.images[order].reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)).reshape(-1, D)
    return means / 16, data.target[order].astype(np.int64), n


def softmax_newton(X, y, strength, theta):
    """Minimise ``Σ L + (strength/2) ‖W‖²`` with whole Hessians and a free bias; nothing of the library is used."""
    n, K = len(X), theta.shape[1]
    X1 = np.column_stack([X, np.ones(n)])
    penalty = strength * np.repeat(np.r_[np.ones(X.shape[1]), 0.0], K)
    null = np.zeros((len(penalty), len(penalty)))
    null[-K:, -K:] = 1.0  # raising all scores alike: free, fixed where it is
    for _ in range(30):
        z = X1 @ theta
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        g = (X1.T @ (p - np.eye(K)[y])).ravel() + penalty * theta.ravel()
        if np.abs(g).max() < 1e-10:
            return theta
        C = np.einsum("nk,kl->nkl", p, np.eye(K)) - p[:, :, None] * p[:, None, :]
        H = np.empty((X1.shape[1], K, X1.shape[1], K))
        for k, m in np.ndindex(K, K):
            H[:, k, :, m] = (X1 * C[:, k, m, None]).T @ X1
        H = H.reshape(len(penalty), -1)
        theta = theta - np.linalg.solve(H + np.diag(penalty) + null, g).reshape(theta.shape)
    raise AssertionError("the oracle did not converge")


def ridge(X, y, strength, K):
    """Minimise ``Σ ½ ‖z - e_y‖² + (strength/2) ‖W‖²`` with a free bias."""
    X1 = np.column_stack([X, np.ones(len(X))])
    A = X1.T @ X1 + strength * np.diag(np.r_[np.ones(X.shape[1]), 0.0])
    return np.linalg.solve(A, X1.T @ np.eye(K)[y])


@pytest.fixture(scope="module")
def logistic():
    """A fit of 240 digits, three test images, and the exact change of two quantities without each of 200 rows."""
    X, y, n = digits(240)
    X, Xt, y, yt = X[:n], X[n : n + 3], y[:n], y[n : n + 3]
    strength = 0.5
    theta = softmax_newton(X, y, strength, np.zeros((X.shape[1] + 1, CLASSES)))
    removed = np.arange(200)
    changed = [softmax_newton(np.delete(X, i, 0), np.delete(y, i), strength, theta) for i in removed]
    return X, y, Xt, yt, strength, theta, removed, np.array(changed)


def scores(theta, x):
    return x @ theta[..., :-1, :] + theta[..., -1, :]


def loss(z, label):
    return np.log(np.exp(z).sum(axis=-1)) - z[..., label]


def fitted(X, y, strength, theta, name="cross_entropy", **more):
    return Influence.at(X, y, CLASSES, name, strength / len(X), theta[:-1], theta[-1], **more)


def test_effects_on_the_margin_are_those_of_leaving_out(logistic):
    X, y, Xt, yt, strength, theta, removed, changed = logistic
    found = fitted(X, y, strength, theta)
    assert found.exact and found.gradient_norm < 1e-9
    for x, a in zip(Xt, yt.tolist()):
        b = (a + 1) % CLASSES
        effects = found.on_margin(x, a, b)
        true = np.subtract(*scores(changed, x).T[[a, b]]) - np.subtract(*scores(theta, x)[[a, b]])
        plain = np.corrcoef(true, effects.first_order[removed])[0, 1]
        newton = np.corrcoef(true, found.corrected(effects, removed))[0, 1]
        assert plain >= 0.95
        assert newton >= 0.995 and newton > plain
        assert np.abs(found.corrected(effects, removed) - true).max() < 0.15 * np.abs(true).max()


def test_effects_on_the_loss_are_those_of_leaving_out(logistic):
    X, y, Xt, _, strength, theta, removed, changed = logistic
    found = fitted(X, y, strength, theta)
    for x in Xt:
        label = int(np.argsort(scores(theta, x))[-2])  # a label that is not the answer: its loss moves
        effects = found.on_loss(x, label)
        true = loss(scores(changed, x), label) - loss(scores(theta, x), label)
        assert np.corrcoef(true, effects.first_order[removed])[0, 1] >= 0.95
        assert np.corrcoef(true, found.corrected(effects, removed))[0, 1] >= 0.99


def test_squared_loss_is_exact_to_rounding():
    X, y, n = digits(150)
    X, x, y = X[:n], X[n], y[:n]
    strength = 0.3
    theta = ridge(X, y, strength, CLASSES)
    found = fitted(X, y, strength, theta, "squared")
    effects = found.on_margin(x, 1, 2)
    rows = np.arange(n)
    without = np.array([ridge(np.delete(X, i, 0), np.delete(y, i), strength, CLASSES) for i in rows])
    true = np.subtract(*scores(without, x).T[[1, 2]]) - np.subtract(*scores(theta, x)[[1, 2]])
    corrected = found.corrected(effects, rows)
    assert np.allclose(corrected, true, rtol=1e-9, atol=1e-12)
    assert not np.allclose(effects.first_order, true, rtol=1e-2)  # what the correction is for


@pytest.mark.parametrize("name", ["cross_entropy", "squared", "squared_hinge"])
def test_conjugate_gradients_agree_with_the_whole_inverse(name, monkeypatch):
    X, y, n = digits(200)
    theta = ridge(X[:n], y[:n], 1.0, CLASSES)
    whole = fitted(X[:n], y[:n], 1.0, theta, name)
    for name_of in ("dense_pays", "coupling_pays"):
        monkeypatch.setattr(influence, name_of, lambda objective: False)
    monkeypatch.setattr(influence, "WIDE_SQUARED", 0)
    step_by_step = fitted(X[:n], y[:n], 1.0, theta, name)
    assert whole.exact and not step_by_step.exact and step_by_step.leverage is None
    one, other = (each.on_margin(X[n], 0, 3, 1e-10) for each in (whole, step_by_step))
    assert 0 < other.products < 200 and other.residual <= 1e-10
    assert np.allclose(one.first_order, other.first_order, rtol=1e-6, atol=1e-9)
    with pytest.raises(InputError, match="cost too much"):
        step_by_step.corrected(other, np.arange(3))


def test_leverage_of_the_coupled_preconditioner_is_the_exact_one_where_it_knows_all_directions():
    rng = np.random.default_rng(1)
    X, y = rng.standard_normal((400, 12)), rng.integers(0, 3, 400)
    objective = Objective(X, y, 3, by_name("cross_entropy"), 0.05)
    point = objective.at(rng.standard_normal((13, 3)) * 0.3)
    hessian = CoupledHessian.at(objective, point.scores)
    block = hessian.block.copy()
    coupled = hessian.inverse(0.05)
    np.testing.assert_array_equal(hessian.block, block)  # another λ begins from the same
    rows, _, _ = objective.take(np.arange(20))
    about, exact = Leverage.of_coupled(objective, coupled).of(rows), dense_inverse(point).of(rows)
    P = np.eye(3) - 1 / 3  # raising all scores alike changes nothing, and both hold it differently
    assert np.allclose(P @ about @ P, P @ exact @ P, rtol=1e-3, atol=1e-5 * np.abs(exact).max())
    gradient = rng.standard_normal((13, 3)) @ P
    applied = Leverage.of_coupled(objective, coupled).apply(gradient)
    assert np.allclose(applied @ P, coupled.apply(gradient) @ P, rtol=1e-3, atol=1e-4)


def test_the_coupled_way_agrees_with_the_whole_inverse(monkeypatch):
    X, y, n = digits(300)
    theta = softmax_newton(X[:n], y[:n], 1.0, np.zeros((D + 1, CLASSES)))
    whole = fitted(X[:n], y[:n], 1.0, theta)
    monkeypatch.setattr(influence, "dense_pays", lambda objective: False)
    coupled = fitted(X[:n], y[:n], 1.0, theta)
    assert not coupled.exact and coupled.leverage is not None
    one, other = (each.on_margin(X[n], 0, 3, 1e-6) for each in (whole, coupled))
    assert 0 < other.products <= 10
    rows = np.arange(n)
    assert np.allclose(one.first_order, other.first_order, rtol=1e-4, atol=1e-6)
    assert np.allclose(whole.corrected(one, rows), coupled.corrected(other, rows), rtol=1e-3, atol=1e-5)


def test_fewer_rows_than_columns():
    X, y, n = digits(60)
    wide = np.maximum(X @ np.random.default_rng(0).standard_normal((D, 640)), 0.0) / 8
    wide, x, y = wide[:n], wide[n], y[:n]
    strength = 20.0
    start = np.zeros((641, CLASSES))
    # the representer theorem, by hand: a problem of n columns whose penalty is the same
    Q, R = np.linalg.qr((wide - wide.mean(axis=0)).T)
    inner = softmax_newton(R.T, y, strength, np.zeros((n + 1, CLASSES)))
    start[:-1], start[-1] = Q @ inner[:-1], inner[-1] - wide.mean(axis=0) @ (Q @ inner[:-1])
    found = fitted(wide, y, strength, start)
    assert found.basis is not None and found.exact
    effects, z = found.on_margin(x, 1, 2), Q.T @ (x - wide.mean(axis=0))
    rows, true = np.arange(0, n, 6), []
    for i in rows:
        less = softmax_newton(np.delete(R.T, i, 0), np.delete(y, i), strength, inner)
        true.append(np.subtract(*(scores(less, z) - scores(inner, z))[[1, 2]]))
    assert np.corrcoef(true, found.corrected(effects, rows))[0, 1] > 0.98


def test_a_row_of_weight_two_is_two_rows_and_one_of_weight_zero_is_none():
    X, y, n = digits(120)
    X, x, y = X[:n], X[n], y[:n]
    weight = np.ones(n)
    weight[3], weight[5] = 2.0, 0.0
    twice = np.r_[np.delete(np.arange(n), 5), 3]
    theta = softmax_newton(X[twice], y[twice], 0.7, np.zeros((X.shape[1] + 1, CLASSES)))
    found = Influence.at(X, y, CLASSES, "cross_entropy", 0.7 / n, theta[:-1], theta[-1], sample_weight=weight)
    copies = fitted(X[twice], y[twice], 0.7, theta)
    one, other = found.on_margin(x, 0, 1), copies.on_margin(x, 0, 1)
    assert one.first_order[5] == 0 and found.corrected(one, np.array([5]))[0] == 0
    assert one.first_order[3] == pytest.approx(other.first_order[3] + other.first_order[-1], rel=1e-6)
    rest = np.delete(np.arange(n), [3, 5])
    places = [int(np.flatnonzero(twice == i)[0]) for i in rest]
    assert np.allclose(one.first_order[rest], other.first_order[places], rtol=1e-6, atol=1e-12)
    corrected = found.corrected(one, rest), copies.corrected(other, np.array(places))
    assert np.allclose(*corrected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", ["hinge", "perceptron", "crammer_singer"])
def test_a_loss_without_second_derivatives_is_refused(name):
    X, y, _ = digits(50)
    with pytest.raises(InputError, match="no second derivatives"):
        fitted(X[:50], y[:50], 1.0, np.zeros((D + 1, CLASSES)), name)


def test_features_of_another_shape_are_refused():
    X, y, n = digits(50)
    found = fitted(X[:n], y[:n], 1.0, np.zeros((D + 1, CLASSES)))
    with pytest.raises(InputError, match=r"\(16,\) is needed"):
        found.on_margin(X[0, :9], 0, 1)
