"""Baselines: the nearest neighbour is exact and bounded, subsamples are fair, comparisons are paired."""

from __future__ import annotations

import itertools
import math
import tracemalloc

import numpy as np
import pytest
from scipy.stats import binomtest

from lastlayer._arrays import InputError
from lastlayer.evaluation import (
    Baseline,
    Proportion,
    majority,
    mcnemar,
    nearest_neighbour,
    paired,
    separated,
    unseparated_problems,
)
from lastlayer.evaluation import neighbours as search
from lastlayer.evaluation.baselines import stratified_sample


def brute_force(train, queries):
    """Index of the nearest training row by exact integer distances, ties to the lowest index."""
    a, b = train.reshape(len(train), -1).astype(np.int64), queries.reshape(len(queries), -1).astype(np.int64)
    return np.array([((a - row) ** 2).sum(axis=1).argmin() for row in b])


def images(rng, n, shape, low=0, high=256):
    return rng.integers(low, high, (n, *shape), dtype=np.uint8)


@pytest.mark.parametrize("shape", [(5, 5, 1), (28, 28, 1), (32, 32, 3)])
def test_nearest_neighbour_equals_brute_force(shape, monkeypatch):
    monkeypatch.setattr(search, "TRAIN_BLOCK", 37)
    monkeypatch.setattr(search, "QUERY_BLOCK", 11)
    rng = np.random.default_rng(0)
    train, queries = images(rng, 150, shape), images(rng, 40, shape)
    found = search.nearest(*_flat(train), *_flat(queries), search_progress())
    assert np.array_equal(found, brute_force(train, queries))


def _flat(pixels):
    return pixels.reshape(len(pixels), -1), np.arange(len(pixels))


def search_progress():
    from lastlayer._progress import SILENT

    return SILENT


def near_twins(rng, n, d):
    """Black-and-white rows and twins of them that differ by one grey level in one pixel."""
    base = 255 * rng.integers(0, 2, (n, d), dtype=np.uint8)
    twins = base.copy()
    twins[np.arange(n), rng.integers(0, d, n)] ^= 1
    return base, np.concatenate([twins, base])


def test_neighbours_closer_than_float32_can_tell_are_told_apart():
    rng = np.random.default_rng(1)
    queries, train = near_twins(rng, 24, 12_288)
    found = search.nearest(train, np.arange(48), queries, np.arange(24), search_progress())
    assert np.array_equal(found, np.arange(24, 48))
    # The data are hard enough: plain float32 gets some of them wrong.
    a, b = queries.astype(np.float32), train.astype(np.float32)
    naive = ((b * b).sum(axis=1) - 2 * a @ b.T).argmin(axis=1)
    assert not np.array_equal(naive, np.arange(24, 48))


def test_ties_go_to_the_lowest_training_index(monkeypatch):
    monkeypatch.setattr(search, "TRAIN_BLOCK", 4)
    one = np.full((1, 4, 4, 1), 77, np.uint8)
    train = np.concatenate([one + 9, *[one] * 10])
    labels = np.arange(11)
    b = nearest_neighbour(train, labels, one, np.array([1]))
    assert b.correct.tolist() == [True]


def test_result_does_not_depend_on_block_sizes(monkeypatch):
    rng = np.random.default_rng(2)
    train, queries = images(rng, 300, (12, 12, 3), 0, 4), images(rng, 100, (12, 12, 3), 0, 4)  # many ties
    results = []
    for t, q in itertools.product((7, 64, 4096), (5, 2048)):
        monkeypatch.setattr(search, "TRAIN_BLOCK", t)
        monkeypatch.setattr(search, "QUERY_BLOCK", q)
        results.append(search.nearest(*_flat(train), *_flat(queries), search_progress()))
    assert all(np.array_equal(results[0], other) for other in results)
    assert np.array_equal(results[0], brute_force(train, queries))


def test_memory_is_a_few_blocks():
    rng = np.random.default_rng(3)
    train, queries = images(rng, 40_000, (16, 16, 1)), images(rng, 1_000, (16, 16, 1))
    y, t = rng.integers(0, 3, 40_000), rng.integers(0, 3, 1_000)
    nearest_neighbour(train[:10_000], y[:10_000], queries, t)  # compiled loops are loaded
    tracemalloc.start()
    nearest_neighbour(train, y, queries, t)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 35e6  # the distance matrix alone would be 160 MB, the training set as float32 41 MB


def test_rows_without_label_are_left_out_on_both_sides():
    rng = np.random.default_rng(4)
    train, queries = images(rng, 30, (4, 4, 1)), images(rng, 10, (4, 4, 1))
    train[0] = queries[0]
    y, t = np.full(30, 1), np.full(10, 1)
    y[0], t[5] = -1, -1
    b = nearest_neighbour(train, y, queries, t)
    assert (b.accuracy, len(b.rows), 5 in b.rows) == (Proportion(9, 9), 9, False)


