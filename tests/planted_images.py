"""Pictures to plant faults in: strokes on black that look alike, and patterns of colour that do not."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image


def strokes(n: int, side: int = 28, seed: int = 0, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Three bars on black, (n, side, side, 1); where they cross tells the class, much like written digits."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    y, x = np.mgrid[0:side, 0:side] - (side - 1) / 2
    out = np.zeros((n, side, side), dtype=np.float64)
    for k in range(3):
        angle = (labels * (1.1 + 0.7 * k) + k)[:, None, None] + 0.25 * rng.standard_normal((n, 1, 1))
        centre = 3.0 * rng.standard_normal((n, 2, 1, 1)) + 3 * (k - 1)
        across = (x - centre[:, 0]) * np.cos(angle) + (y - centre[:, 1]) * np.sin(angle)
        along = -(x - centre[:, 0]) * np.sin(angle) + (y - centre[:, 1]) * np.cos(angle)
        thick, long = 1.2 + 0.4 * rng.random((n, 1, 1)), 6 + 3 * rng.random((n, 1, 1))
        bar = 1 / (1 + np.exp(np.clip(3 * (np.abs(across) - thick), -40, 40)))
        out = np.maximum(out, bar / (1 + np.exp(np.clip(3 * (np.abs(along) - long), -40, 40))))
    return np.rint(255 * out).astype(np.uint8)[..., None], labels


def patterns(n: int, side: int = 32, seed: int = 0, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Random smooth colours, (n, side, side, 3), a little bluer from class to class, as backgrounds are."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    weight = 1 / np.maximum(frequency, 1 / side) ** 1.2
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((n, 3, side, side))) * weight, s=(side, side))
    noise += 0.7 * noise.mean(axis=1, keepdims=True)
    noise = 128 + 45 * noise / noise.std(axis=(2, 3), keepdims=True)
    noise[:, 2] += 8.0 * labels[:, None, None]
    return np.clip(np.rint(noise), 0, 255).astype(np.uint8).transpose(0, 2, 3, 1).copy(), labels


def as_picture(image: np.ndarray) -> Image.Image:
    """A Pillow image of one of them."""
    return Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)


def as_pixels(picture: Image.Image, like: np.ndarray) -> np.ndarray:
    """And back, in the channels of `like`."""
    return np.asarray(picture.convert("L" if like.shape[2] == 1 else "RGB")).reshape(like.shape)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Saved again."""
    stream = io.BytesIO()
    as_picture(image).save(stream, "JPEG", quality=quality)
    return as_pixels(Image.open(stream), image)


def resized(image: np.ndarray, factor: float) -> np.ndarray:
    """Resized and brought back."""
    height, width = image.shape[:2]
    other = as_picture(image).resize((round(width * factor), round(height * factor)), Image.Resampling.BILINEAR)
    return as_pixels(other.resize((width, height), Image.Resampling.BILINEAR), image)


def moved(image: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Moved by a pixel."""
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
    return padded[1 - rows :, 1 - columns :][: image.shape[0], : image.shape[1]]


def cropped(image: np.ndarray) -> np.ndarray:
    """A pixel less at every edge, brought to the size."""
    height, width = image.shape[:2]
    part = as_picture(image).crop((1, 1, width - 1, height - 1))
    return as_pixels(part.resize((width, height), Image.Resampling.BILINEAR), image)


def brighter(image: np.ndarray, factor: float, offset: float = 0.0) -> np.ndarray:
    """Other brightness and contrast."""
    return np.clip(np.rint(image * factor + offset), 0, 255).astype(np.uint8)


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "jpeg 90": lambda image: jpeg(image, 90),
    "jpeg 75": lambda image: jpeg(image, 75),
    "smaller": lambda image: resized(image, 0.75),
    "larger": lambda image: resized(image, 1.5),
    "right": lambda image: moved(image, 0, 1),
    "up left": lambda image: moved(image, -1, -1),
    "darker": lambda image: brighter(image, 0.8),
    "brighter": lambda image: brighter(image, 1.0, 20.0),
    "cropped": cropped,
}
