"""Patch features and a linear classifier: how far one goes without backpropagation in so many minutes.

    python experiments/patch_features.py DATA [--phi TEXT] [--flipped TEXT] [--C 1e-3 …] [--loss LOSS]
        [--views shift=1] [--test] [--out JSON]

DATA is a folder with train/CLASS/* and test/CLASS/*. Without --test nothing of the test images is read: φ is fitted on
the training images but for the last tenth of each class, λ is chosen on that tenth, and its score printed. With --test
the weights are fitted again on all training images at the chosen C, and the test images are scored, once. With --views
scores of held-out and test images are averaged over these views; their features are computed for each.

Features are kept as bytes (`representations.compact`), a quarter of float32's memory.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lastlayer._files import write_json
from lastlayer.data.dataset import TEST, TRAIN
from lastlayer.data.images import ImageFormat
from lastlayer.data.sources import open_dataset
from lastlayer.evaluation.intervals import Proportion
from lastlayer.linear import scores
from lastlayer.pipeline.environment import environment
from lastlayer.representations import Concatenate, Representation, parse_phi
from lastlayer.representations.compact import STEPS, Rounded
from lastlayer.representations.standardise import Standardised
from lastlayer.representations.views import Averaged, Views
from lastlayer.selection.fit import fit_linear
from lastlayer.selection.path import regularisation_path

BATCH = 512
MOMENT_ROWS = 8192
LOSSES = ("cross_entropy", "squared_hinge")


class Clock:
    """Seconds of every stage, said as they end."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.start = self.last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = round(now - self.last, 1)
        self.last = now
        print(f"{stage:10} {self.seconds[stage]:7.1f} s", file=sys.stderr, flush=True)


