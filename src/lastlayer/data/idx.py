"""IDX files, the format of MNIST and its relatives: plain (memory-mapped) or gzipped.

Source: LeCun, Cortes, Burges, "The MNIST database of handwritten digits" (1998). A file is two zero bytes, a
type code, the number of dimensions, the sizes as big-endian uint32, and the elements.
"""

from __future__ import annotations

import gzip
import math
import os
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, final

import numpy as np

from lastlayer._arrays import Array, InputError, UInt8
from lastlayer.data.arrays import Part, array_listing, map_file
from lastlayer.data.dataset import NONE, TEST, TRAIN, VAL
from lastlayer.data.listing import Listing

_NAME: Final = re.compile(
    r"(?P<prefix>.*?)(?P<what>images|labels)[-._]idx(?P<rank>[1-4])[-._]ubyte(?P<gz>\.gz)?", re.IGNORECASE
)
_SIDES: Final = (("train", TRAIN), ("t10k", TEST), ("test", TEST), ("valid", VAL), ("val", VAL), ("dev", VAL))
_TYPES: Final[dict[int, np.dtype[Any]]] = {
    0x08: np.dtype("u1"),
    0x09: np.dtype("i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
}

# A gzipped file may promise at most this much: DEFLATE cannot pack more tightly than 1,032 to 1.
_MOST_PACKED: Final = 1032
_MOST_UNPACKED: Final = 4 << 30


@final
@dataclass(frozen=True)
class _Pair:
    """Images and labels that belong together by name."""

    prefix: str
    images: Path
    labels: Path

    @property
    def side(self) -> int:
        words = self.prefix.casefold()
        return next((side for word, side in _SIDES if word in words), NONE)


def is_idx_name(name: str) -> bool:
    """Tell whether a file name is one of IDX images or labels, such as ``train-images-idx3-ubyte.gz``."""
    return _NAME.fullmatch(name) is not None


def read_idx_folder(root: Path, names: Sequence[str]) -> Listing:
    """Open the pairs of IDX files in a folder.

    Raises
    ------
    InputError
        When images lack labels, two sets lie in one folder, or a file is damaged.
    """
    pairs = _pairs(root, names)
    by_side: dict[int, _Pair] = {}
    for pair in pairs:
        other = by_side.setdefault(pair.side, pair)
        if other is not pair:
            raise InputError(
                f"{root} holds several sets of IDX files: {other.images.name} and {pair.images.name}",
                "Move the files of one set into a folder of their own",
            )
    return _open([by_side[side] for side in sorted(by_side)])


def read_idx_file(path: Path) -> Listing:
    """Open the one pair that an images or labels file belongs to; lastlayer splits it."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise InputError(f"{path.name} is not named like an IDX file", "Name it train-images-idx3-ubyte")
    names = [name for name in os.listdir(path.parent) if is_idx_name(name)]
    pairs = [p for p in _pairs(path.parent, names) if p.prefix.casefold() == match["prefix"].casefold()]
    return _open(pairs, alone=True)


def _pairs(root: Path, names: Sequence[str]) -> list[_Pair]:
    found: dict[tuple[str, str], Path] = {}
    for name in sorted(names, reverse=True):  # so that the plain file wins over the .gz beside it
        match = _NAME.fullmatch(name)
        if match is not None:
            found[match["what"].casefold(), match["prefix"]] = root / name
    pairs = []
    for what, prefix in sorted(found):
        other = "labels" if what == "images" else "images"
        if (other, prefix) not in found:
            raise InputError(
                f"{found[what, prefix].name} has no {other} file beside it in {root}",
                f"Put {prefix}{other}-idx{1 if other == 'labels' else 3}-ubyte there",
                "LL001",
            )
        if what == "images":
            pairs.append(_Pair(prefix, found["images", prefix], found["labels", prefix]))
    return pairs


def _open(pairs: Sequence[_Pair], alone: bool = False) -> Listing:
    parts = []
    packed = False
    for pair in pairs:
        images, labels = read_idx(pair.images), read_idx(pair.labels)
        packed |= pair.images.suffix.casefold() == ".gz"
        if images.ndim not in (3, 4) or images.dtype != np.uint8 or (images.ndim == 4 and images.shape[3] != 3):
            raise InputError(
                f"{pair.images.name} holds {images.dtype} of shape {images.shape}; uint8 (N, H, W) is needed"
            )
        if labels.ndim != 1 or len(labels) != len(images):
            raise InputError(
                f"{pair.images.name} has {len(images):,} images, {pair.labels.name} has labels of shape {labels.shape}",
                "Check that the two files belong together",
            )
        pixels: UInt8 = images if images.ndim == 4 else images[..., None]
        parts.append(Part(NONE if alone else pair.side, pixels, labels, pair.labels.name))
    return array_listing("IDX files (gzipped)" if packed else "IDX files", parts)


def read_idx(path: Path) -> Array:
    """Read one IDX file: memory-mapped when plain, unpacked into memory when gzipped.

    Raises
    ------
    InputError
        When the header is not one of IDX, or the file is shorter or longer than the header says; checked
        before any memory is taken.
    """
    try:
        with open(path, "rb") as file:
            gzipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            size = os.fstat(file.fileno()).st_size
            if not gzipped:
                dtype, shape, start = _header(file, path)
                _check_size(path, size, start + math.prod(shape) * dtype.itemsize)
                if 0 in shape:
                    return np.empty(shape, dtype=dtype)
                return map_file(path, dtype, start).reshape(shape)
            with gzip.GzipFile(fileobj=file) as stream:
                return _unpack(stream, path, size)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path.name} cannot be read: {error}", "Fetch the file again") from None


def _header(file: IO[bytes] | gzip.GzipFile, path: Path) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES or not 1 <= magic[3] <= 4:
        raise InputError(f"{path.name} is not an IDX file of integers: it starts with {magic!r}")
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise InputError(f"{path.name} ends inside its header", "Fetch the file again")
    shape = tuple(int(n) for n in np.frombuffer(sizes, dtype=">u4"))
    return _TYPES[magic[2]], shape, 4 + len(sizes)


def _check_size(path: Path, size: int, expected: int) -> None:
    if size != expected:
        raise InputError(
            f"{path.name} has {size:,} bytes where its header promises {expected:,}", "Fetch the file again"
        )


def _unpack(stream: gzip.GzipFile, path: Path, packed_size: int) -> Array:
    dtype, shape, start = _header(stream, path)
    length = math.prod(shape) * dtype.itemsize
    if length > min(_MOST_UNPACKED, _MOST_PACKED * packed_size):
        raise InputError(
            f"{path.name} has {packed_size:,} bytes and promises {length:,} unpacked ones",
            "Unpack it with gunzip first: plain IDX files are not read into memory",
        )
    out = np.empty(length, dtype=np.uint8)
    filled = 0
    while filled < length:
        piece = stream.read(min(1 << 20, length - filled))
        if not piece:
            _check_size(path, start + filled, start + length)
        out[filled : filled + len(piece)] = np.frombuffer(piece, dtype=np.uint8)
        filled += len(piece)
    if stream.read(1):
        _check_size(path, start + length + 1, start + length)
    return out.view(dtype).reshape(shape)
