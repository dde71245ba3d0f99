"""The vocabulary of arrays: shape letters, input checks and the one error type.

Shapes
------
N : examples, D : features, K : classes, H, W, C : height, width and channels of an image.

Images are uint8 (N, H, W, C), RGB, channels last. Features Z are float32 (N, D) in C order. Weights are
(D, K), scores ``Z W + b`` are (N, K), labels are integers 0..K-1 of shape (N,).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from lastlayer._errors import InputError as InputError

FloatArray = npt.NDArray[np.floating[Any]]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
UInt8 = npt.NDArray[np.uint8]
IntArray = npt.NDArray[np.integer[Any]]
Int32 = npt.NDArray[np.int32]
BoolArray = npt.NDArray[np.bool_]
Array = npt.NDArray[Any]


def aligned_empty(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    """Room for an array that begins with a cache line of 64 bytes: vectors that lie in two lines take two loads."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    room = np.empty(size + 64, np.uint8)
    first = -room.ctypes.data % 64
    return room[first : first + size].view(dtype).reshape(shape)


def first_not_finite(X: Array) -> tuple[int, ...] | None:
    """Index of the first NaN or infinite entry, or None; reads blocks of rows, makes no full copy."""
    if X.dtype.kind != "f":
        return None
    rows = max(1, 4_194_304 // max(1, int(np.prod(X.shape[1:], dtype=np.int64))))
    for start in range(0, X.shape[0], rows):
        finite = np.isfinite(X[start : start + rows])
        if not finite.all():
            where = np.argwhere(~finite)[0]
            return (start + int(where[0]), *(int(i) for i in where[1:]))
    return None


def check_matrix(X: Array, name: str = "X") -> Array:
    """Refuse what is not a finite, real, two-dimensional array with at least one row and column."""
    if X.ndim != 2:
        raise InputError(
            f"{name} has shape {X.shape}; (N, D) is needed",
            "Reshape a single example with array.reshape(1, -1)" if X.ndim == 1 else "",
        )
    if X.dtype.kind not in "fiub":
        raise InputError(f"{name} has dtype {X.dtype}; real numbers are needed")
    if X.shape[0] == 0 or X.shape[1] == 0:
        raise InputError(f"{name} has shape {X.shape}; at least one row and one column are needed")
    where = first_not_finite(X)
    if where is not None:
        row, column = where
        raise InputError(
            f"{name} is {X[row, column]} in row {row}, column {column}",
            "Repair or drop that row",
            "LL030",
        )
    return X


def check_images(images: Array, name: str = "images") -> UInt8:
    """Refuse what is not uint8 (N, H, W, C) with 1 or 3 channels."""
    if images.ndim != 4 or images.shape[3] not in (1, 3) or images.dtype != np.uint8:
        raise InputError(
            f"{name} are {images.dtype} of shape {images.shape}; uint8 (N, H, W, 1 or 3) is needed",
            "Add missing axes with images[:, :, :, None]; scale floats in 0..1 by 255 and round",
        )
    return images
