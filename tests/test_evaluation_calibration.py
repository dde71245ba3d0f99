"""Reliability, ECE and its interval; temperature and vector scaling: against scikit-learn and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

from lastlayer._arrays import InputError
from lastlayer.evaluation.calibration import CalibrationError, calibration_error, reliability
from lastlayer.evaluation.intervals import wilson
from lastlayer.evaluation.scaling import Calibrator, fit_temperature, temperature_scaling, vector_scaling
from lastlayer.model import softmax
from lastlayer.pipeline.learn import fit_temperature as of_training


def answers(N=3000, seed=0, shrink=1.0):
    """Confidences as a classifier has them, and answers that are right 0.5 + shrink (p − 0.5) of the time."""
    rng = np.random.default_rng(seed)
    p = 0.5 + 0.5 * rng.beta(2.5, 0.8, N)
    return p, rng.random(N) < 0.5 + (p - 0.5) * shrink


# ---- reliability --------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "strategy"), [("width", "uniform"), ("mass", "quantile")])
def test_the_diagram_is_scikit_learns(kind, strategy):
    p, correct = answers()
    cells = [cell for cell in reliability(p, correct, 10, kind) if cell.accuracy.n]
    right, confidence = calibration_curve(correct, p, n_bins=10, strategy=strategy)
    # their quantiles interpolate between two rows: an edge may lie on the other side of one row
    tolerance = 1e-12 if kind == "width" else 0.01
    assert [cell.accuracy.value for cell in cells] == pytest.approx(right, abs=tolerance)
    assert [cell.confidence for cell in cells] == pytest.approx(confidence, abs=tolerance)
    assert sum(cell.accuracy.n for cell in cells) == 3000
    assert (cells[0].accuracy.low, cells[0].accuracy.high) == wilson(cells[0].accuracy.k, cells[0].accuracy.n)


def test_bins_of_equal_mass_hold_equal_numbers_and_never_part_equal_confidences():
    p, correct = answers(1500)
    sizes = [cell.accuracy.n for cell in reliability(p, correct, 15, "mass")]
    assert len(sizes) == 15 and max(sizes) - min(sizes) <= 1
    tied = np.repeat([0.6, 0.9], [30, 70])
    cells = reliability(tied, np.ones(100, bool), 5, "mass")
    assert [cell.accuracy.n for cell in cells if cell.accuracy.n] == [30, 70]


def test_edges_belong_to_the_lower_bin():
    cells = reliability(np.array([0.0, 0.5, 1.0]), np.array([True, True, True]), 2)
    assert [cell.accuracy.n for cell in cells] == [2, 1]


@pytest.mark.parametrize(
    ("p", "correct", "hint"),
    [([0.5], [True, False], "shape"), ([1.5], [True], "row 0"), ([math.nan], [True], "row 0")],
)
def test_what_is_no_confidence_is_refused(p, correct, hint):
    with pytest.raises(InputError, match=hint):
        reliability(np.array(p), np.array(correct))


def test_unknown_bins_are_refused():
    with pytest.raises(InputError, match="width"):
        reliability(np.array([0.5]), np.array([True]), 5, "depth")
    with pytest.raises(InputError, match="0 bins"):
        reliability(np.array([0.5]), np.array([True]), 0)


# ---- ECE ----------------------------------------------------------------------------------------


def test_the_plain_number_is_its_definition():
    p, correct = answers(500, shrink=0.8)
    place = np.minimum(np.ceil(p * 15).astype(int) - 1, 14)
    expected = sum(
        np.mean(place == b) * abs(p[place == b].mean() - correct[place == b].mean())
        for b in range(15)
        if (place == b).any()
    )
    assert calibration_error(p, correct).plain == pytest.approx(expected, abs=1e-12)


def true_error(shrink, bins=15):
    p, _ = answers(1_000_000, seed=99)
    place = np.minimum(np.ceil(p * bins).astype(int) - 1, bins - 1)
    return np.abs(np.bincount(place, (p - 0.5) * (1 - shrink))).sum() / p.size


def test_the_interval_covers_the_error_of_a_classifier_that_is_too_sure():
    """2,000 images, an error that the noise of the bins half hides."""
    shrink = 0.92
    truth = true_error(shrink)
    found = [calibration_error(*answers(2000, seed, shrink), draws=200, seed=seed).debiased for seed in range(1900)]
    assert np.mean([each.low <= truth <= each.high for each in found]) == pytest.approx(0.95, abs=0.015)
    assert np.mean([each.value for each in found]) == pytest.approx(truth, rel=0.1)


def test_a_calibrated_classifier_may_show_no_error():
    """One-sided there: the interval holds 0 unless the error seen is above its 98.1% quantile."""
    found = [calibration_error(*answers(2000, seed), draws=200, seed=seed) for seed in range(1000)]
    assert np.mean([each.debiased.low == 0.0 for each in found]) == pytest.approx(0.981, abs=0.015)
    plain = np.mean([each.plain for each in found])
    assert plain > 0.01 and np.mean([each.debiased.value for each in found]) < 0.4 * plain


def test_edges_of_the_error():
    nothing = calibration_error(np.zeros(0), np.zeros(0, bool))
    assert math.isnan(nothing.plain) and str(nothing.debiased) == "n/a"
    one = calibration_error(np.array([0.75]), np.array([True]))
    assert one.plain == 0.25 and math.isnan(one.debiased.low)
    sure = calibration_error(np.ones(9), np.ones(9, bool)).debiased
    assert sure.low == 0.0 and sure.high == pytest.approx(1 - wilson(9, 9)[0]), "nine right answers prove little"
    assert CalibrationError.from_dict(nothing.to_dict()).to_dict() == nothing.to_dict()
    p, correct = answers(200)
    found = calibration_error(p, correct, kind="mass")
    assert CalibrationError.from_dict(found.to_dict()) == found
    assert calibration_error(p, correct, kind="mass") == found


# ---- scaling ------------------------------------------------------------------------------------


def scores_of(N=600, K=5, seed=0, factor=3.0):
    """Scores whose softmax at T = `factor` is right: labels are drawn from it."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 1.5, (N, K))
    p = softmax(z)
    y = (p.cumsum(axis=1) < rng.random((N, 1))).sum(axis=1)
    return z * factor, np.minimum(y, K - 1)


