"""Early stopping: end when a validation loss has stopped falling, and go back to where it was lowest."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import final

from lastlayer._arrays import Float64, InputError
from lastlayer.solvers.base import Callback, Point, Problem, Record, Solution, Solver, StopReason

Score = Callable[[Float64], float]
"""Parameters to a loss on rows that are not learnt from."""


@final
@dataclass(frozen=True, eq=False)
class EarlyStopping:
    """Stop after `patience` records without a lower validation loss, and return to the best one (Prechelt 1998).

    Parameters
    ----------
    score : callable
        params -> validation loss, for parameters as the solver has them.
    patience : int
        Records in a row, 1 or more, that may pass without an improvement.
    min_delta : float
        By how much a loss must be below the best to be an improvement.
    """

    score: Score
    patience: int = 5
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.patience, bool) or self.patience != self.patience // 1 or self.patience < 1:
            raise InputError(f"patience is {self.patience}; a whole number of at least 1 is needed")
        if not (self.min_delta >= 0.0 and math.isfinite(self.min_delta)):
            raise InputError(f"min_delta is {self.min_delta:g}; a number of at least 0 is needed")

    def watch(self, callback: Callback | None = None) -> Watch:
        """A callback for one run of any solver; `callback` is called as well, and may stop the run too."""
        return Watch(self, callback)


@final
@dataclass(eq=False)
class Watch:
    """One run under early stopping: the callback of a solver, and afterwards its checkpoint and validation losses.

    Attributes
    ----------
    rule : EarlyStopping
    callback : callable or None
        The caller's own.
    scores : list of float
        The validation loss of every record.
    best : int
        Index of the record whose parameters are kept.
    stopped : bool
        Whether the rule stopped the solver.
    """

    rule: EarlyStopping
    callback: Callback | None = None
    scores: list[float] = field(default_factory=list)
    best: int = 0
    stopped: bool = False
    record: Record | None = None
    params: Float64 | None = None

    def __call__(self, record: Record, params: Float64) -> bool:
        """Look at one record; True ends the run."""
        loss = float(self.rule.score(params))
        if not self.scores and not math.isfinite(loss):
            raise InputError(f"the validation loss is {loss:g} at the start", "Check the validation rows and the score")
        self.scores.append(loss)
        if self.record is None or loss < self.scores[self.best] - self.rule.min_delta:
            self.best, self.record, self.params = len(self.scores) - 1, record, params.copy()
        self.stopped = len(self.scores) - 1 - self.best >= self.rule.patience
        # The caller's own is called in any case: it may draw or log every record.
        return bool(self.callback and self.callback(record, params)) or self.stopped

    def back_to_best(self, solution: Solution) -> Solution:
        """The solution with the best checkpoint in place of the solver's own answer.

        The reason is `StopReason.EARLY` when the rule ended the run, or when the solver met its tolerance only after
        the validation loss had begun to rise; otherwise it is the solver's own.
        """
        if self.record is None or self.params is None:
            return solution
        last = len(self.scores) - 1
        early = self.stopped or (solution.stop_reason.converged and self.best < last)
        interrupted = solution.stop_reason is StopReason.INTERRUPTED
        note = (
            f"The validation loss was lowest, {self.scores[self.best]:.4g}, at iteration {self.record.iteration} of "
            f"{solution.iterations}; those parameters are kept"
        )
        return replace(
            solution,
            params=self.params,
            value=self.record.value,
            gradient_norm=self.record.gradient_norm,
            stop_reason=StopReason.EARLY if early and not interrupted else solution.stop_reason,
            note=". ".join(part for part in (solution.note, note) if part),
            point=None,
        )


@final
@dataclass(frozen=True, eq=False)
class EarlyStopped:
    """A solution chosen by validation, with what it was chosen by.

    Attributes
    ----------
    solution : Solution
        The best checkpoint; its history runs on to where the solver stopped.
    validation : tuple of float
        The validation loss of every record of the history.
    best : int
        Index of the record of the checkpoint.
    """

    solution: Solution
    validation: tuple[float, ...]
    best: int


def minimise_with_early_stopping(
    solver: Solver,
    problem: Problem,
    validation: Score,
    patience: int = 5,
    min_delta: float = 0.0,
    start: Point | None = None,
    callback: Callback | None = None,
) -> EarlyStopped:
    """Minimise, and return the parameters at which the validation loss was lowest.

    Parameters
    ----------
    solver : Solver
        Any; what a record is, an iteration or an epoch, is its own affair.
    problem : Problem
    validation : callable
        params -> validation loss.
    patience, min_delta
        As in `EarlyStopping`.
    start, callback
        As in `Solver.minimise`.

    Raises
    ------
    InputError
        When the validation loss is not finite at the start, and as the solver.

    Examples
    --------
    >>> import numpy as np
    >>> from lastlayer.solvers import FunctionProblem, GradientDescent, Scheduled
    >>> from lastlayer.solvers.schedules import constant
    >>> train = FunctionProblem(lambda x: (float(x @ x), 2 * x), np.ones(1), bound=2.0)
    >>> slow = GradientDescent(Scheduled(constant(0.05)))
    >>> fit = minimise_with_early_stopping(slow, train, lambda x: float((x[0] - 0.5) ** 2), patience=3)
    >>> fit.solution.stop_reason.value, fit.best, len(fit.validation)
    ('validation loss stopped falling', 7, 11)
    """
    watch = EarlyStopping(validation, patience, min_delta).watch(callback)
    solution = watch.back_to_best(solver.minimise(problem, start, watch))
    return EarlyStopped(solution, tuple(watch.scores), watch.best)
