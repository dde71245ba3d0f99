from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lastlayer._arrays import InputError
from lastlayer.evaluation.label_issues import (
    class_thresholds,
    confident_joint,
    find_label_issues,
    normalised_margin,
)
from noisy_labels import CASES, noisy_labels

CLEANLAB = json.loads((Path(__file__).parent / "golden" / "cleanlab.json").read_text("utf-8"))


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_cleanlab(case: str) -> None:
    """Thresholds and scores to rounding; counts to one image, for exact halves are rounded as the last bit falls."""
    labels, p, _ = noisy_labels(case)
    theirs = CLEANLAB["cases"][case]
    found = find_label_issues(labels, p)
    np.testing.assert_allclose(found.thresholds, theirs["thresholds"], atol=1e-8)
    np.testing.assert_allclose(found.score[:40], theirs["normalized_margin"], atol=1e-6)
    assert np.abs(found.joint - np.array(theirs["joint"])).max() <= 1
    assert (found.joint.sum(axis=1) == np.bincount(labels)).all()
    suspects = set(np.flatnonzero(found.suspect).tolist())
    assert len(suspects ^ set(theirs["prune_by_noise_rate"])) <= 0.02 * len(suspects) + 1
    common = [row for row in found.suspects.tolist() if row in set(theirs["ranked_by_normalized_margin"])]
    assert common == [row for row in theirs["ranked_by_normalized_margin"] if row in suspects]


def test_the_joint_by_hand() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1])
    p = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.1, 0.9], [0.3, 0.7], [0.8, 0.2]])
    t = class_thresholds(labels, p)
    np.testing.assert_allclose(t, [0.6, 0.6])
    assert confident_joint(labels, p, t).tolist() == [[2, 1], [1, 2]]
    found = find_label_issues(labels, p)
    assert found.suspects.tolist() == [2, 5]  # equal scores in their order
    assert found.suggested.tolist() == [0, 0, 1, 1, 1, 0]
    assert found.estimate == 2
    np.testing.assert_allclose(normalised_margin(labels, p), [0.9, 0.7, 0.2, 0.9, 0.7, 0.2])


def test_counts_are_scaled_to_the_images_of_each_label() -> None:
    """Half of the images reach no threshold; those that do stand for all."""
    labels = np.repeat([0, 1], 8)
    p = np.tile(
        [[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5]], (2, 1)
    )
    p[8:] = p[8:, ::-1]
    joint = find_label_issues(labels, p).joint
    assert joint.sum(axis=1).tolist() == [8, 8] and joint.tolist() == [[6, 2], [2, 6]]


def test_planted_errors_come_first() -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(0, 5, 2000)
    wrong = rng.random(2000) < 0.05
    labels = np.where(wrong, (true + rng.integers(1, 5, 2000)) % 5, true)
    p = np.exp(2 * rng.standard_normal((2000, 5)) + 9 * np.eye(5)[true])
    p /= p.sum(axis=1, keepdims=True)
    found = find_label_issues(labels, p)
    planted = int(wrong.sum())
    assert wrong[found.ranked[:planted]].mean() > 0.95
    assert abs(found.estimate - planted) < 0.2 * planted
    assert (found.suggested[found.suspect & wrong] == true[found.suspect & wrong]).mean() > 0.95


def test_clean_labels_of_a_sure_model_have_no_suspect() -> None:
    labels = np.arange(60) % 3
    p = np.full((60, 3), 0.01)
    p[np.arange(60), labels] = 0.98
    found = find_label_issues(labels, p)
    assert not found.suspect.any() and found.estimate == 0


def test_a_prediction_is_never_suspected_and_a_class_never_emptied() -> None:
    rng = np.random.default_rng(1)
    for k in (2, 3, 7):
        labels, p = rng.integers(0, k, 50), rng.dirichlet(np.ones(k), 50)
        found = find_label_issues(labels, p)
        assert not (found.suspect & (p.argmax(axis=1) == labels)).any()
        assert np.bincount(labels[~found.suspect], minlength=k).min() >= 1
        assert (found.suggested[found.suspect] != labels[found.suspect]).all()
        assert (found.score[found.suspect] < 0.5).all()


def test_rows_without_label_or_probabilities_are_not_judged() -> None:
    labels, p, _ = noisy_labels("three classes")
    plain = find_label_issues(labels, p)
    labels, p = np.append(labels, [-1, 1]), np.vstack([p, p[:1], np.full(3, np.nan)])
    found = find_label_issues(labels, p)
    assert np.isnan(found.score[-2:]).all() and not found.suspect[-2:].any()
    assert (found.suspect[:-2] == plain.suspect).all() and (found.suggested[-2:] == [-1, 1]).all()
    assert len(found.ranked) == 90
    empty = find_label_issues(np.full(2, -1), p[:2])
    assert not empty.suspect.any() and empty.estimate == 0


def test_classes_without_images() -> None:
    labels, p, _ = noisy_labels("three classes")
    wider = np.column_stack([p, np.zeros(len(p))])
    found = find_label_issues(labels, wider)
    assert np.isnan(found.thresholds[3]) and (found.joint[3] == 0).all() and (found.joint[:, 3] == 0).all()
    assert (found.suspect == find_label_issues(labels, p).suspect).all()


@pytest.mark.parametrize(
    ("labels", "p"),
    [
        ([0, 1], [[0.5, 0.5]]),
        ([0], [[1.0]]),
        ([2], [[0.5, 0.5]]),
        ([-2], [[0.5, 0.5]]),
        ([0], [[0.5, 0.6]]),
        ([0], [[1.5, -0.5]]),
    ],
)
def test_what_is_no_distribution_is_refused(labels: list[int], p: list[list[float]]) -> None:
    with pytest.raises(InputError):
        find_label_issues(np.array(labels), np.array(p))
