"""``probe``: a linear probe on embedding arrays, by a stated protocol; the test rows are scored and nothing else."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lastlayer import __version__
from lastlayer._arrays import IntArray
from lastlayer._codes import Problem
from lastlayer._progress import Progress
from lastlayer.evaluation.baselines import Baseline, majority, unseparated_problems
from lastlayer.evaluation.intervals import Proportion
from lastlayer.pipeline.few_shot import FewShot, few_shot
from lastlayer.pipeline.knn import knn_baseline
from lastlayer.pipeline.observer import SILENT_OBSERVER, Observer
from lastlayer.pipeline.probe_data import ProbeData, ProbeSide, content_hash, open_probe
from lastlayer.pipeline.probe_fit import (
    FINAL,
    NESTED,
    Probe,
    fit_probe,
    held_rows,
    nested_folds,
    nested_scores,
    part_of,
    side_scores,
)
from lastlayer.pipeline.probe_settings import ProbeSettings
from lastlayer.pipeline.run import Run, RunWriter
from lastlayer.pipeline.scoring import SideScores, look_at
from lastlayer.pipeline.settings import Execution
from lastlayer.pipeline.write_probe import ProbeOutcome, write_probe
from lastlayer.selection.fit import fit_linear


@dataclass(frozen=True, eq=False)
class Scored:
    """What was scored: the sides with the names of their rows (the last is the one to quote), and the baselines."""

    sides: tuple[SideScores, ...]
    names: tuple[list[str], ...]
    baselines: tuple[Baseline, ...]
    problems: tuple[Problem, ...]


def run_probe(
    settings: ProbeSettings,
    execution: Execution | None = None,
    observer: Observer = SILENT_OBSERVER,
    arrays: dict[str, Any] | None = None,
    threads: int | None = None,
) -> Run:
    """Fit and score a linear probe, and write ``runs/probe-NNN``.

    Parameters
    ----------
    settings : ProbeSettings
    execution : Execution, optional
    observer : Observer, optional
    arrays : dict, optional
        ``train``, ``val``, ``test``: pairs (X, y), and ``groups`` of the training rows, in place of the files of the
        settings.
    threads : int, optional
        Changes no bit.

    Returns
    -------
    Run
        Its folder holds ``metrics.json``, ``predictions.csv``, ``model.safetensors`` (a `ProbeHead`),
        ``config.toml``, ``log.jsonl`` and ``env.json``.

    Raises
    ------
    InputError
        Naming what is wrong with the embeddings or the settings.
    """
    execution = execution or Execution()
    clock, cpu = time.perf_counter(), time.process_time()
    settings = settings if arrays is not None else _absolute(settings)
    with RunWriter(execution.runs, "probe", execution.name, execution.overwrite) as writer:
        writer.log("start", version=__version__, command=execution.command)
        data = open_probe(settings, arrays)
        _introduce(data, execution, observer)
        shots: FewShot | None = None
        if settings.shots:
            shots = few_shot(data, settings, threads, execution.progress)
            probe, scored = shots.kept, _after_shots(shots, data)
            observer.note("probe", f"{_draws(settings)}    --shots --repeats --seed")
        else:
            probe = fit_probe(data, settings, threads, execution.progress)
            scored = _score(probe, data, settings, threads, execution.progress)
            observer.note("probe", f"{probe.how}    --protocol {settings.protocol}")
            for departure in probe.departures:
                observer.note("", departure)
        problems = [*scored.problems]
        look = _look(probe.head.digest if shots is None else shots.digest, data, execution, observer)
        if look is not None and look > 1:
            problems.append(Problem("LL020", f"this is look #{look} at these test rows"))
        for problem in problems:
            if problem.code not in execution.ignore:
                observer.problem(problem)
        outcome = ProbeOutcome(
            settings=settings,
            execution=execution,
            data=data,
            probe=probe,
            sides=scored.sides,
            names=scored.names,
            baselines=scored.baselines,
            shots=shots,
            look=look,
            problems=tuple(dict.fromkeys([*data.problems, *problems])),
            cpu_seconds=time.process_time() - cpu,
            seconds=time.perf_counter() - clock,
        )
        write_probe(writer, outcome)
        interrupted = probe.interrupted or (shots is not None and shots.interrupted)
        return Run(writer.finish(), interrupted=interrupted)


def _absolute(settings: ProbeSettings) -> ProbeSettings:
    """Paths made absolute, so that the configuration works from any folder."""
    names = ("embeddings", "labels", "val", "val_labels", "test", "test_labels")
    changes: dict[str, Any] = {n: str(Path(getattr(settings, n)).absolute()) for n in names if getattr(settings, n)}
    return dataclasses.replace(settings, **changes)


def _introduce(data: ProbeData, execution: Execution, observer: Observer) -> None:
    observer.note("data", data.describe())
    for note in data.notes:
        observer.note("", note)
    for problem in data.problems:
        if problem.code not in execution.ignore:
            observer.problem(problem)


def _draws(settings: ProbeSettings) -> str:
    scaled = ", columns standardised by the rows drawn" if settings.standardised else ""
    return f"{settings.repeats} nested draws of rows of every class, seed {settings.seed}{scaled}"


def _score(probe: Probe, data: ProbeData, settings: ProbeSettings, threads: int | None, progress: Progress) -> Scored:
    """Scores of rows that the fit did not see, with what needs no fit beside them."""
    problems = list(probe.problems)
    known = data.train
    if data.test is not None:
        asked = {"test": data.test}
        if data.val is not None and settings.protocol == "holdout":  # the published protocols refit on them
            asked = {"val": data.val, **asked}
        sides = [side_scores(name, probe.head, side) for name, side in asked.items()]
    elif settings.protocol == "cv":
        asked = {NESTED: data.train}
        sides = [nested_scores(data, settings, threads, progress)]
    else:
        known, apart = _chosen_on(data, settings)
        asked = {"val": apart}
        head = probe.head if settings.protocol == "holdout" else _before_refit(probe, known, data, threads)
        sides = [side_scores("val", head, apart)]
        if len(settings.C) != 1:
            mend = "Quote rows given with --test, or use --protocol cv, whose score is nested"
            problems.append(
                Problem("LL023", "there are no test rows: the score is of the rows that chose C", mend=mend)
            )
    quoted = sides[-1]
    rivals = (
        _majority(data, quoted),
        _neighbours(known, data, quoted, asked[quoted.side], settings, progress),
    )
    problems += unseparated_problems(quoted.correct, rivals, quoted.side)
    return Scored(tuple(sides), tuple(asked[side.side].rows.row_names() for side in sides), rivals, tuple(problems))


def _chosen_on(data: ProbeData, settings: ProbeSettings) -> tuple[ProbeSide, ProbeSide]:
    """The rows that were fitted while C was chosen, and those that chose it."""
    held = held_rows(data, settings)
    if held is None:
        assert data.val is not None
        return data.train, data.val
    return part_of(data.train, np.flatnonzero(~held)), part_of(data.train, np.flatnonzero(held))


def _before_refit(probe: Probe, fitted: ProbeSide, data: ProbeData, threads: int | None) -> Any:
    """The probe at the same C without the rows that chose it: the published protocols learn these as well."""
    scaling = probe.head.scaling
    total = len(data.train) + (0 if data.val is None else len(data.val))
    fit = fit_linear(
        fitted.X if scaling is None else scaling.apply(fitted.X),
        fitted.y,
        len(data.class_names),
        probe.head.loss,
        l2=probe.l2 * total / len(fitted),
        threads=threads,
        **FINAL,
    )
    return dataclasses.replace(probe.head, weights=fit.W, bias=fit.b)


def _majority(data: ProbeData, quoted: SideScores) -> Baseline:
    found = majority(data.train.y, quoted.labels, data.class_names)
    return dataclasses.replace(found, note=found.note.replace("training images", "training rows"))


def _neighbours(
    known: ProbeSide,
    data: ProbeData,
    quoted: SideScores,
    asked: ProbeSide,
    settings: ProbeSettings,
    progress: Progress,
) -> Baseline:
    """k-NN on the rows that are quoted, by the rows that were fitted; fold by fold for nested scores."""
    if quoted.side != NESTED:
        return knn_baseline(known.X, known.y, asked.X, asked.y, seed=settings.seed, progress=progress)
    rows: list[IntArray] = []
    found: list[Baseline] = []
    for fold in nested_folds(data, settings):
        train, test = part_of(known, fold.train), part_of(asked, fold.test)
        found.append(knn_baseline(train.X, train.y, test.X, test.y, seed=settings.seed, progress=progress))
        rows.append(fold.test[found[-1].rows])
    order = np.argsort(np.concatenate(rows))
    correct = np.concatenate([baseline.correct for baseline in found])[order]
    score = Proportion(int(correct.sum()), len(correct))
    return dataclasses.replace(
        found[0],
        accuracy=score,
        note=f"{found[0].note}; in each of {len(found)} folds",
        rows=np.concatenate(rows)[order],
        correct=correct,
    )


def _after_shots(shots: FewShot, data: ProbeData) -> Scored:
    """The draw that is kept as the run's model: the first one of the most shots."""
    most = _majority(data, shots.kept_scores)
    return Scored((shots.kept_scores,), (shots.kept_names,), (most,), shots.problems)


def _look(digest: str, data: ProbeData, execution: Execution, observer: Observer) -> int | None:
    """Count the look at the test rows; a table of few-shot means is one look."""
    if data.test is None:
        return None
    look, notes = look_at(execution.runs, digest, content_hash(data.test, data.class_names))
    for note in notes:
        observer.note("ledger", note)
    return look
