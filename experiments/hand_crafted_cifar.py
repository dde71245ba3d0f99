"""CIFAR-10 with filters made by hand: edges, colours and visual words, and a linear classifier.

    python experiments/hand_crafted_cifar.py CIFAR [--only lecture] [--out DIR]

CIFAR is a folder with train/CLASS/* and test/CLASS/*. Everything is chosen on the last tenth of each class's training
images (the last 500 of 5,000, in the order of their names), with representations and classifiers fitted on the others;
the chosen classifier is then fitted on all training images and scored on the test images, once.

* ``lecture``: the features of the CS231n assignment, 144 numbers of HOG on gray (9 directions, cells of 8 pixels, not
  normalised) and 10 of the hue, standardised, with a linear SVM. Published: about 44% on validation images.
* ``strongest``: the best of the representations below. Nothing in them is learned but the words, which are k-means
  centres; features are averaged over an image and its mirror image, at training and at test.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

import show
from lastlayer._files import write_json
from lastlayer.data.dataset import TEST, TRAIN
from lastlayer.data.images import ImageFormat
from lastlayer.data.sources import open_dataset
from lastlayer.evaluation.intervals import Proportion
from lastlayer.linear import scores
from lastlayer.pipeline.environment import environment
from lastlayer.representations import Colour, Pixels, Representation, orientation_histogram, parse_phi
from lastlayer.representations.views import Averaged, Views
from lastlayer.selection import fit_linear, regularisation_path

SEED = 0
HUE_BINS = 10
LECTURE_CS = (0.0001, 0.001, 0.01, 0.1)
CS = (0.0003, 0.001, 0.003)
EDGES = "words:400,grid=3"
COLOURS = "words:400,of=colour,grid=3"
CANDIDATES = ("hog", "hog+colour", f"hog+colour+{EDGES}+{COLOURS}")


@dataclass(frozen=True)
class Data:
    """Training and test images with classes 0..K-1; `held_out` marks the training images that choose."""

    train: np.ndarray
    y: np.ndarray
    test: np.ndarray
    y_test: np.ndarray
    held_out: np.ndarray
    sha256: str

    @property
    def n_classes(self) -> int:
        return int(self.y.max()) + 1


@dataclass
class Result:
    row: str
    recipe: str = ""
    n_features: int = 0
    validation: str = ""
    test: str = ""
    k: int = 0
    n: int = 0
    tries: list[tuple[str, float, str]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the seconds inside to a stage, and say so."""
        start = time.perf_counter()
        yield
        took = time.perf_counter() - start
        self.seconds[name] = round(self.seconds.get(name, 0.0) + took, 1)
        print(f"  {self.row}: {name} {took:.1f} s", file=sys.stderr, flush=True)


