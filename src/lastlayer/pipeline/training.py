"""``train``: labelled images in, a run folder out."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lastlayer import __version__
from lastlayer._arrays import InputError, IntArray
from lastlayer._codes import Problem
from lastlayer.data.dataset import TEST, TRAIN, VAL
from lastlayer.evaluation.baselines import Baseline, unseparated_problems
from lastlayer.linear import scores
from lastlayer.model import Model
from lastlayer.pipeline.auto import AutoChoice, candidates, choose_phi, sample_rows
from lastlayer.pipeline.features import Features, extract
from lastlayer.pipeline.learn import Examples, Learned, learn
from lastlayer.pipeline.learning_curves import learning_curve
from lastlayer.pipeline.network_settings import resolved, with_augmentation
from lastlayer.pipeline.observer import SILENT_OBSERVER, Observer
from lastlayer.pipeline.planning import plan
from lastlayer.pipeline.preparing import Clock, Prepared, absolute_paths, open_cache, prepare
from lastlayer.pipeline.run import Run, RunWriter
from lastlayer.pipeline.scoring import SideScores, baselines, look_at
from lastlayer.pipeline.settings import HEADS, Execution, TrainSettings
from lastlayer.pipeline.suspects import LabelCheck, label_suspects
from lastlayer.pipeline.write_run import Outcome, write_outcome
from lastlayer.representations.cache import FeatureCache
from lastlayer.representations.network import network_term
from lastlayer.representations.specs import parse_phi

if TYPE_CHECKING:
    from lastlayer.evaluation.learning_curve import LearningCurve
    from lastlayer.pipeline.networks import NetworkRun


def run_training(
    settings: TrainSettings,
    execution: Execution | None = None,
    observer: Observer = SILENT_OBSERVER,
    arrays: Any = None,
) -> Run:
    """Train on labelled images and write a run folder.

    Parameters
    ----------
    settings : TrainSettings
    execution : Execution, optional
    observer : Observer, optional
    arrays : pair (images, labels), optional
        Used instead of ``settings.data``.

    Returns
    -------
    Run

    Raises
    ------
    InputError
        Naming what is wrong with the data or the settings.
    """
    execution = execution or Execution()
    clock = Clock()
    cache = open_cache(execution)
    settings = _ready(absolute_paths(settings), execution)
    with RunWriter(execution.runs, "train", execution.name, execution.overwrite) as writer:
        writer.log("start", version=__version__, command=execution.command)
        prepared = prepare(settings, execution, observer, cache, clock, arrays)
        settings = with_augmentation(settings, prepared.choice.format.channels)
        rows = _rows(prepared)
        found: AutoChoice | None = None
        if prepared.phi is None:
            found = _choose(prepared, rows, settings, execution, cache, observer)
            writer.log("auto", **found.to_dict())
            clock.lap("auto")
            settings, prepared = _settled(found.phi, settings, prepared)
        network: NetworkRun | None = None
        curve: LearningCurve | None = None
        doubts: LabelCheck | None = None  # not of a network: its features saw the labels
        if settings.trains_network:
            from lastlayer.pipeline.networks import run_network

            network = run_network(prepared, rows[0], rows[1:], settings, execution, observer, cache, writer, clock)
            features, learned = network.features, network.learned
        else:
            known = found.features if found is not None else None
            features = known or _extract(prepared.phi_text, prepared, rows, settings, execution, cache)
            clock.lap("features")
            _say_features(observer, features, prepared)
            examples = _examples(features, rows, prepared)
            learned = learn(examples, settings, execution.progress, None if found is None else found.chosen)
            clock.lap("fit")
            if settings.learning_curve and not learned.interrupted:
                curve = learning_curve(examples, learned.C, settings, execution.progress)
                clock.lap("learning curve")
            doubts = label_suspects(examples, learned, features.rows, prepared, settings, execution)
            clock.lap("labels")
        y = prepared.dataset.labels[rows[0]]
        outcome = _assess(prepared, features, learned, y, rows[1:], settings, execution, observer, network)
        clock.lap("evaluate")
        if doubts is not None:
            observer.note("labels", doubts.line())
            outcome = dataclasses.replace(outcome, doubts=doubts, problems=(*outcome.problems, *doubts.problems))
        for problem in outcome.problems:
            if problem not in prepared.problems and problem.code not in execution.ignore:
                observer.problem(problem)
        outcome = dataclasses.replace(outcome, auto=found.to_dict() if found else None, curve=curve)
        write_outcome(writer, outcome, clock)
        writer.log("end", seconds_by_stage=clock.seconds)
        return Run(writer.finish(), interrupted=learned.interrupted)


_Rows = tuple[IntArray, int, int, int]


def _extract(
    phi: str, prepared: Prepared, rows: _Rows, settings: TrainSettings, execution: Execution, cache: FeatureCache
) -> Features:
    """Features of all rows for φ as text."""
    order, n_train, n_val, _ = rows
    return extract(
        parse_phi(phi),
        prepared.decoded.pixels,
        prepared.decoded.sha256,
        order,
        n_train,
        standardise=settings.standardise,
        seed=settings.seed,
        cache=cache,
        progress=execution.progress,
        n_val=n_val,
        augment=settings.fitted_views,
        views=settings.scored_views,
    )


def _examples(features: Features, rows: _Rows, prepared: Prepared) -> Examples:
    order, n_train, n_val, _ = rows
    y = prepared.dataset.labels[order]
    K = len(prepared.dataset.class_names)
    return Examples(features.Z, y, features.twins, features.n_views, n_train, n_val, K, features.unit)


def _choose(
    prepared: Prepared,
    rows: _Rows,
    settings: TrainSettings,
    execution: Execution,
    cache: FeatureCache,
    observer: Observer,
) -> AutoChoice:
    """Try representations and tell what came of each."""
    order, n_train, n_val, _ = rows
    if not n_val:
        raise InputError("--phi auto needs validation images to choose on", "Give --val 0.15, or name a representation")
    form = prepared.choice.format
    found = choose_phi(
        candidates((form.height, form.width, form.channels)),
        np.asarray(prepared.decoded.pixels[order[sample_rows(n_train)]]),
        n_train,
        lambda phi: _extract(phi, prepared, rows, settings, execution, cache),
        lambda features: _examples(features, rows, prepared),
        settings,
        execution.progress,
    )
    for number, line in enumerate(found.table()):
        observer.note("auto" if number == 0 else "", line)
    return found


def _settled(phi: str, settings: TrainSettings, prepared: Prepared) -> tuple[TrainSettings, Prepared]:
    """Settings and plan as if φ had been given, so that the configuration runs the same again."""
    settings = dataclasses.replace(settings, phi=phi, size=settings.size or prepared.choice.size)
    parsed = parse_phi(phi)
    lines = plan(settings, prepared.choice, prepared.split_line, f"{phi} (chosen by auto)", parsed)
    return settings, dataclasses.replace(prepared, phi_text=phi, phi=parsed, plan=lines)


def _rows(prepared: Prepared) -> _Rows:
    """Row numbers of training, validation and test images, one after another, and how many of each."""
    side = prepared.split.side
    usable = prepared.decoded.readable & (prepared.dataset.labels >= 0)
    parts = [np.flatnonzero((side == code) & usable) for code in (TRAIN, VAL, TEST)]
    if not len(parts[0]):
        raise InputError(
            f"no readable, labelled training image in {prepared.dataset.source}",
            "Run `lastlayer check` on it to see what was found",
            "LL003" if not prepared.decoded.readable.any() else "LL001",
        )
    n_train, n_val, n_test = (len(part) for part in parts)
    return np.concatenate(parts), n_train, n_val, n_test


def _say_features(observer: Observer, features: Features, prepared: Prepared) -> None:
    images = "images from the cache" if prepared.images_reused else "images decoded"
    source = "features from the cache" if features.reused else "features computed"
    observer.note("features", f"{features.Z.shape[0]} × {features.Z.shape[1]}  ({images}, {source})")


def _assess(
    prepared: Prepared,
    features: Features,
    learned: Learned,
    y: IntArray,
    counts: tuple[int, int, int],
    settings: TrainSettings,
    execution: Execution,
    observer: Observer,
    network: NetworkRun | None = None,
) -> Outcome:
    """Score every side, compare with the baselines, count the look at the test split."""
    dataset, decoded = prepared.dataset, prepared.decoded
    model = _model(prepared, features, learned, settings, network)
    sides: list[SideScores] = []
    start = 0
    n_train = counts[0]
    for name, count in zip(("train", "val", "test"), counts):
        stop = start + count
        fit = learned.selected if name == "val" and learned.selected is not None else learned.final
        if count:
            z = scores(features.Z[start:stop], fit.W, fit.b)
            held_out = name == "test" or (name == "val" and fit is learned.selected)  # never rows that were fitted
            rows = features.rows[start:stop]
            sides.append(SideScores(name, rows, y[start:stop], z, model.probabilities(z), held_out))
        start = stop
    problems = list(prepared.problems) + list(learned.problems)
    quoted = sides[-1]
    rivals: tuple[Baseline, ...] = ()
    look = None
    if quoted.side == "train":
        problems.append(
            Problem("LL023", "there is no validation or test image: the score is of images the model has seen")
        )
    else:
        rivals = baselines(
            decoded.pixels,
            (features.rows[:n_train], y[:n_train]),
            quoted,
            dataset.class_names,
            settings.seed,
            execution.progress,
        )
        if network is not None and network.rival is not None:
            rivals = (*rivals, network.rival.baseline(quoted.side))
        problems += unseparated_problems(quoted.correct, rivals, quoted.side)
    if quoted.side == "test":
        split_hash = dataset.subset(quoted.rows).content_hash(decoded.sha256[quoted.rows])
        look, notes = look_at(execution.runs, model.digest, split_hash)
        for note in notes:
            observer.note("ledger", note)
        if look > 1:
            problems.append(Problem("LL020", f"this is look #{look} at this test split"))
    elif quoted.side == "val":
        problems.append(Problem("LL023", "there is no test split: the score is of the images that chose C"))
    outcome = Outcome(
        settings, execution, prepared, features, learned, model, tuple(sides), rivals, look, tuple(problems)
    )
    if network is None:
        return outcome
    network.say(outcome.sides, observer)
    return dataclasses.replace(outcome, network=network.to_dict(outcome.sides), filters=network.filters)


def _ready(settings: TrainSettings, execution: Execution) -> TrainSettings:
    """Every choice of a network's preset written out; a network's file by its absolute path."""
    if execution.resume and not settings.trains_network:
        raise InputError("--resume goes on with a network, and none is trained", "Leave --resume out")
    file = settings.phi and not settings.trains_network and network_term(settings.phi)
    if file:
        return dataclasses.replace(settings, phi=f"network:{Path(file).expanduser().absolute()}")
    return resolved(settings)


def _model(
    prepared: Prepared, features: Features, learned: Learned, settings: TrainSettings, network: NetworkRun | None
) -> Model:
    dataset, decoded = prepared.dataset, prepared.decoded
    # of a network: what its last layer is, and that no validation row was fitted
    more = {} if network is None else {"network": network.provenance(), "fitted_on": "train"}
    return Model(
        class_names=dataset.class_names,
        image_format=prepared.choice.format,
        representation=features.representation,
        weights=learned.final.W,
        bias=learned.final.b,
        loss=HEADS[settings.head].loss,
        temperature=learned.temperature,
        provenance={
            "lastlayer": __version__,
            "phi": prepared.phi_text,
            "head": settings.head if network is None or network.last.refitted else "the network's own",
            "C": None if learned.C != learned.C or learned.C == float("inf") else learned.C,
            "l2": None if learned.l2 != learned.l2 else learned.l2,
            "selection": learned.selection,
            "seed": settings.seed,
            "data_sha256": dataset.subset(features.rows).content_hash(decoded.sha256[features.rows]),
            **more,
        },
    )
