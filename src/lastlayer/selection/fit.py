"""One fit: which solver for which loss, and its answer for the caller's columns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import numpy as np

from lastlayer._arrays import Array, Float32, Float64, FloatArray, InputError, check_matrix
from lastlayer._progress import SILENT, Progress
from lastlayer.linear import single_blas_thread
from lastlayer.linear.device import is_tensor, on_host
from lastlayer.losses import by_name
from lastlayer.objective import Objective, ObjectivePoint
from lastlayer.selection.inverses import exact_inverse, preconditioner
from lastlayer.selection.thin import ThinBasis, is_thin, thin
from lastlayer.selection.wide import WIDE_FROM, moments
from lastlayer.solvers import (
    LBFGS,
    Callback,
    ClosedForm,
    ExactLineSearch,
    GradientDescent,
    Newton,
    NewtonCG,
    PerceptronRule,
    Point,
    Preconditioner,
    PseudoInverse,
    Record,
    SampledNewton,
    Scheduled,
    Solution,
    Solver,
    StopReason,
)
from lastlayer.solvers.steps import polynomial_decay

SOLVERS = (
    "auto",
    "closed_form",
    "lbfgs",
    "sampled_newton",
    "newton",
    "newton_cg",
    "gradient_descent",
    "dual",
    "smoothing",
    "perceptron",
)
AUTO = {
    "squared": "closed_form",
    "cross_entropy": "lbfgs",
    "squared_hinge": "lbfgs",
    "hinge": "dual",
    "crammer_singer": "smoothing",
    "perceptron": "perceptron",
}
ROTATES = ("lbfgs", "sampled_newton", "newton_cg", "closed_form", "smoothing")
AHEAD = 100.0
"""Passes that a fit still needs when samples of its rows fail: measured 100 to 250 on MNIST at λ = 1e-6."""
SAMPLED_FROM = 2**22
"""Least numbers in Z for which samples are drawn: with fewer L-BFGS takes no time anyway."""
THIN_ROWS, THIN_COLUMNS = 6000, 512
"""Most rows and least columns for which rotating into the span of the rows is worth its QR decomposition."""


@final
@dataclass(frozen=True, eq=False)
class LinearFit:
    """A fitted linear classifier.

    Attributes
    ----------
    weights : ndarray
        (D, K) float64, for the columns as given.
    bias : ndarray
        (K,) float64.
    solution : Solution
        The solver's answer with its reason; ``solution.stop_reason.converged`` says whether it is the one asked for.
    solver : str
        The solver used.
    """

    weights: Float64
    bias: Float64
    solution: Solution
    solver: str

    @property
    def W(self) -> Float32:
        """The weights as float32."""
        return self.weights.astype(np.float32)

    @property
    def b(self) -> Float32:
        """The bias as float32."""
        return self.bias.astype(np.float32)


def fit_linear(
    Z: Array,
    y: Array,
    n_classes: int,
    loss: str = "cross_entropy",
    *,
    l2: float,
    sample_weight: Array | None = None,
    solver: str = "auto",
    tol: float = 1e-4,
    gap: float | None = None,
    max_iter: int = 1000,
    start: tuple[FloatArray, FloatArray] | None = None,
    fit_intercept: bool = True,
    seed: int = 0,
    threads: int | None = None,
    callback: Callback | None = None,
    progress: Progress = SILENT,
) -> LinearFit:
    """Minimise ``Σ sᵢ L(zᵢ W + b, yᵢ) / Σ sᵢ + (λ/2) ‖W‖²`` over W and b.

    Parameters
    ----------
    Z : ndarray
        (N, D) features of any real type. Products are made in float64 for float64, else in float32; Z is not copied.
        A torch tensor is multiplied on its device, for the losses cross_entropy, squared_hinge and squared.
    y : ndarray
        (N,) labels 0..K-1; (N, K) real targets with the squared loss.
    n_classes : int
        K.
    loss : str
        A name of `losses.LOSSES`.
    l2 : float
        λ ≥ 0. scikit-learn's C is ``1 / (λ Σ s)``; its two-class logistic regression has half the λ of the softmax
        with two columns that gives the same probabilities.
    sample_weight : ndarray, optional
        (N,) non-negative; scaling all of them changes nothing, rows of weight zero are dropped.
    solver : str
        One of `SOLVERS`; "auto" takes the exact one where there is one.
    tol : float
        Relative gradient norm at which the solver stops (1 at the best constant prediction, 0 at the optimum).
    gap : float, optional
        Share of the objective that a further L-BFGS step may still promise; a tenth of `tol` when None. On
        ill-conditioned features it is the better measure: float32 gradients stay noisy where the value has settled.
    max_iter : int
        Most iterations; epochs for the perceptron.
    start : tuple of ndarray, optional
        (W, b) to begin with, where that is better than a constant prediction.
    fit_intercept : bool
        Whether there is a bias.
    seed : int
        Of the perceptron's shuffles; nothing else is random.
    threads : int, optional
        Threads in use (all cores when None); changes no bit of the result.
    callback : callable, optional
        Called with each `Record`; returning True stops.
    progress : Progress

    Returns
    -------
    LinearFit

    Raises
    ------
    InputError
        For a loss or solver that does not exist, a pair that cannot work, and data that cannot be used (`prepare`).

    Notes
    -----
    Not converged is not an error: look at ``fit.solution.stop_reason``. A class without rows is allowed while two
    others have some; it gets weights near zero and a bias that makes it improbable.
    """
    chosen = solver_name(solver, loss)
    if solver == "auto" and chosen == "dual" and not l2 > 0:
        chosen = "gradient_descent"  # without a penalty there is no dual to bound the gap with
    if chosen == "dual":
        from lastlayer.selection.hinge import fit_hinge  # which builds on this module

        if loss != "hinge":
            raise InputError(
                f"Solver dual cannot minimise the {loss} loss: its dual has no boxes", "It goes with the loss hinge"
            )
        return fit_hinge(
            Z,
            y,
            n_classes,
            l2=l2,
            sample_weight=sample_weight,
            gap=tol if gap is None else gap,
            max_iter=max_iter,
            fit_intercept=fit_intercept,
            seed=seed,
            threads=threads,
            callback=callback,
            progress=progress,
        )
    if chosen == "smoothing" and loss != "crammer_singer":
        raise InputError(f"Solver smoothing is for the loss crammer_singer, not for {loss}", "Leave solver at 'auto'")
    with single_blas_thread(), progress.task("fit", max_iter) as task:

        def report(record: Record, params: Float64) -> bool:
            if record.iteration:
                task.advance(1, f"loss {record.value:.4g}")
            return bool(callback and callback(record, params))

        basis: ThinBasis | None = None
        if l2 > 0 and fit_intercept and chosen in ROTATES and rotation_pays(Z):
            Z, basis = thin(Z)
        objective = Objective(Z, y, n_classes, by_name(loss), l2, sample_weight, threads, fit_intercept)
        refuse_one_class(objective)
        if solver == "auto" and chosen == "closed_form" and too_wide(objective):
            chosen = "lbfgs"
        if solver == "auto" and chosen == "lbfgs" and sampling_pays(objective):
            chosen = "sampled_newton"
        if chosen == "smoothing":
            point = None if start is None else _begin(objective, start, basis)
            return finish(objective, _smoothed(objective, tol, gap, max_iter, point, report), chosen, basis)
        method = make_solver(chosen, objective, tol, max_iter, seed, gap)
        point = None if start is None else _begin(objective, start, basis)
        return finish(objective, method.minimise(objective, point, report), chosen, basis)


def _smoothed(
    objective: Objective, tol: float, gap: float | None, max_iter: int, start: Point | None, report: Callback
) -> Solution:
    """By stages of a smoothed loss (`selection.smoothing`), each by the solver of smooth losses."""
    from lastlayer.selection.smoothing import minimise_smoothed

    S = moments(objective.examples)
    promise = 0.1 * tol if gap is None else gap

    def solver(smoothed: Objective, left: int) -> Solver:
        inverse = preconditioner(smoothed, S)
        if sampling_pays(smoothed):
            return SampledNewton(inverse, tol, promise, left)
        return LBFGS(inverse, tol, promise, left)

    return minimise_smoothed(objective, solver, promise, max_iter, start, report)


def _begin(objective: Objective, start: tuple[FloatArray, FloatArray], basis: ThinBasis | None) -> Point:
    """The start given, unless the constant prediction is better: its scores would spend digits for nothing."""
    W, b = np.asarray(start[0], np.float64), np.asarray(start[1], np.float64)
    given = objective.at(objective.to_inside(*((W, b) if basis is None else basis.start(W, b))))
    if not objective.loss.is_smooth:
        return given
    constant = objective.at(objective.start())
    return given if given.value <= constant.value else constant


def rotation_pays(Z: Array) -> bool:
    """Whether the problem is better solved in the span of its rows (`selection.thin`): few rows, many tame columns."""
    if (
        is_tensor(Z)  # stays where it is
        or Z.ndim != 2
        or Z.dtype.kind != "f"
        or not (1 < len(Z) <= THIN_ROWS and Z.shape[1] >= THIN_COLUMNS and is_thin(Z))
    ):
        return False
    check_matrix(Z, "features")
    half_range = (Z.max(axis=0) / 2 - Z.min(axis=0) / 2).astype(np.float64)
    varying = half_range[half_range > 0]
    return bool(len(varying) and varying.max() < 2.0**20 and varying.max() < 2.0**20 * varying.min())


def solver_name(solver: str, loss: str) -> str:
    """The solver for a loss; `InputError` for names that do not exist."""
    by_name(loss)
    if solver not in SOLVERS:
        raise InputError(f"No solver is called {solver!r}", f"There are {', '.join(SOLVERS)}")
    return AUTO.get(loss, "lbfgs") if solver == "auto" else solver


def refuse_one_class(objective: Objective) -> None:
    """Rows of positive weight of a single class leave nothing to learn."""
    ex = objective.examples
    if ex.y.ndim == 1 and np.count_nonzero(ex.shares()) < 2:
        raise InputError(
            f"all rows of positive weight have class {int(np.argmax(ex.shares()))}; at least two classes are needed",
            "Add examples of another class",
        )


def make_solver(
    name: str, objective: Objective, tol: float, max_iter: int, seed: int = 0, gap: float | None = None
) -> Solver:
    """The solver of that name, set up for the objective."""
    if name == "perceptron":
        if objective.l2 > 0:
            raise InputError(
                f"Solver perceptron has no penalty, but l2 is {objective.l2:g}",
                "Give l2=0, or a loss with a penalty such as squared_hinge",
            )
        return PerceptronRule(epochs=max_iter, seed=seed)
    if name == "gradient_descent":
        if objective.loss.is_smooth:
            return GradientDescent(ExactLineSearch(1.0 / objective.curvature_bound()), tol, max_iter)
        rate = 1.0 / objective.largest_moment()
        return GradientDescent(Scheduled(polynomial_decay(rate, 10.0, 0.5)), tol, max_iter)
    if name == "closed_form":
        if not objective.loss.is_quadratic:
            return ClosedForm(_nothing(), tol, max_iter)  # refused by `minimise`, before any work
        return ClosedForm(exact_inverse(objective, objective.examples.second_moments(None)), tol, max_iter)
    promise = 0.1 * tol if gap is None else gap
    if name == "newton":
        return Newton(tol, max_iter)
    if not objective.loss.is_smooth:
        return LBFGS(None, tol, promise, max_iter)  # refused by `minimise`, before any work
    inverse = preconditioner(objective, moments(objective.examples), spend=True)
    if name == "newton_cg":
        return NewtonCG(inverse, tol, max_iter)
    if name == "sampled_newton":
        return SampledNewton(inverse, tol, promise, max_iter, seed=seed, refine=_refined)
    return LBFGS(inverse, tol, promise, max_iter)


def _refined(point: Point) -> Preconditioner | None:
    """An inverse with the classes coupled, where it is worth its while for the many passes that are ahead."""
    from lastlayer.selection.coupled import CoupledHessian, is_worth_it

    if not isinstance(point, ObjectivePoint) or not is_worth_it(point.problem, AHEAD):
        return None
    return CoupledHessian.at(point.problem, point.scores).inverse(point.problem.l2)


def sampling_pays(objective: Objective) -> bool:
    """Whether there are so many rows that a sample of them describes the Hessian at a fraction of a pass.

    Never on a device, where a pass is cheap and drawing rows is not.
    """
    rows = objective.examples.rows
    many = len(rows) * rows.n_features >= SAMPLED_FROM and len(rows) >= 16 * rows.n_features
    return many and rows.dtype == np.float32 and not is_tensor(rows.Z)


def too_wide(objective: Objective) -> bool:
    """Whether the columns are too many for D² numbers, so that even the squared loss is minimised step by step."""
    rows = objective.examples.rows
    return rows.n_features >= WIDE_FROM and rows.dtype == np.float32


def _nothing() -> Preconditioner:
    return PseudoInverse(np.zeros((0, 0)), np.zeros(0), 1.0)


def finish(objective: Objective, solution: Solution, solver: str, basis: ThinBasis | None = None) -> LinearFit:
    """The answer for the caller's columns, after the last checks."""
    weights, bias = objective.to_outside(solution.params)
    if basis is not None:
        weights, bias = basis.weights(weights, bias)
    if not (np.isfinite(weights).all() and np.isfinite(bias).all()):
        raise InputError("the solution is not finite in the units of the features", "Scale the features' columns alike")
    return LinearFit(weights, bias, replace(_without_optimum(objective, solution), point=None), solver)


def _without_optimum(objective: Objective, solution: Solution) -> Solution:
    """Without a penalty, cross-entropy has no finite optimum on classes that a linear rule separates: say so."""
    if objective.l2 > 0 or objective.loss.name != "cross_entropy":
        return solution
    Z, y = on_host(objective.scores(solution.params)), objective.examples.y
    own = Z[y, np.arange(len(y))].copy()
    Z[y, np.arange(len(y))] = -np.inf
    if not (own > Z.max(axis=0)).all():
        return solution
    note = (
        "The classes are separable and l2 is 0: the loss falls for ever as the weights grow along this direction. "
        "Give a positive l2"
    )
    return replace(solution, stop_reason=StopReason.NO_OPTIMUM, note=note)
