"""From a dataset to decoded images: the size and channels they are brought to, and the cache of the result."""

from __future__ import annotations

import dataclasses
import json
import os
from collections import Counter
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from lastlayer._arrays import InputError, IntArray
from lastlayer.data.dataset import ArrayImages, Dataset, FileImages, ImageStore
from lastlayer.data.decoding import Decoded
from lastlayer.data.images import ImageFormat
from lastlayer.networks.presets import parse
from lastlayer.pipeline.settings import Execution, TrainSettings
from lastlayer.representations.base import Representation
from lastlayer.representations.cache import FeatureCache
from lastlayer.representations.network import NetworkFeatures
from lastlayer.representations.onnx import Onnx
from lastlayer.representations.torch import Torch

# Bump when decoding changes what pixels come out: old cache entries are then not found any more.
DECODER_VERSION = 1

_SAMPLE = 256
_NATIVE_SIDE = 96
_PHOTO_SIDE = {"pixels": 32}
_PHOTO_SIDE_OTHERWISE = 64
_NETWORKS = ("onnx", "torch", "timm", "torchvision")


@dataclass(frozen=True)
class FormatChoice:
    """The common image format and the sentence that says why it was chosen.

    Attributes
    ----------
    format : ImageFormat
    why : str
    size : int
        What ``--size`` must be for the same choice whatever φ is; 0 where it needs no saying.
    """

    format: ImageFormat
    why: str
    size: int = 0


def choose_format(
    dataset: Dataset, settings: TrainSettings, phi_names: tuple[str, ...], phi: Representation | None = None
) -> FormatChoice:
    """Size and channels for all images, from the settings and a seeded sample of the images.

    Images of one common size up to 96 pixels keep it. Otherwise 32 pixels for raw pixels alone and 64 for
    everything else, or what the frozen networks in `phi` want. Gray when every sampled image is gray. A network brings
    images of another size to its own, so that small ones take no more memory than they have.

    Raises
    ------
    InputError
        When none of the sampled images can be read.
    """
    generator = np.random.default_rng(settings.seed)
    count = len(dataset.images)
    rows = np.sort(generator.choice(count, size=min(count, _SAMPLE), replace=False))
    sample = dataset.images.sample(rows)
    if not sample:
        raise InputError(
            f"none of {len(rows)} sampled images in {dataset.source} can be read",
            "Run `lastlayer check` on it to see each file's reason",
            "LL003",
        )
    channels = 1 if all(image.gray for image in sample) else 3
    sizes = Counter((image.height, image.width) for image in sample)
    colour = "gray" if channels == 1 else "colour"
    size = 0
    wanted = _network_shape(phi, settings)
    if wanted is not None:
        height, width, channels = wanted
        size = settings.size
        why = f"{width}×{height} {'gray' if channels == 1 else 'colour'}, {settings.fit}, as the network was trained"
    elif settings.size:
        height = width = size = settings.size
        why = f"{width}×{height} {colour}, {settings.fit}"
    elif len(sizes) == 1 and max(next(iter(sizes))) <= _NATIVE_SIDE:
        height, width = next(iter(sizes))
        why = f"{width}×{height} {colour}, as they are"
    else:
        height, width = _photo_sides(phi_names, phi)
        size = height if height == width else 0
        why = f"{width}×{height} {colour}, {settings.fit} (images differ in size or are large)"
    if not settings.size and isinstance(phi, NetworkFeatures) and phi.to_train:
        sides = parse(phi.preset).wanted_size(height, width, channels)
        if sides is not None:
            (height, width), size = sides, sides[0]
            why = f"{width}×{height} {colour}, {settings.fit}, as {phi.preset} wants them"
    form = ImageFormat(height, width, channels, fit=settings.fit, max_pixels=settings.max_pixels)
    return FormatChoice(form, why, size)


def _network_shape(phi: Representation | None, settings: TrainSettings) -> tuple[int, int, int] | None:
    """(H, W, C) that a network trained here wants; None where there is none, or something stands before it.

    Raises
    ------
    InputError
        For another --size.
    """
    if not isinstance(phi, NetworkFeatures) or phi.to_train:
        return None
    height, width, channels = phi.wanted
    if settings.size and (settings.size, settings.size) != (height, width):
        raise InputError(
            f"--size {settings.size}: the network was trained on images of {height}x{width} pixels",
            "Leave --size out",
        )
    return height, width, channels


def _photo_sides(phi_names: tuple[str, ...], phi: Representation | None) -> tuple[int, int]:
    """Rows and columns for large images: the largest that a network wants, and at least what the others are given."""
    wanted = [network.wanted for network in networks(phi)]
    others = [name for name in phi_names if name not in _NETWORKS]
    side = max((_PHOTO_SIDE.get(name, _PHOTO_SIDE_OTHERWISE) for name in others), default=0)
    if not wanted and not side:
        side = _PHOTO_SIDE_OTHERWISE
    return max([side, *(height for height, _ in wanted)]), max([side, *(width for _, width in wanted)])


