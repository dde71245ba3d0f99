"""Conditions on scores, for use as a gate: ``accuracy>=0.9``, ``recall[cat].low>=80%``.

Grammar
-------
::

    requirement = score [ "[" class "]" ] [ ".low" | ".high" ] sign number [ "%" ]
    sign        = ">=" | "<=" | ">" | "<"

``.low`` and ``.high`` are the ends of the 95% interval. A condition on a number that is not defined (no image of the
class, no interval) is never met. Nothing is evaluated but this grammar.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lastlayer._arrays import InputError
from lastlayer._files import display_name

SCORES = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "ece", "top5")
CLASS_SCORES = ("recall", "precision", "f1")
ENDS = ("low", "high")

_SIGNS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt,
}  # fmt: skip
# the class may hold any character, brackets too: the last "]" before the sign closes it
_GRAMMAR = re.compile(
    r"\s*(?P<score>[a-z0-9_]+)\s*(?:\[(?P<name>.*)\])?(?:\.(?P<end>[a-z]+))?\s*"
    r"(?P<sign>>=|<=|>|<)\s*(?P<number>[0-9.eE+-]+)\s*(?P<percent>%?)\s*",
    re.DOTALL,
)


@dataclass(frozen=True)
class Requirement:
    """A condition on a score.

    Attributes
    ----------
    score : str
        One of `SCORES`, or of `CLASS_SCORES` for a class.
    sign : str
    value : float
        A share, not a percentage.
    class_name : str or None
    end : str
        ``low`` or ``high``; empty for the score itself.
    """

    score: str
    sign: str
    value: float
    class_name: str | None = None
    end: str = ""

    def found(self, metrics: Mapping[str, Any]) -> float | None:
        """The number that the quoted split of `metrics` has for it; None where it is not defined.

        Raises
        ------
        InputError
            When there is no such class.
        """
        split = metrics["splits"][metrics["quote"]]
        entry = _class_entry(split, self) if self.class_name is not None else _split_entry(split, self.score)
        return None if entry is None else entry[("value", "low", "high").index(self.end or "value")]

    def holds(self, metrics: Mapping[str, Any]) -> bool:
        """Whether the quoted split of `metrics` meets it; a score that is not defined never does."""
        number = self.found(metrics)
        return number is not None and not math.isnan(number) and _SIGNS[self.sign](number, self.value)

    def __str__(self) -> str:
        name = "" if self.class_name is None else f"[{self.class_name}]"
        end = f".{self.end}" if self.end else ""
        return f"{self.score}{name}{end}{self.sign}{self.value:g}"


@dataclass(frozen=True)
class Verdict:
    """A requirement and what was found."""

    requirement: Requirement
    found: float | None
    holds: bool

    def line(self) -> str:
        """``met      accuracy>=0.9   found 0.912``, or ``NOT MET``; ``n/a`` where it is not defined."""
        found = "n/a" if self.found is None else f"{self.found:.4g}"
        return f"{'met    ' if self.holds else 'NOT MET'}  {display_name(str(self.requirement))}   found {found}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"requirement": display_name(str(self.requirement)), "found": self.found, "met": self.holds}


def check_requirements(requirements: Sequence[Requirement], metrics: Mapping[str, Any]) -> tuple[Verdict, ...]:
    """Hold every requirement against the quoted split of ``metrics.json``."""
    return tuple(Verdict(each, each.found(metrics), each.holds(metrics)) for each in requirements)


def parse_requirement(text: str) -> Requirement:
    """Read ``accuracy>=0.9``; percentages (``90%``) are understood.

    >>> str(parse_requirement("balanced_accuracy >= 90%"))
    'balanced_accuracy>=0.9'
    >>> parse_requirement("recall[big cat].low > 0.8").class_name
    'big cat'

    Raises
    ------
    InputError
        Naming what cannot be read, and what could be written.
    """
    match = _GRAMMAR.fullmatch(text)
    how = f"Write SCORE>=NUMBER, SCORE.low>=NUMBER or recall[CLASS]>=NUMBER; SCORE is one of {', '.join(SCORES)}"
    if match is None:
        raise InputError(f"--require {text!r} cannot be read", how)
    score, name, end = match["score"], match["name"], match["end"] or ""
    known = SCORES if name is None else CLASS_SCORES
    if score not in known:
        kind = "score" if name is None else "score of a class"
        raise InputError(f"--require {text!r}: {score!r} is no {kind}; {', '.join(known)} are", how)
    if end and end not in ENDS:
        raise InputError(f"--require {text!r}: .{end} is not .low or .high", how)
    try:
        value = float(match["number"])
    except ValueError as error:
        raise InputError(f"--require {text!r}: {match['number']!r} is not a number", how) from error
    return Requirement(score, match["sign"], value / 100 if match["percent"] else value, name, end)


_Numbers = tuple[float | None, float | None, float | None]


def _split_entry(split: Mapping[str, Any], score: str) -> _Numbers | None:
    """Value and interval of a score of the split; None where the split has none (top5 of few classes)."""
    intervals = split.get("intervals") or {}
    stored = split.get(score)
    if isinstance(stored, Mapping):
        return stored["value"], stored["low"], stored["high"]
    found = intervals.get(score)
    if score == "ece":  # the usual number, as every other program computes it
        return None if found is None else (found["value"], found["low"], found["high"])
    if score == "top5":
        return None
    return (stored, None, None) if found is None else (stored, found["low"], found["high"])


def _class_entry(split: Mapping[str, Any], requirement: Requirement) -> _Numbers:
    for entry in split["per_class"]:
        if entry["name"] == requirement.class_name:
            if requirement.score == "f1":
                return entry["f1"], entry.get("f1_low"), entry.get("f1_high")
            score = entry[requirement.score]
            return score["value"], score["low"], score["high"]
    names = [entry["name"] for entry in split["per_class"]]
    raise InputError(
        f"--require {display_name(str(requirement))}: there is no class {display_name(str(requirement.class_name))!r}",
        f"The classes are {display_name(', '.join(names[:20]))}",
    )
