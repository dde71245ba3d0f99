"""The influence experiment on few digits: what is foretold is what comes."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def experiment(load):  # type: ignore[no-untyped-def]
    return load("influence")


def test_influences_foretell_leaving_out(experiment, tmp_path, capsys):
    assert experiment.main(["--out", str(tmp_path), "--n", "300", "--removed", "12"]) == 0
    out = capsys.readouterr().out
    figures = json.loads(next(line for line in out.splitlines() if line.startswith("{")))
    assert figures["training images"] == 300 and figures["left out"] == 12
    assert figures["r, first order, all"] >= 0.95
    assert figures["r, corrected, all"] >= 0.99
    assert (tmp_path / "influence.png").read_bytes().startswith(b"\x89PNG")
