"""``evaluate``: a saved model scored on its own splits or on new labelled images."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path

import numpy as np

from lastlayer import __version__
from lastlayer._arrays import InputError, IntArray
from lastlayer._codes import Problem
from lastlayer.data.dataset import SPLIT_NAMES, Dataset
from lastlayer.data.decoding import Decoded
from lastlayer.data.sources import open_dataset
from lastlayer.data.splits import read_split
from lastlayer.evaluation.baselines import Baseline, majority
from lastlayer.model import Model
from lastlayer.pipeline.deciding import DecisionSettings, decisions
from lastlayer.pipeline.held_out import HeldOut, read_held_out
from lastlayer.pipeline.observer import SILENT_OBSERVER, Observer
from lastlayer.pipeline.predicting import open_model
from lastlayer.pipeline.run import Run, RunWriter, load
from lastlayer.pipeline.scoring import SideScores, groups_document, look_at, side_problems
from lastlayer.pipeline.settings import Execution
from lastlayer.pipeline.write_evaluation import Assessment, write_evaluation

_DIGEST = re.compile(r"[0-9a-f]{64}")


def run_evaluation(
    model: str | os.PathLike[str],
    data: str | None = None,
    split: str = "",
    execution: Execution | None = None,
    observer: Observer = SILENT_OBSERVER,
    *,
    by: str = "",
    settings: DecisionSettings | None = None,
) -> Run:
    """Score a saved model and write ``runs/evaluate-NNN``.

    Parameters
    ----------
    model : path
        Run folder, or model file (then `data` is needed).
    data : str, optional
        Labelled images; without it the data and the split of the run itself.
    split : {"", "train", "val", "test", "all"}
        Which rows. By default the test rows of the run; of new data the test rows where they are given,
        else all.
    by : str
        Column of the manifest, or pattern over file names: accuracy is given for each group as well.
    settings : DecisionSettings, optional
        What is asked of threshold and prediction sets.

    Raises
    ------
    InputError
        When no row can be scored, or the run's data have changed.
    """
    execution = execution or Execution()
    classifier = open_model(model)
    with RunWriter(execution.runs, "evaluate", execution.name, execution.overwrite) as writer:
        writer.log("start", version=__version__, command=execution.command)
        dataset, rows, name = _own_rows(model, split, by) if data is None else _new_rows(data, split, by)
        dataset = dataset.subset(rows)
        observer.data(dataset.source, dataset.layout, dataset.describe())
        observer.note("model", _one_line(classifier))
        dataset, problems = match_classes(dataset, classifier.class_names)
        decoded = dataset.images.read(
            np.arange(len(dataset)),
            classifier.image_format,
            workers=execution.workers,
            progress=execution.progress,
        )
        scored, more = score(classifier, dataset, decoded, name)
        problems += more
        side = "test" if name == "test" else "evaluate"
        split_hash = dataset.subset(scored.rows).content_hash(decoded.sha256[scored.rows])
        look: int | None = None
        notes: tuple[str, ...] = ()
        if side == "test" or data is not None:
            look, notes = look_at(execution.runs, classifier.digest, split_hash)
        if look is not None and look > 1:
            problems.append(Problem("LL020", f"this is look #{look} at these images"))
        rivals = (_majority_here(scored, classifier.class_names),)
        for problem in problems:
            if problem.code not in execution.ignore:
                observer.problem(problem)
        for note in notes:
            observer.note("ledger", note)
        # rows that took part in fitting or choosing would flatter every decision
        honest = data is not None or name == "test"
        held_out = _held_out(model, classifier) if honest else None
        decided = decisions(scored, held_out, settings or DecisionSettings())
        assessment = Assessment(
            scored,
            rivals,
            look,
            tuple(problems),
            decided,
            groups_document(by, dataset, scored) if by else None,
            held_out,
        )
        write_evaluation(writer, classifier, dataset, decoded, assessment, execution)
        return Run(writer.finish())


def _one_line(model: Model) -> str:
    come = model.provenance
    C = f", C = {come['C']:g}" if come.get("C") is not None else ""
    trained = f"{come.get('phi', model.representation.name)} + {come.get('head', model.loss)}{C}"
    return f"{trained}, {len(model.class_names)} classes, sha256 {model.digest[:12]}…"


def _majority_here(scored: SideScores, class_names: tuple[str, ...]) -> Baseline:
    """The most common class of the scored images themselves: the training labels are not in the model file."""
    found = majority(scored.labels, scored.labels, class_names)
    return dataclasses.replace(found, note="always answers the most common class of these images")


def _held_out(model: str | os.PathLike[str], classifier: Model) -> HeldOut | None:
    """Validation scores of the run that the model lies in, when that run is the model's own."""
    folder = Path(model)
    folder = folder.parent if folder.is_file() else folder
    if not (folder / "metrics.json").is_file() or Run(folder).metrics.get("model_digest") != classifier.digest:
        return None
    return read_held_out(folder, classifier)


