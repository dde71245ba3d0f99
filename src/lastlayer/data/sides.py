"""Every usual spelling of train, val and test."""

from __future__ import annotations

from lastlayer.data.dataset import SPLIT_NAMES, TEST, TRAIN, VAL

_SPELLINGS = {
    TRAIN: ("train", "training"),
    VAL: ("val", "valid", "validation", "dev"),
    TEST: ("test", "testing"),
}
_SIDES = {spelling: side for side, spellings in _SPELLINGS.items() for spelling in spellings}


def side_of(name: str) -> int | None:
    """Return the side that a folder name or a cell names, whatever its case; None for other words.

    >>> side_of("Validation") == VAL, side_of("cat")
    (True, None)
    """
    return _SIDES.get(name.strip().casefold())


def describe_sides(given: set[int]) -> str:
    """Return ``train/val/test`` for the sides present, or ``no splits``.

    >>> describe_sides({0, TEST, TRAIN})
    'train/test'
    """
    return "/".join(SPLIT_NAMES[side] for side in (TRAIN, VAL, TEST) if side in given) or "no splits"
