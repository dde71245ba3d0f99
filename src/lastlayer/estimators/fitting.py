"""From a checked training set to `coef_` and `intercept_`: λ, two classes in one column, standardised columns.

Two classes
-----------
`fit_linear` always has one column a class; scikit-learn's models of two classes have one column u that speaks for the
second class. Both reach the same optimum:

* cross-entropy: the loss depends on ``u = w₁ - w₀`` alone, and for a given u the penalty ``(λ'/2)(‖w₀‖² + ‖w₁‖²)`` is
  least, ``(λ'/4)‖u‖²``, at ``w₁ = -w₀ = u/2``. The one-column penalty ``(λ/2)‖u‖²`` is therefore λ' = 2λ.
* squared: ``u = w₁ - w₀`` is the ridge solution for the targets ``t₁ - t₀ = ±1``, by linearity, with the same λ.
* hinge and squared hinge, one against the rest: by symmetry ``w₁ = -w₀``, each with the problem of one column; u = w₁.
* perceptron: ``u = w₁ - w₀``; nothing is penalised.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from lastlayer._arrays import Array, Float64, FloatArray, InputError
from lastlayer._progress import SILENT, Progress
from lastlayer.estimators.content import in_order_of_content
from lastlayer.estimators.standardising import Standardising
from lastlayer.estimators.training import Training
from lastlayer.linear.device import is_tensor, stored_type
from lastlayer.losses import by_name
from lastlayer.selection import LinearFit, fit_linear
from lastlayer.solvers.base import StopReason

MARGIN_COLUMNS = ("hinge", "squared_hinge")
"""Losses whose margin is 1 for one column, so that u is w₁ itself."""

SMALL = 2**20
"""Numbers in X up to which the order of the rows changes no bit, nor does a weight of 2 instead of a row given twice.

Beyond, and for losses without kinks, both hold as far as the tolerance goes, and X is not copied.
"""


@final
@dataclass(frozen=True)
class Plan:
    """How to fit.

    Attributes
    ----------
    loss, solver : str
        As `fit_linear` takes them.
    l2 : float
        λ of ``mean loss + (λ/2)‖coef_‖²``.
    fit_intercept, standardise : bool
    tol : float
    max_iter : int
    seed : int
    threads : int or None
    progress : Progress
    """

    loss: str
    solver: str
    l2: float
    tol: float
    max_iter: int
    fit_intercept: bool = True
    standardise: bool = False
    seed: int = 0
    threads: int | None = None
    progress: Progress = SILENT


@final
@dataclass(frozen=True, eq=False)
class Coefficients:
    """scikit-learn's view of a fit: `coef` (1 or K, D), `intercept` (1 or K,), and the iterations made."""

    coef: FloatArray
    intercept: FloatArray
    iterations: int


def keep(estimator: Any, data: Training, found: Coefficients) -> None:
    """Write the fitted attributes."""
    estimator.classes_ = data.classes
    estimator.coef_, estimator.intercept_ = found.coef, found.intercept
    estimator.n_iter_ = found.iterations


def nothing_learned(data: Training) -> Coefficients:
    """Coefficients and intercepts of zero, before the first step."""
    rows, dtype = 1 if len(data.classes) == 2 else len(data.classes), _result_type(data.X)
    return Coefficients(np.zeros((rows, data.X.shape[1]), dtype), np.zeros(rows, dtype), 0)


def earlier(estimator: Any, data: Training) -> Coefficients | None:
    """The coefficients of the fit before, for a warm start; None before the first fit."""
    if not hasattr(estimator, "coef_"):
        return None
    if not np.array_equal(estimator.classes_, data.classes) or estimator.coef_.shape[1] != data.X.shape[1]:
        raise InputError(
            f"warm_start=True, but the fit before had the classes {estimator.classes_.tolist()[:10]} and "
            f"{estimator.coef_.shape[1]} features, these are {data.classes.tolist()[:10]} and {data.X.shape[1]}",
            "Fit a clone, or set warm_start=False",
        )
    return Coefficients(estimator.coef_, estimator.intercept_, 0)


