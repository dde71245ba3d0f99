"""Files that hold embeddings or labels, as named arrays: ``.npy .npz .safetensors .parquet .csv .tsv .jsonl``.

``.npy`` and ``.safetensors`` are memory-mapped: pages are read when they are used. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, final

import numpy as np

from lastlayer._arrays import Array, Float32, InputError
from lastlayer._files import display_name
from lastlayer.data.arrays import load_npy, map_file, read_member, read_npy_header
from lastlayer.data.tables import read_table

MATRIX_SUFFIXES: Final = (".npy", ".npz", ".safetensors", ".parquet")
LABEL_SUFFIXES: Final = (*MATRIX_SUFFIXES, ".csv", ".tsv", ".jsonl", ".ndjson")

_MOST_HEADER: Final = 100_000_000
_MOST_UNPACKED: Final = 64 << 30
_BF16: Final = "BF16"
_DTYPES: Final = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", _BF16: "<u2", "BOOL": "|b1",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1",
}  # fmt: skip
_BLOCK_NUMBERS: Final = 1 << 22


@final
@dataclass(frozen=True)
class NamedArrays:
    """The arrays of one file, each read when it is asked for.

    Attributes
    ----------
    path : Path
    shapes : mapping of str to tuple of int
        By name, in the order of the file; the only array of an ``.npy`` file has the name "". A parquet column of
        lists has the shape (N, D).
    load : callable
        Returns the array of a name.
    """

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    load: Callable[[str], Array]

    @property
    def name(self) -> str:
        """The file's name as it can be printed."""
        return display_name(self.path.name)

    def listing(self) -> str:
        """What is in it: ``'x' (500, 64), 'y' (500,)``."""
        shown = [f"{name!a} {shape}" for name, shape in list(self.shapes.items())[:12]]
        return ", ".join(shown) + (f" and {len(self.shapes) - 12} more" if len(self.shapes) > 12 else "")


def open_arrays(source: str, suffixes: tuple[str, ...] = LABEL_SUFFIXES) -> NamedArrays:
    """Open a file of arrays by its suffix, reading no more than its list of contents.

    Raises
    ------
    InputError
        When it does not exist, is of another kind, is damaged, holds pickled objects (LL012), or needs a library
        that is not installed (LL060).
    """
    path = Path(source)
    shown = display_name(source)
    if "\0" in source or not path.is_file():
        kind = "a folder" if "\0" not in source and path.is_dir() else "no file"
        mend = "For images, use `lastlayer train`" if kind == "a folder" else "Check the path"
        raise InputError(f"{shown} is {kind}; embeddings and labels are files", mend)
    suffix = path.suffix.casefold()
    if suffix in (".pkl", ".pickle", ".joblib", ".pt", ".pth"):
        raise InputError(
            f"{shown} is a pickle, which can run any code; it was not opened",
            "Save the array: numpy.save('embeddings.npy', array)",
            "LL012",
        )
    if suffix not in suffixes:
        raise InputError(f"{shown} is none of {', '.join(suffixes)}", "Save the array with numpy.save")
    readers: dict[str, Callable[[Path], NamedArrays]] = {
        ".npy": _open_npy,
        ".npz": _open_npz,
        ".safetensors": _open_safetensors,
        ".parquet": _open_parquet,
    }
    return readers.get(suffix, _open_table)(path)


def _open_npy(path: Path) -> NamedArrays:
    array = load_npy(path)
    return NamedArrays(path, {"": array.shape}, lambda name: array)


def _open_npz(path: Path) -> NamedArrays:
    name = display_name(path.name)
    shapes: dict[str, tuple[int, ...]] = {}
    objects: set[str] = set()
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if not info.filename.endswith(".npy"):
                    continue
                key = info.filename.removesuffix(".npy")
                if key in shapes:
                    raise InputError(f"{name} holds two arrays named {key!a}", "Save it again with numpy.savez")
                with archive.open(info) as member:
                    try:
                        shapes[key] = read_npy_header(member, f"{name}:{key}")[1]
                    except InputError:
                        shapes[key] = ()
                        objects.add(key)  # refused with its code if it is asked for
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name} cannot be read: {error}", "Save it again with numpy.savez") from None
    return NamedArrays(path, shapes, partial(_load_npz, path))


def _load_npz(path: Path, key: str) -> Array:
    name = display_name(path.name)
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(f"{key}.npy")
            if info.file_size > _MOST_UNPACKED:
                raise InputError(f"{name}:{key} unpacks to {info.file_size:,} bytes", "Save it as .npy")
            return read_member(archive, info, f"{name}:{key}")
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name}:{key} cannot be read: {error}", "Save it again with numpy.savez") from None


