"""The walkers of GIF, WebP and BMP."""

from __future__ import annotations

import struct

from lastlayer.data.image_errors import Unusable
from lastlayer.data.image_exif import exif_orientation
from lastlayer.data.image_header import Header, check_size

# --- GIF (GIF89a specification, 1990) ---

_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B
_GRAPHIC_CONTROL = 0xF9


def read_gif(data: bytes, max_pixels: int) -> Header:
    """Keep the screen, the first frame and its control block; comments and later frames go."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    parts = [data[:at]]
    control = b""
    frame = None
    animated, cut = False, True
    while at < len(data):
        block = data[at]
        if block == _EXTENSION:
            end = _after_sub_blocks(data, at + 2)
            if data[at + 1 : at + 2] == bytes([_GRAPHIC_CONTROL]) and frame is None:
                control = data[at:end]
        elif block == _IMAGE:
            if frame is not None:
                animated = True
                break
            left, top, wide, high, local = struct.unpack_from("<HHHHB", data, at + 1)
            width, height = max(width, left + wide), max(height, top + high)
            end = _after_sub_blocks(data, at + 11 + (3 << ((local & 7) + 1) if local & 0x80 else 0))
            frame = data[at:end]
            cut = end > len(data)
        else:  # the trailer, or junk where only the trailer may stand
            break
        at = end
    check_size(width, height, max_pixels)
    if frame is None:
        raise Unusable("truncated" if at >= len(data) else "corrupt", "a GIF without a picture")
    parts += [control, frame] + ([] if cut else [bytes([_TRAILER])])
    return Header("GIF", width, height, b"".join(parts), animated=animated, cut=cut)


def _after_sub_blocks(data: bytes, at: int) -> int:
    """Offset behind a chain of sub-blocks; past the end of the data when the chain is cut."""
    while at < len(data):
        size = data[at]
        at += size + 1
        if size == 0:
            return at
    return len(data) + 1


# --- WebP (RFC 9649) ---


def read_webp(data: bytes, max_pixels: int) -> Header:
    """Size of the canvas, EXIF and number of frames from the RIFF chunks."""
    width, height = _webp_size(data)
    check_size(width, height, max_pixels)
    length = 8 + int.from_bytes(data[4:8], "little")
    exif, frames, at = b"", 0, 12
    while at + 8 <= min(length, len(data)):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if name == b"EXIF":
            exif = data[at + 8 : at + 8 + size] or b"?"
        elif name == b"ANMF":
            frames += 1
        at += 8 + size + (size & 1)
    return Header(
        "WEBP",
        width,
        height,
        data,
        orientation=exif_orientation(exif) if exif else 1,
        animated=frames > 1,
        gray=False,
        cut=length > len(data),
    )


def _webp_size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if len(data) < 30:
        raise Unusable("truncated")
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L" and data[20] == 0x2F:
        packed = int.from_bytes(data[21:25], "little")
        return 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise Unusable("corrupt", "a WebP without a readable frame header")


# --- BMP ---


def read_bmp(data: bytes, max_pixels: int) -> Header:
    """Size from the bitmap header; a negative height means rows from the top."""
    (size,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if size == 12 else "<ii", data, 18)
    check_size(width, abs(height), max_pixels)
    return Header("BMP", width, abs(height), data)
