"""Shortcuts in a dataset: what its files and the regions of its images say of the class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from lastlayer._arrays import IntArray
from lastlayer._codes import Problem
from lastlayer._progress import SILENT, Progress
from lastlayer.data.dataset import Dataset, FileImages
from lastlayer.data.decoding import Decoded
from lastlayer.data.file_properties import detail, read_properties
from lastlayer.evaluation.shortcut_checks import Shortcut, property_shortcuts, region_shortcuts, shortcut_problems
from lastlayer.evaluation.shortcuts import draw_folds

MOST_IMAGES = 20_000
"""A sample of this size tells shares to a fraction of a percent."""


@final
@dataclass(frozen=True, eq=False)
class FoundShortcuts:
    """What predicts the class without the picture.

    Attributes
    ----------
    images : int
        Images that were asked.
    properties, regions : list of Shortcut
    """

    images: int
    properties: list[Shortcut]
    regions: list[Shortcut]

    def problems(self, dataset: Dataset) -> tuple[Problem, ...]:
        """LL015 and LL016."""
        names = dataset.class_names
        return (
            *shortcut_problems(self.properties, "LL015", names),
            *shortcut_problems(self.regions, "LL016", names),
        )


def find_shortcuts(
    dataset: Dataset, decoded: Decoded, units: IntArray, *, seed: int = 0, progress: Progress = SILENT
) -> FoundShortcuts:
    """Ask the properties of the files and the regions of the images for the class.

    Parameters
    ----------
    dataset : Dataset
    decoded : Decoded
        Of all rows of the dataset.
    units : int (N,)
        Rows of one unit (copies, groups) are held out together; -1 is on its own.
    seed : int
        Of the folds, and of the sample where there are more than `MOST_IMAGES`.
    progress : Progress
    """
    rows = np.flatnonzero(decoded.readable & (dataset.labels >= 0))
    if len(rows) > MOST_IMAGES:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MOST_IMAGES, replace=False))
    labels = dataset.labels[rows].astype(np.int64)
    if len(np.unique(labels)) < 2:
        return FoundShortcuts(len(rows), [], [])
    own = np.where(units[rows] < 0, int(units.max(initial=-1)) + 1 + np.arange(len(rows)), units[rows])
    folds = draw_folds(own, seed)
    n_classes = len(dataset.class_names)
    width, height = decoded.sizes[rows].T.astype(np.float64)
    numbers = {"width": width, "height": height, "shape (width / height)": np.round(width / np.maximum(height, 1), 3)}
    files = None
    if isinstance(dataset.images, FileImages):
        files = read_properties(dataset.images.locations(rows), progress=progress)
    properties = property_shortcuts(
        numbers,
        files.texts if files else {},
        files.size if files else None,
        detail(decoded.pixels[rows]) if files else None,
        labels,
        folds,
        n_classes,
    )
    regions = region_shortcuts(decoded.pixels, rows, labels, folds, n_classes, progress=progress)
    return FoundShortcuts(len(rows), properties, regions)
