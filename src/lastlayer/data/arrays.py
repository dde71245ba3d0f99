"""Images and labels as arrays: ``.npz``, ``.npy``, and pairs (X, y) from Python."""

from __future__ import annotations

import io
import math
import mmap
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, final

import numpy as np
from numpy.lib import format as npy

from lastlayer._arrays import Array, InputError, UInt8
from lastlayer.data.classes import encode_labels
from lastlayer.data.dataset import NONE, SPLIT_NAMES, TEST, TRAIN, VAL, ArrayImages
from lastlayer.data.listing import Listing
from lastlayer.data.sides import describe_sides

_NO_PICKLE: Final = "Save plain arrays: labels as integers or text (dtype U), images as uint8"
_MOST_UNPACKED: Final = 4 << 30
_UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    RuntimeError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)

_IMAGE_KEYS = ("x", "images", "image", "data", "imgs", "arr_0")
_LABEL_KEYS = ("y", "labels", "label", "target", "targets", "arr_1")
_NAME_KEYS = ("class_names", "classes", "label_names")
_SIDE_WORDS = {TRAIN: ("train", "training"), VAL: ("val", "valid", "validation"), TEST: ("test", "testing")}


@final
@dataclass(frozen=True)
class Part:
    """Images and labels of one side."""

    side: int
    pixels: UInt8
    labels: Any
    label_source: str


def array_listing(layout: str, parts: Sequence[Part], names: Sequence[str] | None = None) -> Listing:
    """Put parts together; integer labels index `names` where these are given.

    Rows are called ``train#0, train#1, …``, numbered through over the parts of a side.
    """
    texts: list[str | None] = []
    rows: list[str] = []
    start = dict.fromkeys((part.side for part in parts), 0)
    for part in parts:
        texts += label_texts(part.labels, part.label_source, names)
        first, start[part.side] = start[part.side], start[part.side] + len(part.pixels)
        rows += [f"{SPLIT_NAMES[part.side] or 'image'}#{i}" for i in range(first, start[part.side])]
    if len(rows) != len(texts):
        raise InputError(f"there are {len(rows):,} images and {len(texts):,} labels")
    labels, found = encode_labels(texts, "the labels")
    given = np.repeat(np.array([part.side for part in parts], dtype=np.uint8), [len(part.pixels) for part in parts])
    blocks = [part.pixels for part in parts]
    return Listing(
        layout=f"{layout}, {describe_sides({part.side for part in parts})}",
        images=ArrayImages(blocks[0] if len(blocks) == 1 else blocks, rows),
        labels=labels,
        class_names=found,
        given=given,
    )


def from_pair(X: Any, y: Any) -> Listing:
    """List images and labels given in Python; each an array, a sequence, or the path of a ``.npy`` file."""
    images = load_npy(Path(X)) if isinstance(X, (str, Path)) else np.asarray(X)
    labels = load_npy(Path(y)) if isinstance(y, (str, Path)) else y
    pixels = as_images(images, "X")
    return array_listing("arrays", [Part(NONE, pixels, labels, "y")])


def as_images(images: Array, name: str) -> UInt8:
    """Return uint8 (N, H, W, C), refusing what would have to be guessed.

    Raises
    ------
    InputError
        For floats, booleans, objects, values outside 0..255, channels first, and flat rows; each with the
        expression that mends it.
    """
    if images.dtype.hasobject:
        raise InputError(f"{name} holds Python objects", _NO_PICKLE, "LL012")
    if images.dtype.kind == "f":
        raise InputError(
            f"{name} is {images.dtype}; images are whole numbers 0..255",
            f"Scale it: numpy.round({name} * 255 / {name}.max()).astype('uint8') for values from 0",
        )
    if images.dtype.kind not in "iu":
        raise InputError(
            f"{name} is {images.dtype}; images are whole numbers 0..255", f"({name} * 255).astype('uint8')"
        )
    images = _with_channels(images, name)
    if images.dtype != np.uint8:
        low, high = (int(images.min()), int(images.max())) if images.size else (0, 0)
        if low < 0 or high > 255:
            raise InputError(
                f"{name} has values {low}..{high}; images are whole numbers 0..255",
                f"Scale it to 0..255, for example ({name} >> 8) for 16-bit images",
            )
        images = images.astype(np.uint8)
    return images


def _with_channels(images: Array, name: str) -> Array:
    shape = images.shape
    if images.ndim == 3 and 0 not in shape:
        return images[..., None]
    if images.ndim == 4 and shape[3] in (1, 3) and 0 not in shape:
        return images
    mend = "Images are (N, H, W) or (N, H, W, C) with C = 1 or 3"
    if images.ndim == 4 and shape[1] in (1, 3):
        mend = f"Channels go last: {name}.transpose(0, 2, 3, 1)"
    elif images.ndim == 4 and shape[3] in (2, 4):
        mend = f"Leave the transparency out: {name}[..., :{shape[3] - 1}]"
    elif images.ndim == 2 and math.isqrt(shape[1]) ** 2 == shape[1] > 0:
        side = math.isqrt(shape[1])
        mend = f"Give the rows their shape: {name}.reshape(-1, {side}, {side})"
    raise InputError(f"{name} has shape {shape}", mend)


