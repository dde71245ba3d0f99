"""Makes one file of every odd kind, and says what must become of each.

`make_odd_images(folder)` writes them and returns name -> `Expected`. Names are as the system gives them
(surrogateescape). Pillow writes what it can write; what it cannot, or would lose, is packed by hand.
"""

from __future__ import annotations

import errno
import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

ACCEPTED, ALTERED, REFUSED = "accepted", "altered", "refused"


class Expected(NamedTuple):
    """What must become of a file: the outcome, and its alteration kinds or its reason to be refused."""

    outcome: str
    kinds: tuple[str, ...] = ()


def altered(*kinds: str) -> Expected:
    return Expected(ALTERED, kinds)


def refused(reason: str) -> Expected:
    return Expected(REFUSED, (reason,))


# --- pictures ---


def colours(width: int = 24, height: int = 16) -> np.ndarray:
    """A smooth RGB picture without symmetry, so that every turn shows."""
    y, x = np.mgrid[:height, :width].astype(float)
    red = 230 * x / max(1, width - 1)
    green = 200 * y / max(1, height - 1)
    blue = 120 + 100 * np.sin(3 * x / width + 2 * y / height)
    return np.stack([red, green, blue], axis=2).round().astype(np.uint8)


def grays(width: int = 24, height: int = 16) -> np.ndarray:
    return colours(width, height)[:, :, 2]


def deep_grays(width: int = 24, height: int = 16) -> np.ndarray:
    """16-bit values that use the whole range and whose low bytes are not zero."""
    return (
        (np.arange(width * height, dtype=np.int64) * 65521 // (width * height - 1))
        .astype(np.uint16)
        .reshape(height, width)
    )


def encode(picture: Image.Image | np.ndarray, format: str, **options: Any) -> bytes:
    # A copy, because Pillow's writers leave their settings on the picture.
    picture = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture.copy()
    if "append_images" in options:
        options["append_images"] = [later.copy() for later in options["append_images"]]
    stream = io.BytesIO()
    picture.save(stream, format, **options)
    return stream.getvalue()


# --- by hand ---


def chunk(name: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(
    width: int,
    height: int,
    bits: int,
    colour: int,
    rows: bytes,
    *extra: bytes,
    after: bytes = b"",
) -> bytes:
    """A PNG of given rows (each with its filter byte), with extra chunks before and after the pixels."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    start = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header)]
    return b"".join([*start, *extra, chunk(b"IDAT", zlib.compress(rows)), after, chunk(b"IEND")])


def deep_png(values: np.ndarray, colour: int, *extra: bytes) -> bytes:
    """A 16-bit PNG of uint16 (H, W) or (H, W, C) samples."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png(width, height, 16, colour, rows, *extra)


_TIFF_FORMATS = {1: "B", 3: "H", 4: "I"}


def tiff(values: np.ndarray, photometric: int, order: str = "<", *, next_page: int = 0, **tags: object) -> bytes:
    """An uncompressed TIFF of one strip; `tags` named t258 and so on replace the usual ones (SHORT lists)."""
    height, width = values.shape[:2]
    samples = 1 if values.ndim == 2 else values.shape[2]
    body = np.ascontiguousarray(values.astype(values.dtype.newbyteorder(order))).tobytes()
    table: dict[int, tuple[int, tuple[int, ...]]] = {
        256: (4, (width,)),
        257: (4, (height,)),
        258: (3, (8 * values.dtype.itemsize,) * samples),
        259: (3, (1,)),
        262: (3, (photometric,)),
        273: (4, (8,)),
        277: (3, (samples,)),
        278: (4, (height,)),
        279: (4, (len(body),)),
        339: (3, ({"u": 1, "i": 2, "f": 3}[values.dtype.kind],) * samples),
    }
    for name, value in tags.items():
        table[int(name[1:])] = (3, tuple(np.atleast_1d(value).tolist()))
    return _pack_tiff(order, body, table, next_page)


def _pack_tiff(order: str, body: bytes, table: dict[int, tuple[int, tuple[int, ...]]], next_page: int) -> bytes:
    body += b"\0" * (len(body) % 2)
    start = 8 + len(body)
    spill = start + 2 + 12 * len(table) + 4
    entries, outside = b"", b""
    for tag, (kind, values) in sorted(table.items()):
        raw = struct.pack(f"{order}{len(values)}{_TIFF_FORMATS[kind]}", *values)
        if len(raw) > 4:
            raw, outside = struct.pack(order + "I", spill + len(outside)), outside + raw + b"\0" * (len(raw) % 2)
        entries += struct.pack(order + "HHI", tag, kind, len(values)) + raw.ljust(4, b"\0")
    magic = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, start)
    return magic + body + struct.pack(order + "H", len(table)) + entries + struct.pack(order + "I", next_page) + outside


def exif(orientation: int, kind: int = 3) -> bytes:
    return b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHH", 274, kind, 1, orientation, 0) + b"\0\0\0\0"


def with_exif(jpeg: bytes, block: bytes) -> bytes:
    """Put an EXIF segment behind a JPEG's first marker."""
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:]


