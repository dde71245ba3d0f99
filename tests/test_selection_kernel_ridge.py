"""The kernel machine on all rows: against the linear system solved directly, its bound, and its Gram matrix."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel

from lastlayer._arrays import InputError
from lastlayer._progress import SilentProgress, Task
from lastlayer.representations import gram as gram_module
from lastlayer.representations.gram import gram, gram_scores
from lastlayer.representations.kernels import RBF, Polynomial
from lastlayer.selection import kernel_ridge
from lastlayer.selection.kernel_ridge import fit_kernel_ridge, one_hot
from lastlayer.solvers.base import StopReason

GAMMA, L2 = 0.05, 1e-3
NARROW = 0.5
"""Of a kernel whose values a few landmarks cannot tell."""


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 6))
    return X, one_hot((X[:, 0] * X[:, 1] > 0).astype(int) + (X[:, 2] > 1), 3)


def direct(K: np.ndarray, T: np.ndarray, l2: float, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """A and b of the bordered linear system."""
    n = len(T)
    w = np.ones(n) / n if weights is None else weights / weights.sum()
    S = np.zeros((n + 1, n + 1))
    S[:n, :n], S[:n, n], S[n, :n] = K + np.diag(l2 / w), 1.0, 1.0
    solved = np.linalg.solve(S, np.vstack([T, np.zeros((1, T.shape[1]))]))
    return solved[:n], solved[n]


def objective(K: np.ndarray, T: np.ndarray, A: np.ndarray, b: np.ndarray) -> float:
    missed = K @ A + b - T
    return float(0.5 * np.square(missed).sum(axis=1).mean() + 0.5 * L2 * np.trace(A.T @ K @ A))


@pytest.mark.parametrize("landmarks", [5, 80, 1000])
def test_with_any_preconditioner_it_solves_the_bordered_system(rows, landmarks) -> None:
    X, T = rows
    K = gram(RBF(GAMMA), X, "float64")
    fit = fit_kernel_ridge(K, T, l2=L2, gap=1e-12, landmarks=landmarks)
    A, b = direct(K, T, L2)
    assert fit.stop_reason is StopReason.CONVERGED
    np.testing.assert_allclose(fit.dual, A, atol=1e-5 * np.abs(A).max())
    np.testing.assert_allclose(fit.bias, b, atol=1e-6)
    assert fit.value == pytest.approx(objective(K, T, A, b), rel=1e-10)


def test_without_a_bias_it_is_scikit_learns_kernel_ridge(rows) -> None:
    X, T = rows
    weights = np.random.default_rng(1).uniform(0.2, 3.0, len(X))
    theirs = KernelRidge(alpha=L2 * weights.sum(), kernel="rbf", gamma=GAMMA).fit(X, T, weights)
    ours = fit_kernel_ridge(
        gram(RBF(GAMMA), X, "float64"), T, l2=L2, sample_weight=weights, gap=1e-13, fit_intercept=False
    )
    np.testing.assert_allclose(ours.dual, theirs.dual_coef_, atol=1e-6 * np.abs(theirs.dual_coef_).max())
    assert not ours.bias.any()


def test_more_landmarks_take_fewer_steps(rows) -> None:
    X, T = rows
    K = gram(RBF(NARROW), X, "float64")
    passes = [fit_kernel_ridge(K, T, l2=1e-6, gap=1e-10, landmarks=m).passes for m in (5, 60, 300)]
    assert passes[0] > 1.3 * passes[1]
    assert passes[1] > 5 * passes[2]


def test_the_gap_it_promises_holds_at_every_step(rows) -> None:
    X, T = rows
    K = gram(RBF(GAMMA), X, "float64")
    least = objective(K, T, *direct(K, T, L2))
    history = fit_kernel_ridge(K, T, l2=L2, gap=1e-12, landmarks=5).history
    assert len(history) > 3
    for record in history:
        assert record.value - least <= record.gradient_norm * record.value + 1e-14
    assert history[0].value > 1.5 * least


def test_a_weight_of_two_is_a_row_given_twice_and_zero_a_row_not_given(rows) -> None:
    X, T = rows
    weights = np.ones(len(X))
    weights[:40], weights[40:90] = 2.0, 0.0
    given = fit_kernel_ridge(gram(RBF(GAMMA), X, "float64"), T, l2=L2, sample_weight=weights, gap=1e-13)
    again = np.concatenate([np.arange(40), np.arange(40), np.arange(90, len(X))])
    twice = fit_kernel_ridge(gram(RBF(GAMMA), X[again], "float64"), T[again], l2=L2, gap=1e-13)
    new = np.random.default_rng(2).normal(size=(20, 6))
    assert not given.dual[40:90].any()
    np.testing.assert_allclose(
        gram_scores(RBF(GAMMA), X, given.dual, given.bias, new, "float64"),
        gram_scores(RBF(GAMMA), X[again], twice.dual, twice.bias, new, "float64"),
        atol=1e-6,
    )


def test_a_view_of_the_leading_rows_will_do_and_a_start_saves_steps(rows) -> None:
    X, T = rows
    K = gram(RBF(GAMMA), X, "float64")
    whole = fit_kernel_ridge(gram(RBF(GAMMA), X[:200], "float64"), T[:200], l2=L2, gap=1e-10)
    view = fit_kernel_ridge(K[:200, :200], T[:200], l2=L2, gap=1e-10)
    np.testing.assert_allclose(view.dual, whole.dual, atol=1e-9)
    cold = fit_kernel_ridge(K, T, l2=L2, gap=1e-8, landmarks=20)
    warm = fit_kernel_ridge(K, T, l2=L2, gap=1e-8, landmarks=20, start=cold)
    assert warm.passes < cold.passes / 2
    assert warm.stop_reason is StopReason.CONVERGED


def test_float32_reaches_the_same_minimum(rows) -> None:
    X, T = rows
    fit = fit_kernel_ridge(gram(RBF(GAMMA), X), T, l2=L2, gap=1e-5)
    K = gram(RBF(GAMMA), X, "float64")
    assert objective(K, T, fit.dual, fit.bias) == pytest.approx(objective(K, T, *direct(K, T, L2)), rel=2e-5)


def test_threads_change_no_bit(rows) -> None:
    X, T = rows
    found = []
    for threads in (1, 3):
        K = gram(RBF(GAMMA), X, "float32", threads)
        fit = fit_kernel_ridge(K, T, l2=L2, threads=threads)
        found.append((K, fit.dual, gram_scores(RBF(GAMMA), X, fit.dual, fit.bias, X[:50], "float32", threads)))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_ctrl_c_keeps_the_best(rows, monkeypatch: pytest.MonkeyPatch) -> None:
    X, T = rows
    K = gram(RBF(NARROW), X, "float64")
    full = fit_kernel_ridge(K, T, l2=1e-6, gap=1e-12, landmarks=5)
    times, calls = kernel_ridge._System.times, []

    def interrupted(system, V):  # type: ignore[no-untyped-def]
        calls.append(1)
        if len(calls) == 20:
            raise KeyboardInterrupt
        return times(system, V)

    monkeypatch.setattr(kernel_ridge._System, "times", interrupted)
    fit = fit_kernel_ridge(K, T, l2=1e-6, gap=1e-12, landmarks=5)
    assert fit.stop_reason is StopReason.INTERRUPTED
    assert full.value < fit.value < fit.history[0].value


def test_steps_used_up_are_said(rows) -> None:
    X, T = rows
    fit = fit_kernel_ridge(gram(RBF(NARROW), X, "float64"), T, l2=1e-6, gap=1e-12, landmarks=5, max_iter=6)
    assert fit.stop_reason is StopReason.MAX_ITER
    assert fit.gap > 1e-12


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"l2": 0.0}, "l2 is 0.0"),
        ({"l2": np.nan}, "l2 is nan"),
        ({"sample_weight": np.zeros(300)}, "sample_weight"),
        ({"sample_weight": np.ones(7)}, "sample_weight"),
    ],
)
def test_refusals(rows, change, words) -> None:
    X, T = rows
    with pytest.raises(InputError, match=words):
        fit_kernel_ridge(gram(RBF(GAMMA), X, "float64"), T, **{"l2": L2, **change})


def test_a_matrix_that_is_no_kernel_is_refused(rows) -> None:
    X, T = rows
    with pytest.raises(InputError, match="not positive semidefinite"):
        fit_kernel_ridge(np.tanh(2 * X @ X.T - 1), T, l2=L2)
    with pytest.raises(InputError, match=r"\(N, N\)"):
        fit_kernel_ridge(np.eye(7), T, l2=L2)


# -- the Gram matrix


@pytest.fixture
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gram_module, "FIXED_NUMBERS", 6 * 130)
    monkeypatch.setattr(gram_module, "MOVING_NUMBERS", 6 * 70)


@pytest.mark.usefixtures("_small_blocks")
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_gram_is_scikit_learns_in_blocks_that_do_not_divide_the_rows(rows, precision) -> None:
    X = rows[0]
    tol = 1e-12 if precision == "float64" else 3e-6
    for kernel, theirs in (
        (RBF(GAMMA), rbf_kernel(X, gamma=GAMMA)),
        (Polynomial(0.1, 2, 1.0), polynomial_kernel(X, gamma=0.1, degree=2, coef0=1.0)),
    ):
        K = gram(kernel, X, precision)
        assert K.dtype == precision
        np.testing.assert_array_equal(K, K.T)
        np.testing.assert_allclose(K, theirs, rtol=tol, atol=tol)


@pytest.mark.usefixtures("_small_blocks")
def test_bytes_are_taken_as_they_are(rows) -> None:
    U = np.random.default_rng(0).integers(0, 256, (300, 6), dtype=np.uint8)
    np.testing.assert_allclose(gram(RBF(1e-5), U), rbf_kernel(U.astype(float), gamma=1e-5), atol=1e-6)


@pytest.mark.usefixtures("_small_blocks")
def test_scores_are_sums_over_the_rows_with_coefficients_and_each_row_is_alone(rows) -> None:
    X = rows[0]
    rng = np.random.default_rng(0)
    A, b, new = rng.normal(size=(300, 3)), rng.normal(size=3), rng.normal(size=(90, 6))
    A[::3] = 0.0
    found = gram_scores(RBF(GAMMA), X, A, b, new, "float64")
    np.testing.assert_allclose(found, rbf_kernel(new, X, gamma=GAMMA) @ A + b, atol=1e-11)
    np.testing.assert_array_equal(gram_scores(RBF(GAMMA), X, A, b, new[7:9], "float64"), found[7:9])
    with pytest.raises(InputError, match=r"\(n, 6\)"):
        gram_scores(RBF(GAMMA), X, A, b, new[:, :5])


def test_values_beyond_the_type_and_the_memory_are_refused(rows) -> None:
    with pytest.raises(InputError, match="beyond float32"):
        gram(Polynomial(1.0, 3, 0.0), rows[0] * 1e15)
    with pytest.raises(InputError, match="GB: not on this machine"):
        gram(RBF(1.0), np.zeros((50_000_000, 1), np.uint8))


def test_progress_grows_to_the_whole_way_as_the_gap_falls(rows) -> None:
    X, T = rows
    told: list[float] = []

    class Listener(SilentProgress):
        @contextmanager
        def task(self, name: str, total: float) -> Iterator[Task]:
            assert total == 1.0

            class Told(Task):
                def advance(self, steps: float = 1, note: str = "") -> None:
                    told.append(steps)

            yield Told()

    fit_kernel_ridge(gram(RBF(NARROW), X, "float64"), T, l2=1e-4, gap=1e-6, landmarks=5, progress=Listener())
    assert len(told) > 3
    assert min(told) >= 0
    assert sum(told) == pytest.approx(1.0)
