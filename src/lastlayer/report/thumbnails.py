"""Pictures inside the file: small, encoded as data URIs, dropped last-first when the file grows too large."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, final

import numpy as np

from lastlayer._arrays import Float32, InputError, UInt8
from lastlayer.report.data import ReportData

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

THUMBNAIL_SIDE = 96
TEMPLATE_SIDE = 320
TINY_SIDE = 48  # up to here every pixel is shown as a square instead of a blur
LARGE_PNG = 6_000  # bytes; a photograph of 96 pixels is 20 kB as PNG and 3 kB as JPEG

MOST_TEMPLATES = 60
MOST_MISTAKES = 48
MOST_NEAR = 3
MOST_SUSPECTS = 36
MOST_UNSURE = 18
MOST_FILTERS = 128
MOST_CELLS = 400
MOST_IN_CELL = 12
BUDGET = 4_800_000
"""Bytes of pictures from which on no further one is encoded: the page has no room for it."""


class Key(NamedTuple):
    """Which picture: of a ``template`` (number, class), a ``cell`` (cell, place), a ``near`` one (mistake, place).

    A ``mistake``, ``suspect``, ``unsure`` or ``filter`` has a number alone.
    """

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
    data, kind = _smallest(picture)
    uri = f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
    return Pixmap(uri, picture.width, picture.height, max(picture.size) <= TINY_SIDE)


def _smallest(picture: PillowImage) -> tuple[bytes, str]:
    """Without loss where that is small; of larger pictures only those of few colours are tried so: it takes long."""
    few = picture.getcolors(256) is not None
    if max(picture.size) <= TINY_SIDE or few:
        data = _bytes(picture, "PNG", optimize=True)
        if len(data) <= LARGE_PNG:
            return data, "png"
    return _bytes(picture, "JPEG", quality=85), "jpeg"


def encode_png(image: UInt8) -> str:
    """Data URI of a picture at its own size, (h, w, 4) with transparency, without loss."""
    from PIL import Image

    data = _bytes(Image.fromarray(np.ascontiguousarray(image)), "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(data).decode('ascii')}"


def enlarged(uri: str, times: int) -> bytes:
    """PNG of a picture given as a data URI, every pixel a square of `times` pixels, laid on white."""
    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as opened:
        picture = opened.convert("RGBA")
    large = picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
    return _bytes(Image.alpha_composite(Image.new("RGBA", large.size, "white"), large).convert("RGB"), "PNG")


def _bytes(picture: PillowImage, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def as_bytes(image: Float32 | UInt8) -> UInt8:
    """A picture as uint8: weights in 0..1 are scaled, pixels stay."""
    return weights_picture(image.astype(np.float32)) if image.dtype.kind == "f" else image.astype(np.uint8, copy=False)


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
    """Cells of the confusion matrix that show pictures: mistakes before right answers, those with most images first."""
    evaluation = data.quoted
    K = len(data.class_names)

    def count(cell: tuple[int, int]) -> int:
        return int(evaluation.confusion[cell]) if evaluation is not None else len(data.confusion_images[cell])

    known = [cell for cell, pictures in data.confusion_images.items() if pictures and all(0 <= k < K for k in cell)]
    return tuple(sorted(known, key=lambda cell: (cell[0] == cell[1], -count(cell), cell))[:MOST_CELLS])


def pictures(data: ReportData, budget: int = BUDGET) -> list[tuple[Key, Pixmap]]:
    """Every picture the report may show, most important first, as far as `budget` bytes of data URIs go.

    Weights, then mistakes, doubtful labels and unsure answers, then the confusion cells breadth-first (the first
    picture of every cell before the second of any), so that dropping from the end hurts least.
    """
    out: list[tuple[Key, Pixmap]] = []
    known: dict[tuple[bytes, int], Pixmap] = {}
    spent = 0
    for key, image in wanted(data):
        if spent > budget:
            break
        side = TEMPLATE_SIDE if key.kind == "template" else THUMBNAIL_SIDE
        shown = as_bytes(image)
        same = hashlib.blake2b(f"{shown.shape} ".encode() + np.ascontiguousarray(shown).tobytes()).digest(), side
        if same not in known:
            known[same] = encode(shown, side)
        out.append((key, known[same]))
        spent += len(known[same].uri)
    return out


def wanted(data: ReportData) -> Iterator[tuple[Key, Float32 | UInt8]]:
    """The pictures of a report, not encoded, most important first."""
    for number, template in enumerate(data.templates):
        for k in shown_classes(data):
            if k < len(template.images):
                yield Key("template", number, k), template.images[k]
    for number, filter_image in enumerate(() if data.training is None else data.training.filters[:MOST_FILTERS]):
        yield Key("filter", number, 0), filter_image
    shown = data.mistakes[:MOST_MISTAKES]
    for number, mistake in enumerate(shown):
        yield Key("mistake", number, 0), mistake.thumbnail
    for number, doubt in enumerate(() if data.suspects is None else data.suspects.rows[:MOST_SUSPECTS]):
        yield Key("suspect", number, 0), doubt.thumbnail
    for number, doubt in enumerate(data.unsure[:MOST_UNSURE]):
        yield Key("unsure", number, 0), doubt.thumbnail
    cells = shown_cells(data)
    yield from _cell_pictures(data, cells, range(1))
    for number, mistake in enumerate(shown):
        for place, near in enumerate(mistake.near[:MOST_NEAR]):
            yield Key("near", number, place), near.thumbnail
    yield from _cell_pictures(data, cells, range(1, MOST_IN_CELL))


def _cell_pictures(data: ReportData, cells: tuple[tuple[int, int], ...], places: range) -> Iterator[tuple[Key, UInt8]]:
    for place in places:
        for number, cell in enumerate(cells):
            if place < len(data.confusion_images[cell]):
                yield Key("cell", number, place), data.confusion_images[cell][place][1]
