"""``check``: everything that can be said about labelled images without training on them, and what labels it doubts."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lastlayer import _files
from lastlayer._arrays import Int32
from lastlayer._codes import CODES, Problem
from lastlayer.pipeline.observer import SILENT_OBSERVER, Observer, PlanLine
from lastlayer.pipeline.settings import Execution, TrainSettings

if TYPE_CHECKING:
    from lastlayer.data.near_duplicates import NearDuplicates
    from lastlayer.pipeline.preparing import Prepared
    from lastlayer.pipeline.shortcuts import FoundShortcuts
    from lastlayer.pipeline.suspects import Suspects
    from lastlayer.representations.cache import FeatureCache

SEVERITY = (
    *("LL008", "LL013"),  # the score of the test side is too good
    *("LL015", "LL016"),  # the model may learn something else
    *("LL006", "LL014", "LL024"),  # labels that cannot all be right
    *("LL003", "LL005", "LL004", "LL022", "LL009"),  # images and classes that are missing
    *("LL010", "LL011", "LL007", "LL002"),  # to know of
)
"""Codes in the order in which they are told; errors come before all of them, other codes after."""


@dataclass(frozen=True)
class Findings:
    """What ``check`` found.

    Attributes
    ----------
    source, layout, description : str
        How the data were understood.
    n, readable : int
        Images listed, and those that can be read.
    classes : dict
        Readable images of every class.
    alterations : dict
        How many images were changed on reading, by kind (rotated, alpha, depth16 …).
    problems : tuple of Problem
        The most severe first.
    near_duplicates : dict or None
        Images and groups, pairs compared; None where it was switched off.
    shortcuts : dict or None
        Properties and regions that predict the class; None where it was switched off.
    labels : dict or None
        What the label check found; None where it was not asked for.
    """

    source: str
    layout: str
    description: str
    n: int
    readable: int
    classes: dict[str, int]
    alterations: dict[str, int]
    problems: tuple[Problem, ...]
    near_duplicates: dict[str, int] | None = None
    shortcuts: dict[str, Any] | None = None
    labels: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "source": self.source,
            "layout": self.layout,
            "n": self.n,
            "readable": self.readable,
            "classes": self.classes,
            "alterations": self.alterations,
            "problems": [problem_to_dict(problem) for problem in self.problems],
            "near_duplicates": self.near_duplicates,
            "shortcuts": self.shortcuts,
            "labels": self.labels,
        }

    def summary(self) -> str:
        """A few lines for a person: what was looked at, and which codes to read about."""
        lines = [f"{self.readable:,} of {self.n:,} images can be read"]
        if self.alterations:
            parts = [f"{kind} {count}" for kind, count in sorted(self.alterations.items())]
            lines.append(f"changed on reading: {', '.join(parts)}")
        if self.near_duplicates is not None:
            seen = self.near_duplicates
            lines.append(f"copies, also changed ones: {seen['images']:,} images in {seen['groups']:,} groups")
        if self.shortcuts is not None:
            counted = len(self.shortcuts["properties"]) + len(self.shortcuts["regions"])
            lines.append(f"shortcuts: {counted or 'no property of the files and no region'} gives a class away")
        if self.labels is not None:
            lines.append(self._label_line())
        codes = dict.fromkeys(problem.code for problem in self.problems)
        if codes:
            lines.append(f"problems: {', '.join(codes)}   (`lastlayer explain-code CODE` tells more)")
        else:
            lines.append("no problem found")
        return "\n".join(lines)

    def _label_line(self) -> str:
        assert self.labels is not None
        found = self.labels
        confused = Counter((one["label"], one["suggested"]) for one in found["suspects"]).most_common(3)
        pairs = ", ".join(f"{a} → {b} {count}" for (a, b), count in confused)
        line = f"labels: {len(found['suspects']):,} of {found['judged']:,} suspected to be wrong"
        return f"{line} ({pairs})" if pairs else line


def problem_to_dict(problem: Problem) -> dict[str, Any]:
    """Plain values of a problem for JSON; file names in their printable form."""
    return {
        "code": problem.code,
        "message": problem.message,
        "files": [_files.display_name(name) for name in problem.files],
        "details": list(problem.details),
        "mend": problem.mend,
    }


def by_severity(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Problems with the worst first; those of one code stay in their order."""
    rank = {code: number for number, code in enumerate(SEVERITY)}

    def key(problem: Problem) -> tuple[bool, int]:
        return not CODES[problem.code].is_error, rank.get(problem.code, len(rank))

    return tuple(sorted(problems, key=key))


class _Held(Observer):
    """Passes everything on but problems, which are told later, in their order."""

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self.problems: list[Problem] = []

    def data(self, source: str, layout: str, description: str) -> None:
        self.observer.data(source, layout, description)

    def plan(self, lines: tuple[PlanLine, ...]) -> None:
        self.observer.plan(lines)

    def problem(self, problem: Problem) -> None:
        self.problems.append(problem)

    def note(self, topic: str, text: str) -> None:
        self.observer.note(topic, text)

    def tell(self) -> tuple[Problem, ...]:
        """Tell the problems so far, the worst first."""
        ordered = by_severity(dict.fromkeys(self.problems))
        for problem in ordered:
            self.observer.problem(problem)
        return ordered


