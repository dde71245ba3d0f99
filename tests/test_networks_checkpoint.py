"""Checkpoints: a killed run goes on with the same bits, and no other run can take its file."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: networks are not tested")

from lastlayer._errors import InputError  # noqa: E402
from lastlayer.networks import checkpoint as checkpoints  # noqa: E402
from lastlayer.networks.checkpoint import (  # noqa: E402
    FILE,
    Checkpoint,
    CheckpointFile,
    Fingerprint,
    data_digest,
)
from lastlayer.networks.plan import TrainingPlan  # noqa: E402
from lastlayer.networks.training import TrainedNetwork, train_network  # noqa: E402
from planted_digits import convnet, mlp, planted  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_torch_thread")
PLAN = TrainingPlan(
    epochs=6,
    batch_size=32,
    rate=0.02,
    device="cpu",
    augmentation="flip=alternate,shift=1,elastic=2:5",
    average=0.9,
    schedule="plateau:patience=0,factor=0.5,threshold=0",
    warm_up=0.5,
)
ADAM = dataclasses.replace(PLAN, optimiser="adam", rate=0.003, average=0.0, schedule="cosine")
MUON = dataclasses.replace(PLAN, optimiser="muon", rate=0.05)
NARROW = dataclasses.replace(MUON, precision="bfloat16")

CHILD = """
import json, sys, time
from pathlib import Path
import torch
from planted_digits import convnet, planted
from lastlayer.networks import checkpoint
from lastlayer.networks.run import Run
from lastlayer.networks.training import train_network
from lastlayer.networks.plan import TrainingPlan

torch.set_num_threads(1)
checkpoint.INTERVAL = checkpoint.SHARE = 0.0  # a checkpoint after every step
folder, marker, stop = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
plan = TrainingPlan.from_dict(json.loads(sys.argv[4]))
advance = Run.advance

def slow(run):
    if run.step == stop:
        marker.touch()
        time.sleep(60)  # killed here, or in the middle of the write before
    return advance(run)

