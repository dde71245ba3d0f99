"""Manifests: a table ``path,label[,split][,group]``, alone or as a Hugging Face ``metadata.csv|jsonl``."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import numpy as np

from lastlayer._arrays import InputError
from lastlayer._codes import Problem
from lastlayer._files import display_name
from lastlayer.data.classes import encode_labels
from lastlayer.data.dataset import NONE, FileImages
from lastlayer.data.groups import GROUP_COLUMN
from lastlayer.data.listing import Listing
from lastlayer.data.sides import describe_sides, side_of
from lastlayer.data.tables import GROUP_NAMES, LABEL_NAMES, PATH_NAMES, SPLIT_NAMES, Table, read_table
from lastlayer.data.walk import Findings, entries, looks_like_image, walk

METADATA_NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


@final
@dataclass
class _Rows:
    """Rows gathered from one or more tables."""

    paths: list[str] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    given: list[int] = field(default_factory=list)
    columns: dict[str, list[str | None]] = field(default_factory=dict)
    where: dict[str, tuple[int, str]] = field(default_factory=dict)  # path -> row kept, where it was named
    missing: list[tuple[str, str]] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    conflicts: list[tuple[str, str]] = field(default_factory=list)


def read_manifest(path: Path) -> Listing:
    """List the rows of one manifest; paths are relative to its folder.

    Raises
    ------
    InputError
        When columns are missing, a cell is nonsense (naming its line), or no row has a file (LL005).
    """
    table = read_table(path)
    rows = _Rows()
    _gather(rows, path.parent, table, "", NONE)
    return _listing(rows, path.parent, f"manifest {path.name}", table, ())


def metadata_files(root: Path) -> list[tuple[str, int, Path]]:
    """Find metadata files in a folder or its train/val/test folders: (prefix, side, file)."""
    here = entries(os.fspath(root), "", Findings())
    places = [("", NONE)]
    places += [(f"{name}/", side) for name in here.all_folders if (side := side_of(name)) is not None]
    places.sort(key=lambda place: place[1])  # train before validation before test
    found: list[tuple[str, int, Path]] = []
    for prefix, side in places:
        files = [root / prefix / name for name in METADATA_NAMES if (root / prefix / name).is_file()]
        if len(files) > 1:
            raise InputError(f"{files[0]} and {files[1].name} are both there", "Keep one of them")
        found.extend((prefix, side, file) for file in files)
    return found


def has_columns(files: Sequence[tuple[str, int, Path]]) -> bool:
    """Tell whether metadata files name paths and labels; without labels, folder names are the labels."""
    tables = [read_table(file) for _, _, file in files]
    return all(table.find(PATH_NAMES) is not None and table.find(LABEL_NAMES) is not None for table in tables)


def read_metadata(root: Path, files: Sequence[tuple[str, int, Path]]) -> Listing:
    """List a folder whose metadata files override its folder names."""
    rows = _Rows()
    for prefix, side, file in files:
        table = read_table(file)
        _gather(rows, root, table, prefix, side)
    _sides_from_folders(rows)
    findings = Findings()
    on_disk = [name for name in walk(os.fspath(root), "", findings) if looks_like_image(name)]
    unlisted = [name for name in on_disk if name not in rows.where]
    problems = findings.problems()
    if unlisted:
        message = f"{len(unlisted):,} images without a row in {files[0][2].name} ignored"
        mend = "Add rows for them, or remove them"
        problems = (*problems, Problem("LL005", message, tuple(map(display_name, unlisted)), mend=mend))
    return _listing(rows, root, f"folder with {files[0][2].name}", table, problems)


def _gather(rows: _Rows, root: Path, table: Table, prefix: str, default: int) -> None:
    """Add a table's rows; those without a file, or of a file that has a row already, are noted."""
    path_column = _need(table, PATH_NAMES, "path")
    label_column = _need(table, LABEL_NAMES, "label")
    paths, labels = table.texts(path_column, strip=False), table.texts(label_column)
    sides = _sides(table, default)
    extra = {name: _other(table, name) for name in table.columns if name not in (path_column, label_column)}
    group = table.find(GROUP_NAMES)
    if group is not None:
        extra[GROUP_COLUMN] = _other(table, group)
    locate = _locator(root)
    for i, raw in enumerate(paths):
        path = locate(prefix, raw) if raw else None
        if path is None:
            rows.missing.append((raw or "", f"{table.path.name} line {table.lines[i]}"))
            continue
        if path in rows.where:
            _repeat(rows, path, labels[i], table, i)
            continue
        rows.where[path] = (len(rows.paths), f"line {table.lines[i]}")
        rows.paths.append(path)
        rows.labels.append(labels[i])
        rows.given.append(sides[i])
        for name, values in extra.items():
            column = rows.columns.setdefault(name, [])
            column.extend([None] * (len(rows.paths) - 1 - len(column)))
            column.append(values[i])


def _need(table: Table, aliases: Sequence[str], what: str) -> str:
    column = table.find(aliases)
    if column is None:
        raise InputError(
            f"{table.path.name} has no {what} column; its columns are {', '.join(map(repr, table.columns))}",
            f"Name one of them {what!r}" + (" or 'file_name'" if what == "path" else ""),
            "LL001",
        )
    return column


