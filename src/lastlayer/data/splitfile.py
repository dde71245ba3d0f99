"""``split.csv``: which row was on which side, written for people and read back, edited or not."""

from __future__ import annotations

import csv
import io
import os
import re
from pathlib import Path

import numpy as np

from lastlayer._arrays import InputError, Int32, UInt8
from lastlayer._files import display_name, write_text
from lastlayer.data.dataset import NONE, SPLIT_NAMES, Dataset
from lastlayer.data.sides import side_of
from lastlayer.data.tables import Table, read_table

COLUMNS = ("path", "label", "split", "group", "sha256", "dup_group")
_HEX = re.compile(r"[0-9a-f]{64}")


def save_split(path: str | os.PathLike[str], dataset: Dataset, sha256: UInt8, side: UInt8, dup_group: Int32) -> None:
    """Write one line per row; cells that do not apply are blank."""
    digests = np.ascontiguousarray(sha256).tobytes().hex()
    hashed: list[bool] = np.asarray(sha256.any(axis=1)).tolist()
    groups = dataset.groups.tolist() if dataset.groups is not None else [-1] * len(dataset)
    text = io.StringIO()
    # "\r\n" makes the writer quote names with either character; they would break the line otherwise
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for i, (name, label, where, copy) in enumerate(
        zip(dataset.names, dataset.labels.tolist(), side.tolist(), dup_group.tolist())
    ):
        group = groups[i]
        shown = "" if group < 0 else (dataset.group_names[group] if dataset.group_names else group)
        digest = digests[64 * i : 64 * i + 64] if hashed[i] else ""
        label_name = dataset.class_names[label] if label >= 0 else ""
        writer.writerow((name, label_name, SPLIT_NAMES[where], shown, digest, copy if copy >= 0 else ""))
    write_text(path, text.getvalue())


def read_split(path: str | os.PathLike[str]) -> dict[str, int]:
    """Read a split file: SHA-256 in hex, and row name, to the side.

    Only the columns split and sha256 or path are needed, so that a list written by hand will do; rows with
    a blank split are left to be drawn.

    Raises
    ------
    InputError
        Naming the line with an unknown side, a broken digest, or a second side for the same image.
    """
    file = Path(path)
    table = read_table(file)
    path_column, sha_column = table.find(["path"]), table.find(["sha256"])
    split_column = table.find(["split"])
    if split_column is None or (path_column is None and sha_column is None):
        raise InputError(
            f"{file.name} has the columns {', '.join(map(repr, table.columns))}",
            "The columns split, and sha256 or path, are needed",
        )
    sides: dict[str, int] = {}
    lines: dict[str, int] = {}
    blank = [None] * len(table)
    names = table.texts(path_column, strip=False) if path_column else blank
    digests = table.texts(sha_column) if sha_column else blank
    for i, text in enumerate(table.texts(split_column)):
        if text is None:
            continue
        side = _side(table, i, text)
        for key in (_digest(table, i, digests[i]), names[i]):
            if not key or side == NONE:
                continue
            if sides.setdefault(key, side) != side:
                raise table.fail(
                    i,
                    f"{display_name(key)} is in {text}, but in {SPLIT_NAMES[sides[key]]} on line {lines[key]}",
                    "Keep one of the two",
                )
            lines.setdefault(key, table.lines[i])
    return sides


def _side(table: Table, row: int, text: str) -> int:
    side = side_of(text)
    if side is None:
        raise table.fail(row, f"split is {text!r}", "Use train, val or test, or leave it blank")
    return side


def _digest(table: Table, row: int, text: str | None) -> str | None:
    if text is not None and not _HEX.fullmatch(text.casefold()):
        raise table.fail(row, f"sha256 is {text[:80]!r}", "64 hexadecimal digits, or leave it blank")
    return text and text.casefold()
