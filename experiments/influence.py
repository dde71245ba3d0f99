"""Which training images decided? Influences against training again without each of 200 images.

    python experiments/influence.py [--out DIR] [--data TRAIN.npy LABELS.npy TEST.npy] [--n N] [--removed M]

Softmax regression on pixels in 0..1 with C = 0.1; the arrays are uint8 (N, H, W) with labels 0..K-1 (MNIST, say), and
without them the digits of scikit-learn are used. For one test image that is not clear-cut, the effect that removing
each training image has on its margin is foretold in one pass (first order), and by one Newton step with the image's
leverage. Then half of M images are those with the largest effects, half are drawn at random; each is left out in turn
and the model is fitted again, to the end, in float64. Seed 0.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import show
from lastlayer.evaluation.influence import Influence
from lastlayer.linear import single_blas_thread
from lastlayer.selection.fit import LinearFit, fit_linear
from lastlayer.solvers import NewtonCG, Preconditioner

C = 0.1


class Case(NamedTuple):
    """Rows, labels, and one image of which two classes are likely."""

    Z: np.ndarray
    y: np.ndarray
    l2: float
    fit: LinearFit
    x: np.ndarray
    a: int
    b: int


def read(data: Sequence[Path] | None, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training rows, labels and test rows, shuffled; in float64, so that one row does not drown in rounding."""
    if data is None:
        X, y = load_digits(return_X_y=True)
        X, y = X * (255 / 16), y.astype(np.int64)
        rows = np.random.default_rng(0).permutation(len(X))
        return X[rows[300:][:n]] / 255.0, y[rows[300:][:n]], X[rows[:300]] / 255.0
    X, y, test = (np.load(path) for path in data)
    rows = np.random.default_rng(0).permutation(len(X))[:n]
    return X[rows].reshape(len(rows), -1) / 255.0, y[rows].astype(np.int64), test.reshape(len(test), -1)[::37] / 255.0


def prepare(data: Sequence[Path] | None, n: int) -> Case:
    """Fit, and choose the test image whose margin is closest to 1."""
    Z, y, tests = read(data, n)
    l2 = 1.0 / (C * len(Z))
    fit = fit_linear(Z, y, int(y.max()) + 1, l2=l2, solver="newton_cg", tol=1e-6)
    scores = tests @ fit.weights + fit.bias
    ordered = np.sort(scores, axis=1)
    i = int(np.argmin(np.abs(ordered[:, -1] - ordered[:, -2] - 1.0)))
    b, a = np.argsort(scores[i])[-2:].tolist()
    return Case(Z, y, l2, fit, tests[i], a, b)


def leave_out(case: Case, chosen: np.ndarray, inverse: Preconditioner) -> np.ndarray:
    """Change of the margin when each of the rows is left out and the rest fitted again, C kept."""
    n, K = len(case.Z), case.fit.weights.shape[1]
    fit = case.fit
    whole = Influence.at(case.Z, case.y, K, "cross_entropy", case.l2, fit.weights, fit.bias).objective

    def margin(problem: Any, params: np.ndarray) -> float:
        W, bias = problem.to_outside(params)
        z = case.x @ W + bias
        return float(z[case.a] - z[case.b])

    weights, changes = np.ones(n), []
    with single_blas_thread():
        solver = NewtonCG(inverse, tol=1e-3 / n, max_iter=20, forcing=1e-2)
        # from its own end, so that what is left of the first fit's gradient is in no difference
        begin = solver.minimise(whole, whole.at(whole.to_inside(fit.weights, fit.bias)))
        for row in chosen.tolist():
            weights[row] = 0.0
            less = whole.with_weights(weights).with_l2(case.l2 * n / (n - 1))
            weights[row] = 1.0
            solution = solver.minimise(less, less.at(begin.params))
            changes.append(margin(less, solution.params) - margin(whole, begin.params))
            if len(changes) % 20 == 0:
                print(f"{len(changes)} of {len(chosen)} left out ({solution.stop_reason.value})", file=sys.stderr)
    return np.array(changes)


def correlation(true: np.ndarray, foretold: np.ndarray) -> float | None:
    """Pearson's r; None of fewer than three pairs, where it says nothing."""
    return float(np.corrcoef(true, foretold)[0, 1]) if len(true) > 2 else None


def measure(data: Sequence[Path] | None, n: int, removed: int) -> tuple[dict[str, Any], np.ndarray]:
    """What was foretold and what came: figures, and the columns true, first order, corrected."""
    case = prepare(data, n)
    K, fit = case.fit.weights.shape[1], case.fit
    clock = [time.perf_counter()]
    features = case.Z.astype(np.float32)
    found = Influence.at(features, case.y, K, "cross_entropy", case.l2, fit.weights, fit.bias)
    clock.append(time.perf_counter())
    effects = found.on_margin(case.x, case.a, case.b)
    clock.append(time.perf_counter())
    order = np.argsort(-np.abs(effects.first_order), kind="stable")
    half = removed // 2
    chosen = np.concatenate([order[:half], np.random.default_rng(0).permutation(order[half:])[: removed - half]])
    true = leave_out(case, chosen, found.inverse)
    first = effects.first_order[chosen]
    corrected = found.corrected(effects, chosen) if found.leverage is not None else first
    parts = {"all": slice(None), "largest": slice(half), "random": slice(half, None)}
    figures = {
        "training images": len(case.Z),
        "left out": len(chosen),
        "margin": float(
            case.x @ (fit.weights[:, case.a] - fit.weights[:, case.b]) + fit.bias[case.a] - fit.bias[case.b]
        ),
        "seconds to prepare": clock[1] - clock[0],
        "seconds for all influences": clock[2] - clock[1],
        "products": effects.products,
        **{f"r, first order, {name}": correlation(true[part], first[part]) for name, part in parts.items()},
        **{f"r, corrected, {name}": correlation(true[part], corrected[part]) for name, part in parts.items()},
    }
    return figures, np.column_stack([true, first, corrected])


def main(argv: Sequence[str] | None = None) -> int:
    """Foretell, leave out, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/experiments"), help="folder for figures")
    parser.add_argument("--data", type=Path, nargs=3, metavar=("TRAIN", "LABELS", "TEST"))
    parser.add_argument("--n", type=int, default=60_000, help="training images at most")
    parser.add_argument("--removed", type=int, default=200, help="images left out, one at a time")
    given = parser.parse_args(argv)
    given.out.mkdir(parents=True, exist_ok=True)
    figures, columns = measure(given.data, given.n, given.removed)
    print(show.table(("what", "value"), list(figures.items())))
    print(json.dumps(figures))
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot(columns[:, 0], columns[:, 1], "o", alpha=0.5, label="first order")
    axes.plot(columns[:, 0], columns[:, 2], ".", label="with leverage")
    axes.axline((0, 0), slope=1, color="0.6", linewidth=1)
    axes.set(xlabel="change of the margin, trained again without the image", ylabel="foretold")
    axes.legend()
    show.save(figure, given.out, "influence")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
