"""The probe itself: C by the protocol, the fit, and scores of rows it did not see."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from lastlayer import __version__
from lastlayer._arrays import Array, BoolArray, IntArray
from lastlayer._codes import Problem
from lastlayer._progress import SILENT, Progress
from lastlayer.data.embeddings import take
from lastlayer.evaluation.scaling import fit_temperature
from lastlayer.pipeline.learn import not_converged
from lastlayer.pipeline.probe_data import ProbeData, ProbeSide, content_hash
from lastlayer.pipeline.probe_head import ProbeHead, Scaling
from lastlayer.pipeline.probe_settings import ProbeSettings
from lastlayer.pipeline.scoring import SideScores
from lastlayer.selection.fit import LinearFit, fit_linear
from lastlayer.selection.folds import Fold, held_out, make_folds
from lastlayer.selection.path import PathPoint
from lastlayer.selection.protocol_sweep import SHARES
from lastlayer.selection.protocols import choose_by_protocol
from lastlayer.solvers.base import StopReason

NESTED = "nested cv"
FINAL: dict[str, Any] = {"tol": 1e-3, "gap": 1e-6, "max_iter": 1000}
"""How near the optimum the fit that is kept is: as in `selection.protocols`."""


@dataclass(frozen=True, eq=False)
class Probe:
    """A fitted probe and how it came about.

    Attributes
    ----------
    head : ProbeHead
    C, l2 : float
    how : str
        One line.
    departures : tuple of str
        In which respects this is not what the published code does.
    points : tuple of PathPoint
        Values of C tried.
    chosen : int
        Index in `points`; -1 where C was given.
    fit : LinearFit
    problems : tuple of Problem
    interrupted : bool
    """

    head: ProbeHead
    C: float
    l2: float
    how: str
    departures: tuple[str, ...]
    points: tuple[PathPoint, ...]
    chosen: int
    fit: LinearFit
    problems: tuple[Problem, ...]
    interrupted: bool


def held_rows(data: ProbeData, settings: ProbeSettings) -> BoolArray | None:
    """The training rows that the protocol will hold out to choose C, or None."""
    if settings.protocol == "cv" or data.val is not None or given_C(data, settings):
        return None
    share, stratified = SHARES[settings.protocol], settings.protocol != "dinov2"
    return held_out(data.train.y, share, groups=data.groups, seed=settings.seed, stratified=stratified)


def given_C(data: ProbeData, settings: ProbeSettings) -> bool:
    """Whether nothing is to be chosen nor held out: one C, and test rows or folds that score."""
    return len(settings.C) == 1 and (data.test is not None or settings.protocol == "cv")


def fit_probe(data: ProbeData, settings: ProbeSettings, threads: int | None, progress: Progress = SILENT) -> Probe:
    """Choose C by the protocol and fit; the columns' statistics are those of rows that are not held out."""
    X, y, K = data.train.X, data.train.y, len(data.class_names)
    held = held_rows(data, settings)
    scaling = None
    if settings.standardised:
        apart = held is not None and settings.protocol == "holdout"
        scaling = Scaling.of(X[~held] if apart and held is not None else X)
    Z = X if scaling is None else scaling.apply(X)
    if given_C(data, settings):
        C = settings.C[0]
        l2 = 1.0 / (C * len(y))
        fit = fit_linear(Z, y, K, settings.loss, l2=l2, threads=threads, progress=progress, **FINAL)
        head = _head(fit, scaling, 1.0, C, f"C = {C:g} given", data, settings)
        how = f"C = {C:g} given, nothing chosen; fitted on all {len(y):,} rows"
        stopped = fit.solution.stop_reason is StopReason.INTERRUPTED
        return Probe(head, C, l2, how, (), (), -1, fit, not_converged(fit), stopped)
    val = None
    if data.val is not None:
        val = data.val.X if scaling is None else scaling.apply(data.val.X)
    result = choose_by_protocol(
        settings.protocol,
        Z,
        y,
        K,
        Z_val=val,
        y_val=None if data.val is None else data.val.y,
        groups=data.groups,
        folds=settings.cv,
        seed=settings.seed,
        loss=settings.loss,
        Cs=settings.C or None,
        threads=threads,
        progress=progress,
    )
    problems = list(not_converged(result.fit))
    if result.at_edge:
        problems.append(Problem("LL041", f"best C = {result.C:g} is at the edge of its grid"))
    head = _head(result.fit, scaling, 1.0, result.C, result.how, data, settings)
    if settings.loss != "cross_entropy":
        head = dataclasses.replace(head, temperature=_temperature(head, result.out_of_fold, held, data))
    return Probe(
        head, result.C, result.l2, result.how, result.departures, result.points, result.best, result.fit,
        tuple(problems), result.interrupted,
    )  # fmt: skip


