"""From one threshold unit to a network: what each step can do, and why the step function had to go.

    python experiments/perceptron_to_network.py [--out DIR]

AND, OR and XOR on two inputs. One threshold unit (Rosenblatt 1958) learns what a line separates, by its rule. Two
layers of threshold units solve XOR with weights set by hand (Minsky & Papert 1969 knew such networks), but no gradient
finds them: the derivative of the step is zero. With a sigmoid in its place the same network is trained by gradient
descent; how often that succeeds is counted over random starts. The figure shows the nonlinearities and derivatives.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

import show
from lastlayer.figures.activations import activations
from lastlayer.losses import by_name
from lastlayer.networks import ACTIVATIONS
from lastlayer.objective import Objective
from lastlayer.solvers import LBFGS, FunctionProblem, PerceptronRule, StopReason

CORNERS = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
GATES = {"AND": [0, 0, 0, 1], "OR": [0, 1, 1, 1], "XOR": [0, 1, 1, 0]}
HIDDEN = 2
BY_HAND = np.array([1.0, 1.0, -0.5, 1.0, 1.0, -1.5, 1.0, -1.0, -0.5])
"""Two units of (w1, w2, b): OR and AND; then an output unit: OR and not AND."""


class Row(NamedTuple):
    network: str
    gate: str
    how: str
    outcome: str


def output(x: np.ndarray, between: str, hidden: int = HIDDEN) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The last unit's sum, the hidden outputs and their derivatives, at the four corners."""
    first, last = x[: 3 * hidden].reshape(hidden, 3), x[3 * hidden :]
    sums = CORNERS @ first[:, :2].T + first[:, 2]
    h = ACTIVATIONS[between].value(sums)
    return h @ last[:-1] + last[-1], h, ACTIVATIONS[between].derivative(sums)


def loss(x: np.ndarray, between: str, y: np.ndarray, hidden: int = HIDDEN) -> tuple[float, np.ndarray]:
    """Logistic loss of the four corners and its gradient; a small penalty keeps the weights finite."""
    z, h, slopes = output(x, between, hidden)
    signs = np.where(y == 1, 1.0, -1.0)
    back = -signs * ACTIVATIONS["sigmoid"].value(-signs * z)
    through = back[:, None] * x[3 * hidden : -1] * slopes
    first = np.column_stack([through.T @ CORNERS, through.sum(axis=0)])
    gradient = np.concatenate([first.ravel(), back @ h, [back.sum()]])
    return float(np.logaddexp(0.0, -signs * z).sum() + 0.5e-3 * (x @ x)), gradient + 1e-3 * x


def right(x: np.ndarray, between: str, y: np.ndarray, hidden: int = HIDDEN) -> int:
    return int(((output(x, between, hidden)[0] > 0) == (y == 1)).sum())


def one_unit(gate: str) -> Row:
    y = np.array(GATES[gate])
    objective = Objective(CORNERS, y, 2, by_name("perceptron"), 0.0)
    found = PerceptronRule(epochs=200).minimise(objective)
    W, b = objective.to_outside(found.params)
    learned = int(((CORNERS @ W + b).argmax(axis=1) == y).sum())
    stopped = "separated" if found.stop_reason is StopReason.SEPARATED else "never separated"
    return Row("one threshold unit", gate, "perceptron rule", f"{learned}/4 right, {stopped}")


def trained(between: str, seeds: int, hidden: int = HIDDEN) -> Row:
    """How many random starts end with XOR solved."""
    y, solved, moved = np.array(GATES["XOR"]), 0, 0.0
    for seed in range(seeds):
        start = np.random.default_rng(seed).standard_normal(4 * hidden + 1)
        gradient = loss(start, between, y, hidden)[1] - 1e-3 * start
        moved = max(moved, float(np.abs(gradient[: 3 * hidden]).max()))
        problem = FunctionProblem(lambda x: loss(x, between, y, hidden), start)
        end = LBFGS(tol=1e-4, max_iter=100).minimise(problem).params
        solved += right(end, between, y, hidden) == 4
    outcome = f"{solved}/{seeds} starts solve it"
    if not ACTIVATIONS[between].has_gradient:
        outcome += f"; largest gradient of a hidden weight {moved:g}"
    return Row(f"2-{hidden}-1, {between}", "XOR", "gradients", outcome)


def measure(seeds: int = 20) -> list[Row]:
    by_hand = right(BY_HAND, "step", np.array(GATES["XOR"]))
    rows = [one_unit(gate) for gate in GATES]
    rows.append(Row(f"2-{HIDDEN}-1, step", "XOR", "weights by hand", f"{by_hand}/4 right"))
    rows += [trained("step", seeds), *(trained(name, seeds) for name in ("sigmoid", "tanh", "relu", "leaky_relu"))]
    return [*rows, trained("tanh", seeds, 8), trained("relu", seeds, 8)]


def main(argv: Sequence[str] | None = None) -> int:
    out = show.options(__doc__, argv)
    print(show.table(("network", "gate", "learned by", "outcome"), measure()))
    show.save(activations(), out, "activations")
    return 0


if __name__ == "__main__":
    sys.exit(main())
