"""Ridge paths: against fits that really leave every row out, and against themselves in other forms."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from lastlayer._arrays import InputError
from lastlayer.linear import single_blas_thread
from lastlayer.selection import fit_linear
from lastlayer.selection.eigen import eigen
from lastlayer.selection.ridge import ridge_path

L2S = np.array([0.0, 1e-6, 1e-3, 0.1, 10.0])


def _data(n, d, k=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) + 3, rng.normal(size=(n, k)) + 5, rng.uniform(0.2, 3, n)


def _solve(Z, Y, l2, s, total, fit_intercept):
    """W and b of ``Σ s ½‖z W + b - y‖² + (λ total / 2) ‖W‖²`` by least squares; of least norm for λ = 0."""
    mean, middle = (s @ Z / s.sum(), s @ Y / s.sum()) if fit_intercept else (0 * Z[0], 0 * Y[0])
    A, B = (Z - mean) * np.sqrt(s)[:, None], (Y - middle) * np.sqrt(s)[:, None]
    if l2 > 0:
        A = np.vstack([A, np.sqrt(l2 * total) * np.eye(Z.shape[1])])
        B = np.vstack([B, np.zeros((Z.shape[1], Y.shape[1]))])
    W = np.linalg.lstsq(A, B, rcond=1e-12)[0]
    return W, middle - mean @ W


def _leave_out_in_turn(Z, Y, l2s, s, fit_intercept=True):
    out = np.empty((len(l2s), *Y.shape))
    for i in range(len(Z)):
        others = np.arange(len(Z)) != i
        for j, l2 in enumerate(l2s):
            W, b = _solve(Z[others], Y[others], l2, s[others], s.sum(), fit_intercept)
            out[j, i] = Z[i] @ W + b
    return out


@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(40, 7), (15, 25), (21, 20), (20, 20)])
def test_leaving_out_is_exact(shape, weighted, fit_intercept):
    Z, Y, s = _data(*shape)
    s = s if weighted else np.ones(len(Z))
    path = ridge_path(
        Z, Y, L2S, sample_weight=s if weighted else None, fit_intercept=fit_intercept, keep_predictions=True
    )
    loo = path.leave_one_out
    expected = _leave_out_in_turn(Z, Y, L2S, s, fit_intercept)
    np.testing.assert_allclose(loo.predictions, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(loo.predictions[2:], expected[2:], rtol=1e-9, atol=1e-10)
    each = 0.5 * np.square(Y - expected).sum(axis=2)
    np.testing.assert_allclose(loo.loss, each @ s / s.sum(), rtol=1e-6)
    assert not loo.undetermined.any() and loo.n_rows == len(Z)
    error = np.sqrt((s**2 * np.square(each - loo.loss[:, None])).sum(axis=1)) / s.sum()
    np.testing.assert_allclose(loo.standard_error, error, rtol=1e-5)
    for i, l2 in enumerate(L2S):
        W, b = _solve(Z, Y, l2, s, s.sum(), fit_intercept)
        scores = Z @ W + b
        assert loo.train_loss[i] == pytest.approx(s @ np.square(Y - scores).sum(axis=1) / s.sum() / 2, abs=1e-9)
        for found in (path.weights(i), (path.fit(i).weights, path.fit(i).bias)):
            np.testing.assert_allclose(found[0], W, atol=1e-8)
            np.testing.assert_allclose(found[1], b, atol=1e-7)


def test_degrees_of_freedom_are_the_trace_of_the_smoother():
    Z, _, s = _data(30, 6)
    path = ridge_path(Z, np.eye(30), L2S, sample_weight=s, leave_one_out=False)
    for i, degrees in enumerate(path.degrees_of_freedom):
        W, b = path.weights(i)
        assert np.trace(Z @ W + b) == pytest.approx(degrees)


def _labelled(n=300, d=12, k=4, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n)
    return rng.normal(size=(k, d))[y] + 2 * rng.normal(size=(n, d)), y


def test_labels_stand_for_one_hot_targets():
    Z, y = _labelled()
    labels = ridge_path(Z, y, L2S, keep_predictions=True).leave_one_out
    real = ridge_path(Z, np.eye(4)[y], L2S, keep_predictions=True).leave_one_out
    np.testing.assert_allclose(labels.loss, real.loss, rtol=1e-12)
    np.testing.assert_allclose(labels.predictions, real.predictions, atol=1e-12)
    assert (labels.right == (real.predictions.argmax(axis=2) == y).sum(axis=1)).all()
    assert real.right is None
    assert 100 < labels.right.min() < labels.right.max() + 1 < 300


def test_a_class_without_rows():
    Z, y = _labelled()
    more = ridge_path(Z, y, L2S, n_classes=6)
    assert more.weights(3)[0].shape == (12, 6)
    np.testing.assert_allclose(more.leave_one_out.loss, ridge_path(Z, y, L2S).leave_one_out.loss, rtol=1e-12)


def test_many_targets_are_computed_in_parts():
    Z, Y, _ = _data(50, 6, k=700)
    loo = ridge_path(Z, Y, L2S, keep_predictions=True).leave_one_out
    few = ridge_path(Z, Y[:, 500:503], L2S, keep_predictions=True).leave_one_out
    np.testing.assert_allclose(loo.predictions[:, :, 500:503], few.predictions, atol=1e-11)


def test_rows_of_weight_zero_are_predicted_too():
    Z, Y, s = _data(40, 7)
    s[::3] = 0
    path = ridge_path(Z, Y, L2S, sample_weight=s, keep_predictions=True)
    np.testing.assert_allclose(path.leave_one_out.predictions, _leave_out_in_turn(Z, Y, L2S, s), atol=1e-6)
    W, b = path.weights(3)
    np.testing.assert_allclose(path.leave_one_out.predictions[3, ::3], Z[::3] @ W + b)
    few = ridge_path(Z[s > 0], Y[s > 0], L2S, sample_weight=s[s > 0])
    np.testing.assert_allclose(few.leave_one_out.loss, path.leave_one_out.loss, rtol=1e-12)


@pytest.mark.parametrize("shape", [(60, 7), (15, 25)])
def test_units_and_offsets_change_nothing(shape):
    Z, Y, s = _data(*shape)
    plain = ridge_path(Z, Y, L2S, sample_weight=s)
    for factor in (1e-40, 1e-9, 1e9, 1e40):
        other = ridge_path(Z * factor, Y, L2S * factor**2, sample_weight=7 * s)
        np.testing.assert_allclose(other.leave_one_out.loss, plain.leave_one_out.loss, rtol=1e-6)
        np.testing.assert_allclose(other.weights(3)[0] * factor, plain.weights(3)[0], rtol=1e-8, atol=1e-10)
    moved = ridge_path(np.hstack([Z + 1e6, np.full((len(Z), 1), 5.0)]), 1e30 * (Y + 1e3), L2S, sample_weight=s)
    np.testing.assert_allclose(moved.leave_one_out.loss / 1e60, plain.leave_one_out.loss, rtol=1e-5)
    assert not moved.weights(3)[0][-1].any()


def test_columns_of_very_different_ranges():
    Z, Y, _ = _data(60, 6)
    scale = np.array([1e-7, 1.0, 1e-3, 1e4, 1.0, 1e2])
    path = ridge_path(Z * scale, Y, [1.0], keep_predictions=True)
    W, _ = _solve(Z * scale, Y, 1.0, np.ones(60), 60.0, True)
    np.testing.assert_allclose(path.weights(0)[0] * scale[:, None], W * scale[:, None], atol=1e-6)
    expected = _leave_out_in_turn(Z * scale, Y, [1.0], np.ones(60))
    np.testing.assert_allclose(path.leave_one_out.predictions, expected, atol=1e-5)


def test_float32_features_agree_with_float64():
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(4000, 300)) @ (np.geomspace(1, 1e-3, 300)[:, None] * rng.normal(size=(300, 300)))
    Z = (Z + 4).astype(np.float32)  # more than 2**20 numbers: products in float32
    y = (Z[:, :4].astype(float) + 20 * rng.normal(size=(4000, 4))).argmax(axis=1)
    l2s = np.array([0.01, 0.1, 10.0])
    single, double = (ridge_path(a, y, l2s, keep_predictions=True) for a in (Z, Z.astype(np.float64)))
    np.testing.assert_allclose(single.leave_one_out.loss, double.leave_one_out.loss, rtol=1e-5)
    np.testing.assert_allclose(single.leave_one_out.predictions, double.leave_one_out.predictions, atol=2e-3)
    np.testing.assert_allclose(single.leave_one_out.predictions[2:], double.leave_one_out.predictions[2:], atol=1e-6)
    exact = double.weights(1)[0]
    np.testing.assert_allclose(single.fit(1).weights, exact, atol=1e-4 * np.abs(exact).max())
    assert np.abs(single.leave_one_out.loss / double.leave_one_out.loss - 1).max() > 1e-14
    for tiny in (0.0, 1e-6):  # below the rounding of float32 products
        found, expected = (ridge_path(a, y, [tiny, 0.1]).leave_one_out for a in (Z, Z.astype(np.float64)))
        np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-12)


@pytest.mark.parametrize("shape", [(3000, 600), (600, 3000)])
def test_threads_change_no_bit(shape):
    rng = np.random.default_rng(0)
    Z, y = rng.normal(size=shape).astype(np.float32), rng.integers(0, 3, shape[0])
    s = rng.uniform(1, 2, shape[0])
    results = []
    for threads in (1, 2, 3):
        path = ridge_path(Z, y, [1e-3, 0.1], sample_weight=s, threads=threads)
        results.append((path.leave_one_out.loss.tobytes(), path.weights(1)[0].tobytes()))
    assert results[0] == results[1] == results[2]


CODE = """
import hashlib, numpy as np
from lastlayer.selection.ridge import ridge_path
rng = np.random.default_rng(0)
path = ridge_path(rng.normal(size=(700, 600)), rng.integers(0, 3, 700), [1e-3, 0.1])
print(hashlib.sha256(path.leave_one_out.loss.tobytes() + path.weights(0)[0].tobytes()).hexdigest())
"""


def test_blas_threads_change_no_bit():
    found = {
        subprocess.run(
            [sys.executable, "-c", CODE],
            env=os.environ | {"OPENBLAS_NUM_THREADS": count, "OMP_NUM_THREADS": count},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for count in ("1", "2")
    }
    assert len(found) == 1 and len(found.pop()) == 65


@pytest.mark.parametrize("n", [1, 2, 300, 513, 700])
def test_eigenvectors(n):
    rng = np.random.default_rng(n)
    X = rng.normal(size=(n // 2 + 1, n))
    for A in (X.T @ X, np.diag(np.arange(n) % 3.0), np.zeros((n, n))):
        with single_blas_thread():
            values, vectors = eigen(A.copy(), 2)
        assert (np.diff(values) >= 0).all() and values[0] >= 0
        np.testing.assert_allclose(vectors.T @ vectors, np.eye(n), atol=1e-12)
        np.testing.assert_allclose(A @ vectors, vectors * values, atol=1e-12 * max(1.0, values[-1]))


def test_choosing():
    Z, y = _labelled(n=80, d=60, seed=3)
    l2s = np.geomspace(1e-4, 1e3, 71)[::-1]
    path = ridge_path(Z, y, l2s)
    loo = path.leave_one_out
    best = path.choose()
    assert loo.loss[best] == loo.loss.min() and 0 < best < 70
    careful = path.choose(rule="one_standard_error")
    assert l2s[careful] > l2s[best]
    assert loo.loss[careful] <= loo.loss[best] + loo.standard_error[best] < loo.loss[careful - 1]
    by_rows = path.choose("accuracy")
    assert loo.right[by_rows] == loo.right.max() and (loo.right[:by_rows] < loo.right.max()).all()
    same = ridge_path(Z, y, [0.1, 0.2, 0.2, 0.1]).choose("accuracy")
    assert same in (0, 1)


def test_a_row_that_alone_varies_a_column_is_undetermined_without_penalty():
    Z, Y, _ = _data(60, 5)
    Z[:, 0] = np.arange(60) == 17
    path = ridge_path(Z, Y, [0.0, 1e-3], keep_predictions=True)
    loo = path.leave_one_out
    assert loo.undetermined.tolist() == [1, 0]
    assert np.isnan(loo.loss[0]) and path.choose() == 1
    expected = _leave_out_in_turn(Z, Y, [1e-3], np.ones(60))
    np.testing.assert_allclose(loo.predictions[1:], expected, atol=1e-7)
    with pytest.raises(InputError, match="undetermined for every l2"):
        ridge_path(Z, Y, [0.0]).choose()
    # One row in a thousand may be lost: it counts with a residual of bounded size.
    Z, Y, _ = _data(1500, 5)
    Z[:, 0] = np.arange(1500) == 17
    loo = ridge_path(Z, Y, [0.0]).leave_one_out
    without = ridge_path(Z[:, 1:], Y, [0.0]).leave_one_out
    assert loo.undetermined == 1
    assert loo.loss[0] == pytest.approx(without.loss[0], rel=5e-3)


def test_the_fit_is_that_of_fit_linear():
    Z, y = _labelled()
    s = np.random.default_rng(0).uniform(0.5, 2, len(y))
    for fit_intercept in (True, False):
        found = ridge_path(Z, y, [0.01], sample_weight=s, fit_intercept=fit_intercept, leave_one_out=False).fit(0)
        direct = fit_linear(Z, y, 4, "squared", l2=0.01, sample_weight=s, tol=1e-12, fit_intercept=fit_intercept)
        np.testing.assert_allclose(found.weights, direct.weights, atol=1e-10)
        np.testing.assert_allclose(found.bias, direct.bias, atol=1e-10)
        assert found.solution.value == pytest.approx(direct.solution.value, rel=1e-12)
        assert found.solution.stop_reason.converged


def test_constant_features_and_targets():
    y = np.arange(40) % 2
    path = ridge_path(np.ones((40, 3)), y, [0.0, 1.0])
    np.testing.assert_allclose(path.degrees_of_freedom, 1.0)
    np.testing.assert_allclose(path.leave_one_out.loss, 0.25 * (40 / 39) ** 2)
    Z, _, _ = _data(40, 3)
    path = ridge_path(Z, np.full(40, 7.0), [0.0, 1.0])
    np.testing.assert_allclose(path.leave_one_out.loss, 0.0, atol=1e-20)
    np.testing.assert_allclose(path.fit(1).bias, 7.0)


@pytest.mark.parametrize("l2s", [[], [-1.0], [np.nan], [np.inf], 1.0])
def test_impossible_penalties(l2s):
    Z, Y, _ = _data(10, 3)
    with pytest.raises(InputError, match="l2s is"):
        ridge_path(Z, Y, l2s)


def test_refusals():
    Z, Y, _ = _data(10, 3)
    with pytest.raises(InputError, match="at least two classes"):
        ridge_path(Z, np.ones(10, dtype=int), [1.0])
    with pytest.raises(InputError, match="row 4, column 1"):
        ridge_path(np.where(np.arange(30).reshape(10, 3) == 13, np.nan, Z), Y, [1.0])
    with pytest.raises(InputError, match="targets is inf in row 2, column 0"):
        ridge_path(Z, np.where(np.arange(10) == 2, np.inf, 1.0), [1.0])
    with pytest.raises(InputError, match="10 rows of features but 9"):
        ridge_path(Z, Y[:9], [1.0])
    with pytest.raises(InputError, match="leave_one_out=True"):
        ridge_path(Z, Y, [1.0], leave_one_out=False).choose()
    with pytest.raises(InputError, match="no accuracy"):
        ridge_path(Z, Y, [1.0]).choose("accuracy")
