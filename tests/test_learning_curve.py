"""Learning curves: the law's interval against simulated truth, classes that need images, subsets that nest."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest

from lastlayer._arrays import InputError
from lastlayer._progress import SILENT
from lastlayer.evaluation.learning_curve import LearningCurve, learning_curve_of
from lastlayer.pipeline.learn import Examples
from lastlayer.pipeline.learning_curves import fold_curve, learning_curve, nested_order, subset_sizes
from lastlayer.pipeline.settings import TrainSettings
from lastlayer.pipeline.sweep_folds import Problem
from lastlayer.selection.folds import make_folds

N = 4000
SIZES = tuple(N >> k for k in range(5, -1, -1))
NORMAL = math.sqrt(2)


def answers(rng, a, b, c, V, noise, R=5):
    """Right answers of V images after learning from nested subsets whose quality differs, true law a - b n^-c."""
    quality = rng.normal(0, noise, N)
    orders = [rng.permutation(N) for _ in range(R)]
    hard = rng.normal(0, 1, V)
    tables = []
    for n in SIZES:
        rows = []
        for order in orders if n < N else orders[:1]:
            accuracy = min(max(a - b * n**-c + quality[order[:n]].mean(), 0.01), 0.999)
            z = np.sqrt(0.6) * hard + np.sqrt(0.4) * rng.normal(0, 1, V)
            share = 0.5 * (1 + np.array([math.erf(x / NORMAL) for x in z.tolist()]))
            rows.append(share < accuracy)
        tables.append(np.array(rows))
    return tables


def curve_of(seed, a, b, c, V=400, noise=0.3):
    rng = np.random.default_rng(seed)
    return learning_curve_of(SIZES, answers(rng, a, b, c, V, noise), np.zeros(V, int), np.array([N]), seed=seed)


@pytest.mark.parametrize(("a", "b", "c"), [(0.95, 3.0, 0.5), (0.9, 2.0, 0.35), (0.99, 20.0, 0.9), (0.93, 0.0, 0.5)])
def test_the_interval_of_a_doubling_holds_the_truth_as_often_as_it_says(a, b, c):
    truth = b * N**-c * (1 - 2**-c)
    gains = [curve_of(seed, a, b, c).doubling for seed in range(40)]
    held = sum(gain.low <= truth + 1e-12 and truth <= gain.high for gain in gains)
    assert held >= 35, "below 95% beyond what 40 simulations allow"
    assert np.median([gain.high - gain.low for gain in gains]) < 0.06, "an interval that says nothing"


def test_a_flat_curve_is_not_said_to_rise_and_a_steep_one_is():
    flat = [curve_of(seed, 0.9, 0.0, 0.5, V=2000, noise=0.05) for seed in range(5)]
    assert not any(curve.rising for curve in flat)
    assert "buy little" in flat[0].sentence()
    steep = [curve_of(seed, 1.0, 1.6, 0.2, V=2000, noise=0.05) for seed in range(5)]
    assert all(curve.rising for curve in steep)
    assert "buys about" in steep[0].sentence()


def test_the_curve_goes_on_where_the_measurements_end_and_never_falls():
    curve = curve_of(3, 0.95, 3.0, 0.5)
    values = [place.accuracy.value for place in curve.law]
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(values))
    assert max(values) <= 1
    ends = [place.n for place in curve.law]
    assert ends[0] == pytest.approx(SIZES[0]) and ends[-1] == pytest.approx(4 * N) and 2 * N in ends
    widths = [place.accuracy.high - place.accuracy.low for place in curve.law if place.n >= N]
    assert widths[-1] > widths[0], "what was not measured is less sure"


def test_everything_right_and_everything_equal_are_no_trouble():
    V = 50
    every = [np.ones((3 if n < N else 1, V), bool) for n in SIZES]
    curve = learning_curve_of(SIZES, every, np.zeros(V, int), np.array([N]))
    assert curve.doubling.value < 0.01 and curve.points[-1].accuracy.high == 1
    assert curve.points[-1].accuracy.low < 0.99, "fifty right answers do not prove perfection"


def test_the_class_that_needs_images_is_named():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 200)
    shares = {0: (0.9, 0.9), 1: (0.5, 0.8), 2: (0.7, 0.71)}
    tables = []
    for n in SIZES:
        late = n == N
        chance = np.array([shares[k][late] for k in labels.tolist()])
        tables.append(rng.random((1 if late else 5, len(labels))) < chance)
    curve = learning_curve_of(SIZES, tables, labels, np.array([100, 20, 300]))
    first = curve.classes[0]
    assert (first.index, first.n_train, first.n_val) == (1, 20, 200)
    assert first.stands_out and not any(other.stands_out for other in curve.classes[1:])
    assert first.gain.low < 0.3 < first.gain.high


def test_a_curve_survives_json():
    curve = curve_of(1, 0.9, 2.0, 0.4)
    again = LearningCurve.from_dict(json.loads(json.dumps(curve.to_dict(), allow_nan=False)))
    assert again == curve


def test_few_sizes_give_points_and_no_promise():
    rng = np.random.default_rng(0)
    curve = learning_curve_of((20, 40), [rng.random((2, 30)) < 0.5] * 2, np.zeros(30, int), np.array([40]))
    assert len(curve.points) == 2 and curve.law == () and curve.doubling is None
    assert "Too few sizes" in curve.sentence() and not curve.rising


@pytest.mark.parametrize("sizes", [(), (40, 20), (20, 20), (0, 20)])
def test_sizes_that_do_not_ascend_are_refused(sizes):
    tables = [np.ones((1, 5), bool) for _ in sizes]
    with pytest.raises(InputError):
        learning_curve_of(sizes, tables, np.zeros(5, int), np.array([40]))
    with pytest.raises(InputError, match="do not fit"):
        learning_curve_of((20, 40), [np.ones((1, 5), bool), np.ones((1, 6), bool)], np.zeros(5, int), np.array([40]))


# ---- of a last layer ----------------------------------------------------------------------------


def examples(n_train=320, n_val=200, K=4, D=10, V=1, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 0.9, (K, D))
    y = np.arange(n_train + n_val) % K
    Z = (centres[y] + rng.normal(0, 1, (len(y), D))).astype(np.float32)
    twins = np.repeat(Z, V, axis=0) + (rng.normal(0, 0.1, (V * len(y), D)).astype(np.float32) if V > 1 else 0)
    return Examples(Z, y, np.asarray(twins, np.float32), V, n_train, n_val, K)


def test_subsets_nest_and_keep_the_classes_in_proportion():
    y = np.repeat([0, 1, 2], [100, 50, 10])
    order = nested_order(y, np.random.default_rng(0))
    assert sorted(order.tolist()) == list(range(160))
    for n in (16, 32, 80):
        counts = np.bincount(y[order[:n]], minlength=3)
        assert np.abs(counts - n * np.array([100, 50, 10]) / 160).max() <= 1
    assert subset_sizes(100, 3) == (25, 50, 100)
    assert subset_sizes(10, 3) == (10,)


@pytest.mark.parametrize("head", ["logistic", "ridge", "perceptron"])
def test_more_images_are_better_and_the_last_point_is_the_run(head):
    data = examples()
    settings = TrainSettings(head=head, data="x")
    curve = learning_curve(data, math.nan if head == "perceptron" else 0.1, settings, SILENT, draws=3)
    assert [point.n for point in curve.points] == [20, 40, 80, 160, 320]
    assert [len(point.draws) for point in curve.points] == [3, 3, 3, 3, 1]
    means = [point.accuracy.value for point in curve.points]
    assert means[-1] > means[0] + 0.02
    assert curve.n_val == 200 and {entry.n_train for entry in curve.classes} == {80}
    same = learning_curve(data, math.nan if head == "perceptron" else 0.1, settings, SILENT, draws=3)
    assert same == curve


def test_weights_and_views_are_those_of_the_run():
    settings = TrainSettings(class_weight="balanced", data="x")
    plain = learning_curve(examples(), 0.1, settings, SILENT, draws=2)
    twice = replace(examples(), twins=np.repeat(examples().Z, 2, axis=0), n_views=2)
    views = learning_curve(twice, 0.1, settings, SILENT, draws=2)
    assert [p.accuracy.value for p in views.points] == pytest.approx(
        [p.accuracy.value for p in plain.points], abs=0.006
    )


def test_without_validation_images_there_is_no_curve():
    with pytest.raises(InputError, match="validation images"):
        learning_curve(replace(examples(), n_val=0), 0.1, TrainSettings(data="x"), SILENT)


def test_a_curve_by_folds_scores_every_image():
    data = examples(400, 0)
    problem = Problem(data.Z, data.y.astype(np.int64), 4, "cross_entropy", "", True)
    folds = make_folds(problem.y, 4, seed=0)

    class Steps:
        done = 0

        def advance(self, steps=1, note=""):
            self.done += steps

    task = Steps()
    curve = fold_curve(problem, 0.1, folds, 0, task)
    assert curve.n_val == 400 and curve.points[-1].n == 300 and task.done == 8
    assert curve.doubling is not None and curve.points[-1].accuracy.value > 0.6
