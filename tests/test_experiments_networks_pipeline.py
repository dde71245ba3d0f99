"""The network experiments on a few pictures: that they run, what they print, and that they store what they say."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="torch is not installed: networks are not tested")

EXPERIMENTS = Path(__file__).parent.parent / "experiments"


@pytest.fixture
def experiments(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    torch.set_num_threads(1)
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    before = set(sys.modules)
    yield importlib.import_module("networks_cifar"), importlib.import_module("networks_mnist")
    for name in set(sys.modules) - before:
        if (EXPERIMENTS / f"{name}.py").is_file():
            del sys.modules[name]


def folder(root: Path, side: int, mode: str) -> Path:
    """Stripes across or down."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 30), ("test", 6)):
        for kind in ("across", "down"):
            (root / part / kind).mkdir(parents=True)
            for i in range(count):
                stripes = (np.arange(side) // int(rng.integers(2, 5)) % 2 * 120)[:, None].repeat(side, axis=1)
                picture = (stripes.T if kind == "down" else stripes) + rng.integers(0, 60, (side, side))
                Image.fromarray(picture.astype(np.uint8)).convert(mode).save(root / part / kind / f"{i:03}.png")
    return root


@pytest.mark.parametrize(("at", "side", "mode", "row"), [(0, 32, "RGB", "quick"), (1, 28, "L", "mlp")])
def test_a_quick_run_says_and_stores_its_rows(
    experiments, at: int, side: int, mode: str, row: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = folder(tmp_path / "data", side, mode), tmp_path / "found.json"
    arguments = [str(data), "--quick", "--rows", row, "--runs", str(tmp_path / "runs"), "--out", str(out)]
    experiments[at].main(arguments)
    said = capsys.readouterr().out
    (found,) = json.loads(out.read_text())["rows"]
    assert found["row"] == row and found["split"] == "test" and found["correct"].split(" = ")[0].endswith("/12")
    assert found["correct"] in said and found["data_sha256"] in said and "linear" in said and "torch" in said
    assert found["look"] == 1


def test_rows_name_networks_that_there_are(experiments) -> None:
    from lastlayer.networks.presets import parse
    from lastlayer.pipeline.network_settings import resolved
    from lastlayer.pipeline.settings import TrainSettings

    for experiment in experiments:
        for settings in (*experiment.ROWS.values(), *experiment.QUICK.values()):
            assert parse(settings["phi"]).name
            assert resolved(TrainSettings(**settings)).epochs > 0
