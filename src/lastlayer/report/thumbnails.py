"""Pictures inside the file: small, encoded as data URIs, dropped last-first when the file grows too large."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from lastlayer._arrays import Float32, InputError, UInt8
from lastlayer.report.data import ReportData

THUMBNAIL_SIDE = 96
TEMPLATE_SIDE = 320
TINY_SIDE = 48  # up to here every pixel is shown as a square instead of a blur
LARGE_PNG = 6_000  # bytes; a photograph of 96 pixels is 20 kB as PNG and 3 kB as JPEG

MOST_TEMPLATES = 60
MOST_MISTAKES = 48
MOST_CELLS = 60
MOST_IN_CELL = 12


class Key(NamedTuple):
    """Which picture: ``template`` (number, class), ``mistake`` (number, 0) or ``cell`` (cell, picture)."""

    kind: str
    first: int
    second: int


@final
@dataclass(frozen=True)
class Pixmap:
    """An encoded picture: its data URI, its size in pixels, and whether pixels stay square when enlarged."""

    uri: str
    width: int
    height: int
    pixelated: bool

    @property
    def tall(self) -> bool:
        """Whether the height is the longer side."""
        return self.height > self.width


def encode(image: UInt8, side: int = THUMBNAIL_SIDE) -> Pixmap:
    """Shrink a picture to at most `side` pixels and encode it: PNG, or JPEG where PNG is large.

    Shapes
    ------
    image : (h, w), (h, w, 1) or (h, w, 3) uint8.

    Raises
    ------
    InputError
        For any other shape or dtype.
    """
    from PIL import Image

    pixels = image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)) or not pixels.size:
        raise InputError(f"a picture is {image.dtype} of shape {image.shape}; uint8 (h, w, 1 or 3) is needed")
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    if max(picture.size) > side:
        # Never below one pixel: a panorama of 60,000 × 1 stays a line.
        scale = side / max(picture.size)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    data, kind = _bytes(picture, "PNG", optimize=True), "png"
    if len(data) > LARGE_PNG:
        data, kind = _bytes(picture, "JPEG", quality=88), "jpeg"
    uri = f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
    return Pixmap(uri, picture.width, picture.height, max(picture.size) <= TINY_SIDE)


def encode_png(image: UInt8) -> str:
    """Data URI of a picture at its own size, (h, w, 4) with transparency, without loss."""
    from PIL import Image

    data = _bytes(Image.fromarray(np.ascontiguousarray(image)), "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(data).decode('ascii')}"


def _bytes(picture: object, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)  # type: ignore[attr-defined]
    return stream.getvalue()


def weights_picture(image: Float32) -> UInt8:
    """A template (h, w, 3) in 0..1 as uint8; values outside are clipped, NaN is mid gray."""
    return np.rint(255 * np.clip(np.nan_to_num(image, nan=0.5), 0, 1)).astype(np.uint8)


def shown_classes(data: ReportData) -> tuple[int, ...]:
    """Classes whose weights are shown: all, or the weakest on the quoted split where there are too many."""
    K = len(data.class_names)
    if K <= MOST_TEMPLATES:
        return tuple(range(K))
    evaluation = data.quoted
    if evaluation is None:
        return tuple(range(MOST_TEMPLATES))
    recalls = [score.recall.value if score.n else 2.0 for score in evaluation.per_class]
    return tuple(sorted(sorted(range(K), key=lambda k: (recalls[k], k))[:MOST_TEMPLATES]))


def shown_cells(data: ReportData) -> tuple[tuple[int, int], ...]:
    """Cells of the confusion matrix that show pictures: those with most images first."""
    evaluation = data.quoted
    K = len(data.class_names)

    def count(cell: tuple[int, int]) -> int:
        return int(evaluation.confusion[cell]) if evaluation is not None else len(data.confusion_images[cell])

    known = [cell for cell, pictures in data.confusion_images.items() if pictures and all(0 <= k < K for k in cell)]
    return tuple(sorted(known, key=lambda cell: (-count(cell), cell))[:MOST_CELLS])


def pictures(data: ReportData) -> list[tuple[Key, Pixmap]]:
    """Every picture the report may show, most important first.

    Weights, then mistakes, then the confusion cells breadth-first (the first picture of every cell before
    the second of any), so that dropping from the end hurts least.
    """
    return list(_pictures(data))


def _pictures(data: ReportData) -> Iterator[tuple[Key, Pixmap]]:
    for number, template in enumerate(data.templates):
        for k in shown_classes(data):
            if k < len(template.images):
                yield Key("template", number, k), encode(weights_picture(template.images[k]), TEMPLATE_SIDE)
    for number, mistake in enumerate(data.mistakes[:MOST_MISTAKES]):
        yield Key("mistake", number, 0), encode(mistake.thumbnail)
    cells = shown_cells(data)
    for place in range(MOST_IN_CELL):
        for number, cell in enumerate(cells):
            if place < len(data.confusion_images[cell]):
                yield Key("cell", number, place), encode(data.confusion_images[cell][place][1])
