"""The JPEG walker: segments up to the first scan (ITU-T T.81, annex B).

Of an MPO (several JPEGs in one file) this leaves the first picture, which is the one meant to be shown.
"""

from __future__ import annotations

from lastlayer.data.image_errors import Unusable
from lastlayer.data.image_exif import exif_orientation
from lastlayer.data.image_header import Header, check_size

_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE = frozenset({0x01, _SOI, *range(0xD0, 0xD8)})
_PLAIN = frozenset({0xC4, 0xCC, 0xDB, 0xDD, 0xE0})  # tables and the JFIF header: kept unread
_APP1, _APP14, _APP15, _COMMENT = 0xE1, 0xEE, 0xEF, 0xFE
_MAX_SCAN_PIXELS = 2_500_000_000  # 100 scans of 25 million pixels: seconds; thousands of scans: a time bomb


class _Segments:
    """One walk over the segments before the first scan."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.kept: list[tuple[int, int]] = []
        self.exif = b""
        self.frames: list[tuple[int, int, int, int]] = []  # precision, height, width, components
        self.adobe = False
        self.scan = self.walk()

    def walk(self) -> int:
        """Offset of the first scan."""
        data, at = self.data, 2
        start = 0
        while True:
            at = data.find(b"\xff", at)
            if at < 0 or at + 1 >= len(data):
                raise Unusable("truncated")
            marker = data[at + 1]
            if marker in (0x00, 0xFF):
                at += 1
                continue
            if marker in _ALONE:
                at += 2
                continue
            if marker == _SOS:
                self.kept.append((start, len(data)))
                return at
            if marker == _EOI:
                raise Unusable("corrupt", "a JPEG that ends without a picture")
            end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
            if end > len(data) or at + 4 > len(data):
                raise Unusable("truncated")
            if end < at + 4:
                raise Unusable("corrupt", "a JPEG segment of impossible length")
            if marker not in _PLAIN and not self.note(marker, at + 4, end):
                self.kept.append((start, at))
                start = end
            at = end

    def note(self, marker: int, start: int, end: int) -> bool:
        """Read a segment; whether Pillow shall see it."""
        data = self.data
        if marker in _FRAMES:
            if end - start < 6:
                raise Unusable("corrupt", "a JPEG frame header that is too short")
            number = int.from_bytes
            self.frames.append(
                (
                    data[start],
                    number(data[start + 1 : start + 3], "big"),
                    number(data[start + 3 : start + 5], "big"),
                    data[start + 5],
                )
            )
        elif marker == _APP1 and data[start : start + 6] == b"Exif\0\0" and not self.exif:
            self.exif = data[start:end]
        elif marker == _APP14 and data[start : start + 5] == b"Adobe":
            self.adobe = True
        return not (_APP1 <= marker <= _APP15 and marker != _APP14) and marker != _COMMENT

    def clean(self) -> bytes:
        if len(self.kept) == 1:
            return self.data
        return b"".join(self.data[start:end] for start, end in self.kept)


def read_jpeg(data: bytes, max_pixels: int) -> Header:
    """Walk the segments; refuses 12-bit JPEGs, odd numbers of components and endless progressive scans."""
    segments = _Segments(data)
    if not segments.frames:
        raise Unusable("corrupt", "a JPEG without a frame header")
    for precision, height, width, components in segments.frames:
        check_size(width, height, max_pixels)
        if precision != 8:
            raise Unusable("format", f"a JPEG of {precision} bits a sample")
        if components not in (1, 3, 4):
            raise Unusable("colour-mode", f"a JPEG of {components} components")
    _, height, width, components = segments.frames[-1]
    if data.count(b"\xff\xda", segments.scan) * width * height > max(_MAX_SCAN_PIXELS, 4 * max_pixels):
        raise Unusable("too-large", "a progressive JPEG of thousands of scans", "Save it as baseline JPEG")
    return Header(
        "JPEG",
        width,
        height,
        segments.clean(),
        orientation=exif_orientation(segments.exif) if segments.exif else 1,
        gray=components == 1,
        plain_cmyk=components == 4 and not segments.adobe,
    )
