"""Labels as they are given to `fit`: none missing, all of one kind."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np

from lastlayer._arrays import InputError

MISSING = ("NoneType", "NAType", "NaTType")
"""Types that stand for a missing label: Python's None and those of pandas."""


def check_labels(y: Any) -> None:
    """Refuse labels that are missing or infinite, and words among numbers, naming the row.

    Parameters
    ----------
    y : (N,) array-like, before anything converts it: NumPy makes words of the numbers in a mixed list.

    Raises
    ------
    InputError

    Examples
    --------
    >>> check_labels(["cat", "dog"])
    >>> check_labels(["cat", 3])
    Traceback (most recent call last):
    lastlayer._errors.InputError: y is 'cat' in row 0 and 3 in row 1. Give labels of one kind, all words or all numbers
    """
    labels: Any = y if isinstance(y, list | tuple) else np.asarray(y)
    if isinstance(labels, np.ndarray):
        if labels.dtype.kind == "f":
            wrong = ~np.isfinite(labels).reshape(len(labels), -1).all(axis=1) if labels.ndim else np.zeros(0, bool)
            if wrong.any():
                row = int(np.flatnonzero(wrong)[0])
                _refuse(labels[row], row)
        if labels.dtype.kind != "O" or labels.ndim != 1:
            return
    if len({type(label) for label in labels} - {int, str, bool}) + len({isinstance(x, str) for x in labels}) <= 1:
        return
    first: dict[bool, int] = {}
    for row, label in enumerate(labels):
        if type(label).__name__ in MISSING or (isinstance(label, Real) and not np.isfinite(float(label))):
            _refuse(label, row)
        if isinstance(label, str | Real | np.bool_):
            first.setdefault(isinstance(label, str), row)
    if len(first) == 2:
        a, b = sorted(first.values())
        raise InputError(
            f"y is {_shown(labels[a])} in row {a} and {_shown(labels[b])} in row {b}",
            "Give labels of one kind, all words or all numbers",
        )


def _shown(label: Any) -> str:
    return repr(str(label)) if isinstance(label, str) else str(label)


def _refuse(label: Any, row: int) -> None:
    raise InputError(f"y is {_shown(label)} in row {row}", "Give every row a label, or drop that row")
