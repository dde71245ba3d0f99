"""Which planted faults are found: wrong labels, copies across a split, a mark that gives the class away.

    python experiments/planted_truth.py [--out DIR] [--data NAME=FOLDER ...] [--images N] [--only PART ...]

FOLDER has class folders (of its train and test sides only train is used); without --data the digits of scikit-learn.
PART is labels, copies or marks; all of them when it is not given.

Wrong labels: 5% are changed to another class. `find_label_issues` sees the out-of-fold probabilities of the
cross-validation that chose C; so does cleanlab, where it is installed. Copies: images saved again as JPEG, resized,
moved by a pixel or made brighter. Mark: a coloured corner, another colour for each class, or on one class alone. All is
also looked for where none was planted. Copies are put on the other side of a split, and the split that `train` would
draw must hold none on two sides. No threshold was chosen on the digits or on test images of MNIST and CIFAR-10.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

import show
from lastlayer.data.dataset import Dataset
from lastlayer.data.images import ImageFormat
from lastlayer.data.near_duplicates import find_near_duplicates
from lastlayer.data.sources import open_dataset
from lastlayer.data.splits import make_split
from lastlayer.evaluation.label_issues import find_label_issues, normalised_margin
from lastlayer.evaluation.shortcut_checks import region_shortcuts
from lastlayer.evaluation.shortcuts import draw_folds
from lastlayer.pipeline.suspects import CHECK_CS, cross_validated_probabilities
from lastlayer.representations.specs import parse_phi

SHARE = 0.05
COPIES = 40  # of each kind
SEED = 0
PARTS = ("labels", "copies", "marks")


class Images(NamedTuple):
    name: str
    pixels: np.ndarray
    labels: np.ndarray

    @property
    def n_classes(self) -> int:
        return int(self.labels.max()) + 1


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    stream = io.BytesIO()
    as_picture(image).save(stream, "JPEG", quality=quality)
    return as_pixels(Image.open(stream), image)


def resized(image: np.ndarray, factor: float) -> np.ndarray:
    height, width = image.shape[:2]
    other = as_picture(image).resize((round(width * factor), round(height * factor)), Image.Resampling.BILINEAR)
    return as_pixels(other.resize((width, height), Image.Resampling.BILINEAR), image)


def cropped(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    part = as_picture(image).crop((1, 1, width - 1, height - 1))
    return as_pixels(part.resize((width, height), Image.Resampling.BILINEAR), image)


def moved(image: np.ndarray, rows: int, columns: int) -> np.ndarray:
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
    return padded[1 - rows :, 1 - columns :][: image.shape[0], : image.shape[1]]


def brighter(image: np.ndarray, factor: float) -> np.ndarray:
    return np.clip(np.rint(image * factor), 0, 255).astype(np.uint8)


def as_picture(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)


def as_pixels(picture: Image.Image, like: np.ndarray) -> np.ndarray:
    return np.asarray(picture.convert("L" if like.shape[2] == 1 else "RGB")).reshape(like.shape)


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "JPEG, quality 90": lambda image: jpeg(image, 90),
    "JPEG, quality 75": lambda image: jpeg(image, 75),
    "JPEG, quality 50": lambda image: jpeg(image, 50),
    "resized to 75%": lambda image: resized(image, 0.75),
    "resized to 150%": lambda image: resized(image, 1.5),
    "resized to 200%": lambda image: resized(image, 2.0),
    "moved by 1 pixel": lambda image: moved(image, 0, 1),
    "moved by 1, 1 pixel": lambda image: moved(image, 1, -1),
    "brightness 80%": lambda image: brighter(image, 0.8),
    "brightness 120%": lambda image: brighter(image, 1.2),
    "cropped by 1 pixel": cropped,
}


class Labels(NamedTuple):
    data: str
    method: str
    planted: int
    suspected: int
    precision: float
    recall: float
    top: float  # share of the planted among as many of the most suspicious
    seconds: float  # beyond the cross-validation


class Copies(NamedTuple):
    data: str
    change: str
    planted: int
    found: int


class Marks(NamedTuple):
    data: str
    planted: str
    reported: str


def with_wrong_labels(images: Images, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Labels of which `SHARE` were changed, and which."""
    wrong = np.zeros(len(images.labels), dtype=bool)
    wrong[rng.choice(len(wrong), round(SHARE * len(wrong)), replace=False)] = True
    other = (images.labels + rng.integers(1, images.n_classes, len(wrong))) % images.n_classes
    return np.where(wrong, other, images.labels), wrong


