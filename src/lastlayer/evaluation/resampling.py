r"""Scores of cross-validation, whose folds share their training rows and so are not independent.

With J scores of mean m and variance s² (n − 1), from splits of n_train training and n_out held-out rows,

    m ± t_{J−1} √((1/J + n_out / n_train) s²)

The plain interval, without the second term, takes J folds for J experiments; with repeats it shrinks to nothing while
the data stay what they are. Nested cross-validation, in which every fold chooses for itself, uses the same formula.

Source: Nadeau & Bengio 2003, "Inference for the generalization error"; for repeats Bouckaert & Frank 2004.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lastlayer._arrays import Float64, InputError
from lastlayer.evaluation.intervals import Estimate


def corrected_interval(scores: Sequence[float] | Float64, ratio: float, level: float = 0.95) -> Estimate:
    """Mean of the scores of folds, of one cross-validation or several repeats, with its corrected interval.

    The interval is of the expected score of a model trained on as many rows as a fold has; the ends are not cut at 0
    or 1, for scores may be of any kind.

    Parameters
    ----------
    scores : (J,)
        One a fold; of repeats one after another.
    ratio : float
        Held-out rows per training row of a fold: 1 / (folds − 1).

    >>> str(corrected_interval([0.82, 0.85, 0.84, 0.80, 0.86], 0.25))
    '0.834 [0.789, 0.879]'
    """
    values = _checked(scores, ratio)
    mean = float(values.mean())
    if values.size < 2:
        return Estimate(mean, math.nan, math.nan, "no interval from one fold")
    from scipy.special import stdtrit

    J = values.size
    half_width = float(stdtrit(J - 1, 0.5 + level / 2)) * math.sqrt((1 / J + ratio) * float(values.var(ddof=1)))
    return Estimate(mean, mean - half_width, mean + half_width, "Nadeau & Bengio t")


def corrected_t_test(differences: Sequence[float] | Float64, ratio: float) -> float:
    """Two-sided p-value of paired differences between folds, by the same correction.

    1 where the differences are all 0 or there is only one, 0 where they are all equal and not 0.

    >>> round(corrected_t_test([0.02, 0.03, 0.025, 0.035, 0.03], 0.25), 4)
    0.0019
    """
    values = _checked(differences, ratio)
    J = values.size
    mean, variance = float(values.mean()), float(values.var(ddof=1)) if J > 1 else math.nan
    if not variance > 0:
        return 1.0 if mean == 0 or J < 2 else 0.0
    from scipy.special import stdtr

    t = abs(mean) / math.sqrt((1 / J + ratio) * variance)
    return float(2 * stdtr(J - 1, -t))


def _checked(scores: Sequence[float] | Float64, ratio: float) -> Float64:
    values = np.asarray(scores, np.float64)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise InputError(f"scores of folds have shape {values.shape}; (J,) finite numbers are needed")
    if not (math.isfinite(ratio) and ratio >= 0):
        raise InputError(f"{ratio} held-out rows per training row", "Give 1 / (folds - 1)")
    return values
