"""``check``: everything that can be said about labelled images without training on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lastlayer import _files
from lastlayer._codes import Problem
from lastlayer.pipeline.observer import SILENT_OBSERVER, Observer
from lastlayer.pipeline.settings import Execution, TrainSettings


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
    """

    source: str
    layout: str
    description: str
    n: int
    readable: int
    classes: dict[str, int]
    alterations: dict[str, int]
    problems: tuple[Problem, ...]

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
        }

    def summary(self) -> str:
        """Two or three lines for a person."""
        lines = [f"{self.readable:,} of {self.n:,} images can be read"]
        if self.alterations:
            parts = [f"{kind} {count}" for kind, count in sorted(self.alterations.items())]
            lines.append(f"changed on reading: {', '.join(parts)}")
        codes = Counter(problem.code for problem in self.problems)
        if codes:
            lines.append(f"problems: {', '.join(sorted(codes))}   (`lastlayer explain-code CODE` tells more)")
        else:
            lines.append("no problem found")
        return "\n".join(lines)


def problem_to_dict(problem: Problem) -> dict[str, Any]:
    """Plain values of a problem for JSON; file names in their printable form."""
    return {
        "code": problem.code,
        "message": problem.message,
        "files": [_files.display_name(name) for name in problem.files],
        "details": list(problem.details),
        "mend": problem.mend,
    }


def run_check(
    settings: TrainSettings,
    execution: Execution | None = None,
    observer: Observer = SILENT_OBSERVER,
    arrays: Any = None,
) -> Findings:
    """Open, decode and split the data as ``train`` would, and report; nothing is written but the cache."""
    from lastlayer.pipeline.training import Clock, open_cache, prepare

    execution = execution or Execution()
    prepared = prepare(settings, execution, observer, open_cache(execution), Clock(), arrays, tell_plan=False)
    dataset, decoded = prepared.dataset, prepared.decoded
    labels = dataset.labels[decoded.readable]
    return Findings(
        source=dataset.source,
        layout=dataset.layout,
        description=dataset.describe(),
        n=len(dataset),
        readable=int(decoded.readable.sum()),
        classes={name: int((labels == k).sum()) for k, name in enumerate(dataset.class_names)},
        alterations={kind: len(rows) for kind, rows in sorted(decoded.alterations.items())},
        problems=prepared.problems,
    )


def write_fix_list(path: Path, problems: Sequence[Problem]) -> None:
    """CSV ``code,path,detail,mend`` with one row per file of each problem."""
    rows = []
    for problem in problems:
        details = problem.details or ("",) * len(problem.files)
        rows += [(problem.code, name, detail, problem.mend) for name, detail in zip(problem.files, details)]
    _files.write_csv(path, ("code", "path", "detail", "mend"), rows)
