"""Crammer and Singer's squared hinge through its smoothed twin: derivatives, the sandwich, and the optimum."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from lastlayer import LinearClassifier
from lastlayer._arrays import InputError
from lastlayer.losses.crammer_singer import CrammerSinger
from lastlayer.losses.smoothed import SmoothedCrammerSinger
from lastlayer.selection.fit import fit_linear
from lastlayer.selection.smoothing import stages
from lastlayer.solvers import Record, StopReason
from lastlayer.solvers.check import check_gradient, loss_problem
from test_losses_crammer_singer import quadratic_program, scores, small

PAIRS = [(k, mu) for k in (2, 3, 7) for mu in (0.5, 1e-2)]


def slow_value(z: np.ndarray, label: int, mu: float) -> float:
    """The maximum over the shares, each rival's in turn until nothing changes."""
    a = np.delete(1 + z - z[label], label)
    beta = np.zeros(len(a))
    for _ in range(20_000):
        before = beta.copy()
        for k in range(len(a)):
            others = beta.sum() - beta[k]
            beta[k] = max(0.0, (a[k] - others / 2) / (0.5 + mu))
        if np.abs(beta - before).max() < 1e-14:
            break
    return float(beta @ a - beta.sum() ** 2 / 4 - mu / 2 * beta @ beta)


@pytest.mark.parametrize(("k", "mu"), PAIRS)
def test_equals_the_maximum_over_shares(k: int, mu: float) -> None:
    Z, y = scores(k, n=12)
    expected = [slow_value(z, label, mu) for z, label in zip(Z, y)]
    np.testing.assert_allclose(SmoothedCrammerSinger(mu).values(Z, y), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("k", "mu"), PAIRS)
def test_lies_between_the_loss_and_a_share_of_it(k: int, mu: float) -> None:
    Z, y = scores(k, n=400)
    Z[:50] = np.round(Z[:50])  # rivals that tie
    smooth, loss = SmoothedCrammerSinger(mu).values(Z, y), CrammerSinger().values(Z, y)
    assert (smooth <= loss * (1 + 1e-12)).all() and (loss <= (1 + 2 * mu) * smooth * (1 + 1e-12)).all()
    assert (smooth[loss == 0] == 0).all() and (smooth < loss).any()


@pytest.mark.parametrize(("k", "mu"), PAIRS)
def test_derivatives(k: int, mu: float) -> None:
    loss = SmoothedCrammerSinger(mu)
    Z, y = scores(k)
    table = check_gradient(loss_problem(loss, Z, y), Z)
    assert table.right and table.kinks == 0, str(table)
    V = np.random.default_rng(1).standard_normal(Z.shape)
    values, slopes, curvatures = loss.along(Z.copy(), V, y)
    gradient, ahead, behind = Z.copy(), Z + 1e-6 * V, Z - 1e-6 * V
    for scores_of in (gradient, ahead, behind):
        losses = loss.gradient(scores_of, y)
        if scores_of is gradient:
            np.testing.assert_allclose(values, losses)
    product = loss.hessian_times(Z.copy(), V, y)
    np.testing.assert_allclose((ahead - behind) / 2e-6, product, atol=1e-6 / mu)
    np.testing.assert_allclose(slopes, (gradient * V).sum(axis=1), atol=1e-12)
    np.testing.assert_allclose(curvatures, (product * V).sum(axis=1), atol=1e-10 / mu)
    units = [loss.hessian_times(Z.copy(), np.tile(np.eye(k)[j], (len(y), 1)), y)[:, j] for j in range(k)]
    np.testing.assert_allclose(loss.trace(Z.copy(), y), np.sum(units, axis=0), atol=1e-10 / mu)


def test_a_tie_is_no_kink() -> None:
    """Where two rivals tie the loss's gradient jumps from one to the other; the smoothed one turns."""
    y = np.array([0])
    sides = [np.array([[0.0, 1.0 + e, 1.0 - e]]) for e in (1e-9, -1e-9)]
    jumps = []
    for loss in (CrammerSinger(), SmoothedCrammerSinger(1e-2)):
        pair = [Z.copy() for Z in sides]
        for Z in pair:
            loss.gradient(Z, y)
        jumps.append(float(np.abs(pair[0] - pair[1]).max()))
    assert jumps[0] == pytest.approx(4.0)
    assert jumps[1] < 1e-6


@pytest.mark.parametrize("mu", [0.0, -1.0, float("nan"), float("inf")])
def test_mu_must_be_positive(mu: float) -> None:
    with pytest.raises(InputError, match="greater than 0"):
        SmoothedCrammerSinger(mu)


