"""Folds, and every C in every fold: each fit at its optimum, the choice, the out-of-fold scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

from lastlayer._arrays import InputError
from lastlayer.losses import by_name
from lastlayer.objective import Objective
from lastlayer.selection import coupled, fit_linear
from lastlayer.selection import cross_validation as module
from lastlayer.selection.coupled import CoupledHessian
from lastlayer.selection.cross_validation import HeldOut, cross_validate
from lastlayer.selection.folds import Fold, assign_folds, held_out, make_folds
from lastlayer.solvers import LBFGS

CS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)


def problem(n: int = 400, d: int = 20, k: int = 3, noise: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((n, d)).astype(np.float32)
    y = (Z @ rng.standard_normal((d, k)) + noise * np.sqrt(d) * rng.standard_normal((n, k)) / 3).argmax(axis=1)
    return Z, y


# folds


@pytest.mark.parametrize("counts", [(50, 50), (7, 3, 90), (1, 2, 3, 4, 33)])
@pytest.mark.parametrize("n_folds", [2, 5])
def test_drawn_folds_spread_every_class_to_the_row(counts: tuple[int, ...], n_folds: int) -> None:
    y = np.repeat(np.arange(len(counts)), counts)
    number = assign_folds(y, n_folds, seed=3)
    sizes = np.bincount(number, minlength=n_folds)
    assert sizes.max() - sizes.min() <= 1
    for k in range(len(counts)):
        of_class = np.bincount(number[y == k], minlength=n_folds)
        assert of_class.max() - of_class.min() <= 1
    np.testing.assert_array_equal(number, assign_folds(y, n_folds, seed=3))
    assert not np.array_equal(number, assign_folds(y, n_folds, seed=4))


def test_groups_stay_together_and_classes_stay_spread() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 200, size=3000)
    y = (rng.random(3000) < np.where(groups % 3, 0.1, 0.7)).astype(int)
    number = assign_folds(y, 5, groups=np.array([f"g{g}" for g in groups]))
    assert all(len(np.unique(number[groups == g])) == 1 for g in np.unique(groups))
    for k in (0, 1):
        of_class = np.bincount(number[y == k], minlength=5)
        assert of_class.max() <= 1.06 * of_class.min()


def test_folds_in_every_form() -> None:
    y = np.array([0, 1, 0, 1, 0, 1])
    by_number = make_folds(y, np.array([0, 0, 1, 1, -1, -1]))
    assert [f.test.tolist() for f in by_number] == [[0, 1], [2, 3]]
    assert by_number[0].train.tolist() == [2, 3, 4, 5], "a negative number is always trained on"
    masks = make_folds(y, [(np.arange(6) > 1, np.arange(6) < 2)])
    assert masks[0].train.tolist() == [2, 3, 4, 5]
    assert make_folds(y, [(np.array([-1, 2, 3]), np.array([0]))])[0].train.tolist() == [5, 2, 3]
    again = make_folds(y, by_number)
    assert all(isinstance(fold, Fold) for fold in again)
    splits = list(StratifiedKFold(3).split(y, y))
    assert [f.test.tolist() for f in make_folds(y, splits)] == [test.tolist() for _, test in splits]


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        (1, "1 folds of 6 rows"),
        (7, "7 folds of 6 rows"),
        ([], "there are no folds"),
        (np.zeros(5, int), "5 fold numbers for 6 rows"),
        (np.zeros(6, int), "0 training"),
        ([(np.arange(6), np.arange(2))], "trains on row 0"),
        ([(np.arange(1, 6),)], "1 parts"),
        ([(np.array([0, 9]), np.array([1]))], "names row 9"),
        ([(np.array([0.5]), np.array([1]))], "float64"),
        ([(np.array([0, 2]), np.array([1]))], "all of class 0"),
    ],
)
def test_folds_that_cannot_be_are_refused(folds: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_folds(np.array([0, 1, 0, 1, 0, 1]), folds)


def test_groups_go_with_drawn_folds_only() -> None:
    y, groups = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    with pytest.raises(InputError, match="groups are for folds that are drawn"):
        make_folds(y, np.array([0, 0, 1, 1]), groups=groups)
    with pytest.raises(InputError, match="3 folds of 2 groups"):
        make_folds(y, 3, groups=groups)
    with pytest.raises(InputError, match="one group a row"):
        make_folds(y, 2, groups=groups[:3])


@pytest.mark.parametrize("share", [0.1, 0.15, 0.5])
def test_held_out_rows_are_a_share_of_every_class(share: float) -> None:
    y = np.repeat([0, 1, 2, 3], [700, 200, 40, 1])
    held = held_out(y, share, seed=1)
    assert abs(held.sum() - share * len(y)) <= 1
    for k in range(3):
        assert abs(held[y == k].sum() - share * (y == k).sum()) <= 1
    assert not held[y == 3].any(), "the last row of a class is trained on"
    loose = held_out(y, share, seed=1, stratified=False)
    assert loose.sum() == int(share * len(y))
    groups = np.arange(len(y)) // 7
    together = held_out(y, share, seed=1, groups=groups)
    assert all(len(np.unique(together[groups == g])) == 1 for g in np.unique(groups))
    assert together.mean() == pytest.approx(share, abs=0.02)
    for wrong in (0.0, 1.0):
        with pytest.raises(InputError, match="cannot be held out"):
            held_out(y, wrong)
    with pytest.raises(InputError, match="one side empty"):
        held_out(np.array([0, 1]), 0.01)


# cross-validation


@pytest.mark.parametrize("loss", ["cross_entropy", "squared", "squared_hinge"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_every_fit_is_the_one_of_the_fold_alone(loss: str, weighted: bool, fit_intercept: bool) -> None:
    Z, y = problem()
    s = np.random.default_rng(1).integers(0, 3, size=len(y)).astype(float) if weighted else None
    done = cross_validate(
        *(Z, y, 3, loss, CS[1:4], 3),
        sample_weight=s,
        tol=1e-9,
        gap=1e-12,
        keep_weights=True,
        fit_intercept=fit_intercept,
    )
    assert done.fold_weights is not None
    assert done.fold_biases is not None
    all_ones = np.ones(len(y)) if s is None else s
    for f, fold in enumerate(done.folds):
        weights = all_ones[fold.train]
        for c, C in enumerate(done.Cs):
            l2 = 1 / (C * weights.sum())
            alone = fit_linear(
                *(Z[fold.train], y[fold.train], 3, loss),
                l2=l2,
                sample_weight=weights,
                tol=1e-10,
                fit_intercept=fit_intercept,
            )
            np.testing.assert_allclose(done.fold_weights[f, c], alone.weights, atol=1e-6)
            scores = Z[fold.test].astype(float) @ alone.weights + alone.bias
            values = by_name(loss).values(scores.copy(), y[fold.test])
            right = scores.argmax(axis=1) == y[fold.test]
            judge = all_ones[fold.test]
            assert done.losses[f, c] == pytest.approx(np.average(values, weights=judge), rel=1e-5)
            assert done.accuracies[f, c] == pytest.approx(np.average(right, weights=judge))
            assert done.right[f, c] == right[judge > 0].sum()
    whole = fit_linear(Z, y, 3, loss, l2=done.l2[done.best], sample_weight=s, tol=1e-10, fit_intercept=fit_intercept)
    np.testing.assert_allclose(done.fit.weights, whole.weights, atol=1e-6)


def test_the_lowest_mean_loss_is_chosen_and_its_out_of_fold_scores_are_given() -> None:
    Z, y = problem()
    done = cross_validate(Z, y, 3, "cross_entropy", [*CS[::-1], CS[0]], 4, seed=2, tol=1e-8, gap=1e-10)
    assert done.Cs.tolist() == list(CS)
    assert 0 < done.best < 4
    assert done.best == int(np.argmin(done.losses.mean(axis=0)))
    assert done.C == CS[done.best]
    assert not done.at_edge
    assert done.out_of_fold.shape == (len(y), 3)
    assert done.out_of_fold.dtype == np.float32
    for fold in done.folds:
        alone = fit_linear(Z[fold.train], y[fold.train], 3, l2=1 / (done.C * len(fold.train)), tol=1e-10)
        scores = Z[fold.test] @ alone.weights + alone.bias
        difference = done.out_of_fold[fold.test] - scores
        np.testing.assert_allclose(difference - difference.mean(axis=1, keepdims=True), 0, atol=1e-4)
    points = done.points()
    assert points[done.best].val_accuracy == ((done.out_of_fold.argmax(axis=1) == y).sum(), len(y))
    assert points[1].val_loss == pytest.approx(done.losses[:, 1].mean())
    assert done.converged.all()


def test_one_standard_error_takes_the_strongest_within_it() -> None:
    Z, y = problem(n=150)
    grid = np.logspace(-3, 1, 17)
    best = cross_validate(Z, y, 3, "cross_entropy", grid, 5)
    simple = cross_validate(Z, y, 3, "cross_entropy", grid, 5, rule="one_standard_error")
    limit = best.mean_loss[best.best] + best.sd_loss[best.best] / np.sqrt(5)
    assert simple.best < best.best
    assert simple.best == np.flatnonzero(best.mean_loss <= limit)[0]
    assert simple.rule == "one_standard_error"
    np.testing.assert_array_equal(simple.losses, best.losses)
    with pytest.raises(InputError, match="No rule is called 'worst'"):
        cross_validate(Z, y, 3, "cross_entropy", grid, 5, rule="worst")


def test_a_measure_chooses_in_place_of_the_loss() -> None:
    Z, y = problem()
    seen = []

    def measure(held: HeldOut) -> float:
        W, b = held.model()
        np.testing.assert_allclose(Z[held.rows] @ W + b, held.scores, atol=1e-4)
        seen.append(len(held.rows))
        return -float(np.abs(held.scores).max())

    done = cross_validate(Z, y, 3, "cross_entropy", CS, 4, measure=measure)
    assert seen == [100] * 20
    assert done.best == 0, "the smallest scores come with the strongest penalty"
    assert done.measures is not None
    assert done.measures.shape == (4, 5)
    assert done.at_edge


def test_same_bits_for_any_number_of_threads() -> None:
    Z, y = problem(20_000, 30)
    seen = set()
    for threads in (1, 2, 5):
        done = cross_validate(Z, y, 3, "cross_entropy", CS[:3], 3, threads=threads)
        seen.add((done.fit.weights.tobytes(), done.losses.tobytes(), done.out_of_fold.tobytes()))
    assert len(seen) == 1


def test_a_row_of_weight_two_is_a_row_given_twice() -> None:
    Z, y = problem()
    twice = np.arange(len(y)) % 3 == 0
    number = assign_folds(y, 3)
    rows = np.concatenate([np.arange(len(y)), np.flatnonzero(twice)])
    weighted = cross_validate(Z, y, 3, "cross_entropy", CS, number, sample_weight=1.0 + twice, tol=1e-8, gap=1e-10)
    repeated = cross_validate(Z[rows], y[rows], 3, "cross_entropy", CS, number[rows], tol=1e-8, gap=1e-10)
    np.testing.assert_allclose(weighted.losses, repeated.losses, rtol=1e-6)
    np.testing.assert_allclose(weighted.fit.weights, repeated.fit.weights, atol=1e-6)


def test_interruption_keeps_the_complete_values(monkeypatch: pytest.MonkeyPatch) -> None:
    Z, y = problem()
    plain, calls = module._Run._judge, []

    def judge(*given: Any) -> None:
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        plain(*given)

    monkeypatch.setattr(module._Run, "_judge", judge)
    done = cross_validate(Z, y, 3, "cross_entropy", CS, 3)
    assert done.interrupted
    assert done.Cs.tolist() == list(CS[:2])
    assert done.skipped == CS[2:]
    assert np.isfinite(done.out_of_fold).all()
    calls.clear()
    calls.extend([1] * 5)
    with pytest.raises(KeyboardInterrupt):
        cross_validate(Z, y, 3, "cross_entropy", CS, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Cs": []}, "positive numbers"),
        ({"loss": "hinge"}, "no path for the hinge loss"),
        ({"sample_weight": np.zeros(400)}, "at least 0"),
        ({"sample_weight": np.ones(3)}, "one finite number a row"),
        ({"sample_weight": np.r_[np.zeros(200), np.ones(200)], "folds": np.arange(400) // 200}, "weight zero"),
        ({"sample_weight": np.where(problem()[1] == 1, 1.0, 0.0)}, "have class 1"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    Z, y = problem()
    given = {"Z": Z, "y": y, "n_classes": 3, "loss": "cross_entropy", "Cs": CS, "folds": 3}
    with pytest.raises(InputError, match=message):
        cross_validate(**(given | change))


# the coupled Hessian


def ill_conditioned(n: int = 6000, d: int = 60, k: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    Z = (rng.standard_normal((n, d)) * np.geomspace(1, 1e-2, d)).astype(np.float32)
    Z[: n // 2] += (rng.random((n // 2, d)) < 0.05).astype(np.float32)
    y = (6 * Z @ (rng.standard_normal((d, k)) * np.geomspace(1, 30, d)[:, None]) + rng.gumbel(size=(n, k))).argmax(
        axis=1
    )
    return Z, y


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_hinge"])
def test_with_all_directions_and_rows_it_is_the_inverse_hessian(loss: str) -> None:
    Z, y = problem(n=500, d=7)
    s = np.random.default_rng(2).random(500)
    objective = Objective(Z, y, 3, by_name(loss), 1e-2, s)
    params = np.random.default_rng(1).standard_normal((8, 3))
    point = objective.at(params)
    inverse = CoupledHessian.at(objective, point.scores).inverse(objective.l2)
    direction = np.random.default_rng(3).standard_normal((8, 3))
    direction[-1] -= direction[-1].mean()  # raising all biases alike changes no softmax
    back = inverse.apply(point.hessian_times(direction))
    back[-1] -= back[-1].mean() - direction[-1].mean()
    np.testing.assert_allclose(back, direction, atol=2e-3)


def test_it_saves_passes_and_changes_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    Z, y = ill_conditioned()
    monkeypatch.setattr(coupled, "UNKNOWNS", (60 + 1) * 4)
    monkeypatch.setattr(coupled, "SAMPLE", 4000)
    objective = Objective(Z, y, 4, by_name("cross_entropy"), 1e-6)
    rough = fit_linear(Z, y, 4, l2=1e-5, gap=1e-4, tol=0.1)
    begin = objective.to_inside(rough.weights, rough.bias)
    inverse = CoupledHessian.at(objective, objective.scores(begin)).inverse(objective.l2)
    plain = fit_linear(Z, y, 4, l2=1e-6, tol=1e-6, gap=1e-9, start=(rough.weights, rough.bias))
    better = LBFGS(inverse, tol=1e-6, gap=1e-9).minimise(objective, objective.at(begin))
    assert better.value == pytest.approx(plain.solution.value, rel=1e-6)
    assert better.passes < 0.7 * plain.solution.passes


def test_folds_agree_with_and_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    Z, y = ill_conditioned(70_000)
    learned = []
    plain = CoupledHessian.at.__func__  # type: ignore[attr-defined]
    monkeypatch.setattr(CoupledHessian, "at", classmethod(lambda cls, *g: learned.append(1) or plain(cls, *g)))
    monkeypatch.setattr(module, "is_worth_it", lambda objective, passes: False)
    without = cross_validate(Z, y, 4, "cross_entropy", [1e-3, 1e-2, 1e-1], 2, gap=1e-7)
    assert not learned
    monkeypatch.setattr(module, "is_worth_it", lambda objective, passes: True)
    known = cross_validate(Z, y, 4, "cross_entropy", [1e-3, 1e-2, 1e-1], 2, gap=1e-7)
    assert len(learned) == 2
    np.testing.assert_allclose(known.losses, without.losses, rtol=1e-4)
    assert known.passes[:, 1:].sum() < without.passes[:, 1:].sum()


def test_when_it_is_worth_it() -> None:
    Z, y = ill_conditioned(70_000)
    objective = Objective(Z, y, 4, by_name("cross_entropy"), 1e-6)
    assert coupled.is_worth_it(objective, 10_000)
    assert not coupled.is_worth_it(objective, 1)
    many = Objective(Z, np.arange(70_000) % 60, 60, by_name("cross_entropy"), 1e-6)
    assert not coupled.is_worth_it(many, 10_000), "sixty classes leave too few directions"
