"""The orientation tag of EXIF data, and nothing else of it."""

from __future__ import annotations

import struct

from lastlayer.data.image_header import BROKEN_EXIF

_ORIENTATION = 274
_SHORT, _LONG = 3, 4


def exif_orientation(exif: bytes) -> int:
    r"""Orientation 1..8 of a TIFF-structured EXIF block; 1 when it has none, `BROKEN_EXIF` when it is broken.

    Only the first directory is read, where the tag belongs (Exif 2.32, section 4.6.4).

    >>> exif_orientation(b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0")
    6
    >>> exif_orientation(b"MM\0*\0\0\0\xff")
    0
    """
    if exif[:6] == b"Exif\0\0":
        exif = exif[6:]
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    try:
        if order is None or struct.unpack_from(order + "H", exif, 2) != (42,):
            return BROKEN_EXIF
        (start,) = struct.unpack_from(order + "I", exif, 4)
        (entries,) = struct.unpack_from(order + "H", exif, start)
        for at in range(start + 2, start + 2 + 12 * entries, 12):
            tag, kind, count = struct.unpack_from(order + "HHI", exif, at)
            if tag == _ORIENTATION:
                return _value(exif, at + 8, order, kind, count)
    except struct.error:
        return BROKEN_EXIF
    return 1


def _value(exif: bytes, at: int, order: str, kind: int, count: int) -> int:
    if count != 1 or kind not in (_SHORT, _LONG):
        return BROKEN_EXIF
    (value,) = struct.unpack_from(order + ("H" if kind == _SHORT else "I"), exif, at)
    return int(value) if 1 <= value <= 8 else BROKEN_EXIF