def networks(phi: Any) -> tuple[Onnx | Torch, ...]:
    """The frozen networks in a representation, its parts included."""
    if isinstance(phi, (Onnx, Torch)):
        return (phi,)
    if isinstance(phi, (tuple, list)):
        return tuple(network for part in phi for network in networks(part))
    if not isinstance(phi, Representation):
        return ()
    parts = [getattr(phi, field.name) for field in dataclasses.fields(cast(Any, phi))]
    return tuple(network for part in parts for network in networks(part))


def decode(dataset: Dataset, format: ImageFormat, cache: FeatureCache, execution: Execution) -> tuple[Decoded, bool]:
    """Decode every image, or take the decoded images of an earlier run from the cache.

    The entry is found by each file's path, size, inode and times (as version control systems do), so that a
    second run need not read the files at all; what is stored includes every file's SHA-256, which names
    everything derived from it. Files that were refused are tried again every time.

    Returns
    -------
    decoded : Decoded
    reused : bool
        True when the pixels came from the cache.
    """
    store = dataset.images
    if not isinstance(store, FileImages) or not execution.use_cache:
        rows = np.arange(len(store))
        return store.read(rows, format, workers=execution.workers, progress=execution.progress), False
    signature = cache.key(
        "decoded",
        files=_stat_digest(store),
        format=format.to_dict(),
        version=DECODER_VERSION,
    )
    fresh: list[Decoded] = []

    def compute() -> Decoded:
        if not fresh:
            rows = np.arange(len(store))
            fresh.append(store.read(rows, format, workers=execution.workers, progress=execution.progress))
        return fresh[0]

    meta = cache.array(signature + "-meta", lambda: _pack_meta(compute()))
    pixels = cache.array(signature + "-pixels", lambda: compute().pixels)
    if fresh:
        return fresh[0], False
    cached = _unpack(pixels, meta)
    return _retry_refused(store, cached, format, execution), True


def _stat_digest(store: FileImages) -> str:
    import hashlib

    digest = hashlib.sha256()
    root = os.fspath(store.root)
    for path in store.paths:
        full = os.path.join(root, path)
        try:
            facts = os.stat(full)
            line = (path, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino)
        except OSError as error:  # dangling links and vanished files: part of the state as well
            line = (path, -1, error.errno or 0, 0, 0)
        digest.update(repr(line).encode("utf-8", "surrogateescape"))
    digest.update(repr(root).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


_FIXED = 32 + 8 + 1  # SHA-256, width and height as int32, readable


def _pack_meta(decoded: Decoded) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """One uint8 row per image, plus one leading row block that holds the names of the alterations as JSON."""
    kinds = sorted(decoded.alterations)
    flags = np.zeros((len(decoded.sha256), len(kinds)), dtype=np.uint8)
    for column, kind in enumerate(kinds):
        flags[decoded.alterations[kind], column] = 1
    header = json.dumps(kinds).encode("ascii")
    table = np.concatenate(
        [
            decoded.sha256,
            np.ascontiguousarray(decoded.sizes, dtype="<i4").view(np.uint8).reshape(-1, 8),
            decoded.readable.astype(np.uint8)[:, None],
            flags,
        ],
        axis=1,
    )
    return np.concatenate([np.frombuffer(len(header).to_bytes(8, "little") + header, dtype=np.uint8), table.ravel()])


def _unpack(pixels: Any, meta: Any) -> Decoded:
    raw = np.asarray(meta)
    length = int.from_bytes(raw[:8].tobytes(), "little")
    kinds: list[str] = json.loads(raw[8 : 8 + length].tobytes())
    table = raw[8 + length :].reshape(len(pixels), _FIXED + len(kinds))
    return Decoded(
        pixels=pixels,
        sha256=np.ascontiguousarray(table[:, :32]),
        sizes=np.ascontiguousarray(table[:, 32:40]).view("<i4").astype(np.int32),
        readable=table[:, 40].astype(bool),
        alterations={k: np.flatnonzero(table[:, _FIXED + c]) for c, k in enumerate(kinds)},
        refusals={},
    )


def _retry_refused(store: ImageStore, cached: Decoded, format: ImageFormat, execution: Execution) -> Decoded:
    rows = np.flatnonzero(~cached.readable)
    if not len(rows):
        return cached
    again = store.read(rows, format, workers=execution.workers)
    pixels = cached.pixels
    readable = cached.readable.copy()
    if again.readable.any():
        pixels = np.array(pixels)
        pixels[rows[again.readable]] = again.pixels[again.readable]
        readable[rows] = again.readable
    sha256, sizes = cached.sha256.copy(), cached.sizes.copy()
    sha256[rows], sizes[rows] = again.sha256, again.sizes
    alterations = {kind: which for kind, which in cached.alterations.items()}
    for kind, which in again.alterations.items():
        alterations[kind] = np.unique(np.concatenate([alterations.get(kind, which[:0]), rows[which]]))
    refusals = {int(rows[row]): why for row, why in again.refusals.items()}
    return Decoded(pixels, sha256, sizes, readable, alterations, refusals)


def rows_of(dataset: Dataset, rows: IntArray, format: ImageFormat, execution: Execution) -> Decoded:
    """Decode some rows only, without the cache."""
    return dataset.images.read(rows, format, workers=execution.workers, progress=execution.progress)


def is_in_memory(store: ImageStore) -> bool:
    """True for images that come from one array rather than one file each."""
    return isinstance(store, ArrayImages)
