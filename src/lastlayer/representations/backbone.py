"""What frozen networks share: pixels prepared as the network wants them, tensors made rows of features, options.

x ← (x · range / 255 − mean) / std        per channel, after resizing to (height, width)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from lastlayer._arrays import Array, Float32, InputError, UInt8
from lastlayer.representations._checks import as_pair, check_choice

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation of ImageNet's channels for pixels in 0..1, which most published networks were trained with."""
POOLS = ("auto", "none", "mean", "max", "cls")
LARGEST_SIDE = 4096
WIDEST = 2**24
USUAL_SIDE = 224
CLASS_COUNTS = frozenset({10, 100, 1000, 1001, 10450, 11221, 21841, 21843})
"""How many classes published networks tell apart (CIFAR, ImageNet): tells class scores from other maps."""


@final
@dataclass(frozen=True)
class Preprocessing:
    """How pixels become the network's input.

    Attributes
    ----------
    height, width, channels : int
    layout : {"nchw", "nhwc"}
    dtype : {"float32", "float16", "float64", "uint8"}
    range : float
        Value of a white pixel before the mean is taken off.
    mean, std : tuple of float
        One number, or one a channel in the order of the network.
    order : {"rgb", "bgr"}
    """

    height: int
    width: int
    channels: int
    layout: str
    dtype: str
    range: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    order: str

    def apply(self, image: UInt8) -> Array:
        """Input of one image (H, W, C): a batch of one."""
        pixels = _resized(_with_channels(image, self.channels), self.height, self.width)
        if self.order == "bgr":
            pixels = pixels[:, :, ::-1]
        x: Array = pixels
        if self.dtype != "uint8":
            x = pixels.astype(np.float32) * np.float32(self.range / 255)
            x -= np.array(self.mean, np.float32)
            x /= np.array(self.std, np.float32)
        if self.layout == "nchw":
            x = x.transpose(2, 0, 1)
        return np.ascontiguousarray(x[None], dtype=self.dtype)

    def describe(self) -> str:
        """Size, layout and normalisation in a few words."""
        shown = "x".join(map(str, (self.channels, self.height, self.width)))
        if self.layout == "nhwc":
            shown = "x".join(map(str, (self.height, self.width, self.channels)))
        text = f"{shown} {self.dtype} {self.order}"
        if self.dtype == "uint8":
            return text
        text += f", 0..{self.range:g}"
        if set(self.mean) == {0.0} and set(self.std) == {1.0}:
            return text
        return f"{text}, mean {_numbers(self.mean)}, std {_numbers(self.std)}"


def _numbers(values: tuple[float, ...]) -> str:
    return "x".join(f"{value:.4g}" for value in values)


def _with_channels(image: UInt8, channels: int) -> UInt8:
    """Gray made RGB by repeating it, RGB made gray as Pillow does (ITU-R BT.601)."""
    if image.shape[2] == channels:
        return image
    if channels == 3:
        return np.repeat(image, 3, axis=2)
    gray: Array = (image.astype(np.int32) @ np.array([19595, 38470, 7471]) + 0x8000) >> 16
    out: UInt8 = gray.astype(np.uint8)[:, :, None]
    return out


def _resized(image: UInt8, height: int, width: int) -> UInt8:
    """Pillow's antialiased bilinear filter, as for decoding."""
    if image.shape[:2] == (height, width):
        return image
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(image[:, :, 0] if image.shape[2] == 1 else image))
    resized: UInt8 = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR), np.uint8)
    return resized.reshape(height, width, image.shape[2])


def pooled(owner: str, out: Any, pool: str, channels_last: bool = False) -> Float32:
    """Row of features (D,) of a network's tensor for one image.

    (1, D) and (D,) are taken as they are. Of (1, T, D), tokens, and (1, D, h, w) or (1, h, w, D), a map, the mean over
    tokens or places is taken, unless `pool` says otherwise: the maximum, the first token (``cls``), or all the numbers.

    Raises
    ------
    InputError
        For tensors of another shape, and for NaN or infinite numbers (LL030).
    """
    x = np.asarray(out)
    if x.dtype.kind not in "fiu" or not x.size:
        raise InputError(f"{owner}: the tensor has type {x.dtype} and shape {x.shape}; real numbers are needed")
    if not np.isfinite(x).all():
        raise InputError(f"{owner}: the network gives NaN or infinite numbers", "Check mean, std and range", "LL030")
    if x.ndim > 1 and x.shape[0] != 1:
        raise InputError(f"{owner}: the tensor has shape {x.shape} for one image; its first axis must be 1")
    x = x[0] if x.ndim > 1 else x
    axes = {2: (0,), 3: (0, 1) if channels_last else (1, 2)}.get(x.ndim, ())
    if pool == "cls" and x.ndim != 2:
        raise InputError(f"{owner}: pool=cls, but the tensor (1, {_shown(x.shape)}) holds no tokens")
    if x.ndim > 1 and pool != "none" and not axes:
        raise InputError(f"{owner}: the tensor (1, {_shown(x.shape)}) has too many axes to pool", "Give pool=none")
    row: Array = x
    if pool == "cls":
        row = x[0]
    elif pool == "max":
        row = x.max(axis=axes)
    elif axes and pool != "none":
        row = x.mean(axis=axes, dtype=np.float64)
    out_row: Float32 = row.reshape(-1).astype(np.float32)
    return out_row