def label_texts(labels: Any, name: str, names: Sequence[str] | None = None) -> list[str | None]:
    """Return labels as text: integers as digits (or as `names` of that number), None and NaN as None.

    Raises
    ------
    InputError
        For one-hot or fractional labels, and numbers beyond `names`.
    """
    array = labels if isinstance(labels, np.ndarray) else np.array(labels, dtype=object)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        hint = f"{name}.argmax(axis=1) for one-hot labels" if array.ndim == 2 else ""
        raise InputError(f"{name} has shape {array.shape}; one label per image is needed", hint)
    texts = [_label_text(value, name) for value in array.tolist()]
    if names is None:
        return texts
    known = {str(number): text for number, text in enumerate(names)}
    unknown = next((text for text in texts if text is not None and text not in known), None)
    if unknown is not None:
        raise InputError(f"{name} has the label {unknown}, but there are {len(names)} class names")
    return [known[text] if text is not None else None for text in texts]


def _label_text(value: Any, name: str) -> str | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape") or None
    if isinstance(value, str):
        return value or None
    if isinstance(value, (float, np.floating)):
        if float(value).is_integer():
            return str(int(value))
        raise InputError(f"{name} has the label {value}; labels are whole numbers or text")
    if isinstance(value, (bool, int, np.integer, np.bool_)):
        return str(value)
    raise InputError(f"{name} has a label of type {type(value).__name__}; labels are whole numbers or text")


def map_file(path: Path, dtype: np.dtype[Any], offset: int = 0) -> Array:
    """Return a file's contents from `offset` as a read-only array; pages are read when they are used."""
    with open(path, "rb") as file:
        pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return np.frombuffer(pages, dtype=dtype, offset=offset)


def load_npy(path: Path) -> Array:
    """Open a ``.npy`` file memory-mapped.

    Raises
    ------
    InputError
        When it is damaged, or holds pickled objects (LL012).
    """
    try:
        with open(path, "rb") as file:
            dtype, shape = read_npy_header(file, path.name)
            if 0 in shape:
                return np.empty(shape, dtype=dtype)
        array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except InputError:
        raise
    except _UNREADABLE as error:
        raise InputError(f"{path} cannot be read: {error}", "Save it again with numpy.save") from None
    return array


def read_npy_header(file: IO[bytes], name: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Type and shape from the header of an .npy file, checked."""
    version = npy.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = npy.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, _, dtype = npy.read_array_header_2_0(file)
    else:
        raise InputError(f"{name} has version {version} of the NumPy format", _NO_PICKLE)
    if dtype.hasobject:
        raise InputError(f"{name} holds pickled Python objects; they were not opened", _NO_PICKLE, "LL012")
    return dtype, shape


def read_npz(path: Path) -> Listing:
    """List the images and labels of an ``.npz`` file: X and y, or one such pair per side.

    Raises
    ------
    InputError
        When no pair is found, an array is pickled (LL012), or the file is damaged or unpacks to too much.
    """
    try:
        with zipfile.ZipFile(path, mode="r") as archive:
            members = {i.filename.removesuffix(".npy"): i for i in archive.infolist()}
            pairs = _find_pairs(members, path)
            names = next((n for n in members if n.casefold() in _NAME_KEYS), None)
            wanted = [key for _, *keys in pairs for key in keys] + ([names] if names else [])
            total = sum(members[key].file_size for key in wanted)
            if total > _MOST_UNPACKED:
                raise InputError(
                    f"{path.name} unpacks to {total:,} bytes",
                    "Save images and labels as two .npy files: these are not read into memory",
                )
            arrays = {key: read_member(archive, members[key], f"{path.name}:{key}") for key in wanted}
    except InputError:
        raise
    except _UNREADABLE as error:
        raise InputError(f"{path} cannot be read: {error}", "Save it again with numpy.savez") from None
    class_names = [text or "" for text in label_texts(arrays[names], names)] if names else None
    parts = [Part(side, as_images(arrays[x], x), _matching(arrays[y], arrays[x], x, y), y) for side, x, y in pairs]
    return array_listing(f"arrays {path.name}", parts, class_names)


def _matching(y: Array, X: Array, x_key: str, y_key: str) -> Array:
    if y.ndim and X.ndim and len(y) != len(X):
        raise InputError(f"{x_key} has {len(X):,} images, {y_key} has {len(y):,} labels")
    return y


def _find_pairs(members: dict[str, zipfile.ZipInfo], path: Path) -> list[tuple[int, str, str]]:
    by_name = {name.casefold().replace("-", "_"): name for name in members}

    def find(side: int, keys: Sequence[str]) -> str | None:
        words = _SIDE_WORDS.get(side)
        spelled = keys if words is None else [n for w in words for k in keys for n in (f"{k}_{w}", f"{w}_{k}")]
        return next((by_name[name] for name in spelled if name in by_name), None)

    found = [(side, find(side, _IMAGE_KEYS), find(side, _LABEL_KEYS)) for side in (TRAIN, VAL, TEST)]
    pairs = [(side, x, y) for side, x, y in found if x is not None and y is not None]
    x, y = find(NONE, _IMAGE_KEYS), find(NONE, _LABEL_KEYS)
    if not pairs and x is not None and y is not None:
        pairs = [(NONE, x, y)]
    if not pairs:
        raise InputError(
            f"{path.name} holds {', '.join(map(repr, members)) or 'nothing'}, no images with labels",
            "Name them X and y, or X_train, y_train, X_test, y_test",
            "LL001",
        )
    return pairs


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> Array:
    """Read one array, after comparing what its header promises with what the archive says it holds."""
    with archive.open(info, mode="r") as file:
        start = io.BytesIO(file.read(min(info.file_size, 1 << 16)))
        dtype, shape = read_npy_header(start, name)
        if start.tell() + math.prod(shape) * dtype.itemsize != info.file_size:
            raise InputError(f"{name} has {info.file_size:,} bytes, not those of an array of shape {shape}")
    with archive.open(info, mode="r") as file:
        array: Array = npy.read_array(file, allow_pickle=False)
    return array
