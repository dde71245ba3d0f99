"""HOG of other libraries, timed in their own environment: `python hog_peers.py IMAGES.npy`.

Reads a line ``LIBRARY COUNT`` from standard input, computes that many images one after the other on one core, and
writes the seconds. Imports neither `lastlayer` nor what a library that is not asked for needs.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

CELL, BLOCK, ORIENTATIONS = 4, 2, 9


def scikit_image() -> tuple[str, Callable[[Any], Any]]:
    import skimage
    from skimage.feature import hog

    def one(image: Any) -> Any:
        axis = -1 if image.ndim == 3 else None
        return hog(image, ORIENTATIONS, (CELL, CELL), (BLOCK, BLOCK), block_norm="L2-Hys", channel_axis=axis)

    return f"scikit-image {skimage.__version__}", one


def opencv() -> tuple[str, Callable[[Any], Any]]:
    import cv2

    cv2.setNumThreads(1)
    made: dict[tuple[int, ...], Any] = {}

    def one(image: Any) -> Any:
        size = image.shape[1] // CELL * CELL, image.shape[0] // CELL * CELL
        if size not in made:
            side, cell = (BLOCK * CELL, BLOCK * CELL), (CELL, CELL)
            # aperture, sigma, L2-Hys and its limit, no square root first, one scale, directions without sign
            made[size] = cv2.HOGDescriptor(size, side, cell, cell, ORIENTATIONS, 1, -1.0, 0, 0.2, False, 64, False)
        return made[size].compute(image)

    return f"OpenCV {cv2.__version__}", one


def main(path: str) -> None:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    images = np.load(path)
    images = images[..., 0] if images.shape[3] == 1 else images
    made: dict[str, tuple[str, Callable[[Any], Any]]] = {}
    for line in sys.stdin:
        name, count = line.split()
        if name not in made:
            made[name] = {"scikit-image": scikit_image, "opencv": opencv}[name]()
            made[name][1](images[0])
        title, one = made[name]
        start = time.perf_counter()
        for image in images[: int(count)]:
            features = one(image)
        seconds = time.perf_counter() - start
        print(f"{seconds!r}\t{np.size(features)}\t{title}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
