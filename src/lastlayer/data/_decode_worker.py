"""One decoding process: file names in, pixels out, over its standard input and output.

Started by `decoding.py` as ``python -m lastlayer.data._decode_worker``. It imports NumPy and Pillow only, limits
its own address space, ignores Ctrl-C (its parent kills it) and ends when its input ends.

Protocol
--------
All numbers are little-endian; nothing is pickled. Everything a file can do to this process (a crash, an
endless loop, a full memory) shows in the parent as a missing answer.

    parent   u32 length, then that many bytes of JSON: the image format as `ImageFormat.to_dict` gives it
    worker   one byte, READY, as soon as everything is imported
    parent   a batch: u32 number of names, u8 careful, then for each u32 length and the name's bytes
             (`os.fsencode`)
    worker   for each name, in order: `ANSWER`, then its body

Answers are held back for up to `HOLD_SECONDS` of work and sent together, which saves two changes of process a
file; in a careful batch each is sent before the next file is opened, so that the first file without an answer is
the culprit.

``ANSWER`` is u8 readable (1 or 0), u16 alterations (bit i: kind i of `ALTERATIONS`), i32 width, i32 height,
u32 length of the body, 32 bytes of SHA-256. The body is the pixels (height * width * channels bytes, C order)
or, for a refused file, its reason and its advice in UTF-8 with a line feed between them.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import struct
import sys
import time
from typing import BinaryIO

from lastlayer.data.images import ALTERATIONS, ImageFormat, ImageReadError, read_image

READY = b"\x06"
LENGTH = struct.Struct("<I")
BATCH = struct.Struct("<IB")
ANSWER = struct.Struct("<BHiiI32s")
KINDS = tuple(ALTERATIONS)
_BITS = {kind: 1 << i for i, kind in enumerate(KINDS)}
HOLD_SECONDS = 0.02
_ADDRESS_SPACE = 1 << 30


def limit_address_space(max_pixels: int) -> None:
    """Make a runaway decoder fail here instead of filling the machine, where the platform can do that."""
    try:
        import resource
    except ImportError:  # Windows
        return
    limit = max(_ADDRESS_SPACE, (512 << 20) + 24 * max_pixels)
    with contextlib.suppress(ValueError, OSError):  # macOS refuses; the pixel limit still holds
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def pack_answer(name: bytes, format: ImageFormat) -> bytes:
    """The bytes that answer one file."""
    try:
        image = read_image(os.fsdecode(name), format)
    except ImageReadError as error:
        body = f"{error.reason}\n{error.advice}".encode("utf-8", "backslashreplace")
        return ANSWER.pack(0, 0, 0, 0, len(body), b"") + body
    bits = 0
    for kind in image.alterations:
        bits |= _BITS[kind]
    pixels = image.pixels
    return ANSWER.pack(1, bits, image.width, image.height, pixels.nbytes, image.sha256) + pixels.tobytes()


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer batches until the input ends."""
    (length,) = LENGTH.unpack(source.read(4))
    format = ImageFormat.from_dict(json.loads(source.read(length)))
    limit_address_space(format.max_pixels)
    sink.write(READY)
    sink.flush()
    while head := source.read(BATCH.size):
        number, careful = BATCH.unpack(head)
        names = []
        for _ in range(number):
            (length,) = LENGTH.unpack(source.read(4))
            names.append(source.read(length))
        answer_batch(names, bool(careful), format, sink)


def answer_batch(names: list[bytes], careful: bool, format: ImageFormat, sink: BinaryIO) -> None:
    """Write the answers of one batch and flush them."""
    sent = time.monotonic()
    for name in names:
        sink.write(pack_answer(name, format))
        if careful or time.monotonic() - sent > HOLD_SECONDS:
            sink.flush()
            sent = time.monotonic()
    sink.flush()


def main() -> None:
    """Serve on the standard streams; whatever else prints goes to stderr."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sink = os.fdopen(os.dup(1), "wb", buffering=1 << 18)
    os.dup2(2, 1)
    gc.freeze()  # the imported modules live as long as the process
    try:
        serve(sys.stdin.buffer, sink)
    except (BrokenPipeError, struct.error):  # the parent is gone, perhaps in the middle of a batch
        os._exit(1)


if __name__ == "__main__":
    main()
