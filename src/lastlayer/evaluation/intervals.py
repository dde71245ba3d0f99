"""How sure counts make us: Wilson's interval of a share, and what follows from it in closed form.

The F1 of a class and the difference of two shares of the same images need no resampling: see `f1_interval` and
`newcombe`. What has no closed form is in `bootstrap`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, final

from lastlayer._arrays import InputError

Z95 = 1.959963984540054  # the standard normal's 97.5% point


def wilson(k: int, n: int) -> tuple[float, float]:
    r"""Wilson score interval, 95%, of a proportion of `k` successes in `n` trials.

    .. math::
        \frac{k + z^2/2 \pm z\sqrt{k(n-k)/n + z^2/4}}{n + z^2}, \qquad z = 1.96

    It inverts the score test, so it never leaves [0, 1] and keeps its coverage for small n and for
    proportions near 0 and 1, where the textbook p ± 1.96·sqrt(p(1−p)/n) fails.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference";
    recommended by Brown, Cai and DasGupta 2001.

    >>> [round(100 * end, 1) for end in wilson(87, 123)]
    [62.2, 78.0]
    """
    if n == 0:
        return math.nan, math.nan
    z2 = Z95 * Z95
    middle = k + z2 / 2
    half_width = Z95 * math.sqrt(k * (n - k) / n + z2 / 4)
    # The ends are exactly 0 and 1 there in theory; rounding must not print 1e-17.
    low = 0.0 if k == 0 else (middle - half_width) / (n + z2)
    high = 1.0 if k == n else (middle + half_width) / (n + z2)
    return low, high


@final
@dataclass(frozen=True)
class Proportion:
    """`k` of `n`, and the interval the true rate likely lies in.

    With ``n = 0`` the value and both ends are NaN and the text is ``n/a``.

    >>> str(Proportion(87, 123))
    '87/123 = 70.7% [62.2, 78.0]'
    """

    k: int
    n: int

    def __post_init__(self) -> None:
        if not 0 <= self.k <= self.n:
            raise ValueError(f"{self.k} of {self.n} is no proportion")

    @property
    def value(self) -> float:
        """Share of successes, k / n."""
        return self.k / self.n if self.n else math.nan

    @property
    def low(self) -> float:
        """Lower end of the Wilson 95% interval."""
        return wilson(self.k, self.n)[0]

    @property
    def high(self) -> float:
        """Upper end of the Wilson 95% interval."""
        return wilson(self.k, self.n)[1]

    def percent(self) -> str:
        """The value alone: ``70.7%``."""
        return f"{100 * self.value:.1f}%" if self.n else "n/a"

    def interval(self) -> str:
        """The interval alone, in percent: ``[62.2, 78.0]``."""
        return f"[{100 * self.low:.1f}, {100 * self.high:.1f}]" if self.n else "n/a"

    def __str__(self) -> str:
        return f"{self.k}/{self.n} = {self.percent()} {self.interval()}" if self.n else "n/a"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what n = 0 leaves undefined is None."""
        value, low, high = (json_number(x) for x in (self.value, self.low, self.high))
        return {"k": self.k, "n": self.n, "value": value, "low": low, "high": high}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Proportion:
        """Inverse of `to_dict`; the interval is computed again."""
        return cls(int(stored["k"]), int(stored["n"]))


def normal_quantile(level: float) -> float:
    """Z with P(|Z| ≤ z) = `level` for a standard normal Z."""
    if level == 0.95:
        return Z95
    if not 0.0 < level < 1.0:
        raise InputError(f"the level {level} is no probability between 0 and 1", "Give 0.95, say")
    return NormalDist().inv_cdf(0.5 + level / 2)