def labels_found(images: Images) -> tuple[list[Labels], np.ndarray, np.ndarray]:
    """Every method on the same out-of-fold probabilities; also the order of suspicion and what was planted."""
    given, wrong = with_wrong_labels(images, np.random.default_rng(SEED))
    phi = parse_phi("hog" if images.pixels.shape[3] == 1 else "hog+colour")
    Z = phi.fit(images.pixels, np.random.default_rng(SEED)).transform(images.pixels)
    Z = np.ascontiguousarray((Z - Z.mean(axis=0)) / np.maximum(Z.std(axis=0), 1e-6), dtype=np.float32)
    began = time.perf_counter()
    p, _ = cross_validated_probabilities(Z, given, images.n_classes, seed=SEED)
    choosing = time.perf_counter() - began
    began = time.perf_counter()
    found = find_label_issues(given, p)
    extra = time.perf_counter() - began
    print(f"{images.name}: {len(CHECK_CS)} values of C cross-validated, probabilities with them, in {choosing:.1f} s")
    rows = [_labels(images.name, "lastlayer", wrong, found.suspect, found.ranked, extra)]
    rows += _cleanlab(images.name, given, p, wrong)
    return rows, wrong[np.argsort(normalised_margin(given, p), kind="stable")], wrong


def _labels(
    data: str, method: str, wrong: np.ndarray, suspect: np.ndarray, ranked: np.ndarray, seconds: float
) -> Labels:
    hits, planted, suspected = int((suspect & wrong).sum()), int(wrong.sum()), int(suspect.sum())
    top = float(wrong[ranked[:planted]].mean())
    return Labels(data, method, planted, suspected, hits / max(suspected, 1), hits / planted, top, seconds)


def _cleanlab(data: str, given: np.ndarray, p: np.ndarray, wrong: np.ndarray) -> list[Labels]:
    try:
        from cleanlab import __version__
        from cleanlab.filter import find_label_issues as theirs
        from cleanlab.rank import get_label_quality_scores
    except ImportError:
        return []
    began = time.perf_counter()
    suspect = theirs(given, p, filter_by="prune_by_noise_rate", n_jobs=1)
    ranked = np.argsort(get_label_quality_scores(given, p, method="normalized_margin"), kind="stable")
    seconds = time.perf_counter() - began
    return [_labels(data, f"cleanlab {__version__}, the same probabilities", wrong, suspect, ranked, seconds)]


def copies_found(images: Images) -> tuple[list[Copies], float]:
    """Copies of every kind put beside the images; and images called copies where none were planted.

    Then the split is drawn with the groups found: how many planted pairs lie on two sides, and how many without them.
    """
    rng = np.random.default_rng(SEED)
    source = rng.choice(len(images.labels), COPIES * len(CHANGES), replace=False)
    made = [change(images.pixels[row]) for row, change in zip(source, np.repeat(list(CHANGES.values()), COPIES))]
    pixels = np.concatenate([images.pixels, np.stack(made)])
    began = time.perf_counter()
    clean = find_near_duplicates(images.pixels, images.labels)
    seconds = time.perf_counter() - began
    near = find_near_duplicates(pixels, np.concatenate([images.labels, images.labels[source]])).group
    hit = (near[source] >= 0) & (near[source] == near[len(images.labels) :])
    rows = [
        Copies(images.name, name, COPIES, int(hit[COPIES * k : COPIES * (k + 1)].sum()))
        for k, name in enumerate(CHANGES)
    ]
    rows += [Copies(images.name, "none planted: called copies", 0, int((clean.group >= 0).sum()))]
    both = np.concatenate([images.labels, images.labels[source]])
    for name, groups in (("parted by a split drawn without groups", None), ("parted by the split of train", near)):
        rows.append(Copies(images.name, name, len(source), _parted(both, pixels, groups, source)))
    return rows, seconds


