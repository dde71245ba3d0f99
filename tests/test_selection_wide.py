"""Fits of so many columns that their second moments are only sampled: the same optimum, by another way."""

from __future__ import annotations

import numpy as np
import pytest

from lastlayer.linear.examples import prepare
from lastlayer.losses import by_name
from lastlayer.objective import Objective
from lastlayer.representations.compact import MIDDLE, STEPS
from lastlayer.selection import fit, path, wide
from lastlayer.selection.fit import fit_linear, make_solver
from lastlayer.selection.path import regularisation_path
from lastlayer.selection.wide import SampledMoments
from lastlayer.solvers.preconditioner import SampledInverse


def problem(n: int = 900, d: int = 60, k: int = 4, dtype: type = np.float32) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    root = np.arange(1, d + 1) ** -0.7
    y = rng.integers(k, size=n)
    Z = rng.normal(size=(n, d)) * root + 0.7 * rng.normal(size=(k, d))[y] * root
    return (Z + 3).astype(dtype), y


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Call 40 columns wide; float32 products and samples of rows, although the problem is small."""
    for module in (wide, fit):
        monkeypatch.setattr(module, "WIDE_FROM", 40)
    monkeypatch.setattr(wide, "MOST_ROWS", 50)
    monkeypatch.setattr("lastlayer.linear.examples.FLOAT64_UP_TO", 0)


def test_the_inverse_is_woodbury_s() -> None:
    Z, y = problem()
    examples = prepare(Z, y, 4)
    S = SampledMoments.of(examples)
    inverse = S.inverse(0.3, 0.02, 0.3)
    assert isinstance(inverse, SampledInverse)
    G = np.random.default_rng(1).normal(size=(61, 4))
    A = 0.3 * (S.X.T.astype(float) @ S.X) + (0.02 + 0.3 * S.tail) * np.eye(60)
    np.testing.assert_allclose(inverse.apply(G)[:-1], np.linalg.solve(A, G[:-1]), rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(inverse.apply(G)[-1], G[-1] / 0.3)


def test_sampled_moments_are_those_of_the_centred_weighted_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wide, "PROBES", 0)
    Z, y = problem()
    w = np.random.default_rng(2).uniform(0.5, 2, len(y))
    examples = prepare(Z, y, 4, w)
    S = SampledMoments.of(examples)
    assert len(S.X) == len(y) and S.tail == 0.0
    mean = np.average(Z, axis=0, weights=w)
    moved = (Z - mean) * np.sqrt(w / w.mean())[:, None]
    np.testing.assert_allclose(S.X.T @ S.X, moved.T @ moved / len(y), atol=2e-4)
    assert S.mean_square() == pytest.approx(float((moved**2).mean()), rel=1e-4)


def test_the_tail_measures_what_the_sample_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(2000, 200)).astype(np.float32)  # as much variance in every direction
    monkeypatch.setattr(wide, "MOST_ROWS", 50)
    S = SampledMoments.of(prepare(Z, rng.integers(2, size=2000), 2))
    # 50 rows span a quarter of 200 directions: 150 of 200 units of length are outside, shared by 50
    assert S.tail == pytest.approx(3.0, rel=0.1)


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_hinge", "squared"])
@pytest.mark.usefixtures("narrow")
def test_the_optimum_is_the_same(loss: str) -> None:
    Z, y = problem()
    found = fit_linear(Z, y, 4, loss, l2=1e-3, tol=1e-5, gap=1e-9)
    assert found.solver == "lbfgs" and found.solution.stop_reason.converged
    known = fit_linear(
        Z.astype(np.float64),
        y,
        4,
        loss,
        l2=1e-3,
        tol=1e-8,
        gap=1e-13,
        solver="newton" if loss != "squared" else "closed_form",
    )
    assert found.solution.value <= known.solution.value * (1 + 1e-6)
    np.testing.assert_allclose(found.weights, known.weights, atol=3e-3)


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("loss", ["cross_entropy", "squared"])
def test_a_path_of_wide_features_chooses_as_the_exact_one(loss: str) -> None:
    Z, y = problem(1400)
    Cs = [1e-3, 1e-2, 0.1, 1.0]
    sampled = regularisation_path(Z[:1000], y[:1000], Z[1000:], y[1000:], 4, loss, Cs)
    exact = regularisation_path(Z[:1000].astype(float), y[:1000], Z[1000:], y[1000:], 4, loss, Cs)
    assert sampled.best == exact.best
    for a, b in zip(sampled.points, exact.points):
        assert a.val_loss == pytest.approx(b.val_loss, rel=5e-3)


def test_preconditioned_fits_of_wide_features_need_few_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """More columns than rows in the sample: within half again of the passes with all second moments."""
    Z, y = problem(3000, 300)
    monkeypatch.setattr("lastlayer.linear.examples.FLOAT64_UP_TO", 0)
    objective = Objective(Z, y, 4, by_name("cross_entropy"), 1e-4)
    whole = make_solver("lbfgs", objective, 1e-3, 500, gap=1e-6).minimise(objective)
    monkeypatch.setattr(wide, "WIDE_FROM", 200)
    monkeypatch.setattr(wide, "MOST_ROWS", 250)
    sampled = make_solver("lbfgs", objective, 1e-3, 500, gap=1e-6).minimise(objective)
    assert sampled.stop_reason.converged
    assert sampled.passes <= 1.5 * whole.passes + 3
    assert path.moments(objective.examples).X.shape == (250, 300)


def test_a_fit_of_bytes_is_a_fit_of_standardised_features() -> None:
    Z, y = problem(2000)
    standard = (Z - Z.mean(axis=0)) / Z.std(axis=0)
    u = np.clip(np.floor(standard * STEPS + MIDDLE + 0.5), 0, 255).astype(np.uint8)
    found = fit_linear(u, y, 4, l2=1e-2 * STEPS**2, tol=1e-6, gap=1e-10)
    exact = fit_linear(standard, y, 4, l2=1e-2, tol=1e-6, gap=1e-10)
    np.testing.assert_allclose(found.weights * STEPS, exact.weights, atol=5e-3)
    assert np.abs(u @ found.weights + found.bias - (standard @ exact.weights + exact.bias)).max() < 0.15