def learn(data: Training, plan: Plan, start: Coefficients | None = None) -> Coefficients:
    """Fit, warn once when the tolerance was not met, and translate; Ctrl-C is raised again.

    Raises
    ------
    InputError
        For what `fit_linear` refuses, and where no finite optimum exists.
    """
    if is_tensor(data.X):
        _refuse_on_device(plan)
    elif data.X.size <= SMALL or not by_name(plan.loss).is_smooth:
        data = in_order_of_content(data)
    dtype = _result_type(data.X)
    columns = Standardising.of(data, centre=plan.fit_intercept) if plan.standardise else None
    pair = len(data.classes) == 2
    fit = fit_linear(
        data.X if columns is None else columns.apply(data.X, dtype),
        data.codes,
        len(data.classes),
        plan.loss,
        l2=2.0 * plan.l2 if pair and plan.loss == "cross_entropy" else plan.l2,
        sample_weight=data.weights,
        solver=plan.solver,
        tol=plan.tol,
        max_iter=plan.max_iter,
        start=None if start is None else _begin(start, plan, columns),
        fit_intercept=plan.fit_intercept,
        seed=plan.seed,
        threads=plan.threads,
        progress=plan.progress,
    )
    if fit.solution.stop_reason is StopReason.INTERRUPTED:
        # A search over many fits must stop at Ctrl-C, not take the next fit.
        raise KeyboardInterrupt
    _say_if_not_converged(fit, plan, dtype)
    W, b = fit.weights, fit.bias
    if columns is not None:
        W, b = columns.to_given(W, b)
    if pair:
        W, b = _one_column(W, b, plan.loss)
    elif plan.loss == "cross_entropy":
        # A constant added to every score changes nothing; the usual representative has mean zero.
        b = b - b.mean()
    return Coefficients(np.ascontiguousarray(W.T, dtype=dtype), b.astype(dtype), max(1, fit.solution.iterations))


def _result_type(X: Array) -> np.dtype[np.floating]:
    """Type of the coefficients: float32 for what float32 holds exactly, else float64."""
    return np.dtype(np.float32 if np.can_cast(stored_type(X), np.float32) else np.float64)


def _refuse_on_device(plan: Plan) -> None:
    if plan.standardise:
        raise InputError(
            "standardise=True makes a copy of the features, which is not made of torch tensors",
            "Give (X - X.mean(0)) / X.std(0) with standardise=False",
        )


def _one_column(W: Float64, b: Float64, loss: str) -> tuple[Float64, Float64]:
    """Column u (D, 1) and its intercept (1,) from the columns of two classes."""
    share = 0.5 if loss in MARGIN_COLUMNS else 1.0
    return share * (W[:, 1:] - W[:, :1]), share * (b[1:] - b[:1])


def _two_columns(u: Float64, c: Float64, plan: Plan) -> tuple[Float64, Float64]:
    """The columns (D, 2) and (2,) of least norm that u and its intercept stand for."""
    share = 1.0 if plan.loss in MARGIN_COLUMNS else 0.5
    middle = 0.5 if plan.loss == "squared" and plan.fit_intercept else 0.0
    return np.hstack([-share * u, share * u]), np.concatenate([middle - share * c, middle + share * c])


def _begin(start: Coefficients, plan: Plan, columns: Standardising | None) -> tuple[Float64, Float64]:
    """W (D, K) and b (K,) for the columns that are fitted, from an earlier fit's coefficients."""
    W, b = start.coef.T.astype(np.float64), start.intercept.astype(np.float64)
    if W.shape[1] == 1:
        W, b = _two_columns(W, b, plan)
    return (W, b) if columns is None else columns.from_given(W, b)


def _say_if_not_converged(fit: LinearFit, plan: Plan, dtype: np.dtype[np.floating]) -> None:
    solution, reason = fit.solution, fit.solution.stop_reason
    if reason is StopReason.NO_OPTIMUM:
        raise InputError(
            "no finite optimum exists: a linear rule separates the classes, and nothing is penalised",
            "Give a positive l2 (a finite C)",
        )
    # The value is flat to the square of the gradient: below √ε no step of any length changes its digits.
    exhausted = reason is StopReason.PRECISION and solution.gradient_norm <= np.sqrt(np.finfo(dtype).eps)
    if reason.converged or exhausted:
        return
    note = f"{solution.note}. " if solution.note else ""
    measure = "relative duality gap" if fit.solver in ("dual", "interior_point") else "relative gradient norm"
    warnings.warn(
        f"LL040 {fit.solver} did not converge ({reason.value} after {solution.iterations} iterations): {measure} "
        f"{solution.gradient_norm:.2g}, tol {plan.tol:g}. {note}{_mend(plan, reason)}",
        ConvergenceWarning,
        stacklevel=4,
    )


def _mend(plan: Plan, reason: StopReason) -> str:
    if plan.loss == "perceptron":
        return "The classes may not be separable; raise max_iter, or take a loss with a minimum such as cross_entropy"
    if not by_name(plan.loss).is_smooth:
        return "Raise max_iter, or take loss='squared_hinge', whose optimum is found exactly"
    if reason is StopReason.PRECISION:
        return "Standardise the columns, give them as float64, or raise tol"
    return "Raise max_iter, standardise the columns, or raise the regularisation"
