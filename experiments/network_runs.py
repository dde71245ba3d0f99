"""What the experiments on networks share: data as arrays, a table, and a JSON that says where it was measured."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import show
from lastlayer._files import write_json
from lastlayer.data.dataset import TEST, TRAIN
from lastlayer.data.images import ImageFormat
from lastlayer.data.sources import open_dataset
from lastlayer.networks.checkpoint import data_digest
from lastlayer.pipeline.environment import environment


@dataclass(frozen=True)
class Data:
    """Training and validation images, the latter the last tenth of each class; test images are not read."""

    X: np.ndarray
    y: np.ndarray
    X_val: np.ndarray
    y_val: np.ndarray

    @property
    def classes(self) -> int:
        return int(self.y.max()) + 1

    def some(self, count: int, seed: int = 0) -> Data:
        """A random part of the training images, the same for the same seed."""
        rows = np.random.default_rng(seed).permutation(len(self.y))[:count]
        return Data(self.X[rows], self.y[rows], self.X_val, self.y_val)


def read(path: Path) -> Data:
    """Training images of a folder with train/CLASS/*, or planted ones for ``planted``."""
    if str(path) == "planted":
        return planted()
    dataset = open_dataset(str(path))
    rows = np.flatnonzero(dataset.given == TRAIN)
    assert TEST not in dataset.given[rows]
    first = dataset.images.sample(rows[:1])[0]
    decoded = dataset.images.read(rows, ImageFormat(first.height, first.width, 1 if first.gray else 3))
    if not len(rows) or not decoded.readable.all():
        raise SystemExit(f"{path}: no train images, or some that cannot be read")
    y = np.asarray(dataset.labels[rows])
    members = [np.flatnonzero(y == k) for k in np.unique(y)]
    val = np.concatenate([one[-max(1, len(one) // 10) :] for one in members])
    train = np.setdiff1d(np.arange(len(y)), val)
    return Data(decoded.pixels[train], y[train], decoded.pixels[val], y[val])


def planted(count: int = 400, side: int = 32, classes: int = 3, seed: int = 0) -> Data:
    """Noise with a brighter band for each class: so easy that a few steps are enough."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, count)
    X = rng.integers(0, 120, (count, side, side, 3), dtype=np.uint8)
    for k in range(classes):
        X[y == k, 8 * k : 8 * k + 8] += 60
    part = count * 3 // 4
    return Data(X[:part], y[:part], X[part:], y[part:])


def options(doc: str | None, **more: Any) -> argparse.ArgumentParser:
    """DATA, --out and --quick, and what else an experiment takes."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with train/CLASS/*, or the word planted")
    parser.add_argument("--out", type=Path, default=Path("runs/experiments"), help="folder for the figure and the JSON")
    parser.add_argument("--quick", action="store_true", help="a few steps, to see that everything runs")
    for name, value in more.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    return parser


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """Range of the middle 95 %."""
    low, high = np.quantile(np.asarray(ratios), [0.025, 0.975])
    return float(low), float(high)


def spread(values: Sequence[float]) -> str:
    """Mean and range of several seeds."""
    return f"{np.mean(values):.4g} [{min(values):.4g}-{max(values):.4g}]"


def save(found: dict[str, Any], data: Data, out: Path, name: str) -> None:
    """Write the JSON, with the machine, the versions and the data's digest."""
    import torch

    out.mkdir(parents=True, exist_ok=True)
    conditions = {
        **environment(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "data": data_digest(data.X, data.y, data.X_val, data.y_val),
        "images": {"train": list(data.X.shape), "validation": list(data.X_val.shape)},
    }
    write_json(out / f"{name}.json", {**found, "conditions": conditions})
    print(f"\nnumbers: {out / f'{name}.json'}")


table = show.table
