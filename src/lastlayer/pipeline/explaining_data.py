"""The images that a run was trained on, found again and checked: for neighbours and influences."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from lastlayer._arrays import Float32, InputError, IntArray, UInt8
from lastlayer.data.dataset import TEST, TRAIN, VAL, Dataset
from lastlayer.data.decoding import Decoded
from lastlayer.data.sources import open_dataset
from lastlayer.data.splits import read_split
from lastlayer.evaluation.influence import Influence
from lastlayer.model import Model
from lastlayer.pipeline.evaluating import match_classes
from lastlayer.pipeline.features import ALONE, FeatureSource, arrays_digest
from lastlayer.pipeline.imaging import decode
from lastlayer.pipeline.learn import class_weights
from lastlayer.pipeline.preparing import open_cache
from lastlayer.pipeline.run import Run
from lastlayer.pipeline.settings import Execution
from lastlayer.representations.standardise import Standardised
from lastlayer.representations.views import Averaged, Views, mean_of


@dataclass(frozen=True, eq=False)
class TrainingImages:
    """What the head was fitted to.

    Attributes
    ----------
    dataset : Dataset
        All images of the run, with the model's classes.
    decoded : Decoded
    rows : int (n,)
        Rows of the dataset that the head was fitted to.
    Z : float32 (n, D)
        Their features, as images are scored by.
    twins : float32 (V · n, D)
        What was fitted: V views of each, side by side.
    n_views : int
        V.
    class_weight : str
    """

    dataset: Dataset
    decoded: Decoded
    rows: IntArray
    Z: Float32
    twins: Float32
    n_views: int
    class_weight: str

    @property
    def labels(self) -> IntArray:
        """Class of each row fitted, (n,)."""
        return self.dataset.labels[self.rows]

    def name(self, i: int) -> str:
        """Name of the i-th row fitted."""
        return str(self.dataset.names[int(self.rows[i])])

    def picture(self, i: int) -> UInt8:
        """Pixels of the i-th row fitted."""
        return np.asarray(self.decoded.pixels[int(self.rows[i])])

    def known(self, sha256: UInt8) -> IntArray:
        """Which of the rows fitted are this very file, (m,)."""
        return np.flatnonzero((self.decoded.sha256[self.rows] == sha256).all(axis=1))

    def influence(self, model: Model) -> Influence:
        """What the head's influences are made of.

        Raises
        ------
        InputError
            For a head without second derivatives, and a model that does not say its λ.
        """
        l2 = model.provenance.get("l2")
        if l2 is None:
            raise InputError(f"the head {model.provenance.get('head', model.loss)} has no penalty, and so no optimum")
        K, V = len(model.class_names), self.n_views
        weight = class_weights(self.labels, K, self.class_weight)
        if V > 1:
            weight = np.repeat(np.ones(len(self.rows)) if weight is None else weight, V) / V
        y = np.repeat(self.labels, V)
        return Influence.at(self.twins, y, K, model.loss, float(l2), model.weights, model.bias, sample_weight=weight)


def find_training_images(run: Run | None, model: Model, execution: Execution) -> TrainingImages | str:
    """Find the images that the run was trained on; or say in a few words why they are not at hand."""
    if run is None or not (run.folder / "config.toml").is_file() or not (run.folder / "split.csv").is_file():
        return "the model file lies in no training run"
    asked = run.config.get("train", {})
    if not asked.get("data"):
        return "it was trained on arrays in memory"
    try:
        return _found(run, asked, model, execution)
    except _ChangedError as error:
        return str(error)
    except InputError as error:
        return f"its training data cannot be read: {error.what}"
    except OSError as error:
        return f"its training data cannot be read: {error.strerror or error}"


class _ChangedError(Exception):
    """The data are not those of the run any more."""


def _found(run: Run, asked: dict[str, Any], model: Model, execution: Execution) -> TrainingImages:
    group_by = asked.get("group_by") or None
    dataset = open_dataset(asked["data"], group_by=group_by, labels_file=asked.get("labels") or None)
    dataset, _ = match_classes(dataset, model.class_names)
    cache = open_cache(execution)
    decoded, _ = decode(dataset, model.image_format, cache, execution)
    known = read_split(run.folder / "split.csv")
    side = np.array([known.get(name, -1) for name in dataset.names])
    usable = decoded.readable & (dataset.labels >= 0)
    parts = [np.flatnonzero((side == code) & usable) for code in (TRAIN, VAL, TEST)]
    order = np.concatenate(parts)
    stated = model.provenance.get("data_sha256")
    if not len(order) or dataset.subset(order).content_hash(decoded.sha256[order]) != stated:
        raise _ChangedError(f"the images in {asked['data']} are not those it was trained on any more")
    come = model.provenance
    refitted = "before the refit" not in str(come.get("selection", "")) and come.get("fitted_on") != "train"
    n = len(parts[0]) + (len(parts[1]) if refitted else 0)
    source, scaled, views = _source(model, decoded, cache, execution)
    Z = np.asarray(mean_of(source.features(order, move)[:n] for move in views.moves))
    Z = scaled.apply(Z) if scaled is not None else Z
    augment = ALONE if "network" in come else Views.parse(asked.get("augment", ""))  # a network's are none of φ's rows
    if augment == views == ALONE:
        return TrainingImages(dataset, decoded, order[:n], Z, Z, 1, asked.get("class_weight", ""))
    twins = np.empty((n, len(augment), Z.shape[1]), np.float32)
    for v, move in enumerate(augment.moves):
        seen = source.features(order, move)[:n]
        twins[:, v] = seen if scaled is None else scaled.apply(np.asarray(seen))
    flat = twins.reshape(n * len(augment), -1)
    return TrainingImages(dataset, decoded, order[:n], Z, flat, len(augment), asked.get("class_weight", ""))


def _source(
    model: Model, decoded: Decoded, cache: Any, execution: Execution
) -> tuple[FeatureSource, Standardised | None, Views]:
    """What computes features, or finds those of the training run in the cache; the standardisation; the views."""
    phi = model.representation
    scaled = phi if isinstance(phi, Standardised) else None
    inner = phi.base if isinstance(phi, Standardised) else phi
    views = inner.views if isinstance(inner, Averaged) else ALONE
    raw = inner.base if isinstance(inner, Averaged) else inner
    source = FeatureSource(raw, arrays_digest(raw), decoded.pixels, decoded.sha256, cache, execution.progress)
    return source, scaled, views


def own_run(model: str | os.PathLike[str]) -> Run | None:
    """The run that a path names or that its model file lies in."""
    from pathlib import Path

    path = Path(model)
    folder = path.parent if path.is_file() else path
    return Run(folder) if (folder / "model.safetensors").is_file() else None
