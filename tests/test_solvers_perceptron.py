"""The perceptron's rule against itself, row by row."""

from __future__ import annotations

import numpy as np
import pytest

from lastlayer._arrays import InputError
from lastlayer.losses import by_name
from lastlayer.objective import Objective
from lastlayer.solvers import PerceptronRule, StopReason


def data(n: int = 700, d: int = 6, k: int = 3, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((n, d))
    z = Z @ rng.standard_normal((d, k))
    top = np.sort(z, axis=1)
    clear = top[:, -1] - top[:, -2] > 0.3
    y = (z + noise * rng.standard_normal(z.shape)).argmax(axis=1)
    return Z[clear], y[clear]


def one_row_at_a_time(X: np.ndarray, y: np.ndarray, s: np.ndarray, k: int, epochs: int, seed: int):  # type: ignore[no-untyped-def]
    """The rule as the books write it, with the running average."""
    W = np.zeros((X.shape[1], k))
    total, steps, mistakes = np.zeros_like(W), 0, []
    for epoch in range(1, epochs + 1):
        made = 0
        for i in np.random.default_rng((seed, epoch)).permutation(len(X)):
            winner = int((X[i] @ W).argmax())
            if winner != y[i]:
                W[:, y[i]] += s[i] * X[i]
                W[:, winner] -= s[i] * X[i]
                made += 1
            total += W
            steps += 1
        mistakes.append(made)
        if made == 0:
            return W, mistakes
    return total / steps, mistakes


@pytest.mark.parametrize("noise", [0.0, 2.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_blocks_give_what_single_rows_give(noise: float, weighted: bool) -> None:
    Z, y = data(noise=noise)
    weights = np.random.default_rng(1).integers(1, 4, len(y)).astype(float) if weighted else None
    J = Objective(Z, y, 3, by_name("perceptron"), 0.0, weights)
    solution = PerceptronRule(epochs=4, seed=5).minimise(J)
    X, labels, s = J.take(np.arange(len(y)))
    expected, mistakes = one_row_at_a_time(X, labels, s, 3, 4, 5)
    assert list(solution.mistakes) == mistakes
    np.testing.assert_allclose(solution.params, expected, atol=1e-9)


def test_it_stops_when_separated() -> None:
    Z, y = data()
    J = Objective(Z, y, 3, by_name("perceptron"), 0.0)
    solution = PerceptronRule(epochs=200).minimise(J)
    assert solution.stop_reason is StopReason.SEPARATED
    assert solution.mistakes[-1] == 0
    assert solution.value == 0
    W, b = J.to_outside(solution.params)
    np.testing.assert_array_equal((Z @ W + b).argmax(axis=1), y)
    assert "Separated after" in solution.note


def test_xor_is_never_separated_and_said_so() -> None:
    Z = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    solution = PerceptronRule(epochs=50).minimise(Objective(Z, np.array([0, 1, 1, 0]), 2, by_name("perceptron"), 0.0))
    assert solution.stop_reason is StopReason.MAX_ITER
    assert not solution.stop_reason.converged
    assert min(solution.mistakes) > 0
    assert "in the last of 50 epochs" in solution.note


def test_average_beats_the_last_weights_on_noise() -> None:
    Z, y = data(4000, noise=3.0)
    train, test = slice(0, 1500), slice(1500, None)
    J = Objective(Z[train], y[train], 3, by_name("perceptron"), 0.0)
    right = {}
    for name, params in (("average", PerceptronRule(5).minimise(J).params), ("last", _last(J, 5))):
        W, b = J.to_outside(params)
        right[name] = ((Z[test] @ W + b).argmax(axis=1) == y[test]).mean()
    assert right["average"] > right["last"]


def _last(J: Objective, epochs: int) -> np.ndarray:
    X, y, _ = J.take(np.arange(J.n_rows))
    W = np.zeros((X.shape[1], 3))
    for epoch in range(1, epochs + 1):
        for i in np.random.default_rng((0, epoch)).permutation(len(X)):
            winner = int((X[i] @ W).argmax())
            if winner != y[i]:
                W[:, y[i]] += X[i]
                W[:, winner] -= X[i]
    return W


def test_same_seed_same_answer() -> None:
    Z, y = data(noise=2.0)
    J = Objective(Z, y, 3, by_name("perceptron"), 0.0)
    first, again, other = (PerceptronRule(2, seed).minimise(J).params for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_other_losses_are_refused() -> None:
    Z, y = data()
    with pytest.raises(InputError, match="a rule for mistakes"):
        PerceptronRule().minimise(Objective(Z, y, 3, by_name("hinge"), 0.0))
