"""The perceptron's rule: learn from mistakes, one row at a time."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import final

import numpy as np

from lastlayer._arrays import Float64, InputError, IntArray
from lastlayer.solvers.base import (
    MISTAKES,
    Callback,
    Point,
    Problem,
    Recorder,
    RowProblem,
    Solution,
    Solver,
    StopReason,
    refuse_impossible,
)

BLOCK = 256
LARGEST_PROGRAM = 200_000
"""Most coefficients of the linear program that decides whether data are separable: about a tenth of a second."""
NO_MARGIN = 1e-8
"""Margins below it, in features scaled to 1, are rounding."""


@final
@dataclass(frozen=True, eq=False)
class PerceptronRule(Solver):
    """Rosenblatt's rule (1958) for several classes, with averaged weights.

    A row whose label does not have the largest score moves the weights: its features are added to its own class
    and taken from the class that won (Kesler's construction, Duda & Hart 1973, section 5.12; Collins 2002). It
    stops when an epoch makes no mistake, and then returns those weights; otherwise the average over all steps, which
    is steadier than the last (Freund & Schapire 1999). It has no penalty and no step size: scaling all updates changes
    no decision.

    On rows that a linear rule separates with margin γ, R their greatest norm, it makes at most ``(R/γ)²`` mistakes
    (Novikoff 1962; for two classes). On others it never ends, and says so where it can be proved: with `shuffle` off,
    weights that come back after some epochs will come back for ever (they are compared bit by bit, so that a cycle may
    be missed where sums round, but none is made up); otherwise, for small data, by a linear program
    (`_separability.margin_bound`).

    Parameters
    ----------
    epochs : int
        Most passes over the rows.
    seed : int
        Of the shuffles; epoch e is shuffled by (seed, e).
    shuffle : bool
        Whether each epoch has its own order; without it rows are visited as they come.
    patience : int or None
        Stop when the share of mistakes has not fallen by `tol` for so many epochs in a row; never when None.
    tol : float
        See `patience`.
    """

    epochs: int = 20
    seed: int = 0
    shuffle: bool = True
    patience: int | None = None
    tol: float = 0.0

    @property
    def name(self) -> str:
        """Name for refusals."""
        return "perceptron"

    @property
    def needs(self) -> frozenset[str]:
        """Rows, and a loss that is about mistakes."""
        return frozenset({MISTAKES})

    def minimise(self, problem: Problem, start: Point | None = None, callback: Callback | None = None) -> Solution:
        """Learn; Ctrl-C returns the best parameters so far."""
        refuse_impossible(self, problem, "loss perceptron with solver perceptron")
        if not isinstance(problem, RowProblem):
            raise InputError(f"{problem.name} has no rows to look at", "Give an objective over rows")
        recorder = Recorder(problem, callback)
        mistakes: list[int] = []
        try:
            return self._run(problem, start, recorder, mistakes)
        except KeyboardInterrupt:
            return recorder.solution(StopReason.INTERRUPTED, mistakes=tuple(mistakes))

    def _run(self, problem: RowProblem, start: Point | None, recorder: Recorder, mistakes: list[int]) -> Solution:
        point = start or problem.at(problem.start())
        stop = recorder.add(0, point, problem.norm(point.gradient), 0.0)
        state = _State(point.params.copy(), np.zeros_like(point.params))
        seen = {} if self.shuffle else {state.digest(): 0}
        for epoch in range(1, self.epochs + 1):
            if stop:
                return recorder.solution(StopReason.CALLBACK, mistakes=tuple(mistakes))
            order = self._order(epoch, problem.n_rows)
            made = sum(state.learn(problem, order[i : i + BLOCK]) for i in range(0, len(order), BLOCK))
            mistakes.append(made)
            point = problem.at(state.params if made == 0 else state.average())
            recorder.forget_best()  # the loss grows with the weights: the newest answer is the one, not the lowest
            stop = recorder.add(epoch, point, problem.norm(point.gradient), 1.0)
            if made == 0:
                note = f"Separated after {epoch} epochs and {sum(mistakes)} mistakes"
                return recorder.solution(StopReason.SEPARATED, note, tuple(mistakes))
            if not self.shuffle:
                first = seen.setdefault(state.digest(), epoch)
                if first < epoch:
                    return recorder.solution(StopReason.CYCLE, _cycle(first, epoch, made), tuple(mistakes))
            if self._settled(mistakes, problem.n_rows):
                note = f"{made} mistakes in epoch {epoch}, no fewer than {self.patience} epochs before"
                return recorder.solution(StopReason.CONVERGED, note, tuple(mistakes))
        note = f"{mistakes[-1]} mistakes in the last of {self.epochs} epochs" if mistakes else ""
        return recorder.solution(StopReason.MAX_ITER, note + _whether_separable(problem), tuple(mistakes))

    def _order(self, epoch: int, n: int) -> IntArray:
        return np.random.default_rng((self.seed, epoch)).permutation(n) if self.shuffle else np.arange(n)

    def _settled(self, mistakes: list[int], n: int) -> bool:
        if self.patience is None or len(mistakes) <= self.patience:
            return False
        return min(mistakes[-self.patience :]) > min(mistakes[: -self.patience]) - self.tol * n


def _cycle(first: int, epoch: int, made: int) -> str:
    period = epoch - first
    return (
        f"The classes are not linearly separable: the weights after epoch {epoch} are those after epoch {first}, so "
        f"that the {made} mistakes of the last epoch come back every {period} epoch{'s' if period > 1 else ''} for ever"
    )


def _whether_separable(problem: RowProblem) -> str:
    """What a linear program says of small data that were not separated."""
    if problem.n_rows * len(problem.start()) > LARGEST_PROGRAM:
        return ""
    from lastlayer.solvers._separability import margin_bound

    X, y, _ = problem.take(np.arange(problem.n_rows))
    bound = margin_bound(X, y, problem.start().shape[1], LARGEST_PROGRAM)
    if bound is None:
        return ""
    if bound <= NO_MARGIN:
        return (
            f". The classes are not linearly separable: no weights have a margin above {NO_MARGIN:g} (linear program)"
        )
    return ". The classes are linearly separable (linear program): more epochs will find how"


@final
@dataclass
class _State:
    """Weights on their way, and what their average needs: ``Σ t · (update made at step t)``."""

    params: Float64
    timed: Float64
    steps: int = field(default=0)

    def digest(self) -> bytes:
        """The weights' own bytes, hashed; -0 counts as 0."""
        return hashlib.blake2b((self.params + 0.0).tobytes(), digest_size=16).digest()

    def average(self) -> Float64:
        """Mean of the weights after each row."""
        return self.params - self.timed / max(1, self.steps)

    def learn(self, problem: RowProblem, rows: IntArray) -> int:
        """One block of rows in their order; exactly the rule row by row.

        Scores of the whole block are computed at once; a mistake changes the scores of the rows after it through
        the block's Gram matrix, so that correct rows cost nothing further.
        """
        X, y, weights = problem.take(rows)
        scores = X @ self.params
        gram = X @ X.T
        updates = np.zeros_like(scores)
        position = mistakes = 0
        while position < len(rows):
            wrong = np.flatnonzero(scores[position:].argmax(axis=1) != y[position:])
            if len(wrong) == 0:
                break
            i = position + int(wrong[0])
            rival = int(scores[i].argmax())
            updates[i, y[i]] += weights[i]
            updates[i, rival] -= weights[i]
            scores[i + 1 :, y[i]] += weights[i] * gram[i + 1 :, i]
            scores[i + 1 :, rival] -= weights[i] * gram[i + 1 :, i]
            mistakes += 1
            position = i + 1
        if mistakes:
            clock = self.steps + np.arange(len(rows), dtype=np.float64)
            self.params = self.params + X.T @ updates
            self.timed = self.timed + X.T @ (clock[:, None] * updates)
        self.steps += len(rows)
        return mistakes
