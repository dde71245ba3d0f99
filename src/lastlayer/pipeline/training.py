"""``train``: labelled images in, a run folder out."""

from __future__ import annotations

import dataclasses
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lastlayer import __version__
from lastlayer._arrays import InputError, IntArray
from lastlayer._codes import Problem
from lastlayer.data.checks import check_dataset
from lastlayer.data.dataset import TEST, TRAIN, VAL, Dataset
from lastlayer.data.decoding import Decoded
from lastlayer.data.sources import open_dataset
from lastlayer.data.splits import Split
from lastlayer.evaluation.baselines import Baseline, unseparated_problems
from lastlayer.linear import scores
from lastlayer.model import Model
from lastlayer.pipeline.auto import AUTO, AutoChoice, candidates, choose_phi, sample_rows
from lastlayer.pipeline.features import Features, extract
from lastlayer.pipeline.imaging import FormatChoice, choose_format, decode, networks
from lastlayer.pipeline.learn import Examples, Learned, learn
from lastlayer.pipeline.mirrored import mirror_pairs, parted, tie
from lastlayer.pipeline.observer import SILENT_OBSERVER, Observer, PlanLine
from lastlayer.pipeline.planning import plan
from lastlayer.pipeline.run import Run, RunWriter
from lastlayer.pipeline.scoring import SideScores, baselines, look_at
from lastlayer.pipeline.settings import HEADS, Execution, TrainSettings
from lastlayer.pipeline.splitting import split_dataset
from lastlayer.pipeline.write_run import Outcome, write_outcome
from lastlayer.representations.base import Representation
from lastlayer.representations.cache import FeatureCache, default_cache_folder
from lastlayer.representations.onnx import Onnx
from lastlayer.representations.specs import base_names, parse_phi


@dataclass(frozen=True)
class Prepared:
    """Data, decoded and split: everything before φ, which is None where it is still to be chosen."""

    dataset: Dataset
    decoded: Decoded
    split: Split
    split_line: str
    choice: FormatChoice
    phi_text: str
    phi: Representation | None
    problems: tuple[Problem, ...]
    plan: tuple[PlanLine, ...]
    images_reused: bool


class StrictError(InputError):
    """``--strict`` was given and the data have problems."""


class Clock:
    """Seconds spent in each named stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Add the time since the last lap to `stage`."""
        now = time.perf_counter()
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + now - self._last, 3)
        self._last = now


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
    settings = absolute_paths(settings)
    with RunWriter(execution.runs, "train", execution.name, execution.overwrite) as writer:
        writer.log("start", version=__version__, command=execution.command)
        prepared = prepare(settings, execution, observer, cache, clock, arrays)
        rows = _rows(prepared)
        found: AutoChoice | None = None
        if prepared.phi is None:
            found = _choose(prepared, rows, settings, execution, cache, observer)
            writer.log("auto", **found.to_dict())
            clock.lap("auto")
            settings, prepared = _settled(found.phi, settings, prepared)
        features = found.features if found is not None else None
        if features is None:
            features = _extract(prepared.phi_text, prepared, rows, settings, execution, cache)
        clock.lap("features")
        _say_features(observer, features, prepared)
        examples = _examples(features, rows, prepared)
        learned = learn(examples, settings, execution.progress, None if found is None else found.chosen)
        clock.lap("fit")
        y, counts = examples.y, rows[1:]
        outcome = _assess(prepared, features, learned, y, counts, settings, execution, observer)
        clock.lap("evaluate")
        for problem in outcome.problems:
            if problem not in prepared.problems and problem.code not in execution.ignore:
                observer.problem(problem)
        write_outcome(writer, dataclasses.replace(outcome, auto=found.to_dict() if found else None), clock)
        writer.log("end", seconds_by_stage=clock.seconds)
        return Run(writer.finish(), interrupted=learned.interrupted)


def open_cache(execution: Execution) -> FeatureCache:
    """The feature cache that the execution asks for; off without one."""
    return FeatureCache((execution.cache or default_cache_folder()) if execution.use_cache else None)


