"""Which image is on which side: given by the data, reused from an earlier run, or drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lastlayer._arrays import InputError
from lastlayer._codes import Problem
from lastlayer.data.dataset import Dataset
from lastlayer.data.decoding import Decoded
from lastlayer.data.splits import Split, make_split, read_split
from lastlayer.pipeline import toml
from lastlayer.pipeline.settings import Execution, TrainSettings

if TYPE_CHECKING:
    from lastlayer.data.near_duplicates import NearDuplicates

# settings that must agree before an earlier run's split is taken up again without being asked for
_SAME = ("data", "seed", "val", "test", "group_by")


def split_dataset(
    dataset: Dataset,
    decoded: Decoded,
    settings: TrainSettings,
    execution: Execution,
    near: NearDuplicates | None = None,
) -> tuple[Split, str, tuple[Problem, ...]]:
    """Assign sides, and say in one line where they come from.

    A file keeps its side when images are added: the newest run in the same runs folder with the same data,
    seed, shares and groups lends its ``split.csv``; `settings.split` names one explicitly. Near duplicates stay on one
    side like groups.
    """
    from lastlayer.data.near_groups import merge_groups

    groups, tied = dataset.groups, "groups"
    if near is not None and (near.group >= 0).any():
        tied = "near duplicates" if groups is None else "groups and near duplicates"
        groups = merge_groups(groups, near.group)
    previous: Mapping[str, int] | None = None
    origin = ""
    path = Path(settings.split) if settings.split else earlier_split(settings, execution.runs)
    if path is not None:
        previous = read_split(path)
        origin = f" ({path})"
    split, problems = make_split(
        dataset.labels,
        decoded.sha256,
        given=dataset.given,
        groups=groups,
        readable=decoded.readable,
        fractions=(1.0 - settings.val - settings.test, settings.val, settings.test),
        seed=settings.seed,
        previous=previous,
        names=dataset.names,
        tied=tied,
    )
    return split, split.how + origin, problems


def earlier_split(settings: TrainSettings, runs: Path) -> Path | None:
    """The ``split.csv`` of the newest run that was asked for the same split of the same data."""
    if not settings.data:  # arrays in memory have no name by which to know them again
        return None
    found: list[tuple[float, Path]] = []
    for config in runs.glob("*/config.toml"):
        split = config.parent / "split.csv"
        if not split.is_file():
            continue
        try:
            asked = toml.load(config).get("train", {})
        except InputError:  # a run folder edited by hand is not a reason to fail a new run
            continue
        if all(_equal(asked.get(key), getattr(settings, key)) for key in _SAME):
            found.append((split.stat().st_mtime, split))
    return max(found)[1] if found else None


def _equal(a: object, b: object) -> bool:
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b):
        return True
    return a == b
