"""Newton steps on samples of the rows: the same optimum in fewer passes, and unbiased estimates."""

from __future__ import annotations

import numpy as np
import pytest

from lastlayer._arrays import InputError
from lastlayer.losses import by_name
from lastlayer.objective import Objective
from lastlayer.selection import fit_linear
from lastlayer.selection.inverses import preconditioner
from lastlayer.solvers import LBFGS, FunctionProblem, SampledNewton, StopReason


def confident(n: int = 4000, d: int = 24, k: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Ill-conditioned columns and confident classes: what one preconditioner for all classes models badly."""
    rng = np.random.default_rng(seed)
    Z = rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) * np.arange(1, d + 1) ** -1.5
    scores = Z @ rng.standard_normal((d, k)) * 6 + rng.gumbel(size=(n, k))
    return Z, scores.argmax(axis=1)


def objective(name: str = "cross_entropy", l2: float = 1e-5, weights: np.ndarray | None = None) -> Objective:
    Z, y = confident()
    return Objective(Z, y, 5, by_name(name), l2, weights, 2)


@pytest.mark.parametrize(("name", "share"), [("cross_entropy", 0.85), ("squared_hinge", 1.1)])
def test_it_finds_the_optimum_in_fewer_passes(name: str, share: float) -> None:
    passes = {}
    J = objective(name)
    inverse = preconditioner(J, J.examples.second_moments())
    reference = LBFGS(inverse, tol=1e-10, gap=1e-14, max_iter=3000).minimise(J)
    for solver in (LBFGS(inverse, 1.0, 1e-10), SampledNewton(inverse, 1.0, 1e-10)):
        seen = []

        def watch(record: object, params: np.ndarray, seen: list = seen) -> bool:
            seen.append(record.passes)
            return bool(record.value <= reference.value * (1 + 1e-6))

        solution = solver.minimise(objective(name), None, watch)
        assert solution.value <= reference.value * (1 + 1e-6)
        passes[solver.name] = seen[-1]
    assert passes["sampled_newton"] < share * passes["lbfgs"]


def test_same_seed_same_bits_other_seed_same_optimum() -> None:
    J = objective()
    inverse = preconditioner(J, J.examples.second_moments())
    a, b, c = (SampledNewton(inverse, 1e-8, 1e-12, seed=s).minimise(objective()) for s in (1, 1, 2))
    np.testing.assert_array_equal(a.params, b.params)
    assert (a.params != c.params).any()
    assert c.value == pytest.approx(a.value, rel=1e-10)


@pytest.mark.parametrize("weighted", [False, True])
def test_samples_estimate_the_hessian_without_bias(weighted: bool) -> None:
    rng = np.random.default_rng(3)
    J = objective(weights=rng.uniform(0.1, 3.0, 4000) if weighted else None)
    point = J.at(rng.normal(size=(25, 5)) * 0.5)
    V = rng.normal(size=(25, 5))
    truth = point.hessian_times(V)
    before = J.passes
    estimates = np.array([point.sample(400, (0, i)).hessian_times(V) for i in range(200)])
    assert J.passes - before == pytest.approx(20.0, rel=0.1), "a tenth of the rows costs a tenth of a pass"
    error = np.linalg.norm(estimates.mean(axis=0) - truth) / np.linalg.norm(truth)
    single = np.median([np.linalg.norm(e - truth) / np.linalg.norm(truth) for e in estimates])
    assert error < 3.0 * single / np.sqrt(200)


def test_large_float32_problems_use_it_and_agree_with_lbfgs() -> None:
    rng = np.random.default_rng(0)
    Z = (rng.standard_normal((70_000, 64)) * np.arange(1, 65) ** -1.0).astype(np.float32)
    y = (Z @ rng.standard_normal((64, 4)) * 4 + rng.gumbel(size=(70_000, 4))).argmax(axis=1)
    auto = fit_linear(Z, y, 4, l2=1e-6, tol=1.0, gap=1e-8)
    assert auto.solver == "sampled_newton"
    other = fit_linear(Z, y, 4, l2=1e-6, tol=1.0, gap=1e-8, solver="lbfgs")
    assert auto.solution.value == pytest.approx(other.solution.value, rel=1e-6)


def test_it_needs_rows_and_stops_at_once_when_asked() -> None:
    bowl = FunctionProblem(lambda x: (float(x @ x), 2 * x), np.ones(3))
    J = objective()
    solver = SampledNewton(preconditioner(J, J.examples.second_moments()))
    with pytest.raises(InputError, match="second derivatives of samples"):
        solver.minimise(bowl)
    assert solver.minimise(J, None, lambda record, params: True).stop_reason is StopReason.CALLBACK
    calls = []

    def interrupt(record: object, params: np.ndarray) -> bool:
        calls.append(record)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return False

    stopped = SampledNewton(solver.preconditioner, 0.0, 0.0).minimise(objective(), None, interrupt)
    assert stopped.stop_reason is StopReason.INTERRUPTED
    assert stopped.value == min(r.value for r in calls)
