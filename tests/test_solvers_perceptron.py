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


XOR = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0])


def test_xor_in_a_fixed_order_repeats_and_that_proves_it() -> None:
    solution = PerceptronRule(epochs=1000, shuffle=False).minimise(Objective(*XOR, 2, by_name("perceptron"), 0.0))
    assert not solution.stop_reason.converged
    assert solution.iterations < 10
    assert "not linearly separable: the weights after epoch" in solution.note
    assert "for ever" in solution.note


def test_xor_in_any_order_is_decided_by_a_linear_program() -> None:
    solution = PerceptronRule(epochs=30).minimise(Objective(*XOR, 2, by_name("perceptron"), 0.0))
    assert "not linearly separable: no weights have a margin" in solution.note
    assert solution.iterations == 30


@pytest.mark.parametrize("k", [2, 4])
def test_data_that_only_need_more_epochs_are_called_separable(k: int) -> None:
    Z, y = data(60, 3, k)
    solution = PerceptronRule(epochs=1).minimise(Objective(Z, y, k, by_name("perceptron"), 0.0))
    assert solution.mistakes[-1] > 0
    assert "are linearly separable" in solution.note
    y[0] = (y[0] + 1) % k
    Z[0] = Z[1:][y[1:] == (y[0] + 1) % k].mean(axis=0)  # inside the hull of another class
    solution = PerceptronRule(epochs=1).minimise(Objective(Z, y, k, by_name("perceptron"), 0.0))
    assert "not linearly separable" in solution.note


def test_a_fixed_order_is_the_order_of_the_rows() -> None:
    Z, y = data(noise=1.0)
    J = Objective(Z, y, 3, by_name("perceptron"), 0.0)
    X, labels, _ = J.take(np.arange(len(y)))
    W, total, steps = np.zeros((X.shape[1], 3)), np.zeros((X.shape[1], 3)), 0
    for _ in range(2):
        for x, label in zip(X, labels):
            winner = int((x @ W).argmax())
            if winner != label:
                W[:, label] += x
                W[:, winner] -= x
            total += W
            steps += 1
    solution = PerceptronRule(epochs=2, shuffle=False).minimise(J)
    np.testing.assert_allclose(solution.params, total / steps, atol=1e-9)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_novikoffs_bound(shuffle: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    direction = rng.standard_normal(5)
    Z = rng.standard_normal((400, 5))
    Z, score = Z[np.abs(Z @ direction) > 0.2], (Z @ direction)[np.abs(Z @ direction) > 0.2]
    y = (score > 0).astype(int)
    J = Objective(Z, y, 2, by_name("perceptron"), 0.0)
    solution = PerceptronRule(epochs=2000, seed=seed, shuffle=shuffle).minimise(J)
    assert solution.stop_reason is StopReason.SEPARATED
    X, _, _ = J.take(np.arange(len(y)))
    separator = np.append(direction, direction @ J.examples.centre)  # the same rule for the centred rows
    margin = (np.where(y == 1, 1.0, -1.0) * (X @ separator)).min() / np.linalg.norm(separator)
    assert margin > 0
    assert 1 < sum(solution.mistakes) <= (np.linalg.norm(X, axis=1).max() / margin) ** 2


def test_patience_ends_what_no_longer_falls() -> None:
    Z, y = data(noise=3.0)
    J = Objective(Z, y, 3, by_name("perceptron"), 0.0)
    solution = PerceptronRule(epochs=500, patience=3, tol=1e-3).minimise(J)
    assert solution.stop_reason is StopReason.CONVERGED
    made = solution.mistakes
    assert min(made[-3:]) > min(made[:-3]) - 1e-3 * J.n_rows
    assert PerceptronRule(epochs=len(made)).minimise(J).mistakes == made
