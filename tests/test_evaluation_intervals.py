"""Intervals in closed form, the bootstrap and cross-validation: their coverage in simulation, and the edges.

Every coverage is of 1,900 simulations or more, whose Monte-Carlo error is below half a point.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from scipy.special import ndtr

from lastlayer._arrays import InputError
from lastlayer.evaluation.bootstrap import confusion_intervals, mean_interval
from lastlayer.evaluation.intervals import Estimate, f1_interval, newcombe, normal_quantile, wilson, wilson_share
from lastlayer.evaluation.metrics import Evaluation, evaluate_scores
from lastlayer.evaluation.resampling import corrected_interval, corrected_t_test

NOMINAL = pytest.approx(0.95, abs=0.015)


def covers(ends, truth):
    return np.mean([low <= truth <= high for low, high in ends])


# ---- closed form --------------------------------------------------------------------------------


def test_a_share_of_whole_trials_has_wilsons_interval():
    for k, n in ((0, 7), (3, 7), (7, 7), (40, 41)):
        assert wilson_share(k / n, n) == pytest.approx(wilson(k, n), abs=1e-12)
    assert normal_quantile(0.9) == pytest.approx(stats.norm.ppf(0.95), abs=1e-9)
    with pytest.raises(InputError, match="level"):
        normal_quantile(1.0)


def f1_counts(n=120, size=20_000, seed=3):
    """Hits, labelled and answered of a class with shares TP 0.15, FN 0.05, FP 0.08 among n images."""
    rng = np.random.default_rng(seed)
    tp, fn, fp, _ = rng.multinomial(n, [0.15, 0.05, 0.08, 0.72], size=size).T
    return tp, tp + fn, tp + fp, 2 * 0.15 / (2 * 0.15 + 0.13)


def test_the_interval_of_f1_covers():
    tp, labelled, answered, truth = f1_counts()
    assert (
        covers((f1_interval(*row) for row in zip(tp.tolist(), labelled.tolist(), answered.tolist())), truth) == NOMINAL
    )


def test_f1_of_a_class_without_mistakes_has_a_width_and_without_images_none():
    low, high = f1_interval(5, 5, 5)
    assert high == 1.0 and 0.5 < low < 0.95
    assert all(math.isnan(end) for end in f1_interval(0, 0, 3))
    assert f1_interval(0, 4, 0)[0] == 0.0


def test_newcombes_interval_is_his_own():
    # Newcombe 1998, table II, method 10
    assert newcombe(36, 12, 2, 0) == pytest.approx((0.0569, 0.3404), abs=5e-5)
    assert newcombe(0, 0, 0, 0)[0] != newcombe(0, 0, 0, 0)[0]
    assert newcombe(9, 0, 0, 1) == pytest.approx((-newcombe(9, 0, 0, 1)[1], newcombe(9, 0, 0, 1)[1]))


def test_the_interval_of_a_paired_difference_covers():
    rng = np.random.default_rng(5)
    counts = rng.multinomial(150, [0.7, 0.12, 0.06, 0.12], size=10_000).tolist()
    assert covers((newcombe(*row) for row in counts), 0.06) == NOMINAL


# ---- bootstrap ----------------------------------------------------------------------------------

SHARES = np.array([[0.30, 0.03, 0.01], [0.04, 0.25, 0.04], [0.01, 0.02, 0.30]])


def class_scores(shares):
    hits, labelled, answered = np.diagonal(shares), shares.sum(axis=1), shares.sum(axis=0)
    return (hits / labelled).mean(), (2 * hits / (labelled + answered)).mean()


def test_balanced_accuracy_and_macro_f1_cover():
    rng = np.random.default_rng(1)
    tables = rng.multinomial(150, SHARES.ravel(), size=1900).reshape(-1, 3, 3)
    found = [confusion_intervals(table, draws=300, seed=i) for i, table in enumerate(tables)]
    for k, truth in enumerate(class_scores(SHARES)):
        assert covers(((pair[k].low, pair[k].high) for pair in found), truth) == NOMINAL


def test_they_cover_with_three_mistakes_in_a_hundred_where_the_percentile_interval_does_not():
    """300 images, nine mistakes; with half as many BCa covers 93%."""
    rng = np.random.default_rng(2)
    shares = np.full((3, 3), 0.005) + np.diag([1 / 3 - 0.015] * 3)
    tables = rng.multinomial(300, shares.ravel(), size=1900).reshape(-1, 3, 3)
    truth = class_scores(shares)[0]
    found = [confusion_intervals(table, draws=300, seed=i)[0] for i, table in enumerate(tables)]
    assert covers(((each.low, each.high) for each in found), truth) == NOMINAL
    hits = 0
    for i, table in enumerate(rng.multinomial(150, shares.ravel(), size=500)):
        drawn = np.random.default_rng(i).multinomial(150, table / 150, size=300).reshape(-1, 3, 3)
        recalls = np.diagonal(drawn, axis1=1, axis2=2) / drawn.sum(axis=2)
        low, high = np.quantile(recalls.mean(axis=1), [0.025, 0.975])
        hits += low <= truth <= high
    assert hits / 500 < 0.93, "with half as many images a percentile interval is caught"


def test_values_are_those_of_the_evaluation_and_seeds_repeat():
    table = np.random.default_rng(0).multinomial(400, SHARES.ravel() / SHARES.sum()).reshape(3, 3)
    balanced, f1 = confusion_intervals(table)
    evaluation = Evaluation("test", ("a", "b", "c"), table, 0.1)
    assert (balanced.value, f1.value) == pytest.approx((evaluation.balanced_accuracy, evaluation.macro_f1), abs=1e-12)
    assert balanced.low < balanced.value < balanced.high
    assert confusion_intervals(table) == (balanced, f1)
    assert confusion_intervals(table, seed=1) != (balanced, f1)


def test_a_class_without_images_does_not_count_and_answers_for_it_are_mistakes():
    table = np.array([[8, 1, 1], [2, 7, 0], [0, 0, 0]])
    balanced, f1 = confusion_intervals(table)
    assert balanced.value == pytest.approx((0.8 + 7 / 9) / 2)
    assert f1.value == pytest.approx((16 / 20 + 14 / 17) / 2)


def test_edges_of_the_bootstrap():
    none, _ = confusion_intervals(np.zeros((3, 3), int))
    assert str(none) == none.percent() == "n/a"
    one, _ = confusion_intervals(np.diag([1, 0]))
    assert one.value == 1.0 and one.low == pytest.approx(wilson(1, 1)[0])
    perfect, _ = confusion_intervals(np.diag([50, 50]))
    assert perfect.low == pytest.approx(wilson(100, 100)[0]), "classes of equal size: as for the accuracy"
    assert str(mean_interval(np.zeros(0))) == "n/a"
    assert str(mean_interval(np.array([0.25]))) == "0.250"
    same = mean_interval(np.full(30, 0.5))
    assert (same.low, same.value, same.high) == (0.5, 0.5, 0.5)


def test_memory_is_bounded_for_a_thousand_classes():
    import tracemalloc

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 1000, 3000)
    answers = np.where(rng.random(3000) < 0.7, labels, rng.integers(0, 1000, 3000))
    table = np.bincount(labels * 1000 + answers, minlength=10**6).reshape(1000, 1000)
    tracemalloc.start()
    balanced, _ = confusion_intervals(table, draws=400)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150e6
    assert balanced.low < balanced.value < balanced.high


@pytest.mark.parametrize(("N", "draws", "name"), [(100, 400, "bootstrap"), (2500, 0, "to second order")])
def test_mean_losses_cover(N, draws, name):
    rng = np.random.default_rng(4)
    values = rng.gamma(2.0, 0.3, (1900, N))  # skewed as log losses are
    found = [mean_interval(row, draws=draws, seed=i) for i, row in enumerate(values)]
    assert name in found[0].method
    assert covers(((each.low, each.high) for each in found), 0.6) == NOMINAL


def test_the_expansion_is_what_the_draws_tend_to():
    values = np.random.default_rng(0).gamma(1.0, 1.0, 2000)
    drawn = mean_interval(values, draws=2000)
    expanded = mean_interval(np.append(values, values.mean()), draws=2000)
    width = drawn.high - drawn.low
    assert (drawn.low, drawn.high) == pytest.approx((expanded.low, expanded.high), abs=0.04 * width)


def test_scipys_bca_agrees():
    values = np.random.default_rng(1).gamma(1.0, 1.0, 80)
    theirs = stats.bootstrap((values,), np.mean, method="BCa", n_resamples=5000, rng=np.random.default_rng(0))
    ours = mean_interval(values, draws=5000)
    ends = theirs.confidence_interval
    assert (ours.low, ours.high) == pytest.approx((ends.low, ends.high), abs=0.05 * (ends.high - ends.low))


# ---- in an evaluation ---------------------------------------------------------------------------


def test_every_score_of_an_evaluation_is_stored_with_its_interval():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 300)
    p = rng.dirichlet(np.ones(4), 300)
    p[np.arange(300), labels] += 0.3
    evaluation = evaluate_scores(labels, p / p.sum(axis=1, keepdims=True), ("a", "b", "c", "d"), "test")
    stored = evaluation.to_dict()
    for name in ("balanced_accuracy", "macro_f1", "log_loss"):
        entry = stored["intervals"][name]
        assert entry["value"] == pytest.approx(stored[name], abs=1e-12)
        assert entry["low"] < entry["value"] < entry["high"]
    assert all(row["f1_low"] <= row["f1"] <= row["f1_high"] for row in stored["per_class"])
    again = Evaluation.from_dict(stored)
    assert again.to_dict() == stored
    old = {key: value for key, value in stored.items() if key != "intervals"}
    assert Evaluation.from_dict(old).uncertainty is None, "a run of an earlier version can still be read"


def test_an_estimate_prints_and_stores():
    estimate = Estimate(0.5, 0.4, math.nan, "m")
    assert str(estimate) == "0.500" and estimate.to_dict()["high"] is None
    assert str(Estimate.from_dict(estimate.to_dict())) == "0.500"
    assert Estimate(0.5, 0.4, 0.6).percent() == "50.0% [40.0, 60.0]"


# ---- cross-validation ---------------------------------------------------------------------------


def cross_validations(repetitions, repeats, n=60, d=2, folds=5, seed=0):
    """Accuracies (R, folds · repeats) of nearest-mean classifiers, and their true accuracy, on two Gaussian classes."""
    rng = np.random.default_rng(seed)
    y = np.tile([0, 1], n // 2)
    X = rng.normal(size=(repetitions, n, d)) + np.where(y[:, None] == 1, 0.7, -0.7) * np.eye(d)[0]
    scores, truths = [], []
    for _ in range(repeats):
        fold = np.concatenate([rng.permutation(np.repeat(np.arange(folds), n // folds // 2)) for _ in range(2)])
        fold = fold.reshape(2, -1).T.ravel()  # stratified
        for f in range(folds):
            train, out = fold != f, fold == f
            one = X[:, train & (y == 1)].mean(axis=1)
            zero = X[:, train & (y == 0)].mean(axis=1)
            w, b = one - zero, ((one**2).sum(axis=1) - (zero**2).sum(axis=1)) / 2
            z = np.einsum("rnd,rd->rn", X[:, out], w) - b[:, None]
            scores.append(((z > 0) == (y[out] == 1)).mean(axis=1))
            norm = np.linalg.norm(w, axis=1)
            truths.append((ndtr((0.7 * w[:, 0] - b) / norm) + ndtr((0.7 * w[:, 0] + b) / norm)) / 2)
    return np.stack(scores, axis=1), float(np.mean(truths))


@pytest.mark.parametrize("repeats", [1, 4])
def test_the_corrected_interval_of_cross_validation_covers_where_the_plain_one_does_not(repeats):
    """60 images, 5 folds. The correction is a rule of thumb: it errs on the safe side, never on the other."""
    scores, truth = cross_validations(2500, repeats)
    found = [corrected_interval(row, 0.25) for row in scores]
    assert 0.935 <= covers(((each.low, each.high) for each in found), truth) <= 0.99
    J = scores.shape[1]
    half = stats.t.ppf(0.975, J - 1) * scores.std(axis=1, ddof=1) / math.sqrt(J)
    plain = np.mean(np.abs(scores.mean(axis=1) - truth) <= half)
    if repeats > 1:
        assert plain < 0.80


def test_the_corrected_test_is_the_interval_turned_round():
    differences = np.array([0.02, -0.01, 0.03, 0.01, 0.04])
    p = corrected_t_test(differences, 0.25)
    at = corrected_interval(differences, 0.25, level=1 - p)
    assert at.low == pytest.approx(0.0, abs=1e-9)
    assert corrected_t_test([0.0, 0.0], 0.25) == 1.0
    assert corrected_t_test([0.1, 0.1], 0.25) == 0.0
    assert corrected_t_test([0.1], 0.25) == 1.0
    assert str(corrected_interval([0.9], 0.25)) == "0.900"
    with pytest.raises(InputError, match="finite"):
        corrected_interval([], 0.25)
    with pytest.raises(InputError, match="training row"):
        corrected_interval([0.1, 0.2], -0.25)