def _temperature(head: ProbeHead, out_of_fold: Array | None, held: BoolArray | None, data: ProbeData) -> float:
    """The temperature of scores that no probability model gave, from rows that were not fitted."""
    head = dataclasses.replace(head, normalize="")  # the rows are normalised already
    if out_of_fold is not None:
        return fit_temperature(out_of_fold, data.train.y)
    if data.val is not None:
        return fit_temperature(head.scores(data.val.X), data.val.y)
    assert held is not None
    return fit_temperature(head.scores(data.train.X[held]), data.train.y[held])


def _head(
    fit: LinearFit,
    scaling: Scaling | None,
    temperature: float,
    C: float,
    how: str,
    data: ProbeData,
    settings: ProbeSettings,
) -> ProbeHead:
    return ProbeHead(
        data.class_names,
        fit.W,
        fit.b,
        settings.normalize,
        scaling,
        settings.loss,
        temperature,
        {
            "lastlayer": __version__,
            "phi": "identity",
            "head": settings.head,
            "protocol": settings.protocol,
            "C": C,
            "selection": how,
            "seed": settings.seed,
            "data_sha256": content_hash(data.train, data.class_names),
        },
    )


def part_of(side: ProbeSide, rows: IntArray) -> ProbeSide:
    """Some rows of a side."""
    return ProbeSide(take(side.rows, rows), side.X[rows], side.y[rows])


def side_scores(name: str, head: ProbeHead, side: ProbeSide) -> SideScores:
    """Scores of a side, whose rows are normalised already."""
    z = dataclasses.replace(head, normalize="").scores(side.X)
    return SideScores(name, np.arange(len(side)), side.y, z.astype(np.float32), head.probabilities(z), held_out=True)


def nested_folds(data: ProbeData, settings: ProbeSettings) -> tuple[Fold, ...]:
    """The outer folds; the inner ones are drawn with another seed."""
    return make_folds(data.train.y, settings.cv, groups=data.groups, seed=settings.seed + 1)


def nested_scores(
    data: ProbeData, settings: ProbeSettings, threads: int | None, progress: Progress = SILENT
) -> SideScores:
    """Every row scored by a probe whose C was chosen, by folds, without it."""
    y = data.train.y
    z = np.zeros((len(y), len(data.class_names)), dtype=np.float32)
    p = np.zeros(z.shape)
    folds = nested_folds(data, settings)
    with progress.task("nested", len(folds)) as task:
        for fold in folds:
            inner = dataclasses.replace(
                data,
                train=part_of(data.train, fold.train),
                groups=None if data.groups is None else data.groups[fold.train],
                test=None,
            )
            probe = fit_probe(inner, settings, threads)
            scored = side_scores(NESTED, probe.head, part_of(data.train, fold.test))
            z[fold.test], p[fold.test] = scored.scores, scored.probabilities
            task.advance(1, f"C = {probe.C:g}")
    return SideScores(NESTED, np.arange(len(y)), y, z, p, held_out=True)