def _open_safetensors(path: Path) -> NamedArrays:
    """Read the header of a plain safetensors file: 8 bytes of length, JSON, then the tensors without gaps."""
    name = display_name(path.name)

    def damaged(fact: str) -> InputError:
        return InputError(f"{name} is no whole safetensors file: {fact}", "Copy or save the file again")

    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or not 2 <= length <= min(size - 8, _MOST_HEADER):
            raise damaged(f"its header would have {length:,} bytes, the file has {size:,}")
        raw = stream.read(length)
    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise damaged(f"its header is not JSON ({error})") from None
    if not isinstance(header, dict):
        raise damaged("its header is no JSON object")
    header.pop("__metadata__", None)
    entries = {key: _entry(key, value, damaged) for key, value in header.items()}
    end = 0
    for key, (_, _, first, last) in sorted(entries.items(), key=lambda item: item[1][2:]):
        if first != end:
            raise damaged(f"tensor {key!a} does not begin where the one before ends")
        end = last
    if 8 + length + end != size:
        raise damaged(f"it has {size:,} bytes where its header describes {8 + length + end:,}")

    def load(key: str) -> Array:
        kind, shape, first, last = entries[key]
        if kind not in _DTYPES:
            raise InputError(f"{name}:{key} is {kind}", f"Save it as one of {', '.join(_DTYPES)}")
        if first == last:
            return np.empty(shape, dtype=_DTYPES[kind])
        data = map_file(path, np.dtype(np.uint8), 8 + length)[first:last]
        array: Array = data.view(_DTYPES[kind]).reshape(shape)
        return widen_bfloat16(array) if kind == _BF16 else array

    return NamedArrays(path, {key: entry[1] for key, entry in entries.items()}, load)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _entry(key: str, value: Any, damaged: Callable[[str], InputError]) -> tuple[str, tuple[int, ...], int, int]:
    """Type, shape and place of a tensor, checked against each other before anything is read."""
    if not isinstance(value, dict) or not {"dtype", "shape", "data_offsets"} <= set(value):
        raise damaged(f"the entry of tensor {key!a} lacks its dtype, shape or place")
    kind, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    numbers = [*shape, *offsets] if isinstance(shape, list) and isinstance(offsets, list) else [None]
    if any(type(number) is not int or number < 0 for number in numbers) or len(offsets) != 2 or len(shape) > 16:
        raise damaged(f"tensor {key!a} has no shape and place of whole numbers")
    first, last = offsets
    if not isinstance(kind, str) or last < first:
        raise damaged(f"tensor {key!a} has no type or ends before it begins")
    if kind in _DTYPES and math.prod(shape) * np.dtype(_DTYPES[kind]).itemsize != last - first:
        raise damaged(f"tensor {key!a} of shape {tuple(shape)} has {last - first:,} bytes")
    return kind, tuple(shape), first, last


def widen_bfloat16(bits: Array) -> Float32:
    """The float32 numbers whose upper halves are given: bfloat16 is float32 without its last 16 bits.

    >>> widen_bfloat16(np.array([0x3F80, 0xC000], np.uint16)).tolist()
    [1.0, -2.0]
    """
    out = np.empty(bits.shape, dtype=np.float32)
    words, flat = out.reshape(-1).view(np.uint32), bits.reshape(-1)
    for start in range(0, len(flat), _BLOCK_NUMBERS):
        block = slice(start, start + _BLOCK_NUMBERS)
        words[block] = flat[block]
        words[block] <<= np.uint32(16)
    return out


def _open_table(path: Path) -> NamedArrays:
    table = read_table(path)
    return NamedArrays(
        path,
        {column: (len(table),) for column in table.columns},
        lambda column: np.array(table.texts(column), dtype=object),
    )


def _open_parquet(path: Path) -> NamedArrays:
    name = display_name(path.name)
    try:
        import pyarrow  # type: ignore[import-not-found, import-untyped, unused-ignore]
        import pyarrow.parquet  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        raise InputError(
            f"{name}: reading parquet needs pyarrow",
            "pip install 'lastlayer[parquet]', or save the embeddings as .npy",
            "LL060",
        ) from None
    try:
        file = pyarrow.parquet.ParquetFile(path)
        rows, schema = file.metadata.num_rows, file.schema_arrow
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{name} cannot be read: {display_name(str(error))}") from None
    shapes = {field.name: _parquet_shape(file, field, rows) for field in schema}

    def load(column: str) -> Array:
        try:
            values = file.read(columns=[column]).column(0).combine_chunks()
        except (pyarrow.ArrowException, OSError) as error:
            raise InputError(f"{name}:{column} cannot be read: {display_name(str(error))}") from None
        return _from_arrow(values, f"{name}:{column}")

    return NamedArrays(path, shapes, load)


def _is_list(kind: Any) -> bool:
    import pyarrow

    found: bool = (
        pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind) or pyarrow.types.is_fixed_size_list(kind)
    )
    return found


def _parquet_shape(file: Any, field: Any, rows: int) -> tuple[int, ...]:
    """(N,) of a plain column, (N, D) of one of lists; D is the length of the first list."""
    if not _is_list(field.type):
        return (rows,)
    for batch in file.iter_batches(batch_size=1, columns=[field.name]):
        first = batch.column(0)[0].as_py()
        return (rows, len(first or ()))
    return (rows, 0)


def _from_arrow(values: Any, name: str) -> Array:
    """A column as an array: lists of one length as (N, D), the rest as (N,) with None where nothing is."""
    import pyarrow

    if not _is_list(values.type):
        if values.null_count == 0 and (pyarrow.types.is_integer(values.type) or pyarrow.types.is_floating(values.type)):
            plain: Array = values.to_numpy(zero_copy_only=False)
            return plain
        return np.array(values.to_pylist(), dtype=object)
    if values.null_count:
        row = values.is_null().to_pylist().index(True)
        raise InputError(f"{name} has no embedding in row {row}", "Drop the rows without one", "LL030")
    if not pyarrow.types.is_fixed_size_list(values.type):
        ends = np.asarray(values.offsets)
        lengths = np.diff(ends)
        if len(lengths) and (lengths != lengths[0]).any():
            row = int(np.flatnonzero(lengths != lengths[0])[0])
            raise InputError(
                f"{name} has {lengths[0]} numbers in row 0 and {lengths[row]} in row {row}",
                "All embeddings must have one length",
            )
    flat = values.flatten()
    if flat.null_count:
        row = flat.is_null().to_pylist().index(True) // max(1, len(flat) // max(1, len(values)))
        raise InputError(f"{name} has a missing number in row {row}", "Repair or drop that row", "LL030")
    numbers: Array = flat.to_numpy(zero_copy_only=False)
    return numbers.reshape(len(values), -1)
