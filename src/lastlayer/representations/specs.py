"""Representations as text (`hog:cell=4,bins=9+colour`) and as JSON for the model file and the cache's keys.

    text  =  part ("+" part)*         part  =  name [":" key "=" value ("," key "=" value)*]

A value is a whole number, a number, true, false, none, two numbers as 8x8, or a word.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import lru_cache
from typing import Any

from lastlayer._arrays import Array, InputError
from lastlayer.representations.base import Representation, Shape
from lastlayer.representations.colour import Colour
from lastlayer.representations.concatenate import Concatenate
from lastlayer.representations.hog import Hog
from lastlayer.representations.pixels import Pixels
from lastlayer.representations.standardise import Standardised

# a new representation joins here, with the short names of its parameters
_CLASSES: Mapping[str, Callable[..., Representation]] = {"pixels": Pixels, "hog": Hog, "colour": Colour}
_ALIASES: Mapping[str, Mapping[str, str]] = {
    "pixels": {"colour": "color"},
    "hog": {"cell": "pixels_per_cell", "bins": "orientations", "block": "cells_per_block", "norm": "block_norm"},
    "colour": {},
}
_OTHER_NAMES = {"color": "colour", "raw": "pixels"}
_WORDS = {"true": True, "yes": True, "false": False, "no": False, "none": None}
_DEEPEST = 4
_LARGEST_SIDE = 1_000_000


def parse_phi(text: str) -> Representation:
    """Representation of a text such as ``hog:cell=4,bins=9+colour``; not fitted.

    Raises
    ------
    InputError
        Names the unknown representation or parameter, what is known, and the nearest spelling.

    Examples
    --------
    >>> parse_phi("pixels:size=16,color=gray")
    Pixels(size=16, color='gray')
    """
    parts = tuple(_parse_part(part.strip()) for part in text.split("+"))
    return parts[0] if len(parts) == 1 else Concatenate(parts)


def _parse_part(text: str) -> Representation:
    written, _, settings = text.partition(":")
    name = _OTHER_NAMES.get(written.strip().lower(), written.strip().lower())
    if name not in _CLASSES:
        raise InputError(
            f"phi {written.strip()!r} is unknown; there are {', '.join(_CLASSES)}, and A+B",
            _did_you_mean(name, list(_CLASSES)),
        )
    given: dict[str, Any] = {}
    known, aliases = _parameter_names(name), _ALIASES[name]
    for setting in settings.split(",") if settings.strip() else []:
        key, equals, value = (piece.strip() for piece in setting.partition("="))
        full = aliases.get(key, key)
        if full not in known:
            shown = ", ".join([*aliases, *known])
            raise InputError(f"{name} has no parameter {key!r}; it has {shown}", _did_you_mean(key, [*aliases, *known]))
        if not equals or not value:
            raise InputError(f"{name}: {key} has no value", f"Write {name}:{key}=VALUE")
        if full in given:
            raise InputError(f"{name}: {full} is given twice")
        given[full] = _value(value)
    return _CLASSES[name](**given)


def _parameter_names(name: str) -> list[str]:
    found: Any = _CLASSES[name]
    return [field.name for field in fields(found) if field.name != "image_shape"]


def _value(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    pieces = text.lower().split("x")
    if all(piece.isascii() and piece.isdecimal() and len(piece) < 10 for piece in pieces) and len(pieces) <= 2:
        return tuple(int(piece) for piece in pieces) if len(pieces) == 2 else int(text)
    try:
        return float(text)
    except ValueError:
        return text


def _did_you_mean(word: str, known: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.5)
    return f"Did you mean {near[0]!r}?" if near else ""


def to_spec(r: Representation) -> dict[str, Any]:
    """Everything about a representation but its arrays, as JSON values.

    Returns
    -------
    dict
        ``name``, ``parameters``, ``image_shape`` ([H, W, C] or None) and ``parts``: the parts of A+B, or the base of
        a standardised one.
    """
    parts: tuple[Representation, ...] = ()
    if isinstance(r, Concatenate):
        parts = r.parts
    elif isinstance(r, Standardised):
        parts = (r.base,)
    return {
        "name": r.name,
        "parameters": r.parameters(),
        "image_shape": None if r.image_shape is None else list(r.image_shape),
        "parts": [to_spec(part) for part in parts],
    }


def from_spec(spec: Any, arrays: Mapping[str, Array]) -> Representation:
    """Representation of `to_spec`'s value and the arrays that belong to it.

    Raises
    ------
    InputError
        For anything that `to_spec` and `Representation.arrays` cannot have given; nothing is executed or guessed.
    """
    r = _from_spec(spec, arrays, depth=0)
    if set(arrays) != set(r.arrays() if _is_fitted(r) else {}):
        raise InputError(f"phi {r.name} does not have the arrays {', '.join(sorted(arrays)) or '(none)'}")
    return r


def _from_spec(spec: Any, arrays: Mapping[str, Array], depth: int) -> Representation:
    if not isinstance(spec, dict) or set(spec) != {"name", "parameters", "image_shape", "parts"}:
        raise InputError("phi: a specification has name, parameters, image_shape and parts")
    name, parameters, parts = spec["name"], spec["parameters"], spec["parts"]
    if not isinstance(name, str) or not isinstance(parameters, dict) or not isinstance(parts, list):
        raise InputError("phi: a specification's name is text, its parameters an object, its parts a list")
    if depth >= _DEEPEST or len(parts) > 64:
        raise InputError("phi: the specification has too many parts")
    if name == Concatenate.name and not parameters:
        return Concatenate(tuple(_from_spec(part, _below(arrays, f"{i}."), depth + 1) for i, part in enumerate(parts)))
    if name == Standardised.name and not parameters and len(parts) == 1:
        base = _from_spec(parts[0], _below(arrays, "base."), depth + 1)
        return Standardised(base, arrays.get("mean"), arrays.get("scale"))
    if name not in _CLASSES or parts:
        raise InputError(f"phi {name!r:.60} is unknown")
    if not set(parameters) <= set(_parameter_names(name)):
        raise InputError(f"phi {name}: unknown parameters {sorted(map(str, parameters))!r:.200}")
    return _CLASSES[name](**parameters, image_shape=_shape(spec["image_shape"]))


def _is_fitted(r: Representation) -> bool:
    if isinstance(r, Standardised):
        return r.mean is not None
    return r.image_shape is not None


def _below(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}


def _shape(value: Any) -> Shape | None:
    if value is None:
        return None
    sides = isinstance(value, (list, tuple)) and len(value) == 3 and all(type(side) is int for side in value)
    if not sides or not all(1 <= side <= _LARGEST_SIDE for side in value[:2]) or value[2] not in (1, 3):
        raise InputError(f"phi: the image shape is {value!r:.60}; [height, width, 1 or 3] is needed")
    return value[0], value[1], value[2]


@lru_cache(maxsize=1)
def _source_hash() -> str:
    """SHA-256 of all code of this folder and the array checks: a change anywhere makes new cache entries.

    More than one representation's own files on purpose: an import that a list of files forgets would bring back old
    features in silence, and computing anew costs seconds.
    """
    from importlib import resources

    digest = hashlib.sha256()
    package = resources.files("lastlayer")
    files = [package / "_arrays.py", *(package / "representations").iterdir()]
    for file in sorted((file for file in files if file.name.endswith(".py")), key=lambda file: file.name):
        digest.update(f"{file.name}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def code_version(r: Representation) -> str:
    """Version of the code that computes a representation; part of every cache key."""
    return f"{r.name}-{_source_hash()[:32]}"
