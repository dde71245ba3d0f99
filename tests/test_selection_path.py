"""The path: each point near its optimum, the choice by validation, and its end."""

from __future__ import annotations

import numpy as np
import pytest

from lastlayer._arrays import InputError
from lastlayer.losses import by_name
from lastlayer.selection import PathPoint, fit_linear, regularisation_path
from lastlayer.selection.path import _reason_to_stop
from lastlayer.solvers import StopReason

CS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)


def split(n: int = 600, d: int = 30, k: int = 3, noise: float = 2.0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((n, d)).astype(np.float32)
    y = (Z @ rng.standard_normal((d, k)) + noise * np.sqrt(d) * rng.standard_normal((n, k)) / 3).argmax(axis=1)
    half = n // 2
    return Z[:half], y[:half], Z[half:], y[half:]


@pytest.mark.parametrize("loss", ["cross_entropy", "squared", "squared_hinge"])
@pytest.mark.parametrize("weighted", [False, True])
def test_every_point_is_near_the_optimum_of_its_fit(loss: str, weighted: bool) -> None:
    Z, y, Zv, yv = split()
    s = np.random.default_rng(1).random(len(y)) + 0.5 if weighted else None
    total = len(y) if s is None else s.sum()
    path = regularisation_path(Z, y, Zv, yv, 3, loss, CS, sample_weight=s, patience=9)
    assert [point.C for point in path.points] == list(CS)
    for point in path.points:
        assert point.l2 == pytest.approx(1 / (point.C * total))
        assert point.converged
        exact = fit_linear(Z, y, 3, loss, l2=point.l2, sample_weight=s, tol=1e-9)
        penalty = 0.5 * point.l2 * (exact.weights**2).sum()
        assert point.train_loss == pytest.approx(exact.solution.value - penalty, rel=2e-2)
        scores = Zv @ exact.weights + exact.bias
        assert point.val_loss == pytest.approx(by_name(loss).values(scores, yv).mean(), rel=2e-2)
        assert abs(point.val_accuracy[0] - (scores.argmax(axis=1) == yv).sum()) <= 4
        assert point.val_accuracy[1] == len(yv)
    assert path.skipped == ()
    assert path.note == ""


def test_the_lowest_validation_loss_is_chosen() -> None:
    Z, y, Zv, yv = split()
    path = regularisation_path(Z, y, Zv, yv, 3, "cross_entropy", [*CS, CS[0]], patience=9)
    assert len(path.points) == len(CS), "repeated values count once"
    losses = [point.val_loss for point in path.points]
    assert 0 < path.best < len(CS) - 1
    assert path.best == int(np.argmin(losses))
    assert not path.at_edge
    scores = Zv @ path.solution.weights + path.solution.bias
    assert by_name("cross_entropy").values(scores, yv).mean() == pytest.approx(losses[path.best], rel=1e-5)
    assert (scores.argmax(axis=1) == yv).sum() == path.points[path.best].val_accuracy[0]


def test_ties_go_to_the_stronger_regularisation() -> None:
    Z, y, Zv, yv = split()
    flat = np.zeros_like(Zv)
    flat_y = np.repeat(y[:1], len(yv))
    path = regularisation_path(np.zeros_like(Z), y, flat, flat_y, 3, "cross_entropy", CS, patience=9)
    assert len({point.val_loss for point in path.points}) == 1, "features without content score alike for every C"
    assert path.best == 0


def test_edges_are_reported() -> None:
    Z, y, Zv, yv = split()
    weak_only = regularisation_path(Z, y, Zv, yv, 3, "cross_entropy", [1e-6, 1e-5], patience=9)
    assert weak_only.at_edge
    alone = regularisation_path(Z, y, Zv, yv, 3, "cross_entropy", [1.0])
    assert not alone.at_edge, "one value has no edge to speak of"


def test_the_path_ends_when_validation_has_clearly_worsened() -> None:
    Z, y, Zv, yv = split(n=160, d=40, noise=4.0)
    grid = np.logspace(-4, 4, 17)
    path = regularisation_path(Z, y, Zv, yv, 3, "cross_entropy", grid)
    assert 0 < len(path.skipped) < 14
    assert [point.C for point in path.points] + list(path.skipped) == pytest.approx(list(grid))
    assert "validation loss rose for 2 values" in path.note
    assert not path.at_edge


@pytest.mark.parametrize(
    ("losses", "ends"),
    [
        ([1.0, 0.9, 0.95, 1.0], True),
        ([0.9, 0.95, 1.0], True),
        ([1.0, 0.9, 1.0, 0.95], False),  # falling again
        ([1.0, 0.9, 0.95], False),  # only one worse
        ([1.0, 0.9, 0.95, 0.95], False),
        ([1.0], False),
    ],
)
def test_when_a_path_ends(losses: list[float], ends: bool) -> None:
    points = [PathPoint(1.0, 1.0, 0.0, (50, 100), loss, 1.0, 0.0, "converged", True) for loss in losses]
    assert bool(_reason_to_stop(points, 2, StopReason.CONVERGED)) is ends
    assert _reason_to_stop(points, 2, StopReason.INTERRUPTED)


def test_warm_starts_save_passes() -> None:
    Z, y, Zv, yv = split(6000, 200)
    grid = np.logspace(-2, 1, 7)
    path = regularisation_path(Z, y, Zv, yv, 3, "cross_entropy", grid, patience=99)
    cold = sum(regularisation_path(Z, y, Zv, yv, 3, "cross_entropy", [C]).points[0].passes for C in grid)
    assert sum(point.passes for point in path.points) < 0.8 * cold


def test_same_bits_for_any_number_of_threads() -> None:
    Z, y, Zv, yv = split(40_000, 40)
    seen = set()
    for threads in (1, 2, 5):
        path = regularisation_path(Z, y, Zv, yv, 3, "cross_entropy", CS, threads=threads)
        seen.add((path.solution.weights.tobytes(), tuple(point.val_loss for point in path.points)))
    assert len(seen) == 1


def test_few_rows_of_many_columns_take_the_short_way() -> None:
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((200, 600))
    y = (Z[:, :3] + rng.standard_normal((200, 3))).argmax(axis=1)
    path = regularisation_path(Z[:100], y[:100], Z[100:], y[100:], 3, "cross_entropy", CS, tol=1e-9, patience=9)
    assert path.solution.weights.shape == (600, 3)
    exact = fit_linear(Z[:100], y[:100], 3, l2=path.points[path.best].l2, tol=1e-9)
    np.testing.assert_allclose(path.solution.weights, exact.weights, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Cs": []}, "positive numbers are needed"),
        ({"Cs": [0.0, 1.0]}, "positive numbers are needed"),
        ({"Cs": [np.inf]}, "positive numbers are needed"),
        ({"Cs": [np.nan]}, "positive numbers are needed"),
        ({"loss": "perceptron"}, "no path for the perceptron loss"),
        ({"loss": "hinge"}, "no path for the hinge loss"),
        ({"loss": "nothing"}, "No loss is called"),
        ({"Z_val": np.zeros((0, 30))}, "at least one validation row"),
        ({"Z_val": np.zeros((300, 31))}, "the same columns"),
    ],
)
def test_what_cannot_be_is_refused(change: dict, message: str) -> None:
    Z, y, Zv, yv = split()
    given = {"Z_train": Z, "y_train": y, "Z_val": Zv, "y_val": yv, "n_classes": 3, "loss": "cross_entropy", "Cs": CS}
    with pytest.raises(InputError, match=message):
        regularisation_path(**(given | change))


def test_interrupt_keeps_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    Z, y, Zv, yv = split()
    from lastlayer.solvers import lbfgs

    plain = lbfgs.remember
    calls = []

    def remember(pairs, s, y, applied):  # type: ignore[no-untyped-def]
        calls.append(1)
        if len(calls) == 12:
            raise KeyboardInterrupt
        plain(pairs, s, y, applied)

    monkeypatch.setattr(lbfgs, "remember", remember)
    path = regularisation_path(Z, y, Zv, yv, 3, "cross_entropy", CS)
    assert path.interrupted
    assert path.points[-1].stop_reason == "interrupted"
    assert path.skipped
