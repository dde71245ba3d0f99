"""The contestants of the benchmark of neighbours find the same rows."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from lastlayer.neighbours import search

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.parametrize("metric", ["l2", "l1", "cosine"])
def test_contestants_agree(metric, monkeypatch):
    monkeypatch.setattr(search, "SHADOWS_FROM", search.SHADOWS_FROM)  # one contestant changes it
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    spec = importlib.util.spec_from_file_location("neighbours_benchmark", FOLDER / "neighbours.py")
    assert spec is not None and spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    rng = np.random.default_rng(0)
    X, Q = rng.integers(0, 256, (400, 60), dtype=np.uint8), rng.integers(0, 256, (30, 60), dtype=np.uint8)
    found = {}
    for name, dtype in benchmark.CONTESTANTS.items():
        if not name.startswith("FAISS"):
            found[name] = benchmark.prepare(name, metric)(X.astype(dtype), Q.astype(dtype), 4)
    assert len(found) == 4
    ours = found["lastlayer"]
    for distances, rows in found.values():
        np.testing.assert_allclose(distances, ours[0], rtol=1e-4)
        assert (np.sort(rows, axis=1) == np.sort(ours[1], axis=1)).mean() > 0.97
