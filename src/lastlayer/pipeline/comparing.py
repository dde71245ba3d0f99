"""``compare``: runs scored on the same images, two by two, with what noise alone would do."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from lastlayer._arrays import InputError
from lastlayer._files import display_name
from lastlayer.data.tables import read_table
from lastlayer.evaluation.bootstrap import confusion_intervals, mean_interval
from lastlayer.evaluation.comparison import Answered, MetricDifference, compare_answers, holm
from lastlayer.evaluation.intervals import Estimate, Proportion

SHOWN = 3  # names of images in an error


@dataclass(frozen=True, eq=False)
class ScoredRun:
    """The answers of one run on one split.

    Attributes
    ----------
    name : str
        Of the run folder.
    split : str
    rows : dict
        Image name to (label, answer, −ln p(label)).
    digests : dict
        Image name to SHA-256, where the run knows it.
    look : int or None
        Which look at the split it was.
    """

    name: str
    split: str
    rows: dict[str, tuple[str, str, float]]
    digests: dict[str, str] = field(repr=False)
    look: int | None = None


@dataclass(frozen=True, eq=False)
class Pair:
    """Two runs; `p_holm` is the p-value corrected for the number of pairs."""

    first: str
    second: str
    result: MetricDifference
    p_holm: float

    @property
    def separated(self) -> bool:
        """Whether the two differ beyond noise at the 5% level, all pairs taken together."""
        return self.p_holm < 0.05

    @property
    def better(self) -> str | None:
        """The run that is better beyond noise, or None."""
        return None if not self.separated else self.first if self.result.first_ahead else self.second

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "first": self.first,
            "second": self.second,
            **self.result.to_dict(),
            "p_holm": self.p_holm,
            "within_noise": not self.separated,
            "better": self.better,
        }


@dataclass(frozen=True, eq=False)
class Comparison:
    """Runs on the same images.

    Attributes
    ----------
    metric, split : str
    n : int
        Images.
    runs : tuple of (ScoredRun, Proportion, Estimate)
        The best first: its right answers, and the metric with its interval.
    pairs : tuple of Pair
        Every pair, or every run against the reference.
    same_by : str
        How it is known that the images are the same.
    reference : str
        Empty, or the run that the others were held against.
    """

    metric: str
    split: str
    n: int
    runs: tuple[tuple[ScoredRun, Proportion, Estimate], ...]
    pairs: tuple[Pair, ...]
    same_by: str
    reference: str = ""

    def pair(self, one: str, other: str) -> Pair | None:
        """The pair of these two runs, None where it was not compared."""
        return next((pair for pair in self.pairs if {pair.first, pair.second} == {one, other}), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "schema_version": 1,
            "verb": "compare",
            "metric": self.metric,
            "split": self.split,
            "n": self.n,
            "same_by": self.same_by,
            "reference": self.reference or None,
            "runs": [
                {"run": run.name, "look": run.look, "accuracy": right.to_dict(), self.metric: score.to_dict()}
                for run, right, score in self.runs
            ],
            "pairs": [pair.to_dict() for pair in self.pairs],
        }


def run_comparison(
    runs: Sequence[str | os.PathLike[str]], metric: str = "accuracy", split: str = "", reference: str = ""
) -> Comparison:
    """Compare runs that were scored on the same images.

    Every pair is tested, and p-values are corrected by Holm for the number of pairs: looking for the best of several
    runs makes one look better than the others by chance. With a `reference` named beforehand only the pairs with it are
    tested.

    Parameters
    ----------
    runs : sequence of paths
        Two or more run folders of ``train``, ``evaluate`` or ``probe``.
    metric : {"accuracy", "balanced_accuracy", "macro_f1", "log_loss"}
    split : str
        By default the split that every run quotes.
    reference : str
        Path or name of one of the runs.

    Raises
    ------
    InputError
        When a run cannot be read, or the runs were scored on different images: the difference is named.
    """
    if len(runs) < 2:
        raise InputError("one run alone cannot be compared", "Give two run folders or more")
    scored = _distinct([read_run(Path(run), split) for run in runs])
    same_by = _check_same(scored)
    names = sorted(scored[0].rows)
    words = {word for run in scored for row in run.rows.values() for word in row[:2]}
    classes = {name: k for k, name in enumerate(sorted(words))}
    answers = {run.name: _answered(run, names, classes) for run in scored}
    entries = [(run, *_score(answers[run.name], metric, len(classes))) for run in scored]
    entries.sort(key=lambda entry: entry[2].value if metric == "log_loss" else -entry[2].value)
    order = [entry[0].name for entry in entries]
    told = _reference(reference, scored) if reference else ""
    wanted = [(told, name) for name in order if name != told] if told else list(combinations(order, 2))
    results = [compare_answers(answers[a], answers[b], metric) for a, b in wanted]
    corrected = holm([result.p_value for result in results])
    pairs = tuple(Pair(a, b, result, p) for (a, b), result, p in zip(wanted, results, corrected))
    return Comparison(metric, scored[0].split, len(names), tuple(entries), pairs, same_by, told)


def read_run(folder: Path, split: str = "") -> ScoredRun:
    """Answers of a run on `split`, or on the split that it quotes.

    Raises
    ------
    InputError
        When `folder` is no scored run, or has no such rows.
    """
    where = display_name(str(folder))
    try:
        metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="ascii"))
        with (folder / "predictions.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
            table = list(csv.DictReader(stream))
    except FileNotFoundError as error:
        raise InputError(
            f"{where} holds no {Path(error.filename).name}",
            "Give run folders of `lastlayer train`, `evaluate` or `probe`",
        ) from None
    except (ValueError, NotADirectoryError) as error:
        raise InputError(f"{where} cannot be read as a run: {error}", "Score the model again") from None
    name = split or str(metrics.get("quote", ""))
    rows: dict[str, tuple[str, str, float]] = {}
    for row in table:
        if row.get("split") == name and row.get("label"):
            try:
                rows[row["path"]] = (row["label"], row["predicted"], float(row["loss"]))
            except (KeyError, ValueError, TypeError) as error:
                raise InputError(f"{where}/predictions.csv is damaged: {error}", "Score the model again") from None
    if not rows:
        there = ", ".join(sorted({row.get("split") or "" for row in table})) or "none"
        raise InputError(f"{where} has no labelled {name} rows", f"Its splits are {there}; give --split")
    return ScoredRun(folder.resolve().name, name, rows, _digests(folder / "split.csv"), metrics.get("look"))


def _digests(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    table = read_table(path)
    names, digests = table.find(["path"]), table.find(["sha256"])
    if names is None or digests is None:
        return {}
    pairs = zip(table.texts(names, strip=False), table.texts(digests))
    return {name: digest for name, digest in pairs if name and digest}


def _distinct(runs: list[ScoredRun]) -> list[ScoredRun]:
    """Runs under names of their own: folders of the same name are told apart by a number."""
    seen: dict[str, int] = {}
    out = []
    for run in runs:
        seen[run.name] = seen.get(run.name, 0) + 1
        name = run.name if seen[run.name] == 1 else f"{run.name} ({seen[run.name]})"
        out.append(ScoredRun(name, run.split, run.rows, run.digests, run.look))
    return out


def _check_same(runs: list[ScoredRun]) -> str:
    """Refuse runs on different images or labels, naming what differs; return how they are known to be the same."""
    first = runs[0]
    by_content = bool(first.digests)
    for other in runs[1:]:
        found = _differences(first, other)
        if found:
            raise InputError(
                f"{display_name(first.name)} and {display_name(other.name)} were not scored on the same images: "
                + "; ".join(found),
                "Score both on the same images: lastlayer evaluate RUN DATA",
            )
        by_content = by_content and all(name in first.digests and name in other.digests for name in first.rows)
    return "content (SHA-256) and label of every image" if by_content else "name and label of every image"


def _differences(first: ScoredRun, other: ScoredRun) -> list[str]:
    found = []
    for one, two in ((first, other), (other, first)):
        missing = [name for name in one.rows if name not in two.rows]
        if missing:
            found.append(f"{len(missing):,} of {len(one.rows):,} only in {display_name(one.name)} ({_some(missing)})")
    shared = [name for name in first.rows if name in other.rows]
    labels = [name for name in shared if first.rows[name][0] != other.rows[name][0]]
    if labels:
        found.append(f"{len(labels):,} with another label ({_some(labels)})")
    content = [
        name
        for name in shared
        if name in first.digests and name in other.digests and first.digests[name] != other.digests[name]
    ]
    if content:
        found.append(f"{len(content):,} of the same name but with another content ({_some(content)})")
    return found


def _some(names: list[str]) -> str:
    return ", ".join(display_name(name) for name in names[:SHOWN]) + (", …" if len(names) > SHOWN else "")


def _answered(run: ScoredRun, names: list[str], classes: dict[str, int]) -> Answered:
    rows = [run.rows[name] for name in names]
    return Answered(
        np.array([classes[row[0]] for row in rows]),
        np.array([classes[row[1]] for row in rows]),
        np.array([row[2] for row in rows]),
    )


def _score(answers: Answered, metric: str, n_classes: int) -> tuple[Proportion, Estimate]:
    right = Proportion(int(answers.correct.sum()), answers.labels.size)
    if metric == "accuracy":
        return right, Estimate(right.value, right.low, right.high, "Wilson")
    if metric == "log_loss":
        return right, mean_interval(answers.losses)
    cells = np.bincount(answers.labels * n_classes + answers.predicted, minlength=n_classes**2)
    balanced, f1 = confusion_intervals(cells.reshape(n_classes, n_classes))
    return right, balanced if metric == "balanced_accuracy" else f1


def _reference(asked: str, runs: list[ScoredRun]) -> str:
    name = Path(asked).resolve().name
    if name not in [run.name for run in runs]:
        raise InputError(f"--reference {asked} is none of the runs", f"They are {', '.join(run.name for run in runs)}")
    return name
