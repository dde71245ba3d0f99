from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lastlayer.data.file_properties import detail, head_properties, read_properties
from planted_images import patterns


def saved(kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(patterns(1)[0][0]).save(stream, kind, **options)
    return stream.getvalue()


def camera(maker: str, model: str, software: str) -> bytes:
    exif = Image.Exif()
    exif[271], exif[272], exif[305] = maker, model, software
    return exif.tobytes()


def test_jpeg_tells_tables_sampling_camera_and_software() -> None:
    found = head_properties(saved("JPEG", quality=80, exif=camera("Nikon", "D 90", "Editor 2.1")))
    assert found["file type"] == "JPEG" and found["camera"] == "Nikon D 90" and found["software"] == "Editor 2.1"
    assert found["colour sampling"] == "baseline 2x2 1x1 1x1"
    again = head_properties(saved("JPEG", quality=80))
    assert again["compression tables"] == found["compression tables"] and "camera" not in again
    assert head_properties(saved("JPEG", quality=81))["compression tables"] != found["compression tables"]
    full = head_properties(saved("JPEG", quality=80, subsampling=0, progressive=True))
    assert full["colour sampling"] == "progressive 1x1 1x1 1x1"


def test_png_tells_software_and_camera() -> None:
    note = PngInfo()
    note.add_text("Software", "Painter")
    found = head_properties(saved("PNG", pnginfo=note))
    assert found == {"file type": "PNG", "software": "Painter", "colour sampling": "8 bit, type 2"}
    assert head_properties(saved("PNG", exif=camera("Sony", "A7", "")))["camera"] == "Sony A7"


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "WEBP"])
def test_other_types(kind: str) -> None:
    assert head_properties(saved(kind))["file type"].split()[0] == kind


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 3), st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=8), st.integers(0, 2000)
)
def test_damaged_heads_never_fail(kind: int, damage: list[tuple[int, int]], length: int) -> None:
    exif = camera("Nikon", "D 90", "Editor")
    data = bytearray(saved(("JPEG", "PNG", "TIFF", "WEBP")[kind], **({} if kind == 3 else {"exif": exif})))
    for place, value in damage:
        data[place % len(data)] = value
    for text in head_properties(bytes(data[:length])).values():
        assert isinstance(text, str) and len(text) <= 130


def test_files_are_read_in_their_order_and_missing_ones_say_nothing(tmp_path: Path) -> None:
    paths = []
    for i, kind in enumerate(["JPEG", "PNG", "GIF"]):
        (tmp_path / f"{i}.{kind}").write_bytes(saved(kind))
        paths.append(str(tmp_path / f"{i}.{kind}"))
    found = read_properties([*paths, str(tmp_path / "gone.png")])
    assert found.texts["file type"] == ["JPEG", "PNG", "GIF", ""]
    assert found.texts["file ending"] == [".jpeg", ".png", ".gif", ""]
    assert found.size.tolist() == [*(Path(path).stat().st_size for path in paths), 0]


def test_detail_grows_with_what_a_picture_shows() -> None:
    pixels = patterns(20)[0]
    plain = np.full_like(pixels, 90)
    noise = np.random.default_rng(0).integers(0, 256, pixels.shape, dtype=np.uint8)
    a, b, c = (detail(images).mean(axis=0) for images in (plain, pixels, noise))
    assert (a < b).all() and (b < c).all() and np.isfinite(detail(plain)).all()
