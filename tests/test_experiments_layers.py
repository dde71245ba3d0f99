"""The experiments on layers still show what they claim to show."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from lastlayer.solvers.check import check_gradient

EXPERIMENTS = Path(__file__).parent.parent / "experiments"


def share(row: tuple[str, ...]) -> float:
    return float(row[2].split("%")[0])


def test_a_stack_of_linear_layers_is_one(load, tmp_path, capsys, monkeypatch) -> None:
    experiment = load("linear_stack")
    monkeypatch.setattr(experiment, "BETWEEN", ("identity", "tanh", "relu"))
    rows = experiment.measure(range(1))
    monkeypatch.setattr(experiment, "measure", lambda: rows)
    assert experiment.main(["--out", str(tmp_path)]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["linear_stack.png"]
    assert "W1 W2 W3" in capsys.readouterr().out
    by_name = {row.between: row for row in rows}
    linear, stack = by_name["one linear layer"], by_name["identity: three linear layers"]
    assert float(stack.difference.split()[0]) < 1e-12
    assert abs(share(stack) - share(linear)) < 3 and share(linear) < 80
    assert min(share(by_name[name]) for name in ("tanh", "relu")) > 90


def test_the_experiments_gradients_are_derivatives(load) -> None:
    stack = load("linear_stack")
    points, y = stack.spirals(0, 20)
    like = stack.start(0)
    x = np.concatenate([array.ravel() for own in like for array in own.values()])
    found = check_gradient(lambda at: stack.loss(at, like, points, y, "tanh"), x, sample=40)
    assert found.right, str(found)
    xor = load("perceptron_to_network")
    start = np.random.default_rng(0).standard_normal(9)
    found = check_gradient(lambda at: xor.loss(at, "sigmoid", np.array([0, 1, 1, 0])), start)
    assert found.right, str(found)


def test_from_a_threshold_unit_to_a_network(load, tmp_path, capsys, monkeypatch) -> None:
    experiment = load("perceptron_to_network")
    rows = experiment.measure(6)
    monkeypatch.setattr(experiment, "measure", lambda: rows)
    assert experiment.main(["--out", str(tmp_path)]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["activations.png"]
    lines = capsys.readouterr().out.splitlines()
    said = {tuple(re.split(r"\s{2,}", line)[:3]): re.split(r"\s{2,}", line)[3] for line in lines if "  XOR  " in line}
    assert said["one threshold unit", "XOR", "perceptron rule"].endswith("never separated")
    assert sum("4/4 right, separated" in line for line in lines) == 2
    assert said["2-2-1, step", "XOR", "weights by hand"] == "4/4 right"
    assert said["2-2-1, step", "XOR", "gradients"].startswith("0/6")
    assert said["2-2-1, step", "XOR", "gradients"].endswith("weight 0")
    assert int(said["2-8-1, tanh", "XOR", "gradients"].split("/")[0]) >= 5
