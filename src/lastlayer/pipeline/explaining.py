"""``explain``: why an image is called what it is, and what the training images had to do with it."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lastlayer._arrays import Float64, InputError, UInt8
from lastlayer._files import display_name
from lastlayer.data.decoding import decode_files
from lastlayer.data.inputs import list_sources
from lastlayer.evaluation.explanations import (
    check_reference,
    class_evidence,
    cover_picture,
    decompose,
    margin_evidence,
    occlude,
)
from lastlayer.evaluation.explanations_names import feature_name
from lastlayer.evaluation.influence import Effects, Influence
from lastlayer.model import Model
from lastlayer.neighbours import Index
from lastlayer.pipeline.explaining_data import TrainingImages, find_training_images, own_run
from lastlayer.pipeline.explaining_results import LARGEST, Explanation, InfluenceFound, Related
from lastlayer.pipeline.predicting import open_model
from lastlayer.pipeline.settings import Execution

SCHEMA_VERSION = 1
CANDIDATES = 1000
"""Rows of the largest first-order effects whose effects are corrected for their leverage."""


@dataclass(frozen=True)
class ExplainSettings:
    """What is asked.

    Attributes
    ----------
    vs : str
        The class that the answer is compared with; empty: the runner-up.
    neighbours, influence : int
        How many training images are shown; 0 leaves them out.
    seed : int
        Of the random orders that the occlusion check compares with.
    reference : {"mean", "zero"}
        What terms are measured from: the mean of the training features, or nothing of the feature.
    """

    vs: str = ""
    neighbours: int = 5
    influence: int = 3
    seed: int = 0
    reference: str = "mean"

    def __post_init__(self) -> None:
        check_reference(self.reference)


@dataclass(frozen=True, eq=False)
class Subject:
    """An image to explain; without pixels it was refused, and `note` says why."""

    path: str
    pixels: UInt8 | None
    sha256: UInt8 | None = None
    label: str | None = None
    note: str = ""


class Explainer:
    """A model with what its explanations need, each part made when it is first asked for.

    Parameters
    ----------
    model : path, Run or Model
    execution : Execution, optional
    settings : ExplainSettings, optional

    Raises
    ------
    InputError
        For a class that the model does not know.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        execution: Execution | None = None,
        settings: ExplainSettings | None = None,
    ) -> None:
        self.execution = execution or Execution()
        self.settings = settings or ExplainSettings()
        self.model: Model = open_model(model)
        self.run = own_run(model)
        self.versus = self._class(self.settings.vs)
        self._training: TrainingImages | str | None = None
        self._index: Index | None = None
        self._influence: Influence | str | None = None

    @property
    def folder(self) -> Path | None:
        """Where explanations go: ``explain`` in the run."""
        return None if self.run is None else self.run.folder / "explain"

    def _class(self, name: str) -> int | None:
        if not name:
            return None
        names = self.model.class_names
        if name in names:
            return names.index(name)
        near = difflib.get_close_matches(name, names, n=1)
        shown = ", ".join(map(display_name, names[:20]))
        mend = f"Did you mean {display_name(near[0])}?" if near else f"The model's classes are {shown}"
        raise InputError(f"--vs {display_name(name)}: the model has no such class", mend)

    @property
    def training(self) -> TrainingImages | str:
        """The training images, or why they are not at hand."""
        if self._training is None:
            self._training = find_training_images(self.run, self.model, self.execution)
        return self._training

    def subjects(self, images: Sequence[str]) -> list[Subject]:
        """Images of files, of folders, and of the run's own data by their name there.

        Raises
        ------
        InputError
            When a path is neither.
        """
        found: list[Subject] = []
        for given in images:
            training = self.training if not os.path.lexists(given) else ""
            if not isinstance(training, str) and given in training.dataset.names:
                found.append(self._own(training, given))
            else:
                found += self._files(list_sources([given]))
        if not found:
            raise InputError(f"no image in {', '.join(map(display_name, images))}", "Give image files")
        return found

    def _own(self, training: TrainingImages, name: str) -> Subject:
        row = list(training.dataset.names).index(name)
        if not training.decoded.readable[row]:
            reason, mend = training.decoded.refusals.get(row, ("unreadable", "repair it"))
            return Subject(name, None, note=f"LL003 {reason}: {mend}")
        label = int(training.dataset.labels[row])
        shown = self.model.class_names[label] if label >= 0 else None
        return Subject(name, np.asarray(training.decoded.pixels[row]), training.decoded.sha256[row], shown)

    def _files(self, paths: list[str]) -> list[Subject]:
        decoded = decode_files(paths, self.model.image_format, workers=self.execution.workers)
        found = []
        for row, path in enumerate(paths):
            if decoded.readable[row]:
                found.append(Subject(path, decoded.pixels[row], decoded.sha256[row]))
            else:
                reason, mend = decoded.refusals[row]
                found.append(Subject(path, None, note=f"LL003 {reason}: {mend}"))
        return found

    def explain(self, subject: Subject) -> Explanation:
        """Explain one image that could be read."""
        model, image = self.model, subject.pixels
        if image is None:
            raise InputError(f"{display_name(subject.path)} cannot be explained: {subject.note}")
        scores = model.scores(image[None])
        p = model.probabilities(scores)[0]
        classes = self._pair(scores[0])
        phi, W, reference = model.representation, model.weights, self.settings.reference
        margin = decompose(phi, W, model.bias, image, scores[0], classes, reference)
        evidence = margin_evidence(phi, W, image, classes, reference)
        occlusion = occlude(
            self._answer,
            image,
            evidence.map,
            classes,
            cover_picture(phi, image, reference),
            seed=self.settings.seed,
        )
        names = tuple(feature_name(phi, int(j)) for j in margin.largest(LARGEST))
        left_out = [f"no evidence map: {why}" for why in evidence.without]
        neighbours, influence, trained_on = self._related(subject, image, classes, left_out)
        return Explanation(
            subject.path,
            image,
            model.class_names,
            p,
            margin,
            names,
            evidence,
            class_evidence(phi, W, image, classes[0], reference).map,
            occlusion,
            subject.label,
            trained_on,
            neighbours,
            influence,
            tuple(left_out),
        )

    def _answer(self, images: UInt8) -> tuple[Any, Float64]:
        z = self.model.scores(images)
        return z, self.model.probabilities(z)

    def _pair(self, z: Any) -> tuple[int, int]:
        """The answer over the class asked for; over the runner-up where that is the answer, or none was asked for."""
        order = np.argsort(-z, kind="stable")
        first = int(order[0])
        return first, int(order[1]) if self.versus in (None, first) else int(self.versus or 0)

    def _related(
        self, subject: Subject, image: UInt8, classes: tuple[int, int], left_out: list[str]
    ) -> tuple[tuple[Related, ...], InfluenceFound | None, bool]:
        """Nearest training images, the most helpful and harmful ones, and whether it is one of them itself."""
        if not (self.settings.neighbours or self.settings.influence):
            return (), None, False
        training = self.training
        if isinstance(training, str):
            left_out.append(f"no training images and no influences: {training}")
            return (), None, False
        z = self.model.representation.transform(image[None])[0]
        own = training.known(subject.sha256) if subject.sha256 is not None else np.zeros(0, np.int64)
        neighbours = self._neighbours(training, z, own)
        return neighbours, self._effects(training, z, classes, left_out), bool(len(own))

    def _neighbours(self, training: TrainingImages, z: Any, own: Any) -> tuple[Related, ...]:
        k = min(self.settings.neighbours + len(own), len(training.rows))
        if not self.settings.neighbours:
            return ()
        if self._index is None:
            self._index = Index(training.Z, "cosine")
        near = self._index.nearest(z[None], k)
        found = [(int(i), 1.0 - float(d)) for i, d in zip(near.rows[0], near.distances[0]) if i not in own]
        return tuple(self._shown(training, i, value) for i, value in found[: self.settings.neighbours])

    def _shown(self, training: TrainingImages, i: int, value: float) -> Related:
        label = self.model.class_names[int(training.labels[i])]
        return Related(training.name(i), label, value, training.picture(i))

    def _effects(
        self, training: TrainingImages, z: Any, classes: tuple[int, int], left_out: list[str]
    ) -> InfluenceFound | None:
        n = self.settings.influence
        if not n:
            return None
        if self._influence is None:
            try:
                self._influence = training.influence(self.model)
            except InputError as error:
                self._influence = error.what
        if isinstance(self._influence, str):
            left_out.append(f"no influences: {self._influence}")
            return None
        effects = self._influence.on_margin(z, *classes)
        change, corrected = _changes(self._influence, effects, training.n_views)
        order = np.argsort(change, kind="stable")
        down = [i for i in order[:n].tolist() if change[i] < 0]
        up = [i for i in order[::-1][:n].tolist() if change[i] > 0]
        return InfluenceFound(
            tuple(self._shown(training, i, float(change[i])) for i in down),
            tuple(self._shown(training, i, float(change[i])) for i in up),
            len(change),
            effects.products,
            corrected,
        )


def _changes(influence: Influence, effects: Effects, n_views: int) -> tuple[Float64, bool]:
    """What removing each image does: corrected for leverage where the first order is large; views go together."""
    change = effects.first_order.copy()
    if n_views > 1:
        return change.reshape(-1, n_views).sum(axis=1), False
    if influence.leverage is None:
        return change, False
    candidates = np.argsort(-np.abs(change), kind="stable")[:CANDIDATES]
    change[candidates] = influence.corrected(effects, candidates)
    return change, True