def read(data: Path, side: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of one side, in the order of the files."""
    dataset = open_dataset(str(data))
    rows = np.flatnonzero(dataset.given == {"train": TRAIN, "test": TEST}[side])
    first = dataset.images.sample(rows[:1])[0]
    decoded = dataset.images.read(rows, ImageFormat(first.height, first.width, 1 if first.gray else 3))
    if not len(rows) or not decoded.readable.all():
        raise SystemExit(f"{data}: {len(rows)} images in {side}, {int((~decoded.readable).sum())} of them unreadable")
    return decoded.pixels, dataset.labels[rows]


def last_tenth(y: np.ndarray) -> np.ndarray:
    """Rows of the last tenth of each class."""
    return np.concatenate([rows[-(len(rows) // 10) :] for rows in (np.flatnonzero(y == k) for k in np.unique(y))])


def as_bytes(phi: Representation, rounded: Rounded, X: np.ndarray) -> np.ndarray:
    """Features of X as bytes, batch by batch."""
    out = np.empty((len(X), phi.n_features), np.uint8)
    begin = said = time.perf_counter()
    for start in range(0, len(X), BATCH):
        out[start : start + BATCH] = rounded.encode(phi.transform(X[start : start + BATCH]))
        now = time.perf_counter()
        if now - said > 20:
            left = (now - begin) * (len(X) - start - BATCH) / (start + BATCH)
            print(f"  features {start + BATCH}/{len(X)}, {left:.0f} s left", file=sys.stderr, flush=True)
            said = now
    return out


@dataclass(frozen=True)
class Prepared:
    """Features of all training images as bytes: n rows that φ was fitted on, then those held out."""

    phi: Representation
    rounded: Rounded
    U: np.ndarray
    y: np.ndarray
    n: int
    held: np.ndarray
    """The images held out."""


def prepare(data: Path, text: str, flipped: str, seed: int, rng: np.random.Generator, clock: Clock) -> Prepared:
    """Read the training images, hold out the last tenth of each class, fit φ on the others, and compute features.

    `rng` orders the images, a generator of `seed` alone fits φ.
    """
    X, y = read(data, "train")
    clock.lap("decode")
    val = last_tenth(y)
    train = rng.permutation(np.setdiff1d(np.arange(len(y)), val))
    unfitted = parse_phi(text)
    if flipped:
        unfitted = Concatenate((Averaged(parse_phi(flipped), Views.parse("flip")), unfitted))
    phi = unfitted.fit(X[np.sort(train)], np.random.default_rng(seed))
    print(phi.describe(), file=sys.stderr)
    clock.lap("fit φ")
    rounded = Rounded(Standardised.from_features(phi, phi.transform(X[train[:MOMENT_ROWS]])))
    order = np.concatenate([train, val])
    U = as_bytes(phi, rounded, X[order])
    clock.lap("features")
    return Prepared(phi, rounded, U, y[order], len(train), X[val])


def report(found: dict[str, object], out: Path | None) -> None:
    """Print what came of it, and write it with the machine's facts."""
    found["environment"] = environment()
    print({name: value for name, value in found.items() if name != "environment"})
    if out:
        write_json(out, found)


def seen_scores(
    phi: Representation, rounded: Rounded, X: np.ndarray, views: Views, W: np.ndarray, b: np.ndarray
) -> np.ndarray:
    """Scores of X, averaged over the views."""
    total = np.zeros((len(X), W.shape[1]))
    for seen in views.of(X):
        total += scores(as_bytes(phi, rounded, np.ascontiguousarray(seen)), W, b)
    return total / len(views)


def right(z: np.ndarray, y: np.ndarray) -> Proportion:
    return Proportion(int((z.argmax(axis=1) == y).sum()), len(y))


def run(
    data: Path,
    text: str,
    Cs: Sequence[float],
    seed: int,
    test: bool,
    flipped: str = "",
    views: str = "",
    loss: str = LOSSES[0],
) -> dict[str, object]:
    """One φ, chosen λ, and what came of it."""
    looks = Views.parse(views)
    clock = Clock()
    made = prepare(data, text, flipped, seed, np.random.default_rng(seed), clock)
    phi, rounded, U, t, n = made.phi, made.rounded, made.U, made.y, made.n
    classes = int(t.max()) + 1
    path = regularisation_path(U[:n], t[:n], U[n:], t[n:], classes, loss, [C / STEPS**2 for C in Cs])
    for point in path.points:
        print(
            f"  C {point.C * STEPS**2:8.2e}  train loss {point.train_loss:.4f}  validation {point.val_accuracy[0]}"
            f"/{point.val_accuracy[1]}, loss {point.val_loss:.4f}, {point.passes:.0f} passes, {point.seconds:.0f} s",
            file=sys.stderr,
        )
    best = path.points[path.best]
    clock.lap("path")
    found: dict[str, object] = {
        "phi": text,
        "flipped": flipped,
        "loss": loss,
        "features": phi.n_features,
        "seed": seed,
        "C": best.C * STEPS**2,
        "validation": str(Proportion(*best.val_accuracy)),
        "path": [(p.C * STEPS**2, p.val_accuracy, p.val_loss) for p in path.points],
    }
    if len(looks) > 1:
        W, b = path.solution.W, path.solution.b
        found |= {
            "views": views,
            "validation_views": str(right(seen_scores(phi, rounded, made.held, looks, W, b), t[n:])),
        }
        clock.lap("views")
    if test:
        fit = fit_linear(
            U,
            t,
            classes,
            loss=loss,
            l2=1 / (best.C * len(t)),
            tol=0.1,
            gap=1e-4,
            start=(path.solution.W, path.solution.b),
        )
        clock.lap("refit")
        X_test, y_test = read(data, "test")
        found["test"] = str(right(seen_scores(phi, rounded, X_test, looks, fit.weights, fit.bias), y_test))
        clock.lap("test")
    found |= {"seconds": clock.seconds, "total": round(time.perf_counter() - clock.start, 1)}
    return found


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--phi", default="patches:filters=4096")
    parser.add_argument("--C", type=float, nargs="+", default=[1e-3, 3e-3, 1e-2, 3e-2])
    parser.add_argument("--flipped", default="", help="a further φ, averaged over each image and its mirror image")
    parser.add_argument("--views", default="", help="views whose scores are averaged: flip, shift=1 or both")
    parser.add_argument("--loss", choices=LOSSES, default=LOSSES[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--test", action="store_true")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(argv)
    found = run(given.data, given.phi, given.C, given.seed, given.test, given.flipped, given.views, given.loss)
    report(found, given.out)


if __name__ == "__main__":
    main()
