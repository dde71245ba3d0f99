"""Shortcuts: properties of files and regions of images that alone predict the class, as coded problems.

What is reported was settled on data other than those of the tests: see the constants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from lastlayer._arrays import BoolArray, Float32, Float64, IntArray, UInt8
from lastlayer._codes import Problem
from lastlayer._progress import SILENT, Progress
from lastlayer.evaluation.shortcuts import Table, by_table, cells_of_numbers, cells_of_values, joint_cells

LEAST_SKILL = 0.05
"""Of a property that has nothing to do with the picture: what the interval must clear of the room above chance."""
LEAST_LIFT = 0.5
"""Of a property: what the held-out lift of one class must clear by two standard errors."""
LEAST_SIZE_SKILL = 0.10
"""Of the file size, after what the picture's detail explains was taken out."""
BORDER_EXCESS = 0.25
"""How far the lift of a piece of the border must be above the upper quartile of the border."""
INNER_EXCESS = 0.45
"""How far the lift of any piece must be above the upper tenth of all pieces."""
BACKGROUND_LIFT = 0.75
"""Lift of the median border piece from which the background gives a class away."""

_GRID = 16
_CELLS = {1: 16, 3: 5}  # quantiles of gray; of each colour channel
_SMALLEST = 20
_BATCH = 2048


@final
@dataclass(frozen=True, eq=False)
class Shortcut:
    """One thing that predicts the class without the picture.

    Attributes
    ----------
    what : str
        The property, or the region.
    table : Table
        How well.
    classes : int (k,)
        Classes that it gives away, the clearest first; empty when it is spread over all.
    """

    what: str
    table: Table
    classes: IntArray


def property_shortcuts(
    numbers: Mapping[str, Float64],
    texts: Mapping[str, Sequence[str]],
    size: Float64 | None,
    detail: Float64 | None,
    labels: IntArray,
    folds: IntArray,
    n_classes: int,
) -> list[Shortcut]:
    """Properties of files that predict the class, the best first.

    Parameters
    ----------
    numbers : mapping of str to float (N,)
        Such as width and height.
    texts : mapping of str to sequence of str
        Such as the camera.
    size : float (N,), optional
        Bytes of the files. They follow from the picture in part, so only what `detail` leaves unexplained counts.
    detail : float (N, m), optional
    labels, folds : int (N,)
    n_classes : int
    """
    cells = {name: cells_of_numbers(values, 32) for name, values in numbers.items()}
    cells |= {name: cells_of_values(values) for name, values in texts.items()}
    found = []
    for name, code in cells.items():
        if code.min(initial=0) == code.max(initial=0) or len(labels) < _SMALLEST:
            continue
        table = by_table(code, labels, folds, n_classes)
        classes = _given_away(table, labels)
        if (table.beats_chance and table.skill > LEAST_SKILL) or len(classes):
            found.append(Shortcut(name, table, classes))
    if size is not None and detail is not None and len(labels) >= _SMALLEST:
        kinds = cells_of_values(texts["file type"]) if "file type" in texts else np.zeros(len(labels), np.int64)
        rest = _unexplained(np.log1p(size), detail, kinds)
        table = by_table(cells_of_numbers(rest, 32), labels, folds, n_classes)
        classes = _given_away(table, labels)
        if (table.beats_chance and table.skill > LEAST_SIZE_SKILL) or len(classes):
            found.append(Shortcut("file size (beyond what the detail of the picture explains)", table, classes))
    return sorted(found, key=lambda one: -one.table.skill)


def _given_away(table: Table, labels: IntArray) -> IntArray:
    counts = np.bincount(labels, minlength=len(table.lift))
    sure = table.lift - 2 / np.sqrt(np.maximum(counts, 1))
    classes = np.flatnonzero(sure > LEAST_LIFT)
    return classes[np.argsort(-table.lift[classes], kind="stable")]


def _unexplained(values: Float64, detail: Float64, kinds: IntArray) -> Float64:
    """What a linear fit of the detail (and its squares) leaves of the values, in each kind of file."""
    rest = np.zeros(len(values))
    for kind in np.unique(kinds):
        rows = np.flatnonzero(kinds == kind)
        part = detail[rows] - detail[rows].mean(axis=0)
        columns = np.column_stack([np.ones(len(rows)), part, part**2])
        weights = np.linalg.lstsq(columns, values[rows], rcond=None)[0]
        rest[rows] = values[rows] - columns @ weights
    return np.round(rest, 6)


