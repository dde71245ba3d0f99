"""Probe protocols: the values tried, what chooses, and the rows of the final fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from lastlayer._arrays import InputError
from lastlayer.selection import fit_linear, protocol_sweep, protocols
from lastlayer.selection.folds import make_folds
from lastlayer.selection.protocols import CLIP_CS, CS, DINOV2_CS, PROTOCOLS, ProtocolResult, choose_by_protocol


def problem(n: int = 700, d: int = 12, k: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    Z = (rng.standard_normal((n, d)) * np.linspace(0.2, 2, d)).astype(np.float32)
    return Z, (Z @ rng.standard_normal((d, k)) + 3 * rng.gumbel(size=(n, k))).argmax(axis=1)


def chosen_by_accuracy(result: ProtocolResult) -> float:
    """The smallest C of the highest accuracy."""
    most = max(point.val_accuracy[0] for point in result.points)
    return next(point.C for point in result.points if point.val_accuracy[0] == most)


def test_the_published_grids() -> None:
    np.testing.assert_allclose(np.log10(CLIP_CS), -6 + np.arange(97) / 8, atol=1e-12)
    np.testing.assert_allclose(np.log10(DINOV2_CS), -6 + np.arange(45) / 4, atol=1e-12)


@pytest.mark.parametrize("protocol", ["clip", "dinov2"])
@pytest.mark.parametrize("k", [2, 3])
def test_published_protocols_end_in_scikit_learns_fit_of_all_rows(protocol: str, k: int) -> None:
    Z, y = problem(k=k)
    result = choose_by_protocol(protocol, Z[:500], y[:500], k, Z_val=Z[500:], y_val=y[500:])
    assert result.C == chosen_by_accuracy(result)
    assert all(point.val_accuracy[1] == 200 for point in result.points)
    theirs = LogisticRegression(C=result.C, tol=1e-10, max_iter=5000).fit(Z.astype(float), y)
    W = result.weights[:, 1:] - result.weights[:, :1] if k == 2 else result.weights
    np.testing.assert_allclose(W.T, theirs.coef_, atol=5e-3)
    for point in result.points[:: len(result.points) // 4]:
        alone = LogisticRegression(C=point.C, tol=1e-8, max_iter=5000).fit(Z[:500].astype(float), y[:500])
        assert abs(point.val_accuracy[0] - (alone.predict(Z[500:].astype(float)) == y[500:]).sum()) <= 2
    assert "refitted on all 700 rows" in result.how
    assert result.n_fitted == len(result.points) + 1


def test_dinov2_fits_every_value_and_holds_out_a_tenth_at_random() -> None:
    Z, y = problem()
    result = choose_by_protocol("dinov2", Z, y, 3)
    assert [point.C for point in result.points] == list(DINOV2_CS)
    assert result.points[0].val_accuracy[1] == 70
    assert "10% of train (70 rows, at random, seed 0)" in result.how
    assert result.departures


def test_clip_bisects_to_a_value_whose_neighbours_were_tried() -> None:
    Z, y = problem()
    result = choose_by_protocol("clip", Z, y, 3)
    tried = [CLIP_CS.index(point.C) for point in result.points]
    assert set(range(0, 97, 16)) <= set(tried)
    assert 11 <= len(tried) <= 15
    k = CLIP_CS.index(result.C)
    assert {n for n in (k - 1, k + 1) if 0 <= n <= 96} <= set(tried)
    assert result.C == chosen_by_accuracy(result)
    assert "(70 rows, stratified, seed 0)" in result.how


def test_clip_at_an_end_of_its_grid() -> None:
    Z, y = problem(n=300)
    result = choose_by_protocol("clip", 0.0 * Z, y, 3)
    assert CLIP_CS.index(result.C) == 0, "ties go to the smaller C"
    assert len(result.points) == 11
    assert result.at_edge


@pytest.mark.parametrize("given", [True, False])
def test_holdout_chooses_by_loss_and_fits_training_rows_alone(given: bool) -> None:
    Z, y = problem()
    sets: dict[str, Any] = {"Z_val": Z[600:], "y_val": y[600:]} if given else {}
    result = choose_by_protocol("holdout", Z[:600], y[:600], 3, seed=4, **sets)
    losses = [point.val_loss for point in result.points]
    assert result.best == int(np.argmin(losses))
    assert result.C in CS
    assert result.points[0].val_accuracy[1] == (100 if given else 90)
    assert "not refitted" in result.how
    held = np.zeros(600, bool) if given else protocols._hold_out("holdout", y[:600], None, 4)[0]
    alone = fit_linear(Z[:600][~held], y[:600][~held], 3, l2=1 / (result.C * (~held).sum()), tol=1e-9)
    np.testing.assert_allclose(result.weights, alone.weights, atol=2e-3)
    assert result.l2 == pytest.approx(1 / (result.C * (~held).sum()))


def test_cv_fits_all_rows_and_gives_out_of_fold_scores() -> None:
    Z, y = problem()
    groups = np.arange(len(y)) // 4
    result = choose_by_protocol("cv", Z, y, 3, folds=4, groups=groups, Cs=[1e-2, 1e-1, 1.0], seed=1)
    folds = make_folds(y, 4, groups=groups, seed=1)
    assert result.out_of_fold is not None
    assert result.out_of_fold.shape == (len(y), 3)
    assert result.points[result.best].val_accuracy[0] == (result.out_of_fold.argmax(axis=1) == y).sum()
    assert result.n_fitted == 3 * (len(folds) + 1) + 1
    alone = fit_linear(Z, y, 3, l2=1 / (result.C * len(y)), tol=1e-9)
    np.testing.assert_allclose(result.weights, alone.weights, atol=2e-3)
    assert "4 folds of whole groups, seed 1" in result.how


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_weights_of_rows_count_as_rows(protocol: str) -> None:
    Z, y = problem(n=300)
    Z_val, y_val = problem(n=200, seed=5)
    s = np.random.default_rng(0).integers(1, 4, size=300)
    rows = np.repeat(np.arange(300), s)
    sets: dict[str, Any] = {"Z_val": Z_val, "y_val": y_val} if protocol != "cv" else {}
    folds = np.arange(300) % 3
    cv: dict[str, Any] = {"folds": folds, "Cs": [0.1, 1.0]} if protocol == "cv" else {}
    cv_repeated = {**cv, "folds": folds[rows]} if cv else {}
    weighted = choose_by_protocol(protocol, Z, y, 3, sample_weight=s.astype(float), **sets, **cv)
    repeated = choose_by_protocol(protocol, Z[rows], y[rows], 3, **sets, **cv_repeated)
    assert weighted.C == repeated.C
    np.testing.assert_allclose(weighted.weights, repeated.weights, atol=5e-3)


def test_ctrl_c_keeps_the_best_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    Z, y = problem()
    plain, calls = protocol_sweep.judge, []

    def judge(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return plain(*given)

    monkeypatch.setattr(protocol_sweep, "judge", judge)
    result = choose_by_protocol("dinov2", Z, y, 3)
    assert result.interrupted
    assert len(result.points) == 8
    assert result.C == chosen_by_accuracy(result)
    assert result.how.endswith("not refitted; interrupted, best so far")


@pytest.mark.parametrize(
    ("protocol", "change", "message"),
    [
        ("knn", {}, "No protocol is called 'knn'"),
        ("clip", {"Cs": [1.0]}, "part of protocol clip"),
        ("dinov2", {"loss": "squared"}, "published for cross_entropy"),
        ("cv", {"Z_val": np.zeros((5, 12)), "y_val": np.zeros(5, int)}, "takes no validation set"),
        ("holdout", {"Z_val": np.zeros((5, 12))}, "go together"),
        ("holdout", {"Cs": [-1.0]}, "positive numbers"),
    ],
)
def test_what_cannot_be_is_refused(protocol: str, change: dict[str, Any], message: str) -> None:
    Z, y = problem(n=60)
    with pytest.raises(InputError, match=message):
        choose_by_protocol(protocol, Z, y, 3, **change)
