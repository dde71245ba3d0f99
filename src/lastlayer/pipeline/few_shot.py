"""``--shots k``: probes that see k rows of every class and nothing else, drawn again and again.

Draws are nested: the rows of 2 shots are among those of 4. C is chosen by folds over the k rows themselves; with one
row a class nothing can be chosen, and C keeps its default. No validation rows exist beyond the shots (LL034).
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass

import numpy as np

from lastlayer._arrays import InputError, IntArray
from lastlayer._codes import Problem
from lastlayer._progress import Progress
from lastlayer.evaluation.intervals import Proportion
from lastlayer.pipeline.probe_data import ProbeData, ProbeSide
from lastlayer.pipeline.probe_fit import Probe, fit_probe, part_of, side_scores
from lastlayer.pipeline.probe_settings import PUBLISHED, ProbeSettings
from lastlayer.pipeline.scoring import SideScores

DEFAULT_C = 1.0


@dataclass(frozen=True)
class ShotRow:
    """One number of shots: the scores of its draws.

    Attributes
    ----------
    shots : int
    scores : tuple of Proportion
        One a draw.
    Cs : tuple of float
    chosen_on : str
        What C was chosen on.
    """

    shots: int
    scores: tuple[Proportion, ...]
    Cs: tuple[float, ...]
    chosen_on: str

    @property
    def mean(self) -> float:
        """Mean accuracy over the draws."""
        return float(np.mean([score.value for score in self.scores]))

    @property
    def sd(self) -> float:
        """Standard deviation (n - 1) over the draws; NaN for a single one."""
        values = [score.value for score in self.scores]
        return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


@dataclass(frozen=True, eq=False)
class FewShot:
    """All draws.

    Attributes
    ----------
    rows : tuple of ShotRow
    scored_on : str
        Which rows the scores are of.
    kept : Probe
        The first draw of the most shots.
    kept_scores : SideScores
    kept_names : list of str
        Of the rows scored.
    digest : str
        Of all probes together, for the ledger of looks.
    problems : tuple of Problem
    interrupted : bool
        Whether Ctrl-C ended the draws; complete draws are kept.
    """

    rows: tuple[ShotRow, ...]
    scored_on: str
    kept: Probe
    kept_scores: SideScores
    kept_names: list[str]
    digest: str
    problems: tuple[Problem, ...]
    interrupted: bool


def few_shot(data: ProbeData, settings: ProbeSettings, threads: int | None, progress: Progress) -> FewShot:
    """Fit and score `settings.repeats` draws of every number of shots.

    Without test rows a draw is scored on the rows that it did not draw for its most shots, nor any of their groups.

    Raises
    ------
    InputError
        When a class has fewer rows than shots (LL009).
    """
    _check_counts(data, settings)
    found: dict[int, list[tuple[Proportion, float]]] = {k: [] for k in settings.shots}
    digest = hashlib.sha256()
    kept: tuple[Probe, SideScores, list[str]] | None = None
    interrupted = False
    with progress.task("shots", settings.repeats * len(settings.shots)) as task:
        try:
            for repeat in range(settings.repeats):
                drawn = draw(data.train.y, max(settings.shots), (settings.seed, repeat))
                asked = data.test or _rest(data, drawn)
                results = []
                for k in settings.shots:
                    probe = fit_probe(_few(data, drawn[:, :k], asked), _for(settings, k), threads)
                    side = side_scores("test" if data.test is not None else "rest", probe.head, asked)
                    results.append((Proportion(int(side.correct.sum()), len(side.labels)), probe.C))
                    digest.update(probe.head.digest.encode())
                    if repeat == 0:
                        kept = probe, side, asked.rows.row_names()
                    task.advance(1, f"{k} shots: {results[-1][0].percent()}")
                for k, result in zip(settings.shots, results):
                    found[k].append(result)
        except KeyboardInterrupt:
            if kept is None or not found[settings.shots[0]]:
                raise
            interrupted = True
    assert kept is not None
    rows = tuple(
        ShotRow(k, tuple(p for p, _ in found[k]), tuple(C for _, C in found[k]), _chosen_on(settings, k))
        for k in settings.shots
    )
    budget = f"{settings.shots[0]}" if len(settings.shots) == 1 else f"{settings.shots[0]} to {settings.shots[-1]}"
    return FewShot(
        rows,
        "the test rows" if data.test is not None else "the rows not drawn",
        *kept,
        digest.hexdigest(),
        (Problem("LL034", f"{budget} rows a class and no validation rows beyond them"), *kept[0].problems),
        interrupted,
    )


def draw(y: IntArray, most: int, seed: tuple[int, int]) -> IntArray:
    """Rows of every class that has any, in random order: (classes, most)."""
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(np.flatnonzero(y == k))[:most] for k in np.unique(y).tolist()]
    return np.stack(rows)


def _check_counts(data: ProbeData, settings: ProbeSettings) -> None:
    counts = np.bincount(data.train.y, minlength=len(data.class_names))
    spare = 0 if data.test is not None else 1
    small = np.flatnonzero((counts > 0) & (counts < max(settings.shots) + spare))
    if len(small):
        names = ", ".join(f"{data.class_names[k]} ({counts[k]})" for k in small[:5].tolist())
        more = f" and {len(small) - 5} more" if len(small) > 5 else ""
        raise InputError(
            f"--shots {max(settings.shots)}: too few rows of {names}{more}",
            "Ask for fewer shots" + (", or give --test: without it rows must be left to score" if spare else ""),
            "LL009",
        )


def _few(data: ProbeData, drawn: IntArray, asked: ProbeSide) -> ProbeData:
    rows = np.sort(drawn.ravel())
    groups = None if data.groups is None else data.groups[rows]
    return dataclasses.replace(data, train=part_of(data.train, rows), val=None, test=asked, groups=groups)


def _rest(data: ProbeData, drawn: IntArray) -> ProbeSide:
    """The rows that are neither drawn nor of a drawn group."""
    rest = np.ones(len(data.train), dtype=bool)
    rest[drawn.ravel()] = False
    if data.groups is not None:
        rest &= ~np.isin(data.groups, data.groups[drawn.ravel()])
    if not rest.any():
        raise InputError("the groups of the shots hold all rows: none is left to score", "Give --test, or fewer shots")
    return part_of(data.train, np.flatnonzero(rest))


def _for(settings: ProbeSettings, k: int) -> ProbeSettings:
    """Settings of one probe: folds over the shots, the protocol's own way where it is a published one."""
    standardise = "yes" if settings.standardised else "no"
    changes = {"shots": (), "standardise": standardise}
    if k == 1:
        C = settings.C if len(settings.C) == 1 else (DEFAULT_C,)
        return dataclasses.replace(settings, protocol="cv", C=C, **changes)  # type: ignore[arg-type]
    if settings.protocol in PUBLISHED:
        return dataclasses.replace(settings, **changes)  # type: ignore[arg-type]
    return dataclasses.replace(settings, protocol="cv", cv=min(settings.cv, k), **changes)  # type: ignore[arg-type]


def _chosen_on(settings: ProbeSettings, k: int) -> str:
    if len(settings.C) == 1:
        return f"none: C = {settings.C[0]:g} given"
    if k == 1:
        return "none: C fixed at its default (LL034: no hidden validation set)"
    how = f"held out by {settings.protocol}" if settings.protocol in PUBLISHED else f"{min(settings.cv, k)} folds"
    return f"from the same {k} per class, {how} (LL034)"
