"""Two classifiers on the same images: whether they differ by more than noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from lastlayer._arrays import BoolArray, InputError


@final
@dataclass(frozen=True)
class PairedComparison:
    """Two classifiers on the same images, by the images on which only one of them is right.

    Attributes
    ----------
    only_first, only_second : int
        Images only the first, only the second got right.
    n : int
        Images compared.
    p_value : float
        Exact two-sided McNemar: the chance of a split at least this uneven were both equally good.
    """

    only_first: int
    only_second: int
    n: int
    p_value: float

    @property
    def separated(self) -> bool:
        """Whether the two differ beyond noise at the 5% level."""
        return self.p_value < 0.05

    @property
    def first_better(self) -> bool:
        """Whether the first is better beyond noise."""
        return self.separated and self.only_first > self.only_second

    def __str__(self) -> str:
        return (
            f"only the first right {self.only_first}, only the second {self.only_second} of {self.n}: "
            f"exact McNemar p = {self.p_value:.2g}"
        )


def mcnemar(first: BoolArray, second: BoolArray) -> PairedComparison:
    r"""Exact McNemar test of two classifiers on the same rows.

    With b and c the rows only the first and only the second got right, and m = b + c,

    .. math:: p = \min\Bigl(1,\; 2 \sum_{i=0}^{\min(b, c)} \binom{m}{i} 2^{-m}\Bigr)

    Shapes
    ------
    first, second : (N,) bool, whether each row was answered right.

    Source: McNemar 1947; exact binomial form in Dietterich 1998.
    """
    first, second = np.asarray(first, np.bool_), np.asarray(second, np.bool_)
    if first.shape != second.shape or first.ndim != 1:
        raise InputError(f"answers of shapes {first.shape} and {second.shape} cannot be paired")
    b = int(np.count_nonzero(first & ~second))
    c = int(np.count_nonzero(second & ~first))
    if b + c == 0:
        return PairedComparison(b, c, first.size, 1.0)
    from scipy.special import bdtr

    p = min(1.0, 2 * float(bdtr(min(b, c), b + c, 0.5)))
    return PairedComparison(b, c, first.size, p)