Run.advance = slow
train_network(convnet(), *planted(200), planted(60, seed=1), plan, checkpoint=folder)
"""


def same(one: TrainedNetwork, other: TrainedNetwork) -> bool:
    ours, theirs = one.network.arrays, other.network.arrays
    return set(ours) == set(theirs) and all(ours[name].tobytes() == theirs[name].tobytes() for name in ours)


def numbers(trained: TrainedNetwork) -> list[dict[str, object]]:
    """The history without what the clock says."""
    return [
        {key: value for key, value in record.items() if key not in ("seconds", "images_per_second")}
        for record in trained.history
    ]


def killed(folder: Path, step: int, plan: TrainingPlan) -> None:
    """Train in a process of its own and kill it with SIGKILL before so many steps."""
    marker = folder.parent / "reached"
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), str(marker), str(step), json.dumps(plan.to_dict())],
        env={**os.environ, "PYTHONPATH": path},
    )
    try:
        begin = time.monotonic()
        while not marker.exists():
            assert child.poll() is None, "the child ended by itself"
            assert time.monotonic() - begin < 60
            time.sleep(0.02)
    finally:
        child.kill()
        child.wait()
    assert child.returncode == -signal.SIGKILL


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")
def test_a_run_that_was_killed_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    plan, step = PLAN, 9
    data = (*planted(200), planted(60, seed=1))
    whole = train_network(convnet(), *data, plan)
    killed(tmp_path / "run", step, plan)
    assert [path.name for path in (tmp_path / "run").iterdir()] == [FILE]
    told: list[int] = []
    rest = train_network(
        convnet(), *data, plan, checkpoint=tmp_path / "run", log=lambda record: told.append(record["epoch"])
    )
    assert step % 6 != 0 and told == list(range(step // 6 + 1, 7))  # it went on within an epoch
    assert same(whole, rest) and numbers(whole) == numbers(rest)
    assert rest.best_epoch == whole.best_epoch and rest.stop_reason == whole.stop_reason


@pytest.mark.parametrize("plan", [PLAN, ADAM, MUON, NARROW], ids=["sgd", "adam", "muon", "bfloat16"])
def test_an_interrupted_run_goes_on_with_the_same_bits_and_a_finished_one_is_returned(
    plan: TrainingPlan, tmp_path: Path
) -> None:
    data = (*planted(200), planted(60, seed=1))

    def stop(record: dict[str, object]) -> None:
        if record["epoch"] == 3:
            raise KeyboardInterrupt

    first = train_network(convnet(), *data, plan, checkpoint=tmp_path, log=stop)
    assert first.interrupted and len(first.history) == 3
    rest = train_network(convnet(), *data, plan, checkpoint=tmp_path)
    whole = train_network(convnet(), *data, plan)
    assert same(whole, rest) and numbers(whole) == numbers(rest)
    again = train_network(convnet(), *data, plan, checkpoint=tmp_path)
    assert same(whole, again) and again.history == rest.history


def test_the_epochs_of_a_time_limit_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lastlayer.networks.timing import Speed

    monkeypatch.setattr("lastlayer.networks.training.measure", lambda *given: Speed(1.0, 0.0))
    plan = dataclasses.replace(PLAN, epochs=0, time_limit=20.0, schedule="cosine")

    def stop(record: dict[str, object]) -> None:
        raise KeyboardInterrupt

    data = (*planted(200), planted(60, seed=1))
    train_network(convnet(), *data, plan, checkpoint=tmp_path, log=stop)
    monkeypatch.setattr("lastlayer.networks.training.measure", lambda *given: Speed(0.01, 0.0))
    rest = train_network(convnet(), *data, plan, checkpoint=tmp_path)
    assert len(rest.history) == 3  # 19 seconds for 6 steps an epoch
    whole = train_network(convnet(), *data, dataclasses.replace(plan, epochs=3, time_limit=0.0))
    assert same(whole, rest)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("plan", "with rate 0.02, not 0.5"),
        ("data", "of other images or labels"),
        ("labels", "of other images or labels"),
        ("validation", "of other images or labels"),
        ("model", "of small convnet, not of small mlp 16 relu"),
        ("layers", "of the same name but other layers"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(what: str, words: str, tmp_path: Path) -> None:
    (X, y), validation = planted(200), planted(60, seed=1)
    plan = dataclasses.replace(PLAN, epochs=0.2, warm_up=0.0)
    train_network(convnet(), X, y, validation, plan, checkpoint=tmp_path)
    before = (tmp_path / FILE).read_bytes()
    model = {"model": mlp(), "layers": convnet(dropout=0.3)}.get(what, convnet())
    if what == "plan":
        plan = dataclasses.replace(plan, rate=0.5)
    if what == "data":
        X = X.copy()
        X[7, 3, 3, 0] ^= 1
    if what == "labels":
        y = np.roll(y, 1)
    if what == "validation":
        validation = planted(60, seed=2)
    with pytest.raises(InputError, match=words) as caught:
        train_network(model, X, y, validation, plan, checkpoint=tmp_path)
    assert "remove this one" in caught.value.mend
    assert (tmp_path / FILE).read_bytes() == before  # nothing is lost


@pytest.mark.parametrize("damage", ["cut", "bit", "foreign", "empty"])
def test_a_damaged_checkpoint_is_refused(damage: str, tmp_path: Path) -> None:
    data = planted(64)
    plan = dataclasses.replace(PLAN, epochs=0.5, warm_up=0.0, schedule="constant")
    train_network(mlp(), *data, None, plan, checkpoint=tmp_path)
    raw = bytearray((tmp_path / FILE).read_bytes())
    raw[-5] ^= 1
    spoiled = {"cut": bytes(raw[: len(raw) // 2]), "bit": bytes(raw), "foreign": b"PK\x03\x04 no model", "empty": b""}
    (tmp_path / FILE).write_bytes(spoiled[damage])
    with pytest.raises(InputError, match=FILE):
        train_network(mlp(), *data, None, plan, checkpoint=tmp_path)


def _file(folder: Path, **given: object) -> CheckpointFile:
    values = {"architecture": "a", "structure": "s", "plan": {"rate": 0.1}, "data": "d", **given}
    return CheckpointFile(folder, Fingerprint(**values))  # type: ignore[arg-type]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    groups = {
        "parameters": {"b": rng.random(3, dtype=np.float32), "a.weight": rng.random((2, 3, 1, 2), dtype=np.float32)},
        "best": {},
        "momentum_buffer": {"one": np.float32(2.5).reshape(())},
    }
    assert _file(tmp_path / "new").read() is None
    state = {"step": 7, "loss_sum": 0.1 + 0.2, "best": {"loss": None}}
    _file(tmp_path / "new").write(Checkpoint(state, [{"epoch": 1, "note": "é"}], groups))
    found = _file(tmp_path / "new").read()
    assert found is not None and found.state == state and found.history == [{"epoch": 1, "note": "é"}]
    assert found.groups.keys() == groups.keys()
    for group, arrays in groups.items():
        assert found.groups[group].keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(found.groups[group][name], array)
            assert found.groups[group][name].shape == array.shape


def test_a_model_file_is_no_checkpoint(tmp_path: Path) -> None:
    from lastlayer.artifacts.writing import write_artifact

    write_artifact(tmp_path / FILE, {"format_version": 1}, {"w": np.zeros(2, np.float32)})
    with pytest.raises(InputError, match="no checkpoint"):
        _file(tmp_path).read()


def test_numbers_that_are_not_finite_are_never_written(tmp_path: Path) -> None:
    file = _file(tmp_path)
    file.write(Checkpoint({"step": 1}, [], {"parameters": {"w": np.ones(2, np.float32)}}))
    with pytest.raises(InputError, match="no finite number"):
        file.write(Checkpoint({"step": 2}, [], {"parameters": {"w": np.full(2, np.nan, np.float32)}}))
    found = file.read()
    assert found is not None and found.state == {"step": 1}


def test_checkpoints_take_a_twentieth_of_the_time_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = _file(tmp_path)
    now = file.written
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now + 31.0)
    assert file.due()
    file.cost = 5.0
    assert not file.due()
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now + 101.0)
    assert file.due()


def test_the_digest_of_data_sees_values_shapes_and_types() -> None:
    X = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    digests = [data_digest(X), data_digest(X.reshape(2, 4, 3)), data_digest(X.astype(np.int8)), data_digest(X[::-1])]
    assert len(set(digests)) == 4 and data_digest(X.copy()) == digests[0]
    assert data_digest(np.asfortranarray(X)) == digests[0]


def test_going_on_with_another_number_of_threads_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(record: dict[str, object]) -> None:
        raise KeyboardInterrupt

    data = (*planted(200), planted(60, seed=1))
    monkeypatch.setattr("lastlayer.networks.run.torch_threads", lambda: 5)
    train_network(convnet(), *data, PLAN, checkpoint=tmp_path, log=stop)
    monkeypatch.undo()
    rest = train_network(convnet(), *data, PLAN, checkpoint=tmp_path)
    assert "threads after 5" in rest.message
    other = train_network(convnet(), *data, PLAN, checkpoint=tmp_path / "other")
    assert "threads" not in other.message
