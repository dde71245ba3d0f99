"""The page of a comparison: its numbers, and the pictures that the runs' own reports kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lastlayer._files import display_name
from lastlayer.evaluation.intervals import Proportion
from lastlayer.pipeline.comparing import Comparison, Pair, ScoredRun
from lastlayer.pipeline.markdown import difference_text, metric_text, verdict
from lastlayer.pipeline.reporting import now
from lastlayer.report import (
    ClassPair,
    ComparedPair,
    ComparedRun,
    ComparisonData,
    Differs,
    render_comparison,
    unpack_report,
)
from lastlayer.report.stored import FILE
from lastlayer.report.thumbnails import Pixmap, shown_cells

MOST_SHOWN = 24
MOST_PAIRS = 10
"""Pairs whose images are shown; the numbers of all are."""


def comparison_html(comparison: Comparison, folders: Sequence[Path], command: str = "") -> str:
    """The comparison as one page; pictures are those that reports in `folders` kept."""
    pictures: dict[str, Pixmap] = {}
    for folder in folders:
        if (folder / FILE).is_file():
            pictures |= kept_pictures(folder / FILE)
    runs = {run.name: run for run, _, _ in comparison.runs}
    data = ComparisonData(
        metric=comparison.metric,
        split=comparison.split,
        n=comparison.n,
        same_by=comparison.same_by,
        created=now(),
        command=command,
        runs=tuple(
            ComparedRun(run.name, right, metric_text(comparison.metric, score), run.look)
            for run, right, score in comparison.runs
        ),
        pairs=tuple(
            _pair(comparison, pair, runs[pair.first], runs[pair.second], pictures if k < MOST_PAIRS else None)
            for k, pair in enumerate(comparison.pairs)
        ),
    )
    return render_comparison(data)


def kept_pictures(path: Path) -> dict[str, Pixmap]:
    """The pictures of mistakes, and of confusion cells, that a stored report has, by the name of the image."""
    data, encoded = unpack_report(path)
    cells = shown_cells(data)
    found: dict[str, Pixmap] = {}
    for key, pixmap in encoded:
        if key.kind == "mistake":
            found[data.mistakes[key.first].name] = pixmap
        elif key.kind == "cell":
            found[data.confusion_images[cells[key.first]][key.second][0]] = pixmap
    return found


def _pair(
    comparison: Comparison, pair: Pair, one: ScoredRun, two: ScoredRun, pictures: dict[str, Pixmap] | None
) -> ComparedPair:
    names = sorted(one.rows)
    labels = [one.rows[name][0] for name in names]
    right = np.array([[run.rows[name][1] == run.rows[name][0] for name in names] for run in (one, two)])
    alone = (right[0] & ~right[1], right[1] & ~right[0])
    counts = pair.result.pair
    shown = (
        ((), ()) if pictures is None else tuple(_differing(np.flatnonzero(a), names, one, two, pictures) for a in alone)
    )
    return ComparedPair(
        first=pair.first,
        second=pair.second,
        difference=difference_text(comparison.metric, pair.result.difference),
        test=pair.result.test,
        p_value=f"{pair.result.p_value:.2g}",
        p_holm=f"{pair.p_holm:.2g}",
        verdict=_capital(verdict(comparison, pair)),
        better=pair.better or "",
        both=int((right[0] & right[1]).sum()),
        only_first=counts.only_first,
        only_second=counts.only_second,
        neither=int((~right[0] & ~right[1]).sum()),
        only=(shown[0], shown[1]),
        classes=_classes(labels, right),
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:] if text.startswith("the ") else text


def _differing(
    rows: np.ndarray, names: list[str], one: ScoredRun, two: ScoredRun, pictures: dict[str, Pixmap]
) -> tuple[Differs, ...]:
    """Images that one run alone has right: those with a picture first, then the surest mistakes."""
    found = []
    for i in rows.tolist():
        name = names[i]
        label, first, loss_first = one.rows[name]
        _, second, loss_second = two.rows[name]
        shown = display_name(name)
        picture = pictures.get(shown)
        worst = max(loss_first, loss_second)
        found.append((picture is None, -worst, Differs(shown, label, first, second, picture)))
    found.sort(key=lambda entry: entry[:2])
    return tuple(entry[2] for entry in found[:MOST_SHOWN])


def _classes(labels: list[str], right: np.ndarray) -> tuple[ClassPair, ...]:
    """Recall of every class in both runs, the largest difference first."""
    names = np.array(labels)
    rows = []
    for name in sorted(set(labels)):
        here = names == name
        n = int(here.sum())
        rows.append(ClassPair(name, *(Proportion(int(side[here].sum()), n) for side in right)))
    rows.sort(key=lambda row: -abs(row.first.value - row.second.value))
    return tuple(rows)
