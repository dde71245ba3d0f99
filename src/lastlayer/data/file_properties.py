"""What a file says besides its picture: size, type, camera, software, compression tables.

None of it should tell the class. Where it does, the classes were collected in different ways, and a classifier may
learn the way instead of the class.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import final

import numpy as np

from lastlayer._arrays import Float64, UInt8
from lastlayer._progress import SILENT, Progress

_HEAD = 131_072  # tables and EXIF data stand before the picture
_MAKE, _MODEL, _SOFTWARE = 271, 272, 305
_ASCII = 2
_LONGEST_TEXT = 64


@final
@dataclass(frozen=True)
class FileProperties:
    """Facts of N files; what a file does not say is an empty text.

    Attributes
    ----------
    size : float (N,)
        Bytes.
    texts : mapping of str to sequence of str
        Values (N) of each property, by its name.
    """

    size: Float64
    texts: Mapping[str, Sequence[str]]


def read_properties(paths: Sequence[str], *, progress: Progress = SILENT) -> FileProperties:
    """Read the heads of files; files that have gone since say nothing."""
    with progress.task("Files", len(paths)) as task, ThreadPoolExecutor(4, thread_name_prefix="heads") as pool:
        facts = []
        for fact in pool.map(_read, paths):
            facts.append(fact)
            task.advance(1)
    names = ("file type", "file ending", "camera", "software", "compression tables", "colour sampling")
    texts = {name: [fact[1].get(name, "") for fact in facts] for name in names}
    return FileProperties(np.array([fact[0] for fact in facts], dtype=np.float64), texts)


def _read(path: str) -> tuple[int, dict[str, str]]:
    try:
        with open(path, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            head = stream.read(_HEAD)
    except OSError:  # a file that cannot be read any more is named when it is decoded
        return 0, {}
    return size, {"file ending": os.path.splitext(path)[1].casefold()} | head_properties(head)


def head_properties(head: bytes) -> dict[str, str]:
    """What the first bytes of a file say; never fails on damaged ones.

    >>> head_properties(b"GIF89a")
    {'file type': 'GIF'}
    """
    if head.startswith(b"\xff\xd8\xff"):
        return {"file type": "JPEG"} | _jpeg(head)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return {"file type": "PNG"} | _png(head)
    if head[:4] in (b"II\x2a\0", b"MM\0\x2a"):
        return {"file type": "TIFF"} | _tags(head)
    for kind, start in (("GIF", b"GIF8"), ("BMP", b"BM")):
        if head.startswith(start):
            return {"file type": kind}
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return {"file type": "WEBP " + head[12:16].decode("latin-1").strip()}
    return {}


def _jpeg(head: bytes) -> dict[str, str]:
    """Segments up to the first scan (ITU-T T.81, annex B)."""
    found: dict[str, str] = {}
    tables = hashlib.blake2b(digest_size=4)
    seen, at = False, 2
    while at + 4 <= len(head) and head[at] == 0xFF:
        marker, length = head[at + 1], int.from_bytes(head[at + 2 : at + 4], "big")
        body = head[at + 4 : at + 2 + length]
        if marker == 0xDA or length < 2:
            break
        if marker == 0xDB:
            tables.update(body)
            seen = True
        elif marker == 0xE1 and body.startswith(b"Exif\0\0"):
            found |= _tags(body[6:])
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            coding = "progressive" if marker == 0xC2 else "baseline"
            sampling = " ".join(f"{b >> 4}x{b & 15}" for b in body[7::3][: body[5] if len(body) > 5 else 0])
            found["colour sampling"] = f"{coding} {sampling}"
        at += 2 + length
    if seen:
        found["compression tables"] = tables.hexdigest()
    return found


def _png(head: bytes) -> dict[str, str]:
    """Colour type, and the program named by a text or an EXIF chunk before the picture."""
    found = {"colour sampling": f"{head[24]} bit, type {head[25]}"} if len(head) > 25 else {}
    at = 8
    while at + 8 <= len(head):
        length, kind = int.from_bytes(head[at : at + 4], "big"), head[at + 4 : at + 8]
        body = head[at + 8 : at + 8 + length]
        if kind == b"IDAT":
            break
        if kind == b"tEXt" and body.startswith(b"Software\0"):
            found["software"] = _text(body[9:])
        elif kind == b"eXIf":
            found |= _tags(body)
        at += 12 + length
    return found


def _tags(exif: bytes) -> dict[str, str]:
    """Maker, model and software of a TIFF-structured block's first directory (Exif 2.32, section 4.6)."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    texts: dict[int, str] = {}
    try:
        if order is None:
            return {}
        (start,) = struct.unpack_from(order + "I", exif, 4)
        (entries,) = struct.unpack_from(order + "H", exif, start)
        for at in range(start + 2, start + 2 + 12 * entries, 12):
            tag, kind, count = struct.unpack_from(order + "HHI", exif, at)
            if tag in (_MAKE, _MODEL, _SOFTWARE) and kind == _ASCII:
                where = at + 8 if count <= 4 else struct.unpack_from(order + "I", exif, at + 8)[0]
                texts[tag] = _text(exif[where : where + min(count, _LONGEST_TEXT)])
    except struct.error:  # a directory that points outside its block: what was read so far counts
        pass
    camera = " ".join(filter(None, (texts.get(_MAKE), texts.get(_MODEL))))
    found = {"camera": camera, "software": texts.get(_SOFTWARE, "")}
    return {name: text for name, text in found.items() if text}


def _text(raw: bytes) -> str:
    return raw[:_LONGEST_TEXT].split(b"\0")[0].decode("latin-1").strip()


def detail(pixels: UInt8) -> Float64:
    """What the picture itself has to say about the size of its file: (N, 3) logarithms.

    Bytes that the decoded pixels compress to, mean absolute step between neighbours, and standard deviation.
    """
    out = np.empty((len(pixels), 3))
    for i, image in enumerate(pixels):
        signed = image.astype(np.int16)
        rows, columns = np.abs(np.diff(signed, axis=0)), np.abs(np.diff(signed, axis=1))
        packed = np.ascontiguousarray(np.diff(image, axis=1, prepend=np.uint8(0)))
        steps = (float(rows.sum()) + float(columns.sum())) / max(1, rows.size + columns.size)
        out[i] = len(zlib.compress(packed.tobytes(), 1)), steps, float(image.std())
    return np.log1p(out)
