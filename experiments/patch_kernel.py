"""Patch features and a kernel machine on all training images: how much a Gaussian adds to a linear classifier on them.

    python experiments/patch_kernel.py DATA [--phi TEXT] [--flipped TEXT] [--widths 0.4 0.8] [--alpha 0.05 …]
        [--mirror] [--views shift=1] [--rows N] [--test] [--out JSON]

The features are those of `patch_features.py`, and so is the protocol: φ is fitted on the training images but for the
last tenth of each class, which choose the kernel's width and the penalty by their squared error; with --test the
machine is fitted again on all training images, and the test images are scored, once.

    k(x, z) = exp(-w ‖φ(x) - φ(z)‖² / m),    m the median of ‖φ(x) - φ(z)‖² over pairs of training images

With --mirror the kernel, not the features, is averaged over mirror images (`mirror_kernel.py`); it takes one width, and
features that tell an image from its mirror image: `patches:mirror=false`. With --views scores of the held-out
images, with --test those of the test images, are averaged over these views: features and kernel values for each.

Every training image has a coefficient: N² kernel values are held (10 GB for 50,000 images), computed once for training
and validation images together, and squared in place for the next width (widths are to double). With squared loss and
conjugate gradients (`selection.kernel_ridge`); `alpha` is λN, to be compared with k(x, x) = 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lastlayer._arrays import Array, Float64, FloatArray, UInt8
from lastlayer._progress import stderr_progress
from lastlayer.representations.gram import gram, gram_scores
from lastlayer.representations.kernels import RBF, Kernel
from lastlayer.representations.views import Views
from lastlayer.selection.kernel_ridge import KernelRidgeFit, fit_kernel_ridge, one_hot
from mirror_kernel import MirrorRBF, prepare_even_odd
from patch_features import Clock, Prepared, as_bytes, prepare, read, report, right

PHI = "patches2:filters=2048,stem=256"
FLIPPED = "hog+colour+words:600,grid=3+words:400,of=colour,grid=3"
MEDIAN_ROWS = 1000


def median_distance(U: UInt8, rng: np.random.Generator) -> float:
    """Median squared distance of pairs among `MEDIAN_ROWS` rows."""
    some = U[rng.permutation(len(U))[:MEDIAN_ROWS]].astype(np.float32)
    some -= some.mean(axis=0)
    squares = np.einsum("ij,ij->i", some, some)
    distances = squares[:, None] + squares - 2 * some @ some.T
    return float(np.median(distances[np.triu_indices(len(some), 1)]))


def squared_error(z: Float64, T: Float64) -> float:
    """Mean over images of ½‖z - t‖²."""
    return float(0.5 * np.square(z - T).sum(axis=1).mean())


def choose(
    K: FloatArray, T: Float64, y: Array, n: int, widths: Sequence[float], alphas: Sequence[float], gap: float
) -> tuple[list[dict[str, object]], int, float, KernelRidgeFit]:
    """Trials of every width and penalty, and the best: index of the width, alpha and fit; K ends at the last width."""
    trials: list[dict[str, object]] = []
    best: tuple[float, int, float, KernelRidgeFit] | None = None
    for index, width in enumerate(widths):
        if index:
            np.multiply(K, K, out=K)
        fit = None
        for alpha in sorted(alphas, reverse=True):
            fit = fit_kernel_ridge(K[:n, :n], T[:n], l2=alpha / n, gap=gap, start=fit, progress=stderr_progress())
            z = K[n:, :n] @ fit.dual.astype(np.float32) + fit.bias
            error, hits = squared_error(z, T[n:]), right(z, y[n:])
            trials.append(
                {
                    "width": width, "alpha": alpha, "validation": str(hits), "error": error, "gap": fit.gap,
                    "passes": fit.passes,
                }
            )  # fmt: skip
            print(f"  {trials[-1]}", file=sys.stderr, flush=True)
            if best is None or error < best[0]:
                best = error, index, alpha, fit
    assert best is not None
    return trials, *best[1:]


def seen_scores(kernel: Kernel, made: Prepared, fit: KernelRidgeFit, X: UInt8, views: Views) -> Float64:
    """Scores of X by the rows that were fitted, averaged over the views."""
    U, total = made.U[: len(fit.dual)], np.zeros((len(X), fit.dual.shape[1]))
    for seen in views.of(X):
        new = as_bytes(made.phi, made.rounded, np.ascontiguousarray(seen))
        total += gram_scores(kernel, U, fit.dual, fit.bias, new, progress=stderr_progress())
    return total / len(views)


def run(
    data: Path, text: str, flipped: str, widths: Sequence[float], alphas: Sequence[float], seed: int, test: bool,
    gap: float = 1e-3, mirror: bool = False, views: str = "", rows: int | None = None,
) -> dict[str, object]:  # fmt: skip
    """One φ, the chosen kernel machine, and what came of it."""
    clock = Clock()
    rng = np.random.default_rng(seed)
    looks = Views.parse(views)
    if mirror:
        made = prepare_even_odd(data, "+".join(filter(None, (flipped, text))), seed, rng, clock, rows)
    else:
        made = prepare(data, text, flipped, seed, rng, clock)
    U, t, n = made.U, made.y, made.n
    T = one_hot(t, int(t.max()) + 1)
    median = median_distance(U[:n], rng)
    shape = MirrorRBF if mirror else RBF
    K = gram(shape(widths[0] / median), U, progress=stderr_progress())
    clock.lap("kernel")
    trials, index, alpha, fit = choose(K, T, t, n, widths, alphas, gap)
    clock.lap("choice")
    found: dict[str, object] = {
        "phi": text, "flipped": flipped, "features": made.phi.n_features, "seed": seed, "trials": trials,
        "width": widths[index], "alpha": alpha, "mirror": mirror, "views": views,
    }  # fmt: skip
    kernel = shape(widths[index] / median)
    if len(looks) > 1 and not test:
        found["validation_views"] = str(right(seen_scores(kernel, made, fit, made.held, looks), t[n:]))
        clock.lap("views")
    if test:
        if index + 1 < len(widths):  # squaring is not undone without loss: the roots of float32 values near 0 are
            np.power(K, np.float32(widths[index] / widths[-1]), out=K)  # those of the rounded ones, far below 1e-6
        start = replace(fit, dual=np.vstack([fit.dual, np.zeros((len(t) - n, T.shape[1]))]))
        whole = fit_kernel_ridge(K, T, l2=alpha / n, gap=gap, start=start, progress=stderr_progress())
        del K
        clock.lap("refit")
        X_test, y_test = read(data, "test")
        z = seen_scores(kernel, made, whole, X_test, looks)
        found |= {"test": str(right(z, y_test)), "gap": whole.gap}
        clock.lap("test")
    return found | {"seconds": clock.seconds, "total": round(clock.last - clock.start, 1)}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--phi", default=PHI)
    parser.add_argument("--flipped", default=FLIPPED, help="a further φ, averaged over each image and its mirror image")
    parser.add_argument("--widths", type=float, nargs="+", default=[0.4, 0.8])
    parser.add_argument("--alpha", type=float, nargs="+", default=[0.05, 0.1, 0.2])
    parser.add_argument("--mirror", action="store_true", help="average the kernel over mirror images")
    parser.add_argument("--views", default="", help="views whose scores are averaged: flip, shift=1 or both")
    parser.add_argument("--rows", type=int, help="fit this many images beside those held out; with --mirror")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--test", action="store_true")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(argv)
    if any(abs(b / a - 2) > 1e-9 for a, b in zip(given.widths, given.widths[1:], strict=False)):
        parser.error("every width must be twice the one before")
    if given.mirror and len(given.widths) > 1:
        parser.error("--mirror takes one width: a mean of kernels cannot be squared in place")
    if given.rows is not None and not given.mirror:
        parser.error("--rows goes with --mirror")
    found = run(
        given.data, given.phi, given.flipped, given.widths, given.alpha, given.seed, given.test,
        mirror=given.mirror, views=given.views, rows=given.rows,
    )  # fmt: skip
    report(found, given.out)


if __name__ == "__main__":
    main()
