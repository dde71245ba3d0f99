"""The experiments on networks run in their quick form on planted images, and what they compute is what they say."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: networks are not tested")

from lastlayer.networks.presets import parse  # noqa: E402

EXPERIMENTS = Path(__file__).parent.parent / "experiments"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Import an experiment as its script does, from its own folder."""
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    before = set(sys.modules)
    torch.set_num_threads(1)

    def one(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield one
    for name in set(sys.modules) - before:
        if (EXPERIMENTS / f"{name}.py").is_file():
            del sys.modules[name]


def quick(module: ModuleType, out: Path, capsys: pytest.CaptureFixture[str], name: str, *more: str):  # type: ignore[no-untyped-def]
    assert module.main(["planted", "--quick", "--out", str(out), *more]) == 0
    found = json.loads((out / f"{name}.json").read_text("utf-8"))
    assert len(found["conditions"]["data"]) == 64 and found["conditions"]["torch"] == torch.__version__
    return capsys.readouterr().out, found


def small(load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few and small images for the quick forms."""
    shared = load("network_runs")
    images = shared.planted(count=400, side=12)
    monkeypatch.setattr(shared, "planted", lambda: images)


def test_relu_or_tanh(load, tmp_path, capsys, monkeypatch) -> None:
    small(load, monkeypatch)
    experiment = load("relu_or_tanh")
    assert experiment.crossing([(0.0, 0.9), (0.25, 0.5), (0.5, 0.2)], 0.35) == pytest.approx(0.375)
    assert experiment.crossing([(0.0, 0.9), (0.25, 0.5)]) is None
    assert experiment.ratio([6.0] * 5, [2.0] * 5) == (3.0, (3.0, 3.0))
    given = {rate: epochs for rate, epochs in ((1e-3, None), (3.2e-3, 9.0), (1e-2, 5.0), (3.2e-2, 3.0))}
    tried: dict[float, float] = {}

    def attempt(rate: float, seed: int, limit: float) -> dict[str, object]:
        tried[rate] = limit
        needed = given.get(rate)
        return {"epochs": needed if needed is not None and needed <= limit else None}

    best, _ = experiment.choose_rate(attempt, tuple(given), (0,), 60)
    assert best == 3.2e-2 and max(tried) == pytest.approx(3.2e-2 * 10**0.5)  # the grid grew, as the best was its edge
    # from the middle outwards, each up to the best before it
    assert next(iter(tried)) == 1e-2 and list(tried)[3] == 1e-3
    assert tried[1e-2] == 60 and tried[1e-3] == 3.0 and tried[max(tried)] == 3.0
    assert experiment.network("tanh", (32, 32, 3), 10).n_parameters == 89_578
    monkeypatch.setattr(experiment, "network", lambda act, *given: parse(f"mlp:16,act={act}").architecture(*given))
    text, found = quick(experiment, tmp_path, capsys, "relu_or_tanh", "--initialisations", "B")
    assert text.count("tanh needs") == 1 and found["ratio B"]["ratio"] > 0 and "relu A" not in found
    with pytest.raises(SystemExit):
        experiment.main(["planted", "--initialisations", "C"])
    assert "A, B or AB is needed" in capsys.readouterr().err
    assert all(one["epochs"] is not None for one in found["relu B"]["stage 2"])


def test_restarts(load, tmp_path, capsys, monkeypatch) -> None:
    small(load, monkeypatch)
    experiment = load("restarts")
    text, found = quick(experiment, tmp_path, capsys, "restarts", "--network", "mlp:16")
    assert "error %, 3 ep." in text
    for figure in ("restarts", "restarts_errors"):
        assert (tmp_path / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
    for name in experiment.SCHEDULES:
        histories = found["schedules"][name]["histories"]
        assert len(histories) == 2 and all(len(history) == 3 for history in histories)
    rates = [record["rate"] for record in found["schedules"]["SGDR, T0 1, x2"]["histories"][0]]
    assert rates[0] < rates[1] > rates[2]  # last steps of epochs: end, middle and end of a cycle


def test_network_rates(load, tmp_path, capsys, monkeypatch) -> None:
    small(load, monkeypatch)
    experiment = load("network_rates")
    text, found = quick(experiment, tmp_path, capsys, "network_rates")
    assert "learning rate 10000" in text and found["constant"]["10000.0"]["loss"] is None
    assert found["best"] == 0.01 and "range test suggests" in text
    steps = [many[0]["steps"] for many in found["batches"].values()]
    assert steps[0] == 2 and steps[2] > steps[0]
