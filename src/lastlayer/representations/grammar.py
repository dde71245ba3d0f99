"""Representations as text: ``deskew/pixels/pca:40/poly:2 + hog:cell=4``.

    text   =  term ("+" term)*              features side by side
    term   =  (step "/")* base ("/" map)*   steps turn images into images, maps features into features
    part   =  name [":" setting ("," setting)*]
    setting = key "=" value, or the value alone for the first one of a part that has a main parameter

A value is a whole number, a number, true, false, none, two numbers as 8x8, or a word. The base of a term may be the
name of a file (`registry.FILES`): then the rest of the term is its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lastlayer._arrays import InputError
from lastlayer.representations.base import Representation
from lastlayer.representations.chain import Chain
from lastlayer.representations.concatenate import Concatenate
from lastlayer.representations.network import network_term
from lastlayer.representations.registry import BASES, FILES, MAIN, MAPS, OTHER_NAMES, SHORT, STEPS, typed

_WORDS = {"true": True, "yes": True, "false": False, "no": False, "none": None}


def parse_phi(text: str) -> Representation:
    """Representation of a text such as ``deskew/hog:cell=4+pixels/pca:40``; not fitted.

    Raises
    ------
    InputError
        Names the unknown part or parameter, what is known, and the nearest spelling; and a part in the wrong place.

    Examples
    --------
    >>> parse_phi("pixels:size=16,color=gray")
    Pixels(size=16, color='gray')
    >>> parse_phi("deskew/pixels/pca:40").maps
    (PCA(n=40, whiten=False),)
    """
    terms = tuple(_term(term) for term in text.split("+"))
    return terms[0] if len(terms) == 1 else Concatenate(terms)


def base_names(text: str) -> tuple[str, ...]:
    """The base of every term, by its own name: what decides how large the images need to be.

    >>> base_names("deskew/raw:size=8/pca:20 + hog")
    ('pixels', 'hog')
    """
    return tuple(_split(_pieces(term))[1][0] for term in text.split("+"))


def _term(text: str) -> Representation:
    steps, base, maps = _split(_pieces(text))
    phi: Representation = BASES[base[0]](**_settings(*base))
    if not steps and not maps:
        return phi
    return Chain(
        tuple(STEPS[name](**_settings(name, given)) for name, given in steps),
        phi,
        tuple(MAPS[name](**_settings(name, given)) for name, given in maps),
    )


Piece = tuple[str, str]
"""A part's own name, and its settings as text."""


def _pieces(term: str) -> list[Piece]:
    """The parts of a term; a "/" after the name of a file belongs to it."""
    network = network_term(term)
    if network:
        return [("network", network)]
    pieces: list[Piece] = []
    rest = term
    while True:
        head, slash, tail = rest.partition("/")
        piece = _named(head)
        if piece[0] in FILES:
            return [*pieces, _named(rest)]
        pieces.append(piece)
        if not slash:
            return pieces
        rest = tail


def _named(text: str) -> Piece:
    written, _, settings = text.partition(":")
    name, _, own = OTHER_NAMES.get(written.strip().lower(), written.strip().lower()).partition(":")
    return name, ",".join(part for part in (own, settings.strip()) if part)


def _split(pieces: list[Piece]) -> tuple[list[Piece], Piece, list[Piece]]:
    """Steps, base and maps; refuses what is unknown, and what stands in the wrong place."""
    for name, _ in pieces:
        if name not in STEPS and name not in BASES and name not in MAPS:
            _refuse_unknown(name)
    bases = [i for i, (name, _) in enumerate(pieces) if name in BASES]
    shown = "/".join(name for name, _ in pieces)
    if len(bases) != 1:
        if bases:
            raise InputError(f"phi {shown} has {len(bases)} representations", "Join them with +, as in pixels+hog")
        names = [name for name, _ in pieces]
        at = next((i for i, name in enumerate(names) if name in MAPS), len(names))
        mend = "/".join([*names[:at], "pixels", *names[at:]])
        raise InputError(
            f"phi {shown} has no representation, only {_kinds(names)}", f"Put one in its place: {mend}, for example"
        )
    (at,) = bases
    for name, _ in pieces[:at]:
        if name in MAPS:
            right = f"{pieces[at][0]}/{name}"
            raise InputError(
                f"phi {shown}: {name} maps features, and stands where a step on images belongs",
                f"Write it behind the representation: {right}",
            )
    for name, _ in pieces[at + 1 :]:
        if name in STEPS:
            raise InputError(
                f"phi {shown}: {name} is a step on images, and stands behind the representation",
                f"Write it in front: {name}/{pieces[at][0]}",
            )
    return pieces[:at], pieces[at], pieces[at + 1 :]


def _kinds(names: list[str]) -> str:
    steps = [name for name in names if name in STEPS]
    maps = [name for name in names if name in MAPS]
    told = [f"step{'s' * (len(steps) > 1)} {', '.join(steps)}"] if steps else []
    return " and ".join([*told, *([f"feature map{'s' * (len(maps) > 1)} {', '.join(maps)}"] if maps else [])])


def _refuse_unknown(name: str) -> None:
    known = f"there are {', '.join(BASES)}, and A+B"
    more = (
        f"; steps {', '.join(STEPS)} in front, as in deskew/pixels; maps {', '.join(MAPS)} behind, as in pixels/pca:40"
    )
    near = did_you_mean(name, [*BASES, *STEPS, *MAPS, *OTHER_NAMES])
    raise InputError(f"phi {name!r} is unknown; {known}{more}", near)


def _settings(name: str, text: str) -> dict[str, Any]:
    """Parameters by their own names, not yet checked by the class."""
    given: dict[str, Any] = {}
    if name in FILES:
        return FILES[name](text)
    known, short, main = typed(name), SHORT.get(name, {}), MAIN.get(name)
    for i, setting in enumerate(text.split(",") if text.strip() else []):
        key, equals, value = (piece.strip() for piece in setting.partition("="))
        if not equals and main and i == 0 and key not in known and key not in short:
            key, equals, value = main, "=", key
        _check_setting(name, key, bool(equals and value), known, short)
        full = short.get(key, key)
        if full in given:
            raise InputError(f"{name}: {full} is given twice")
        given[full] = _value(value)
    return given


def _check_setting(name: str, key: str, has_value: bool, known: list[str], short: Mapping[str, str]) -> None:
    if key not in known and key not in short:
        names = [*short, *known]
        what = f"it has {', '.join(names)}" if names else "it has none"
        raise InputError(f"{name} has no parameter {key!r}; {what}", did_you_mean(key, names))
    if not has_value:
        raise InputError(f"{name}: {key} has no value", f"Write {name}:{key}=VALUE")


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


def did_you_mean(word: str, known: list[str]) -> str:
    """The nearest known word as a question, or nothing."""
    import difflib

    near = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.5)
    return f"Did you mean {near[0]!r}?" if near else ""