def _parted(labels: np.ndarray, pixels: np.ndarray, groups: np.ndarray | None, source: np.ndarray) -> int:
    """Planted pairs on two sides of a 70/15/15 split."""
    digests = [hashlib.sha256(image.tobytes()).digest() for image in pixels]
    split, _ = make_split(
        labels.astype(np.int32),
        np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32),
        given=np.zeros(len(labels), np.uint8),
        groups=groups,
        readable=np.ones(len(labels), bool),
        seed=SEED,
    )
    return int((split.side[source] != split.side[len(labels) - len(source) :]).sum())


def marks_found(images: Images) -> list[Marks]:
    """Corners of a colour for each class, for one class alone, for half of its images; and none."""
    rng = np.random.default_rng(SEED)
    folds = draw_folds(np.arange(len(images.labels)))
    rows = []
    for planted, classes, share in (
        ("none", [], 0.0),
        ("corner, a colour for each class", range(images.n_classes), 1.0),
        ("corner, class 4 alone", [4], 1.0),
        ("corner, half of class 4", [4], 0.5),
    ):
        pixels = images.pixels.copy()
        size = max(1, pixels.shape[1] // 9)
        for k in classes:
            which = (images.labels == k) & (rng.random(len(pixels)) < share)
            pixels[which, :size, -size:] = np.array([40 + 20 * k, 240 - 20 * k, (90 * k) % 256])[: pixels.shape[3]]
        found = region_shortcuts(pixels, np.arange(len(pixels)), images.labels, folds, images.n_classes)
        told = "; ".join(f"{one.what}: {one.table.accuracy}, classes {one.classes.tolist()}" for one in found)
        rows.append(Marks(images.name, planted, told or "nothing"))
    return rows


def load(name: str, source: str, most: int) -> Images:
    """At most so many images of a source that is given to `train`; those of a training side where it has one."""
    dataset: Dataset = open_dataset(source)
    rows = np.flatnonzero(dataset.labels >= 0)
    if (dataset.given[rows] == 1).any():
        rows = rows[dataset.given[rows] == 1]
    rows = np.sort(np.random.default_rng(SEED).permutation(rows)[:most])
    one = dataset.images.sample(rows[:1])[0]
    shape = ImageFormat(one.height, one.width, 1 if one.gray else 3)
    return Images(name, dataset.images.read(rows, shape).pixels, dataset.labels[rows].astype(np.int64))


def main(argv: Sequence[str] | None = None) -> int:
    """Print the three tables and save the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/experiments"), help="folder for figures")
    parser.add_argument("--data", action="append", default=[], help="NAME=FOLDER, may be repeated")
    parser.add_argument("--images", type=int, default=60_000, help="most images of each")
    parser.add_argument("--only", action="append", choices=PARTS, help="one part; may be repeated [all]")
    asked = parser.parse_args(argv)
    asked.out.mkdir(parents=True, exist_ok=True)
    sources = [pair.split("=", 1) for pair in asked.data] or [["digits", "demo:digits"]]
    curves: dict[str, np.ndarray] = {}
    labels: list[Labels] = []
    copies: list[Copies] = []
    marks: list[Marks] = []
    parts = asked.only or PARTS
    for name, source in sources:
        images = load(name, source, asked.images)
        if "labels" in parts:
            rows, order, _ = labels_found(images)
            labels += rows
            curves[name] = np.cumsum(order) / order.sum()
        if "copies" in parts:
            found, seconds = copies_found(images)
            copies += found
            print(f"{name}: {len(images.labels):,} images, near duplicates looked for in {seconds:.1f} s")
        if "marks" in parts:
            marks += marks_found(images)
    for rows, head in ((labels, Labels._fields), (copies, Copies._fields), (marks, Marks._fields)):
        if rows:
            print("\n" + show.table(head, rows))
    if curves:
        show.save(_figure(curves), asked.out, "planted_truth")
    return 0


def _figure(curves: dict[str, np.ndarray]) -> Figure:
    figure = Figure(figsize=(6, 4), dpi=100, layout="constrained")
    axes = figure.subplots()
    for name, recall in curves.items():
        axes.plot(np.arange(1, len(recall) + 1) / len(recall), recall, label=name)
    axes.axvline(SHARE, color="0.6", linewidth=0.8)
    axes.set(xlabel="share of the images looked at, most suspicious first", ylabel="share of wrong labels found")
    axes.set_xlim(0, 4 * SHARE)
    axes.legend()
    return figure


if __name__ == "__main__":
    sys.exit(main())