def test_the_temperature_is_the_one_that_lowers_log_loss_and_that_of_training():
    z, y = scores_of(4000)
    best = minimize_scalar(lambda t: log_loss(y, softmax(z, math.exp(t)), labels=range(5)), bounds=(-2, 3))
    T = fit_temperature(z, y)
    assert T == pytest.approx(math.exp(best.x), rel=0.01)  # Platt's targets pull by 1 / N
    assert pytest.approx(3.0, rel=0.1) == T
    assert of_training(z, y) == pytest.approx(T, rel=1e-9)
    calibrator = temperature_scaling(z, y)
    assert calibrator.temperature == pytest.approx(T)
    assert np.allclose(calibrator.probabilities(z), softmax(z, T))


def test_a_few_right_answers_do_not_make_it_certain():
    z = np.array([[5.0, 0.0], [0.0, 5.0]])
    assert temperature_scaling(z, np.array([0, 1])).probabilities(z).max() < 0.9


def test_vector_scaling_mends_what_a_temperature_cannot():
    z, y = scores_of(3000, seed=1, factor=1.0)
    bent = z * np.array([3.0, 1.0, 1.0, 1.0, 0.5]) + np.array([2.0, 0.0, 0.0, 0.0, -1.0])
    fit, held = slice(0, 2000), slice(2000, None)
    by_vector = vector_scaling(bent[fit], y[fit]).probabilities(bent[held])
    by_temperature = temperature_scaling(bent[fit], y[fit]).probabilities(bent[held])
    best = log_loss(y[held], softmax(z[held]))
    assert log_loss(y[held], by_vector) < best + 0.02 < log_loss(y[held], by_temperature) - 0.05


def test_vector_scaling_is_at_a_minimum_and_stays_near_the_temperature_with_few_rows():
    z, y = scores_of(500, seed=2)
    found = vector_scaling(z, y)
    T = fit_temperature(z, y)

    def objective(scale, shift):
        p = softmax(z * scale + shift)
        loss = -np.log(p[np.arange(len(y)), y]).sum()
        return loss + 0.5 * ((scale * T - 1) ** 2).sum() + 0.5 * (shift**2).sum()

    here = objective(found.scale, found.shift)
    for k in range(5):
        for step in (-1e-3, 1e-3):
            bump = step * np.eye(5)[k]
            assert objective(found.scale + bump / T, found.shift) >= here - 1e-6
            assert objective(found.scale, found.shift + bump) >= here - 1e-6
    few = vector_scaling(z[:4], y[:4])
    assert np.all(np.abs(few.scale * fit_temperature(z[:4], y[:4]) - 1) < 1.5)


def test_calibrators_are_stored_and_refuse_other_scores():
    calibrator = vector_scaling(*scores_of(100))
    again = Calibrator.from_dict(calibrator.to_dict())
    z, _ = scores_of(10)
    assert np.array_equal(again.probabilities(z), calibrator.probabilities(z))
    assert calibrator.temperature is None
    with pytest.raises(InputError, match="shape"):
        calibrator.probabilities(z[:, :3])
    with pytest.raises(InputError, match="no labelled row"):
        fit_temperature(z, np.full(10, -1))
    with pytest.raises(InputError, match="NaN"):
        fit_temperature(z * math.nan, np.zeros(10, int))
    with pytest.raises(InputError, match="shape"):
        fit_temperature(z, np.zeros(3, int))
