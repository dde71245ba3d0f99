"""Folders and files of many layouts, written on the spot for the tests of `lastlayer.data`."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from PIL import Image


def picture(seed: int, side: int = 6) -> np.ndarray:
    """A small colour picture that no other seed gives."""
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def png(path: Path, seed: int) -> Path:
    """Write one picture, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(seed)).save(path, "PNG")
    return path


def tree(root: Path, layout: dict[str, int], first: int = 0) -> Path:
    """Write ``{folder: number of pictures}``; every picture differs."""
    for folder, count in layout.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            png(root / folder / f"{i:03d}.png", first)
            first += 1
    return root


def idx_bytes(array: np.ndarray) -> bytes:
    """IDX bytes of a uint8 array."""
    header = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


class Pickle2:
    """Writes pickles as Python 2 did in CIFAR's files: protocol 2, byte strings, memo of everything."""

    def __init__(self, core: str = "numpy.core") -> None:
        self.core, self.memo = core, 0

    def remember(self) -> bytes:
        self.memo += 1
        number = self.memo - 1
        return b"q" + bytes([number]) if number < 256 else b"r" + struct.pack("<I", number)

    def string(self, text: bytes) -> bytes:
        body = b"U" + bytes([len(text)]) if len(text) < 256 else b"T" + struct.pack("<i", len(text))
        return body + text + self.remember()

    def integer(self, value: int) -> bytes:
        if 0 <= value < 256:
            return b"K" + bytes([value])
        return b"M" + struct.pack("<H", value) if 0 <= value < 65536 else b"J" + struct.pack("<i", value)

    def array(self, array: np.ndarray) -> bytes:
        rows = b"c" + self.core.encode() + b".multiarray\n_reconstruct\n" + self.remember()
        rows += b"cnumpy\nndarray\n" + self.remember() + b"K\x00\x85" + self.remember() + self.string(b"b")
        rows += b"\x87" + self.remember() + b"R" + self.remember() + b"(K\x01"
        rows += b"".join(self.integer(n) for n in array.shape) + (b"\x86" if array.ndim == 2 else b"\x85")
        rows += self.remember() + b"cnumpy\ndtype\n" + self.remember() + self.string(b"u1")
        rows += b"K\x00K\x01\x87" + self.remember() + b"R" + self.remember() + b"(K\x03" + self.string(b"|")
        rows += b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t" + self.remember() + b"b\x89"
        return rows + self.string(array.tobytes()) + b"t" + self.remember() + b"b"

    def value(self, value: object) -> bytes:
        if isinstance(value, np.ndarray):
            return self.array(value)
        if isinstance(value, bytes):
            return self.string(value)
        if isinstance(value, int):
            return self.integer(value)
        if isinstance(value, list):
            return b"]" + self.remember() + b"(" + b"".join(map(self.value, value)) + b"e"
        assert isinstance(value, dict)
        items = b"".join(self.value(key) + self.value(item) for key, item in value.items())
        return b"}" + self.remember() + b"(" + items + b"u"

    def dumps(self, value: object) -> bytes:
        return b"\x80\x02" + self.value(value) + b"."
