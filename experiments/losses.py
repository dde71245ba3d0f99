"""The losses of the lecture on one figure: 0-1, squared, hinge, squared hinge and cross-entropy over the margin.

    python experiments/losses.py [--out DIR]

The table holds the value of each loss at a few margins, and at the right margin its slope: what a point that is
right by 3 still pushes with.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

import show
from lastlayer import figures

MARGINS = (-2.0, -1.0, 0.0, 0.5, 1.0, 3.0)
NAMES = ("zero_one", "squared", "hinge", "squared_hinge", "cross_entropy", "perceptron")


def measure() -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for name in NAMES:
        values = figures.margin_losses(name, np.array(MARGINS))
        left, right = figures.margin_losses(name, np.array([3.0 - 1e-5, 3.0 + 1e-5]))
        rows.append((name, *(float(v) for v in values), float((right - left) / 2e-5)))
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    out = show.options(__doc__, argv)
    print(show.table(("loss", *(f"m = {m:g}" for m in MARGINS), "slope at 3"), measure()))
    show.save(figures.losses(), out, "losses")
    return 0


if __name__ == "__main__":
    sys.exit(main())
