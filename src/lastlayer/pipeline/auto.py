"""``--phi auto``: representations tried from cheap to dear within a time limit, judged on validation data.

Every candidate is fitted on training images for every C, and its best fit is judged on the validation images. The first
candidate, in the order of the list, that the best one does not beat by more than noise is taken: a paired comparison,
as both have answered the same images. Noise is one standard error (p > 0.32 of McNemar's exact test; Breiman, Friedman,
Olshen & Stone 1984 choose the simplest within one). The 5% of a claim would be too strict here: the dearer one costs
seconds, the wrong one accuracy. Test images are not looked at.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lastlayer._arrays import BoolArray, InputError, IntArray, UInt8
from lastlayer._progress import Progress
from lastlayer.evaluation.comparison import mcnemar
from lastlayer.evaluation.intervals import Proportion, json_number
from lastlayer.linear import scores
from lastlayer.pipeline.features import Features
from lastlayer.pipeline.learn import Chosen, Examples, choose
from lastlayer.pipeline.settings import TrainSettings
from lastlayer.representations.base import Shape
from lastlayer.representations.specs import parse_phi

AUTO = "auto"
NOISE = 0.32
_SAMPLE = 128
_FIRST_RATE = 2e10  # arithmetic operations a second, before anything was measured
_PASSES = 150  # over the data, for all values of C: measured on MNIST and CIFAR-10
_MOST_FITS = 8.0  # φ is fitted on a bounded number of patches or rows: not in proportion to the images

Extract = Callable[[str], Features]
"""φ as text to the features of all rows."""


def candidates(shape: Shape) -> tuple[str, ...]:
    """What is tried for images of (H, W, C), from cheap to dear.

    >>> candidates((64, 64, 3))
    ('colour', 'pixels:size=16', 'hog', 'hog+colour', 'patches:filters=256', 'patches:filters=1024')
    """
    height, width, channels = shape
    # pixels of photographs say little, and a fit takes as long as they are many
    side = 32 if channels == 1 else 16
    pixels = f"pixels:size={side}" if min(height, width) > side else "pixels"
    patches = ("patches:filters=256", "patches:filters=1024")
    if channels == 1:
        return (pixels, f"deskew/{pixels}", "hog", "deskew/hog", *patches)
    return ("colour", pixels, "hog", "hog+colour", *patches)


@dataclass(frozen=True, eq=False)
class Trial:
    """One candidate.

    Attributes
    ----------
    phi : str
    predicted, seconds : float
        Expected and taken; NaN where it was not tried.
    n_features : int
        0 where it was not tried.
    chosen : Chosen or None
        The fit of the training images for the best C.
    right : bool (n_val,)
        Whether each validation image was answered right; empty where it was not tried.
    reason : str
        Why it was not tried.
    """

    phi: str
    predicted: float
    seconds: float
    n_features: int
    chosen: Chosen | None
    right: BoolArray
    reason: str = ""

    @property
    def score(self) -> Proportion:
        """Validation images answered right."""
        return Proportion(int(self.right.sum()), len(self.right))


@dataclass(frozen=True, eq=False)
class AutoChoice:
    """What was tried and what was taken.

    Attributes
    ----------
    trials : tuple of Trial
        In the order of the candidates.
    taken, best : int
        Indices in `trials`.
    limit : float
        Seconds given.
    features : Features or None
        Of the one taken, where they were kept.
    """

    trials: tuple[Trial, ...]
    taken: int
    best: int
    limit: float
    features: Features | None

    @property
    def phi(self) -> str:
        """The representation taken."""
        return self.trials[self.taken].phi

    @property
    def chosen(self) -> Chosen:
        """What was found for the representation taken."""
        chosen = self.trials[self.taken].chosen
        assert chosen is not None
        return chosen

    def verdict(self, i: int) -> str:
        """What became of a candidate, in a few words."""
        trial = self.trials[i]
        if trial.reason:
            return trial.reason
        if i == self.best:
            return "best, taken" if i == self.taken else "best"
        p = mcnemar(self.trials[self.best].right, trial.right).p_value
        if p <= NOISE:
            return f"behind the best (p = {p:.2g})"
        return f"within noise of the best (p = {p:.2g})" + (", cheaper: taken" if i == self.taken else "")

    def table(self) -> list[str]:
        """The table the choice was made from, header first."""
        rows = [("phi", "D", "seconds", "C", "val k/n = p [95%]", "")]
        for i, trial in enumerate(self.trials):
            tried = trial.chosen is not None
            rows.append(
                (
                    trial.phi,
                    str(trial.n_features) if tried else "",
                    f"{trial.seconds:.1f}" if tried else "",
                    f"{trial.chosen.C:g}" if trial.chosen is not None else "",
                    str(trial.score) if tried else "",
                    self.verdict(i),
                )
            )
        widths = [max(len(row[column]) for row in rows) for column in range(6)]
        return [_line(row, widths) for row in rows]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "phi": self.phi,
            "time_limit": self.limit,
            "noise": NOISE,
            "candidates": [
                {
                    "phi": trial.phi,
                    "n_features": trial.n_features or None,
                    "predicted_seconds": json_number(round(trial.predicted, 3)),
                    "seconds": json_number(round(trial.seconds, 3)),
                    "C": None if trial.chosen is None else json_number(trial.chosen.C),
                    "val": None if trial.chosen is None else trial.score.to_dict(),
                    "verdict": self.verdict(i),
                    "taken": i == self.taken,
                }
                for i, trial in enumerate(self.trials)
            ],
        }


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [c.rjust(w) if 1 <= i <= 3 else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths))]
    return "  ".join(cells).rstrip()


def take(trials: Sequence[Trial]) -> tuple[int, int]:
    """(taken, best): the best on validation data (ties: the cheaper), and the cheapest within noise of it."""
    tried = [i for i, trial in enumerate(trials) if trial.chosen is not None]
    best = max(tried, key=lambda i: (int(trials[i].right.sum()), -i))
    near = [i for i in tried if mcnemar(trials[best].right, trials[i].right).p_value > NOISE]
    return min([best, *near]), best


def sample_rows(n: int) -> IntArray:
    """Rows, evenly spread over n, of the images on which times are taken."""
    return np.unique(np.linspace(0, n - 1, min(n, _SAMPLE)).astype(np.int64))


def choose_phi(
    phis: Sequence[str],
    sample: UInt8,
    n: int,
    extract: Extract,
    examples: Callable[[Features], Examples],
    settings: TrainSettings,
    progress: Progress,
    clock: Callable[[], float] = time.perf_counter,
) -> AutoChoice:
    """Try the candidates and take one.

    Parameters
    ----------
    phis : sequence of str
        From cheap to dear; the first one that suits the images is tried whatever it takes.
    sample : uint8 (m, H, W, C)
        Training images on which times are taken.
    n : int
        Training images.
    extract : callable
        φ as text to `Features`.
    examples : callable
        `Features` to the `Examples` that are learned from.
    settings : TrainSettings
    progress : Progress
    clock : callable
        Seconds; for tests.

    Raises
    ------
    InputError
        When no candidate suits the images.
    """
    start = clock()
    estimate = _Estimate(sample, n, settings)
    trials: list[Trial] = []
    kept: tuple[int, Features] | None = None
    try:
        with progress.task("Auto", len(phis)) as task:
            for phi in phis:
                left = settings.search_seconds - (clock() - start)
                trial, features = _try(phi, left, bool(kept), estimate, extract, examples, settings, progress, clock)
                trials.append(trial)
                if features is not None and take(trials)[0] == len(trials) - 1:
                    kept = len(trials) - 1, features
                task.advance(1, f"{phi}: {trial.score if trial.chosen else trial.reason}"[:60])
    except KeyboardInterrupt:
        if kept is None:
            raise
        trials += [_left_out(phi, "skipped: interrupted") for phi in phis[len(trials) :]]
    if kept is None:
        reasons = "; ".join(f"{trial.phi}: {trial.reason}" for trial in trials)
        raise InputError(
            f"--phi auto found nothing for these images ({reasons})", "Name a representation: --phi pixels"
        )
    taken, best = take(trials)
    features = kept[1] if kept[0] == taken else None
    return AutoChoice(tuple(trials), taken, best, settings.search_seconds, features)


def _left_out(phi: str, reason: str, predicted: float = float("nan")) -> Trial:
    return Trial(phi, predicted, float("nan"), 0, None, np.zeros(0, bool), reason)


def _try(
    phi: str,
    left: float,
    something: bool,
    estimate: _Estimate,
    extract: Extract,
    examples: Callable[[Features], Examples],
    settings: TrainSettings,
    progress: Progress,
    clock: Callable[[], float],
) -> tuple[Trial, Features | None]:
    """One candidate, unless it would not fit into the time left while `something` is there already."""
    if something and left <= 0:
        return _left_out(phi, "skipped: no time left"), None
    begin = clock()
    try:
        predicted = estimate.seconds(phi, clock)
    except InputError as error:
        return _left_out(phi, f"not for these images: {error.what}"), None
    left -= clock() - begin
    if something and predicted > left:
        return _left_out(phi, f"skipped: about {predicted:.0f} s, {max(left, 0.0):.0f} s left", predicted), None
    features = extract(phi)
    middle = clock()
    rows = examples(features)
    chosen = choose(rows, settings, progress)
    end = clock()
    estimate.learned(rows, end - middle)
    if chosen.fit is None:
        raise InputError("--phi auto needs validation images", "Give --val 0.15, or name a representation")
    Z, y = rows.validation
    right: BoolArray = scores(Z, chosen.fit.W, chosen.fit.b).argmax(axis=1) == y
    return Trial(phi, predicted, end - begin, features.Z.shape[1], chosen, right), features


class _Estimate:
    """Seconds that a candidate will take: φ timed on a few images, the fit by its arithmetic at the rate so far."""

    def __init__(self, sample: UInt8, n: int, settings: TrainSettings) -> None:
        self.sample, self.n = sample, n
        self.views = max(len(settings.fitted_views), len(settings.scored_views))
        self.twins = len(settings.fitted_views)
        self.seed = settings.seed
        self.rate = _FIRST_RATE
        self.n_classes = 2

    def seconds(self, phi: str, clock: Callable[[], float]) -> float:
        """Expected time of φ for all images, and of the fits."""
        asked = parse_phi(phi)
        fitted = asked.fit(self.sample[:8], np.random.default_rng(self.seed))
        fitted.transform(self.sample[:8])  # what is compiled on first use is not part of the time
        times = [clock()]
        fitted = asked.fit(self.sample, np.random.default_rng(self.seed))
        times.append(clock())
        fitted.transform(self.sample)
        times.append(clock())
        share = self.n / len(self.sample)
        features = (times[1] - times[0]) * min(share, _MOST_FITS) + (times[2] - times[1]) * share * self.views
        return features + self._work(self.n * self.twins, fitted.n_features, self.n_classes) / self.rate

    def learned(self, rows: Examples, seconds: float) -> None:
        """Take the measured time of a fit into account for those that follow."""
        self.n_classes = rows.n_classes
        n = rows.n_train * rows.n_views
        if seconds > 0:
            self.rate = self._work(n, rows.Z.shape[1], rows.n_classes) / seconds

    def _work(self, n: int, D: int, K: int) -> float:
        """Operations of the fits for all values of C: second moments, their inverse, and passes over the rows."""
        return 2.0 * min(n, 20_000) * D**2 + 4.0 * D**3 + _PASSES * 4.0 * n * D * K
