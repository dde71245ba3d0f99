"""Abstention, prediction sets and the distance flag: what they promise is kept in simulation."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

from lastlayer._arrays import InputError
from lastlayer.evaluation.abstention import Threshold, choose_threshold, risk_coverage
from lastlayer.evaluation.conformal import (
    PredictionSets,
    class_scores,
    fit_sets,
    fit_sets_from_labels,
    row_uniforms,
    score_sets,
)
from lastlayer.evaluation.distance import fit_distance
from lastlayer.model import softmax

# ---- risk against coverage ----------------------------------------------------------------------


def test_the_curve_and_its_area_by_hand():
    curve = risk_coverage(np.array([0.9, 0.8, 0.8, 0.6]), np.array([True, False, True, False]))
    assert curve.coverage.tolist() == [0.25, 0.75, 1.0]
    assert curve.risk == pytest.approx([0.0, 1 / 3, 0.5])
    assert curve.threshold.tolist() == [0.9, 0.8, 0.6]
    # the two rows of 0.8 share one error: either order is as likely
    assert curve.aurc.value == pytest.approx((0 + 0.25 + 1 / 3 + 0.5) / 4)
    assert curve.excess == pytest.approx(curve.aurc.value - (1 / 3 + 2 / 4) / 4)


def test_a_confidence_that_knows_all_has_no_excess():
    correct = np.arange(50) < 40
    assert risk_coverage(np.linspace(1, 0.5, 50), correct).excess == pytest.approx(0.0, abs=1e-12)


def test_edges_of_the_curve():
    nothing = risk_coverage(np.zeros(0), np.zeros(0, bool))
    assert nothing.n == 0 and json.dumps(nothing.to_dict(), allow_nan=False)
    one = risk_coverage(np.array([0.5]), np.array([False]))
    assert one.aurc.value == 1.0 and math.isnan(one.aurc.low)
    long = risk_coverage(np.random.default_rng(0).random(5000), np.ones(5000, bool)).to_dict()
    assert len(long["risk"]) == 100 and long["aurc"]["value"] == 0.0
    with pytest.raises(InputError, match="NaN"):
        risk_coverage(np.array([math.nan]), np.array([True]))
    with pytest.raises(InputError, match="shape"):
        risk_coverage(np.zeros(3), np.zeros(2, bool))


def test_the_interval_of_the_area_covers():
    """p uniform, right with probability p: risk at coverage c is c/2, so the area is 1/4. Of 80 images 93.3% only."""
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(1900):
        p = rng.random(120)
        aurc = risk_coverage(p, rng.random(120) < p, draws=200, seed=seed).aurc
        hits += aurc.low <= 0.25 <= aurc.high
    assert hits / 1900 == pytest.approx(0.95, abs=0.015)


def test_grouping_many_rows_moves_the_interval_by_a_hair():
    rng = np.random.default_rng(1)
    p = rng.random(2400)
    correct = rng.random(2400) < p
    grouped, whole = risk_coverage(p, correct).aurc, risk_coverage(p[:2000], correct[:2000]).aurc
    assert grouped.value == pytest.approx(float(np.mean(np.cumsum(~correct[np.argsort(-p)]) / np.arange(1, 2401))))
    assert grouped.high - grouped.low == pytest.approx((whole.high - whole.low) * math.sqrt(2000 / 2400), rel=0.15)


# ---- a threshold --------------------------------------------------------------------------------


def test_the_promise_is_kept_at_its_hardest():
    """Accuracy 0.9 at every confidence and 0.9001 wanted: any threshold would break the promise."""
    rng = np.random.default_rng(0)
    broken = 0
    for _ in range(2000):
        found = choose_threshold(rng.random(300), rng.random(300) < 0.9, 0.9001)
        broken += found is not None
    assert broken / 2000 <= 0.05 + 0.015


def test_the_promise_is_kept_where_confidence_tells_right_from_wrong():
    rng = np.random.default_rng(1)
    broken, answered = 0, []
    for _ in range(1000):
        p = 0.5 + 0.5 * rng.random(400)
        found = choose_threshold(p, rng.random(400) < p, 0.85)
        if found is not None:
            # p uniform above the threshold t: the accuracy there is (1 + t) / 2
            broken += (1 + max(found.value, 0.5)) / 2 < 0.85
            answered.append(found.answered.value)
    assert broken / 1000 <= 0.05 + 0.015
    assert len(answered) > 900 and np.mean(answered) > 0.3, "0.6 could be answered by one who knew the truth"


def test_a_threshold_says_what_it_was_chosen_on():
    rng = np.random.default_rng(2)
    p = rng.random(500)
    correct = p > 0.2
    found = choose_threshold(p, correct, 0.95)
    assert found is not None
    answered = found.answers(p)
    assert (found.answered.k, found.right.k) == (answered.sum(), (answered & correct).sum())
    assert stats.binom.sf(found.right.k - 1, found.right.n, 0.95) <= 0.05
    assert Threshold.from_dict(found.to_dict()) == found
    always = choose_threshold(p, np.ones(500, bool), 0.95)
    assert always is not None and always.value == 0.0 and always.answered.k == 500


def test_nothing_is_promised_on_too_few_rows_or_on_none():
    assert choose_threshold(np.linspace(0.5, 1, 20), np.ones(20, bool), 0.95) is None
    assert choose_threshold(np.zeros(0), np.zeros(0, bool), 0.95) is None
    assert choose_threshold(np.linspace(0.5, 1, 200), np.zeros(200, bool), 0.5) is None
    same = choose_threshold(np.full(100, 0.7), np.ones(100, bool), 0.9)
    assert same is not None and same.answered.k == 100
    with pytest.raises(InputError, match="wanted"):
        choose_threshold(np.ones(5), np.ones(5, bool), 1.0)


# ---- prediction sets ----------------------------------------------------------------------------


def images(N, rng, K=6):
    """Probabilities of an over-sure classifier, with labels."""
    z = rng.normal(0, 1.5, (N, K)) + np.linspace(0.5, -0.5, K)
    p = softmax(z)
    y = np.minimum((p.cumsum(axis=1) < rng.random((N, 1))).sum(axis=1), K - 1)
    return softmax(2.0 * z), y


def coverages(rounds=500, calibrate=99, **options):
    rng = np.random.default_rng(0)
    found = []
    for _ in range(rounds):
        p, y = images(calibrate + 60, rng)
        rule = fit_sets(p[:calibrate], y[:calibrate], 0.9, **options)
        found.append(score_sets(rule.sets(p[calibrate:]), y[calibrate:]))
    return found


@pytest.mark.parametrize(
    "options",
    [{"rule": "lac"}, {"rule": "aps"}, {"rule": "raps", "penalty": 0.05, "allowed": 2}],
    ids=lambda o: o["rule"],
)
def test_sets_cover_as_promised(options):
    """30,000 sets in 500 rounds of 99 calibration images: the promise is 0.9 exactly."""
    found = coverages(**options)
    assert np.mean([each.covered.value for each in found]) == pytest.approx(0.9, abs=0.015)
    assert 1 < np.mean([each.size.value for each in found]) < 5


def test_without_randomisation_aps_delivers_more_than_it_promises():
    rng = np.random.default_rng(0)
    z = np.abs(rng.normal(0, 4, (3000, 6)))
    p = softmax(z)
    y = np.minimum((p.cumsum(axis=1) < rng.random((3000, 1))).sum(axis=1), 5)
    sizes = [
        score_sets(fit_sets(p[:1000], y[:1000], 0.7, rule="aps", randomised=r).sets(p[1000:]), y[1000:]).size.value
        for r in (True, False)
    ]
    assert sizes[0] < sizes[1]


def test_by_class_every_class_is_covered_and_else_not():
    rng = np.random.default_rng(3)
    right = {True: np.zeros(6), False: np.zeros(6)}
    of = np.zeros(6)
    for _ in range(150):
        p, y = images(900, rng)
        p *= np.where(np.arange(6) == 5, 0.3, 1.0)  # the classifier hardly ever believes in class 5
        p /= p.sum(axis=1, keepdims=True)
        of += np.bincount(y[600:], minlength=6)
        for by_class, hits in right.items():
            sets = fit_sets(p[:600], y[:600], 0.9, by_class=by_class).sets(p[600:])
            hits += np.bincount(y[600:][sets[np.arange(300), y[600:]]], minlength=6)
    # ⌈(n + 1) c⌉ / (n + 1) of about 50 to 150 images a class: up to a point above the promise
    assert right[True] / of == pytest.approx(0.905, abs=0.015)
    assert right[False][5] / of[5] < 0.8


def test_the_thresholds_are_the_stated_quantile_and_lac_needs_the_labels_probability_alone():
    p, y = images(50, np.random.default_rng(0))
    rule = fit_sets(p, y, 0.8)
    own = 1 - p[np.arange(50), y]
    assert rule.thresholds[0] == np.sort(own)[math.ceil(51 * 0.8) - 1]
    same = fit_sets_from_labels(p[np.arange(50), y], y, 6, 0.8)
    assert same.to_dict() == rule.to_dict()
    assert fit_sets(p[:9], y[:9], 0.9).thresholds[0] == pytest.approx(own[:9].max()), "9 of 9: just enough"
    assert fit_sets(p[:8], y[:8], 0.9).thresholds[0] == math.inf
    assert fit_sets(p[:8], y[:8], 0.9).sets(p).all(), "too few images for the promise: every class"


def test_the_scores_of_a_row_by_hand():
    p = np.array([[0.5, 0.2, 0.3]])
    assert class_scores(p, "lac", np.ones(1))[0] == pytest.approx([0.5, 0.8, 0.7])
    assert class_scores(p, "aps", np.array([0.5]))[0] == pytest.approx([0.25, 0.9, 0.65])
    assert class_scores(p, "raps", np.ones(1), 0.1, 1)[0] == pytest.approx([0.5, 1.2, 0.9])


def test_the_set_of_an_image_does_not_depend_on_those_beside_it():
    p, y = images(200, np.random.default_rng(0))
    rule = fit_sets(p[:100], y[:100], 0.9, rule="aps")
    whole = rule.sets(p)
    order = np.random.default_rng(1).permutation(200)
    assert np.array_equal(rule.sets(p[order]), whole[order])
    assert np.array_equal(rule.sets(p[7:8])[0], whole[7])
    u = row_uniforms(np.random.default_rng(0).dirichlet(np.ones(4), 20_000))
    assert stats.kstest(u, "uniform").pvalue > 0.01
    assert ((u >= 0) & (u < 1)).all()


def test_empty_sets_are_filled_when_asked():
    rule = PredictionSets("lac", 0.5, np.full(3, 0.3), 10, randomised=False)
    p = np.array([[0.5, 0.3, 0.2], [0.8, 0.1, 0.1]])
    assert rule.sets(p).sum(axis=1).tolist() == [0, 1]
    assert rule.sets(p, allow_empty=False).tolist() == [[True, False, False], [True, False, False]]


def test_the_range_of_the_coverage_is_betas():
    rule = fit_sets(*images(99, np.random.default_rng(0)), 0.9)
    assert rule.range() == pytest.approx(stats.beta(90, 10).ppf([0.025, 0.975]))
    rng = np.random.default_rng(5)
    inside = 0
    for _ in range(400):
        p, y = images(99 + 4000, rng)
        fitted = fit_sets(p[:99], y[:99], 0.9)
        low, high = fitted.range()
        inside += low <= score_sets(fitted.sets(p[99:]), y[99:]).covered.value <= high
    assert 0.91 <= inside / 400 <= 0.98


def test_sets_are_stored_and_refuse_what_they_cannot_use():
    p, y = images(50, np.random.default_rng(0))
    rule = fit_sets(p, y, 0.9, rule="raps", by_class=True)
    again = PredictionSets.from_dict(json.loads(json.dumps(rule.to_dict(), allow_nan=False)))
    assert np.array_equal(again.sets(p), rule.sets(p))
    assert all(math.isnan(end) for end in rule.range())
    for arguments, hint in (
        ((p, y, 1.0), "coverage"),
        ((p, y[:3], 0.9), "shape"),
        ((p, y + 6, 0.9), "classes"),
        ((p * math.nan, y, 0.9), "NaN"),
    ):
        with pytest.raises(InputError, match=hint):
            fit_sets(*arguments)
    with pytest.raises(InputError, match="lac"):
        fit_sets(p, y, 0.9, rule="best")
    scored = score_sets(rule.sets(p), np.where(np.arange(50) < 10, -1, y))
    assert scored.covered.n == 40


# ---- distance -----------------------------------------------------------------------------------


def test_what_is_far_is_flagged_and_what_is_usual_is_not():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 30)) * 3
    y = rng.integers(0, 4, 4000)
    Z = (centres[y] + rng.normal(size=(4000, 30))).astype(np.float32)
    flag = fit_distance(Z[:2000], y[:2000], Z[2000:3000], share=0.05)
    assert len(flag.directions) == 1000
    assert flag.far(Z[3000:]).mean() == pytest.approx(0.05, abs=0.02)
    elsewhere = -(centres[y[:100]] + rng.normal(size=(100, 30))).astype(np.float32)
    assert flag.far(elsewhere).mean() > 0.9, "another direction"
    assert flag.far(20 * Z[:50]).all(), "too long"
    assert flag.far(np.repeat(flag.mean[None, :], 3, axis=0)).all(), "too short: nothing to see"
    assert ((flag.distances(Z) >= 0) & (flag.distances(Z) <= 1)).all()


def test_a_row_is_judged_alone_and_a_constant_column_does_no_harm():
    rng = np.random.default_rng(1)
    Z = rng.normal(size=(300, 8)).astype(np.float32)
    Z[:, 3] = 2.0
    flag = fit_distance(Z[:200], np.zeros(200, int), Z[200:])
    whole = flag.distances(Z)
    assert np.isfinite(whole).all()
    assert [float(flag.distances(Z[i : i + 1])[0]) for i in range(20)] == pytest.approx(whole[:20], abs=0.011)


def test_few_validation_rows_flag_only_what_is_beyond_them_all():
    rng = np.random.default_rng(2)
    Z = rng.normal(size=(60, 5)).astype(np.float32)
    flag = fit_distance(Z[:40], np.zeros(40, int), Z[40:], share=0.01)
    assert not flag.far(Z[40:]).any()
    with pytest.raises(InputError, match="shape"):
        flag.far(Z[:, :3])
    with pytest.raises(InputError, match="validation"):
        fit_distance(Z[:40], np.zeros(40, int), Z[:0])
    with pytest.raises(InputError, match="shapes"):
        fit_distance(Z[:40], np.zeros(39, int), Z[:4])
