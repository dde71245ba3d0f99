"""Tell whether file names suggest several images of one thing: a patient, a video, a burst.

Conservative on purpose: plain numbering (``0000.png``, ``IMG_0001.jpg``, ``cat_17.jpg``) and subclasses
(``husky_001.jpg … poodle_050.jpg``) must stay silent, since a warning that is usually wrong is never read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np

from lastlayer._arrays import IntArray
from lastlayer._files import display_name
from lastlayer.data.dataset import Dataset, FileImages

_SHARE: Final = 0.8  # of the images lie in groups of two and more
_GROUPS: Final = 10  # such groups in all, and
_GROUPS_PER_CLASS: Final = 3  # in most classes: one stem a class is plain numbering
_SAMPLE: Final = 1_000


@final
@dataclass(frozen=True)
class NameGroups:
    """A suggestion: so many images in so many groups, one example, and the pattern for ``--group-by``."""

    images: int
    groups: int
    example: str
    pattern: str


# stem, separator, short number: p012_03.png, scan-7-2.png, holiday (3).jpg; or the folder below the class
_PATTERNS: Final = (r"([^/]+)[ _.-]\(?[0-9]{1,4}\)?\.[^./]+$", r"^(.+)/[^/]+$")


def suggest_groups(dataset: Dataset) -> NameGroups | None:
    """Look at the file names class by class; None for arrays, and when nothing suggests groups."""
    rows = np.flatnonzero(dataset.labels >= 0)
    if not isinstance(dataset.images, FileImages) or len(rows) < 2 * _GROUPS:
        return None
    names = [dataset.names[row] for row in rows.tolist()]
    cells = dataset.labels[rows].astype(np.int64) * 4 + dataset.given[rows]
    for text in _PATTERNS:
        pattern = re.compile(text)
        sample = names[:: max(1, len(names) // _SAMPLE)]
        if sum(pattern.search(name) is not None for name in sample) < _SHARE * len(sample):
            continue
        found = _groups(names, cells, pattern)
        if found is not None:
            return found
    return None


def _groups(names: Sequence[str], cells: IntArray, pattern: re.Pattern[str]) -> NameGroups | None:
    """Count groups per class and side (a cell), and judge whether they look like things."""
    numbers: dict[str, int] = {}
    matches = (pattern.search(name) for name in names)
    stems = (match.group(1) if match else None for match in matches)
    group = np.array([numbers.setdefault(s, len(numbers)) if s is not None else -1 for s in stems])
    inside = group >= 0
    counts = np.bincount(group[inside], minlength=len(numbers))
    large = counts > 1
    images = int(counts[large].sum())
    if images < _SHARE * len(names) or large.sum() < _GROUPS:
        return None
    pairs = np.unique(np.stack([cells[inside], group[inside]], axis=1), axis=0)
    pairs = pairs[large[pairs[:, 1]]]
    per_cell = np.unique(pairs[:, 0], return_counts=True)[1]
    needed = _GROUPS_PER_CLASS
    stem_names = list(numbers)
    identifiers = sum(any(c.isdigit() for c in stem_names[g].rpartition("/")[2]) for g in np.flatnonzero(large))
    if identifiers < _SHARE * large.sum():  # words, not numbers: subclasses, unless there are very many
        needed = max(needed, round(images / int(large.sum())))
    if len(per_cell) * 2 < len(np.unique(cells)) or np.median(per_cell) < needed:
        return None
    example = stem_names[int(np.argmax(large))]
    return NameGroups(images, int(large.sum()), display_name(example), pattern.pattern)
