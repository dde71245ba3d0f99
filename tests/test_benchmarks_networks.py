"""The throughput benchmark of networks runs, and its bare loop is the same model."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: networks are not tested")


def test_contestants_are_timed_on_the_same_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
    before = set(sys.modules)
    benchmark = importlib.import_module("networks")
    torch.set_num_threads(1)
    row = benchmark.measure("mlp:16", 0.02, 2, 64)
    assert row["network"] == "mlp:16" and row["ratio"] > 0 and len(row["rounds"]["bare"]) == 2
    assert "mlp:16" in benchmark.table([row])
    for text in ("lenet5:modern", "convnet", "cuda-convnet:quick"):
        architecture = benchmark.parse(text).architecture(benchmark.SHAPES[text], 10)
        layers = [
            benchmark.module(layer, shape) for (_, layer), shape in zip(architecture.layers, architecture.shapes())
        ]
        learned = sum(one.numel() for layer in layers for one in layer.parameters() if one.requires_grad)
        assert learned == architecture.n_parameters
        x = torch.from_numpy(np.zeros((1, *architecture.shapes()[0]), np.float32)).permute(0, 3, 1, 2)
        assert torch.nn.Sequential(*layers).eval()(x).shape == (1, 10)
    for name in set(sys.modules) - before:
        if name in ("networks", "machine"):
            del sys.modules[name]