def _shown(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))


def pool_words(pool: str, shape: tuple[int, ...]) -> str:
    """How a tensor of that shape becomes a row, in words; nothing for a row."""
    if len(shape) <= 2:
        return ""
    how = {"auto": "mean over", "mean": "mean over", "max": "maximum over"}
    if pool in how:
        return f", {how[pool]} {'tokens' if len(shape) == 3 else 'places'}"
    return ", first token" if pool == "cls" else ", all numbers"


# ---- options


WORDS = ("module", "sha256")
"""Options whose value is text, whatever it looks like: a module may be called 2."""


def options(owner: str, text: str, known: tuple[str, ...]) -> dict[str, Any]:
    """Read ``key=value,key=value`` for the keys known (none: all): numbers, 8x8, words, true and false.

    Raises
    ------
    InputError
        For an unknown key or one given twice.
    """
    given: dict[str, Any] = {}
    for part in text.split(",") if text.strip() else []:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if known and key not in known:
            raise InputError(f"{owner} has no option {key!r:.60}", f"It has {', '.join(known)}")
        if not equals or not value or not key:
            raise InputError(f"{owner}: {part.strip()!r:.60} is no option", f"Write {key or 'NAME'}=VALUE")
        if key in given:
            raise InputError(f"{owner}: {key} is given twice")
        given[key] = value if key in WORDS else option_value(value)
    return given


def option_value(text: str) -> Any:
    """A word, number, several numbers as 0.5x0.5x0.5, true, false or none.

    >>> option_value("224"), option_value("0.5x0.25"), option_value("no"), option_value("resnet")
    (224, (0.5, 0.25), False, 'resnet')
    """
    words = {"true": True, "yes": True, "false": False, "no": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        numbers = tuple(_number(piece) for piece in text.split("x"))
    except ValueError:
        return text
    return numbers[0] if len(numbers) == 1 else numbers


def _number(text: str) -> float:
    if text.isascii() and text.isdecimal() and len(text) < 10:
        return int(text)
    value = float(text)
    if not math.isfinite(value) or "_" in text:
        raise ValueError(text)
    return value


def check_size(owner: str, size: Any) -> tuple[int, int] | None:
    """Rows and columns, or None for what the network says."""
    return None if size is None else as_pair(owner, "size", size, LARGEST_SIDE)


def check_statistic(owner: str, name: str, value: Any) -> str | tuple[float, ...]:
    """Return "auto", "imagenet" or one or three numbers; `std` positive. None is 0 for the mean and 1 for `std`."""
    if isinstance(value, str):
        check_choice(owner, name, value, ("auto", "imagenet"))
        return value
    if value is None:
        return (0.0,) if name == "mean" else (1.0,)
    numbers = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    real = all(isinstance(x, (int, float)) and not isinstance(x, bool) and math.isfinite(x) for x in numbers)
    if not real or len(numbers) not in (1, 3) or (name == "std" and min(numbers) <= 0):
        raise InputError(f"{owner}: {name} is {value!r:.60}; imagenet, none, or one or three numbers are needed")
    return tuple(float(x) for x in numbers)


def check_range(owner: str, value: Any) -> float:
    """Value of a white pixel; 0: to be found."""
    real = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not real or value < 0:
        raise InputError(f"{owner}: range is {value!r:.60}; the value of a white pixel is needed, 1 or 255 as a rule")
    return float(value)


def statistics(
    mean: str | tuple[float, ...], std: str | tuple[float, ...], white: float, channels: int, usual: bool
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation as numbers, for pixels in 0..`white`.

    "auto" is ImageNet's where `usual` (RGB in, nothing known), and nothing taken off otherwise; one of them given, the
    other is none.
    """
    if mean == "auto" and std == "auto":
        mean, std = ("imagenet", "imagenet") if usual and channels == 3 else ((0.0,), (1.0,))
    if "imagenet" in (mean, std) and "auto" in (mean, std):
        mean = std = "imagenet"
    if mean == "imagenet":
        mean = tuple(white * value for value in IMAGENET[0])
    if std == "imagenet":
        std = tuple(white * value for value in IMAGENET[1])
    numbers = ((0.0,) if mean == "auto" else mean, (1.0,) if std == "auto" else std)
    for name, values in zip(("mean", "std"), numbers):
        if len(values) not in (1, channels):
            raise InputError(f"{name} has {len(values)} numbers, the network {channels} channels")
    return tuple(map(float, numbers[0])), tuple(map(float, numbers[1]))