def pixel_bomb(side: int = 10_000) -> bytes:
    """A PNG of about 12 kB and a hundred million pixels, one bit each."""
    data = zlib.compress(b"\0" * ((1 + (side + 7) // 8) * side), 9)
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND")


def text_bomb(name: bytes = b"zTXt", inflated: int = 20_000_000, number: int = 1) -> bytes:
    """A small PNG whose texts inflate to `number` times `inflated` bytes."""
    prefix = {b"zTXt": b"Comment\0\0", b"iTXt": b"Comment\0\1\0en\0\0", b"iCCP": b"profile\0\0"}[name]
    bomb = chunk(name, prefix + zlib.compress(b"a" * inflated, 9))
    return png(1, 1, 8, 0, b"\0\x80", *[bomb] * number)


def _files() -> dict[str | bytes, tuple[bytes, Expected]]:
    rgb, gray = colours(), grays()
    jpeg = encode(rgb, "JPEG", quality=95)
    plain = encode(rgb, "PNG")
    files: dict[str | bytes, tuple[bytes, Expected]] = {
        "plain.jpg": (jpeg, Expected(ACCEPTED)),
        "gray.jpg": (encode(gray, "JPEG"), Expected(ACCEPTED)),
        "progressive.jpeg": (encode(rgb, "JPEG", progressive=True), Expected(ACCEPTED)),
        "plain.png": (plain, Expected(ACCEPTED)),
        "plain.webp": (encode(rgb, "WEBP", lossless=True), Expected(ACCEPTED)),
        "plain.bmp": (encode(rgb, "BMP"), Expected(ACCEPTED)),
        "plain.gif": (encode(Image.fromarray(rgb).quantize(32), "GIF"), Expected(ACCEPTED)),
        "plain.tif": (encode(rgb, "TIFF"), Expected(ACCEPTED)),
        "lzw.tiff": (encode(rgb, "TIFF", compression="tiff_lzw"), Expected(ACCEPTED)),
        "jpeg-in.tiff": (encode(rgb, "TIFF", compression="jpeg"), Expected(ACCEPTED)),
        "big-tiff.tif": (encode(rgb, "TIFF", big_tiff=True), Expected(ACCEPTED)),
        "UPPER.JPG": (jpeg, Expected(ACCEPTED)),
        "icc.png": (encode(rgb, "PNG", icc_profile=b"\0" * 3000), Expected(ACCEPTED)),
        "comment.gif": (encode(gray, "GIF", comment=b"hello " * 99), Expected(ACCEPTED)),
        "trailing.png": (plain + b"PK\3\4 and much more", Expected(ACCEPTED)),
        "trailing.jpg": (jpeg + b"<html>" * 9, Expected(ACCEPTED)),
        "one-pixel.png": (encode(rgb[:1, :1], "PNG"), Expected(ACCEPTED)),
        "wide.png": (encode(np.repeat(gray[:1, :1], 60_000, axis=1), "PNG"), Expected(ACCEPTED)),
        "a\nnew line.png": (plain, Expected(ACCEPTED)),
        "K\u00e4tzchen \u732b.png": (plain, Expected(ACCEPTED)),
        "control\x07\x1b.png": (plain, Expected(ACCEPTED)),
        "animated.gif.png": (plain, Expected(ACCEPTED)),
        "wrong.png": (jpeg, altered("extension")),
        "no-extension": (jpeg, altered("extension")),
        **_modes(rgb, gray),
        **_turned(rgb),
        **_frames(rgb),
        **_damaged(jpeg, plain, rgb),
        **_foreign(),
    }
    if os.name == "posix" and os.uname().sysname == "Linux":
        files[b"caf\xe9 not utf-8.png"] = (plain, Expected(ACCEPTED))
    return files


def _modes(rgb: np.ndarray, gray: np.ndarray) -> dict[str, tuple[bytes, Expected]]:
    deep = deep_grays()
    deep_rgb = np.stack([deep, deep[::-1], deep[:, ::-1]], axis=2)
    alpha = np.where(np.arange(24) < 8, 0, 255).astype(np.uint8)[None].repeat(16, axis=0)
    opaque = np.full_like(alpha, 255)
    rgba = np.dstack([rgb, alpha])
    palette = Image.fromarray(rgb).quantize(16)
    cmyk = Image.fromarray(rgb).convert("CMYK")
    bits = Image.fromarray(gray).convert("1")
    lab = Image.merge("LAB", [Image.fromarray(gray)] * 3)
    return {
        "one-bit.png": (encode(bits, "PNG"), Expected(ACCEPTED)),
        "one-bit.tif": (encode(bits, "TIFF", compression="group4"), Expected(ACCEPTED)),
        "palette.png": (encode(palette, "PNG"), Expected(ACCEPTED)),
        "palette-transparent.png": (encode(palette, "PNG", transparency=0), altered("alpha")),
        "palette-alpha-table.png": (encode(palette, "PNG", transparency=bytes(range(0, 160, 10))), altered("alpha")),
        "transparent.gif": (encode(palette, "GIF", transparency=0), altered("alpha")),
        "gray-alpha.png": (encode(_la(gray, alpha), "PNG"), altered("alpha")),
        "palette-and-alpha.tif": (encode(_pa(palette, alpha), "TIFF"), altered("alpha")),
        "rgba.png": (encode(rgba, "PNG"), altered("alpha")),
        "rgba.webp": (encode(rgba, "WEBP", lossless=True), altered("alpha")),
        "rgba.tif": (encode(rgba, "TIFF"), altered("alpha")),
        "premultiplied.tif": (tiff(rgba, 2, t338=1), altered("alpha")),
        "rgba-opaque.png": (encode(np.dstack([rgb, opaque]), "PNG"), Expected(ACCEPTED)),
        "rgb-key.png": (encode(rgb, "PNG", transparency=tuple(int(v) for v in rgb[3, 3])), altered("alpha")),
        "rgb-key-unused.png": (encode(rgb, "PNG", transparency=(1, 2, 3)), Expected(ACCEPTED)),
        "gray-4-bit-key.png": (png(4, 1, 4, 0, b"\0\x12\x3f", chunk(b"tRNS", b"\0\3")), altered("alpha")),
        "cmyk.jpg": (encode(cmyk, "JPEG"), altered("cmyk")),
        "cmyk.tif": (encode(cmyk, "TIFF"), altered("cmyk")),
        "deep-gray.png": (deep_png(deep, 0), altered("depth16")),
        "deep-gray-alpha.png": (deep_png(np.dstack([deep, deep]), 4), altered("depth16", "alpha")),
        "deep-rgb.png": (deep_png(deep_rgb, 2), altered("depth16")),
        "deep-rgba.png": (deep_png(np.dstack([deep_rgb, np.full_like(deep, 65535)]), 6), altered("depth16")),
        "deep-12-bit.png": (deep_png(deep >> 4, 0), altered("depth16", "looks-12-bit")),
        "deep-gray.tif": (tiff(deep, 1), altered("depth16")),
        "deep-gray-motorola.tif": (tiff(deep, 1, ">"), altered("depth16")),
        "deep-negative.tif": (tiff(deep, 0), altered("depth16")),
        "deep-rgb.tif": (tiff(deep_rgb, 2), altered("depth16")),
        "deep-rgb-motorola.tif": (tiff(deep_rgb, 2, ">"), altered("depth16")),
        "deep-cmyk.tif": (tiff(np.dstack([deep_rgb, deep]), 5), altered("depth16", "cmyk")),
        "int32.tif": (encode(Image.fromarray(deep.astype(np.int32)), "TIFF"), refused("depth32")),
        "uint32.tif": (tiff(deep.astype(np.uint32) << 16, 1), refused("depth32")),
        "float.tif": (encode(Image.fromarray((deep / 65535).astype(np.float32)), "TIFF"), refused("float")),
        "float-rgb.tif": (tiff(deep_rgb.astype(np.float32), 2), refused("float")),
        "signed16.tif": (tiff(deep.astype(np.int16), 1), refused("signed")),
        "signed8.tif": (tiff(gray.astype(np.int8), 1), refused("signed")),
        "lab.tif": (encode(lab, "TIFF"), refused("colour-mode")),
        "six-bands.tif": (tiff(np.dstack([rgb, rgb]), 2, t338=(0, 0, 0)), refused("colour-mode")),
        "near-infrared.tif": (tiff(rgba, 2, t338=0), refused("colour-mode")),
    }  # fmt: skip


def _la(gray: np.ndarray, alpha: np.ndarray) -> Image.Image:
    return Image.merge("LA", [Image.fromarray(gray), Image.fromarray(alpha)])


def _pa(palette: Image.Image, alpha: np.ndarray) -> Image.Image:
    picture = palette.convert("PA")
    picture.putalpha(Image.fromarray(alpha))
    return picture


def _turned(rgb: np.ndarray) -> dict[str, tuple[bytes, Expected]]:
    jpeg = encode(rgb, "JPEG", quality=95)
    files = {}
    for orientation in range(1, 9):
        outcome = Expected(ACCEPTED) if orientation == 1 else altered("rotated")
        files[f"exif-{orientation}.jpg"] = (with_exif(jpeg, exif(orientation)), outcome)
        files[f"exif-{orientation}.tif"] = (tiff(rgb, 2, t274=orientation), outcome)
    files["exif.png"] = (encode(rgb, "PNG", exif=exif(6)), altered("rotated"))
    files["exif.webp"] = (encode(rgb, "WEBP", lossless=True, exif=exif(6)), altered("rotated"))
    files["exif-0.jpg"] = (with_exif(jpeg, exif(0)), altered("exif"))
    files["exif-9.jpg"] = (with_exif(jpeg, exif(9)), altered("exif"))
    files["exif-9.tif"] = (tiff(rgb, 2, t274=9), altered("exif"))
    files["exif-text.jpg"] = (with_exif(jpeg, exif(6, kind=2)), altered("exif"))
    files["exif-broken.jpg"] = (with_exif(jpeg, b"Exif\0\0MM\0*\0\0\xff\xff"), altered("exif"))
    return files


def _frames(rgb: np.ndarray) -> dict[str, tuple[bytes, Expected]]:
    later = [Image.fromarray(255 - rgb), Image.fromarray(rgb[::-1])]
    more = {"save_all": True, "append_images": later}
    first = Image.fromarray(rgb)
    mpo = encode(first, "MPO", quality=95, **more)
    return {
        "animated.gif": (encode(first.quantize(32), "GIF", **more), altered("animated")),
        "animated.webp": (encode(first, "WEBP", lossless=True, **more), altered("animated")),
        "animated.png": (encode(first, "PNG", **more), altered("animated")),
        "pages.tif": (encode(first, "TIFF", **more), altered("animated")),
        "stereo.mpo": (mpo, Expected(ACCEPTED)),
        "stereo.jpg": (mpo, Expected(ACCEPTED)),
        "stereo-damaged.jpg": (mpo.replace(b"MPF\0II*\0", b"MPF\0II*\1"), Expected(ACCEPTED)),
    }


def _damaged(jpeg: bytes, plain: bytes, rgb: np.ndarray) -> dict[str, tuple[bytes, Expected]]:
    bad_sum = bytearray(plain)
    bad_sum[plain.index(b"IDAT") + 12] ^= 0x40
    header_sum = bytearray(plain)
    header_sum[29] ^= 1
    stream = chunk(b"IDAT", b"\x78\x9c" + b"\xff" * 60)
    broken_stream = plain[:33] + stream + chunk(b"IEND")
    zipped = encode(rgb, "TIFF", compression="tiff_adobe_deflate")
    gif = encode(Image.fromarray(rgb).quantize(32), "GIF")
    webp = encode(rgb, "WEBP", lossless=True)
    bitmap = struct.pack("<IIiiHHI", 54, 40, 30_000, -30_000, 1, 8, 1) + b"\0" * 20
    canvas = b"VP8X\x0a\0\0\0\0\0\0\0\xff\xff\x7f\xff\xff\x7f" + b"\0" * 8
    return {
        "zero.jpg": (b"", refused("empty")),
        "three-bytes.jpg": (b"\xff\xd8\xff", refused("empty")),
        "truncated.jpg": (jpeg[: len(jpeg) // 2], refused("truncated")),
        "truncated.png": (plain[: len(plain) // 2], refused("truncated")),
        "truncated.gif": (gif[: len(gif) * 2 // 3], refused("truncated")),
        "truncated.webp": (webp[: len(webp) // 2], refused("truncated")),
        "truncated.bmp": (encode(rgb, "BMP")[:500], refused("truncated")),
        "truncated.tif": (tiff(rgb, 2)[:500], refused("truncated")),
        "truncated-strip.tif": (zipped[:-1] if zipped[4:8] == b"\x08\0\0\0" else zipped[:40], refused("truncated")),
        "bad-sum.png": (bytes(bad_sum), refused("corrupt")),
        "bad-header-sum.png": (bytes(header_sum), refused("corrupt")),
        "broken-stream.png": (broken_stream, refused("corrupt")),
        "no-frame.jpg": (b"\xff\xd8\xff\xd9" + b"\0" * 40, refused("corrupt")),
        "zero-size.png": (png(0, 7, 8, 0, b""), refused("corrupt")),
        "bomb.png": (pixel_bomb(), refused("too-large")),
        "bomb.gif": (b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2\2\x44\1\0;", refused("too-large")),
        "bomb.webp": (b"RIFF\x1e\0\0\0WEBP" + canvas, refused("too-large")),
        "bomb.bmp": (b"BM" + b"\0" * 8 + bitmap, refused("too-large")),
        "bomb.jpg": (jpeg.replace(b"\x08\x00\x10\x00\x18", b"\x08\xff\xff\xff\xff"), refused("too-large")),
        "bomb.tif": (tiff(rgb, 2, t256=60_000, t257=60_000), refused("too-large")),
        "text-bomb.png": (text_bomb(), refused("too-large")),
        "text-bombs.png": (text_bomb(inflated=1 << 20, number=40), refused("too-large")),
        "international-text-bomb.png": (text_bomb(b"iTXt"), refused("too-large")),
        "profile-bomb.png": (text_bomb(b"iCCP"), refused("too-large")),
    }  # fmt: skip


def _foreign() -> dict[str, tuple[bytes, Expected]]:
    svg = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
    deeper = encode(grays(), "JPEG").replace(b"\xff\xc0\0\x0b\x08", b"\xff\xc0\0\x0b\x0c")
    return {
        "page.jpg": (b"<!DOCTYPE html><html><body>404 Not Found</body></html>", refused("not-an-image")),
        "text.png": (b"this is a text about cats, not a cat\n" * 3, refused("not-an-image")),
        "noise.jpg": (bytes(range(7, 200)), refused("not-an-image")),
        "drawing.svg": (svg, refused("format")),
        "print.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", refused("format")),
        "ghost.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", refused("format")),
        "phone.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 40, refused("format")),
        "phone.avif": (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + b"\0" * 40, refused("format")),
        "layers.psd": (b"8BPS\0\1" + b"\0" * 60, refused("format")),
        "icon.ico": (encode(colours(16, 16), "ICO"), refused("format")),
        "paper.pdf": (b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n", refused("format")),
        "raw.cr2": (b"II\x2a\0\x10\0\0\0CR\2\0" + b"\0" * 40, refused("format")),
        "raw.dng": (tiff(grays(), 1, t50706=(1, 4)), refused("format")),
        "map.pgm": (b"P5 2 2 255\n\1\2\3\4", refused("format")),
        "twelve-bit.jpg": (deeper, refused("format")),
        "data.npz": (b"PK\3\4" + b"\0" * 60, refused("format")),
    }  # fmt: skip


# --- things that are no regular files ---


def _specials(folder: Path) -> dict[str, Expected]:
    specials: dict[str, tuple[Callable[[str], object], Expected]] = {
        "folder.png": (os.mkdir, refused("not-a-file")),
        "dangling.png": (lambda path: os.symlink("nowhere.png", path), refused("link")),
        "looping.png": (lambda path: os.symlink("looping.png", path), refused("link")),
        "linked.png": (lambda path: os.symlink("plain.png", path), Expected(ACCEPTED)),
    }
    if hasattr(os, "mkfifo"):
        specials["pipe.png"] = (os.mkfifo, refused("not-a-file"))
    made = {}
    for name, (make, expected) in specials.items():
        try:
            make(str(folder / name))
        except OSError as error:  # Windows without the right to make links, file systems without pipes
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EINVAL, None):
                raise
            continue
        made[name] = expected
    return made


def make_odd_images(folder: str | os.PathLike[str]) -> dict[str, Expected]:
    """Write every odd file into a folder (made if missing); name -> what must become of it."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    expected: dict[str, Expected] = {}
    for name, (data, outcome) in _files().items():
        text = os.fsdecode(name)
        with open(os.path.join(os.fsencode(target), os.fsencode(name)), "wb") as stream:
            stream.write(data)
        expected[text] = outcome
    expected.update(_specials(target))
    return expected