def region_shortcuts(
    pixels: UInt8,
    rows: IntArray,
    labels: IntArray,
    folds: IntArray,
    n_classes: int,
    *,
    progress: Progress = SILENT,
) -> list[Shortcut]:
    """Regions of the images whose mean colour alone predicts the class, the best first.

    The image is cut into at most 16 × 16 pieces. In pictures of things every piece says a little (the sky of
    aeroplanes), and neighbouring pieces say about the same; what somebody put there says far more than its
    surroundings. So a piece of the border is compared with the rest of the border, a piece inside with all pieces, and
    the whole border only with a high bar.

    Parameters
    ----------
    pixels : uint8 (M, H, W, C)
    rows : int (N,)
        The images to look at.
    labels, folds : int (N,)
        Of these rows.
    n_classes : int
    """
    height, width, channels = pixels.shape[1:]
    if len(rows) < _SMALLEST or min(height, width) < 4:
        return []
    grid = (min(_GRID, height // 2), min(_GRID, width // 2))
    means = _piece_means(pixels, rows, grid)
    lift = np.empty((*grid, n_classes))
    tables: dict[tuple[int, int], Table] = {}
    with progress.task("Regions", grid[0] * grid[1]) as task:
        for place in np.ndindex(*grid):
            parts = [cells_of_numbers(means[:, place[0], place[1], c], _CELLS[channels]) for c in range(channels)]
            tables[place] = by_table(joint_cells(parts), labels, folds, n_classes)
            lift[place] = tables[place].lift
            task.advance(1)
    noise = 2 / np.sqrt(np.maximum(np.bincount(labels, minlength=n_classes), 1))
    return _judge(lift, noise, tables, (height, width))


def _piece_means(pixels: UInt8, rows: IntArray, grid: tuple[int, int]) -> Float32:
    """Mean colour of every piece, (N, rows, columns, C)."""
    height, width = pixels.shape[1:3]
    tops, lefts = np.arange(grid[0]) * height // grid[0], np.arange(grid[1]) * width // grid[1]
    area = np.multiply.outer(np.diff([*tops, height]), np.diff([*lefts, width]))[..., None].astype(np.float32)
    out = np.empty((len(rows), *grid, pixels.shape[3]), dtype=np.float32)
    for start in range(0, len(rows), _BATCH):
        part = pixels[rows[start : start + _BATCH]]
        sums = np.add.reduceat(np.add.reduceat(part, tops, axis=1, dtype=np.int64), lefts, axis=2)
        out[start : start + _BATCH] = sums / area
    return out


def _judge(
    lift: Float64, noise: Float64, tables: dict[tuple[int, int], Table], shape: tuple[int, int]
) -> list[Shortcut]:
    grid = lift.shape[:2]
    border = np.ones(grid, dtype=bool)
    border[1:-1, 1:-1] = False
    outside = np.maximum(np.quantile(lift[border], 0.75, axis=0), 0)
    everywhere = np.maximum(np.quantile(lift.reshape(-1, lift.shape[2]), 0.9, axis=0), 0)
    stands_out = (lift - everywhere - noise > INNER_EXCESS) | (
        border[..., None] & (lift - outside - noise > BORDER_EXCESS)
    )
    found = [_shortcut(region, lift, tables, shape) for region in _connected(stands_out)]
    ground = np.median(lift[border], axis=0) - noise
    if (ground > BACKGROUND_LIFT).any():
        place = max(zip(*np.nonzero(border)), key=lambda at: tables[int(at[0]), int(at[1])].skill)
        classes = np.flatnonzero(ground > BACKGROUND_LIFT)
        order = classes[np.argsort(-ground[classes], kind="stable")]
        found.append(Shortcut("background (colour of the border)", tables[int(place[0]), int(place[1])], order))
    return sorted(found, key=lambda one: -one.table.skill)


def _connected(marked: BoolArray) -> list[BoolArray]:
    """Marked pieces that touch, as one region each: (rows, columns, K) masks."""
    from scipy import ndimage

    numbers, count = ndimage.label(marked.any(axis=2), structure=np.ones((3, 3)))
    return [marked & (numbers == k)[..., None] for k in range(1, count + 1)]


def _shortcut(
    region: BoolArray, lift: Float64, tables: dict[tuple[int, int], Table], shape: tuple[int, int]
) -> Shortcut:
    rows, columns = np.nonzero(region.any(axis=2))
    best = max(zip(rows.tolist(), columns.tolist()), key=lambda at: lift[at][region[at]].max())
    classes = np.flatnonzero(region.any(axis=(0, 1)))
    strength = np.where(region, lift, 0).max(axis=(0, 1))[classes]
    return Shortcut(_where(rows, columns, region.shape[:2], shape), tables[best], classes[np.argsort(-strength)])


def _where(rows: IntArray, columns: IntArray, grid: Sequence[int], shape: tuple[int, int]) -> str:
    """A region in words: ``top left corner (rows 0-3, columns 0-3 of 32 x 32)``."""
    top, bottom = rows.min() * shape[0] // grid[0], (rows.max() + 1) * shape[0] // grid[0] - 1
    left, right = columns.min() * shape[1] // grid[1], (columns.max() + 1) * shape[1] // grid[1] - 1
    upright = "top" if bottom < shape[0] / 2 else "bottom" if top >= shape[0] / 2 else ""
    sideways = "left" if right < shape[1] / 2 else "right" if left >= shape[1] / 2 else ""
    side = " ".join(filter(None, (upright, sideways)))
    at_edge = top == 0 or left == 0 or bottom == shape[0] - 1 or right == shape[1] - 1
    name = f"{side} corner" if at_edge and upright and sideways else f"{side} part" if side else "middle"
    return f"{name} (rows {top}-{bottom}, columns {left}-{right} of {shape[0]} x {shape[1]})"


def shortcut_problems(found: Sequence[Shortcut], code: str, names: Sequence[str]) -> tuple[Problem, ...]:
    """One coded problem a shortcut: how well it predicts, and the classes it gives away."""
    problems = []
    for one in found:
        table = one.table
        beats = f"{table.accuracy}, majority {table.majority.percent()}"
        message = f"the {one.what} alone predicts the class of {beats}"
        details = tuple(f"lift {table.lift[k]:.2f}" for k in one.classes.tolist())
        problems.append(Problem(code, message, tuple(names[k] for k in one.classes.tolist()), details))
    return tuple(problems)


def to_dict(one: Shortcut, names: Sequence[str]) -> dict[str, Any]:
    """Plain values for JSON."""
    table = one.table
    return {
        "what": one.what,
        "accuracy": table.accuracy.to_dict(),
        "majority": table.majority.to_dict(),
        "classes": [names[k] for k in one.classes.tolist()],
    }
