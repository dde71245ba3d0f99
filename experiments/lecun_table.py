"""LeCun's table for MNIST, without networks: linear classifiers, neighbours and kernels; published, and ours.

    python experiments/lecun_table.py MNIST [--only SVM] [--out DIR]

MNIST is a folder with train/DIGIT/*.png and test/DIGIT/*.png, or one with the four IDX files. Every choice (φ, C, λ, k)
is made on the last 10,000 training images in the order of the original files (files 50,000 to 59,999), fitted on the
50,000 before them; the chosen recipe is then fitted on all 60,000, and scored on the 10,000 test images, once.

Published: LeCun, Cortes & Burges, "The MNIST database"; LeCun et al. 1998; "Wilder" in the same table; Vowpal Wabbit's
MNIST demonstration.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import show
from lastlayer._files import write_json
from lastlayer.data.dataset import TEST, TRAIN
from lastlayer.data.images import ImageFormat
from lastlayer.data.sources import open_dataset
from lastlayer.evaluation.intervals import Proportion
from lastlayer.pipeline.environment import environment
from lastlayer.representations.specs import parse_phi
from lecun_heads import AllRows, Head, Linear, Neighbours, Pairwise, TanhUnits

SEED = 0


@dataclass(frozen=True)
class Row:
    """A line of the table: every recipe is a φ with a head, and the best on validation images counts."""

    name: str
    before: str
    published: str
    recipes: tuple[tuple[str, Head], ...]


def each(phis: Sequence[str], *heads: Head) -> tuple[tuple[str, Head], ...]:
    return tuple((phi, head) for phi in phis for head in heads)


LEAST = Linear("squared", (0.001, 0.01, 0.1, 1.0, 10.0, 100.0))
HINGE = Linear("squared_hinge", (1.0, 3.0, 10.0, 30.0))
SOFTMAX = Linear("cross_entropy", (0.01, 0.03, 0.1, 0.3, 1.0, 3.0))
ROWS = (
    Row("linear, tanh units, squared error", "", "12.0", each(["pixels"], TanhUnits((1e-4, 1e-5)))),
    Row("linear, least squares", "", "12.0 (tanh units)", each(["pixels"], LEAST)),
    Row("linear, softmax", "", "12.0", each(["pixels"], SOFTMAX)),
    Row("linear, tanh units, squared error", "deskew", "8.4", each(["deskew/pixels"], TanhUnits((1e-4, 1e-5)))),
    Row("linear, least squares", "deskew", "8.4 (tanh units)", each(["deskew/pixels"], LEAST)),
    Row("linear, softmax", "deskew", "8.4", each(["deskew/pixels"], SOFTMAX)),
    Row("pairwise linear, least squares", "deskew", "7.6", each(["deskew/pixels"], Pairwise((1e-3, 1e-2)))),
    Row("k nearest neighbours, L2", "", "5.0; 3.09 (Wilder)", each(["pixels"], Neighbours())),
    Row("k nearest neighbours, L2", "deskew", "2.4", each(["deskew/pixels"], Neighbours())),
    Row(
        "k nearest neighbours, L2",
        "deskew, noise removal, blur",
        "1.80",
        each(["denoise:32/deskew/blur:1/pixels", "denoise:64/deskew/blur:1/pixels"], Neighbours()),
    ),
    Row(
        "40 PCA + quadratic",
        "",
        "3.3",
        each(["pixels/pca:40/poly:2"], LEAST, HINGE),
    ),
    Row(
        "1000 RBF + linear",
        "",
        "3.6",
        each(["pixels/rbf:1000,gamma=0.02", "pixels/rbf:1000,gamma=0.03"], LEAST),
    ),
    Row(
        "SVM, Gaussian kernel",
        "",
        "1.4",
        (
            *each(["pixels/nystrom:3000,gamma=0.02", "pixels/l2/nystrom:3000,gamma=1.5"], HINGE),
            ("pixels/l2/nystrom:8000,gamma=1.5", Linear("squared_hinge", (10.0,))),
        ),
    ),
    Row(
        "Gaussian kernel, squared loss, all rows",
        "",
        "1.4 (SVM)",
        each(["pixels/l2"], AllRows((1.5, 3.0), (10.0, 100.0))),
    ),
    Row(
        "linear on products of pixels",
        "",
        "1.75 (VW)",
        each(["crop:2/products:2"], Linear("squared_hinge", (0.001, 0.01, 0.1))),
    ),
)


@dataclass(frozen=True)
class Data:
    """Images in the order of the original files; the last sixth of the training images is for choosing."""

    train: np.ndarray
    labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray
    sha256: str

    @property
    def fitted(self) -> slice:
        return slice(0, len(self.train) - len(self.train) // 6)

    @property
    def held_out(self) -> slice:
        return slice(self.fitted.stop, len(self.train))


@dataclass(frozen=True)
class Result:
    row: str
    before: str
    published: str
    ours: str
    k: int
    n: int
    validation: str
    recipe: str
    seconds: float


def read(folder: str) -> Data:
    dataset = open_dataset(folder)
    decoded = dataset.images.read(np.arange(len(dataset)), ImageFormat(28, 28, 1))
    numbers = [re.search(r"(\d+)\D*$", Path(name).stem) for name in dataset.names]
    place = np.array([int(found[1]) if found else i for i, found in enumerate(numbers)])
    order = np.argsort(place, kind="stable")
    sides = [order[(dataset.given == side)[order]] for side in (TRAIN, TEST)]
    if not all(len(side) for side in sides):
        raise SystemExit(f"{folder}: training and test images are needed, in folders of these names")
    names = np.array([int(name) for name in dataset.class_names])
    labels = names[dataset.labels]
    digest = dataset.content_hash(decoded.sha256)
    train, test = sides
    return Data(decoded.pixels[train], labels[train], decoded.pixels[test], labels[test], digest)


def measure(row: Row, data: Data) -> Result:
    """Choose on the held-out training images, fit again on all of them, look at the test images."""
    start = time.perf_counter()
    y, fitted, held_out = data.labels, data.fitted, data.held_out
    best: tuple[int, str, Head, object] | None = None
    seen: tuple[str, np.ndarray, np.ndarray] | None = None
    for text, head in row.recipes:
        if seen is None or seen[0] != text:
            seen = None  # the features before are not needed beside the new ones
            phi = parse_phi(text).fit(data.train[fitted], np.random.default_rng(SEED))
            seen = (text, phi.transform(data.train[fitted]), phi.transform(data.train[held_out]))
        for setting, wrong in head.tries(seen[1], y[fitted], seen[2], y[held_out]):
            print(f"  {row.name}: {text}, {type(head).__name__} {setting}: {wrong} wrong", file=sys.stderr, flush=True)
            if best is None or wrong < best[0]:
                best = (wrong, text, head, setting)
    assert best is not None
    seen = None
    wrong, text, head, setting = best
    phi = parse_phi(text).fit(data.train, np.random.default_rng(SEED))
    predicted = head.fit(phi.transform(data.train), y, setting)(phi.transform(data.test))
    k, n = int((predicted != data.test_labels).sum()), len(data.test)
    chosen = error(wrong, len(y[held_out]))
    seconds = time.perf_counter() - start
    recipe = head.text(text, setting)
    return Result(row.name, row.before or "none", row.published, error(k, n), k, n, chosen, recipe, round(seconds, 1))


def error(k: int, n: int) -> str:
    share = Proportion(k, n)
    return f"{k}/{n} = {100 * share.value:.2f}% [{100 * share.low:.2f}, {100 * share.high:.2f}]"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mnist", help="folder of MNIST")
    parser.add_argument("--only", default="", help="rows whose name holds this text")
    parser.add_argument("--out", type=Path, default=Path("runs/experiments"), help="folder for the results")
    options = parser.parse_args(argv)
    data = read(options.mnist)
    facts = environment()
    print(f"MNIST {len(data.train)} + {len(data.test)} images, sha256 {data.sha256[:16]}; seed {SEED}")
    shown = ("processor", "cores", "python", "numpy", "scipy", "lastlayer")
    print(", ".join(f"{name} {facts[name]}" for name in shown))
    results = [measure(row, data) for row in ROWS if options.only.lower() in row.name.lower()]
    head = ("row", "preprocessing", "published %", "ours: wrong test images", "seconds", "recipe")
    cells = [(r.row, r.before, r.published, r.ours, r.seconds, r.recipe) for r in results]
    print(show.table(head, cells))
    options.out.mkdir(parents=True, exist_ok=True)
    kept = {"data_sha256": data.sha256, "seed": SEED, "environment": facts, "rows": [asdict(r) for r in results]}
    write_json(options.out / "lecun_table.json", kept)
    print(f"\nresults: {options.out / 'lecun_table.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
