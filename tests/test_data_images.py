"""Every odd image file ends as accepted, altered or refused by name; formats, sizes and channels."""

from __future__ import annotations

import io
import os
import pickle
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import image_fixtures as odd
from lastlayer._arrays import InputError
from lastlayer.data.images import (
    ALTERATIONS,
    IMAGE_SUFFIXES,
    REFUSALS,
    ImageFormat,
    ImageReadError,
    decode_image,
    read_image,
)


def outcome(path: str) -> odd.Expected:
    try:
        image = read_image(path)
    except ImageReadError as error:
        return odd.refused(error.reason)
    return odd.altered(*image.alterations) if image.alterations else odd.Expected(odd.ACCEPTED)


@pytest.fixture(scope="module")
def odd_folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, odd.Expected]]:
    folder = tmp_path_factory.mktemp("odd")
    return folder, odd.make_odd_images(folder)


# --- outcomes ---


def test_every_odd_file_ends_as_the_table_says(odd_folder: tuple[Path, dict[str, odd.Expected]]) -> None:
    folder, expected = odd_folder
    assert len(expected) >= 100
    found = {name: outcome(os.path.join(folder, name)) for name in expected}
    assert {n: (found[n], expected[n]) for n in expected if found[n] != expected[n]} == {}
    kinds = {kind for one in expected.values() for kind in one.kinds}
    assert set(ALTERATIONS) <= kinds
    never_in_a_folder = {"permission", "vanished", "unreadable", "crashed", "too-slow"}
    assert set(REFUSALS) - never_in_a_folder <= kinds


def test_refusals_name_the_file_the_code_and_the_format(odd_folder: tuple[Path, dict[str, odd.Expected]]) -> None:
    folder, expected = odd_folder
    for name, one in expected.items():
        if one.outcome == odd.REFUSED:
            with pytest.raises(ImageReadError) as caught:
                read_image(os.path.join(folder, name))
            error = caught.value
            assert error.code == "LL003"
            assert error.path.endswith(name)
            assert error.mend
            assert str(error).startswith("LL003 ")
            assert "\n" not in str(error)
    named = {"drawing.svg": "SVG", "phone.heic": "HEIC", "phone.avif": "AVIF", "ghost.jpg": "EPS", "layers.psd": "PSD"}
    for name, format in named.items():
        with pytest.raises(ImageReadError, match=format):
            read_image(folder / name)
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.path, copy.reason, copy.mend, str(copy)) == (error.path, error.reason, error.mend, str(error))


def test_no_warning_is_ever_given(odd_folder: tuple[Path, dict[str, odd.Expected]]) -> None:
    folder, expected = odd_folder
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for name in expected:
            outcome(os.path.join(folder, name))
    assert [str(warning.message) for warning in caught] == []


def test_missing_files_and_impossible_names() -> None:
    assert outcome("nowhere/at/all.png") == odd.refused("vanished")
    assert outcome("zero\0byte.png") == odd.refused("vanished")


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permission bits are those of POSIX systems")
def test_no_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = os.path.join(folder, "secret.png")
        Path(path).write_bytes(odd.encode(odd.grays(), "PNG"))
        os.chmod(path, 0)
        root = os.geteuid() == 0
        if root:  # root may read everything, so be somebody else for a moment
            os.seteuid(65534)
        try:
            assert outcome(path) == odd.refused("permission")
        finally:
            if root:
                os.seteuid(0)


def test_a_read_error_of_the_disk_is_that_files_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(odd.encode(odd.grays(), "PNG"))

    def broken(descriptor: int, size: int) -> bytes:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "read", broken)
        with pytest.raises(ImageReadError, match="Input/output error"):
            read_image(tmp_path / "a.png")


def test_huge_files_are_refused_unread(tmp_path: Path) -> None:
    with open(tmp_path / "sparse.bmp", "wb") as stream:
        stream.write(b"BM")
        stream.truncate(10**9)
    assert outcome(str(tmp_path / "sparse.bmp")) == odd.refused("too-large")


# --- size and channels ---


def pixels(data: bytes, name: str = "a.png", **format: int | str) -> np.ndarray:
    return decode_image(data, name, ImageFormat(**format) if format else None).pixels


def test_format_of_the_same_size_changes_nothing() -> None:
    rgb = odd.colours()
    np.testing.assert_array_equal(pixels(odd.encode(rgb, "PNG"), height=16, width=24, channels=3), rgb)


