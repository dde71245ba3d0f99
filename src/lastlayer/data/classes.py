"""Class names: printable, compared as Unicode NFC, in natural order; never positions."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np

from lastlayer._arrays import InputError, Int32
from lastlayer._files import display_name

_DIGITS = re.compile(r"([0-9]+)")


def natural_key(name: str) -> tuple[object, ...]:
    """Sort key in which digits count as numbers and case does not count unless all else is equal.

    >>> sorted(["10", "b2", "2", "B10", "a"], key=natural_key)
    ['2', '10', 'a', 'b2', 'B10']
    """
    key: list[tuple[int, int, str]] = []
    for part in _DIGITS.split(name.casefold()):
        if part[:1].isascii() and part[:1].isdigit():
            number = part.lstrip("0")
            key.append((0, len(number), number))
        elif part:
            key.append((1, 0, part))
    return (key, name)


def class_name(raw: str) -> str:
    r"""Printable form of a folder name or label: NFC, control characters and broken bytes as ``\xNN``."""
    text = unicodedata.normalize("NFC", raw)
    if text.isprintable():
        return text
    return display_name(text).encode("utf-8", "backslashreplace").decode("utf-8")


def class_names(raw_names: Iterable[str], where: str) -> dict[str, str]:
    """Map raw names to class names.

    Raises
    ------
    InputError
        When two of them look alike but are spelled with different code points.
    """
    names: dict[str, str] = {}
    spelled: dict[str, str] = {}
    for raw in raw_names:
        if raw in names:
            continue
        name = class_name(raw)
        twin = spelled.setdefault(name, raw)
        if twin != raw:
            raise InputError(
                f"{where} spells class {name!r} in two ways that look alike: {twin!a} and {raw!a}",
                "Rename one of them, so that the class has one spelling",
                "LL004",
            )
        names[raw] = name
    return names


def encode_labels(texts: Sequence[str | None], where: str) -> tuple[Int32, tuple[str, ...]]:
    """Return the labels as numbers (-1 for None or blank), and the class names in natural order."""
    names = class_names((text for text in dict.fromkeys(texts) if text), where)
    ordered = sorted(set(names.values()), key=natural_key)
    number = {name: code for code, name in enumerate(ordered)}
    code_of: dict[str | None, int] = {raw: number[name] for raw, name in names.items()}
    codes = np.fromiter((code_of.get(text, -1) for text in texts), dtype=np.int32, count=len(texts))
    return codes, tuple(ordered)
