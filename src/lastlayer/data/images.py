"""Any image file becomes uint8 (H, W, C), or is refused by name.

What happens to a file, in order: size of the file checked, format told by content, header read by our own
walker, size in pixels checked, decoded by Pillow restricted to that one format, colour mode, EXIF turn,
resize. `image_errors.py` lists what can come out; nothing is changed in silence, and nothing but
`ImageReadError` leaves the reader.

Resizing is Pillow's bilinear filter, a triangle whose support grows with the reduction, so that it is
antialiased. A JPEG that is at least four times too large is decoded at a half, a quarter or an eighth (the DCT's own
scaling), never below twice the target, and resized from there.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass

import numpy as np

from lastlayer._arrays import UInt8
from lastlayer.data.image_errors import ALTERATIONS, REFUSALS, ImageReadError, Unusable
from lastlayer.data.image_files import read_file
from lastlayer.data.image_format import MAX_PIXELS, ImageFormat
from lastlayer.data.image_header import Header
from lastlayer.data.image_modes import to_gray_or_rgb
from lastlayer.data.image_pillow import PILLOW_LIMITS, fit_picture, load_picture
from lastlayer.data.image_sniff import SUFFIXES, read_header

__all__ = [
    "ALTERATIONS",
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "REFUSALS",
    "DecodedImage",
    "ImageFormat",
    "ImageReadError",
    "decode_image",
    "read_image",
]

IMAGE_SUFFIXES: frozenset[str] = frozenset(suffix for group in SUFFIXES.values() for suffix in group)
"""Endings that images usually have, lower case; a hint for listing only, content decides."""


@dataclass(frozen=True)
class DecodedImage:
    """One readable picture.

    Attributes
    ----------
    pixels : ndarray of uint8, (H, W, C)
        C is 1 or 3.
    alterations : tuple of str
        Keys of `ALTERATIONS`, in the order they happened.
    width, height : int
        Size as shown (after the EXIF turn) and before the resize.
    gray : bool
        The file itself carries no colour.
    sha256 : bytes
        Of the file's bytes.
    """

    pixels: UInt8
    alterations: tuple[str, ...]
    width: int
    height: int
    gray: bool
    sha256: bytes


def read_image(
    path: str | os.PathLike[str], format: ImageFormat | None = None, max_pixels: int = MAX_PIXELS
) -> DecodedImage:
    """Read and decode one file; see `decode_image`.

    Pipes and devices never block: the file is opened without waiting and must be a regular file.

    Raises
    ------
    ImageReadError
        With the reasons of `decode_image`, or ``link``, ``not-a-file``, ``permission``, ``vanished``,
        ``unreadable``.
    """
    limit = max_pixels if format is None else format.max_pixels
    name = os.fspath(path)
    return decode_image(read_file(name, limit), name, format, max_pixels)


def decode_image(
    data: bytes, name: str, format: ImageFormat | None = None, max_pixels: int = MAX_PIXELS
) -> DecodedImage:
    """Decode the bytes of one image file.

    Parameters
    ----------
    data : bytes
        All of the file.
    name : str
        For error messages, and for the alteration ``extension``.
    format : ImageFormat, optional
        Size and channels to give; None: the picture's own size, 1 channel if it is gray, otherwise 3.
    max_pixels : int
        Limit on width x height where `format` is None; otherwise the format's own limit holds.

    Raises
    ------
    ImageReadError
        With one of the reasons ``empty``, ``truncated``, ``corrupt``, ``not-an-image``, ``format``, ``too-large``,
        ``depth32``, ``float``, ``signed``, ``colour-mode``.
    """
    limit = max_pixels if format is None else format.max_pixels
    header = None
    try:
        header = read_header(data, limit)
        return _decode(header, data, name, format)
    except Unusable as error:
        raise ImageReadError(name, error.reason, error.detail, error.mend) from None
    except MemoryError as error:
        raise ImageReadError(name, "too-large", "not enough memory to decode it") from error
    except Exception as error:  # Pillow leaks SyntaxError, struct.error, OSError and others
        reason, detail = _explain(error, header)
        raise ImageReadError(name, reason, detail) from error


def _explain(error: Exception, header: Header | None) -> tuple[str, str]:
    """Reason and detail for whatever a decoder raised."""
    text = str(error)
    if "unknown pixel mode" in text:
        return "colour-mode", "an unusual arrangement of bands"
    if text.startswith("Unsupported BMP"):
        return "format", text[0].lower() + text[1:]
    short_header = header is None and type(error).__name__ in ("error", "IndexError")
    if "runcated" in text or short_header or (header is not None and header.cut):
        return "truncated", ""
    return "corrupt", f"damaged ({type(error).__name__}: {text[:120]})"


def _decode(header: Header, data: bytes, name: str, format: ImageFormat | None) -> DecodedImage:
    changes: list[str] = []
    with PILLOW_LIMITS:
        picture = load_picture(header, format)
        background = 255 if format is None else format.background
        picture, gray = to_gray_or_rgb(picture, header, background, changes)
    if header.animated:
        changes.append("animated")
    if not name.lower().endswith(SUFFIXES[header.kind]):
        changes.append("extension")
    turned = header.orientation >= 5
    width, height = (header.height, header.width) if turned else (header.width, header.height)
    if format is not None:
        picture = fit_picture(picture, format)
    pixels = np.frombuffer(picture.tobytes(), dtype=np.uint8)
    shape = (picture.height, picture.width, 1 if picture.mode == "L" else 3)
    return DecodedImage(pixels.reshape(shape), tuple(changes), width, height, gray, hashlib.sha256(data).digest())
