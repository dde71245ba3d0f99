"""The last layer again: fitted exactly on a trained network's features, and kept where it wins on validation data.

The network has seen its training rows again and again: their features are cleaner than those of other images, and the
last layer's loss on them is near 0. λ is chosen on validation rows, which took no part in any gradient. Validation rows
are then not added to the fit, as they are for other φ: among training rows without loss they alone would decide, with a
λ that was chosen for other rows. So the weights that won on validation data are the weights that are kept.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from lastlayer._arrays import Float32, FloatArray, IntArray
from lastlayer._codes import Problem
from lastlayer._progress import Progress
from lastlayer.evaluation.intervals import Proportion, json_number
from lastlayer.evaluation.scaling import fit_temperature
from lastlayer.linear import scores
from lastlayer.model import softmax
from lastlayer.pipeline.learn import Chosen, Examples, Learned, choose, not_converged, refit
from lastlayer.pipeline.settings import HEADS, TrainSettings
from lastlayer.selection.fit import LinearFit
from lastlayer.solvers.base import Solution, StopReason

_TINY = 1e-300


@dataclass(frozen=True)
class HeadScore:
    """What a last layer does on validation data.

    Attributes
    ----------
    right : Proportion
    loss : float
        Mean of −log p of the right class, scores divided by the temperature.
    temperature : float
        Fitted on the same rows: it moves no answer, and a network's scores are often too sure.
    """

    right: Proportion
    loss: float
    temperature: float

    def __str__(self) -> str:
        return f"{self.right}, log loss {self.loss:.4f}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"val": self.right.to_dict(), "val_loss": json_number(self.loss), "temperature": self.temperature}


@dataclass(frozen=True, eq=False)
class LastLayer:
    """The last layer that was taken, and what it was compared with.

    Attributes
    ----------
    learned : Learned
    refitted : bool
        Whether it is the exact fit rather than the network's own.
    own, exact : HeadScore or None
        None where there are no validation rows, or nothing was fitted.
    why : str
    """

    learned: Learned
    refitted: bool
    own: HeadScore | None
    exact: HeadScore | None
    why: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "refitted": self.refitted,
            "why": self.why,
            "own": None if self.own is None else self.own.to_dict(),
            "exact": None if self.exact is None else self.exact.to_dict(),
        }


def score_of(z: FloatArray, y: IntArray) -> HeadScore:
    """Answers and loss of scores (n, K)."""
    temperature = fit_temperature(z, y)
    p = softmax(z, temperature)[np.arange(len(y)), y]
    right = Proportion(int(np.count_nonzero(z.argmax(axis=1) == y)), len(y))
    return HeadScore(right, float(-np.log(np.maximum(p, _TINY)).mean()), temperature)


def last_layer(
    W: Float32, b: Float32, examples: Examples, settings: TrainSettings, progress: Progress, stopped: StopReason
) -> LastLayer:
    """Choose between the network's own last layer W (D, K), b (K,) and the exact fit to its features.

    Parameters
    ----------
    W, b
        Of the network.
    examples : Examples
        Features of all rows.
    settings : TrainSettings
        ``refit_last_layer`` is yes, no, or auto: the fit is kept where it makes fewer mistakes on validation rows, or
        as many at a lower loss. A head other than logistic asks for the fit.
    progress : Progress
    stopped : StopReason
        Of the network's training.
    """
    wish = settings.refit_last_layer
    own_fit = _own(W, b, stopped)
    Z, y = examples.validation
    own = score_of(scores(Z, W, b), y) if examples.n_val else None
    if wish == "auto" and HEADS[settings.head].loss != "cross_entropy":
        wish = "yes"
    why = _why_not(wish, own, stopped)
    if why:
        return LastLayer(
            _learned(own_fit, own, f"the network's own last layer: {why}", examples), False, own, None, why
        )
    chosen = choose(examples, settings, progress)
    C = _given_C(settings, examples.n_train, chosen.C)
    fit = chosen.fit
    if fit is None or not chosen.interrupted:
        fit = refit(examples, examples.n_train, C, settings, chosen.fit)
    exact = score_of(scores(Z, fit.W, fit.b), y) if examples.n_val else None
    taken, why = _verdict(wish, own, exact)
    if taken:
        return LastLayer(_refitted(fit, exact, chosen, C, examples, why), True, own, exact, why)
    learned = _learned(own_fit, own, f"the network's own last layer: {why}", examples)
    return LastLayer(dataclasses.replace(learned, points=chosen.points), False, own, exact, why)


def _given_C(settings: TrainSettings, n_train: int, otherwise: float) -> float:
    """C of a given λ and the rows fitted here; `otherwise` where none is given."""
    if math.isnan(settings.l2):
        return otherwise
    return math.inf if settings.l2 == 0 else 1.0 / (settings.l2 * n_train)


def _why_not(wish: str, own: HeadScore | None, stopped: StopReason) -> str:
    """Why nothing is to be fitted; empty: it is."""
    if wish == "no":
        return "--refit-last-layer no"
    if wish == "yes":
        return ""
    if own is None:
        return "no validation images to choose on"
    return "interrupted before the refit" if stopped is StopReason.INTERRUPTED else ""


def _verdict(wish: str, own: HeadScore | None, exact: HeadScore | None) -> tuple[bool, str]:
    """Whether the exact fit is taken, and a sentence with both scores."""
    if own is None or exact is None:
        return True, "as asked for; no validation images to compare on"
    said = f"on validation data {exact} when fitted exactly, {own} as trained"
    if wish == "yes":
        return True, f"as asked for; {said}"
    mistakes = own.right.k - exact.right.k
    if mistakes:
        return mistakes < 0, f"{said}: {'fewer' if mistakes < 0 else 'more'} mistakes"
    lower = exact.loss < own.loss
    return lower, f"{said}: as many mistakes, {'a lower' if lower else 'no lower'} loss"


def _own(W: Float32, b: Float32, stopped: StopReason) -> LinearFit:
    weights = np.asarray(W, np.float64)
    solution = Solution(weights, math.nan, math.nan, stopped, math.nan)
    return LinearFit(weights, np.asarray(b, np.float64), solution, "network")


def _learned(fit: LinearFit, own: HeadScore | None, selection: str, examples: Examples) -> Learned:
    return Learned(
        final=fit,
        selected=fit if examples.n_val else None,
        points=(),
        chosen=-1,
        C=math.nan,
        l2=math.nan,
        selection=selection,
        temperature=1.0 if own is None else own.temperature,
        problems=(),
        interrupted=fit.solution.stop_reason is StopReason.INTERRUPTED,
    )


def _refitted(
    fit: LinearFit, exact: HeadScore | None, chosen: Chosen, C: float, examples: Examples, why: str
) -> Learned:
    """What was fitted, with the λ that belongs to the features as they are, whose common scale is `Examples.unit`."""
    problems = not_converged(fit)
    if chosen.at_edge:
        problems = (Problem("LL041", f"best C = {C:g} is at the edge of its grid"), *problems)
    how = f", C = {C:g}" + (f" chosen among {len(chosen.points)} values by validation loss" if chosen.points else "")
    return Learned(
        final=fit,
        selected=fit if examples.n_val else None,
        points=chosen.points,
        chosen=chosen.best,
        C=C,
        l2=examples.unit**2 / (C * examples.n_train),
        selection=f"last layer fitted exactly to the network's features of training images{how}: {why}",
        temperature=1.0 if exact is None else exact.temperature,
        problems=problems,
        interrupted=chosen.interrupted or fit.solution.stop_reason is StopReason.INTERRUPTED,
    )
