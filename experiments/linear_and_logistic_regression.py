"""The first two rows of the lecture: linear regression and logistic regression, against NumPy and scikit-learn.

    python experiments/linear_and_logistic_regression.py [--out DIR]

Squared loss on real targets is linear regression, with a penalty ridge regression; cross-entropy on two classes is
logistic regression. Both are the same function here, and its answers agree with `numpy.linalg.lstsq`, and with
scikit-learn's `Ridge` (alpha = λ N) and `LogisticRegression` (C = 2 / (λ N): two softmax columns share the penalty).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge

import show
from lastlayer.selection.fit import LinearFit, fit_linear

N, L2 = 200, 0.05


class Row(NamedTuple):
    problem: str
    ours: str
    peer: str
    theirs: str
    largest_difference: float


def line_data() -> tuple[np.ndarray, np.ndarray]:
    """``y = 1.5 + 0.8 x + noise`` of standard deviation 0.6."""
    rng = np.random.default_rng(1)
    x = rng.uniform(-3.0, 3.0, (N, 1))
    return x, 1.5 + 0.8 * x[:, 0] + 0.6 * rng.standard_normal(N)


def class_data() -> tuple[np.ndarray, np.ndarray]:
    """Class 1 with probability σ(1.7 x - 0.5)."""
    rng = np.random.default_rng(2)
    x = rng.uniform(-3.0, 3.0, (N, 1))
    return x, (rng.random(N) < 1.0 / (1.0 + np.exp(0.5 - 1.7 * x[:, 0]))).astype(np.int64)


def regression(l2: float) -> LinearFit:
    x, y = line_data()
    return fit_linear(x, y[:, None], 1, "squared", l2=l2, tol=1e-10)


def classification() -> LinearFit:
    x, y = class_data()
    return fit_linear(x, y, 2, "cross_entropy", l2=L2, tol=1e-9, gap=1e-15)


def measure() -> list[Row]:
    x, y = line_data()
    plain, ridge = regression(0.0), regression(L2)
    lstsq = np.linalg.lstsq(np.column_stack([x, np.ones(N)]), y, rcond=None)[0]
    peer = Ridge(alpha=L2 * N).fit(x, y)
    fitted = classification()
    theirs = LogisticRegression(C=2.0 / (L2 * N), tol=1e-12, max_iter=1000).fit(*class_data())
    difference = (fitted.weights[0, 1] - fitted.weights[0, 0], fitted.bias[1] - fitted.bias[0])
    return [
        _row("linear regression", (plain.weights[0, 0], plain.bias[0]), "numpy.linalg.lstsq", tuple(lstsq)),
        _row("ridge regression", (ridge.weights[0, 0], ridge.bias[0]), "Ridge", (peer.coef_[0], peer.intercept_)),
        _row("logistic regression", difference, "LogisticRegression", (theirs.coef_[0, 0], theirs.intercept_[0])),
    ]


def _row(problem: str, ours: tuple[float, ...], peer: str, theirs: tuple[float, ...]) -> Row:
    largest = max(abs(a - b) for a, b in zip(ours, theirs))
    texts = [f"{slope:.6f} x {intercept:+.6f}" for slope, intercept in (ours, theirs)]
    return Row(problem, texts[0], peer, texts[1], float(largest))


def draw() -> Any:
    """Two panels: the line through the points, and the probability between the classes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 4.0), dpi=100, layout="constrained")
    left, right = figure.subplots(1, 2)
    grid = np.linspace(-3.2, 3.2, 300)
    x, y = line_data()
    fitted = regression(0.0)
    left.scatter(x, y, s=14, color="#56B4E9", label="examples")
    left.plot(grid, grid * fitted.weights[0, 0] + fitted.bias[0], color="#D55E00", linewidth=2, label="w x + b")
    left.set(xlabel="x", ylabel="y", title="linear regression: squared loss")
    x, y = class_data()
    fitted = classification()
    scores = np.outer(grid, fitted.weights[0]) + fitted.bias
    jitter = np.random.default_rng(0).uniform(-0.02, 0.02, N)
    right.scatter(x, y + jitter, s=14, color="#56B4E9", label="examples, class 0 or 1")
    probability = 1.0 / (1.0 + np.exp(scores[:, 0] - scores[:, 1]))
    right.plot(grid, probability, color="#D55E00", linewidth=2, label="probability of class 1")
    right.axhline(0.5, color="#6b6b6b", linewidth=0.8, linestyle=(0, (4, 3)))
    right.set(xlabel="x", ylabel="class, and its probability", title="logistic regression: cross-entropy")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=True, framealpha=0.9, edgecolor="none")
    return figure


def main(argv: Sequence[str] | None = None) -> int:
    out = show.options(__doc__, argv)
    print(show.table(("problem", "here", "peer", "there", "largest difference"), measure()))
    show.save(draw(), out, "linear_and_logistic_regression")
    return 0


if __name__ == "__main__":
    sys.exit(main())
