"""What a probe was asked to do; written to ``config.toml`` and enough to run it again."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from lastlayer._arrays import InputError
from lastlayer.data.embeddings import NORMALISATIONS
from lastlayer.pipeline.settings import HEADS

PROTOCOLS = ("holdout", "cv", "clip", "dinov2")
PROBE_HEADS = ("logistic", "svm", "ridge")
PUBLISHED = ("clip", "dinov2")


@dataclass(frozen=True)
class ProbeSettings:
    """Everything that decides the result of ``probe``.

    Attributes
    ----------
    embeddings, labels : str
        Files of the training rows; `labels` empty: in the same file.
    test, test_labels, val, val_labels : str
        The same for rows that score and rows that choose.
    x, y, ids, group_by : str
        Names of arrays or columns in these files (`group_by` also a pattern over the ids).
    normalize : str
        ``""`` or ``"l2"``.
    shots : tuple of int
        Rows a class to learn from; empty: all.
    repeats : int
        Draws of each number of shots.
    cv : int
        Folds.
    protocol : str
        ``holdout``, ``cv``, ``clip`` or ``dinov2`` (`selection.protocols`).
    allow_logits : bool
        Take embeddings that look like outputs of a classifier.
    head : str
        ``logistic``, ``svm`` or ``ridge``.
    C : tuple of float
        Values to choose from, λ = 1/(C·n); one: used as it is; empty: the protocol's own.
    standardise : str
        ``"yes"``, ``"no"`` or ``""``: yes for holdout and cv, no for the published protocols.
    seed : int
    """

    embeddings: str = ""
    labels: str = ""
    test: str = ""
    test_labels: str = ""
    val: str = ""
    val_labels: str = ""
    x: str = ""
    y: str = ""
    ids: str = ""
    group_by: str = ""
    normalize: str = ""
    shots: tuple[int, ...] = ()
    repeats: int = 10
    cv: int = 5
    protocol: str = "holdout"
    allow_logits: bool = False
    head: str = "logistic"
    C: tuple[float, ...] = ()
    standardise: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (
            ("protocol", PROTOCOLS),
            ("head", PROBE_HEADS),
            ("normalize", NORMALISATIONS),
            ("standardise", ("", "yes", "no")),
        ):
            value = getattr(self, name)
            if value not in known:
                raise InputError(f"unknown {name} {value!r}", f"Use one of {', '.join(k for k in known if k)}")
        if any(not (math.isfinite(c) and c > 0) for c in self.C):
            raise InputError(f"C = {self.C} is not a list of positive numbers", "Give e.g. --C 0.01,0.1,1")
        if self.protocol in PUBLISHED and self.C:
            raise InputError(
                f"protocol {self.protocol} has values of C of its own", "Leave --C out, or use --protocol holdout or cv"
            )
        if self.protocol in PUBLISHED and self.head != "logistic":
            raise InputError(
                f"protocol {self.protocol} is logistic regression, the head is {self.head}",
                "Leave --head out, or use --protocol holdout or cv",
            )
        if self.protocol == "cv" and self.val:
            raise InputError("protocol cv chooses by folds of the training rows", "Leave --val out, or use holdout")
        if any(k < 1 for k in self.shots):
            raise InputError(f"--shots {self.shots} are not numbers from 1 up", "Give e.g. --shots 1,2,4,8,16")
        if self.shots and self.val:
            raise InputError(
                "--val with --shots: validation beyond the shots would be data the budget hides",
                "Leave --val out: C is chosen on the shots themselves",
                "LL034",
            )
        for name, least in (("repeats", 1), ("cv", 2)):
            if getattr(self, name) < least:
                raise InputError(f"--{name} {getattr(self, name)} is less than {least}")

    @property
    def loss(self) -> str:
        """The loss of the head."""
        return HEADS[self.head].loss

    @property
    def standardised(self) -> bool:
        """Whether columns are centred and scaled."""
        return self.standardise == "yes" or (not self.standardise and self.protocol not in PUBLISHED)

    def stored(self) -> dict[str, Any]:
        """Plain values for ``config.toml``."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}


def probe_settings(values: dict[str, Any], where: str) -> ProbeSettings:
    """Build settings from plain values, naming unknown keys and wrong types."""
    known = {f.name: f.default for f in dataclasses.fields(ProbeSettings)}
    clean: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            raise InputError(f"{where}: unknown setting {key!r}", f"Known are {', '.join(sorted(known))}")
        default = known[key]
        if key in ("C", "shots"):
            items = list(value) if isinstance(value, list | tuple) else [value]
            kind: Any = int | float if key == "C" else int
            if not all(isinstance(item, kind) and not isinstance(item, bool) for item in items):
                raise InputError(f"{where}: {key} = {value!r} is not a list of numbers")
            clean[key] = tuple(float(item) if key == "C" else item for item in items)
        elif type(value) is not type(default):
            raise InputError(f"{where}: {key} = {value!r} should be a {type(default).__name__}")
        else:
            clean[key] = value
    return ProbeSettings(**clean)


def parse_shots(text: str) -> tuple[int, ...]:
    """Read ``1,2,4,8,16``.

    >>> parse_shots("4,1,4")
    (1, 4)
    """
    try:
        return tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError as error:
        raise InputError(f"--shots {text!r} cannot be read", "Give e.g. --shots 1,2,4,8,16") from error
