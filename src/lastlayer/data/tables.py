"""Tables of text: CSV, TSV, JSON lines and parquet as columns, with the line each row came from."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from lastlayer._arrays import InputError
from lastlayer._files import display_name

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")

PATH_NAMES = (
    "path file_name filename file image image_path img filepath file_path image_name image_file images"
).split()
LABEL_NAMES = "label class category target class_name label_name labels".split()
SPLIT_NAMES = "split set subset partition".split()
GROUP_NAMES = "group group_id".split()


@final
@dataclass(frozen=True)
class Table:
    """Columns of equal length; a missing value is None.

    Attributes
    ----------
    path : Path
        The file it was read from.
    columns : mapping of str to sequence
        Values per column, as read: text, or JSON scalars.
    lines : sequence of int
        Line number of each row in the file, for messages.
    """

    path: Path
    columns: Mapping[str, Sequence[Any]]
    lines: Sequence[int]

    def __len__(self) -> int:
        return len(self.lines)

    def find(self, aliases: Sequence[str]) -> str | None:
        """Return the name of the first column that one of the aliases names, whatever its case."""
        by_name = {name.strip().casefold(): name for name in reversed(list(self.columns))}
        return next((by_name[alias] for alias in aliases if alias in by_name), None)

    def texts(self, column: str, strip: bool = True) -> list[str | None]:
        """Return a column as text: numbers as written, blank as None, spaces around stripped.

        Raises
        ------
        InputError
            When a value is a list or an object.
        """
        return [self._text(value, column, i, strip) for i, value in enumerate(self.columns[column])]

    def _text(self, value: Any, column: str, row: int, strip: bool) -> str | None:
        if isinstance(value, str):
            bare = value.strip()
            return (bare if strip else value) if bare else None
        if value is None or value != value:
            return None
        if isinstance(value, float) and value.is_integer():
            return str(int(value))
        if isinstance(value, (bool, int, float)):
            return str(value)
        raise InputError(
            f"{self.path.name} line {self.lines[row]}: {column!r} is a {type(value).__name__}",
            "Text or a number is needed",
        )

    def fail(self, row: int, what: str, mend: str = "") -> InputError:
        """Return the error that names a row's line."""
        return InputError(f"{self.path.name} line {self.lines[row]}: {what}", mend)


def read_table(path: Path) -> Table:
    """Read a table by its suffix.

    Raises
    ------
    InputError
        Naming the file and the line that cannot be read; LL060 when parquet support is missing.
    """
    suffix = path.suffix.casefold()
    if suffix == ".parquet":
        return _read_parquet(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    text = _decode(data, path)
    return _read_jsonl(path, text) if suffix in (".jsonl", ".ndjson") else _read_csv(path, text, suffix)


def _decode(data: bytes, path: Path) -> str:
    """UTF-8 (with or without mark) or UTF-16 with mark; other bytes are kept, as file names keep them."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError:
            raise InputError(f"{path.name} is damaged UTF-16 text", "Save it as UTF-8") from None
    return data.decode("utf-8-sig", "surrogateescape")


def _read_csv(path: Path, text: str, suffix: str) -> Table:
    rows, lines = _csv_rows(path, text, _delimiter(text, suffix))
    if not rows:
        raise InputError(f"{path.name} is empty", "The columns path,label are needed", "LL001")
    header, first = rows[0], 1
    if len(header) > 1 and not _is_header(header) and (path.parent / header[0].strip()).is_file():
        header, first = ["path", "label", "split", "group"][: len(header)], 0  # no header: rows from line 1
    header = [name.strip() for name in header]
    twice = next((name for i, name in enumerate(header) if name in header[:i]), None)
    if twice is not None:
        raise InputError(f"{path.name} has two columns named {twice!r}", "Rename one of them")
    for row, line in zip(rows[first:], lines[first:]):
        if len(row) > len(header):
            raise InputError(
                f"{path.name} line {line}: {len(row)} cells, but {len(header)} columns",
                'Quote cells that contain the separator: "a,b"',
            )
    columns = {name: [row[i] if i < len(row) else None for row in rows[first:]] for i, name in enumerate(header)}
    return Table(path, columns, lines[first:])


def _is_header(cells: Sequence[str]) -> bool:
    known = {*PATH_NAMES, *LABEL_NAMES, "sha256"}
    return any(cell.strip().casefold() in known for cell in cells)


def _delimiter(text: str, suffix: str) -> str:
    """Return tab for .tsv, else whichever separator splits the first line into a known header."""
    if suffix == ".tsv":
        return "\t"
    first = text.lstrip("\r\n").partition("\n")[0]
    return next((d for d in ",;\t" if d in first and _is_header(first.replace('"', "").split(d))), ",")


def _csv_rows(path: Path, text: str, delimiter: str) -> tuple[list[list[str]], list[int]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows, lines = [], []
    start = 1
    try:
        for row in reader:
            if any(row):
                rows.append(row)
                lines.append(start)
            start = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path.name} line {start}: {error}", "Check the quotes of that line") from None
    return rows, lines


def _read_jsonl(path: Path, text: str) -> Table:
    records: list[dict[str, Any]] = []
    lines: list[int] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path.name} line {number}: not JSON ({error})", "One object per line") from None
        if not isinstance(record, dict):
            raise InputError(f"{path.name} line {number}: not a JSON object", "One object per line")
        records.append(record)
        lines.append(number)
    if not records:
        raise InputError(f"{path.name} is empty", 'Lines such as {"path": "a.png", "label": "cat"}', "LL001")
    names = dict.fromkeys(name for record in records for name in record)
    return Table(path, {name: [record.get(name) for record in records] for name in names}, lines)


def _read_parquet(path: Path) -> Table:
    try:
        import pyarrow  # type: ignore[import-not-found, import-untyped, unused-ignore]
        import pyarrow.parquet  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        raise InputError(
            f"{path.name}: reading parquet needs pyarrow",
            "pip install 'lastlayer[parquet]', or save the table as CSV",
            "LL060",
        ) from None
    try:
        file = pyarrow.parquet.ParquetFile(path)
        names = [f.name for f in file.schema_arrow if not pyarrow.types.is_nested(f.type)]
        columns = file.read(columns=names).to_pydict()
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path.name} cannot be read: {display_name(str(error))}") from None
    length = len(next(iter(columns.values()), []))
    return Table(path, columns, range(1, length + 1))