def absolute_paths(settings: TrainSettings) -> TrainSettings:
    """Paths made absolute, so that the configuration works from any folder."""
    changes: dict[str, Any] = {}
    if settings.data and not settings.data.startswith("demo:"):
        changes["data"] = str(Path(settings.data).absolute())
    for name in ("labels", "split"):
        value = getattr(settings, name)
        if value:
            changes[name] = str(Path(value).absolute())
    return dataclasses.replace(settings, phi=absolute_phi(settings.phi), **changes)


def absolute_phi(phi: str) -> str:
    """The same representation with the paths of ONNX files made absolute."""
    if not phi or _is_auto(phi):
        return phi
    for network in networks(parse_phi(phi)):
        if isinstance(network, Onnx):
            path = str(Path(network.file).absolute()).replace("\\", "\\\\")
            phi = re.sub(rf"(onnx:\s*){re.escape(network.file)}(?![\w./-])", rf"\g<1>{path}", phi)
    return phi


def _is_auto(phi: str) -> bool:
    return phi.strip().lower() == AUTO


def prepare(
    settings: TrainSettings,
    execution: Execution,
    observer: Observer,
    cache: FeatureCache,
    clock: Clock,
    arrays: Any = None,
    *,
    tell_plan: bool = True,
) -> Prepared:
    """Open, decode and split the data, telling the observer what was found and what will be done."""
    dataset = open_dataset(
        arrays if arrays is not None else settings.data,
        group_by=settings.group_by or None,
        labels_file=settings.labels or None,
    )
    observer.data(dataset.source, dataset.layout, dataset.describe())
    clock.lap("open")
    # a fault in --phi is told before minutes of decoding
    auto = _is_auto(settings.phi)
    phi = parse_phi(settings.phi) if settings.phi and not auto else None
    choice = choose_format(dataset, settings, ("hog",) if phi is None else base_names(settings.phi), phi)
    phi_text = settings.phi or ("hog" if choice.format.channels == 1 else "hog+colour")
    if phi is None and not auto:
        phi = parse_phi(phi_text)
    decoded, reused = decode(dataset, choice.format, cache, execution)
    clock.lap("decode")
    flips = settings.fitted_views.flip or settings.scored_views.flip
    pairs = mirror_pairs(decoded) if flips else np.zeros((0, 2), np.int64)
    dataset = tie(dataset, pairs)
    split, split_line, split_problems = split_dataset(dataset, decoded, settings, execution)
    across = parted(dataset, split, pairs)
    problems = (*dataset.problems, *check_dataset(dataset, decoded, split), *split_problems, *across)
    shown = tuple(p for p in dict.fromkeys(problems) if p.code not in execution.ignore)
    for problem in shown:
        observer.problem(problem)
    if settings.strict and shown and tell_plan:
        raise StrictError(
            f"--strict: {len(shown)} problems in the data, the first: {shown[0].code} {shown[0].message}",
            "Mend them, mute a code with --ignore, or leave --strict out",
        )
    lines = plan(settings, choice, split_line, phi_text, phi)
    if tell_plan:
        observer.plan(lines)
    clock.lap("split")
    return Prepared(dataset, decoded, split, split_line, choice, phi_text, phi, shown, lines, reused)


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
) -> Outcome:
    """Score every side, compare with the baselines, count the look at the test split."""
    dataset, decoded = prepared.dataset, prepared.decoded
    model = _model(prepared, features, learned, settings)
    sides: list[SideScores] = []
    start = 0
    n_train = counts[0]
    for name, count in zip(("train", "val", "test"), counts):
        stop = start + count
        fit = learned.selected if name == "val" and learned.selected is not None else learned.final
        if count:
            z = scores(features.Z[start:stop], fit.W, fit.b)
            held_out = name == "test" or fit is learned.selected
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
    return Outcome(settings, execution, prepared, features, learned, model, tuple(sides), rivals, look, tuple(problems))


def _model(prepared: Prepared, features: Features, learned: Learned, settings: TrainSettings) -> Model:
    dataset, decoded = prepared.dataset, prepared.decoded
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
            "head": settings.head,
            "C": None if learned.C != learned.C or learned.C == float("inf") else learned.C,
            "l2": None if learned.l2 != learned.l2 else learned.l2,
            "selection": learned.selection,
            "seed": settings.seed,
            "data_sha256": dataset.subset(features.rows).content_hash(decoded.sha256[features.rows]),
        },
    )
