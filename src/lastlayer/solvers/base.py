"""What a solver needs of a problem, and what it gives back.

A `Problem` is a function of parameters; a `Point` is the problem evaluated at one value of them, and a `Line` is
the problem along one direction from a point. The three are separate because a linear model keeps its scores at
the point and the scores' change along the direction: moving along a line then costs no product with the data.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from lastlayer._arrays import Float64, InputError, IntArray

GRADIENT = "a gradient"
SMOOTH = "a continuous gradient"
CURVATURE_BOUND = "a bound on its curvature"
QUADRATIC = "a quadratic form"
MISTAKES = "a rule for mistakes"
ROWS = "a sum over rows"
HESSIAN = "second derivatives"
SAMPLES = "second derivatives of samples of rows"


class StopReason(Enum):
    """Why a solver stopped; only the first three mean that the answer is the one asked for."""

    CONVERGED = "converged"
    EXACT = "exact"
    SEPARATED = "separated"
    PRECISION = "precision reached"
    MAX_ITER = "iterations used up"
    DIVERGED = "diverged"
    INTERRUPTED = "interrupted"
    CALLBACK = "stopped by the callback"
    NO_OPTIMUM = "no finite optimum"
    CYCLE = "weights repeat"
    EARLY = "validation loss stopped falling"

    @property
    def converged(self) -> bool:
        """Whether the answer meets the tolerance that was asked for."""
        return self in (StopReason.CONVERGED, StopReason.EXACT, StopReason.SEPARATED)


class LineValue(NamedTuple):
    """``f(x + t d)`` with its first and second derivative in t (curvature NaN where it is not known)."""

    value: float
    slope: float
    curvature: float


class Record(NamedTuple):
    """One line of a solver's history."""

    iteration: int
    value: float
    gradient_norm: float
    step: float
    passes: float
    seconds: float


Callback = Callable[[Record, Float64], bool]
"""Called with every record and the parameters; returning True stops the solver."""


class Line(ABC):
    """A problem along ``point + t · direction``."""

    @abstractmethod
    def evaluate(self, step: float) -> LineValue:
        """Value, slope and curvature at `step`."""

    @abstractmethod
    def move(self, step: float) -> Point:
        """The point at `step`; the point the line began at may no longer be used for new lines."""


class Point(ABC):
    """A problem at one value of its parameters."""

    @property
    @abstractmethod
    def params(self) -> Float64:
        """The parameters."""

    @property
    @abstractmethod
    def value(self) -> float:
        """The value there."""

    @property
    @abstractmethod
    def gradient(self) -> Float64:
        """The gradient there, of the shape of the parameters."""

    @abstractmethod
    def line(self, direction: Float64) -> Line:
        """The line from here along `direction`."""


class CurvedPoint(Point):
    """A point of a problem that provides `HESSIAN`."""

    @abstractmethod
    def hessian_times(self, direction: Float64) -> Float64:
        """The Hessian here (a generalised one where it jumps) times a direction of the shape of the parameters."""


class SampledPoint(CurvedPoint):
    """A point of a sum over rows whose second derivatives may be estimated from some of the rows (`SAMPLES`)."""

    @abstractmethod
    def sample(self, n_rows: int, seed: tuple[int, ...]) -> CurvedPoint:
        """The point on about `n_rows` rows; its `hessian_times` is an unbiased estimate, and costs so much less."""


class Problem(ABC):
    """A function to be minimised."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What refusals call it."""

    @property
    @abstractmethod
    def provides(self) -> frozenset[str]:
        """What it offers to a solver, such as `GRADIENT`."""

    @property
    @abstractmethod
    def passes(self) -> float:
        """Passes over the data so far: one forward and one backward product are one pass."""

    @abstractmethod
    def start(self) -> Float64:
        """Where to begin when nothing better is known."""

    @abstractmethod
    def at(self, params: Float64) -> Point:
        """The problem at `params`."""

    @property
    @abstractmethod
    def rounding(self) -> float:
        """Relative rounding error of its values: differences below it mean nothing."""

    @abstractmethod
    def norm(self, gradient: Float64) -> float:
        """Relative size of a gradient: 1 at the start, 0 at the optimum, free of the units of the data."""

    @abstractmethod
    def curvature_bound(self) -> float:
        """L, an upper bound of the largest eigenvalue of the Hessian (infinite when there is none)."""


