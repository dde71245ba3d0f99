"""The PNG walker: every chunk's check sum, the size, and the bombs (PNG specification, third edition, 2025).

Pillow checks neither the check sums of the pixel chunks nor the depth of transparency keys, and inflates
text and profiles that nobody asked for.
"""

from __future__ import annotations

import struct
import zlib

from lastlayer.data.image_errors import Unusable
from lastlayer.data.image_exif import exif_orientation
from lastlayer.data.image_header import Header, check_size

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GRAY, RGB, PALETTE, GRAY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
_DEPTHS = {GRAY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GRAY_ALPHA: (8, 16), RGB_ALPHA: (8, 16)}
_INFLATED_LIMIT = {b"zTXt": 1 << 20, b"iTXt": 1 << 20, b"iCCP": 4 << 20}
_INFLATED_TOTAL = 8 << 20


def read_png(data: bytes, max_pixels: int) -> Header:
    """Walk the chunks up to IEND; refuses bad check sums and texts that inflate beyond 1 MiB each."""
    if data[12:16] == b"CgBI":
        raise Unusable("format", "a PNG of Apple's own kind (CgBI)")
    if len(data) < 33:
        raise Unusable("truncated")
    if data[8:16] != b"\0\0\0\x0dIHDR":
        raise Unusable("corrupt", "a PNG without its header chunk")
    width, height, bits, colour, compression, filtering, interlace = struct.unpack_from(">IIBBBBB", data, 16)
    if bits not in _DEPTHS.get(colour, ()) or compression or filtering or interlace > 1:
        raise Unusable("corrupt", f"PNG header with depth {bits}, colour type {colour}")
    check_size(width, height, max_pixels)
    chunks = _Chunks(data, colour)
    return Header(
        "PNG",
        width,
        height,
        chunks.clean(),
        orientation=exif_orientation(chunks.exif) if chunks.exif else 1,
        animated=chunks.frames > 1,
        bits=bits,
        gray=colour in (GRAY, GRAY_ALPHA) if colour != PALETTE else None,
        key=_key(chunks.transparency, colour),
        cut=chunks.cut,
    )


class _Chunks:
    """One walk over the chunks of a PNG; which ones Pillow shall see."""

    def __init__(self, data: bytes, colour: int) -> None:
        self.data = data
        self.kept: list[tuple[int, int]] = [(0, 8)]
        self.exif = self.transparency = b""
        self.frames = self.inflated = 0
        self.cut = True
        at = 8
        while at + 8 <= len(data):
            length = int.from_bytes(data[at : at + 4], "big")
            name = data[at + 4 : at + 8]
            end = at + 12 + length
            if end > len(data):
                if name == b"IDAT":
                    self.keep(at, len(data))
                break
            if zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
                raise Unusable("corrupt", f"PNG chunk {name.decode('latin-1')!r} has a wrong check sum")
            if name in (b"IDAT", b"IHDR", b"PLTE", b"IEND") or (name == b"tRNS" and colour == PALETTE):
                self.keep(at, end)
            else:
                self.note(name, at + 8, length)
            at = end
            if name == b"IEND":
                self.cut = False
                break

    def keep(self, start: int, end: int) -> None:
        if self.kept[-1][1] == start:
            self.kept[-1] = (self.kept[-1][0], end)
        else:
            self.kept.append((start, end))

    def note(self, name: bytes, at: int, length: int) -> None:
        """Read what an ancillary chunk has to say."""
        if name in _INFLATED_LIMIT:
            self.check_inflated(name, self.data[at : at + length])
        elif name == b"tRNS":
            self.transparency = self.data[at : at + length]
        elif name == b"eXIf":
            self.exif = self.data[at : at + length] or b"?"
        elif name == b"acTL" and length >= 4:
            self.frames = int.from_bytes(self.data[at : at + 4], "big")

    def check_inflated(self, name: bytes, chunk: bytes) -> None:
        """Measure a compressed text or profile; it is thrown away, but a bomb is no picture to keep."""
        start = _compressed_start(name, chunk)
        if start is None:
            return
        inflated = _inflated_size(chunk[start:], _INFLATED_LIMIT[name])
        self.inflated += inflated
        if inflated > _INFLATED_LIMIT[name] or self.inflated > _INFLATED_TOTAL:
            raise Unusable("too-large", f"PNG chunk {name.decode()} inflates beyond its limit", "Save it without texts")

    def clean(self) -> bytes:
        if len(self.kept) == 1 and self.kept[0][1] == len(self.data):
            return self.data
        return b"".join(self.data[start:end] for start, end in self.kept)


def _compressed_start(name: bytes, chunk: bytes) -> int | None:
    """Offset of the deflate stream in a zTXt, iCCP or iTXt chunk; None: there is none."""
    end = chunk.find(b"\0")
    if end < 0:
        return None
    if name != b"iTXt":
        return end + 2
    if chunk[end + 1 : end + 2] != b"\x01":
        return None
    language = chunk.find(b"\0", end + 3)
    translated = chunk.find(b"\0", language + 1) if language >= 0 else -1
    return translated + 1 if translated >= 0 else None


def _inflated_size(stream: bytes, limit: int) -> int:
    """Bytes that a deflate stream gives, counted up to just over `limit` in blocks of 64 KiB."""
    inflate = zlib.decompressobj()
    size = 0
    try:
        while stream and not inflate.eof and size <= limit:
            size += len(inflate.decompress(stream, 65536))
            stream = inflate.unconsumed_tail
    except zlib.error:
        return size
    return size


def _key(transparency: bytes, colour: int) -> tuple[int, ...]:
    count = {GRAY: 1, RGB: 3}.get(colour, 0)
    if not transparency or not count:
        return ()
    return struct.unpack_from(f">{count}H", transparency)
