"""Where the images of a dataset are: one file each, or arrays. Nothing is read before it is asked for."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self, final

import numpy as np

from lastlayer._arrays import InputError, IntArray, UInt8
from lastlayer._progress import SILENT, Progress

_BATCH = 1024

if TYPE_CHECKING:
    from lastlayer.data.decoding import Decoded
    from lastlayer.data.images import DecodedImage, ImageFormat


class ImageStore(ABC):
    """N images that can be decoded row by row."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of images N."""

    @abstractmethod
    def names(self) -> Sequence[str]:
        """Return one unique name per image."""

    @abstractmethod
    def subset(self, rows: IntArray) -> Self:
        """Return the store of these rows, in this order."""

    @abstractmethod
    def read(
        self,
        rows: IntArray,
        format: ImageFormat,
        *,
        workers: int | None = None,
        progress: Progress = SILENT,
    ) -> Decoded:
        """Decode rows to one common format; row i of the answer belongs to ``rows[i]``."""

    @abstractmethod
    def sample(self, rows: IntArray) -> list[DecodedImage]:
        """Decode rows at their own size, leaving out those that cannot be read."""


@final
@dataclass(frozen=True)
class FileImages(ImageStore):
    """Images that are files: `paths` are relative to `root` (or absolute), as the system spells them."""

    root: Path
    paths: Sequence[str]

    def __len__(self) -> int:
        return len(self.paths)

    def names(self) -> Sequence[str]:
        """Return the paths as they are."""
        return self.paths

    def subset(self, rows: IntArray) -> FileImages:
        """Return the files of these rows, in this order."""
        return FileImages(self.root, [self.paths[row] for row in rows.tolist()])

    def locations(self, rows: IntArray) -> list[str]:
        """Return the paths to open."""
        root = os.fspath(self.root)
        return [os.path.join(root, self.paths[row]) for row in rows.tolist()]

    def read(
        self,
        rows: IntArray,
        format: ImageFormat,
        *,
        workers: int | None = None,
        progress: Progress = SILENT,
    ) -> Decoded:
        """Decode files on all cores; a file that cannot be read becomes a refusal, never an exception."""
        from lastlayer.data.decoding import decode_files

        return decode_files(self.locations(rows), format, workers=workers, progress=progress)

    def sample(self, rows: IntArray) -> list[DecodedImage]:
        """Decode a few files in this process, leaving out those that cannot be read."""
        from lastlayer.data.images import ImageReadError, read_image

        images = []
        for location in self.locations(rows):
            try:
                images.append(read_image(location))
            except ImageReadError:  # every refused file is named when the whole dataset is decoded
                continue
        return images


@final
@dataclass(frozen=True)
class ArrayImages(ImageStore):
    """Images that are arrays in memory or memory-mapped, in blocks one after another.

    Parameters
    ----------
    pixels : array or sequence of arrays
        Each uint8 (n, H, W, C), C = 1 or 3; blocks may differ in H, W and C.
    image_names : sequence of str
        One per image, over all blocks.

    Raises
    ------
    InputError
        When a block has another type or shape, or the number of names is not the number of images.
    """

    pixels: UInt8 | Sequence[UInt8]
    image_names: Sequence[str]

    def __post_init__(self) -> None:
        for block in self.blocks:
            if block.dtype != np.uint8 or block.ndim != 4 or block.shape[3] not in (1, 3):
                raise InputError(f"images are {block.dtype} of shape {block.shape}; uint8 (N, H, W, 1 or 3) is needed")
        total = sum(len(block) for block in self.blocks)
        if total != len(self.image_names):
            raise InputError(f"{total} images but {len(self.image_names)} names")

    @property
    def blocks(self) -> tuple[UInt8, ...]:
        """The blocks of images."""
        return (self.pixels,) if isinstance(self.pixels, np.ndarray) else tuple(self.pixels)

    def __len__(self) -> int:
        return len(self.image_names)

    def names(self) -> Sequence[str]:
        """Return the names given."""
        return self.image_names

    def subset(self, rows: IntArray) -> ArrayImages:
        """Return a copy of these rows, in this order; rows of one block size only stay one block."""
        parts = [block[inside][None] for block, inside in self._places(rows)]
        names = [self.image_names[row] for row in rows.tolist()]
        if len({part.shape for part in parts}) == 1:
            return ArrayImages(np.concatenate(parts), names)
        return ArrayImages(parts, names)

    def _places(self, rows: IntArray) -> list[tuple[UInt8, int]]:
        """Block and index inside it, for every row."""
        starts = np.cumsum([0] + [len(block) for block in self.blocks])
        blocks = self.blocks
        which = np.searchsorted(starts, rows, side="right") - 1
        return [(blocks[b], int(row - starts[b])) for b, row in zip(which.tolist(), rows.tolist())]

    def read(
        self,
        rows: IntArray,
        format: ImageFormat,
        *,
        workers: int | None = None,
        progress: Progress = SILENT,
    ) -> Decoded:
        """Bring rows to the format; arrays that have it already are only copied."""
        from lastlayer.data.decoding import Decoded

        shape = (format.height, format.width, format.channels)
        out = np.empty((len(rows), *shape), dtype=np.uint8)
        sha256 = np.empty((len(rows), 32), dtype=np.uint8)
        sizes = np.empty((len(rows), 2), dtype=np.int32)

        def fill(i: int, block: UInt8, inside: int) -> None:
            image = np.ascontiguousarray(block[inside])
            sha256[i] = np.frombuffer(_digest(image), dtype=np.uint8)
            sizes[i] = image.shape[1], image.shape[0]
            out[i] = image if image.shape == shape else _refit(image, self.image_names[rows[i]], format)

        places = self._places(rows)
        threads = (workers or os.cpu_count() or 1) if any(b.shape[1:] != shape for b in self.blocks) else 1
        with progress.task("Decode", len(rows)) as task, ThreadPoolExecutor(threads) as pool:
            for start in range(0, len(rows), _BATCH):
                batch = range(start, min(start + _BATCH, len(rows)))
                if threads == 1:
                    for i in batch:
                        fill(i, *places[i])
                else:
                    list(pool.map(lambda i: fill(i, *places[i]), batch))
                task.advance(len(batch))
        return Decoded(
            pixels=out,
            sha256=sha256,
            sizes=sizes,
            readable=np.ones(len(rows), dtype=bool),
            alterations={},
            refusals={},
        )

    def sample(self, rows: IntArray) -> list[DecodedImage]:
        """Return rows at their own size."""
        from lastlayer.data.images import DecodedImage

        images = []
        for block, inside in self._places(rows):
            image = np.ascontiguousarray(block[inside])
            height, width, channels = image.shape
            images.append(
                DecodedImage(
                    pixels=image,
                    alterations=(),
                    width=width,
                    height=height,
                    gray=channels == 1,
                    sha256=_digest(image),
                )
            )
        return images


def _digest(image: UInt8) -> bytes:
    """SHA-256 of an image's shape and pixels: what stands for the bytes of its file."""
    header = "x".join(str(n) for n in image.shape).encode("ascii")
    return hashlib.sha256(header + b":" + image.tobytes()).digest()


def _refit(image: UInt8, name: str, format: ImageFormat) -> UInt8:
    """Resize through the very path that files take, so that arrays and files give the same pixels."""
    import io

    from PIL import Image

    from lastlayer.data.images import decode_image

    stream = io.BytesIO()
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(stream, "PNG", compress_level=0)
    return decode_image(stream.getvalue(), name, format).pixels
