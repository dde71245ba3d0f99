"""Why not the squared loss? Points that are right and far away move its boundary; the other losses let them be.

    python experiments/why_not_squared.py [--out DIR]

Two overlapping classes of 100 points, and 20 more of the second class, ever farther out on its own side: right by
any measure. λ is scaled so that it costs the first 200 points the same in every row. The boundary's place is where
it crosses the line between the two means, in units of the classes' standard deviation; its turn is in degrees.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

import show
from lastlayer import figures
from lastlayer.selection.fit import LinearFit, fit_linear
from lastlayer.selection.hinge import fit_hinge

LOSSES = ("squared", "cross_entropy", "hinge", "squared_hinge")
DISTANCES = (0.0, 5.0, 10.0, 20.0, 40.0)
NEAR, FAR = 100, 20
STRENGTH = 2.0


class Row(NamedTuple):
    loss: str
    distance: float
    moved: float
    turned: float
    wrong: int


def points(distance: float) -> tuple[np.ndarray, np.ndarray]:
    """The 200 points, and beyond them 20 at `distance` (none for 0)."""
    rng = np.random.default_rng(7)
    near = np.concatenate([rng.normal((-1.5, 0.0), 1.0, (NEAR, 2)), rng.normal((1.5, 0.0), 1.0, (NEAR, 2))])
    labels = np.repeat([0, 1], NEAR)
    if distance == 0.0:
        return near, labels
    far = rng.normal((1.5, 0.0), 0.5, (FAR, 2)) + distance * np.array([np.cos(0.7), -np.sin(0.7)])
    return np.concatenate([near, far]), np.concatenate([labels, np.ones(FAR, dtype=labels.dtype)])


def fit(loss: str, distance: float) -> LinearFit:
    """λ · N is the same for every distance, and so is the price of the weights against the 200 points."""
    X, y = points(distance)
    if loss == "hinge":
        return fit_hinge(X, y, 2, l2=STRENGTH / len(X), gap=1e-9, max_iter=5000)
    return fit_linear(X, y, 2, loss, l2=STRENGTH / len(X), tol=1e-6)


def boundary(fitted: LinearFit) -> tuple[float, float]:
    """Where it crosses the horizontal axis, and its direction in degrees from the vertical."""
    normal = fitted.weights[:, 1] - fitted.weights[:, 0]
    place = -(fitted.bias[1] - fitted.bias[0]) / normal[0]
    return float(place), float(np.degrees(np.arctan2(normal[1], normal[0])))


def measure(distances: Sequence[float] = DISTANCES, losses: Sequence[str] = LOSSES) -> list[Row]:
    X, y = points(0.0)
    rows = []
    for loss in losses:
        place, angle = boundary(fit(loss, 0.0))
        for distance in distances:
            fitted = fit(loss, distance)
            here, turned = boundary(fitted)
            wrong = int(((X @ fitted.weights + fitted.bias).argmax(axis=1) != y).sum())
            rows.append(Row(loss, distance, here - place, turned - angle, wrong))
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    out = show.options(__doc__, argv)
    rows = measure()
    print(show.table(("loss", "distance", "moved", "turned (deg)", "wrong of the 200"), rows))
    X, y = points(10.0)
    fits = {loss.replace("_", " "): fit(loss, 10.0) for loss in LOSSES}
    fits["squared, without the 20 points"] = fit("squared", 0.0)
    figure = figures.decision_boundary(
        X,
        y,
        fits,
        features=("feature 1 (standard deviations)", "feature 2 (standard deviations)"),
        title="20 points that are right and far away",
    )
    show.save(figure, out, "why_not_squared")
    return 0


if __name__ == "__main__":
    sys.exit(main())