def read(folder: str) -> Data:
    dataset = open_dataset(folder)
    decoded = dataset.images.read(np.arange(len(dataset)), ImageFormat(32, 32, 3))
    order = np.lexsort((np.array(dataset.names), dataset.labels))
    train, test = (order[(dataset.given == side)[order]] for side in (TRAIN, TEST))
    if not len(train) or not len(test):
        raise SystemExit(f"{folder}: training and test images are needed, in folders of these names")
    y = dataset.labels[train]
    held_out = np.zeros(len(train), dtype=bool)
    for c in np.unique(y):
        rows = np.flatnonzero(y == c)
        held_out[rows[len(rows) - len(rows) // 10 :]] = True
    sha256 = dataset.content_hash(decoded.sha256)
    return Data(decoded.pixels[train], y, decoded.pixels[test], dataset.labels[test], held_out, sha256)


def lecture_features(images: np.ndarray) -> np.ndarray:
    """HOG 144 and hue 10, (N, 154) for images of 32 × 32 pixels."""
    rng = np.random.default_rng(SEED)
    gray = Pixels(color="gray").fit(images[:1], rng).transform(images)
    levels = np.rint(255 * gray).astype(np.uint8).reshape(*images.shape[:3], 1)
    edges = orientation_histogram(levels, 9, (8, 8)).reshape(len(images), -1)
    hue = Colour("hsv", bins=HUE_BINS, grid=1, soft=False, root=False).fit(images[:1], rng).transform(images)
    return np.hstack([edges, hue[:, :HUE_BINS]]).astype(np.float32)


def lecture(data: Data) -> Result:
    result = Result("lecture", "HOG 144 + hue 10, standardised, linear SVM (squared hinge)")
    with result.stage("features"):
        Z, T = lecture_features(data.train), lecture_features(data.test)
    result.n_features = Z.shape[1]
    fitted = ~data.held_out

    with result.stage("choice"):
        rows, others = Z[fitted], Z[data.held_out]
        standardise(others, *standardise(rows))
        C = choose(result, result.recipe, "squared_hinge", LECTURE_CS, rows, others, data)[1]
    with result.stage("fit"):
        standardise(T, *standardise(Z))
        finish(result, "squared_hinge", C, Z, T, data)
    return result


def strongest(data: Data) -> Result:
    result = Result("strongest")
    parts: dict[str, tuple[Representation, np.ndarray]] = {}
    best, C = choose_candidate(result, data, parts)
    result.recipe = f"{best}, averaged over mirror images, standardised, softmax with C = {C:g}"
    with result.stage("features"):
        used = [parts[part] for part in best.split("+")]
        parts.clear()
        Z = np.hstack([values for _, values in used])
        T = np.hstack([phi.transform(data.test) for phi, _ in used])
        del used
        standardise(T, *standardise(Z))
    result.n_features = Z.shape[1]
    with result.stage("fit"):
        finish(result, "cross_entropy", C, Z, T, data)
    return result


def choose_candidate(
    result: Result, data: Data, parts: dict[str, tuple[Representation, np.ndarray]]
) -> tuple[str, float]:
    """The sum of parts, and C, with the most right answers on the held-out images.

    Each part is fitted to the other images and computed once, for all training images; `parts` keeps them.
    """
    fitted = ~data.held_out
    best = (-1, "", 0.0)
    for text in CANDIDATES:
        names = text.split("+")
        for part in names:
            if part not in parts:
                with result.stage(part):
                    phi = Averaged(parse_phi(part), Views(flip=True))
                    phi = phi.fit(data.train[fitted], np.random.default_rng(SEED))
                    parts[part] = phi, phi.transform(data.train)
        with result.stage("candidates"):
            Z = np.hstack([parts[part][1][fitted] for part in names])
            V = np.hstack([parts[part][1][data.held_out] for part in names])
            standardise(V, *standardise(Z))
            right, C = choose(result, text, "cross_entropy", CS, Z, V, data)
            del Z, V  # gigabytes that the next candidate does not need beside its own
        best = max(best, (right, text, C))
    return best[1:]


def standardise(
    Z: np.ndarray, mean: np.ndarray | None = None, scale: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Bring every column to mean 0 and variance 1, by its own statistics or by those given; in place."""
    mean = Z.mean(axis=0, dtype=np.float64).astype(np.float32) if mean is None else mean
    Z -= mean
    if scale is None:
        scale = np.sqrt(np.einsum("ij,ij->j", Z, Z) / len(Z))
        scale = np.where(scale > 1e-6, scale, 1).astype(np.float32)
    Z /= scale
    return mean, scale


def choose(
    result: Result, recipe: str, loss: str, Cs: Sequence[float], Z: np.ndarray, V: np.ndarray, data: Data
) -> tuple[int, float]:
    """Right answers on the held-out images and C, of the best C."""
    y, v = data.y[~data.held_out], data.y[data.held_out]
    path = regularisation_path(Z, y, V, v, data.n_classes, loss, Cs, tol=1e-3)
    tried = [(point.val_accuracy[0], point.C) for point in path.points]
    for right, C in tried:
        result.tries.append((recipe, C, accuracy(right, len(v))))
        print(f"  {recipe}: C = {C:g}, {accuracy(right, len(v))}", file=sys.stderr, flush=True)
    right, C = max(tried)
    if right >= max((int(text.split("/")[0]) for _, _, text in result.tries), default=0):
        result.validation = accuracy(right, len(v))
    return right, C


def finish(result: Result, loss: str, C: float, Z: np.ndarray, T: np.ndarray, data: Data) -> None:
    """Fit to all training images and look at the test images."""
    found = fit_linear(Z, data.y, data.n_classes, loss, l2=1.0 / (C * len(Z)), tol=1e-3)
    predicted = scores(T, found.W, found.b).argmax(axis=1)
    result.k, result.n = int((predicted == data.y_test).sum()), len(data.y_test)
    result.test = accuracy(result.k, result.n)


def accuracy(k: int, n: int) -> str:
    share = Proportion(k, n)
    return f"{k}/{n} = {100 * share.value:.2f}% [{100 * share.low:.2f}, {100 * share.high:.2f}]"


ROWS = {"lecture": lecture, "strongest": strongest}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cifar", help="folder of CIFAR-10")
    parser.add_argument("--only", choices=sorted(ROWS), help="one row")
    parser.add_argument("--out", type=Path, default=Path("runs/experiments"), help="folder for the results")
    options = parser.parse_args(argv)
    data = read(options.cifar)
    facts = environment()
    print(f"CIFAR-10 {len(data.train)} + {len(data.test)} images, sha256 {data.sha256[:16]}; seed {SEED}")
    print(", ".join(f"{name} {facts[name]}" for name in ("processor", "cores", "python", "numpy", "lastlayer")))
    results = [row(data) for name, row in ROWS.items() if options.only in (None, name)]
    print(show.table(("recipe tried", "C", "right, held-out images"), [t for r in results for t in r.tries]))
    head = ("row", "features", "held-out images", "test images", "recipe")
    print("\n" + show.table(head, [(r.row, r.n_features, r.validation, r.test, r.recipe) for r in results]))
    for r in results:
        print(f"\nseconds, {r.row}: " + ", ".join(f"{name} {took:g}" for name, took in r.seconds.items()))
    options.out.mkdir(parents=True, exist_ok=True)
    kept = {"data_sha256": data.sha256, "seed": SEED, "environment": facts, "rows": [asdict(r) for r in results]}
    write_json(options.out / "hand_crafted_cifar.json", kept)
    print(f"\nresults: {options.out / 'hand_crafted_cifar.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
