"""The calls into Pillow: restricted to one format, its global switches held, a draft where it pays, the resize."""

from __future__ import annotations

import functools
import io
import threading
from typing import TYPE_CHECKING

from lastlayer.data.image_errors import Unusable
from lastlayer.data.image_format import ImageFormat
from lastlayer.data.image_header import Header

if TYPE_CHECKING:
    from types import ModuleType

    from PIL.Image import Image


@functools.cache
def _pillow() -> ModuleType:
    """Import Pillow with the six plugins, so that it never imports the other forty."""
    from PIL import (
        BmpImagePlugin,  # noqa: F401
        GifImagePlugin,  # noqa: F401
        Image,
        JpegImagePlugin,  # noqa: F401
        PngImagePlugin,  # noqa: F401
        TiffImagePlugin,  # noqa: F401
        WebPImagePlugin,
    )

    if not WebPImagePlugin.SUPPORTED:
        Image.OPEN.pop("WEBP", None)
    return Image


class PillowLimits:
    """Hold Pillow's two global switches while anything is being decoded, then give them back.

    A program around us may have set ``LOAD_TRUNCATED_IMAGES``, which would accept half a picture, or a
    ``MAX_IMAGE_PIXELS`` that warns; sizes have already been checked here.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.saved: tuple[bool, int | None] = (False, None)

    def __enter__(self) -> None:
        from PIL import Image, ImageFile

        with self.lock:
            if self.users == 0:
                self.saved = (ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS)
                ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = False, None
            self.users += 1

    def __exit__(self, *_: object) -> None:
        from PIL import Image, ImageFile

        with self.lock:
            self.users -= 1
            if self.users == 0:
                ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = self.saved


PILLOW_LIMITS = PillowLimits()


def load_picture(header: Header, format: ImageFormat | None) -> Image:
    """Decode the one picture of a checked header, at a fraction of its size where a JPEG and a target allow.

    A JPEG that is at least four times too large is decoded at a half, a quarter or an eighth (the DCT's own
    scaling), never below twice the target.
    """
    pil = _pillow()
    if header.kind not in pil.OPEN:
        raise Unusable("format", f"{header.kind}, which this build of Pillow cannot read")
    picture: Image = pil.open(io.BytesIO(header.clean), formats=(header.kind,))
    if picture.size != (header.width, header.height):
        raise Unusable("corrupt", f"its header says {header.width}x{header.height}, its data {picture.size}")
    if format is not None and header.kind == "JPEG":
        wide, high = (format.height, format.width) if header.orientation >= 5 else (format.width, format.height)
        size = _draft_size(header.width, header.height, wide, high, format.fit)
        if min(header.width // size[0], header.height // size[1]) >= 2:
            picture.draft(None, size)
    picture.load()
    # Pillow's WebP pictures hold on to two more canvases of their decoder; a copy lets go of them.
    return picture.copy() if header.kind == "WEBP" else picture


def _draft_size(width: int, height: int, wide: int, high: int, fit: str) -> tuple[int, int]:
    """Twice the size that the whole picture will have after the resize."""
    if fit == "stretch":
        return 2 * wide, 2 * high
    scale = max(wide / width, high / height)
    return max(2 * wide, int(2 * scale * width)), max(2 * high, int(2 * scale * height))


def fit_picture(picture: Image, format: ImageFormat) -> Image:
    """Resize (and crop) to the format's size and channels.

    The filter is Pillow's bilinear: a triangle whose support grows with the reduction, so antialiased.
    """
    target = (format.width, format.height)
    if picture.size != target:
        box = None
        if format.fit == "crop":
            scale = min(picture.width / format.width, picture.height / format.height)
            wide, high = scale * format.width, scale * format.height
            left, top = (picture.width - wide) / 2, (picture.height - high) / 2
            box = (left, top, min(left + wide, picture.width), min(top + high, picture.height))
        picture = picture.resize(target, _pillow().Resampling.BILINEAR, box=box)
    mode = "L" if format.channels == 1 else "RGB"
    return picture if picture.mode == mode else picture.convert(mode)
