"""Parts computed for a report: calibration, abstention, unsure answers, a network's log."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from lastlayer.model import softmax
from lastlayer.pipeline.report_parts import confidence_parts, held_out_of, read_training, unsure_answers
from lastlayer.pipeline.reporting import cell_images, mistakes
from lastlayer.pipeline.scoring import SideScores
from lastlayer.report.curves import coverage_panel, reliability_panels, training_panels


def side(name: str, N: int, seed: int, sharp: float = 1.0) -> SideScores:
    """Scores `sharp` times as sure as they should be."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 1.5, (N, 4))
    labels = np.minimum((softmax(z).cumsum(axis=1) < rng.random((N, 1))).sum(axis=1), 3)
    z = (sharp * z).astype(np.float32)
    return SideScores(name, np.arange(N), labels, z, softmax(z), True)


PIXELS = np.arange(2000 * 4, dtype=np.uint32).view(np.uint8).reshape(-1, 4, 4, 1)[:2000]
NAMES = [f"{i}.png" for i in range(2000)]


def test_a_temperature_from_validation_mends_scores_that_are_too_sure():
    test, val = side("test", 2000, 0, 2.0), side("val", 1500, 1, 2.0)
    parts = confidence_parts(test, held_out_of(val))
    calibration, abstaining = parts["calibration"], parts["abstaining"]
    assert calibration.temperature == pytest.approx(2.0, rel=0.15)
    assert calibration.after.plain < 0.5 * calibration.before.plain
    assert calibration.loss_after.value < calibration.loss_before.value
    assert calibration.fitted_on == "1,500 validation images"
    before, after = reliability_panels(calibration)
    assert before.bars and sum(int(bar.text.split()[0].replace(",", "")) for bar in before.bars) == 2000
    assert after.title == f"After temperature {calibration.temperature:.2f}"
    accuracy = test.correct.mean()
    assert abstaining.accuracy_at(1.0) == pytest.approx(accuracy)
    order = np.argsort(-test.probabilities.max(axis=1), kind="stable")
    assert abstaining.accuracy_at(0.5) == pytest.approx(test.correct[order[:1000]].mean(), abs=1e-3)
    assert abstaining.right.value >= abstaining.wanted > accuracy
    panel = coverage_panel(abstaining)
    assert panel is not None and panel.chosen_x is not None


def test_a_temperature_that_the_model_holds_is_said_once():
    test, val = side("test", 2000, 0, 2.0), side("val", 1500, 1, 2.0)
    first = confidence_parts(test, held_out_of(val))["calibration"]
    assert not first.already
    within = dataclasses.replace(test, probabilities=softmax(test.scores, first.temperature))
    again = confidence_parts(within, held_out_of(val))["calibration"]
    assert again.already and again.temperature == first.temperature
    assert [panel.title for panel in reliability_panels(again)] == ["As the model says it"]


def test_without_validation_rows_there_is_no_temperature_and_no_threshold():
    parts = confidence_parts(side("test", 300, 0), None)
    assert parts["calibration"].after is None and parts["abstaining"].threshold is None
    assert len(reliability_panels(parts["calibration"])) == 1
    none = SideScores(
        "test", np.arange(2), np.array([-1, -1]), np.zeros((2, 3), np.float32), np.full((2, 3), 1 / 3), True
    )
    assert confidence_parts(none, None) == {"calibration": None, "abstaining": None}


def test_unsure_answers_are_those_of_the_smallest_lead():
    test = side("test", 500, 3)
    found = unsure_answers(test, NAMES, PIXELS)
    leads = [d.p_first - d.p_second for d in found]
    two = np.sort(test.probabilities, axis=1)[:, -2:]
    assert leads == sorted(leads) and leads[0] == pytest.approx((two[:, 1] - two[:, 0]).min())
    row = int(found[0].name.removesuffix(".png"))
    assert found[0].first == test.probabilities[row].argmax()
    assert np.array_equal(found[0].thumbnail, PIXELS[row])


def test_top_losses_come_first_and_every_cell_with_images_has_pictures():
    test = side("test", 500, 4)
    losses = [mistake.p_label for mistake in mistakes(test, NAMES, PIXELS)]
    assert losses == sorted(losses)
    cells = cell_images(test, NAMES, PIXELS)
    answered = test.probabilities.argmax(axis=1)
    assert set(cells) == set(zip(test.labels.tolist(), answered.tolist()))
    for (label, answer), pictures in cells.items():
        p = [test.probabilities[int(name.removesuffix(".png")), answer] for name, _ in pictures]
        assert p == sorted(p, reverse=label != answer)


def test_a_network_is_recognised_by_its_log(tmp_path):
    log = tmp_path / "log.jsonl"
    assert read_training(log, None) is None
    log.write_text(json.dumps({"event": "start"}) + "\n")
    assert read_training(log, None) is None
    epochs = [
        {"event": "epoch", "epoch": e, "loss": 1 / e, "val_loss": None, "val_correct": 10 + e, "val_n": 20, "rate": 0.1}
        for e in (1, 2, 3)
    ]
    end = {"event": "trained", "best_epoch": 2, "stop_reason": "patience", "table": ["conv1", "output"]}
    log.write_text("".join(json.dumps(event) + "\n" for event in [*epochs, end]))
    found = read_training(log, np.full((2, 3, 3, 3), 0.5, np.float32))
    assert found is not None
    assert (found.best_epoch, found.stop_reason, found.layers) == (2, "patience", ("conv1", "output"))
    assert [row.val_accuracy for row in found.epochs] == [0.55, 0.6, 0.65]
    assert found.filters[0].dtype == np.uint8 and found.filters[0].max() == 128
    titles = [panel.title for panel in training_panels(found)]
    assert titles == ["Loss", "Validation accuracy"]
