"""A plain function as a `Problem`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import final

import numpy as np

from lastlayer._arrays import Float64
from lastlayer.solvers.base import CURVATURE_BOUND, GRADIENT, SMOOTH, Line, LineValue, Point, Problem


@final
@dataclass(frozen=True, eq=False)
class FunctionProblem(Problem):
    """A plain function with its gradient, for tests and for whoever has one.

    Parameters
    ----------
    function : callable
        params -> (value, gradient).
    begin : ndarray
        Where to start.
    bound : float
        Bound on the curvature, infinite when there is none.
    smooth : bool
        Whether the gradient is continuous.
    """

    function: Callable[[Float64], tuple[float, Float64]]
    begin: Float64
    bound: float = math.inf
    smooth: bool = True
    _count: list[int] = field(default_factory=lambda: [0], repr=False)

    @property
    def name(self) -> str:
        """Name for refusals."""
        return "a plain function"

    @property
    def provides(self) -> frozenset[str]:
        """Gradient; smoothness and a bound as declared."""
        offered = {GRADIENT} | ({SMOOTH} if self.smooth else set())
        return frozenset(offered | ({CURVATURE_BOUND} if np.isfinite(self.bound) else set()))

    @property
    def passes(self) -> float:
        """Evaluations so far."""
        return float(self._count[0])

    def start(self) -> Float64:
        """A copy of `begin`."""
        return np.array(self.begin, dtype=np.float64)

    def at(self, params: Float64) -> Point:
        """Evaluate there."""
        self._count[0] += 1
        value, gradient = self.function(params)
        return _FunctionPoint(self, params, float(value), np.asarray(gradient, dtype=np.float64))

    def norm(self, gradient: Float64) -> float:
        """Norm of the gradient, relative to that at the start where that is not zero."""
        return float(np.linalg.norm(gradient)) / self._yardstick

    @cached_property
    def _yardstick(self) -> float:
        return float(np.linalg.norm(self.function(self.start())[1])) or 1.0

    @property
    def rounding(self) -> float:
        """That of float64."""
        return 1e-15

    def curvature_bound(self) -> float:
        """The bound declared."""
        return self.bound


@final
@dataclass(frozen=True, eq=False)
class _FunctionPoint(Point):
    problem: FunctionProblem
    where: Float64
    height: float
    slope: Float64

    @property
    def params(self) -> Float64:
        return self.where

    @property
    def value(self) -> float:
        return self.height

    @property
    def gradient(self) -> Float64:
        return self.slope

    def line(self, direction: Float64) -> Line:
        return _FunctionLine(self, direction)


@final
@dataclass(frozen=True, eq=False)
class _FunctionLine(Line):
    begin: _FunctionPoint
    direction: Float64

    def evaluate(self, step: float) -> LineValue:
        point = self.move(step)
        return LineValue(point.value, float(np.vdot(point.gradient, self.direction)), math.nan)

    def move(self, step: float) -> Point:
        return self.begin.problem.at(self.begin.params + step * self.direction)
