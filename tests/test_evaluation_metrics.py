"""Intervals and scores: against other people's formulas, by simulation, and at the edges."""

from __future__ import annotations

import csv
import io
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics as oracle

from lastlayer._arrays import InputError
from lastlayer.evaluation import (
    COLUMNS,
    Evaluation,
    Proportion,
    evaluate_scores,
    margins,
    prediction_rows,
    row_losses,
    wilson,
)


def softmax(scores):
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def example(N=500, K=7, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, K, N)
    scores = rng.normal(0, 1, (N, K))
    scores[np.arange(N), y] += 1.2
    return y, softmax(scores).astype(dtype), tuple(f"c{k}" for k in range(K)), scores


# ---- intervals ----------------------------------------------------------------------------------


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.integers(1, 100_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_equals_scipys(kn):
    k, n = kn
    expected = binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert wilson(k, n) == pytest.approx((expected.low, expected.high), abs=1e-12)
    low, high = wilson(k, n)
    assert 0 <= low <= k / n <= high <= 1


def test_the_sample_of_the_product_text():
    assert str(Proportion(87, 123)) == "87/123 = 70.7% [62.2, 78.0]"
    assert str(Proportion(8742, 10000)) == "8742/10000 = 87.4% [86.8, 88.1]"


def test_ends_are_exact_at_none_and_all():
    assert wilson(0, 9)[0] == 0.0
    assert wilson(9, 9)[1] == 1.0


def test_nothing_observed_is_not_a_number():
    nothing = Proportion(0, 0)
    assert str(nothing) == nothing.percent() == nothing.interval() == "n/a"
    assert math.isnan(nothing.value) and math.isnan(nothing.low) and math.isnan(nothing.high)
    assert nothing.to_dict() == {"k": 0, "n": 0, "value": None, "low": None, "high": None}


@pytest.mark.parametrize(("k", "n"), [(-1, 3), (4, 3), (0, -1)])
def test_impossible_counts_are_refused(k, n):
    with pytest.raises(ValueError, match="proportion"):
        Proportion(k, n)


def _coverage(interval, draws=40_000):
    """Share of draws whose interval holds the truth, averaged over n and p as users meet them."""
    rng = np.random.default_rng(7)
    n = rng.integers(10, 400, draws)
    p = rng.uniform(0.05, 0.99, draws)
    k = rng.binomial(n, p)
    ends = [interval(int(a), int(b)) for a, b in zip(k, n, strict=True)]
    return np.mean([low <= truth <= high for (low, high), truth in zip(ends, p, strict=True)])


def test_wilson_covers_95_percent_in_simulation():
    assert _coverage(wilson) == pytest.approx(0.95, abs=0.01)


def test_the_simulation_would_notice_the_textbook_interval():
    def wald(k, n):
        half = 1.96 * math.sqrt(k * (n - k) / n**3)
        return k / n - half, k / n + half

    assert _coverage(wald) < 0.94


# ---- scores -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_equal_scikit_learns(dtype):
    y, p, names, _ = example(dtype=dtype)
    predicted = p.argmax(axis=1)
    e = evaluate_scores(y, p, names, "test")
    assert np.array_equal(e.confusion, oracle.confusion_matrix(y, predicted))
    assert e.accuracy.value == pytest.approx(oracle.accuracy_score(y, predicted), abs=1e-15)
    assert e.balanced_accuracy == pytest.approx(oracle.balanced_accuracy_score(y, predicted), abs=1e-15)
    assert e.macro_f1 == pytest.approx(oracle.f1_score(y, predicted, average="macro"), abs=1e-15)
    assert e.log_loss == pytest.approx(oracle.log_loss(y, p), rel=1e-6)
    assert e.top5.value == pytest.approx(oracle.top_k_accuracy_score(y, p, k=5), abs=1e-15)
    precision, recall, f1, n = oracle.precision_recall_fscore_support(y, predicted)
    for k, score in enumerate(e.per_class):
        assert (score.name, score.n) == (names[k], n[k])
        found = (score.recall.value, score.precision.value, score.f1)
        assert found == pytest.approx((recall[k], precision[k], f1[k]), abs=1e-15)


def test_rows_without_label_are_left_out_and_counted():
    y, p, names, _ = example()
    whole = evaluate_scores(y[20:], p[20:], names, "test")
    y = y.copy()
    y[:20] = -1
    e = evaluate_scores(y, p, names, "test")
    assert e.excluded == 20
    assert np.array_equal(e.confusion, whole.confusion)
    assert e.log_loss == whole.log_loss


def test_class_absent_from_the_split_is_not_a_number_and_does_not_count():
    y, p, names, _ = example()
    keep = y != 3
    y, p = y[keep], p[keep]
    e = evaluate_scores(y, p, names, "test")
    assert e.absent == ("c3",)
    score = e.per_class[3]
    assert (score.n, str(score.recall)) == (0, "n/a")
    assert math.isnan(score.f1)
    assert score.precision.k == 0 < score.precision.n  # it was answered, wrongly
    present = [s.recall.value for s in e.per_class if s.n]
    assert e.balanced_accuracy == pytest.approx(sum(present) / 6)
    stored = json.loads(json.dumps(e.to_dict(), allow_nan=False))
    assert stored["per_class"][3]["recall"]["value"] is None
    assert stored["per_class"][3]["f1"] is None


def test_class_never_answered_has_no_precision_but_a_recall_of_zero():
    e = evaluate_scores(np.array([0, 1]), np.array([[0.9, 0.1], [0.8, 0.2]]), ("a", "b"), "test")
    b = e.per_class[1]
    assert (str(b.precision), b.recall.value, b.f1) == ("n/a", 0.0, 0.0)


def test_empty_split_prints_and_stores():
    e = evaluate_scores(np.zeros(0, np.int32), np.zeros((0, 3), np.float32), ("a", "b", "c"), "test")
    assert (e.n, str(e.accuracy), e.top_confusions()) == (0, "n/a", ())
    assert math.isnan(e.balanced_accuracy) and math.isnan(e.log_loss)
    json.dumps(e.to_dict(), allow_nan=False)


@pytest.mark.parametrize("K", [3, 7, 230])
def test_stored_and_read_again_is_the_same(K):
    y, p, names, _ = example(N=300, K=K)
    e = evaluate_scores(np.where(y == 0, -1, y), p, names, "val")
    stored = json.loads(json.dumps(e.to_dict(), allow_nan=False))
    back = Evaluation.from_dict(stored)
    assert back == e
    assert np.array_equal(back.confusion, e.confusion)
    assert ("confusion" in stored) == (K <= 200)
    assert back.to_dict() == e.to_dict()


def test_top_confusions_most_frequent_first_then_largest_share():
    e = Evaluation("test", ("a", "b", "c"), np.array([[90, 4, 0], [4, 6, 1], [0, 0, 0]]), 0.5)
    found = [(c.label, c.predicted, c.count, c.of) for c in e.top_confusions()]
    assert found == [(1, 0, 4, 11), (0, 1, 4, 94), (1, 2, 1, 11)]
    assert len(e.top_confusions(1)) == 1


def test_probability_of_zero_gives_a_large_finite_loss_and_one_gives_zero():
    p = np.array([[0, 1], [1, 0]], np.float32)
    losses = row_losses(np.array([0, 0]), p)
    assert losses[0] == pytest.approx(-math.log(np.finfo(np.float32).eps))
    assert losses[1] == 0.0


def test_permuting_the_classes_permutes_the_scores():
    y, p, names, _ = example()
    order = np.random.default_rng(1).permutation(len(names))
    place = np.argsort(order)
    a = evaluate_scores(y, p, names, "t")
    b = evaluate_scores(place[y], p[:, order], tuple(names[k] for k in order), "t")
    assert np.array_equal(b.confusion, a.confusion[np.ix_(order, order)])
    assert a.log_loss == pytest.approx(b.log_loss, abs=1e-14)


@pytest.mark.parametrize(
    ("y", "p", "match"),
    [
        ([0, 2], [[0.5, 0.5]] * 2, "row 1 is 2"),
        ([0, -2], [[0.5, 0.5]] * 2, "row 1 is -2"),
        ([0, 1], [[0.5, 0.5], [0.9, 0.9]], "row 1 sum to 1.8"),
        ([0, 1], [[0.5, 0.5], [np.nan, 1.0]], "row 1"),
        ([0, 1], [[1.5, -0.5], [0.5, 0.5]], "row 0"),
        ([0], [[0.5, 0.5]] * 2, "shape"),
        ([0.0, 1.0], [[0.5, 0.5]] * 2, "float64"),
    ],
)
def test_what_does_not_belong_together_is_refused_by_row(y, p, match):
    with pytest.raises(InputError, match=match):
        evaluate_scores(np.array(y), np.array(p), ("a", "b"), "test")


# ---- predictions.csv ----------------------------------------------------------------------------


def test_margin_is_negative_exactly_for_mistakes():
    y, _, _, scores = example()
    m = margins(y, scores)
    assert np.array_equal(m < 0, scores.argmax(axis=1) != y)
    rest = scores.copy()
    rest[np.arange(len(y)), y] = -np.inf
    assert m == pytest.approx(scores[np.arange(len(y)), y] - rest.max(axis=1))


def test_prediction_rows_fill_every_column_and_leave_empty_what_does_not_apply():
    y = np.array([1, -1])
    p = np.array([[0.25, 0.75], [0.9, 0.1]])
    rows = list(
        prediction_rows(
            ["a,\n.png", "b.png"],
            ["test", ""],
            y,
            p,
            ("cat", "dog"),
            scores=np.log(p),
            oof=np.array([True, False]),
        )
    )
    out = io.StringIO()
    csv.writer(out).writerows([COLUMNS, *rows])
    first, second = csv.DictReader(io.StringIO(out.getvalue(), newline=""))
    assert first["path"] == "a,\n.png"
    assert (first["label"], first["predicted"], first["p_predicted"], first["p_label"]) == (
        "dog",
        "dog",
        "0.75",
        "0.75",
    )
    assert float(first["loss"]) == pytest.approx(-math.log(0.75), rel=1e-5)
    assert float(first["margin"]) == pytest.approx(math.log(3), rel=1e-5)
    assert (first["oof"], first["abstained"]) == ("1", "")
    assert (second["predicted"], second["label"], second["p_label"], second["loss"], second["margin"]) == (
        "cat",
        "",
        "",
        "",
        "",
    )
    without = next(prediction_rows(["a"], ["test"], y[:1], p[:1], ("cat", "dog")))
    assert without[COLUMNS.index("margin")] == without[COLUMNS.index("oof")] == ""


def test_prediction_rows_refuse_lengths_that_differ_before_the_first_row():
    with pytest.raises(InputError, match="lengths differ"):
        prediction_rows(["a"], ["test", "test"], np.array([0]), np.array([[1.0, 0.0]]), ("x", "y"))
