"""The TIFF walker: the first directory, reduced to the tags that describe pixels (TIFF 6.0, 1992; BigTIFF).

The file Pillow gets is the old one with a shorter directory written over the old directory: no second page,
no private tags, no orientation (the turn is done once, by `image_modes.py`, for every format alike). Nothing is
appended, since an uncompressed picture that is cut would read it as pixels.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from lastlayer.data.image_errors import Unusable
from lastlayer.data.image_header import BROKEN_EXIF, Header, check_size

_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 6: 1, 7: 1, 8: 2, 9: 4, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGER_TYPES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}

_SUBFILE, _WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 254, 256, 257, 258, 259, 262, 266
_STRIP_OFFSETS, _ORIENTATION, _SAMPLES, _ROWS, _STRIP_COUNTS, _PLANAR = 273, 274, 277, 278, 279, 284
_T4, _T6, _PREDICTOR, _COLOUR_MAP, _TILE_WIDTH, _TILE_LENGTH = 292, 293, 317, 320, 322, 323
_TILE_OFFSETS, _TILE_COUNTS, _SUB_DIRECTORIES, _EXTRA, _FORMAT, _JPEG_TABLES = 324, 325, 330, 338, 339, 347
_YCBCR_COEFFICIENTS, _SUBSAMPLING, _POSITIONING, _REFERENCE_BLACK_WHITE, _DNG = 529, 530, 531, 532, 50706
_OLD_JPEG = (512, 513, 514, 515, 519, 520, 521)

_SCALARS = frozenset(
    {_WIDTH, _LENGTH, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER, _SAMPLES, _ROWS, _PLANAR}
    | {_T4, _T6, _PREDICTOR, _TILE_WIDTH, _TILE_LENGTH, _POSITIONING}
)
_LISTS = frozenset(
    {_BITS, _STRIP_OFFSETS, _STRIP_COUNTS, _COLOUR_MAP, _TILE_OFFSETS, _TILE_COUNTS, _EXTRA, _FORMAT}
    | {_JPEG_TABLES, _SUBSAMPLING, *_OLD_JPEG}
)
_RATIONALS = frozenset({_YCBCR_COEFFICIENTS, _REFERENCE_BLACK_WHITE})
_MAX_PIECES = 262_144

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_BANDS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3}
_RAW_PHOTOMETRIC = (32803, 34892)
_UNSPECIFIED = 0
_UNCOMPRESSED = 1
# LZMA (34925) is left out: a small file may ask its decoder for gigabytes.
_COMPRESSIONS = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 32771, 32773, 32809, 32946, 50000, 50001})


@dataclass(frozen=True)
class _Entry:
    tag: int
    type: int
    count: int
    raw: bytes  # the value, or its offset, as stored in the entry
    at: int  # where the value lies in the file

    @property
    def size(self) -> int:
        return self.count * _TYPE_SIZES[self.type]


class _Directory:
    """The first directory of a TIFF."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.order = "<" if data[:2] == b"II" else ">"
        self.big = struct.unpack_from(self.order + "H", data, 2) == (43,)
        self.word = "Q" if self.big else "I"  # type of counts and offsets
        self.inline = 8 if self.big else 4
        (start,) = struct.unpack_from(self.order + self.word, data, 8 if self.big else 4)
        (number,) = struct.unpack_from(self.order + ("Q" if self.big else "H"), data, start)
        first, step = start + (8 if self.big else 2), 20 if self.big else 12
        if number > 65535 or first + number * step > len(data):
            raise Unusable("truncated", "the TIFF's directory lies outside the file")
        self.start, self.number_of_entries = start, number
        self.entries: dict[int, _Entry] = {}
        for at in range(first, first + number * step, step):
            self.add(at)
        end = first + number * step
        following = data[end : end + self.inline]
        self.more = any(following)

    def add(self, at: int) -> None:
        tag, kind, count = struct.unpack_from(self.order + "HH" + self.word, self.data, at)
        if kind not in _TYPE_SIZES and tag not in _RATIONALS:
            return
        size = count * _TYPE_SIZES.get(kind, 8)
        value = at + 4 + self.inline
        raw = self.data[value : value + self.inline]
        if size > self.inline:
            (value,) = struct.unpack(self.order + self.word, raw)
        if value + size > len(self.data):
            if tag in _SCALARS or tag in _LISTS:
                raise Unusable("truncated", f"tag {tag} of the TIFF lies outside the file")
            return
        self.entries.setdefault(tag, _Entry(tag, kind, count, raw, value))

    def numbers(self, tag: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        entry = self.entries.get(tag)
        if entry is None or entry.type not in _INTEGER_TYPES or entry.count == 0:
            return default
        if entry.count > _MAX_PIECES:
            raise Unusable("too-large", f"a TIFF in {entry.count} pieces", "Save it with larger strips or tiles")
        return struct.unpack_from(f"{self.order}{entry.count}{_INTEGER_TYPES[entry.type]}", self.data, entry.at)

    def number(self, tag: int, default: int) -> int:
        return self.numbers(tag, (default,))[0]

    def rewritten(self) -> bytes:
        """The file with a directory of the pixels' tags alone."""
        packed = []
        for tag in sorted(self.entries):
            entry = self.entries[tag]
            if tag in _SCALARS and entry.type in _INTEGER_TYPES and entry.count:
                value = struct.pack(self.order + self.word, self.number(tag, 0))
                packed.append(struct.pack(f"{self.order}HH{self.word}", tag, 16 if self.big else 4, 1) + value)
            elif tag in _LISTS or tag in _RATIONALS:
                packed.append(struct.pack(f"{self.order}HH{self.word}", tag, entry.type, entry.count) + entry.raw)
        directory = struct.pack(self.order + ("Q" if self.big else "H"), len(packed)) + b"".join(packed)
        size = (8 if self.big else 2) + self.number_of_entries * (20 if self.big else 12) + self.inline
        end = self.start + size
        return self.data[: self.start] + directory.ljust(size, b"\0") + self.data[end:]


def read_tiff(data: bytes, max_pixels: int) -> Header:
    """Read the first directory; refuses camera raws, floats, 32-bit and signed samples and many bands."""
    tags = _Directory(data)
    width, height = tags.number(_WIDTH, 0), tags.number(_LENGTH, 0)
    check_size(width, height, max_pixels)
    photometric = tags.number(_PHOTOMETRIC, _WHITE_IS_ZERO)
    if (
        _DNG in tags.entries
        or photometric in _RAW_PHOTOMETRIC
        or (tags.number(_SUBFILE, 0) & 1 and _SUB_DIRECTORIES in tags.entries)
    ):
        raise Unusable("format", "a camera raw (TIFF-based)")
    samples = tags.number(_SAMPLES, 1)
    bits = max(tags.numbers(_BITS, (1,)))
    _check_samples(tags, photometric, bits, samples)
    compression = tags.number(_COMPRESSION, _UNCOMPRESSED)
    if compression not in _COMPRESSIONS:
        raise Unusable("format", f"a TIFF of compression {compression}")
    if photometric == _YCBCR and compression == _UNCOMPRESSED and tags.numbers(_SUBSAMPLING, (2, 2)) != (1, 1):
        raise Unusable("colour-mode", "an uncompressed TIFF in subsampled YCbCr")
    _check_pieces(tags, compression)
    orientation = tags.numbers(_ORIENTATION, (1,) if _ORIENTATION not in tags.entries else (BROKEN_EXIF,))[0]
    return Header(
        "TIFF",
        width,
        height,
        tags.rewritten(),
        orientation=orientation if 1 <= orientation <= 8 else BROKEN_EXIF,
        animated=tags.more,
        bits=bits,
        white_is_zero=photometric == _WHITE_IS_ZERO and bits == 16,
    )


def _check_samples(tags: _Directory, photometric: int, bits: int, samples: int) -> None:
    formats = set(tags.numbers(_FORMAT, (1,)))
    if formats & {3, 6}:
        raise Unusable("float", f"{bits}-bit floating-point pixels")
    if formats & {2, 5}:
        raise Unusable("depth32" if bits == 32 else "signed", f"{bits}-bit signed integer pixels")
    if bits > 16:
        raise Unusable("depth32", f"{bits}-bit integer pixels")
    bands = _BANDS.get(photometric)
    if bands is None:
        raise Unusable("colour-mode", f"a TIFF of photometric interpretation {photometric} (CIELab or another)")
    extra = tags.numbers(_EXTRA)
    if photometric == _YCBCR and samples == 1:
        bands = 1
    if samples > bands + 1 or _UNSPECIFIED in extra:
        raise Unusable("colour-mode", f"a TIFF of {samples} bands", "Export the bands to use as RGB or gray")


def _check_pieces(tags: _Directory, compression: int) -> None:
    """Refuse strips and tiles behind the end; a cut JPEG strip would be padded with gray in silence."""
    for offsets_tag, counts_tag in ((_STRIP_OFFSETS, _STRIP_COUNTS), (_TILE_OFFSETS, _TILE_COUNTS)):
        offsets, counts = tags.numbers(offsets_tag), tags.numbers(counts_tag)
        for offset, count in zip(offsets, counts):
            if offset + (count if compression != _UNCOMPRESSED else 0) > len(tags.data):
                raise Unusable("truncated")
