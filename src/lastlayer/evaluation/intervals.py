"""How sure a count of successes makes us: the Wilson 95% interval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

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


def json_number(value: float) -> float | None:
    """`value`, or None where JSON has no way to write it."""
    return float(value) if math.isfinite(value) else None
