"""``--labels FILE``: a table path,label that overrides the labels of a dataset by row name."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from lastlayer._arrays import InputError
from lastlayer._codes import Problem
from lastlayer._files import display_name
from lastlayer.data.classes import class_names
from lastlayer.data.dataset import FileImages
from lastlayer.data.listing import Listing
from lastlayer.data.tables import LABEL_NAMES, PATH_NAMES, read_table


def override_labels(listing: Listing, labels_file: Path) -> Listing:
    """Return the listing with the labels of a file; a blank label takes the row out.

    Rows are found by their name (as ``predictions.csv`` and ``labels.suspect.csv`` give it), or by their
    path relative to the labels file. Further columns, such as ``suggested``, are not read.

    Raises
    ------
    InputError
        When a column is missing, a file is given two labels, or no row is one of the dataset.
    """
    table = read_table(labels_file)
    path_column, label_column = table.find(PATH_NAMES), table.find(LABEL_NAMES)
    if path_column is None or label_column is None:
        raise InputError(
            f"{labels_file.name} has the columns {', '.join(map(repr, table.columns))}",
            "The columns path,label are needed",
        )
    texts = table.texts(label_column)
    raw_names = class_names((text for text in dict.fromkeys(texts) if text), labels_file.name)
    names = list(listing.class_names)
    number = {name: code for code, name in enumerate(names)}
    added = [name for name in dict.fromkeys(raw_names.values()) if name not in number]
    for name in added:
        number[name] = len(number)
    row_of = {name: row for row, name in enumerate(listing.images.names())}
    labels = np.array(listing.labels)
    given: dict[int, str | None] = {}
    unknown: list[str] = []
    relative = _relative(listing, labels_file)
    for i, path in enumerate(table.texts(path_column, strip=False)):
        row = None if path is None else _row(row_of, path, relative)
        if row is None:
            unknown.append(path or f"line {table.lines[i]}")
            continue
        if given.setdefault(row, texts[i]) != texts[i]:
            raise table.fail(i, f"{display_name(path or '')} has another label above", "Keep one of the rows")
        text = texts[i]
        labels[row] = -1 if text is None else number[raw_names[text]]
    if not given:
        raise InputError(
            f"none of the {len(table):,} rows of {labels_file.name} names an image of the data",
            f"Names look like {display_name(next(iter(row_of), ''))!r}",
            "LL005",
        )
    return listing.with_labels(labels, (*names, *added), _problems(labels_file.name, unknown, added, bool(names)))


def _relative(listing: Listing, labels_file: Path) -> Callable[[str], str]:
    """Return the function from a path relative to the labels file to a row's name."""
    root = os.fspath(listing.images.root) if isinstance(listing.images, FileImages) else "."

    def relative(path: str) -> str:
        location = os.path.join(labels_file.parent, path.replace("\\", "/"))
        return os.path.relpath(location, root).replace(os.sep, "/")

    return relative


def _problems(file: str, unknown: list[str], added: list[str], had_names: bool) -> tuple[Problem, ...]:
    problems = []
    if unknown:
        message = f"{len(unknown):,} rows of {file} name no image of the data"
        problems.append(Problem("LL005", message, tuple(map(display_name, unknown))))
    if added and had_names:
        message = f"{file} brings {len(added)} classes that the data does not have"
        problems.append(Problem("LL004", message, tuple(added), mend="Correct the label if it is misspelt"))
    return tuple(problems)


def _row(row_of: Mapping[str, int], path: str, relative: Callable[[str], str]) -> int | None:
    """Row of a file by its name in the data, by "./" and that name, or by its place beside the list."""
    found = row_of.get(path, row_of.get(path.removeprefix("./")))
    return row_of.get(relative(path)) if found is None else found
