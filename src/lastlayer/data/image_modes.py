"""Any Pillow mode becomes gray (L) or RGB; whatever changes on the way is named.

Why not ``convert("RGB")`` alone: it turns nearly every 16-bit gray pixel into 255, a float picture into zeros,
and shows the colour hidden under transparency.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lastlayer._arrays import Array, UInt8
from lastlayer.data.image_errors import Unusable
from lastlayer.data.image_header import BROKEN_EXIF, Header

if TYPE_CHECKING:
    from PIL.Image import Image

_GRAY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N"})
_WITH_ALPHA = {"LA": "LA", "La": "LA", "PA": "RGBA", "RGBA": "RGBA", "RGBa": "RGBA"}


def to_gray_or_rgb(picture: Image, header: Header, background: int, changes: list[str]) -> tuple[Image, bool]:
    """Turn a loaded picture into mode L or RGB, upright; appends the kinds of alteration to `changes`.

    Returns
    -------
    picture : PIL.Image.Image
        Mode L when the file carries no colour, RGB otherwise.
    gray : bool
        Whether the file itself carries no colour: modes 1, L, LA, 16-bit gray, a palette of grays.
    """
    if header.bits > 8:
        changes.append("depth16")
    gray = _carries_no_colour(picture, header)
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        picture = _from_deep_gray(picture, header, background, changes)
    elif header.key:
        picture = _from_key(picture, header, background, changes)
    elif picture.mode in _WITH_ALPHA or "transparency" in picture.info:
        picture = _over(picture.convert(_WITH_ALPHA.get(picture.mode, "RGBA")), header, background, changes)
    elif picture.mode == "CMYK":
        picture = _from_cmyk(picture, header, changes)
    elif picture.mode in ("F", "LAB", "HSV"):
        raise Unusable("float" if picture.mode == "F" else "colour-mode", f"pixels of mode {picture.mode}")
    if header.bits > 8 and "looks-12-bit" not in changes and picture.mode in ("L", "RGB"):
        _note_12_bit(picture, header, changes)
    mode = "L" if gray else "RGB"
    if picture.mode != mode:
        picture = picture.convert(mode)
    return upright(picture, header, changes), gray


def upright(picture: Image, header: Header, changes: list[str]) -> Image:
    """Turn as EXIF says, once."""
    if header.orientation == 1:
        return picture
    if header.orientation == BROKEN_EXIF:
        changes.append("exif")
        return picture
    from PIL.Image import Transpose

    changes.append("rotated")
    turn = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return picture.transpose(turn[header.orientation])


def _carries_no_colour(picture: Image, header: Header) -> bool:
    if header.gray is not None:
        return header.gray
    if picture.mode in ("P", "PA") and picture.palette is not None:
        entries = np.frombuffer(picture.palette.tobytes(), dtype=np.uint8)
        entries = entries.reshape(-1, len(picture.palette.mode))[:, :3]
        return bool((entries == entries[:, :1]).all())
    return picture.mode in _GRAY_MODES


def _from_deep_gray(picture: Image, header: Header, background: int, changes: list[str]) -> Image:
    """16-bit (or 12-bit TIFF) gray: the high 8 bits, no stretching."""
    if header.bits > 16:
        raise Unusable("depth32")
    values = np.asarray(picture)
    if values.dtype != np.uint16:  # mode I: what some versions of Pillow make of a 16-bit PNG
        values = values.astype(np.uint16)
    if header.white_is_zero:
        values = 65535 - values
    if header.bits == 16 and 0 < int(values.max()) < 4096:
        changes.append("looks-12-bit")
    high = (values >> (header.bits - 8)).astype(np.uint8)
    if header.key:
        high = _cover(high, values == header.key[0], background, changes)
    return _image(high)


def _note_12_bit(picture: Image, header: Header, changes: list[str]) -> None:
    highest = int(np.asarray(picture).max())
    if header.bits == 16 and 0 < highest < 16:  # the high byte of values below 4096
        changes.append("looks-12-bit")


def _from_key(picture: Image, header: Header, background: int, changes: list[str]) -> Image:
    """Gray or RGB with one transparent colour, given in samples of the stored depth.

    16-bit RGB arrives as high bytes, so its key is compared by its high bytes.
    """
    if picture.mode == "1":
        picture = picture.convert("L")
    values = np.array(picture)
    if header.bits == 16:
        key = [value >> 8 for value in header.key]
    else:  # Pillow stretches 1, 2 and 4 bits to 0..255
        key = [value * 255 // (2**header.bits - 1) for value in header.key]
    bands = np.moveaxis(values.reshape(*values.shape[:2], -1), 2, 0)
    hidden = np.logical_and.reduce([band == value for band, value in zip(bands, key)])
    return _image(_cover(values, hidden, background, changes))


def _cover(values: UInt8, hidden: Array, background: int, changes: list[str]) -> UInt8:
    if hidden.any():
        changes.append("alpha")
        values[hidden] = background
    return values


def _over(picture: Image, header: Header, background: int, changes: list[str]) -> Image:
    """Composite LA or RGBA on the background; all opaque: drop the alpha channel."""
    from PIL import Image as pil

    alpha = picture.getchannel("A")
    lowest, highest = alpha.getextrema()
    colour = picture.getchannel("L") if picture.mode == "LA" else picture
    if lowest == 255 or (highest == 0 and header.kind == "BMP"):
        # Many programs write 32-bit BMPs whose unused fourth byte is zero everywhere.
        return colour.convert("L" if picture.mode == "LA" else "RGB")
    changes.append("alpha")
    mode = "L" if picture.mode == "LA" else "RGB"
    ground = pil.new(mode, picture.size, background if mode == "L" else (background,) * 3)
    ground.paste(colour, mask=alpha)
    return ground


def _from_cmyk(picture: Image, header: Header, changes: list[str]) -> Image:
    from PIL import ImageChops

    changes.append("cmyk")
    if header.plain_cmyk:
        picture = ImageChops.invert(picture)
    return picture.convert("RGB")


def _image(values: UInt8) -> Image:
    from PIL.Image import fromarray

    return fromarray(values)
