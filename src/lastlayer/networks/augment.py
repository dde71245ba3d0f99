"""Augmentation: random changes of training images that leave their class alone, a batch at a time.

    flip · flip=alternate · shift=2 · shift=4:reflect · affine=ROTATION:SCALE:SHEAR · elastic=SIGMA:ALPHA · cutout=8

Parts are applied in the order written; neighbouring ``affine`` and ``elastic`` share one interpolation. What is drawn
is a function of (seed, epoch, batch) alone, by NumPy, so that a resumed run and another device draw the same.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from lastlayer._arrays import Array, BoolArray, Float32
from lastlayer._errors import InputError

FLIPS, DRAWS = 11, 12
"""Numbers that keep the streams of random numbers apart."""


@final
@dataclass(frozen=True, eq=False)
class Draw:
    """What one batch's changes are drawn from.

    Attributes
    ----------
    rng : numpy.random.Generator
    epoch : int
    first : array of bool (B,)
        Whether each example begins mirrored in epoch 0, for alternating flips.
    """

    rng: np.random.Generator
    epoch: int
    first: BoolArray


class Change(ABC):
    """One kind of change; images are tensors (B, H, W, C) of values 0..255, uint8 or float32."""

    @abstractmethod
    def check(self, height: int, width: int) -> None:
        """Refuse images that are too small for it."""


class Move(Change):
    """A change that only moves or covers pixels."""

    @abstractmethod
    def apply(self, images: Any, draw: Draw) -> Any:
        """The changed images, of the same type."""


class Warp(Change):
    """A change that reads every pixel of the result from a place between pixels of the original."""

    @abstractmethod
    def field(self, count: int, height: int, width: int, draw: Draw) -> Float32:
        """Rows and columns by which those places are off, (B, H, W, 2)."""


@final
@dataclass(frozen=True)
class Flip(Move):
    """Mirror left and right: by a coin, or alternating from epoch to epoch.

    Alternating shows both sides of every image in every two epochs, instead of the same side twice half of the time
    (Jordan 2024, "94% on CIFAR-10 in 3.29 seconds").
    """

    alternate: bool = False

    def check(self, height: int, width: int) -> None:
        """Every size will do."""

    def apply(self, images: Any, draw: Draw) -> Any:
        """Mirror half of the images."""
        import torch

        flipped = draw.first ^ bool(draw.epoch % 2) if self.alternate else draw.rng.random(len(images)) < 0.5
        mask = torch.from_numpy(flipped).to(images.device)[:, None, None, None]
        return torch.where(mask, images.flip(2), images)


@final
@dataclass(frozen=True)
class Shift(Move):
    """Shift by up to so many whole pixels each way; what comes in is 0, or the image reflected at its border."""

    pixels: int = 2
    reflect: bool = False

    def check(self, height: int, width: int) -> None:
        """A shift as long as a side would leave nothing."""
        if self.pixels >= min(height, width):
            raise InputError(f"shift={self.pixels} leaves nothing of images of {height} x {width} pixels")

    def apply(self, images: Any, draw: Draw) -> Any:
        """Shift every image on its own."""
        import torch

        count, height, width = images.shape[:3]
        offsets = draw.rng.integers(-self.pixels, self.pixels + 1, (2, count, 1))
        rows, inside_rows = self._places(height, offsets[0])
        columns, inside_columns = self._places(width, offsets[1])
        index = [torch.from_numpy(part).to(images.device) for part in (np.arange(count)[:, None, None], rows, columns)]
        shifted = images[index[0], index[1][:, :, None], index[2][:, None, :]]
        if not self.reflect:
            inside = inside_rows[:, :, None] & inside_columns[:, None, :]
            shifted *= torch.from_numpy(inside).to(images.device)[..., None]
        return shifted

    @staticmethod
    def _places(length: int, offsets: Array) -> tuple[Array, BoolArray]:
        """Which pixel comes to each place, reflected into the image, and whether it lay inside."""
        places = np.arange(length) + offsets
        inside = (places >= 0) & (places < length)
        places = np.abs(places)
        return np.where(places >= length, 2 * (length - 1) - places, places), inside


@final
@dataclass(frozen=True)
class Cutout(Move):
    """Cover a square at a random place, partly outside maybe, with the image's mean colour (DeVries & Taylor 2017)."""

    side: int = 8

    def check(self, height: int, width: int) -> None:
        """A square as large as the image would leave nothing."""
        if self.side >= min(height, width):
            raise InputError(f"cutout={self.side} covers all of images of {height} x {width} pixels")

    def apply(self, images: Any, draw: Draw) -> Any:
        """Cover one square in every image."""
        import torch

        count, height, width = images.shape[:3]
        covered = [self._covered(length, draw.rng.integers(0, length, (count, 1))) for length in (height, width)]
        mask = torch.from_numpy(covered[0][:, :, None] & covered[1][:, None, :]).to(images.device)[..., None]
        return torch.where(mask, images.float().mean(dim=(1, 2), keepdim=True).to(images.dtype), images)

    def _covered(self, length: int, centres: Array) -> BoolArray:
        from_centre = np.arange(length) - centres + self.side // 2
        return np.asarray((from_centre >= 0) & (from_centre < self.side))


