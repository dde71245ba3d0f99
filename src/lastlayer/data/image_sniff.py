"""Which format a file is, told by its first bytes and never by its name."""

from __future__ import annotations

from collections.abc import Callable

from lastlayer.data.image_errors import Unusable
from lastlayer.data.image_header import Header
from lastlayer.data.image_jpeg import read_jpeg
from lastlayer.data.image_png import SIGNATURE, read_png
from lastlayer.data.image_simple import read_bmp, read_gif, read_webp
from lastlayer.data.image_tiff import read_tiff

_SHORTEST_HEADER = 12

SUFFIXES: dict[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
}
"""The usual endings of each format: hints for listing and for the `extension` alteration."""

_FOREIGN: tuple[tuple[int, bytes, str], ...] = (
    (0, b"8BPS", "a Photoshop file (PSD)"),
    (0, b"%PDF", "a PDF"),
    (0, b"%!PS", "a PostScript file (EPS)"),
    (0, b"\xc5\xd0\xd3\xc6", "a PostScript file (EPS)"),
    (0, b"\0\0\1\0", "an icon (ICO)"),
    (0, b"\0\0\2\0", "a cursor (CUR)"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    (0, b"\xff\x0a", "a JPEG XL image"),
    (0, b"II\x2a\0\x10\0\0\0CR", "a camera raw (CR2)"),
    (0, b"IIRO", "a camera raw (ORF)"),
    (0, b"IIRS", "a camera raw (ORF)"),
    (0, b"IIU\0", "a camera raw (RW2)"),
    (0, b"FUJIFILMCCD-RAW", "a camera raw (RAF)"),
    (0, b"gimp xcf", "a GIMP file (XCF)"),
    (0, b"DDS ", "a DDS texture"),
    (0, b"\x76\x2f\x31\x01", "an OpenEXR image"),
    (0, b"#?RADIANCE", "a Radiance HDR image"),
    (0, b"SIMPLE  =", "a FITS image"),
    (128, b"DICM", "a DICOM image"),
    (0, b"qoif", "a QOI image"),
    (0, b"\xd7\xcd\xc6\x9a", "a Windows metafile (WMF)"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"PK\3\4", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
)

_BRANDS: dict[bytes, str] = {
    b"avif": "an AVIF image",
    b"avis": "an AVIF image",
    b"heic": "a HEIC image",
    b"heix": "a HEIC image",
    b"hevc": "a HEIC image",
    b"heim": "a HEIC image",
    b"heis": "a HEIC image",
    b"mif1": "a HEIF image",
    b"msf1": "a HEIF image",
    b"crx ": "a camera raw (CR3)",
}

_TIFF_STARTS = (b"II\x2a\0", b"MM\0\x2a", b"II\x2b\0", b"MM\0\x2b")


def _reader(data: bytes) -> Callable[[bytes, int], Header] | None:
    if data.startswith(b"\xff\xd8\xff"):
        return read_jpeg
    if data.startswith(SIGNATURE):
        return read_png
    if data.startswith((b"GIF87a", b"GIF89a")):
        return read_gif
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return read_webp
    if data.startswith(_TIFF_STARTS) and data[8:10] != b"CR":
        return read_tiff
    if data.startswith(b"BM") and data[15:18] == b"\0\0\0":
        return read_bmp
    return None


def read_header(data: bytes, max_pixels: int) -> Header:
    """Header of any of the six formats; refuses the others, by their names where they are known."""
    if len(data) < _SHORTEST_HEADER:
        raise Unusable("empty", f"{len(data)} bytes")
    reader = _reader(data)
    if reader is not None:
        return reader(data, max_pixels)
    foreign = _foreign(data)
    if foreign:
        raise Unusable("format", foreign)
    raise Unusable("not-an-image", _looks_like(data))


def _foreign(data: bytes) -> str:
    for offset, magic, name in _FOREIGN:
        if data[offset : offset + len(magic)] == magic:
            return name
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12], "a video or a HEIF image")
    if data[:1] == b"P" and data[1:2] in b"1234567" and data[2:3].isspace():
        return "a portable map (PNM)"
    start = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<svg", b"<?xml", b"<!doctype svg", b"<!--")) and b"<svg" in start:
        return "a drawing (SVG)"
    return ""


def _looks_like(data: bytes) -> str:
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "a web page"
    if not any(byte < 9 or 13 < byte < 27 for byte in data[:512]):
        return "text"
    return "unknown content"
