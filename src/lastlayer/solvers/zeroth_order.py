"""Zeroth order: values alone, for functions that have no gradient, or none worth following."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import import_module
from typing import Any, final

import numpy as np

from lastlayer._arrays import Float64, InputError
from lastlayer.solvers.base import (
    CURVATURE_BOUND,
    Callback,
    Point,
    Problem,
    Recorder,
    Solution,
    Solver,
    StopReason,
)

PROBES = 10
"""Probes of the start that set the first gain (two values each)."""
FULL_COVARIANCE = 500
"""Most parameters for which the evolution strategy adapts a full covariance, whose cost is cubic."""


@final
@dataclass(frozen=True, eq=False)
class SPSA(Solver):
    """Simultaneous perturbation stochastic approximation (Spall 1992): two values an iteration in any dimension.

    ``x ← x - aₖ ĝ`` with ``ĝⱼ = (f(x + cₖΔ) - f(x - cₖΔ)) / (2 cₖ Δⱼ)``, every ``Δⱼ`` ±1 at random: on average the
    gradient of f smoothed over ``cₖ``. ``aₖ = a / (A + k + 1)^0.602``, ``cₖ = c / (k + 1)^0.101`` (Spall 1998).

    The value at x itself is never computed; an iteration's record is the better of its two probes, and the last x is
    looked at once more at the end. Gradient norms are not known and recorded as NaN.

    Parameters
    ----------
    a : float or None
        Gain. When None it is set by ten probes of the start, so that a parameter first moves by about `first_step`.
    c : float
        First distance of the probes: about the noise of the values over their slope. A step function such as the
        zero-one loss needs one that changes some decisions.
    A : float or None
        Iterations over which the gain is held back; a tenth of `max_iter` when None.
    first_step : float
        See `a`.
    blocking : float or None
        When given, a step is taken only if it raises the value by no more than this (0: never a rise; Spall 2003,
        section 7.8.2). Costs a third value an iteration; the record is then x itself.
    target : float
        Converged when a value this low has been seen.
    max_iter : int
    seed : int
        Of the directions; iteration k draws from (seed, k).
    """

    a: float | None = None
    c: float = 0.1
    A: float | None = None
    first_step: float = 0.1
    blocking: float | None = None
    target: float = -math.inf
    max_iter: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        for name, given in (("a", self.a), ("c", self.c), ("first_step", self.first_step)):
            if given is not None and not (math.isfinite(given) and given > 0):
                raise InputError(f"{name} is {given}", "Give a positive number")
        for name, given in (("A", self.A), ("blocking", self.blocking), ("max_iter", self.max_iter)):
            if given is not None and not given >= 0:
                raise InputError(f"{name} is {given}", "Give a number of at least 0")

    @property
    def name(self) -> str:
        """Name for refusals."""
        return "spsa"

    @property
    def needs(self) -> frozenset[str]:
        """Nothing but values."""
        return frozenset()

    def minimise(self, problem: Problem, start: Point | None = None, callback: Callback | None = None) -> Solution:
        """Minimise; Ctrl-C returns the best parameters so far."""
        recorder = Recorder(problem, callback)
        try:
            return self._run(problem, start, recorder)
        except KeyboardInterrupt:
            return recorder.solution(StopReason.INTERRUPTED)

    def _run(self, problem: Problem, start: Point | None, recorder: Recorder) -> Solution:
        point = _finite(problem, start or problem.at(problem.start()))
        stop = recorder.add(0, point, math.nan, 0.0)
        x, value = point.params.copy(), point.value
        held = 0.1 * self.max_iter if self.A is None else self.A
        gain = self._gain(problem, x, held) if self.a is None and self.max_iter else self.a or 0.0
        watch = _Watch()
        for k in range(self.max_iter):
            if recorder.best_value <= self.target:
                return recorder.solution(StopReason.CONVERGED)
            if stop:
                return recorder.solution(StopReason.CALLBACK)
            ahead, behind, slope = self._probe(problem, x, self.c / (k + 1.0) ** 0.101, k)
            better = ahead if ahead.value <= behind.value else behind
            if not math.isfinite(slope) or watch.blew_up(value, better.value):
                return recorder.solution(StopReason.DIVERGED, self._diverged(problem, gain, held))
            rate = gain / (held + k + 1.0) ** 0.602
            moved = x - (rate * slope) * self._signs(x, k)
            if self.blocking is None:
                x, point = moved, better
            else:
                tried = problem.at(moved)
                if tried.value <= value + self.blocking:
                    x, value, point = moved, tried.value, tried
            stop = recorder.add(k + 1, point, math.nan, rate)
        if self.blocking is None and self.max_iter:
            recorder.add(self.max_iter + 1, problem.at(x), math.nan, 0.0)
        reached = recorder.best_value <= self.target
        return recorder.solution(StopReason.CONVERGED if reached else StopReason.MAX_ITER)

    def _signs(self, x: Float64, draw: int) -> Float64:
        """The direction Δ of one iteration."""
        return np.random.default_rng((self.seed, draw)).choice(np.array([-1.0, 1.0]), x.shape)

    def _probe(self, problem: Problem, x: Float64, c: float, draw: int) -> tuple[Point, Point, float]:
        """The points beside x at distance c, and the slope between them."""
        signs = self._signs(x, draw)
        ahead, behind = problem.at(x + c * signs), problem.at(x - c * signs)
        return ahead, behind, (ahead.value - behind.value) / (2.0 * c)

    def _gain(self, problem: Problem, x: Float64, held: float) -> float:
        """The a with which the first step moves a parameter by `first_step`, from the typical slope at the start."""
        # Numbered after the iterations, whose own directions are others.
        probes = [self._probe(problem, x, self.c, self.max_iter + i)[2] for i in range(PROBES)]
        typical = float(np.mean([abs(slope) for slope in probes if math.isfinite(slope)] or [0.0]))
        if not typical > 0.0:
            raise InputError(
                f"The value of {problem.name} does not change within c = {self.c:g} of the start",
                "Give a larger c, or the gain a",
            )
        return float(self.first_step * (held + 1.0) ** 0.602 / typical)

    def _diverged(self, problem: Problem, gain: float, held: float) -> str:
        """What went wrong, with the limit where there is one."""
        first = gain / (held + 1.0) ** 0.602
        limit = f" (2/L = {2.0 / problem.curvature_bound():.3g})" if CURVATURE_BOUND in problem.provides else ""
        return (
            f"The values grow: gain a = {gain:.3g}, a first rate of {first:.3g}{limit}, is too large; "
            "the best parameters are kept"
        )


@final
@dataclass(frozen=True, eq=False)
class EvolutionStrategy(Solver):
    """CMA-ES (Hansen & Ostermeier 2001; Hansen 2016), by the library ``cma``.

    Each generation draws points from a normal distribution, moves its mean to the better half and learns its
    covariance from them, which makes long narrow valleys round without a derivative. Only the order of the values
    counts. Above 500 parameters the covariance is diagonal (Ros & Hansen 2008), as its full form costs n³.

    Parameters
    ----------
    sigma : float
        First standard deviation: about a quarter of the range in which the answer is expected.
    population : int or None
        Points a generation; ``4 + 3 log n`` when None. More for rugged functions.
    tol : float
        Converged when the values of the last generations differ by less than this.
    target : float
        Converged when a value this low has been seen.
    max_iter : int
        Generations.
    seed : int
        Of the draws; the global generator is left alone.
    diagonal : bool or None
        See above; by the number of parameters when None.

    Raises
    ------
    InputError
        When ``cma`` is not installed.
    """

    sigma: float = 0.5
    population: int | None = None
    tol: float = 1e-11
    target: float = -math.inf
    max_iter: int = 1000
    seed: int = 0
    diagonal: bool | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.sigma) and self.sigma > 0):
            raise InputError(f"sigma is {self.sigma}", "Give a positive number")
        if self.population is not None and self.population < 3:
            raise InputError(f"population is {self.population}", "At least 3 points a generation are needed")

    @property
    def name(self) -> str:
        """Name for refusals."""
        return "evolution_strategy"

    @property
    def needs(self) -> frozenset[str]:
        """Nothing but values."""
        return frozenset()

    def minimise(self, problem: Problem, start: Point | None = None, callback: Callback | None = None) -> Solution:
        """Minimise; Ctrl-C returns the best parameters so far."""
        library = _cma()
        recorder = Recorder(problem, callback)
        try:
            return self._run(library, problem, start, recorder)
        except KeyboardInterrupt:
            return recorder.solution(StopReason.INTERRUPTED)

    def _run(self, library: Any, problem: Problem, start: Point | None, recorder: Recorder) -> Solution:
        point = _finite(problem, start or problem.at(problem.start()))
        stop = recorder.add(0, point, math.nan, self.sigma)
        shape = point.params.shape
        search = library.CMAEvolutionStrategy(point.params.ravel(), self.sigma, self._options(point.params.size))
        over: dict[str, Any] = {}
        for generation in range(1, self.max_iter + 1):
            if recorder.best_value <= self.target:
                return recorder.solution(StopReason.CONVERGED)
            if stop:
                return recorder.solution(StopReason.CALLBACK)
            points = [problem.at(np.array(drawn).reshape(shape)) for drawn in search.ask()]
            values = np.array([p.value for p in points])
            if not np.isfinite(values).any():
                note = "No point of the generation has a finite value; give a smaller sigma"
                return recorder.solution(StopReason.DIVERGED, note)
            search.tell([p.params.ravel() for p in points], _without_holes(values))
            best = points[int(np.argmin(np.where(np.isnan(values), np.inf, values)))]
            stop = recorder.add(generation, best, math.nan, float(search.sigma))
            over = dict(search.stop())
            if over:
                break
        flat = over and all(record.value == point.value for record in recorder.history)
        if self.max_iter:
            mean = problem.at(np.array(search.mean).reshape(shape))
            recorder.add(recorder.history[-1].iteration + 1, mean, math.nan, float(search.sigma))
        if flat:
            note = f"The value does not change within sigma = {self.sigma:g} of the start; give a larger sigma"
            return recorder.solution(StopReason.PRECISION, note)
        return recorder.solution(*self._verdict(recorder, over))

    def _verdict(self, recorder: Recorder, over: dict[str, Any]) -> tuple[StopReason, str]:
        """The library's reasons to stop in our words."""
        if recorder.best_value <= self.target:
            return StopReason.CONVERGED, ""
        if not over:
            return StopReason.MAX_ITER, ""
        note = f"cma stopped: {', '.join(f'{name} = {value}' for name, value in sorted(over.items()))}"
        met = "tolfun" in over or "tolfunhist" in over
        return StopReason.CONVERGED if met else StopReason.PRECISION, note

    def _options(self, n: int) -> dict[str, Any]:
        """Settings: our own generator, no output, no files read or written."""
        rng = np.random.default_rng(self.seed)
        diagonal = n > FULL_COVARIANCE if self.diagonal is None else self.diagonal
        options = {
            "randn": lambda *shape: rng.standard_normal(shape),
            "seed": math.nan,
            "verbose": -9,
            "verb_log": 0,
            "signals_filename": "",
            "maxiter": math.inf,
            "maxfevals": math.inf,
            "tolfun": self.tol,
            "tolfunhist": 0.1 * self.tol,
            "CMA_diagonal": diagonal,
        }
        return options if self.population is None else {**options, "popsize": self.population}


@final
@dataclass
class _Watch:
    """Notices values that grow: twenty in a row above ten times where they began."""

    reference: float = math.nan
    above: int = 0

    def blew_up(self, first: float, value: float) -> bool:
        """Whether to give up; `first` is the value of the start, `value` that of the probe."""
        if math.isnan(self.reference):
            self.reference = max(abs(first), abs(value))
        self.above = self.above + 1 if value > 10.0 * self.reference else 0
        return self.above >= 20


def _finite(problem: Problem, point: Point) -> Point:
    if not math.isfinite(point.value):
        raise InputError(f"The value of {problem.name} is {point.value} at the start", "Start where it is finite")
    return point


def _without_holes(values: Float64) -> list[float]:
    """Values for the library, which ranks them: what is not finite becomes a little worse than the worst."""
    finite = np.isfinite(values)
    worst = float(values[finite].max())
    return [float(value) for value in np.where(finite, values, worst + 1.0 + abs(worst))]


def _cma() -> Any:
    """The library, imported when it is asked for (it brings matplotlib with it)."""
    try:
        return import_module("cma")
    except ImportError:
        raise InputError("Solver evolution_strategy needs the library cma", "pip install cma", "LL060") from None