def _other(table: Table, column: str) -> list[str | None]:
    """Return a column for ``--group-by``; lists and objects, which no group can be, count as blank."""
    return table.texts(column) if all(_scalar(v) for v in table.columns[column]) else [None] * len(table)


def _scalar(value: object) -> bool:
    return value is None or isinstance(value, (str, bool, int, float))


def _sides(table: Table, default: int) -> list[int]:
    column = table.find(SPLIT_NAMES)
    if column is None:
        return [default] * len(table)
    sides = []
    for i, text in enumerate(table.texts(column)):
        side = side_of(text) if text else default
        if side is None:
            raise table.fail(i, f"{column} is {text!r}", "Use train, val or test, or leave it blank")
        sides.append(side)
    return sides


def _repeat(rows: _Rows, path: str, label: str | None, table: Table, i: int) -> None:
    row, line = rows.where[path]
    if label == rows.labels[row]:
        rows.repeated.append(path)
        return
    kept = rows.labels[row] or "no label"
    here = f"{table.path.name} line {table.lines[i]}"
    rows.conflicts.append((path, f"{kept!r} on {line} is used, {label or 'no label'!r} on {here} is not"))


def _locator(root: Path) -> Callable[[str, str], str | None]:
    """Return the function that turns a path as written into the one that exists, or None."""
    base = os.fspath(root)

    def exists(path: str) -> bool:
        try:
            return not stat.S_ISDIR(os.stat(os.path.join(base, path)).st_mode)
        except (OSError, ValueError):  # ValueError: a NUL, or a character that no file name can hold
            return False

    def locate(prefix: str, raw: str) -> str | None:
        # as written; without the spaces around it; with the slashes of Windows
        for spelling in dict.fromkeys((raw, raw.strip(), raw.strip().replace("\\", "/"))):
            path = _plain(spelling if spelling.startswith("/") else prefix + spelling)
            if exists(path):
                return path
        return None

    return locate


def _plain(path: str) -> str:
    """Drop what does not change a path: ``./`` in front and doubled slashes.

    >>> _plain("./a//b.png")
    'a/b.png'
    """
    parts = [part for i, part in enumerate(path.split("/")) if part not in ("", ".") or (i == 0 and part == "")]
    return "/".join(parts)


def _sides_from_folders(rows: _Rows) -> None:
    """Give rows the side that their first folder names, when all of them lie in such folders."""
    sides = [side_of(path.partition("/")[0]) if "/" in path else None for path in rows.paths]
    if any(rows.given) or len(set(sides)) < 2:
        return
    if None not in sides:
        rows.given = [side for side in sides if side is not None]


def _listing(rows: _Rows, root: Path, layout: str, table: Table, problems: tuple[Problem, ...]) -> Listing:
    if not rows.paths:
        raise _nothing_there(rows, root, table)
    labels, names = encode_labels(rows.labels, table.path.name)
    for column in rows.columns.values():
        column.extend([None] * (len(rows.paths) - len(column)))
    return Listing(
        layout=f"{layout}, {describe_sides(set(rows.given))}",
        images=FileImages(root, rows.paths),
        labels=labels,
        class_names=names,
        given=np.array(rows.given, dtype=np.uint8),
        problems=(*problems, *_problems(rows, int((labels < 0).sum()))),
        columns=rows.columns,
    )


def _problems(rows: _Rows, unlabelled: int) -> list[Problem]:
    found = []
    if rows.missing:
        message = f"{len(rows.missing):,} rows without a file skipped"
        names = tuple(display_name(path) for path, _ in rows.missing)
        found.append(Problem("LL005", message, names, tuple(where for _, where in rows.missing)))
    if unlabelled:
        files = tuple(display_name(p) for p, label in zip(rows.paths, rows.labels) if label is None)
        mend = "Fill in the label, or remove the rows"
        found.append(Problem("LL005", f"{unlabelled:,} rows without a label not used", files, mend=mend))
    if rows.repeated:
        message = f"{len(rows.repeated):,} rows repeat a file; each file is used once"
        files = tuple(map(display_name, rows.repeated))
        found.append(Problem("LL005", message, files, mend="Remove the repeated rows"))
    if rows.conflicts:
        message = f"{len(rows.conflicts):,} rows give a file another label than an earlier row"
        files = tuple(display_name(path) for path, _ in rows.conflicts)
        details = tuple(detail for _, detail in rows.conflicts)
        mend = "Remove the wrong rows"
        found.append(Problem("LL006", message, files, details, mend))
    return found


def _nothing_there(rows: _Rows, root: Path, table: Table) -> InputError:
    if not rows.missing:
        return InputError(f"{table.path.name} has no rows", "Lines such as cat/1.png,cat", "LL001")
    first = rows.missing[0][0]
    message = f"none of the {len(rows.missing):,} files named in {table.path.name} exists"
    message += f"; the first is {display_name(first)!r}"
    if "://" in first:
        return InputError(message, "Download the images first: lastlayer never uses the network", "LL005")
    tail = first.replace("\\", "/").rpartition("/")[2]
    for folder in entries(os.fspath(root), "", Findings()).all_folders:
        if tail and "\0" not in tail and (root / folder / tail).is_file():
            return InputError(
                message, f"{folder}/{tail} exists: write paths relative to the manifest, {folder}/…", "LL005"
            )
    return InputError(message, f"Paths are relative to the manifest's folder {root}", "LL005")