class RowProblem(Problem):
    """A problem that is a sum over labelled rows (it provides `ROWS`), for rules that look at a few rows at a time."""

    @property
    @abstractmethod
    def n_rows(self) -> int:
        """N."""

    @abstractmethod
    def take(self, rows: IntArray) -> tuple[Float64, IntArray, Float64]:
        """Features (n, D + 1) with a final column of ones, labels (n,) and weights (n,) of some rows."""

    @abstractmethod
    def batch(self, params: Float64, rows: IntArray) -> tuple[float, Float64]:
        """Value and gradient with the mean taken over some rows only, the penalty in full.

        Over rows drawn without preference both are unbiased estimates of the whole; n rows count as n/N passes.
        """


@dataclass(frozen=True, eq=False)
class Solution:
    """A solver's answer, with its reason.

    Attributes
    ----------
    params : ndarray
        The best parameters seen.
    value : float
        The objective there.
    gradient_norm : float
        The relative gradient norm there (`Problem.norm`).
    stop_reason : StopReason
        Why the solver stopped; ``stop_reason.converged`` says whether the tolerance was met.
    passes : float
        Passes over the data.
    history : tuple of Record
        One record an iteration, the start included.
    note : str
        One sentence on what happened and what to do, where there is something to say.
    mistakes : tuple of int
        Mistakes in each epoch, for the rules that count them.
    point : Point or None
        The problem at `params`, for a warm start that computes nothing again; holds on to the data.
    """

    params: Float64
    value: float
    gradient_norm: float
    stop_reason: StopReason
    passes: float
    history: tuple[Record, ...] = ()
    note: str = ""
    mistakes: tuple[int, ...] = ()
    point: Point | None = field(default=None, repr=False)

    @property
    def iterations(self) -> int:
        """Iterations made (0 when the start was already good enough)."""
        return self.history[-1].iteration if self.history else 0


class Solver(ABC):
    """A way to the minimum of a problem."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What refusals call it."""

    @property
    @abstractmethod
    def needs(self) -> frozenset[str]:
        """What a problem must provide."""

    @abstractmethod
    def minimise(self, problem: Problem, start: Point | None = None, callback: Callback | None = None) -> Solution:
        """Minimise `problem` from `start` (its own start when None)."""


@dataclass
class Recorder:
    """Keeps a solver's history, the best point, and the reason to stop."""

    problem: Problem
    callback: Callback | None = None
    history: list[Record] = field(default_factory=list)
    best: Point | None = None
    best_value: float = float("inf")
    best_norm: float = float("inf")
    smallest_norm: float = float("inf")

    def __post_init__(self) -> None:
        self._clock = time.perf_counter()
        self._passes = self.problem.passes

    def add(self, iteration: int, point: Point, norm: float, step: float) -> bool:
        """Add a record; True when the callback wants to stop. The best point is kept."""
        record = Record(
            iteration,
            point.value,
            norm,
            step,
            self.problem.passes - self._passes,
            time.perf_counter() - self._clock,
        )
        self.history.append(record)
        # Of two values that differ by rounding the one with the smaller gradient is the better.
        same = point.value <= self.best_value + 4.0 * self.problem.rounding * abs(self.best_value)
        if self.best is None or point.value <= self.best_value or (same and norm < self.best_norm):
            self.best, self.best_value, self.best_norm = point, point.value, norm
        return bool(self.callback and self.callback(record, point.params))

    def improves(self, value: float, norm: float) -> bool:
        """Whether a value or a gradient norm is better than the best so far by more than rounding."""
        lower = value < self.best_value - self.problem.rounding * abs(self.best_value)
        smaller = norm < 0.9 * self.smallest_norm
        self.smallest_norm = min(self.smallest_norm, norm)
        return lower or smaller

    def forget_best(self) -> None:
        """Make the next point the best, whatever its value."""
        self.best_value = float("inf")

    def solution(self, reason: StopReason, note: str = "", mistakes: tuple[int, ...] = ()) -> Solution:
        """The best point as a `Solution`."""
        if self.best is None:
            raise InputError("Interrupted before the first value was known", "Start again")
        return Solution(
            params=self.best.params,
            value=self.best_value,
            gradient_norm=self.best_norm,
            stop_reason=reason,
            passes=self.problem.passes - self._passes,
            history=tuple(self.history),
            note=note,
            mistakes=mistakes,
            point=self.best,
        )


def refuse_impossible(solver: Solver, problem: Problem, pair_that_works: str) -> None:
    """Raise `InputError` when the problem lacks what the solver needs, before any work is done."""
    missing = sorted(solver.needs - problem.provides)
    if missing:
        raise InputError(
            f"Solver {solver.name} cannot minimise {problem.name}: it needs {' and '.join(missing)}",
            f"A pair that works: {pair_that_works}",
        )