def run_check(
    settings: TrainSettings,
    execution: Execution | None = None,
    observer: Observer = SILENT_OBSERVER,
    arrays: Any = None,
    *,
    near_dup: bool = True,
    shortcuts: bool = True,
    label_check: bool = False,
    labels_suspect: Path | None = None,
) -> Findings:
    """Open, decode and split the data as ``train`` would, and report; nothing is written but the cache.

    Parameters
    ----------
    settings : TrainSettings
    execution : Execution, optional
    observer : Observer, optional
        Is told the problems at the end, the most severe first.
    arrays : pair (images, labels), optional
        Used instead of ``settings.data``.
    near_dup, shortcuts : bool
        Whether to look for near duplicates, and for properties and regions that give the class away.
    label_check : bool
        Whether to cross-validate a classifier on all labelled images and name the labels that it doubts.
    labels_suspect : Path, optional
        Where to write them as a table; asks for the label check.
    """
    from lastlayer.pipeline.preparing import Clock, open_cache, prepare

    execution = execution or Execution()
    held = _Held(observer)
    cache = open_cache(execution)
    near = found = doubts = None
    try:
        alone = dataclasses.replace(settings, near_dup=False)  # they are looked for below, and told with the rest
        prepared = prepare(alone, execution, held, cache, Clock(), arrays, tell_plan=False)
        units = prepared.split.unit
        if near_dup:
            from lastlayer.data.near_groups import near_duplicate_problems
            from lastlayer.pipeline.near import near_duplicates

            near = near_duplicates(prepared.dataset, prepared.decoded, cache, execution.progress)
            problems = near_duplicate_problems(prepared.dataset, prepared.split, near, kept_together=False)
            units = join_near(units, near)
            _add(held, problems, execution)
        if shortcuts:
            from lastlayer.pipeline.shortcuts import find_shortcuts

            found = find_shortcuts(
                prepared.dataset, prepared.decoded, units, seed=settings.seed, progress=execution.progress
            )
            _add(held, found.problems(prepared.dataset), execution)
        if label_check or labels_suspect is not None:
            doubts = _check_labels(prepared, units, settings, execution, cache, labels_suspect)
            _add(held, _label_problems(doubts, prepared), execution)
    finally:  # what was found before an error is told as well
        ordered = held.tell()
    return _findings(prepared, ordered, near, found, doubts)


def _add(held: _Held, problems: Iterable[Problem], execution: Execution) -> None:
    for problem in problems:
        if problem.code not in execution.ignore:
            held.problem(problem)


def join_near(units: Int32, near: NearDuplicates) -> Int32:
    """Units with near duplicates joined, (N,)."""
    from lastlayer.data.near_groups import merge_groups

    return merge_groups(units, near.group)


def _check_labels(
    prepared: Prepared,
    units: Int32,
    settings: TrainSettings,
    execution: Execution,
    cache: FeatureCache,
    path: Path | None,
) -> Suspects:
    """Cross-validate on all labelled images, whatever their side, and doubt what the held-out scores contradict."""
    from lastlayer.pipeline.features import extract
    from lastlayer.pipeline.learn import class_weights
    from lastlayer.pipeline.suspects import (
        check_labelled,
        cross_validated_probabilities,
        suspects,
        write_suspects,
    )
    from lastlayer.representations.specs import parse_phi

    dataset, decoded = prepared.dataset, prepared.decoded
    rows = np.flatnonzero(decoded.readable & (dataset.labels >= 0))
    y = dataset.labels[rows].astype(np.int64)
    n_classes = len(dataset.class_names)
    check_labelled(y, n_classes)
    gray = prepared.choice.format.channels == 1
    features = extract(
        prepared.phi or parse_phi("hog" if gray else "hog+colour"),  # --phi auto: nothing to choose by
        decoded.pixels,
        decoded.sha256,
        rows,
        len(rows),
        standardise=settings.standardise,
        seed=settings.seed,
        cache=cache,
        progress=execution.progress,
    )
    probabilities, C = cross_validated_probabilities(
        features.Z,
        y,
        n_classes,
        units=units[rows],
        sample_weight=class_weights(y, n_classes, settings.class_weight),
        seed=settings.seed,
        progress=execution.progress,
    )
    found = suspects(rows, y, probabilities, C)
    if path is not None:
        write_suspects(path, found, dataset)
    return found


def _label_problems(found: Suspects, prepared: Prepared) -> tuple[Problem, ...]:
    from lastlayer.pipeline.suspects import suspect_problem

    return suspect_problem(found, prepared.dataset)


def _findings(
    prepared: Prepared,
    problems: tuple[Problem, ...],
    near: NearDuplicates | None,
    found: FoundShortcuts | None,
    doubts: Suspects | None,
) -> Findings:
    from lastlayer.evaluation.shortcut_checks import to_dict

    dataset, decoded = prepared.dataset, prepared.decoded
    labels = dataset.labels[decoded.readable]
    names = dataset.class_names
    return Findings(
        source=dataset.source,
        layout=dataset.layout,
        description=dataset.describe(),
        n=len(dataset),
        readable=int(decoded.readable.sum()),
        classes={name: int((labels == k).sum()) for k, name in enumerate(names)},
        alterations={kind: len(rows) for kind, rows in sorted(decoded.alterations.items())},
        problems=problems,
        near_duplicates=None if near is None else near.to_dict(),
        shortcuts=None
        if found is None
        else {
            "images": found.images,
            "properties": [to_dict(one, names) for one in found.properties],
            "regions": [to_dict(one, names) for one in found.regions],
        },
        labels=None if doubts is None else doubts.to_dict(dataset.names, names),
    )


def write_fix_list(path: Path, problems: Sequence[Problem]) -> None:
    """CSV ``code,path,detail,mend`` with one row per file of each problem."""
    from lastlayer.pipeline.suspects import cell_path

    rows = []
    for problem in problems:
        details = problem.details or ("",) * len(problem.files)
        rows += [(problem.code, cell_path(name), detail, problem.mend) for name, detail in zip(problem.files, details)]
    _files.write_csv(path, ("code", "path", "detail", "mend"), rows)
