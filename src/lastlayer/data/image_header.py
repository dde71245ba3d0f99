"""What is read from an image file before Pillow sees it: size, depth, EXIF turn, number of frames.

Every format has a small walker (`image_png.py`, `image_jpeg.py`, `image_tiff.py`, `image_simple.py`) that
returns a `Header`. It serves three ends. The size is known, and refused, before anything is allocated. What
Pillow gets (`Header.clean`) holds the first picture and nothing else: no text chunk, profile, preview, comment
or second page can inflate, warn or be mistaken for pixels; Pillow then has nothing to warn about, which is
what makes decoding safe in threads (`warnings.catch_warnings` is not). And the facts that Pillow's modes
lose (16-bit samples, white-is-zero, 16-bit transparency keys) are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

from lastlayer.data.image_errors import Unusable

BROKEN_EXIF = 0


@dataclass(frozen=True)
class Header:
    """One picture as its file describes it.

    Attributes
    ----------
    kind : str
        Pillow's name of the format.
    width, height : int
        As stored, before the EXIF turn.
    clean : bytes
        The file reduced to its first picture.
    orientation : int
        EXIF orientation 1..8, or `BROKEN_EXIF`.
    animated : bool
        More frames or pages follow.
    bits : int
        Bits of a sample.
    gray : bool or None
        Whether the file can carry colour; None: Pillow's mode says.
    key : tuple of int
        The sample values of the one transparent colour (PNG tRNS of gray and RGB); empty: none.
    white_is_zero : bool
        16-bit gray TIFF stored as a negative, which Pillow does not turn around.
    plain_cmyk : bool
        CMYK JPEG without Adobe's marker: Pillow turns it around although it is not inverted.
    cut : bool
        The file ends inside the picture.
    """

    kind: str
    width: int
    height: int
    clean: bytes
    orientation: int = 1
    animated: bool = False
    bits: int = 8
    gray: bool | None = None
    key: tuple[int, ...] = ()
    white_is_zero: bool = False
    plain_cmyk: bool = False
    cut: bool = False


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse sizes that are no size, or above the limit; called before anything is decoded."""
    if width < 1 or height < 1:
        raise Unusable("corrupt", f"its header says {width}x{height} pixels")
    if width * height > max_pixels:
        raise Unusable("too-large", f"{width}x{height} pixels, over the limit of {max_pixels / 1e6:g} million pixels")
