"""Layers as JSON values and back, from descriptions that nobody vouches for."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, TypeVar

from lastlayer._errors import InputError
from lastlayer.networks.base import Layer
from lastlayer.networks.layers import LAYERS

Made = TypeVar("Made")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_LONGEST = 4096


def check_name(owner: str, name: Any) -> None:
    """Refuse a layer's name that could not be part of an array's name."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(f"{owner}: a layer is called {name!r:.60}", "Use small letters, digits and _")


def fields_of(value: Any) -> dict[str, Any]:
    """The fields of a layer or input, tuples as lists."""
    return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}


def layer(spec: Any) -> tuple[str, Layer]:
    """Name and layer from ``{"layer": name, "kind": …, fields}``."""
    if not isinstance(spec, dict) or not isinstance(spec.get("kind"), str) or spec["kind"] not in LAYERS:
        kind = spec.get("kind") if isinstance(spec, dict) else spec
        raise InputError(f"network: no layer is of the kind {kind!r:.60}", f"There are {', '.join(LAYERS)}")
    check_name("network", spec.get("layer"))
    fields = {key: value for key, value in spec.items() if key not in ("layer", "kind")}
    return spec["layer"], make(LAYERS[spec["kind"]], fields, spec["kind"])


def make(cls: type[Made], spec: Any, owner: str) -> Made:
    """An object of the class from all of its fields; each checks its own values."""
    names = tuple(field.name for field in dataclasses.fields(cls))  # type: ignore[arg-type]
    return cls(**{key: _tuples(value, owner) for key, value in exact(spec, owner, names).items()})


def exact(spec: Any, owner: str, names: tuple[str, ...]) -> dict[str, Any]:
    """Refuse what is not a dict with exactly these keys."""
    if not isinstance(spec, dict) or set(spec) != set(names):
        given = ", ".join(map(repr, list(spec)[:10])) if isinstance(spec, dict) else type(spec).__name__
        raise InputError(f"{owner}: its description has {given:.200}", f"Exactly {', '.join(names)} are needed")
    return spec


def _plain(value: Any) -> Any:
    return [_plain(one) for one in value] if isinstance(value, tuple) else value


def _tuples(value: Any, owner: str, depth: int = 0) -> Any:
    if not isinstance(value, list):
        return value
    if depth > 1 or len(value) > _LONGEST:
        raise InputError(f"{owner}: its description has lists that are too deep or too long")
    return tuple(_tuples(one, owner, depth + 1) for one in value)
