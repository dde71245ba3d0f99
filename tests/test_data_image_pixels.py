"""The pixels are right: depth, palettes, transparency, CMYK, EXIF turns, first frames."""

from __future__ import annotations

import hashlib
import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageOps

import image_fixtures as odd
from lastlayer.data.images import (
    ImageFormat,
    decode_image,
)


def pixels(data: bytes, name: str = "a.png", **format: int | str) -> np.ndarray:
    return decode_image(data, name, ImageFormat(**format) if format else None).pixels


def test_deep_pixels_keep_their_high_byte() -> None:
    deep = odd.deep_grays()
    rgb = np.stack([deep, deep[::-1], deep[:, ::-1]], axis=2)
    high, high_rgb = (deep >> 8)[:, :, None], rgb >> 8
    opaque = np.full_like(deep, 65535)
    np.testing.assert_array_equal(pixels(odd.deep_png(deep, 0)), high)
    np.testing.assert_array_equal(pixels(odd.deep_png(np.dstack([deep, opaque]), 4)), high)
    np.testing.assert_array_equal(pixels(odd.deep_png(rgb, 2)), high_rgb)
    np.testing.assert_array_equal(pixels(odd.deep_png(np.dstack([rgb, opaque]), 6)), high_rgb)
    for order in "<>":
        np.testing.assert_array_equal(pixels(odd.tiff(deep, 1, order)), high)
        np.testing.assert_array_equal(pixels(odd.tiff(rgb, 2, order)), high_rgb)
        rgba = np.dstack([rgb, opaque])
        np.testing.assert_array_equal(pixels(odd.tiff(rgba, 2, order, t338=2)), high_rgb)
        np.testing.assert_array_equal(pixels(odd.tiff(rgba, 2, order, t338=1)), high_rgb)
    np.testing.assert_array_equal(pixels(odd.tiff(deep, 0)), (65535 - deep >> 8)[:, :, None])
    for compression in ("tiff_lzw", "tiff_adobe_deflate"):
        data = odd.encode(Image.fromarray(deep), "TIFF", compression=compression)
        np.testing.assert_array_equal(pixels(data), high)


