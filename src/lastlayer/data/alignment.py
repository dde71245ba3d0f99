"""Which label belongs to which embedding: by id, or by position, which is said."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lastlayer._arrays import InputError, IntArray
from lastlayer._codes import Problem
from lastlayer._files import display_name

_SHOWN = 5


def check_ids(ids: Sequence[str | None], where: str) -> list[str]:
    """Refuse missing and repeated ids (LL033), naming them."""
    missing = [row for row, value in enumerate(ids) if not value]
    if missing:
        raise InputError(f"{where} has no id in row {_some(missing)}", "Give every row its id", "LL033")
    first: dict[str, int] = {}
    twice: dict[str, int] = {}
    texts = [str(value) for value in ids]
    for row, text in enumerate(texts):
        if first.setdefault(text, row) != row:
            twice.setdefault(text, row)
    if twice:
        shown = ", ".join(f"{text!a} (rows {first[text]} and {row})" for text, row in list(twice.items())[:_SHOWN])
        raise InputError(
            f"{where} repeats {len(twice)} ids: {shown}{_more(len(twice))}", "Correct the ids listed", "LL033"
        )
    return texts


def align(ids: Sequence[str], label_ids: Sequence[str], where: str, label_where: str) -> tuple[IntArray, int]:
    """Row of `label_ids` for each of `ids`, and how many label rows nothing asked for.

    Raises
    ------
    InputError
        LL033, naming the embeddings that have no label.

    >>> align(["b", "a"], ["a", "b", "c"], "X", "y")
    (array([1, 0]), 1)
    """
    position = {text: row for row, text in enumerate(label_ids)}
    found = np.fromiter((position.get(text, -1) for text in ids), dtype=np.int64, count=len(ids))
    lost = np.flatnonzero(found < 0)
    if len(lost):
        shown = ", ".join(f"{ids[row]!a} (row {row})" for row in lost[:_SHOWN].tolist())
        raise InputError(
            f"{len(lost):,} of {len(ids):,} ids of {where} are not in {label_where}: {shown}{_more(len(lost))}",
            "Correct the ids listed; both files must spell them alike",
            "LL033",
        )
    return found, len(label_ids) - len(ids)


def by_position(rows: int, labels: int, where: str, label_where: str) -> Problem:
    """LL031: the rows of two files are taken to be in the same order; refused where their numbers differ."""
    if rows != labels:
        hint = "a header line is needed: is the first label taken for one? " if labels == rows - 1 else ""
        raise InputError(
            f"{where} has {rows:,} rows and {label_where} {labels:,} labels",
            f"Check that they belong together ({hint}or join them by id with --ids)",
        )
    return Problem("LL031", f"rows of {where} and {label_where} aligned by position (no ids given)")


def _some(rows: Sequence[int]) -> str:
    return ", ".join(str(row) for row in rows[:_SHOWN]) + _more(len(rows))


def _more(count: int) -> str:
    return f" and {count - _SHOWN:,} more" if count > _SHOWN else ""


def shared_rows(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """Texts that are in both, in the order of the second, as they can be printed."""
    known = set(first)
    return [display_name(text) for text in second if text in known]