@final
@dataclass(frozen=True)
class Affine(Warp):
    """Turn, scale and shear about the centre.

    Parameters
    ----------
    rotation : float
        Up to so many degrees each way.
    scale, shear : float
        Up to so large a share each way: 0.1 is 10 % larger or smaller.
    """

    rotation: float = 10.0
    scale: float = 0.0
    shear: float = 0.0

    def check(self, height: int, width: int) -> None:
        """Every size will do."""

    def field(self, count: int, height: int, width: int, draw: Draw) -> Float32:
        """``(A - I) (p - centre)`` with one matrix A an image."""
        turn = np.deg2rad(draw.rng.uniform(-self.rotation, self.rotation, count))
        scale = (1.0 + self.scale) ** draw.rng.uniform(-1.0, 1.0, count)
        shear = draw.rng.uniform(-self.shear, self.shear, count)
        cosine, sine = np.cos(turn) / scale, np.sin(turn) / scale
        A = np.stack([cosine, -sine, sine + shear * cosine, cosine - shear * sine], axis=-1).reshape(count, 2, 2)
        A -= np.eye(2)
        rows = np.arange(height) - (height - 1) / 2
        columns = np.arange(width) - (width - 1) / 2
        grid = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).astype(np.float32)
        return np.asarray(np.einsum("hwj,bij->bhwi", grid, A.astype(np.float32)))


@final
@dataclass(frozen=True)
class Elastic(Warp):
    """Elastic distortion: random displacements, smoothed and magnified (Simard, Steinkraus & Platt 2003).

    Every pixel's displacement is uniform in -1..1 along rows and columns, smoothed by a Gaussian of standard deviation
    `sigma` (whose weights have the sum 1) and multiplied by `alpha`. Their choice for MNIST is σ = 4, α = 34: about
    1.4 pixels (root mean square).
    """

    sigma: float = 4.0
    alpha: float = 34.0

    def check(self, height: int, width: int) -> None:
        """Every size will do."""

    def field(self, count: int, height: int, width: int, draw: Draw) -> Float32:
        """``alpha · G_rows U G_columns``."""
        noise = draw.rng.random((count, 2, height, width), dtype=np.float32) * 2.0 - 1.0
        smooth = gaussian_matrix(height, self.sigma) @ noise @ gaussian_matrix(width, self.sigma)
        return np.asarray(np.moveaxis(smooth * np.float32(self.alpha), 1, -1))


def gaussian_matrix(length: int, sigma: float) -> Float32:
    """Symmetric (length, length) matrix that smooths a line; beyond its ends there is 0."""
    reach = np.arange(-4 * math.ceil(sigma), 4 * math.ceil(sigma) + 1)
    total = np.exp(-0.5 * (reach / sigma) ** 2).sum()
    distance = np.arange(length)[:, None] - np.arange(length)
    return np.asarray(np.exp(-0.5 * (distance / sigma) ** 2) / total, np.float32)


