"""η: the learning rate chosen by a search over decades that reports all it tried."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from lastlayer._arrays import Float64, InputError
from lastlayer._progress import SILENT, Progress, Task
from lastlayer.linear import single_blas_thread
from lastlayer.solvers.base import Problem, Record, Solution, Solver, StopReason

MakeSolver = Callable[[float], Solver]
Validation = Callable[[Float64], float]

KEPT, DROPPED, DIVERGED, CHOSEN, INTERRUPTED = "kept", "dropped", "diverged", "chosen", "interrupted"


def decades(low: float, high: float) -> tuple[float, ...]:
    """Powers of ten from `low` to `high`, both included.

    >>> decades(1e-3, 1.0)
    (0.001, 0.01, 0.1, 1.0)
    """
    if not 0 < low <= high < math.inf:
        raise InputError(f"rates from {low} to {high}", "Give 0 < low <= high")
    first, last = math.floor(math.log10(low) + 0.5), math.floor(math.log10(high) + 0.5)
    return tuple(float(f"1e{power}") for power in range(first, last + 1))


@final
@dataclass(frozen=True)
class RateTrial:
    """One rate under one budget.

    Attributes
    ----------
    rate : float
    rung : int
        1 for the shortest budget.
    budget, passes : float
        Passes allowed after the start, and used in all.
    value : float
        What was judged, validation or objective; infinite for a run that diverged.
    outcome : str
        kept, dropped, diverged, chosen or interrupted.
    why : str
        One sentence.
    stop_reason : StopReason
        The solver's; CALLBACK where the budget ended it.
    seconds : float
    """

    rate: float
    rung: int
    budget: float
    passes: float
    value: float
    outcome: str
    why: str
    stop_reason: StopReason
    seconds: float


@final
@dataclass(frozen=True, eq=False)
class RateSearch:
    """Everything a search tried, and its choice.

    Attributes
    ----------
    trials : tuple of RateTrial
        In the order they ran.
    best : float
        The rate chosen.
    solution : Solution
        Of that rate under the largest budget it had.
    measure : str
        What `value` is: "validation" or "objective".
    passes : float
        Passes of all trials together.
    at_edge : bool
        Whether the choice is the smallest or largest rate tried, so that a wider grid may be better. A largest rate
        with nothing but divergence above it is not at the edge.
    note : str
        One sentence where there is something to say.
    """

    trials: tuple[RateTrial, ...]
    best: float
    solution: Solution
    measure: str
    passes: float
    at_edge: bool
    note: str = ""

    def table(self) -> str:
        """The trials as text, one a line."""
        head = f"{'rung':>4} {'rate':>9} {'budget':>8} {'passes':>8} {self.measure:>12}  outcome"
        lines = [
            f"{t.rung:>4} {t.rate:>9.3g} {t.budget:>8.3g} {t.passes:>8.3g} {t.value:>12.6g}  {t.outcome}: {t.why}"
            for t in self.trials
        ]
        return "\n".join([head, *lines])


def search_learning_rate(
    problem: Problem | Callable[[], Problem],
    make_solver: MakeSolver,
    rates: Sequence[float] = decades(1e-4, 10.0),
    *,
    budget: float,
    validation: Validation | Problem | None = None,
    shrink: int = 3,
    least: float = 1.0,
    progress: Progress = SILENT,
) -> RateSearch:
    """Try rates with successive halving: many for a short time, the best of them for longer.

    All rates run for ``budget / shrinkᵏ`` passes; the best ``1 / shrink`` of them go on with `shrink` times as many,
    until one is left or the budget is reached (Jamieson & Talwalkar 2016, AISTATS). Seven rates with ``shrink=3`` cost
    about ``(7/9 + 3/3 + 1) · budget`` instead of ``7 · budget``.

    Parameters
    ----------
    problem : Problem or callable
        What to minimise, or a function that makes it anew for every trial.
    make_solver : callable
        Rate to solver, such as ``lambda rate: SGD(..., schedule=constant(rate))``. The solver needs to know nothing of
        budgets: it is stopped at the first record that has used up its own. Survivors start again from the beginning,
        so that schedules and momentum are those of one uninterrupted run; a solver made from a seed repeats itself.
    rates : sequence of float
        Positive and finite; sorted and made unique.
    budget : float
        Passes of the last rung, counted from the solver's first record.
    validation : callable or Problem, optional
        Parameters to a number, the lower the better, or a problem whose value is that number. The objective that is
        minimised when None.
    shrink : int
        At least 2.
    least : float
        Fewest passes worth judging: the first rung's budget is no smaller, with fewer rungs where necessary.
    progress : Progress

    Raises
    ------
    InputError
        For rates, budgets and `shrink` that make no sense, and when every rate diverges (the message lists them).

    Notes
    -----
    A rate whose values overflow or become NaN is named as diverged and never an error. When all rates of a rung
    diverge, the best of those dropped before take their places. Ctrl-C returns the best so far.
    """
    grid = _checked_rates(rates)
    if not (0 < budget < math.inf and 0 < least < math.inf and shrink >= 2):
        raise InputError(f"budget {budget}, least {least}, shrink {shrink}", "Give passes above 0, and shrink >= 2")
    budgets = _budgets(len(grid), budget, shrink, min(least, budget))
    with single_blas_thread(), progress.task("learning rate", len(grid)) as task:
        return _Search(problem, make_solver, validation, tuple(grid), task).run(budgets, shrink)


def _checked_rates(rates: Sequence[float]) -> list[float]:
    grid = sorted({float(rate) for rate in rates})
    if not grid or not all(0 < rate < math.inf for rate in grid):
        raise InputError(f"learning rates are {list(rates)}", "Give positive, finite numbers")
    return grid


def _budgets(count: int, budget: float, shrink: int, least: float) -> list[float]:
    """Passes of each rung, the last one's being `budget`."""
    rungs = [budget]
    while count > 1 and rungs[0] / shrink >= least:
        count = -(-count // shrink)
        rungs.insert(0, rungs[0] / shrink)
    return rungs


@final
@dataclass(frozen=True, eq=False)
class _Run:
    """A trial with its solution, before it is ranked."""

    trial: RateTrial
    solution: Solution

    @property
    def sound(self) -> bool:
        return self.trial.outcome != DIVERGED

    @property
    def order(self) -> tuple[float, float, float]:
        """Low values first, then those that cost less, then the smaller rate."""
        return self.trial.value, self.trial.passes, self.trial.rate


@final
class _Search:
    """A search under way."""

    def __init__(
        self,
        problem: Problem | Callable[[], Problem],
        make_solver: MakeSolver,
        validation: Validation | Problem | None,
        grid: tuple[float, ...],
        task: Task,
    ) -> None:
        self.problem, self.make_solver, self.validation = problem, make_solver, validation
        self.grid, self.task = grid, task
        self.runs: list[_Run] = []

    def run(self, budgets: list[float], shrink: int) -> RateSearch:
        """All rungs."""
        alive, reserve = list(self.grid), list[float]()
        ranked: list[_Run] = []
        for rung, budget in enumerate(budgets, 1):
            ranked = self._rung(alive, reserve, rung, budget)
            if self._interrupted:
                break
            last = rung == len(budgets)
            keep = 1 if last else -(-len(alive) // shrink)
            self._tell(ranked, keep, CHOSEN if last else KEPT)
            alive = [run.trial.rate for run in ranked[:keep]]
            reserve = [run.trial.rate for run in ranked[keep:]] + reserve
        return self._result()

    @property
    def _interrupted(self) -> bool:
        return bool(self.runs) and self.runs[-1].trial.outcome == INTERRUPTED

    def _rung(self, alive: list[float], reserve: list[float], rung: int, budget: float) -> list[_Run]:
        """Sound runs of one rung, best first; rates in reserve step in when all others diverge."""
        while True:
            runs = []
            for rate in alive:
                runs.append(self._try(rate, rung, budget))
                self.runs.append(runs[-1])
                if self._interrupted:
                    return []
            sound = sorted((run for run in runs if run.sound), key=lambda run: run.order)
            if sound:
                return sound
            if not reserve:
                tried = ", ".join(f"{rate:.3g}" for rate in self.grid)
                raise InputError(
                    f"every learning rate diverged: {tried} ({self.runs[0].trial.why})",
                    f"Try rates below {self.grid[0]:.3g}, or scale the features",
                )
            count = min(len(alive), len(reserve))
            alive = reserve[:count]
            del reserve[:count]

    def _try(self, rate: float, rung: int, budget: float) -> _Run:
        """One rate under one budget."""
        clock = time.perf_counter()
        problem = self.problem if isinstance(self.problem, Problem) else self.problem()

        begin = math.nan

        def spent(record: Record, params: Float64) -> bool:
            nonlocal begin
            begin = record.passes if math.isnan(begin) else begin
            return record.passes - begin >= budget or not math.isfinite(record.value)

        with np.errstate(over="ignore", invalid="ignore"):  # a rate that is too large is a finding here
            solution = self.make_solver(rate).minimise(problem, None, spent)
            outcome, why, value = self._judge(solution)
        seconds = time.perf_counter() - clock
        trial = RateTrial(rate, rung, budget, solution.passes, value, outcome, why, solution.stop_reason, seconds)
        self.task.advance(1 if rung == 1 else 0, f"rate {rate:.3g}: {outcome or format(value, '.4g')}")
        return _Run(trial, solution)

    def _judge(self, solution: Solution) -> tuple[str, str, float]:
        """Outcome, reason and value of a run; no outcome yet for a sound one."""
        if solution.stop_reason is StopReason.INTERRUPTED:
            return INTERRUPTED, "Ctrl-C", solution.value
        if solution.stop_reason is StopReason.DIVERGED:
            return DIVERGED, solution.note or "the solver says so", math.inf
        bad = [record for record in solution.history if not math.isfinite(record.value)]
        if bad or not math.isfinite(solution.value):
            where = f" in iteration {bad[0].iteration}" if bad else ""
            return DIVERGED, f"the objective is no longer finite{where}", math.inf
        value = self._value(solution)
        if not math.isfinite(value):
            return DIVERGED, f"validation gives {value}", math.inf
        return "", "", value

    def _value(self, solution: Solution) -> float:
        if self.validation is None:
            return solution.value
        if isinstance(self.validation, Problem):
            return self.validation.at(solution.params).value
        return float(self.validation(solution.params))

    def _tell(self, ranked: list[_Run], keep: int, outcome: str) -> None:
        """Write outcome and reason into the runs that were ranked."""
        for place, run in enumerate(ranked, 1):
            kept = place <= keep
            why = f"ranked {place} of {len(ranked)}" + ("" if _fell(run.solution) else ", never below its start")
            trial = replace(run.trial, outcome=outcome if kept else DROPPED, why=why)
            self.runs[self.runs.index(run)] = _Run(trial, run.solution)

    def _result(self) -> RateSearch:
        """The choice: of the last rung that was finished, or the best so far."""
        best = [run for run in self.runs if run.trial.outcome == CHOSEN]
        if not best:
            best = sorted((run for run in self.runs if run.sound), key=lambda run: (-run.trial.rung, *run.order))
        if not best:
            raise InputError("Interrupted before the first rate was tried to its end", "Start again")
        chosen = best[0]
        at_edge, note = self._edge(chosen.trial.rate)
        return RateSearch(
            trials=tuple(run.trial for run in self.runs),
            best=chosen.trial.rate,
            solution=chosen.solution,
            measure="objective" if self.validation is None else "validation",
            passes=sum(run.trial.passes for run in self.runs),
            at_edge=at_edge,
            note="Interrupted: the best so far" if self._interrupted else note,
        )

    def _edge(self, rate: float) -> tuple[bool, str]:
        if len(self.grid) > 1 and rate == self.grid[0]:
            return True, f"{rate:.3g} is the smallest rate tried; a smaller one may be better"
        if len(self.grid) > 1 and rate == self.grid[-1]:
            return True, f"{rate:.3g} is the largest rate tried; a larger one may be better"
        return False, ""


def _fell(solution: Solution) -> bool:
    """Whether the objective was ever below its start."""
    return not solution.history or solution.value < solution.history[0].value
