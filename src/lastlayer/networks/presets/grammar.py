"""The text of a preset: ``name``, ``name:variant``, ``name:variant,key=value,…``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lastlayer._errors import InputError

_LIST = re.compile(r"\d{1,5}(-\d{1,5})*")


def split(text: str) -> tuple[str, str, dict[str, str]]:
    """Name, variant and options of a text.

    >>> split("mlp:300-100,act=tanh")
    ('mlp', '300-100', {'act': 'tanh'})
    """
    if not isinstance(text, str) or len(text) > 200:
        raise InputError(f"a network is named by a short text, not {text!r:.60}")
    name, _, rest = (part.strip().lower() for part in text.partition(":"))
    variant, options = "", {}
    for position, part in enumerate(rest.split(",") if rest else []):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if position == 0 and not equals:
            variant = key
            continue
        if not key or not equals or not value or key in options:
            raise InputError(f"{name}: {part.strip()!r:.60} is no option, or given twice", f"Write {name}:KEY=VALUE,…")
        options[key] = value
    return name, variant, options


def read(owner: str, key: str, value: str, like: Any) -> Any:
    """A value of the kind that the default is: number, word, true or false, or whole numbers with - between.

    >>> read("convnet", "widths", "32-64", (1, 2)), read("convnet", "scale", "0.5", 1.0)
    ((32, 64), 0.5)
    """
    try:
        if isinstance(like, bool):
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[value]
        if isinstance(like, tuple):
            return numbers(owner, key, value)
        return type(like)(value)
    except (KeyError, ValueError) as problem:
        if isinstance(problem, InputError):
            raise
        raise InputError(f"{owner}: {key} is {value!r:.60}", f"It is like {show(like)}") from None


def numbers(owner: str, key: str, value: str) -> tuple[int, ...]:
    """Whole numbers with - between."""
    if not _LIST.fullmatch(value):
        raise InputError(f"{owner}: {key} is {value!r:.60}", "Write whole numbers with - between, such as 300-100")
    return tuple(map(int, value.split("-")))


def show(value: Any) -> str:
    """A value as `read` reads it."""
    if isinstance(value, tuple):
        return "-".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def canonical(name: str, variant: str, options: Mapping[str, Any]) -> str:
    """The text that reads back to the same."""
    rest = ",".join([*([variant] if variant else []), *(f"{key}={show(value)}" for key, value in options.items())])
    return f"{name}:{rest}" if rest else name
