"""The problems of `make bench-solvers`: what is minimised, over which rows, to which gap, and who is asked.

Data
----
mnist, cifar : training images, pixels / 255 as float32 (60,000 × 784, 50,000 × 3072), rows in one seeded shuffle. From
    folders with train/CLASS/*, decoded as `lastlayer train` does, or from arrays {mnist,cifar}_train.npy and
    {mnist,cifar}_train_y.npy (uint8) in one folder.
hog : `parse_phi("hog")` of the CIFAR images, columns standardised as `lastlayer train` does.
probe : 50,000 × 512, 200 classes: z = Σ^½ (g + ½ m_y), Σ = diag(j⁻¹), j = 1..512, g and m_1..m_200 standard normal,
    y uniform (a Gaussian mixture of one covariance, hence exactly a softmax teacher), seed 0.
steep : the same with Σ = diag(j⁻²): singular values, not variances, that fall as 1/j.
dinov2 : 50,000 × 768, 10 classes, likewise with 0.15 m_y, which leaves about 1% of the rows on the wrong side, and
    Σ scaled to a mean variance of 1, seed 0.

`scale` keeps that share of the rows (the first ones), for trials of the harness.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]
CS = tuple(float(c) for c in np.logspace(-4, 2, 10))
"""The grid of `LogisticRegressionCV`: the default grid of `lastlayer train`, ten values from 1e-4 to 1e2."""
ALPHAS = tuple(float(a) for a in np.logspace(-3, 5, 50))
"""Fifty penalties of ridge regression in scikit-learn's units, α = λN."""

LOGISTIC = (
    "sklearn-lbfgs",
    "sklearn-newton-cg",
    "sklearn-newton-cholesky",
    "sklearn-saga",
    "sklearnex-lbfgs",
    "torch-lbfgs-10",
    "torch-lbfgs-100",
)


@dataclass(frozen=True)
class Problem:
    """One row of the issue's table.

    Attributes
    ----------
    name, title : str
    data : str
        A key of `BUILDERS`.
    kind : str
        "fit": one objective, times to gaps; "cv", "ridge", "protocol": whole tasks.
    loss : str
    l2 : float
        λ of ``mean loss + (λ/2)‖W‖²``.
    bias : bool
        Whether there is an (unpenalised) bias. LIBLINEAR can only penalise it, so its rows have none, for anybody.
    targets : dict
        Gap -> how many times faster than the best peer is asked for (None: for information).
    peers : tuple of str
    """

    name: str
    title: str
    data: str
    kind: str = "fit"
    loss: str = "cross_entropy"
    l2: float = 1e-4
    bias: bool = True
    targets: dict[float, float | None] = field(default_factory=dict)
    peers: tuple[str, ...] = LOGISTIC


_SVM = ("liblinear-primal", "liblinear-dual")

PROBLEMS = (
    Problem("cifar", "CIFAR-10-JPEG pixels, λ = 1e-4", "cifar", targets={1e-4: 100.0}),
    Problem("mnist", "MNIST pixels, λ = 1e-4", "mnist", targets={1e-4: 6.0, 1e-6: 6.0}),
    Problem("mnist-weak", "MNIST pixels, λ = 1e-6", "mnist", l2=1e-6, targets={1e-4: 6.0, 1e-6: 6.0}),
    Problem("hog", "HOG of CIFAR-10-JPEG, λ = 1e-4", "hog", targets={1e-4: 20.0}),
    Problem("probe", "synthetic probe, 200 classes, λ = 1e-3", "probe", l2=1e-3, targets={1e-4: 50.0}),
    Problem("probe-weak", "synthetic probe, 200 classes, λ = 1e-5", "probe", l2=1e-5, targets={1e-4: 50.0}),
    Problem("steep", "the same, variances as 1/j², λ = 1e-3", "steep", l2=1e-3, targets={1e-4: 50.0}),
    Problem("steep-weak", "the same, variances as 1/j², λ = 1e-5", "steep", l2=1e-5, targets={1e-4: 50.0}),
    Problem(
        "cv", "LogisticRegressionCV, 10 C × 5 folds, MNIST", "mnist", "cv", targets={1e-4: 40.0}, peers=("sklearn-cv",)
    ),
    Problem(
        "svm-mnist",
        "LinearSVC squared hinge, MNIST, λ = 1e-4, no bias",
        "mnist",
        loss="squared_hinge",
        bias=False,
        targets={1e-4: 10.0},
        peers=_SVM,
    ),
    Problem(
        "svm-cifar",
        "LinearSVC squared hinge, CIFAR, λ = 1e-4, no bias",
        "cifar",
        loss="squared_hinge",
        bias=False,
        targets={1e-4: 10.0},
        peers=_SVM,
    ),
    Problem(
        "hinge",
        "plain hinge, MNIST, λ = 1e-4, no bias",
        "mnist",
        loss="hinge",
        bias=False,
        targets={1e-2: None, 1e-3: None},
        peers=("liblinear-dual",),
    ),
    Problem(
        "ridge", "ridge, 50 λ, leave-one-out, CIFAR", "cifar", "ridge", targets={0.0: 20.0}, peers=("sklearn-ridge",)
    ),
    Problem("dinov2", "DINOv2 protocol, 50,000 × 768 × 10", "dinov2", "protocol", targets={60.0: None}, peers=()),
)


