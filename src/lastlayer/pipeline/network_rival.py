"""Is the network worth it? What a linear classifier on hand-crafted features does with the same images."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lastlayer._arrays import BoolArray, InputError, IntArray
from lastlayer._progress import Progress
from lastlayer.evaluation.baselines import Baseline
from lastlayer.evaluation.comparison import PairedComparison, mcnemar
from lastlayer.evaluation.intervals import Proportion, json_number
from lastlayer.linear import scores
from lastlayer.pipeline.features import Features, extract
from lastlayer.pipeline.learn import Examples, learn
from lastlayer.pipeline.preparing import Prepared
from lastlayer.pipeline.scoring import SideScores
from lastlayer.pipeline.settings import TrainSettings
from lastlayer.representations.cache import FeatureCache
from lastlayer.representations.specs import parse_phi

CS = (0.001, 0.01, 0.1, 1.0)
"""C to choose from: a comparison, not a contest, that must cost little beside the network."""
TOL = 1e-4


@dataclass(frozen=True, eq=False)
class Rival:
    """A linear classifier and its answers.

    Attributes
    ----------
    phi : str
    C : float
        Chosen on validation images, where there are any.
    seconds : float
        Features and all fits.
    cached : bool
        Whether the features were at hand from an earlier run.
    right : dict of str to bool (n,)
        Whether each image of ``val`` and ``test`` was answered right: on validation by the fit to training images, on
        test by the fit to both, as for any run of its own.
    """

    phi: str
    C: float
    seconds: float
    cached: bool
    right: dict[str, BoolArray]

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"linear on {self.phi}"

    def baseline(self, side: str) -> Baseline:
        """Its score on a side as a baseline."""
        right = self.right[side]
        note = f"linear classifier on {self.phi}, C = {self.C:g}, in {self.seconds:.1f} s"
        return Baseline(self.name, self._score(side), note, np.arange(len(right)), right)

    def _score(self, side: str) -> Proportion:
        right = self.right[side]
        return Proportion(int(np.count_nonzero(right)), len(right))

    def against(self, side: SideScores) -> PairedComparison:
        """The network (first) compared with it (second), image by image."""
        return mcnemar(side.correct, self.right[side.side])

    def lines(self, sides: Sequence[SideScores], network_seconds: float) -> list[str]:
        """What is printed: both scores on validation and test, and whether they differ by more than noise."""
        took = f"in {self.seconds:.1f} s" + (" with features from the cache" if self.cached else "")
        out = []
        for side in sides:
            if side.side not in self.right:
                continue
            score = Proportion(int(np.count_nonzero(side.correct)), len(side.correct))
            out.append(f"{side.side:<5} {self.name}  {self._score(side.side)}  {took}")
            out.append(f"{'':<5} the network  {score}  in {network_seconds:.1f} s")
        if out:
            out.append(_sentence(self.against(sides[-1]), sides[-1].side))
        return out

    def to_dict(self, sides: Sequence[SideScores]) -> dict[str, Any]:
        """Plain values for JSON."""
        found = {}
        for side in sides:
            if side.side in self.right:
                pair = self.against(side)
                found[side.side] = {
                    "accuracy": self._score(side.side).to_dict(),
                    "only_network": pair.only_first,
                    "only_linear": pair.only_second,
                    "p_value": json_number(pair.p_value),
                    "separated": pair.separated,
                }
        return {"phi": self.phi, "C": json_number(self.C), "seconds": round(self.seconds, 3), "sides": found}


def _sentence(pair: PairedComparison, side: str) -> str:
    """Whether the network is worth it on these images, in words."""
    counts = f"only the network right {pair.only_first}, only the linear one {pair.only_second}, p = {pair.p_value:.2g}"
    if not pair.separated:
        return f"the network is not better than the linear classifier beyond noise ({side}: {counts})"
    if pair.first_better:
        return f"the network is better beyond noise ({side}: {counts})"
    return f"the linear classifier is better beyond noise, the network is not worth it ({side}: {counts})"


def linear_rival(
    prepared: Prepared,
    order: IntArray,
    counts: tuple[int, int, int],
    settings: TrainSettings,
    cache: FeatureCache,
    progress: Progress,
) -> Rival:
    """Fit a linear classifier on the default representation, on the network's images and split.

    Parameters
    ----------
    prepared : Prepared
    order : int (n,)
        Rows of training, validation and test images, one after another.
    counts : tuple of int
        How many of each.
    settings : TrainSettings
    cache : FeatureCache
    progress : Progress
    """
    start = time.perf_counter()
    n_train, n_val, _ = counts
    phi = "hog" if prepared.choice.format.channels == 1 else "hog+colour"
    try:
        features = _features(phi, prepared, order, counts, settings, cache, progress)
    except InputError:  # images too small for it: of such, pixels are the hand-crafted features
        phi = "pixels"
        features = _features(phi, prepared, order, counts, settings, cache, progress)
    y = prepared.dataset.labels[order]
    K = len(prepared.dataset.class_names)
    examples = Examples(features.Z, y, features.twins, features.n_views, n_train, n_val, K, features.unit)
    asked = dataclasses.replace(
        settings,
        phi=phi,
        head="logistic",
        C=CS,
        tol=max(settings.tol, TOL),
        l2=math.nan,
        augment="",
        views="",
        class_weight="",
    )
    learned = learn(examples, asked, progress)
    right: dict[str, BoolArray] = {}
    first = n_train
    for side, count in zip(("val", "test"), counts[1:]):
        rows = slice(first, first + count)
        fit = learned.selected if side == "val" and learned.selected is not None else learned.final
        if count:
            right[side] = scores(features.Z[rows], fit.W, fit.b).argmax(axis=1) == y[rows]
        first += count
    return Rival(phi, learned.C, time.perf_counter() - start, features.reused, right)


def _features(
    phi: str,
    prepared: Prepared,
    order: IntArray,
    counts: tuple[int, int, int],
    settings: TrainSettings,
    cache: FeatureCache,
    progress: Progress,
) -> Features:
    return extract(
        parse_phi(phi),
        prepared.decoded.pixels,
        prepared.decoded.sha256,
        order,
        counts[0],
        standardise=True,
        seed=settings.seed,
        cache=cache,
        progress=progress,
        n_val=counts[1],
    )
