"""``--phi auto``: what is tried, what is taken, and that the choice can be run again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import lastlayer
from lastlayer import InputError
from lastlayer._progress import SILENT
from lastlayer.pipeline.auto import Trial, candidates, choose_phi, take
from lastlayer.pipeline.features import Features
from lastlayer.pipeline.learn import Chosen, Examples
from lastlayer.pipeline.settings import TrainSettings
from lastlayer.representations import parse_phi


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASTLAYER_CACHE", str(tmp_path_factory.mktemp("cache")))


def trial(right: str, phi: str = "x") -> Trial:
    """A candidate with its answers as a string of 1 and 0; "" was not tried."""
    answers = np.array([c == "1" for c in right], bool)
    chosen = Chosen(None, (), -1, 1.0) if right else None
    return Trial(phi, 1.0, 1.0, 3, chosen, answers, "" if right else "skipped: no time left")


@pytest.mark.parametrize(
    ("answers", "taken", "best"),
    [
        (["1111100000", "1111111111"], 1, 1),  # five against none: p = 0.06
        (["1111111100", "1111111111"], 0, 1),  # two against none: p = 0.5, the cheaper is as good
        (["1111100000", "", "1111111110", "1111111111"], 2, 3),
        (["1111111111", "1111111111"], 0, 0),
        (["0000000000", "1111111110", "0111111111"], 1, 1),
    ],
)
def test_the_cheapest_within_noise_of_the_best_is_taken(answers: list[str], taken: int, best: int) -> None:
    assert take([trial(a) for a in answers]) == (taken, best)


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (32, 32, 3), (64, 64, 3), (64, 64, 1)])
def test_candidates_can_be_read(shape: tuple[int, int, int]) -> None:
    found = candidates(shape)
    assert len(set(found)) == len(found) >= 4
    for phi in found:
        parse_phi(phi)


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def problem(D: int = 3) -> tuple[Features, Any]:
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    Z = (rng.normal(size=(40, D)) + 3 * y[:, None]).astype(np.float32)
    features = Features(parse_phi("pixels"), Z, np.arange(40), False, Z[:30], 1)
    return features, lambda features: Examples(features.Z, y, features.twins, 1, 20, 10, 2)


def run_choice(limit: float, phis: list[str], seconds: float = 5.0) -> Any:
    clock = Clock()
    features, examples = problem()

    def extract(phi: str) -> Features:
        clock.now += seconds
        return features

    settings = TrainSettings(time_limit=limit, C=(0.1, 1.0))
    sample = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 1), dtype=np.uint8)
    return choose_phi(phis, sample, 20, extract, examples, settings, SILENT, clock)


def test_what_does_not_fit_into_the_time_is_skipped_and_said() -> None:
    found = run_choice(7.0, ["pixels", "hog:pixels_per_cell=4", "pixels:size=4"])
    assert [t.reason for t in found.trials] == ["", "", "skipped: no time left"]
    assert found.taken == 0 and found.phi == "pixels" and found.features is not None
    assert run_choice(0.1, ["pixels", "hog"]).trials[0].chosen is not None, "the first is tried whatever it takes"
    table = "\n".join(found.table())
    assert "best, taken" in table and "skipped: no time left" in table and "10/10 = 100.0% [72.2, 100.0]" in table


def test_a_long_prediction_is_enough_to_skip() -> None:
    found = run_choice(1e-3, ["pixels", "hog:pixels_per_cell=4"], seconds=0.0)
    assert found.trials[1].chosen is None or found.trials[1].predicted <= 1e-3
    slow = run_choice(1e-9, ["pixels", "hog:pixels_per_cell=4"], seconds=0.0)
    assert slow.trials[1].reason.startswith("skipped: about 0 s") and slow.trials[1].predicted > 0
    assert json.dumps(slow.to_dict(), allow_nan=False)


def test_candidates_that_do_not_suit_the_images_are_named() -> None:
    found = run_choice(60.0, ["pixels:size=16", "pixels"])
    assert found.taken == 1 and found.trials[0].reason.startswith("not for these images: pixels: size=16 is larger")
    with pytest.raises(InputError, match="auto found nothing for these images"):
        run_choice(60.0, ["pixels:size=16"])


def test_auto_on_digits_prints_its_table_and_runs_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lastlayer.cli.train import command

    monkeypatch.setattr(
        "lastlayer.pipeline.training.candidates", lambda shape: ("pixels:size=2", *candidates(shape)[:2])
    )
    runs = ["--runs", str(tmp_path), "-q"]
    arguments = ["demo:digits", "--phi", "auto", "--time-limit", "20", "--C", "0.1,1,10", *runs]
    result = CliRunner().invoke(command, arguments, standalone_mode=False)
    assert result.exception is None, result.output
    assert "auto: chosen on validation data within 20 s (--time-limit)" in result.output
    assert "val k/n = p [95%]" in result.output and "taken" in result.output
    run = lastlayer.load(tmp_path / "train-001")
    events = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    (told,) = [event for event in events if event["event"] == "auto"]
    taken = [c["phi"] for c in told["candidates"] if c["taken"]]
    assert taken == [told["phi"]] == [run.config["train"]["phi"]] == [run.metrics["phi"]]
    tried = [c for c in told["candidates"] if c["val"] is not None]
    assert tried[0]["phi"] == "pixels:size=2" and tried[0]["val"]["n"] == 268
    again = CliRunner().invoke(command, ["--config", str(run.folder / "config.toml"), *runs], standalone_mode=False)
    assert again.exception is None, again.output
    repeated = lastlayer.load(tmp_path / "train-002")
    assert repeated.metrics["model_digest"] == run.metrics["model_digest"]
    assert repeated.metrics["path"][0]["val_loss"] == run.metrics["path"][0]["val_loss"]


def test_auto_without_validation_images_is_refused(tmp_path: Path) -> None:
    X = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
    with pytest.raises(InputError, match="needs validation images"):
        lastlayer.train((X, np.arange(20) % 2), phi="auto", val=0.0, runs=tmp_path)


def test_a_time_limit_must_be_positive() -> None:
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="--time-limit"):
            TrainSettings(time_limit=wrong)
