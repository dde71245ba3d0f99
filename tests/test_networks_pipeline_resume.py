"""A training that is killed, and one that is interrupted: what is left, and that going on gives the same bits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import lastlayer
from lastlayer._arrays import InputError
from lastlayer.pipeline.network_unfinished import Unfinished
from lastlayer.pipeline.run import Run

torch = pytest.importorskip("torch", reason="torch is not installed: networks are not tested")

PROGRAM = """
import sys, time
import torch
torch.set_num_threads(1)
import numpy as np
import lastlayer
from lastlayer.pipeline.network_unfinished import Unfinished
log = Unfinished.log
def slowly(self, record):
    log(self, record)
    time.sleep(float(sys.argv[2]))
Unfinished.log = slowly
rng = np.random.default_rng(0)
y = np.arange(120) % 2
X = rng.integers(0, 90, (120, 8, 8, 1), dtype=np.uint8)
X[y == 1, 2:5] += 60
run = lastlayer.train(
    (X, y), phi="mlp:12", epochs=8, batch_size=16, runs=sys.argv[1], near_dup=False, cache=False,
    resume=sys.argv[3] == "resume",
)
print(run.folder)
"""


def start(runs: Path, wait: float, resume: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, str(runs), str(wait), resume]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def epochs(path: Path) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in path.read_text("ascii").splitlines()] if path.exists() else []
    return [line for line in lines if line.get("event", "epoch") == "epoch"]


def wait_for_epochs(runs: Path, count: int, process: subprocess.Popen[str]) -> Path:
    """The log of the unfinished run, once it has so many epochs."""
    for _ in range(6000):
        for log in runs.glob(".unfinished/*/log.jsonl"):
            if len(epochs(log)) >= count:
                return log
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    raise AssertionError("no epoch was ever made")


def test_a_killed_run_goes_on_and_ends_with_the_same_bits(tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = start(killed, 0.2)
    log = wait_for_epochs(killed, 3, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    made = len(epochs(log))
    assert 3 <= made < 8
    assert (log.parent / "config.toml").is_file() and (log.parent / "split.csv").is_file()
    assert not list(killed.glob("train-*"))
    again = start(killed, 0.0, "resume")
    torch.set_num_threads(1)
    lastlayer.train(data(), runs=whole, **{**ASKED, "epochs": 8})
    out, err = again.communicate(timeout=200)
    assert again.returncode == 0, out + err
    one, two = Run(killed / "train-001"), Run(whole / "train-001")
    assert one.metrics["model_digest"] == two.metrics["model_digest"]
    assert (one.folder / "predictions.csv").read_bytes() == (two.folder / "predictions.csv").read_bytes()
    kept = [[line["loss"] for line in epochs(run.folder / "log.jsonl")] for run in (one, two)]
    assert len(kept[0]) == 8 and kept[0] == kept[1]  # the epochs before the kill included
    assert not (killed / ".unfinished").exists()


def data(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    y = np.arange(120) % 2
    X = np.random.default_rng(seed).integers(0, 90, (120, 8, 8, 1), dtype=np.uint8)
    X[y == 1, 2:5] += 60
    return X, y


ASKED = {"phi": "mlp:12", "epochs": 6, "batch_size": 16, "near_dup": False, "cache": False}


def interrupt_at(monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    log = Unfinished.log

    def press(self: Unfinished, record: dict[str, object]) -> None:
        log(self, record)
        if record["epoch"] == epoch:
            raise KeyboardInterrupt

    monkeypatch.setattr(Unfinished, "log", press)


def test_ctrl_c_keeps_the_best_and_can_be_gone_on_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    whole = lastlayer.train(data(), runs=tmp_path / "whole", **ASKED)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2)
        cut = lastlayer.train(data(), runs=tmp_path / "cut", **ASKED)
    assert cut.interrupted and cut.report_path.is_file()
    assert cut.metrics["interrupted"] and cut.metrics["network"]["stop_reason"] == "interrupted"
    assert cut.metrics["network"]["epochs"] == 2 and cut.metrics["network"]["linear"] is None
    assert len(cut.model.predict(data()[0])) == 120
    done = lastlayer.train(data(), runs=tmp_path / "cut", resume=True, **ASKED)
    assert done.metrics["model_digest"] == whole.metrics["model_digest"]
    assert not (tmp_path / "cut" / ".unfinished").exists()


def test_a_new_run_puts_aside_what_was_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2)
        lastlayer.train(data(), runs=tmp_path, **ASKED)
    (left,) = (tmp_path / ".unfinished").iterdir()
    with pytest.raises(InputError, match=f"there is no unfinished training.*{left.name}"):
        lastlayer.train(data(1), runs=tmp_path, resume=True, **ASKED)  # other images
    with pytest.raises(InputError, match="there is no unfinished training"):
        lastlayer.train(data(), runs=tmp_path, resume=True, **{**ASKED, "epochs": 7})  # other settings
    lastlayer.train(data(), runs=tmp_path, **ASKED)
    assert [folder.name for folder in (tmp_path / ".unfinished").iterdir()] == [f"{left.name}.old"]


@pytest.mark.skipif(os.name == "nt", reason="no such locks there")
def test_two_processes_do_not_share_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    log = Unfinished.log

    def train_the_same(self: Unfinished, record: dict[str, object]) -> None:
        log(self, record)
        if record["epoch"] == 1:
            with pytest.raises(InputError, match="another process trains this very network"):
                lastlayer.train(data(), runs=tmp_path, **ASKED)

    monkeypatch.setattr(Unfinished, "log", train_the_same)
    assert lastlayer.train(data(), runs=tmp_path, **ASKED).metrics["network"]["epochs"] == 6


def test_resume_takes_a_folder_or_data_behind_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from lastlayer.cli.train import command

    torch.set_num_threads(1)
    options = ["--phi", "mlp:8", "--epochs", "3", "--runs", str(tmp_path), "--no-near-dup", "-q", "--no-cache"]
    with monkeypatch.context() as patch:
        interrupt_at(patch, 1)
        result = CliRunner().invoke(command, ["demo:digits", *options], standalone_mode=False)
    assert result.return_value == 130, result.output
    (left,) = (tmp_path / ".unfinished").iterdir()
    arguments = ["--resume", str(left), "--runs", str(tmp_path), "-q", "--no-cache"]
    result = CliRunner().invoke(command, arguments, standalone_mode=False)
    assert result.exception is None and result.return_value == 0, result.output
    assert Run(tmp_path / "train-002").metrics["network"]["epochs"] == 3
    result = CliRunner().invoke(command, [*options, "--resume", "demo:digits"], standalone_mode=False)
    assert isinstance(result.exception, InputError) and "no unfinished training" in str(result.exception)