def wilson_share(share: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Wilson interval of a share seen in `n` trials, where n is an effective number and need not be whole."""
    if not n > 0:
        return math.nan, math.nan
    z = normal_quantile(level)
    k = share * n
    middle, half_width = k + z * z / 2, z * math.sqrt(max(0.0, k * (1 - share)) + z * z / 4)
    low = 0.0 if share <= 0 else max(0.0, (middle - half_width) / (n + z * z))
    high = 1.0 if share >= 1 else min(1.0, (middle + half_width) / (n + z * z))
    return low, high


def f1_interval(hits: int, labelled: int, answered: int, level: float = 0.95) -> tuple[float, float]:
    r"""Interval of a class's F1 from its `hits` TP, images `labelled` TP + FN and answers `answered` TP + FP.

    F1 = 2J / (1 + J) grows with the Jaccard index J = TP / (TP + FP + FN). Of images drawn independently, those that
    are of the class or answered as the class are hits with probability J, one by one; so J has Wilson's interval with
    n = TP + FP + FN trials, and F1 the image of it. It holds for small classes too, and where every answer is right,
    which a bootstrap of TP, FP and FN does not (its interval would have no width).

    NaN where no image is labelled.

    >>> [round(end, 3) for end in f1_interval(24, 26, 27)]
    [0.791, 0.961]
    """
    if not labelled:
        return math.nan, math.nan
    union = labelled + answered - hits
    low, high = wilson_share(hits / union, union, level)
    return 2 * low / (1 + low), 2 * high / (1 + high)


def newcombe(both: int, only_first: int, only_second: int, neither: int, level: float = 0.95) -> tuple[float, float]:
    r"""Interval of the difference first − second of two shares of the same n rows.

    With p₁, p₂ the shares, (l₁, u₁), (l₂, u₂) their Wilson intervals and φ̂ the correlation of the two answers,

    .. math::
        d - \sqrt{(p_1-l_1)^2 - 2\hat\varphi (p_1-l_1)(u_2-p_2) + (u_2-p_2)^2}, \quad
        d + \sqrt{(u_1-p_1)^2 - 2\hat\varphi (u_1-p_1)(p_2-l_2) + (p_2-l_2)^2}

    where φ̂ has its numerator a·d − b·c lowered by n/2, not below 0, when positive.

    Source: Newcombe 1998, "Improved confidence intervals for the difference between binomial proportions based on
    paired data", method 10.

    >>> [round(end, 4) for end in newcombe(36, 12, 2, 0)]
    [0.0569, 0.3404]
    """
    n = both + only_first + only_second + neither
    if n == 0:
        return math.nan, math.nan
    first, second = both + only_first, both + only_second
    p1, p2 = first / n, second / n
    (l1, u1), (l2, u2) = wilson_share(p1, n, level), wilson_share(p2, n, level)
    product = float(first) * (n - first) * second * (n - second)
    phi = 0.0
    if product > 0:
        numerator = float(both * neither - only_first * only_second)
        if numerator > 0:
            numerator = max(numerator - n / 2, 0.0)
        phi = numerator / math.sqrt(product)
    a, b = p1 - l1, u2 - p2
    c, d = u1 - p1, p2 - l2
    difference = p1 - p2
    low = difference - math.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b))
    high = difference + math.sqrt(max(0.0, c * c - 2 * phi * c * d + d * d))
    return max(-1.0, low), min(1.0, high)


@final
@dataclass(frozen=True)
class Estimate:
    """A number and the interval its true value likely lies in; NaN where it is not defined.

    Attributes
    ----------
    value, low, high : float
    method : str
        How the interval was made, in a few words.
    """

    value: float
    low: float
    high: float
    method: str = ""

    def percent(self) -> str:
        """Value and interval as percentages: ``86.5% [81.0, 90.6]``.

        >>> Estimate(0.865, 0.81, 0.906).percent()
        '86.5% [81.0, 90.6]'
        """
        if math.isnan(self.value):
            return "n/a"
        return f"{100 * self.value:.1f}%{self.interval(100, 1)}"

    def __str__(self) -> str:
        return "n/a" if math.isnan(self.value) else f"{self.value:.3f}{self.interval()}"

    def interval(self, factor: float = 1.0, digits: int = 3) -> str:
        """`` [low, high]``, or nothing where there is none."""
        if math.isnan(self.low) or math.isnan(self.high):
            return ""
        return f" [{factor * self.low:.{digits}f}, {factor * self.high:.{digits}f}]"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        value, low, high = (json_number(x) for x in (self.value, self.low, self.high))
        return {"value": value, "low": low, "high": high, "method": self.method}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Estimate:
        """Inverse of `to_dict`."""
        value, low, high = (math.nan if stored[key] is None else float(stored[key]) for key in ("value", "low", "high"))
        return cls(value, low, high, str(stored.get("method", "")))


def json_number(value: float) -> float | None:
    """`value`, or None where JSON has no way to write it."""
    return float(value) if math.isfinite(value) else None
