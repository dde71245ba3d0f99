"""Hostile files: cut anywhere, bombs, mutants. Each detector is first shown a planted bad reader."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

import image_fixtures as odd
from lastlayer.data.images import (
    DecodedImage,
    ImageReadError,
    decode_image,
)


def _complete() -> dict[str, bytes]:
    rgb = odd.colours(64, 48)
    palette = Image.fromarray(rgb).quantize(64)
    return {
        "a.jpg": odd.encode(rgb, "JPEG"),
        "progressive.jpg": odd.encode(rgb, "JPEG", progressive=True),
        "a.png": odd.encode(rgb, "PNG"),
        "a.gif": odd.encode(palette, "GIF"),
        "a.webp": odd.encode(rgb, "WEBP"),
        "lossless.webp": odd.encode(rgb, "WEBP", lossless=True),
        "a.bmp": odd.encode(rgb, "BMP"),
        "directory-first.tif": odd.encode(rgb, "TIFF"),
        "directory-last.tif": odd.tiff(rgb, 2),
        "lzw.tif": odd.encode(rgb, "TIFF", compression="tiff_lzw"),
        "zip.tif": odd.encode(rgb, "TIFF", compression="tiff_adobe_deflate"),
        "jpeg.tif": odd.encode(rgb, "TIFF", compression="jpeg"),
    }


@pytest.mark.parametrize("name", list(_complete()))
def test_files_cut_at_a_hundred_points(name: str) -> None:
    data = _complete()[name]
    whole = decode_image(data, name).pixels
    reasons = set()
    for cut in sorted({len(data) * i // 100 for i in range(100)} | {len(data) - i for i in range(1, 40)}):
        try:
            image = decode_image(data[:cut], name)
        except ImageReadError as error:
            reasons.add(error.reason)
        else:
            np.testing.assert_array_equal(image.pixels, whole)
    assert reasons == {"truncated", "empty"}


def test_switches_of_the_program_around_do_not_matter_and_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 7)
    data = _complete()["a.jpg"]
    assert decode_image(data, "a.jpg").alterations == ()
    with pytest.raises(ImageReadError, match="truncated"):
        decode_image(data[:-200], "a.jpg")
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True
    assert Image.MAX_IMAGE_PIXELS == 7


def test_threads_agree_with_one_another() -> None:
    files = _complete()
    cut = {name: data[: len(data) * 2 // 3] for name, data in files.items()}
    wanted = {name: decode_image(data, name).pixels for name, data in files.items()}
    wrong: list[str] = []

    def work() -> None:
        for _ in range(5):
            for name, data in files.items():
                if not np.array_equal(decode_image(data, name).pixels, wanted[name]):
                    wrong.append(name)
                try:
                    decode_image(cut[name], name)
                    wrong.append("cut " + name)
                except ImageReadError:
                    continue

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


# --- bombs: memory, and the planted reader that has no limit ---

_MEMORY = """
import sys
sys.path.insert(0, {tests!r})
import image_fixtures as odd
from lastlayer.data.images import ImageReadError, decode_image
bombs = [odd.pixel_bomb(), odd.text_bomb(), odd.text_bomb(inflated=1 << 20, number=40), odd.text_bomb(b"iCCP")]
decode_image(odd.encode(odd.colours(), "PNG"), "warm")
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
before = peak()
for bomb in bombs:
    try:
        decode_image(bomb, "bomb.png", max_pixels={limit})
    except ImageReadError:
        pass