def sampled(images: Any, field: Float32) -> Any:
    """Images read at every place plus its displacement, between pixels by bilinear interpolation, outside as 0."""
    import torch

    height, width = images.shape[1:3]
    offsets = torch.from_numpy(np.ascontiguousarray(field[..., ::-1])).to(images.device)  # grid_sample: columns first
    y, x = (torch.arange(length, dtype=torch.float32, device=images.device) for length in (height, width))
    places = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1) + offsets
    size = torch.tensor([width, height], dtype=torch.float32, device=images.device)
    grid = (2.0 * places + 1.0) / size - 1.0
    planes = images.float().permute(0, 3, 1, 2)
    warped = torch.nn.functional.grid_sample(planes, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return warped.permute(0, 2, 3, 1)


@final
@dataclass(frozen=True)
class Augmentation:
    """Changes in the order in which they are applied."""

    changes: tuple[Change, ...] = ()

    def check(self, height: int, width: int) -> None:
        """Refuse images that are too small for a change."""
        for change in self.changes:
            change.check(height, width)

    def apply(self, images: Any, draw: Draw) -> Any:
        """All changes; the result is uint8 or float32, (B, H, W, C)."""
        count, height, width = images.shape[:3]
        field: Float32 | None = None
        for change in self.changes:
            if isinstance(change, Warp):
                new = change.field(count, height, width, draw)
                field = new if field is None else field + new
                continue
            if field is not None:
                images, field = sampled(images, field), None
            assert isinstance(change, Move)
            images = change.apply(images, draw)
        return images if field is None else sampled(images, field)


@final
class Augmenter:
    """An augmentation for `count` training images and one seed."""

    def __init__(self, augmentation: Augmentation, count: int, seed: int) -> None:
        self.augmentation, self.seed = augmentation, seed
        self.first: BoolArray = np.random.default_rng([seed, FLIPS]).random(count) < 0.5

    def __call__(self, images: Any, ids: Array, epoch: int, batch: int) -> Any:
        """Batch number `batch` of an epoch: images (B, H, W, C) that are the training images `ids`."""
        if not self.augmentation.changes:
            return images
        rng = np.random.default_rng([self.seed, DRAWS, epoch, batch])
        return self.augmentation.apply(images, Draw(rng, epoch, self.first[ids]))


def parse_augmentation(text: str) -> Augmentation:
    """Changes from their text; "" and "none" are none.

    Raises
    ------
    InputError
        For a name that is not known, and numbers that make no sense.

    Examples
    --------
    >>> parse_augmentation("flip,shift=4:reflect").changes
    (Flip(alternate=False), Shift(pixels=4, reflect=True))
    """
    if text.strip() in ("", "none"):
        return Augmentation()
    return Augmentation(tuple(_change(text, part.strip()) for part in text.split(",")))


def _change(text: str, part: str) -> Change:
    name, _, values = (word.strip() for word in part.partition("="))
    if name not in _MAKE:
        known = "flip, flip=alternate, shift=2, shift=2:reflect, affine=10:0.1:0.1, elastic=4:34, cutout=8"
        raise InputError(f"augmentation {text!r}: {part!r} is not known", f"Known: {known}")
    return _MAKE[name](part, values.split(":") if values else [])


def _flip(part: str, values: list[str]) -> Flip:
    if values not in ([], ["alternate"]):
        raise InputError(f"augmentation {part!r} is not known", "Write flip, or flip=alternate")
    return Flip(bool(values))


def _shift(part: str, values: list[str]) -> Shift:
    if len(values) > 2 or values[1:] not in ([], ["zero"], ["reflect"]):
        raise InputError(f"augmentation {part!r} is not known", "Write shift=2, or shift=2:reflect")
    return Shift(_whole(part, values or ["2"]), values[1:] == ["reflect"])


def _cutout(part: str, values: list[str]) -> Cutout:
    return Cutout(_whole(part, values or ["8"]))


def _affine(part: str, values: list[str]) -> Affine:
    rotation, scale, shear = _numbers(
        part, values, (10.0, 0.0, 0.0), "affine=ROTATION:SCALE:SHEAR, as in affine=10:0.1:0.1"
    )
    if not (0 <= rotation <= 180 and 0 <= scale <= 1 and 0 <= shear <= 1):
        raise InputError(f"augmentation {part!r} is out of range", "Degrees from 0 to 180; scale and shear from 0 to 1")
    return Affine(rotation, scale, shear)


def _elastic(part: str, values: list[str]) -> Elastic:
    sigma, alpha = _numbers(part, values, (4.0, 34.0), "elastic=SIGMA:ALPHA, as in elastic=4:34")
    if not (0 < sigma <= 1000 and 0 <= alpha <= 1e4):
        raise InputError(f"augmentation {part!r} is out of range", "sigma is above 0, and alpha at least 0")
    return Elastic(sigma, alpha)


def _numbers(part: str, values: list[str], usual: tuple[float, ...], form: str) -> list[float]:
    try:
        given = [float(value) for value in values]
    except ValueError:
        given = [math.nan]
    if len(given) > len(usual) or not all(math.isfinite(value) for value in given):
        raise InputError(f"augmentation {part!r} cannot be read", f"Write {form}")
    return given + list(usual[len(given) :])


def _whole(part: str, values: list[str]) -> int:
    if len(values) == 0 or not values[0].isdigit() or int(values[0]) < 1 or (part.startswith("cutout") and values[1:]):
        raise InputError(f"augmentation {part!r}: a whole number of pixels of at least 1 is needed")
    return int(values[0])


_MAKE: dict[str, Callable[[str, list[str]], Change]] = {
    "flip": _flip,
    "shift": _shift,
    "cutout": _cutout,
    "affine": _affine,
    "elastic": _elastic,
}
