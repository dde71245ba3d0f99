"""``sweep``: representations and values of C compared by cross-validation; the test split is not touched.

φ is computed from every image that is not test. No φ learns from labels; what one learns from pixels, it learns from
all of these images. Columns are standardised by each fold's own training rows.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lastlayer import __version__
from lastlayer._arrays import InputError, IntArray
from lastlayer._codes import Problem as Coded
from lastlayer._progress import Progress
from lastlayer.data.dataset import TRAIN, VAL
from lastlayer.data.decoding import Decoded
from lastlayer.evaluation.learning_curve import LearningCurve
from lastlayer.pipeline.features import extract
from lastlayer.pipeline.imaging import FormatChoice, choose_format, decode
from lastlayer.pipeline.learning_curves import fold_curve
from lastlayer.pipeline.observer import SILENT_OBSERVER, Observer
from lastlayer.pipeline.preparing import Clock, Prepared, absolute_paths, absolute_phi, open_cache, prepare
from lastlayer.pipeline.run import RunWriter
from lastlayer.pipeline.settings import HEADS, Execution
from lastlayer.pipeline.sweep_choice import (
    Candidate,
    Nested,
    best_of,
    differences,
    nested,
)
from lastlayer.pipeline.sweep_folds import Problem, fold_table, out_of_fold
from lastlayer.pipeline.sweep_settings import SweepSettings
from lastlayer.pipeline.write_sweep import SweepOutcome, write_sweep
from lastlayer.representations.cache import FeatureCache
from lastlayer.representations.specs import base_names, parse_phi
from lastlayer.selection.folds import Fold, make_folds

CURVE_DRAWS = 2
"""Subsets of every size and fold behind a learning curve."""


@dataclass(frozen=True)
class Sweep:
    """A finished sweep on disk.

    Attributes
    ----------
    folder : Path
        Holds ``sweep.json``, ``best.toml`` (for ``lastlayer train --config``), ``split.csv``, ``report.html``,
        ``env.json`` and ``log.jsonl``.
    interrupted : bool
        Ctrl-C left something out.
    """

    folder: Path
    interrupted: bool = False

    @property
    def document(self) -> dict[str, Any]:
        """What ``sweep.json`` says."""
        content: dict[str, Any] = json.loads((self.folder / "sweep.json").read_text(encoding="ascii"))
        return content


@dataclass(frozen=True, eq=False)
class _Images:
    """What all φ share: the images, which of them are compared on, and their folds."""

    prepared: Prepared
    rows: IntArray
    y: IntArray
    units: IntArray | None
    n_test: int
    folds: tuple[tuple[Fold, ...], ...]


def run_sweep(
    settings: SweepSettings,
    execution: Execution | None = None,
    observer: Observer = SILENT_OBSERVER,
    arrays: Any = None,
    threads: int | None = None,
) -> Sweep:
    """Compare representations by cross-validation and write ``runs/sweep-NNN``.

    Parameters
    ----------
    settings : SweepSettings
    execution : Execution, optional
    observer : Observer, optional
    arrays : pair (images, labels), optional
        Used instead of the settings' data.
    threads : int, optional
        Changes no bit.

    Raises
    ------
    InputError
        Naming what is wrong with the data or the settings.
    """
    execution = execution or Execution()
    clock = Clock()
    cache = open_cache(execution)
    if arrays is None:
        phis = tuple(map(absolute_phi, settings.phis))
        settings = dataclasses.replace(settings, train=absolute_paths(settings.train), phis=phis)
    for phi in settings.phis:
        parse_phi(phi)
    with RunWriter(execution.runs, "sweep", execution.name, execution.overwrite) as writer:
        writer.log("start", version=__version__, command=execution.command)
        first = dataclasses.replace(settings.train, phi=settings.phis[0] if settings.phis else "pixels")
        prepared = prepare(first, execution, observer, cache, clock, arrays, tell_plan=False)
        images = _images(prepared, settings)
        phis = settings.phis or _usual(prepared.choice.format.channels)
        _introduce(images, settings, observer)
        outcome = _compare(images, phis, settings, execution, cache, clock, observer, threads)
        for problem in outcome.problems:
            if problem not in prepared.problems and problem.code not in execution.ignore:
                observer.problem(problem)
        write_sweep(writer, outcome, clock)
        writer.log("end", seconds_by_stage=clock.seconds)
        return Sweep(writer.finish(), outcome.interrupted)


def _usual(channels: int) -> tuple[str, ...]:
    return ("pixels", "hog") if channels == 1 else ("pixels", "hog", "hog+colour")


def _images(prepared: Prepared, settings: SweepSettings) -> _Images:
    """The images that are not test, with folds that keep duplicates and groups together."""
    side, labels = prepared.split.side, prepared.dataset.labels
    usable = prepared.decoded.readable & (labels >= 0)
    rows = np.flatnonzero(np.isin(side, (TRAIN, VAL)) & usable)
    y = labels[rows].astype(np.int64)
    counts = np.bincount(y, minlength=len(prepared.dataset.class_names))
    if np.count_nonzero(counts) < 2:
        raise InputError("a sweep needs images of at least two classes outside the test split")
    units = prepared.split.unit[rows].astype(np.int64)
    tied = len(np.unique(units)) < len(units)
    kept = units if tied else None
    small = [prepared.dataset.class_names[k] for k in np.flatnonzero((counts > 0) & (counts < settings.cv)).tolist()]
    if small:
        raise InputError(
            f"{settings.cv} folds, but fewer images of {', '.join(small[:5])}",
            f"Give --cv {max(2, int(counts[counts > 0].min()))}, or add images",
            "LL009",
        )
    seeds = range(settings.train.seed, settings.train.seed + settings.repeats)
    folds = tuple(make_folds(y, settings.cv, groups=kept, seed=seed) for seed in seeds)
    n_test = int(usable.sum()) - len(rows)
    return _Images(prepared, rows, y, kept, n_test, folds)


def _introduce(images: _Images, settings: SweepSettings, observer: Observer) -> None:
    together = ", duplicates and groups kept together" if images.units is not None else ", stratified"
    times = f" × {settings.repeats} repeats" if settings.repeats > 1 else ""
    observer.note(
        "sweep",
        f"test split ({images.n_test:,}) set aside and not touched · {len(images.rows):,} images · "
        f"{settings.cv} folds{times}{together}",
    )
    head = HEADS[settings.train.head]
    Cs = settings.train.C
    observer.note("", f"head {settings.train.head} ({head.title}), {len(Cs)} values of C {Cs[0]:g} … {Cs[-1]:g}")


def _compare(
    images: _Images,
    phis: Sequence[str],
    settings: SweepSettings,
    execution: Execution,
    cache: FeatureCache,
    clock: Clock,
    observer: Observer,
    threads: int | None,
) -> SweepOutcome:
    """Cross-validate every φ, then what was asked for beyond; Ctrl-C keeps what is complete."""
    progress = execution.progress
    candidates: list[Candidate] = []
    problems: list[tuple[str, Problem]] = []
    choices: list[FormatChoice] = []
    inner: Nested | None = None
    curve: LearningCurve | None = None
    interrupted = False
    steps = len(phis) * settings.cv * settings.repeats
    decoded = {images.prepared.choice.format: images.prepared.decoded}
    try:
        for phi in phis:
            problem, choice = _features(phi, images, settings, execution, cache, decoded)
            clock.lap("features")
            with progress.task(f"CV {phi}"[:24], steps // len(phis)) as task:
                tables = tuple(fold_table(problem, settings.train.C, folds, task, threads) for folds in images.folds)
            clock.lap("fit")
            candidates.append(Candidate(phi, problem.Z.shape[1], tables))
            problems.append((phi, problem))
            choices.append(choice)
        inner, curve = _beyond(images, problems, candidates, settings, progress)
    except KeyboardInterrupt:
        if not candidates:
            raise
        interrupted = True
    clock.lap("nested and curve")
    best = best_of(candidates)
    found = list(images.prepared.problems)
    if candidates[best].tables[0].at_edge:
        found.append(Coded("LL041", f"best C = {candidates[best].C:g} of {candidates[best].phi} is at its grid's edge"))
    if inner is None:
        mend = "Add --nested, or train with best.toml and quote its test row"
        found.append(Coded("LL023", "the winner's score is of the images that chose phi and C", mend=mend))
    winner = problems[best][1]
    return SweepOutcome(
        settings=settings,
        execution=execution,
        prepared=images.prepared,
        rows=images.rows,
        y=images.y,
        n_test=images.n_test,
        grouped=images.units is not None,
        candidates=tuple(candidates),
        choices=tuple(choices),
        best=best,
        differences=differences(candidates, best),
        nested=inner,
        curve=curve,
        scores=out_of_fold(winner, images.folds[0], candidates[best].C, progress),
        pixels=decoded[choices[best].format].pixels,
        problems=tuple(dict.fromkeys(found)),
        interrupted=interrupted,
    )


def _beyond(
    images: _Images,
    problems: list[tuple[str, Problem]],
    candidates: list[Candidate],
    settings: SweepSettings,
    progress: Progress,
) -> tuple[Nested | None, LearningCurve | None]:
    """The nested estimate and the learning curve, where they were asked for."""
    inner: Nested | None = None
    curve: LearningCurve | None = None
    seed = settings.train.seed
    folds = images.folds[0]
    if settings.learning_curve:
        best = best_of(candidates)
        with progress.task("curve", CURVE_DRAWS * len(folds)) as task:
            curve = fold_curve(problems[best][1], candidates[best].C, folds, seed, task, CURVE_DRAWS)
    if settings.nested:
        steps = len(images.folds) * len(folds) * len(problems) * settings.cv
        with progress.task("nested", steps) as task:
            inner = nested(problems, settings.train.C, images.folds, images.units, settings.cv, seed + 1000, task)
    return inner, curve


def _features(
    phi: str,
    images: _Images,
    settings: SweepSettings,
    execution: Execution,
    cache: FeatureCache,
    decoded: dict[Any, Decoded],
) -> tuple[Problem, FormatChoice]:
    """φ of the images that are not test, decoded as ``train --phi`` would."""
    dataset = images.prepared.dataset
    choice = choose_format(dataset, settings.train, base_names(phi), parse_phi(phi))
    if choice.format not in decoded:
        decoded[choice.format] = decode(dataset, choice.format, cache, execution)[0]
    here = decoded[choice.format]
    features = extract(
        parse_phi(phi),
        here.pixels,
        here.sha256,
        images.rows,
        len(images.rows),
        standardise=False,
        seed=settings.train.seed,
        cache=cache,
        progress=execution.progress,
    )
    head = HEADS[settings.train.head]
    problem = Problem(
        features.Z,
        images.y,
        len(dataset.class_names),
        head.loss,
        settings.train.class_weight,
        settings.train.standardise,
    )
    return problem, choice