@pytest.mark.parametrize("l2", [1.0, 0.1, 0.02])
@pytest.mark.parametrize("k", [3, 4])
def test_the_fit_is_the_optimum_of_the_quadratic_program(l2: float, k: int) -> None:
    Z, y = small(k)
    best = quadratic_program(Z, y, k, l2)
    fit = fit_linear(Z, y, k, "crammer_singer", l2=l2, tol=1e-4, max_iter=3000)
    assert fit.solver == "smoothing" and fit.solution.stop_reason.converged
    assert best * (1 - 1e-7) <= fit.solution.value <= best * (1 + 2e-5)


def test_two_classes_are_one_squared_hinge() -> None:
    """Of the difference d of the columns: ``mean m² + λ/4 ‖d‖²`` is half of two mirrored columns' objective at λ/2."""
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((300, 5))
    y = (Z[:, 0] + 0.7 * rng.standard_normal(300) > 0).astype(int)
    ours = fit_linear(Z, y, 2, "crammer_singer", l2=0.1, tol=1e-5, max_iter=3000)
    twin = fit_linear(Z, y, 2, "squared_hinge", l2=0.05, tol=1e-8)
    np.testing.assert_allclose(ours.weights[:, 1] - ours.weights[:, 0], twin.weights[:, 1], atol=1e-4)
    assert ours.bias[1] - ours.bias[0] == pytest.approx(twin.bias[1], abs=1e-4)
    assert 2 * ours.solution.value == pytest.approx(twin.solution.value, rel=1e-5)


def test_weights_count_as_rows() -> None:
    Z, y = small()
    s = np.arange(len(y)) % 3
    doubled = np.repeat(np.arange(len(y)), s)
    one = fit_linear(Z, y, 3, "crammer_singer", l2=0.1, sample_weight=s, tol=1e-4, max_iter=3000)
    other = fit_linear(Z[doubled], y[doubled], 3, "crammer_singer", l2=0.1, tol=1e-4, max_iter=3000)
    assert one.solution.value == pytest.approx(other.solution.value, rel=2e-5)


def test_history_is_one_and_a_callback_ends_it() -> None:
    Z, y = small()
    seen: list[Record] = []
    fit = fit_linear(
        Z, y, 3, "crammer_singer", l2=0.1, callback=lambda record, params: seen.append(record) or len(seen) == 9
    )
    assert tuple(seen) == fit.solution.history
    assert [record.iteration for record in seen] == list(range(9))
    assert all(a.passes < b.passes and a.seconds <= b.seconds for a, b in pairwise(seen))
    assert fit.solution.stop_reason is StopReason.CALLBACK
    assert fit.solution.value == pytest.approx(
        np.mean(CrammerSinger().values(Z @ fit.weights + fit.bias, y)) + 0.05 * np.square(fit.weights).sum()
    )


def test_iterations_are_of_all_stages() -> None:
    Z, y = small()
    fit = fit_linear(Z, y, 3, "crammer_singer", l2=0.1, max_iter=12)
    assert fit.solution.iterations == 12 and fit.solution.stop_reason is StopReason.MAX_ITER


def test_a_warm_start_goes_on() -> None:
    Z, y = small()
    cold = fit_linear(Z, y, 3, "crammer_singer", l2=0.1, tol=1e-3)
    warm = fit_linear(Z, y, 3, "crammer_singer", l2=0.1, tol=1e-3, start=(cold.weights, cold.bias))
    assert warm.solution.value <= cold.solution.value * (1 + 1e-3)


def test_interrupted_it_keeps_what_it_has() -> None:
    Z, y = small()

    def stop(record: Record, params: np.ndarray) -> bool:
        if record.iteration == 20:
            raise KeyboardInterrupt
        return False

    fit = fit_linear(Z, y, 3, "crammer_singer", l2=0.1, callback=stop)
    assert fit.solution.stop_reason is StopReason.INTERRUPTED and np.isfinite(fit.solution.value)


def test_other_losses_are_refused() -> None:
    Z, y = small()
    with pytest.raises(InputError, match="smoothing is for the loss crammer_singer, not for hinge"):
        fit_linear(Z, y, 3, "hinge", l2=0.1, solver="smoothing")


def test_stages_end_where_rounding_begins() -> None:
    assert stages(1e-12, float(np.finfo(np.float32).eps))[-1] == pytest.approx(32 * 1.1920929e-07)
    assert stages(1.0, 0.0) == [0.1]
    assert stages(2e-4, 0.0) == pytest.approx([0.1, 0.01, 0.001, 0.0001])


def test_the_estimator_converges_without_a_warning() -> None:
    Z, y = small()
    model = LinearClassifier(loss="crammer_singer", l2=0.1).fit(Z, y)
    assert model.score(Z, y) > 0.7