def test_deep_cmyk_is_its_high_bytes_converted() -> None:
    deep = odd.deep_grays()
    cmyk = np.stack([deep, deep[::-1], deep[:, ::-1], deep // 2], axis=2)
    eight = Image.frombytes("CMYK", (24, 16), (cmyk >> 8).astype(np.uint8).tobytes())
    np.testing.assert_array_equal(pixels(odd.tiff(cmyk, 5)), np.asarray(eight.convert("RGB")))


def test_the_12_bit_note_needs_light_and_darkness() -> None:
    black = np.zeros((4, 4), np.uint16)
    assert decode_image(odd.deep_png(black, 0), "a.png").alterations == ("depth16",)
    assert "looks-12-bit" in decode_image(odd.deep_png(black + 4095, 0), "a.png").alterations
    assert "looks-12-bit" not in decode_image(odd.deep_png(black + 4096, 0), "a.png").alterations
    dim = np.dstack([black, black, black + 4000])
    assert "looks-12-bit" in decode_image(odd.deep_png(dim, 2), "a.png").alterations


def test_gray_palette_and_bits() -> None:
    rgb, gray = odd.colours(), odd.grays()
    bits = Image.fromarray(gray).convert("1")
    palette = Image.fromarray(rgb).quantize(16)
    np.testing.assert_array_equal(pixels(odd.encode(bits, "PNG"))[:, :, 0], np.asarray(bits) * 255)
    np.testing.assert_array_equal(pixels(odd.encode(palette, "PNG")), np.asarray(palette.convert("RGB")))
    np.testing.assert_array_equal(pixels(odd.encode(palette, "GIF")), np.asarray(palette.convert("RGB")))
    stored = odd.png(4, 1, 2, 0, b"\0\x1b")
    np.testing.assert_array_equal(pixels(stored).ravel(), [0, 85, 170, 255])
    for format in ("PNG", "BMP", "TIFF"):
        np.testing.assert_array_equal(pixels(odd.encode(rgb, format)), rgb)
        np.testing.assert_array_equal(pixels(odd.encode(gray, format)), gray[:, :, None])


def test_whether_the_file_carries_colour() -> None:
    gray, rgb = odd.grays(), odd.colours()
    gray_palette = Image.fromarray(gray).convert("P")
    carries = {
        odd.encode(gray, "PNG"): False,
        odd.encode(gray, "JPEG"): False,
        odd.encode(odd._la(gray, gray), "PNG"): False,
        odd.deep_png(odd.deep_grays(), 0): False,
        odd.encode(gray_palette, "PNG"): False,
        odd.encode(rgb, "PNG"): True,
        odd.encode(rgb, "JPEG"): True,
        odd.encode(np.dstack([gray] * 3), "PNG"): True,
        odd.encode(gray, "WEBP", lossless=True): True,
    }
    for data, colour in carries.items():
        image = decode_image(data, "x")
        assert image.gray is not colour
        assert image.pixels.shape[2] == (3 if colour else 1)


@pytest.mark.parametrize("background", [255, 0])
def test_transparency_shows_the_background_and_never_the_hidden_colour(background: int) -> None:
    rgb = odd.colours()
    alpha = np.tile(np.linspace(0, 255, 24).round().astype(np.uint8), (16, 1))
    share = alpha[:, :, None] / 255
    wanted = rgb * share + background * (1 - share)
    data = odd.encode(np.dstack([rgb, alpha]), "PNG")
    got = pixels(data, height=16, width=24, channels=3, background=background)
    assert np.abs(got - wanted).max() <= 1
    premultiplied = np.dstack([(rgb * share).round().astype(np.uint8), alpha])
    got = pixels(odd.tiff(premultiplied, 2, t338=1), height=16, width=24, channels=3, background=background)
    assert np.abs(got - wanted).max() <= 2


def test_transparency_keys_of_every_depth() -> None:
    four_bits = odd.png(4, 1, 4, 0, b"\0\x12\x3f", odd.chunk(b"tRNS", b"\0\3"))
    np.testing.assert_array_equal(pixels(four_bits).ravel(), [17, 34, 255, 255])
    deep = np.array([[0x1234, 0x1235, 0x8000]], np.uint16)
    gray = odd.deep_png(deep, 0, odd.chunk(b"tRNS", b"\x12\x34"))
    np.testing.assert_array_equal(pixels(gray).ravel(), [255, 0x12, 0x80])
    colour = np.array([[[0x1200, 0x3400, 0x5600], [0x1200, 0x3400, 0x5700]]], np.uint16)
    rgb = odd.deep_png(colour, 2, odd.chunk(b"tRNS", b"\x12\x00\x34\x00\x56\x00"))
    np.testing.assert_array_equal(pixels(rgb), [[[255, 255, 255], [0x12, 0x34, 0x57]]])


def test_a_bmp_with_an_unused_fourth_byte_is_not_blank() -> None:
    rgb, rows = odd.colours(), slice(None, None, -1)
    for fourth, alterations in ((0, ()), (255, ()), (100, ("alpha",))):
        bgra = np.dstack([rgb[rows, :, ::-1], np.full((16, 24), fourth, np.uint8)]).tobytes()
        masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
        header = struct.pack("<IiiHHIIiiII", 108, 24, 16, 1, 32, 3, len(bgra), 0, 0, 0, 0) + masks + b"\0" * 52
        data = b"BM" + struct.pack("<IHHI", 122 + len(bgra), 0, 0, 122) + header + bgra
        image = decode_image(data, "a.bmp")
        assert image.alterations == alterations
        assert np.array_equal(image.pixels, rgb) is (fourth != 100)


def test_cmyk_is_converted_whether_inverted_or_not() -> None:
    cmyk = Image.fromarray(odd.colours()).convert("CMYK")
    jpeg = odd.encode(cmyk, "JPEG", quality=100)
    wanted = np.asarray(cmyk.convert("RGB")).astype(int)
    assert np.abs(pixels(jpeg, "a.jpg") - wanted).mean() < 3
    start = jpeg.index(b"\xff\xee")
    length = int.from_bytes(jpeg[start + 2 : start + 4], "big") + 2
    unmarked = jpeg[:start] + jpeg[start + length :]
    assert np.abs(pixels(unmarked, "a.jpg") - (255 - wanted)).mean() > 30  # no marker: not inverted
    assert decode_image(unmarked, "a.jpg").alterations == ("cmyk",)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turn_is_applied_once(orientation: int) -> None:
    rgb = odd.colours(64, 40)
    jpeg = odd.with_exif(odd.encode(rgb, "JPEG", quality=95), odd.exif(orientation))
    wanted = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(jpeg))))
    image = decode_image(jpeg, "a.jpg")
    np.testing.assert_array_equal(image.pixels, wanted)
    assert (image.height, image.width) == wanted.shape[:2]
    stored = odd.tiff(rgb, 2, t274=orientation)
    turned = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(stored))))
    np.testing.assert_array_equal(pixels(stored), turned)
    png = odd.encode(rgb, "PNG", exif=odd.exif(orientation))
    np.testing.assert_array_equal(pixels(png), turned)
    small = decode_image(jpeg, "a.jpg", ImageFormat(8, 8, 3)).pixels.astype(int)
    reference = Image.fromarray(wanted).resize((8, 8), Image.Resampling.BILINEAR, box=_square(*wanted.shape[1::-1]))
    assert np.abs(small - np.asarray(reference)).mean() < 4


def _square(width: int, height: int) -> tuple[float, float, float, float]:
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def test_broken_exif_leaves_the_pixels_as_stored() -> None:
    jpeg = odd.encode(odd.colours(), "JPEG", quality=95)
    for block in (
        odd.exif(0),
        odd.exif(9),
        odd.exif(6, kind=2),
        b"Exif\0\0",
        b"Exif\0\0II",
        b"Exif\0\0MM\0*\0\0\xff\xff",
    ):
        image = decode_image(odd.with_exif(jpeg, block), "a.jpg")
        assert image.alterations == ("exif",)
        np.testing.assert_array_equal(image.pixels, pixels(jpeg, "a.jpg"))


def test_the_first_frame_page_or_picture_is_used() -> None:
    rgb = odd.colours()
    more = {"save_all": True, "append_images": [Image.fromarray(255 - rgb)]}
    first = Image.fromarray(rgb)
    for format, options in (
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ):
        image = decode_image(odd.encode(first, format, **options, **more), "x")
        np.testing.assert_array_equal(image.pixels, rgb)
        assert "animated" in image.alterations
    mpo = decode_image(odd.encode(first, "MPO", quality=95, **more), "a.jpg")
    np.testing.assert_array_equal(mpo.pixels, pixels(odd.encode(rgb, "JPEG", quality=95), "a.jpg"))
    assert mpo.alterations == ()


@settings(max_examples=30, derandomize=True, deadline=None)
@given(arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3]))))
def test_lossless_files_come_back_bit_by_bit(values: np.ndarray) -> None:
    picture = values[:, :, 0] if values.shape[2] == 1 else values
    for format in ("PNG", "BMP", "TIFF"):
        data = odd.encode(picture, format)
        image = decode_image(data, "x")
        np.testing.assert_array_equal(image.pixels, values)
        assert image.sha256 == hashlib.sha256(data).digest()
        assert (image.height, image.width) == values.shape[:2]
