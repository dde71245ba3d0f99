"""Checks of what a layer or a preset is given; each names its owner."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from lastlayer._errors import InputError

Shape = tuple[int, ...]
LARGEST = 65_536
"""No width, side or number of channels is larger."""


def whole(owner: str, name: str, value: Any, low: int = 1, high: int = LARGEST) -> None:
    """Refuse anything but an int in low..high (True and False are no ints here)."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InputError(f"{owner}: {name} is {value!r:.60}; a whole number from {low} to {high} is needed")


def flag(owner: str, name: str, value: Any) -> None:
    """Refuse anything but True or False."""
    if not isinstance(value, bool):
        raise InputError(f"{owner}: {name} is {value!r:.60}; true or false is needed")


def number(owner: str, name: str, value: Any, low: float, high: float) -> None:
    """Refuse anything but a finite number in low..high."""
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not plain or not math.isfinite(value) or not low <= value <= high:
        raise InputError(f"{owner}: {name} is {value!r:.60}; a number from {low:g} to {high:g} is needed")


def choice(owner: str, name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Refuse anything but one of the strings."""
    if not isinstance(value, str) or value not in choices:
        raise InputError(f"{owner}: {name} is {value!r:.60}", f"Choose one of {', '.join(choices)}")


def image(owner: str, shape: Shape) -> tuple[int, int, int]:
    """(H, W, C), or a refusal of a row of features."""
    if len(shape) != 3:
        raise InputError(f"{owner} needs images (H, W, C) and is given {size(shape)}", "Put it before `flatten`")
    return shape[0], shape[1], shape[2]


def windows(owner: str, shape: Shape, kernel: int, stride: int, padding: int) -> tuple[int, int]:
    """Rows and columns of the places where a window fits, or a refusal."""
    height, width, _ = image(owner, shape)
    if min(height, width) + 2 * padding < kernel:
        raise InputError(
            f"{owner}: a window of {kernel}x{kernel} does not fit on {size(shape)}",
            "Use larger images (--size), a smaller window or fewer layers that shrink",
        )
    return (height + 2 * padding - kernel) // stride + 1, (width + 2 * padding - kernel) // stride + 1


def size(shape: Shape) -> str:
    """A shape as it is printed.

    >>> size((28, 28, 6)), size((84,))
    ('28x28x6', '84')
    """
    return "x".join(map(str, shape))


@cache
def need_torch() -> Any:
    """Return the torch package.

    Raises
    ------
    InputError
        LL060 when it is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"networks need the package torch ({error})", "pip install 'lastlayer[torch]'", "LL060"
        ) from None
    return torch


@cache
def functional() -> Any:
    """The module ``torch.nn.functional``."""
    return need_torch().nn.functional