def test_budget_draws_test_images_first_then_training_images_and_says_so():
    rng = np.random.default_rng(5)
    train, queries = images(rng, 400, (4, 4, 1)), images(rng, 5_000, (4, 4, 1))
    y, t = np.repeat([0, 1], [100, 300]), np.repeat([0, 1, 2], [4_000, 990, 10])
    full = nearest_neighbour(train, y, queries, t)
    assert "drawn" not in full.note
    less = nearest_neighbour(train, y, queries, t, budget_flops=2 * 16 * 400 * 2_500, seed=3)
    assert less.accuracy.n == 2_500
    assert "2,500 of 5,000 images against 400" in less.note and "seed 3" in less.note
    assert np.bincount(t[less.rows]).tolist() == [2_000, 495, 5]
    # The images that were drawn get the answers they get without a budget.
    assert np.array_equal(less.correct, full.correct[less.rows])
    least = nearest_neighbour(train, y, queries, t, budget_flops=2 * 16 * 2_000 * 100)
    assert "2,000 of 5,000 images against 100 of 400" in least.note
    again = nearest_neighbour(train, y, queries, t, budget_flops=2 * 16 * 2_000 * 100)
    assert np.array_equal(least.rows, again.rows) and np.array_equal(least.correct, again.correct)


def test_stratified_sample_keeps_shares_to_within_one_row():
    rng = np.random.default_rng(6)
    labels = rng.choice(5, 997, p=[0.5, 0.3, 0.15, 0.04, 0.01])
    rows = stratified_sample(labels, 200, rng)
    assert len(rows) == len(set(rows.tolist())) == 200
    assert np.all(np.diff(rows) > 0)
    counts, exact = np.bincount(labels[rows], minlength=5), 200 * np.bincount(labels) / 997
    assert np.all(np.abs(counts - exact) < 1)


def test_images_that_cannot_be_compared_are_refused():
    with pytest.raises(InputError, match="shape"):
        nearest_neighbour(
            np.zeros((2, 4, 4, 1), np.uint8), np.zeros(2, int), np.zeros((2, 4, 5, 1), np.uint8), np.zeros(2, int)
        )
    with pytest.raises(InputError, match="labelled"):
        nearest_neighbour(
            np.zeros((2, 4, 4, 1), np.uint8), np.full(2, -1), np.zeros((2, 4, 4, 1), np.uint8), np.zeros(2, int)
        )


def test_no_image_to_score_is_not_a_number():
    b = nearest_neighbour(
        np.zeros((2, 4, 4, 1), np.uint8), np.zeros(2, int), np.zeros((0, 4, 4, 1), np.uint8), np.zeros(0, int)
    )
    assert str(b.accuracy) == "n/a"


def test_majority_is_of_the_training_labels_first_of_equals():
    b = majority(np.array([2, 2, 1, 1, 0, -1, -1, -1]), np.array([1, 1, 2, -1]), ("a", "b", "c"))
    assert b.accuracy == Proportion(2, 3)
    assert "always answers b, 40.0% of the training images" in b.note
    assert (b.rows.tolist(), b.correct.tolist()) == ([0, 1, 2], [True, True, False])
    with pytest.raises(InputError, match="no training label"):
        majority(np.array([-1]), np.array([0]))


def test_baseline_is_stored_without_its_rows():
    b = majority(np.array([1, 1]), np.array([1, 0]))
    assert Baseline.from_dict(b.to_dict()) == b


# ---- comparison ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("b", "c"), [(24, 5), (5, 24), (1, 0), (3, 3), (0, 6), (500, 430)])
def test_mcnemar_equals_the_binomial_test(b, c):
    first = np.repeat([True, False, True, False], [b, c, 10, 7])
    second = np.repeat([False, True, True, False], [b, c, 10, 7])
    pair = mcnemar(first, second)
    assert (pair.only_first, pair.only_second, pair.n) == (b, c, b + c + 17)
    assert pair.p_value == pytest.approx(binomtest(b, b + c, 0.5).pvalue, rel=1e-10)


def test_the_sample_of_the_product_text():
    first = np.repeat([True, False], [24, 5])
    assert f"{mcnemar(first, ~first).p_value:.4f}" == "0.0005"


def test_equal_answers_are_not_separated():
    same = np.array([True, False, True])
    pair = mcnemar(same, same)
    assert (pair.p_value, pair.separated, pair.first_better) == (1.0, False, False)


def test_false_alarms_stay_below_five_percent():
    rng = np.random.default_rng(8)
    p = rng.uniform(0.3, 0.9, 200)
    alarms = [mcnemar(rng.random(200) < p, rng.random(200) < p).separated for _ in range(1_500)]
    assert np.mean(alarms) < 0.05


def test_model_is_compared_on_the_rows_the_baseline_answered():
    correct = np.ones(100, bool)
    baseline = Baseline("b", Proportion(0, 10), "", np.arange(0, 100, 10), np.zeros(10, bool))
    pair = paired(correct, baseline)
    assert (pair.only_first, pair.only_second, pair.n) == (10, 0, 10)
    assert separated(correct, baseline)
    assert math.isclose(pair.p_value, 2 / 2**10)
    with pytest.raises(InputError, match="row 90"):
        paired(correct[:50], baseline)


def test_ll021_names_the_baselines_that_are_not_beaten():
    rows = np.arange(100)
    weak = Baseline("majority", Proportion(10, 100), "", rows, rows < 10)
    even = Baseline("1-NN pixels", Proportion(69, 100), "", rows, rows < 69)
    strong = Baseline("oracle", Proportion(100, 100), "", rows, rows >= 0)
    problems = unseparated_problems(rows < 70, [weak, even, strong], "test")
    assert [p.code for p in problems] == ["LL021", "LL021"]
    assert "is not separated from the baseline 1-NN pixels" in problems[0].message
    assert "is worse than the baseline oracle" in problems[1].message
