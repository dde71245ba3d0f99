"""Muon: what its iteration gives, how far a step turns, and which arrays it takes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: networks are not tested")

from lastlayer.networks.muon import matrices, orthogonal, turn  # noqa: E402
from lastlayer.networks.plan import TrainingPlan  # noqa: E402
from lastlayer.networks.presets import parse  # noqa: E402
from lastlayer.networks.training import train_network  # noqa: E402
from planted_digits import planted  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


@pytest.mark.parametrize("shape", [(8, 40), (40, 8), (16, 16), (1, 5), (5, 1)])
def test_iteration_keeps_the_singular_vectors_and_levels_the_values(shape: tuple[int, int]) -> None:
    matrix = drawn(*shape)
    found = orthogonal(matrix)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    inner = u.T @ found @ v.T
    values = torch.diagonal(inner)
    assert torch.allclose(inner, torch.diag(values), atol=2e-3)
    assert float(values.min()) > 0.6 and float(values.max()) < 1.3


def test_iteration_does_not_see_the_scale_and_leaves_zero_alone() -> None:
    matrix = drawn(6, 9)
    assert torch.allclose(orthogonal(matrix), orthogonal(1e-6 * matrix), atol=1e-5)
    assert float(orthogonal(torch.zeros(3, 4)).abs().max()) == 0.0


@pytest.mark.parametrize("shape", [(6, 4, 3, 3), (10, 3)])
def test_a_step_is_a_share_of_the_norm(shape: tuple[int, ...]) -> None:
    weight, direction = drawn(*shape), drawn(*shape, seed=1)
    before = weight.clone()
    turn(weight, direction, 0.1, keep_norm=False)
    assert float((weight - before).norm() / before.norm()) == pytest.approx(0.1, rel=1e-4)
    assert float(((weight - before) * direction).sum()) < 0  # downhill
    kept = before.clone()
    turn(kept, direction, 0.1, keep_norm=True)
    assert float(kept.norm()) == pytest.approx(float(before.norm()), rel=1e-5)
    assert torch.allclose(kept / kept.norm(), weight / weight.norm(), atol=1e-6)


def test_which_arrays_are_turned() -> None:
    net = parse("convnet").architecture((32, 32, 3), 10)
    found = matrices(net)
    assert set(found) == {f"conv{block}{half}.weight" for block in (1, 2, 3) for half in "ab"}
    assert all(found.values())
    plain = matrices(parse("mlp:20-10").architecture((8, 8, 1), 3))
    assert len(plain) == 2 and not any(plain.values())  # not the last layer; nothing takes the scale out
    assert "c3.weight" not in matrices(parse("lenet5").architecture((28, 28, 1), 10))  # a table's filters are no matrix
    assert matrices(parse("alexnet:32").architecture((32, 32, 3), 4))["conv1.weight"] is False


PLAN = TrainingPlan(epochs=6.0, batch_size=32, optimiser="muon", rate=0.05, momentum=0.8, schedule="cosine")


def test_it_trains_and_is_deterministic() -> None:
    X, y = planted(192)
    net = parse("mlp:16-16").architecture((8, 8, 1), 3)
    first, second = (train_network(net, X, y, plan=PLAN) for _ in range(2))
    assert first.history[-1]["loss"] < 0.2 * first.history[0]["loss"]
    assert all(np.array_equal(first.network.arrays[name], second.network.arrays[name]) for name in net.learned)


def test_norms_are_kept_where_normalisation_follows() -> None:
    X, y = planted(192)
    net = parse("convnet:widths=8-8").architecture((8, 8, 1), 3)
    begun = net.initial(np.random.default_rng([PLAN.seed, 1]))
    trained = train_network(net, X, y, plan=dataclasses.replace(PLAN, epochs=2.0)).network.arrays
    for name in matrices(net):
        assert not np.allclose(trained[name], begun[name], atol=1e-3)
        assert np.linalg.norm(trained[name]) == pytest.approx(np.linalg.norm(begun[name]), rel=1e-3)


def test_frozen_matrices_stay() -> None:
    X, y = planted(192)
    net = parse("mlp:16-16").architecture((8, 8, 1), 3)
    name = next(iter(matrices(net)))
    trained = train_network(net, X, y, plan=dataclasses.replace(PLAN, frozen=name, epochs=1.0)).network.arrays
    assert np.array_equal(trained[name], net.initial(np.random.default_rng([PLAN.seed, 1]))[name])
