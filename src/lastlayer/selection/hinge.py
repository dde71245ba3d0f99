"""Linear support vector machines: the hinge loss, fitted through its dual."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, final

import numpy as np

from lastlayer._arrays import Array, Float64, FloatArray, InputError
from lastlayer._progress import SILENT, Progress
from lastlayer.linear import parallel, single_blas_thread
from lastlayer.linear.rows import Rows
from lastlayer.losses import by_name
from lastlayer.objective import Objective
from lastlayer.selection.fit import LinearFit, finish, refuse_one_class
from lastlayer.solvers.base import Callback, Point, Record, Solution, StopReason
from lastlayer.solvers.dual import DualCoordinateAscent
from lastlayer.solvers.dual_problem import DUAL, DualProblem, DualRows
from lastlayer.solvers.interior_point import InteriorPoint, fits_interior_point

HARD = 30.0
"""Box times mean squared row norm from which on small problems are left to the interior point method."""
VISITED_AS_GIVEN = (np.uint8, np.float32, np.float64)


def fit_hinge(
    Z: Array,
    y: Array,
    n_classes: int,
    *,
    l2: float,
    sample_weight: Array | None = None,
    gap: float = 1e-3,
    max_iter: int = 1000,
    fit_intercept: bool = True,
    seed: int = 0,
    threads: int | None = None,
    callback: Callback | None = None,
    progress: Progress = SILENT,
) -> LinearFit:
    """Minimise ``Σ sᵢ Σₖ max(0, 1 - tᵢₖ (zᵢ wₖ + bₖ)) / Σ sᵢ + (λ/2) ‖W‖²``, one class against the rest.

    Parameters
    ----------
    Z : ndarray
        (N, D) features of any real type; uint8, float32 and float64 rows in C order are visited as they lie.
    y : ndarray
        (N,) labels 0..K-1.
    n_classes : int
        K. Two classes are one problem and its mirror image.
    l2 : float
        λ > 0; scikit-learn's C is ``1/(λ Σ s)``.
    sample_weight : ndarray, optional
        (N,) non-negative; scaling all of them changes nothing.
    gap : float
        Relative duality gap to be reached: the objective is at most that share above the optimum.
    max_iter : int
        Most visits of the rows.
    fit_intercept : bool
        Whether there is a bias; it is not penalised.
    seed : int
        Of the order in which rows are visited.
    threads : int, optional
        Threads in use (all cores when None); changes no bit of the result.
    callback : callable, optional
        Called with each `Record`, one a check, whose `gradient_norm` is the relative gap; returning True stops.
    progress : Progress

    Returns
    -------
    LinearFit
        ``fit.solution.gradient_norm`` is the relative duality gap reached.

    Raises
    ------
    InputError
        For λ of 0, and data that cannot be used (`linear.prepare`).
    """
    with single_blas_thread(), progress.task("fit", max_iter) as task:
        done = 0

        def report(record: Record, params: Float64) -> bool:
            nonlocal done
            task.advance(record.iteration - done, f"loss {record.value:.4g}, gap {record.gradient_norm:.1e}")
            done = record.iteration
            return bool(callback and callback(record, params))

        problem = HingeProblem(Z, y, n_classes, l2, sample_weight, threads, fit_intercept)
        return _within_rounding(finish(problem.objective, *_solve(problem, gap, max_iter, seed, report)), problem, gap)


def _solve(problem: HingeProblem, gap: float, max_iter: int, seed: int, report: Callback) -> tuple[Solution, str]:
    """By coordinate ascent; small problems that it finds hard, by the interior point method."""
    inside = InteriorPoint(gap, min(max_iter, 100))
    small = fits_interior_point(problem)
    if small and problem.is_hard:
        solution = inside.minimise(problem, None, report)
        if solution.stop_reason in (StopReason.CONVERGED, StopReason.CALLBACK, StopReason.INTERRUPTED):
            return solution, inside.name
    solution = DualCoordinateAscent(gap, max_iter, seed).minimise(problem, None, report)
    if small and not problem.is_hard and solution.stop_reason in (StopReason.MAX_ITER, StopReason.PRECISION):
        other = inside.minimise(problem, None, report)
        if other.value <= solution.value:
            return other, inside.name
    return solution, "dual"


def _within_rounding(fit: LinearFit, problem: HingeProblem, gap: float) -> LinearFit:
    """Not converged where float64 cannot hold the bias: far from zero its neighbours lie apart, and kinks feel it."""
    apart = 0.5 * float(np.spacing(np.abs(fit.bias)).max()) * len(fit.bias)
    if not fit.solution.stop_reason.converged or apart <= gap * fit.solution.value:
        return fit
    shift = problem.objective.examples.rows.shift
    j = 0 if shift is None else int(np.argmax(np.abs(shift[:, None] * fit.weights).max(axis=1)))
    note = (
        f"column {j} lies so far from zero that float64 holds the bias to {apart:.1g} of the loss only; "
        "subtract its mean"
    )
    return replace(fit, solution=replace(fit.solution, stop_reason=StopReason.PRECISION, note=note))


@final
class HingeProblem(DualProblem):
    """The hinge objective with its dual, as a problem for `DualCoordinateAscent`; parameters as `Objective` has them.

    Parameters are those of `Objective`, but λ > 0 and labels only.
    """

    def __init__(
        self,
        Z: Array,
        y: Array,
        n_classes: int,
        l2: float,
        sample_weight: Array | None = None,
        threads: int | None = None,
        intercept: bool = True,
    ) -> None:
        if not l2 > 0:
            raise InputError(
                f"l2 is {l2}, but the dual of the hinge loss needs a penalty", "Give a positive l2 (a finite C)"
            )
        self.objective = Objective(Z, y, n_classes, by_name("hinge"), l2, sample_weight, threads, intercept)
        refuse_one_class(self.objective)
        examples = self.objective.examples
        self._rows = _visited(examples.rows)
        weights = np.ones(len(examples.y)) if examples.weights is None else examples.weights.astype(np.float64)
        self._dual = DualRows(
            X=self._rows.Z,
            rows=np.arange(len(examples.y)) if self._rows.rows is None else self._rows.rows,
            y=examples.y,
            classes=np.arange(n_classes) if n_classes > 2 else np.array([1]),
            box=weights / (l2 * weights.sum()),
            centre=examples.centre / examples.scale(),
            intercept=intercept,
        )

    @property
    def dual(self) -> DualRows:
        """Rows, labels and boxes."""
        return self._dual

    @property
    def is_hard(self) -> bool:
        """Whether boxes are so wide that the ascent from α = 0 takes very many visits."""
        rows = self._dual.X[self._dual.rows] - self._dual.centre
        return float(self._dual.box.max()) * float(np.square(rows).sum(axis=1).mean()) > HARD

    @property
    def unit(self) -> float:
        """λ, twice for the two columns of two classes."""
        return self.objective.l2 * (2.0 if self.objective.examples.n_outputs == 2 else 1.0)

    @property
    def threads(self) -> int:
        """Threads in use."""
        return self._rows.threads

    def spread(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """Items on the threads."""
        return parallel(function, items, self.threads)

    def scores(self, W: Float64) -> FloatArray:
        """``W Xᵀ`` (C, n)."""
        out = np.empty((len(W), len(self._rows)), dtype=self._rows.dtype)
        right = np.ascontiguousarray(W.T, dtype=self._rows.dtype)
        none = np.zeros(len(W), dtype=self._rows.dtype)
        self.spread(lambda leaf: self._rows.product(right, none, out, *leaf), self._rows.leaves())
        return out

    def combine(self, A: Float64) -> Float64:
        """``A X`` (C, D)."""
        P = A.astype(self._rows.dtype)
        return self._rows.sum_over(lambda a, b: self._rows.back_product(np.ascontiguousarray(P[:, a:b]), a, b))

    def params_of(self, W: Float64, bias: Float64) -> Float64:
        """(D + 1, K), for the objective's own columns; two classes are mirror images."""
        examples = self.objective.examples
        inside = np.vstack([W.T / examples.scale()[:, None], bias + W @ self._dual.centre])
        inside[:-1][~examples.live] = 0.0
        return np.hstack([-inside, inside]) if examples.n_outputs == 2 else inside

    def count(self, passes: float) -> None:
        """Passes over the data made elsewhere."""
        self._passes = self._passes + passes

    _passes: float = 0.0

    @property
    def name(self) -> str:
        """Name for refusals."""
        return self.objective.name

    @property
    def provides(self) -> frozenset[str]:
        """What the objective offers, and a dual."""
        return self.objective.provides | {DUAL}

    @property
    def passes(self) -> float:
        """Passes over the data so far."""
        return self.objective.passes + self._passes

    @property
    def rounding(self) -> float:
        """That of the products' type."""
        return self.objective.rounding

    def start(self) -> Float64:
        """Zero weights and the majority's answers."""
        return self.objective.start()

    def at(self, params: Float64) -> Point:
        """The objective at `params`."""
        return self.objective.at(params)

    def norm(self, gradient: Float64) -> float:
        """Size of a subgradient; it does not vanish at the optimum."""
        return self.objective.norm(gradient)

    def curvature_bound(self) -> float:
        """Infinite."""
        return self.objective.curvature_bound()


def _visited(rows: Rows) -> Rows:
    """Rows that the ascent can visit: as given where their type and order allow, else one copy."""
    as_given = rows.Z.dtype in VISITED_AS_GIVEN and (rows.Z.dtype == np.float64) == (rows.dtype == np.float64)
    if rows.shift is None and as_given and rows.Z.flags.c_contiguous:
        return Rows(np.asarray(rows.Z), rows.rows, threads=rows.threads)
    copy = np.empty((len(rows), rows.n_features), dtype=rows.dtype if rows.scale is None else np.float64)
    for start, stop in rows.leaves():
        block = rows.block(start, stop)
        copy[start:stop] = block if rows.scale is None else block / rows.scale
    return Rows(copy, threads=rows.threads)
