"""What a sweep was asked to compare."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from lastlayer._arrays import InputError
from lastlayer.pipeline.settings import HEADS, TrainSettings, settings_from

_OWN = ("phis", "cv", "nested", "repeats", "learning_curve")


@dataclass(frozen=True)
class SweepSettings:
    """Everything that decides the result of ``sweep``.

    Attributes
    ----------
    train : TrainSettings
        Data, split, head and values of C, as ``train`` takes them; its φ is not used.
    phis : tuple of str
        Representations to compare; empty: pixels, hog and, of colour images, hog+colour.
    cv : int
        Folds.
    nested : bool
        Whether "choose φ and C, then fit" is itself cross-validated.
    repeats : int
        Cross-validations, each with folds of its own.
    learning_curve : bool
        Whether the winner is fitted to fewer images too.
    """

    train: TrainSettings = field(default_factory=TrainSettings)
    phis: tuple[str, ...] = ()
    cv: int = 5
    nested: bool = False
    repeats: int = 1
    learning_curve: bool = False

    def __post_init__(self) -> None:
        if HEADS[self.train.head].solver == "perceptron":
            raise InputError("head perceptron has no C to sweep", "Use logistic, svm or ridge")
        if self.train.l2 == self.train.l2:
            raise InputError("--l2 fixes what a sweep chooses", "Give values of C: --C 0.01,0.1,1")
        for name, least in (("cv", 2), ("repeats", 1)):
            if getattr(self, name) < least:
                raise InputError(f"--{name} {getattr(self, name)} is less than {least}")
        twice = next((phi for i, phi in enumerate(self.phis) if phi in self.phis[:i]), None)
        if twice is not None:
            raise InputError(f"--phi {twice} is given twice", "Leave one out")


def sweep_settings(values: dict[str, Any], where: str) -> SweepSettings:
    """Build settings from plain values, naming unknown keys and wrong types."""
    own = {key: values[key] for key in _OWN if key in values}
    rest = {key: value for key, value in values.items() if key not in own}
    if "phi" in rest:
        phi = rest.pop("phi")
        own["phis"] = (phi,) if isinstance(phi, str) else tuple(phi)
    phis = tuple(own.get("phis", ()))
    if not all(isinstance(phi, str) for phi in phis):
        raise InputError(f"{where}: phi = {phis!r} is not a list of representations")
    defaults = {f.name: f.default for f in dataclasses.fields(SweepSettings)}
    for key in ("cv", "nested", "repeats", "learning_curve"):
        if key in own and type(own[key]) is not type(defaults[key]):
            raise InputError(f"{where}: {key} = {own[key]!r} should be a {type(defaults[key]).__name__}")
    return SweepSettings(train=settings_from(rest, where), **{**own, "phis": phis})
