"""Checks of constructor parameters: every refusal names the parameter, what it got and what it takes."""

from __future__ import annotations

from typing import Any

from lastlayer._arrays import InputError


def check_whole(owner: str, name: str, value: Any, low: int, high: int) -> None:
    """Refuse anything but an int in low..high (True and False are no ints here)."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InputError(f"{owner}: {name} is {value!r}; a whole number from {low} to {high} is needed")


def check_flag(owner: str, name: str, value: Any) -> None:
    """Refuse anything but True or False."""
    if not isinstance(value, bool):
        raise InputError(f"{owner}: {name} is {value!r}; true or false is needed")


def check_choice(owner: str, name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Refuse anything but one of the strings."""
    if not isinstance(value, str) or value not in choices:
        raise InputError(f"{owner}: {name} is {value!r}; one of {', '.join(choices)} is needed")


def as_pair(owner: str, name: str, value: Any, high: int) -> tuple[int, int]:
    """A whole number or two of them (list or tuple) as a pair.

    >>> as_pair("hog", "cell", 4, 64)
    (4, 4)
    """
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2:
        raise InputError(f"{owner}: {name} is {value!r}; one whole number or two (rows x columns) are needed")
    for part in pair:
        check_whole(owner, name, part, 1, high)
    return pair[0], pair[1]
