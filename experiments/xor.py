"""AND, OR and XOR: what a line can separate, what it cannot, and what makes XOR solvable.

    python experiments/xor.py [--out DIR]

For each gate and each set of features: whether a separating plane exists at all (a linear programme, which answers for
certain), what the perceptron's rule does (it can only be told to stop), and how many of the four answers logistic
regression gets right. XOR has the same mean in both classes, so no line separates it; with the product of the inputs as
a third feature, or with one kernel feature a point, a plane does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linprog

import show
from lastlayer import figures
from lastlayer.losses import by_name
from lastlayer.objective import Objective
from lastlayer.selection.fit import LinearFit, fit_linear
from lastlayer.solvers import PerceptronRule, StopReason

INPUTS = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
GATES = {"AND": [0, 0, 0, 1], "OR": [0, 1, 1, 1], "XOR": [0, 1, 1, 0]}
L2 = 1e-3


class Row(NamedTuple):
    gate: str
    features: str
    plane: str
    perceptron: str
    logistic: str


def inputs(points: np.ndarray) -> np.ndarray:
    """The two inputs."""
    return points


def with_product(points: np.ndarray) -> np.ndarray:
    """The two inputs and their product."""
    return np.column_stack([points, points[:, 0] * points[:, 1]])


def kernel(points: np.ndarray) -> np.ndarray:
    """``exp(-2 |x - xⱼ|²)`` for each of the four inputs xⱼ: radial basis functions (Broomhead & Lowe 1988)."""
    return np.exp(-2.0 * ((points[:, None] - INPUTS) ** 2).sum(axis=2))


FEATURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "x1, x2": inputs,
    "x1, x2, x1·x2": with_product,
    "4 kernel features": kernel,
}


def separable(Z: np.ndarray, y: np.ndarray) -> bool:
    """Whether some plane has every row on its own side: ``tᵢ (w·zᵢ + b) ≥ 1`` has a solution."""
    signs = np.where(y == 1, 1.0, -1.0)
    rows = -signs[:, None] * np.column_stack([Z, np.ones(len(Z))])
    found = linprog(np.zeros(rows.shape[1]), rows, -np.ones(len(Z)), bounds=(None, None))
    return bool(found.status == 0)


def logistic(Z: np.ndarray, y: np.ndarray) -> LinearFit:
    return fit_linear(Z, y, 2, l2=L2, tol=1e-6)


def measure() -> list[Row]:
    rows = []
    for gate, answers in GATES.items():
        y = np.array(answers)
        for name, features in FEATURES.items():
            if gate != "XOR" and name != "x1, x2":
                continue
            Z = features(INPUTS)
            rule = PerceptronRule(epochs=200).minimise(Objective(Z, y, 2, by_name("perceptron"), 0.0))
            separated = rule.stop_reason is StopReason.SEPARATED
            fitted = logistic(Z, y)
            probability = 1.0 / (1.0 + np.exp((Z @ fitted.weights + fitted.bias) @ np.array([1.0, -1.0])))
            right = int((np.where(y == 1, probability, 1.0 - probability) > 0.5 + 1e-6).sum())
            least = float(np.abs(probability - 0.5).min())
            rows.append(
                Row(
                    gate,
                    name,
                    "exists" if separable(Z, y) else "does not exist",
                    rule.note if separated else f"not separated: {rule.note}",
                    f"{right}/4" + (", every probability ½" if least < 1e-6 and right == 0 else ""),
                )
            )
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    out = show.options(__doc__, argv)
    head = ("gate", "features", "a separating plane", "perceptron rule", "logistic regression: clearly right")
    print(show.table(head, measure()))
    y = np.array(GATES["XOR"])
    fits = {name: logistic(features(INPUTS), y) for name, features in FEATURES.items()}

    def answer(name: str) -> Callable[[np.ndarray], np.ndarray]:
        return lambda points: FEATURES[name](points) @ fits[name].weights + fits[name].bias

    figure = figures.decision_boundary(
        INPUTS,
        y,
        {f"logistic regression on {name}": answer(name) for name in list(FEATURES)[1:]},
        class_names=["XOR = 0", "XOR = 1"],
        features=("input x1", "input x2"),
        limits=(-0.5, 1.5, -0.5, 1.5),
        title="Straight in its features, curved in the inputs",
    )
    show.save(figure, out, "xor")
    return 0


if __name__ == "__main__":
    sys.exit(main())
