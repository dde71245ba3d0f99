"""A stack of linear layers is one linear layer; a nonlinearity between them is what makes depth worth anything.

    python experiments/linear_stack.py [--out DIR]

Two spirals that no line separates. Networks 2 - 16 - 16 - 2 with each activation between the layers are fitted by
L-BFGS on the same rows, from the same random weights. Of the network with nothing between (identity) the product
W₁W₂W₃ is formed: its scores are those of the one matrix to rounding, and its accuracy is that of the best linear
classifier, which is fitted exactly beside it. Right on rows that were not learned from.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

import show
from lastlayer import figures
from lastlayer.networks import ACTIVATIONS, collapse
from lastlayer.networks.layers import Linear
from lastlayer.selection.fit import fit_linear
from lastlayer.solvers import LBFGS, FunctionProblem

ROWS, WIDTH, L2 = 300, 16, 1e-4
LAYERS = (Linear(WIDTH, "glorot"), Linear(WIDTH, "glorot"), Linear(2, "glorot"))
BETWEEN = ("identity", "sigmoid", "tanh", "scaled_tanh", "relu", "leaky_relu", "silu")

Arrays = list[dict[str, np.ndarray]]


class Row(NamedTuple):
    between: str
    seeds: int
    right: str
    difference: str


def spirals(seed: int, rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    """Two arms of 1¼ turns, with noise."""
    rng = np.random.default_rng(seed)
    y = np.arange(rows) % 2
    along = np.sqrt(rng.random(rows))
    angle = 2.5 * np.pi * along + np.pi * y
    points = 2.0 * along[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    return points + 0.05 * rng.standard_normal(points.shape), y


def start(seed: int) -> Arrays:
    rng = np.random.default_rng(seed)
    made, width = [], 2
    for layer in LAYERS:
        parameters = layer.parameters((width,))
        made.append({name: one.start(rng, one.shape).astype(np.float64) for name, one in parameters.items()})
        width = layer.units
    return made


def unpack(x: np.ndarray, like: Arrays) -> Arrays:
    found, begin = [], 0
    for layer in like:
        own = {}
        for name, array in layer.items():
            own[name] = x[begin : begin + array.size].reshape(array.shape)
            begin += array.size
        found.append(own)
    return found


def forward(points: np.ndarray, arrays: Arrays, between: str) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Scores, the input of every layer, and the derivative of every activation."""
    inputs, slopes, z = [points], [], points
    for index, own in enumerate(arrays):
        z = z @ own["weight"].T + own["bias"]
        if index < len(arrays) - 1:
            slopes.append(ACTIVATIONS[between].derivative(z))
            z = ACTIVATIONS[between].value(z)
            inputs.append(z)
    return z, inputs, slopes


def loss(x: np.ndarray, like: Arrays, points: np.ndarray, y: np.ndarray, between: str) -> tuple[float, np.ndarray]:
    """Mean cross-entropy plus ½ λ of the squared weights, and its gradient by the chain rule, layer by layer."""
    arrays = unpack(x, like)
    z, inputs, slopes = forward(points, arrays, between)
    z = z - z.max(axis=1, keepdims=True)
    z = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    p = np.exp(z)
    value = -float(z[np.arange(len(y)), y].mean()) + 0.5 * L2 * float(x @ x)
    back = p
    back[np.arange(len(y)), y] -= 1.0
    back /= len(y)
    gradients = []
    for index in range(len(arrays) - 1, -1, -1):
        gradients.append(back.sum(axis=0))
        gradients.append((back.T @ inputs[index]).ravel())
        if index:
            back = (back @ arrays[index]["weight"]) * slopes[index - 1]
    return value, np.concatenate(gradients[::-1]) + L2 * x


def fit(between: str, seed: int, points: np.ndarray, y: np.ndarray) -> Arrays:
    like = start(seed)
    x = np.concatenate([array.ravel() for own in like for array in own.values()])
    problem = FunctionProblem(lambda at: loss(at, like, points, y, between), x)
    return unpack(LBFGS(tol=1e-4, max_iter=300).minimise(problem).params, like)


def measure(seeds: Sequence[int] = range(5)) -> list[Row]:
    right: dict[str, list[float]] = {name: [] for name in ("one linear layer", *BETWEEN)}
    far = 0.0
    for seed in seeds:
        (points, y), (others, labels) = spirals(seed), spirals(1000 + seed)
        one = fit_linear(points, y, 2, l2=L2)
        right["one linear layer"].append(float(((others @ one.weights + one.bias).argmax(1) == labels).mean()))
        for name in BETWEEN:
            arrays = fit(name, seed, points, y)
            scores = forward(others, arrays, name)[0]
            right[name].append(float((scores.argmax(axis=1) == labels).mean()))
            if name == "identity":
                W, b = collapse(LAYERS, arrays)
                far = max(far, float(np.abs(scores - (others @ W + b)).max() / np.abs(scores).max()))
    return [
        Row(
            name if name != "identity" else "identity: three linear layers",
            len(shares),
            f"{100 * np.median(shares):.1f}% ({100 * min(shares):.1f} .. {100 * max(shares):.1f})",
            f"{far:.1e} of the largest score" if name == "identity" else "",
        )
        for name, shares in right.items()
    ]


def main(argv: Sequence[str] | None = None) -> int:
    out = show.options(__doc__, argv)
    print(show.table(("between the layers", "seeds", "right: median (range)", "against W1 W2 W3"), measure()))
    points, y = spirals(0)
    found = {name: fit(name, 0, points, y) for name in ("identity", "tanh", "relu")}

    def answer(name: str) -> Callable[[np.ndarray], np.ndarray]:
        return lambda at: forward(at, found[name], name)[0]

    titles = {"identity": "three linear layers", "tanh": "tanh between them", "relu": "ReLU between them"}
    figure = figures.decision_boundary(
        points,
        y,
        {titles[name]: answer(name) for name in found},
        class_names=["first arm", "second arm"],
        features=("x1", "x2"),
        title="Depth without a nonlinearity is one layer",
    )
    show.save(figure, out, "linear_stack")
    return 0


if __name__ == "__main__":
    sys.exit(main())
