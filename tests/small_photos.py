"""Small folders of pictures that a linear classifier can tell apart, made on the spot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("blue", "green", "red")


def picture(label: int, seed: int, side: int = 24, channels: int = 3) -> np.ndarray:
    """A noisy picture whose colour (or, in gray, brighter half) tells its class."""
    rng = np.random.default_rng((label, seed))
    pixels = rng.integers(60, 140, size=(side, side, channels))
    if channels == 3:
        pixels[:, :, 2 - label] += 70
    else:
        third = side // 3
        pixels[label * third : (label + 1) * third] += 70
    return pixels.clip(0, 255).astype(np.uint8)


def make_folder(root: Path, per_class: int = 20, side: int = 24, channels: int = 3, first: int = 0) -> Path:
    """``root/CLASS/NNN.png`` for the three classes."""
    for label, name in enumerate(CLASSES):
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(first, first + per_class):
            pixels = picture(label, number, side, channels)
            Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels).save(folder / f"{number:03d}.png")
    return root