def test_gray_and_colour_formats() -> None:
    rgb, gray = odd.colours(), odd.grays()
    luma = np.asarray(Image.fromarray(rgb).convert("L"))
    size = {"height": 16, "width": 24}
    np.testing.assert_array_equal(pixels(odd.encode(rgb, "PNG"), **size, channels=1)[:, :, 0], luma)
    np.testing.assert_array_equal(pixels(odd.encode(gray, "PNG"), **size, channels=3), np.dstack([gray] * 3))


@pytest.mark.parametrize("shape", [(90, 60), (60, 90), (61, 60), (20, 30), (1, 1)])
def test_crop_takes_the_centre_and_stretch_takes_all(shape: tuple[int, int]) -> None:
    width, height = shape
    rgb = odd.colours(width, height)
    data = odd.encode(rgb, "PNG")
    picture = Image.fromarray(rgb)
    bilinear = Image.Resampling.BILINEAR
    stretched = pixels(data, height=16, width=16, channels=3, fit="stretch")
    np.testing.assert_array_equal(stretched, np.asarray(picture.resize((16, 16), bilinear)))
    scale = 16 / min(shape)
    whole = picture.resize((round(width * scale), round(height * scale)), bilinear)
    left, top = (whole.width - 16) // 2, (whole.height - 16) // 2
    centre = np.asarray(whole.crop((left, top, left + 16, top + 16))).astype(int)
    assert np.abs(pixels(data, height=16, width=16, channels=3) - centre).max() <= 10


def test_crop_of_a_very_long_picture() -> None:
    line = np.repeat(np.arange(60_000) > 30_000, 1).astype(np.uint8)[None] * 255
    got = pixels(odd.encode(line, "PNG"), height=8, width=8, channels=1)
    assert got.shape == (8, 8, 1)
    assert got.max() == 0  # the one pixel at the centre and its neighbours are black


def test_reduction_is_antialiased() -> None:
    board = (np.indices((512, 512)).sum(axis=0) % 2 * 255).astype(np.uint8)
    got = pixels(odd.encode(board, "PNG"), height=16, width=16, channels=1)
    assert np.abs(got.astype(int) - 127).max() <= 2


def test_large_jpegs_are_drafted_and_look_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rgb = odd.colours(800, 600)
    jpeg = odd.encode(rgb, "JPEG", quality=92)
    drafted: list[tuple[int, int]] = []
    from PIL.JpegImagePlugin import JpegImageFile

    draft = JpegImageFile.draft

    def watched(self: JpegImageFile, mode: str | None, size: tuple[int, int]) -> object:
        answer = draft(self, mode, size)
        drafted.append(self.size)
        return answer

    monkeypatch.setattr(JpegImageFile, "draft", watched)
    image = decode_image(jpeg, "a.jpg", ImageFormat(64, 64, 3))
    assert (image.width, image.height) == (800, 600)
    assert drafted == [(200, 150)]  # a quarter: never below twice 64
    monkeypatch.setattr(JpegImageFile, "draft", lambda *_: pytest.fail("drafted"))
    full = pixels(odd.encode(np.asarray(Image.open(io.BytesIO(jpeg))), "PNG"), height=64, width=64, channels=3)
    assert np.abs(image.pixels.astype(int) - full).mean() < 1
    decode_image(jpeg, "a.jpg", ImageFormat(200, 200, 3))
    decode_image(jpeg, "a.jpg")


def test_image_format_round_trip_and_nonsense() -> None:
    format = ImageFormat(28, 32, 1, fit="stretch", max_pixels=10, background=3)
    assert ImageFormat.from_dict(format.to_dict()) == format
    good = format.to_dict()
    bad = {"height": 0, "width": 2.5, "channels": 2, "fit": "squash", "max_pixels": True, "background": 256}
    for name, value in bad.items():
        with pytest.raises(InputError, match=name):
            ImageFormat.from_dict({**good, name: value})
    with pytest.raises(InputError, match="colour"):
        ImageFormat.from_dict({**good, "colour": 1})
    with pytest.raises(InputError, match="width"):
        ImageFormat.from_dict({"height": 1, "channels": 1})
    with pytest.raises(InputError, match="mapping"):
        ImageFormat.from_dict([1])  # type: ignore[arg-type]


def test_suffixes_are_hints() -> None:
    assert {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"} <= IMAGE_SUFFIXES
    png = odd.encode(odd.grays(), "PNG")
    assert decode_image(png, "X.PNG").alterations == ()
    assert decode_image(png, "x.jpeg").alterations == ("extension",)
