"""Runs compared on the same images, as one page: who is ahead, whether it is noise, and where the answers differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, final

from lastlayer.evaluation.intervals import Proportion
from lastlayer.report.render import MAX_BYTES, page_parts
from lastlayer.report.thumbnails import Pixmap


@final
@dataclass(frozen=True)
class ComparedRun:
    """One run: its name, right answers, score as text, and which look at the split it was."""

    name: str
    right: Proportion
    score: str
    look: int | None = None


class Differs(NamedTuple):
    """An image that one run answers right and the other wrong."""

    name: str
    label: str
    first_said: str
    second_said: str
    picture: Pixmap | None


class ClassPair(NamedTuple):
    """Recall of one class in both runs."""

    name: str
    first: Proportion
    second: Proportion


@final
@dataclass(frozen=True)
class ComparedPair:
    """Two runs on the same images.

    Attributes
    ----------
    first, second : str
    difference, test, p_value, p_holm, verdict : str
        As text.
    better : str
        The run that is ahead beyond noise, or empty.
    both, only_first, only_second, neither : int
        Images right in both, in one alone, in none.
    only : pair of sequences of Differs
        The images that the first, and the second, alone has right; capped.
    classes : sequence of ClassPair
    """

    first: str
    second: str
    difference: str
    test: str
    p_value: str
    p_holm: str
    verdict: str
    better: str
    both: int
    only_first: int
    only_second: int
    neither: int
    only: tuple[Sequence[Differs], Sequence[Differs]] = ((), ())
    classes: Sequence[ClassPair] = ()


@final
@dataclass(frozen=True)
class ComparisonData:
    """Everything that a comparison page shows; `class_names` are those of the runs."""

    metric: str
    split: str
    n: int
    same_by: str
    created: str
    command: str
    runs: Sequence[ComparedRun]
    pairs: Sequence[ComparedPair]
    title: str = "comparison"
    class_names: Sequence[str] = ()


def render_comparison(data: ComparisonData, *, max_bytes: int = MAX_BYTES) -> str:
    """The page as one HTML document without any load; pictures are left out, the last first, to keep it small."""
    template, parts = page_parts("compare.html")
    pixmaps = [d.picture for pair in data.pairs for side in pair.only for d in side if d.picture is not None]
    keep, spare = len(pixmaps), max_bytes - sum(len(pixmap.uri) for pixmap in pixmaps)
    while True:
        while keep and spare < 0:
            keep -= 1
            spare += len(pixmaps[keep].uri)
        shown = {id(pixmap) for pixmap in pixmaps[:keep]}
        html: str = template.render(data=data, shown=_kept(shown), left_out=len(pixmaps) - keep, **parts)
        excess = len(html.encode("utf-8")) - max_bytes
        if excess <= 0 or not keep:
            return html
        spare = -excess


def _kept(shown: set[int]) -> Any:
    return lambda pixmap: pixmap if pixmap is not None and id(pixmap) in shown else None
