"""The verbs as functions: what the command line calls, and what a script or notebook calls.

>>> import lastlayer
>>> run = lastlayer.train("demo:digits", phi="pixels", C=0.01)      # doctest: +SKIP
>>> run.metrics["splits"]["test"]["accuracy"]["value"]              # doctest: +SKIP
0.97
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lastlayer.pipeline.run import Run, load
from lastlayer.pipeline.settings import Execution, TrainSettings, settings_from

if TYPE_CHECKING:
    from lastlayer.model import Model
    from lastlayer.pipeline.checking import Findings
    from lastlayer.pipeline.comparing import Comparison
    from lastlayer.pipeline.deciding import DecisionSettings
    from lastlayer.pipeline.predicting import Prediction
    from lastlayer.pipeline.suggesting import Suggestions
    from lastlayer.pipeline.sweeping import Sweep

__all__ = [
    "Execution",
    "Run",
    "TrainSettings",
    "check",
    "compare",
    "evaluate",
    "load",
    "predict",
    "probe",
    "suggest",
    "sweep",
    "train",
]


def _execution(
    runs: str | os.PathLike[str], name: str, overwrite: bool, workers: int | None, cache: bool, progress: bool
) -> Execution:
    from lastlayer._progress import SILENT, stderr_progress

    return Execution(
        runs=Path(runs),
        name=name,
        overwrite=overwrite,
        workers=workers,
        use_cache=cache,
        progress=stderr_progress() if progress else SILENT,
    )


def train(
    data: Any,
    *,
    runs: str | os.PathLike[str] = "runs",
    name: str = "",
    overwrite: bool = False,
    workers: int | None = None,
    cache: bool = True,
    resume: bool = False,
    progress: bool = False,
    **settings: Any,
) -> Run:
    """Train a classifier on labelled images and write a run folder; ``lastlayer train`` in Python.

    Parameters
    ----------
    data : path or pair (images, labels)
        Folder of class folders, train/val/test folders, manifest, array file, ``demo:digits``; or uint8
        images (N, H, W[, C]) with N labels of any type.
    runs, name, overwrite
        Where the run folder goes; nothing is overwritten unless asked for.
    workers : int, optional
        Decoding processes; all cores by default.
    cache : bool
        Reuse decoded images and features of earlier runs.
    resume : bool
        Go on with the training of a network that was killed or interrupted.
    progress : bool
        Show progress on stderr.
    **settings
        The fields of `TrainSettings`: ``phi``, ``head``, ``size``, ``C`` (a number or several), ``l2``, ``val``,
        ``test``, ``split``, ``labels``, ``group_by``, ``class_weight``, ``seed`` and so on.

    Returns
    -------
    Run
        With ``.model``, ``.metrics``, ``.predictions``, ``.report()``.

    Raises
    ------
    InputError
        Naming what is wrong with the data or a setting, and how to mend it.
    """
    from lastlayer.pipeline.training import run_training

    is_path = isinstance(data, str | os.PathLike)
    values = {"data": os.fspath(data)} if is_path else {}
    chosen = settings_from({**values, **settings}, "train")
    how = dataclasses.replace(_execution(runs, name, overwrite, workers, cache, progress), resume=resume)
    return run_training(chosen, how, arrays=None if is_path else data)


def evaluate(
    model: str | os.PathLike[str] | Run,
    data: str | os.PathLike[str] | None = None,
    *,
    split: str = "",
    runs: str | os.PathLike[str] = "runs",
    name: str = "",
    overwrite: bool = False,
    workers: int | None = None,
    progress: bool = False,
    by: str = "",
    decisions: DecisionSettings | None = None,
) -> Run:
    """Score a saved model on its own test split, or on labelled images in `data`; returns the new run.

    Parameters
    ----------
    model : path or Run
    data : path, optional
    split, runs, name, overwrite, workers, progress
        As for `train`.
    by : str
        Column of the manifest, or pattern over file names: accuracy is given for each group as well.
    decisions : DecisionSettings, optional
        What is asked of the threshold for abstaining and of the prediction sets.
    """
    from lastlayer.pipeline.evaluating import run_evaluation

    folder = model.folder if isinstance(model, Run) else model
    how = _execution(runs, name, overwrite, workers, True, progress)
    source = None if data is None else os.fspath(data)
    return run_evaluation(folder, source, split, how, by=by, settings=decisions)


def compare(
    *runs: str | os.PathLike[str] | Run, metric: str = "accuracy", split: str = "", reference: str = ""
) -> Comparison:
    """Compare runs that were scored on the same images, pair by pair; ``lastlayer compare`` in Python.

    Parameters
    ----------
    *runs : path or Run
        Two or more.
    metric : {"accuracy", "balanced_accuracy", "macro_f1", "log_loss"}
    split : str
        By default the split that every run quotes.
    reference : str
        Name or path of the one run that all others are compared with.
    """
    from lastlayer.pipeline.comparing import run_comparison

    folders = [run.folder if isinstance(run, Run) else run for run in runs]
    return run_comparison(folders, metric, split, reference)


def predict(
    model: str | os.PathLike[str] | Run | Model,
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    top_k: int = 2,
    abstain: str | float | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> list[Prediction]:
    """Label image files and the images in folders; unreadable ones come back with the reason in ``note``.

    With `abstain`, a probability or ``"auto"`` (the threshold that the run chose on validation data), answers whose
    probability does not exceed it are withheld: ``label`` is None, ``top`` stays.
    """
    from lastlayer.pipeline.predicting import predictions

    paths = [images] if isinstance(images, str | os.PathLike) else list(images)
    how = _execution("runs", "", False, workers, True, progress)
    return list(predictions(model, [os.fspath(path) for path in paths], how, top_k=top_k, abstain=abstain))


def suggest(
    model: str | os.PathLike[str] | Run | Model,
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    n: int = 50,
    *,
    by: str = "margin",
    workers: int | None = None,
    progress: bool = False,
) -> Suggestions:
    """Rank unlabelled images (files and folders) by what a label would be worth; ``lastlayer suggest`` in Python."""
    from lastlayer.pipeline import suggesting

    paths = [images] if isinstance(images, str | os.PathLike) else list(images)
    how = _execution("runs", "", False, workers, True, progress)
    return suggesting.suggest(model, [os.fspath(path) for path in paths], n, by=by, execution=how)


def check(
    data: Any,
    *,
    near_dup: bool = True,
    shortcuts: bool = True,
    label_check: bool = False,
    labels_suspect: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    cache: bool = True,
    progress: bool = False,
    **settings: Any,
) -> Findings:
    """Inspect labelled images without training: layout, unreadable files, duplicates, label conflicts.

    Parameters
    ----------
    data : path or pair (images, labels)
    near_dup, shortcuts : bool
        Whether to look for changed copies, and for file properties and regions that give the class away.
    label_check : bool
        Whether to cross-validate a classifier and name the labels that it doubts.
    labels_suspect : path, optional
        Where to write them as a table; asks for the label check.
    workers, cache, progress, **settings
        As for `train`.
    """
    from lastlayer.pipeline.checking import run_check

    is_path = isinstance(data, str | os.PathLike)
    values = {"data": os.fspath(data)} if is_path else {}
    chosen = settings_from({**values, **settings}, "check")
    how = _execution("runs", "", False, workers, cache, progress)
    return run_check(
        chosen,
        how,
        arrays=None if is_path else data,
        near_dup=near_dup,
        shortcuts=shortcuts,
        label_check=label_check,
        labels_suspect=None if labels_suspect is None else Path(labels_suspect),
    )


def probe(
    embeddings: Any,
    *,
    val: Any = None,
    test: Any = None,
    groups: Any = None,
    runs: str | os.PathLike[str] = "runs",
    name: str = "",
    overwrite: bool = False,
    threads: int | None = None,
    progress: bool = False,
    **settings: Any,
) -> Run:
    """Fit and score a linear probe on embeddings; ``lastlayer probe`` in Python.

    Parameters
    ----------
    embeddings, val, test : pair (X, y) or path
        X (N, D) real numbers and y N labels of any type; all of them pairs, or all of them files.
    groups : sequence, optional
        A group for each training row, where these are given as a pair; a group stays on one side.
    runs, name, overwrite
        Where the run folder goes; nothing is overwritten unless asked for.
    threads : int, optional
        Changes no bit.
    progress : bool
        Show progress on stderr.
    **settings
        The fields of `ProbeSettings`: ``protocol``, ``labels``, ``test_labels``, ``normalize``, ``shots``, ``repeats``,
        ``cv``, ``head``, ``C`` and so on.

    Returns
    -------
    Run
        With ``.metrics`` and ``.predictions``; its model file is read by `ProbeHead.load`.

    Raises
    ------
    InputError
        Naming what is wrong with the embeddings or a setting, and how to mend it.
    """
    from lastlayer.pipeline.probe_settings import probe_settings
    from lastlayer.pipeline.probing import run_probe

    how = _execution(runs, name, overwrite, None, True, progress)
    given = {"val": val, "test": test}
    if isinstance(embeddings, str | os.PathLike):
        files = {"embeddings": embeddings, **given}
        paths = {key: os.fspath(value) for key, value in files.items() if value is not None}
        return run_probe(probe_settings({**paths, **settings}, "probe"), how, threads=threads)
    arrays = {"train": embeddings, "groups": groups, **given}
    return run_probe(probe_settings(settings, "probe"), how, arrays=arrays, threads=threads)


def sweep(
    data: Any,
    *,
    runs: str | os.PathLike[str] = "runs",
    name: str = "",
    overwrite: bool = False,
    workers: int | None = None,
    cache: bool = True,
    threads: int | None = None,
    progress: bool = False,
    **settings: Any,
) -> Sweep:
    """Compare representations by cross-validation, the test split untouched; ``lastlayer sweep`` in Python.

    Parameters
    ----------
    data : path or pair (images, labels)
        As `train` takes them.
    runs, name, overwrite, workers, cache, progress
        As for `train`.
    threads : int, optional
        Changes no bit.
    **settings
        ``phi`` (several), ``cv``, ``nested``, ``repeats``, ``learning_curve``, and the fields of `TrainSettings` on
        data, split, ``head`` and ``C``.

    Returns
    -------
    Sweep
        With ``.folder`` and ``.document``, what ``sweep.json`` says.

    Raises
    ------
    InputError
        Naming what is wrong with the data or a setting, and how to mend it.
    """
    from lastlayer.pipeline.sweep_settings import sweep_settings
    from lastlayer.pipeline.sweeping import run_sweep

    is_path = isinstance(data, str | os.PathLike)
    values = {"data": os.fspath(data)} if is_path else {}
    chosen = sweep_settings({**values, **settings}, "sweep")
    how = _execution(runs, name, overwrite, workers, cache, progress)
    return run_sweep(chosen, how, arrays=None if is_path else data, threads=threads)