print(peak() - before)
"""


def _memory_of_bombs(limit: int) -> float:
    """Megabytes that the bombs cost a fresh process."""
    code = _MEMORY.format(tests=str(Path(__file__).parent), limit=limit)
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_environment()
    )
    return int(answer.stdout) / 1024


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_bombs_cost_no_memory_and_the_test_would_notice() -> None:
    assert _memory_of_bombs(25_000_000) < 25
    assert _memory_of_bombs(2**31 - 1) > 80  # planted: no pixel limit


# --- fuzz: only ImageReadError leaves the reader, and nothing above the limit is decoded ---

Reader = Callable[[bytes], DecodedImage]
_FUZZ_LIMIT = 100_000


def _mutants(number: int) -> list[bytes]:
    rng = np.random.default_rng(20_240_601)
    rgb = odd.colours(20, 12)
    turned = odd.with_exif(odd.encode(rgb, "JPEG"), odd.exif(6))
    palette = Image.fromarray(rgb).quantize(8)
    seeds = [
        turned,
        odd.encode(rgb, "JPEG", progressive=True),
        odd.encode(rgb, "PNG"),
        odd.encode(palette, "PNG", transparency=bytes(8)),
        odd.encode(palette, "GIF", save_all=True, append_images=[palette.rotate(180)]),
        odd.encode(rgb, "WEBP"),
        odd.encode(rgb, "BMP"),
        odd.encode(palette, "BMP"),
        odd.encode(rgb, "TIFF", compression="tiff_lzw"),
        odd.tiff(odd.deep_grays(20, 12), 1, ">"),
        odd.encode(Image.fromarray(rgb), "MPO", save_all=True, append_images=[Image.fromarray(rgb)]),
    ]
    return [_mutate(seeds[i % len(seeds)], rng) for i in range(number)]


def _mutate(seed: bytes, rng: np.random.Generator) -> bytes:
    data = bytearray(seed)
    for _ in range(rng.integers(1, 5)):
        # headers are at the start: aim there half of the time
        at = int(rng.integers(0, min(len(data), 120) if rng.random() < 0.5 else len(data)))
        kind = rng.integers(0, 6)
        if kind == 0:
            data[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1:
            data[at] = int(rng.choice([0, 1, 0x7F, 0x80, 0xFF]))
        elif kind == 2:
            del data[at : at + int(rng.integers(1, 9))]
        elif kind == 3:
            data[at:at] = rng.bytes(int(rng.integers(1, 9)))
        elif kind == 4:
            data[at : at + 4] = rng.bytes(4)
        else:
            data = data[: max(13, at)]
        if len(data) < 13:
            break
    return bytes(data)


def _leaks(read: Reader, mutants: list[bytes]) -> set[str]:
    """What a reader lets out: names of exceptions, warnings, and pictures above the limit."""
    found = set()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for data in mutants:
            try:
                image = read(data)
            except ImageReadError:
                continue
            except Exception as error:
                found.add(type(error).__name__)
            else:
                if image.width * image.height > _FUZZ_LIMIT:
                    found.add("above the limit")
    return found | {"warning: " + str(warning.message) for warning in caught}


def _unguarded(data: bytes) -> DecodedImage:
    """A planted bad reader: the usual three lines."""
    picture = Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"))
    width, height = picture.size
    if width * height <= 4_000_000:  # or the planted reader would take minutes
        picture.load()
    return DecodedImage(np.zeros((1, 1, 3), np.uint8), (), width, height, False, b"")


def test_fuzz_lets_nothing_out_but_image_read_errors() -> None:
    mutants = _mutants(4000)
    assert _leaks(lambda data: decode_image(data, "x", max_pixels=_FUZZ_LIMIT), mutants) == set()
    planted = _leaks(_unguarded, mutants)
    assert {"SyntaxError", "UnidentifiedImageError", "OSError", "above the limit"} <= planted
    assert any(leak.startswith("warning: ") for leak in planted)


def test_fuzz_notices_a_reader_without_the_one_except(monkeypatch: pytest.MonkeyPatch) -> None:
    import lastlayer.data.images as images

    def explain(error: Exception, header: object) -> tuple[str, str]:
        raise error

    monkeypatch.setattr(images, "_explain", explain)
    assert _leaks(lambda data: decode_image(data, "x", max_pixels=_FUZZ_LIMIT), _mutants(600)) - {"ImageReadError"}
