"""Representations as JSON for the model file and the cache's keys; `grammar` reads them from text.

    {"name": …, "parameters": {…}, "image_shape": [H, W, C] or null, "parts": […]}

The parts are those of A+B, the base of a standardised representation, or the steps, the base and the maps of a chain in
the order in which they are applied.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from lastlayer._arrays import Array, InputError
from lastlayer.representations import registry
from lastlayer.representations.base import Representation, Shape
from lastlayer.representations.chain import Chain
from lastlayer.representations.compact import Rounded
from lastlayer.representations.concatenate import Concatenate
from lastlayer.representations.grammar import base_names, parse_phi
from lastlayer.representations.maps import FeatureMap
from lastlayer.representations.standardise import Standardised
from lastlayer.representations.steps import ImageStep
from lastlayer.representations.views import Averaged, Views

__all__ = ["base_names", "code_version", "from_spec", "parse_phi", "to_spec"]

_DEEPEST = 6
_LARGEST_SIDE = 1_000_000


def to_spec(r: Representation) -> dict[str, Any]:
    """Everything about a representation but its arrays, as JSON values.

    Returns
    -------
    dict
        ``name``, ``parameters``, ``image_shape`` ([H, W, C] or None) and ``parts``.
    """
    parts: list[dict[str, Any]] = []
    if isinstance(r, Concatenate):
        parts = [to_spec(part) for part in r.parts]
    elif isinstance(r, (Standardised, Averaged, Rounded)):
        parts = [to_spec(r.base)]
    elif isinstance(r, Chain):
        parts = [*map(_link_spec, r.steps), to_spec(r.base), *map(_link_spec, r.maps)]
    shape = None if r.image_shape is None else list(r.image_shape)
    return {"name": r.name, "parameters": r.parameters(), "image_shape": shape, "parts": parts}


def _link_spec(link: ImageStep | FeatureMap) -> dict[str, Any]:
    """A step or map of a chain."""
    return {"name": link.name, "parameters": link.parameters(), "image_shape": None, "parts": []}


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
    name, parameters, parts = _fields(spec)
    if depth >= _DEEPEST or len(parts) > 64:
        raise InputError("phi: the specification has too many parts")
    if name == Concatenate.name and not parameters:
        return Concatenate(tuple(_from_spec(part, _below(arrays, f"{i}."), depth + 1) for i, part in enumerate(parts)))
    if name == Standardised.name and not parameters and len(parts) == 1:
        base = _from_spec(parts[0], _below(arrays, "base."), depth + 1)
        return Standardised(base, arrays.get("mean"), arrays.get("scale"))
    if name == Rounded.name and not parameters and len(parts) == 1:
        base = _from_spec(parts[0], _below(arrays, "base."), depth + 1)
        if not isinstance(base, Standardised):
            raise InputError("phi rounded: its part is not standardised")
        return Rounded(base)
    if name == Averaged.name and set(parameters) == {"flip", "shift"} and len(parts) == 1:
        return Averaged(_from_spec(parts[0], _below(arrays, "base."), depth + 1), Views(**parameters))
    if name == Chain.name and not parameters:
        return _chain(parts, _shape(spec["image_shape"]), arrays, depth)
    if name not in registry.BASES or parts:
        raise InputError(f"phi {name!r:.60} is unknown")
    return registry.BASES[name](**_arguments(name, parameters, arrays), image_shape=_shape(spec["image_shape"]))


def _fields(spec: Any) -> tuple[str, dict[str, Any], list[Any]]:
    if not isinstance(spec, dict) or set(spec) != {"name", "parameters", "image_shape", "parts"}:
        raise InputError("phi: a specification has name, parameters, image_shape and parts")
    name, parameters, parts = spec["name"], spec["parameters"], spec["parts"]
    if not isinstance(name, str) or not isinstance(parameters, dict) or not isinstance(parts, list):
        raise InputError("phi: a specification's name is text, its parameters an object, its parts a list")
    return name, parameters, parts


def _arguments(name: str, parameters: dict[str, Any], arrays: Mapping[str, Array]) -> dict[str, Any]:
    """What the constructor takes: parameters that can be typed, and the fitted arrays there are."""
    if not set(parameters) <= set(registry.typed(name)):
        raise InputError(f"phi {name}: unknown parameters {sorted(map(str, parameters))!r:.200}")
    return {**parameters, **{own: arrays[own] for own in registry.fitted(name) if own in arrays}}


def _chain(parts: list[Any], shape: Shape | None, arrays: Mapping[str, Array], depth: int) -> Chain:
    """Steps as far as there are any, one base, and maps."""
    names = [_fields(part)[0] for part in parts]
    at = next((i for i, name in enumerate(names) if name not in registry.STEPS), len(names))
    if at == len(names) or any(name not in registry.MAPS for name in names[at + 1 :]):
        raise InputError("phi chain: steps, one representation and maps are needed, in this order")
    steps = [
        registry.STEPS[name](**_link(part, _below(arrays, f"step{i}.")))
        for i, (name, part) in enumerate(zip(names[:at], parts))
    ]
    base = _from_spec(parts[at], _below(arrays, "base."), depth + 1)
    maps = [
        registry.MAPS[name](**_link(part, _below(arrays, f"map{i}.")))
        for i, (name, part) in enumerate(zip(names[at + 1 :], parts[at + 1 :]))
    ]
    return Chain(tuple(steps), base, tuple(maps), image_shape=shape)


def _link(spec: Any, arrays: Mapping[str, Array]) -> dict[str, Any]:
    name, parameters, parts = _fields(spec)
    if parts or spec["image_shape"] is not None:
        raise InputError(f"phi {name}: a step or a map has neither parts nor an image shape")
    return _arguments(name, parameters, arrays)


def _is_fitted(r: Representation) -> bool:
    if isinstance(r, Rounded):
        return r.base.mean is not None
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
