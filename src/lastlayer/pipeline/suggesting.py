r"""``suggest``: which unlabelled images are worth labelling next.

An image is worth a label when the classifier is unsure of it and it is unlike what has a label or was suggested before:

.. math::
    s(x) = u(x) \cdot \min_{c \in S} \lVert f(x) - f(c) \rVert, \qquad
    u = 1 - (p_{(1)} - p_{(2)}) \;\text{(margin)} \quad\text{or}\quad u = -\sum_k p_k \ln p_k / \ln K \;\text{(entropy)}

The image of the largest s is suggested and joins S, and so on: greedy k-centre, weighted by how unsure the answer is.
f(x) is φ(x), standardised and of length 1; S begins with the training images that a run keeps for its distance flag
(`run_decisions`), and empty for a model on its own, where u alone chooses the first.

Sources: Scheffer, Decomain & Wrobel 2001, "Active hidden Markov models for information extraction" (margin);
Settles 2009, "Active learning literature survey" (entropy); Gonzalez 1985 (greedy k-centre); Sener & Savarese 2018,
"Active learning for convolutional neural networks: a core-set approach" (labelled images as first centres).

Shapes
------
N : images, M : candidates, D : features, K : classes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lastlayer._arrays import Float32, Float64, InputError
from lastlayer._progress import Progress
from lastlayer.data.decoding import decode_files
from lastlayer.data.inputs import list_sources
from lastlayer.evaluation.distance import DistanceFlag, measures
from lastlayer.model import Model
from lastlayer.pipeline.predicting import open_model, run_decisions
from lastlayer.pipeline.run import Run
from lastlayer.pipeline.settings import Execution

RULES = ("margin", "entropy")
_BATCH = 1024
_EACH = 20  # candidates for each image wanted: the most unsure
_FEWEST = 2000
_MOST_NUMBERS = 1 << 26  # of features of candidates: 256 MB


@dataclass(frozen=True)
class Suggestion:
    """One image worth labelling.

    Attributes
    ----------
    rank : int
        1 is worth most.
    path : str
    top : tuple of (str, float)
        The two most probable classes.
    unsure : float
        u, 0 to 1.
    distance : float
        To the nearest image that was labelled or suggested before, 0 to 2; NaN for the first where none was.
    """

    rank: int
    path: str
    top: tuple[tuple[str, float], ...]
    unsure: float
    distance: float

    @property
    def score(self) -> float:
        """s: u times the distance."""
        return self.unsure if math.isnan(self.distance) else self.unsure * self.distance

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "rank": self.rank,
            "path": self.path,
            "top": [{"label": name, "p": round(p, 6)} for name, p in self.top],
            "unsure": round(self.unsure, 6),
            "distance": None if math.isnan(self.distance) else round(self.distance, 6),
            "score": round(self.score, 6),
        }


@dataclass(frozen=True)
class Suggestions:
    """What was suggested, of how many images.

    Attributes
    ----------
    chosen : tuple of Suggestion
        The most worthwhile first.
    looked_at : int
    refused : tuple of (str, str)
        Files that cannot be read, and why.
    """

    chosen: tuple[Suggestion, ...]
    looked_at: int
    refused: tuple[tuple[str, str], ...]


@dataclass(eq=False)
class _Candidates:
    """The most unsure images so far."""

    most: int
    paths: list[str]
    p: Float64
    unsure: Float64
    features: Float32

    def add(self, paths: Sequence[str], p: Float64, unsure: Float64, features: Float32) -> None:
        """Keep the most unsure of the old and the new, of equal ones the earlier."""
        everything = [*self.paths, *paths]
        order = np.argsort(-np.append(self.unsure, unsure), kind="stable")[: self.most]
        keep = np.sort(order)
        self.paths = [everything[row] for row in keep.tolist()]
        self.p = np.concatenate([self.p, p])[keep]
        self.unsure = np.append(self.unsure, unsure)[keep]
        self.features = np.concatenate([self.features, features])[keep]


def suggest(
    model: str | os.PathLike[str] | Run | Model,
    images: Sequence[str],
    n: int = 50,
    *,
    by: str = "margin",
    execution: Execution | None = None,
) -> Suggestions:
    """Rank unlabelled images by what a label would be worth; no file is moved or changed.

    Parameters
    ----------
    model : path, Run or Model
    images : sequence of str
        Files, and folders with all images below them.
    n : int
        Images to suggest at most. Chosen among the 20 n most unsure, 2,000 at least.
    by : {"margin", "entropy"}

    Raises
    ------
    InputError
        When there is no image that can be read, or the rule is unknown.
    """
    if by not in RULES:
        raise InputError(f"no rule is called {by!r}", f"There are {', '.join(RULES)}")
    if n < 1:
        raise InputError(f"{n} images cannot be suggested", "Give a number from 1 up")
    execution = execution or Execution()
    classifier = open_model(model)
    decided = run_decisions(model, classifier)
    flag = None if decided is None else decided.far
    paths = list_sources(images)
    refused: list[tuple[str, str]] = []
    found = _most_unsure(classifier, paths, n, by, flag, execution, refused)
    if not found.paths:
        raise InputError(
            f"no image in {', '.join(map(str, images))} can be read", "Give images, or folders that hold some"
        )
    chosen = _greedy(found, n, flag, execution.progress)
    names = classifier.class_names
    suggestions = []
    for rank, (row, distance) in enumerate(chosen, 1):
        top = np.argsort(-found.p[row], kind="stable")[:2].tolist()
        pairs = tuple((names[k], float(found.p[row, k])) for k in top)
        suggestions.append(Suggestion(rank, found.paths[row], pairs, float(found.unsure[row]), distance))
    return Suggestions(tuple(suggestions), len(paths) - len(refused), tuple(refused))


def unsureness(p: Float64, by: str) -> Float64:
    """How unsure probabilities (N, K) are, u in 0 (sure) to 1.

    >>> unsureness(np.array([[1.0, 0.0], [0.5, 0.5]]), "margin").tolist()
    [0.0, 1.0]
    """
    if by == "margin":
        two = np.sort(p, axis=1)[:, -2:]
        return np.asarray(1.0 - (two[:, 1] - two[:, 0]))
    logs = np.log(np.where(p > 0, p, 1.0))
    return np.asarray(-(p * logs).sum(axis=1) / math.log(p.shape[1]))


def _most_unsure(
    classifier: Model,
    paths: Sequence[str],
    n: int,
    by: str,
    flag: DistanceFlag | None,
    execution: Execution,
    refused: list[tuple[str, str]],
) -> _Candidates:
    """Decode and score in batches; φ is kept of candidates alone."""
    D, K = classifier.weights.shape
    most = max(n, min(max(_EACH * n, _FEWEST), _MOST_NUMBERS // max(1, D)))
    found = _Candidates(most, [], np.zeros((0, K)), np.zeros(0), np.zeros((0, D), np.float32))
    with execution.progress.task("Unsure", len(paths)) as task:
        for start in range(0, len(paths), _BATCH):
            part = paths[start : start + _BATCH]
            decoded = decode_files(part, classifier.image_format, workers=execution.workers)
            refused += [(part[row], decoded.refusals[row][0]) for row in sorted(decoded.refusals)]
            rows = np.flatnonzero(decoded.readable)
            if len(rows):
                pixels = decoded.pixels[rows]
                p = classifier.probabilities(classifier.scores(pixels))
                unsure = unsureness(p, by)
                least = found.unsure.min() if len(found.paths) == most else -1.0
                kept = np.flatnonzero(unsure > least)
                if len(kept):
                    Z = directions(classifier.representation.transform(pixels[kept]), flag)
                    found.add([part[row] for row in rows[kept].tolist()], p[kept], unsure[kept], Z)
            task.advance(len(part))
    return found


def directions(Z: Any, flag: DistanceFlag | None) -> Float32:
    """Return f (N, D): features standardised as the run's training images were, of length 1."""
    z = np.asarray(Z, dtype=np.float32)
    if flag is not None:
        z = (z - flag.mean) / flag.scale
    norms = np.sqrt(np.einsum("ij,ij->i", z, z, dtype=np.float64))
    return np.asarray(z / np.maximum(norms, np.finfo(np.float32).tiny)[:, None], dtype=np.float32)


def _greedy(found: _Candidates, n: int, flag: DistanceFlag | None, progress: Progress) -> list[tuple[int, float]]:
    """Rows chosen in order, each with its distance to what came before."""
    f, M = found.features, len(found.paths)
    nearest = np.full(M, np.nan)
    if flag is not None:
        zero, one = np.zeros_like(flag.mean), np.ones_like(flag.scale)
        nearest = np.sqrt(np.maximum(2 * measures(f, flag.directions, zero, one)[0], 0))
    left = np.ones(M, dtype=bool)
    chosen: list[tuple[int, float]] = []
    with progress.task("Choose", min(n, M)) as task:
        while len(chosen) < min(n, M):
            score = np.where(np.isnan(nearest), found.unsure, found.unsure * nearest)
            row = int(np.argmax(np.where(left, score, -np.inf)))
            chosen.append((row, float(nearest[row])))
            left[row] = False
            apart = np.sqrt(np.maximum(2 - 2 * (f @ f[row]).astype(np.float64), 0))
            nearest = np.fmin(nearest, apart)
            task.advance()
    return chosen
