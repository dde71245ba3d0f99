"""Two classifiers on the same images: tests and intervals against SciPy's and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as oracle

from lastlayer._arrays import InputError
from lastlayer.evaluation.comparison import Answered, compare_answers, holm, mcnemar, sign_flip_test


def answered(labels, predicted, losses=None):
    return Answered(labels, predicted, np.zeros(len(labels)) if losses is None else losses)


def two(N=200, seed=0, right=(0.8, 0.72), K=3):
    """Two classifiers that are right together more often than by chance."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, K, N)
    luck = rng.random(N)
    out = []
    for share in right:
        ok = np.where(rng.random(N) < 0.6, luck, rng.random(N)) < share
        out.append(np.where(ok, labels, (labels + rng.integers(1, K, N)) % K))
    return labels, out[0], out[1]


@pytest.mark.parametrize("seed", range(5))
def test_mcnemar_is_the_binomial_test_of_the_discordant(seed):
    labels, first, second = two(seed=seed)
    pair = mcnemar(first == labels, second == labels)
    b, c = pair.only_first, pair.only_second
    assert pair.p_value == pytest.approx(stats.binomtest(b, b + c, 0.5).pvalue, rel=1e-12)
    assert pair.both == ((first == labels) & (second == labels)).sum()
    assert pair.difference.value == pytest.approx((first == labels).mean() - (second == labels).mean())
    assert pair.difference.low < pair.difference.value < pair.difference.high


def test_mcnemar_rejects_at_most_as_often_as_it_says():
    rng = np.random.default_rng(0)
    first, second = rng.random((2000, 120)) < 0.8, rng.random((2000, 120)) < 0.8
    rejected = np.mean([mcnemar(a, b).separated for a, b in zip(first, second)])
    assert rejected <= 0.05 + 0.01


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "macro_f1", "log_loss"])
def test_values_are_scikit_learns_and_order_only_turns_the_sign(metric):
    labels, first, second = two()
    rng = np.random.default_rng(9)
    losses = rng.gamma(1.0, 1.0, (2, 200))
    one, other = answered(labels, first, losses[0]), answered(labels, second, losses[1])
    found = compare_answers(one, other, metric)
    expected = {
        "accuracy": lambda p, loss: oracle.accuracy_score(labels, p),
        "balanced_accuracy": lambda p, loss: oracle.balanced_accuracy_score(labels, p),
        "macro_f1": lambda p, loss: oracle.f1_score(labels, p, average="macro"),
        "log_loss": lambda p, loss: loss.mean(),
    }[metric]
    assert (found.first, found.second) == pytest.approx((expected(first, losses[0]), expected(second, losses[1])))
    assert found.difference.value == pytest.approx(found.first - found.second)
    assert found.first_ahead == ((found.first > found.second) != (metric == "log_loss"))
    back = compare_answers(other, one, metric)
    assert back.difference.value == pytest.approx(-found.difference.value)
    width = found.difference.high - found.difference.low
    assert back.difference.low == pytest.approx(-found.difference.high, abs=0.1 * width)
    assert back.p_value == pytest.approx(found.p_value, abs=0.03)
    assert compare_answers(one, other, metric) == found


@pytest.mark.parametrize("metric", ["balanced_accuracy", "macro_f1", "log_loss"])
def test_the_same_answers_do_not_differ(metric):
    labels, first, _ = two()
    found = compare_answers(answered(labels, first), answered(labels, first), metric)
    assert (found.p_value, found.difference.value, found.difference.low) == (1.0, 0.0, 0.0)


def test_the_interval_of_a_difference_of_balanced_accuracy_covers():
    truth = 0.08
    hits = rejected = 0
    for seed in range(1900):
        labels, first, second = two(120, seed)
        found = compare_answers(
            answered(labels, first), answered(labels, second), "balanced_accuracy", draws=199, seed=1
        )
        hits += found.difference.low <= truth <= found.difference.high
        rejected += (found.p_value <= 0.05) == (not found.difference.low <= 0 <= found.difference.high)
    assert hits / 1900 == pytest.approx(0.95, abs=0.015)
    assert rejected / 1900 > 0.9, "test and interval agree"


def test_randomisation_rejects_as_often_as_it_says():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 30)
    answers = np.where(rng.random((1000, 2, 90)) < 0.75, labels, rng.integers(0, 3, (1000, 2, 90)))
    pairs = [(answered(labels, a), answered(labels, b)) for a, b in answers]
    rejected = np.mean(
        [compare_answers(a, b, "macro_f1", draws=99, seed=i).p_value <= 0.05 for i, (a, b) in enumerate(pairs)]
    )
    assert rejected == pytest.approx(0.05, abs=0.015)


def test_sign_flips_agree_with_scipys_permutation_test():
    gaps = np.random.default_rng(0).normal(0.15, 1.0, 150)
    theirs = stats.permutation_test((gaps,), np.mean, permutation_type="samples", n_resamples=5000, rng=1).pvalue
    assert sign_flip_test(gaps, 5000) == pytest.approx(theirs, abs=0.02)
    assert sign_flip_test(np.zeros(5)) == 1.0
    assert sign_flip_test(np.full(40, 0.1), 999) == 0.001


def test_many_classes_stay_affordable():
    labels, first, second = two(3000, K=300)
    found = compare_answers(answered(labels, first), answered(labels, second), "macro_f1", draws=100)
    assert found.difference.low < found.difference.value < found.difference.high


def test_holm_steps_down():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))
    assert holm([0.5, 0.9]) == (1.0, 1.0)
    assert holm([]) == ()
    rng = np.random.default_rng(0)
    false = np.mean([min(holm(row)) < 0.05 for row in rng.random((4000, 6)).tolist()])
    assert false == pytest.approx(0.05, abs=0.012)


def test_what_cannot_be_compared_is_refused():
    labels, first, second = two()
    with pytest.raises(InputError, match="unknown metric"):
        compare_answers(answered(labels, first), answered(labels, second), "recall")
    with pytest.raises(InputError, match="labels"):
        compare_answers(answered(labels, first), answered(labels[::-1], second))
    with pytest.raises(InputError, match="paired"):
        mcnemar(np.ones(3, bool), np.ones(4, bool))
    assert math.isnan(mcnemar(np.ones(0, bool), np.ones(0, bool)).difference.value)