def _own_rows(model: str | os.PathLike[str], split: str, by: str) -> tuple[Dataset, IntArray, str]:
    """The rows that the run's own ``split.csv`` puts on a side, checked against the files' names."""
    run = load(model)
    asked = run.config["train"]
    if not asked["data"]:
        raise InputError(f"{run.folder} was trained on arrays in memory", "Give the data: lastlayer evaluate RUN DATA")
    dataset = open_dataset(asked["data"], group_by=by or asked["group_by"] or None, labels_file=asked["labels"] or None)
    known = read_split(run.folder / "split.csv")
    name = split or "test"
    if name == "all":
        return dataset, np.arange(len(dataset)), name
    code = SPLIT_NAMES.index(name)
    rows = np.array([i for i, path in enumerate(dataset.names) if known.get(path) == code], dtype=np.int64)
    # the file names every row twice, by path and by digest; paths alone are counted
    expected = sum(side == code and not _DIGEST.fullmatch(key) for key, side in known.items())
    if not expected:
        raise InputError(f"{run.folder} has no {name} images", "Choose another --split, or give DATA")
    if len(rows) < expected:
        raise InputError(
            f"{expected - len(rows)} of {expected} {name} images of {run.folder} are no longer in {asked['data']}",
            "Put them back, or give DATA to score on other images",
        )
    return dataset, rows, name


def _new_rows(data: str, split: str, by: str) -> tuple[Dataset, IntArray, str]:
    dataset = open_dataset(data, group_by=by or None)
    sides = dataset.given
    wanted = split or ("test" if (sides == SPLIT_NAMES.index("test")).any() else "all")
    if wanted == "all":
        return dataset, np.arange(len(dataset)), "all"
    rows = np.flatnonzero(sides == SPLIT_NAMES.index(wanted))
    if not len(rows):
        raise InputError(f"{data} has no {wanted} images of its own", "Leave --split out to score all of them")
    return dataset, rows, wanted


def match_classes(dataset: Dataset, class_names: tuple[str, ...]) -> tuple[Dataset, list[Problem]]:
    """Relabel by class name, never by position; classes the model does not know lose their label (LL004)."""
    position = {name: k for k, name in enumerate(class_names)}
    translate = np.array([position.get(name, -1) for name in dataset.class_names] + [-1], dtype=np.int32)
    labels = translate[dataset.labels]
    unknown = [
        name for k, name in enumerate(dataset.class_names) if name not in position and (dataset.labels == k).any()
    ]
    problems = list(dataset.problems)
    if unknown:
        lost = int(((dataset.labels >= 0) & (labels < 0)).sum())
        problems.append(
            Problem(
                "LL004",
                f"{lost} images of classes that the model does not know are not scored",
                tuple(unknown),
            )
        )
    return dataclasses.replace(dataset, labels=labels, class_names=class_names), problems


def score(model: Model, dataset: Dataset, decoded: Decoded, name: str) -> tuple[SideScores, list[Problem]]:
    """Probabilities of every row that can be read and has a label the model knows."""
    problems = []
    if not decoded.readable.all():
        refused = sorted(decoded.refusals)
        problems.append(
            Problem(
                "LL003",
                f"{len(refused)} files cannot be read and are not scored",
                tuple(dataset.names[row] for row in refused),
                tuple(decoded.refusals[row][0] for row in refused),
            )
        )
    rows = np.flatnonzero(decoded.readable & (dataset.labels >= 0))
    if not len(rows):
        raise InputError(
            f"no image in {dataset.source} can be scored: none is readable with a class that the model knows",
            f"The model's classes are {', '.join(model.class_names[:20])}",
            "LL004",
        )
    z = model.scores(decoded.pixels[rows])
    scored = SideScores(name, rows, dataset.labels[rows], z, model.probabilities(z), held_out=name != "train")
    return scored, problems + list(side_problems(name, scored.labels, model.class_names))
