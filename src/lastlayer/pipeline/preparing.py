"""Everything before φ: images opened, decoded, looked through and split."""

from __future__ import annotations

import dataclasses
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lastlayer._arrays import InputError, Int32, IntArray
from lastlayer._codes import Problem
from lastlayer.data.checks import check_dataset
from lastlayer.data.dataset import Dataset
from lastlayer.data.decoding import Decoded
from lastlayer.data.sources import open_dataset
from lastlayer.data.splits import Split
from lastlayer.pipeline.auto import AUTO
from lastlayer.pipeline.imaging import FormatChoice, choose_format, decode, networks
from lastlayer.pipeline.mirrored import mirror_pairs, parted, tie
from lastlayer.pipeline.near import near_duplicates, numbered_together
from lastlayer.pipeline.observer import Observer, PlanLine
from lastlayer.pipeline.planning import plan
from lastlayer.pipeline.settings import Execution, TrainSettings
from lastlayer.pipeline.splitting import split_dataset
from lastlayer.representations.base import Representation
from lastlayer.representations.cache import FeatureCache, default_cache_folder
from lastlayer.representations.onnx import Onnx
from lastlayer.representations.specs import base_names, parse_phi

if TYPE_CHECKING:
    from lastlayer.data.near_duplicates import NearDuplicates


@dataclass(frozen=True, eq=False)
class Prepared:
    """Data, decoded and split: everything before φ, which is None where it is still to be chosen.

    Attributes
    ----------
    near : NearDuplicates or None
        None where they were not looked for. The split's ``dup_group`` numbers them together with identical images.
    unknown : int (m,)
        Readable images of no class (`TrainSettings.unknown`); they are on no side.
    """

    dataset: Dataset
    decoded: Decoded
    split: Split
    split_line: str
    choice: FormatChoice
    phi_text: str
    phi: Representation | None
    problems: tuple[Problem, ...]
    plan: tuple[PlanLine, ...]
    images_reused: bool
    near: NearDuplicates | None = None
    unknown: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))


class StrictError(InputError):
    """``--strict`` was given and the data have problems."""


class Clock:
    """Seconds spent in each named stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Add the time since the last lap to `stage`."""
        now = time.perf_counter()
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + now - self._last, 3)
        self._last = now


def open_cache(execution: Execution) -> FeatureCache:
    """The feature cache that the execution asks for; off without one."""
    return FeatureCache((execution.cache or default_cache_folder()) if execution.use_cache else None)


def absolute_paths(settings: TrainSettings) -> TrainSettings:
    """Paths made absolute, so that the configuration works from any folder."""
    changes: dict[str, Any] = {}
    if settings.data and not settings.data.startswith("demo:"):
        changes["data"] = str(Path(settings.data).absolute())
    for name in ("labels", "split"):
        value = getattr(settings, name)
        if value:
            changes[name] = str(Path(value).absolute())
    return dataclasses.replace(settings, phi=absolute_phi(settings.phi), **changes)


def absolute_phi(phi: str) -> str:
    """The same representation with the paths of ONNX files made absolute."""
    if not phi or _is_auto(phi):
        return phi
    for network in networks(parse_phi(phi)):
        if isinstance(network, Onnx):
            path = str(Path(network.file).absolute()).replace("\\", "\\\\")
            phi = re.sub(rf"(onnx:\s*){re.escape(network.file)}(?![\w./-])", rf"\g<1>{path}", phi)
    return phi


def _is_auto(phi: str) -> bool:
    return phi.strip().lower() == AUTO


def prepare(
    settings: TrainSettings,
    execution: Execution,
    observer: Observer,
    cache: FeatureCache,
    clock: Clock,
    arrays: Any = None,
    *,
    tell_plan: bool = True,
) -> Prepared:
    """Open, decode and split the data, telling the observer what was found and what will be done."""
    dataset = open_dataset(
        arrays if arrays is not None else settings.data,
        group_by=settings.group_by or None,
        labels_file=settings.labels or None,
    )
    dataset, strange = set_aside(dataset, settings.unknown)
    observer.data(dataset.source, dataset.layout, dataset.describe())
    if len(strange):
        said = f"{len(strange):,} images of {settings.unknown}: of no class, never trained on; they test abstention"
        observer.note("unknown", f"{said} (--unknown)")
    clock.lap("open")
    # a fault in --phi is told before minutes of decoding
    auto = _is_auto(settings.phi)
    phi = parse_phi(settings.phi) if settings.phi and not auto else None
    choice = choose_format(dataset, settings, ("hog",) if phi is None else base_names(settings.phi), phi)
    phi_text = settings.phi or ("hog" if choice.format.channels == 1 else "hog+colour")
    if phi is None and not auto:
        phi = parse_phi(phi_text)
    decoded, reused = decode(dataset, choice.format, cache, execution)
    clock.lap("decode")
    flips = settings.fitted_views.flip or settings.scored_views.flip
    pairs = mirror_pairs(decoded) if flips else np.zeros((0, 2), np.int64)
    dataset = tie(dataset, pairs)
    near = None
    if settings.near_dup:
        near = near_duplicates(dataset, decoded, cache, execution.progress)
        clock.lap("near duplicates")
    split, split_line, split_problems = split_dataset(dataset, decoded, settings, execution, near)
    across = parted(dataset, split, pairs)
    problems = (*dataset.problems, *check_dataset(dataset, decoded, split), *split_problems, *across)
    if near is not None:
        from lastlayer.data.near_groups import near_duplicate_problems

        problems += near_duplicate_problems(dataset, split, near, kept_together=True)
        split = numbered_together(split, near)
    shown = tuple(p for p in dict.fromkeys(problems) if p.code not in execution.ignore)
    for problem in shown:
        observer.problem(problem)
    if settings.strict and shown and tell_plan:
        raise StrictError(
            f"--strict: {len(shown)} problems in the data, the first: {shown[0].code} {shown[0].message}",
            "Mend them, mute a code with --ignore, or leave --strict out",
        )
    lines = plan(settings, choice, split_line, phi_text, phi)
    if tell_plan:
        observer.plan(lines)
    clock.lap("split")
    strange = strange[decoded.readable[strange]]
    return Prepared(dataset, decoded, split, split_line, choice, phi_text, phi, shown, lines, reused, near, strange)


def set_aside(dataset: Dataset, unknown: str) -> tuple[Dataset, IntArray]:
    """The dataset without the class of that name (in any case), and the rows that carried it.

    Raises
    ------
    InputError
        When no other class is left.
    """
    wanted = unknown.strip().casefold()
    found = [k for k, name in enumerate(dataset.class_names) if wanted and name.casefold() == wanted]
    if not found:
        return dataset, np.zeros(0, np.int64)
    names = tuple(name for k, name in enumerate(dataset.class_names) if k not in found)
    if not names:
        raise InputError(f"{dataset.source} has no class but {unknown}", "Add classes, or give --unknown ''")
    number = np.cumsum([k not in found for k in range(len(dataset.class_names))]) - 1
    number[found] = -1
    rows = np.flatnonzero(np.isin(dataset.labels, found))
    labels: Int32 = np.where(dataset.labels >= 0, number[dataset.labels], -1).astype(np.int32)
    return dataclasses.replace(dataset, labels=labels, class_names=names), rows