@dataclass(frozen=True)
class Source:
    """Where images come from, where built arrays are kept, and the share of rows in use."""

    work: Path
    arrays: Path | None = None
    mnist: Path | None = None
    cifar: Path | None = None
    scale: float = 1.0

    def rows(self, n: int) -> int:
        """How many of n rows are used."""
        return max(400, round(n * self.scale)) if self.scale < 1 else n


def images(source: Source, name: str) -> tuple[Array, Array]:
    """Training images uint8 and labels in one seeded shuffle, from arrays or from a folder (then kept under `work`)."""
    X, y = _images(source, name)
    order = np.random.default_rng(0).permutation(len(y))
    return X[order], y[order]


def _images(source: Source, name: str) -> tuple[Array, Array]:
    kept = source.work / "images"
    for folder in (source.arrays, kept):
        if folder is not None and (folder / f"{name}_train_y.npy").is_file():
            return np.load(folder / f"{name}_train.npy"), np.load(folder / f"{name}_train_y.npy")
    given = source.mnist if name == "mnist" else source.cifar
    if given is None:
        raise FileNotFoundError(f"{name}: give --{name} FOLDER (with train/CLASS/*) or --arrays FOLDER")
    X, y = _decode(given, channels=1 if name == "mnist" else 3)
    kept.mkdir(parents=True, exist_ok=True)
    np.save(kept / f"{name}_train.npy", X)
    np.save(kept / f"{name}_train_y.npy", y)
    return X, y


def _decode(folder: Path, channels: int) -> tuple[Array, Array]:
    from lastlayer.data.dataset import TRAIN
    from lastlayer.data.images import ImageFormat
    from lastlayer.data.sources import open_dataset

    dataset = open_dataset(folder)
    rows = np.flatnonzero(dataset.given == TRAIN)
    first = dataset.images.sample(rows[:1])[0]
    decoded = dataset.images.read(rows, ImageFormat(first.height, first.width, channels))
    if not decoded.readable.all():
        raise ValueError(f"{folder}: {int((~decoded.readable).sum())} images cannot be read")
    return decoded.pixels, dataset.labels[rows].astype(np.int32)


def _pixels(name: str) -> Callable[[Source], tuple[Array, Array]]:
    def build(source: Source) -> tuple[Array, Array]:
        X, y = images(source, name)
        n = source.rows(len(X))
        return X[:n].reshape(n, -1) / np.float32(255), y[:n]

    return build


def _hog(source: Source) -> tuple[Array, Array]:
    from lastlayer.representations import Standardised, parse_phi

    X, y = images(source, "cifar")
    n = source.rows(len(X))
    phi = parse_phi("hog").fit(X[:n], np.random.default_rng(0))
    Z = np.concatenate([phi.transform(X[start : min(start + 4096, n)]) for start in range(0, n, 4096)])
    return Standardised.from_features(phi, Z).apply(Z), y[:n]


def _mixture(
    n: int, d: int, k: int, separation: float, mean_variance: float | None = None, decay: float = 1.0
) -> Callable[[Source], tuple[Array, Array]]:
    def build(source: Source) -> tuple[Array, Array]:
        rows = source.rows(n)
        classes = k if rows >= 50 * k else max(2, rows // 50)
        rng = np.random.default_rng(0)
        root = np.arange(1, d + 1) ** (-0.5 * decay)
        if mean_variance is not None:
            root *= np.sqrt(mean_variance / np.mean(root**2))
        means = separation * rng.standard_normal((classes, d), dtype=np.float32) * root
        y = rng.integers(0, classes, rows)
        Z = rng.standard_normal((rows, d), dtype=np.float32) * root + means[y]
        return Z.astype(np.float32), y.astype(np.int32)

    return build


BUILDERS: dict[str, Callable[[Source], tuple[Array, Array]]] = {
    "mnist": _pixels("mnist"),
    "cifar": _pixels("cifar"),
    "hog": _hog,
    "probe": _mixture(50_000, 512, 200, 0.5),
    "steep": _mixture(50_000, 512, 200, 0.5, decay=2.0),
    "dinov2": _mixture(50_000, 768, 10, 0.15, mean_variance=1.0),
}


@dataclass(frozen=True)
class Built:
    """Arrays on disk, and a digest of their content."""

    X: Path
    y: Path
    digest: str
    shape: tuple[int, int]
    n_classes: int


def build(data: str, source: Source) -> Built:
    """The arrays of one data set as .npy files under `work`, built once."""
    folder = source.work / "arrays"
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{data}-{source.scale:g}"
    built = Built(folder / f"{stem}_X.npy", folder / f"{stem}_y.npy", "", (0, 0), 0)
    facts = folder / f"{stem}.json"
    if not facts.is_file():
        X, y = BUILDERS[data](source)
        X = np.ascontiguousarray(X, dtype=np.float32)
        np.save(built.X, X)
        np.save(built.y, y)
        digest = hashlib.sha256(X.tobytes() + np.ascontiguousarray(y, dtype=np.int32).tobytes()).hexdigest()
        found = {"digest": digest, "shape": list(X.shape), "n_classes": int(y.max()) + 1}
        facts.write_text(json.dumps(found))
    found = json.loads(facts.read_text())
    return Built(built.X, built.y, found["digest"], tuple(found["shape"]), found["n_classes"])
