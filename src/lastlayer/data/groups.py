"""``--group-by``: a manifest's column, or a pattern applied to the row's name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

import numpy as np

from lastlayer._arrays import InputError, Int32
from lastlayer._files import display_name

GROUP_COLUMN = "group"
_METACHARACTERS = re.compile(r"[.\\^$*+?{}\[\]|()]")


def group_rows(
    names: Sequence[str], columns: Mapping[str, Sequence[str | None]], group_by: str | None
) -> tuple[Int32 | None, tuple[str, ...]]:
    """Return a group number per row, in order of first appearance; -1 for rows that are alone.

    A pattern's group is its first capture group, or the whole match without one.

    Returns
    -------
    groups : int32 (N,) or None
        None when there are no groups at all.
    group_names : tuple of str

    Raises
    ------
    InputError
        When `group_by` is neither a column nor a valid pattern, or matches nothing.
    """
    if group_by is None:
        return _number(columns[GROUP_COLUMN]) if GROUP_COLUMN in columns else (None, ())
    if group_by in columns:
        return _number(columns[group_by])
    pattern = _compile(group_by, columns)
    values = [_group_of(pattern, name) for name in names]
    if not any(values):
        example = f", such as {display_name(names[0])!r}" if names else ""
        raise InputError(
            f"--group-by {group_by!r} matches none of {len(names):,} names{example}",
            "The pattern is searched in the path below the data folder; its first (…) is the group",
        )
    return _number(values)


def _compile(group_by: str, columns: Mapping[str, Sequence[str | None]]) -> re.Pattern[str]:
    if not _METACHARACTERS.search(group_by):  # a plain word matched anywhere would lump unrelated names together
        near = difflib.get_close_matches(group_by, list(columns), n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        available = ", ".join(columns) or "none"
        raise InputError(
            f"--group-by {group_by!r} is neither a column (available: {available}) nor a pattern",
            f"{hint}A pattern looks like '([^/]+)_[0-9]+'",
        )
    try:
        return re.compile(group_by)
    except re.error as error:
        raise InputError(
            f"--group-by {group_by!r} is not a valid pattern: {error}",
            "Quote it for the shell; a pattern looks like '([^/]+)_[0-9]+'",
        ) from None


def _group_of(pattern: re.Pattern[str], name: str) -> str | None:
    match = pattern.search(name)
    if match is None:
        return None
    return match.group(1) if pattern.groups else match.group(0)


def _number(values: Sequence[str | None]) -> tuple[Int32 | None, tuple[str, ...]]:
    numbers: dict[str, int] = {}
    groups = np.fromiter(
        (numbers.setdefault(value, len(numbers)) if value else -1 for value in values),
        dtype=np.int32,
        count=len(values),
    )
    if not numbers:
        return None, ()
    return groups, tuple(display_name(name) for name in numbers)
