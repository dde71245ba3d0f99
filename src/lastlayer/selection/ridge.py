"""Ridge regression for every λ, judged by leaving out each row in turn, from one eigendecomposition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, final

import numpy as np

from lastlayer._arrays import Array, Float64, InputError, check_matrix
from lastlayer._progress import SILENT, Progress
from lastlayer.linear import scores, single_blas_thread
from lastlayer.linear.examples import Examples
from lastlayer.losses import Squared
from lastlayer.objective import Objective
from lastlayer.selection.fit import LinearFit, finish, refuse_one_class
from lastlayer.selection.leave_one_out import LeaveOneOut, Scaling, judge
from lastlayer.selection.spectrum import Spectrum, Targets
from lastlayer.selection.spectrum_columns import by_columns
from lastlayer.selection.spectrum_rows import by_rows
from lastlayer.solvers import ClosedForm

Scoring = Literal["squared", "accuracy"]
Rule = Literal["best", "one_standard_error"]

ROUNDING = 0.05
"""Relative error of an eigenvalue and λ together beyond which float32 products will not do."""
NEAR_SQUARE = 1.1
"""Rows by columns up to which the Gram matrix is decomposed: its residuals are sums without cancellation, which matters
where a fit passes through most of its rows."""


@final
@dataclass(frozen=True, eq=False)
class RidgePath:
    """Ridge fits of the same rows for many λ; a fit is made when it is asked for.

    Attributes
    ----------
    l2s : ndarray
        (L,) in the order given.
    degrees_of_freedom : ndarray
        (L,) trace of the matrix that maps targets to predictions, the intercept included.
    leave_one_out : LeaveOneOut or None
        None where not asked for.
    """

    l2s: Float64
    degrees_of_freedom: Float64
    leave_one_out: LeaveOneOut | None
    _objective: Objective
    _spectrum: Spectrum
    _scaling: Scaling

    def weights(self, index: int) -> tuple[Float64, Float64]:
        """W (D, K) and b (K,) for the columns as given, as exact as the second moments are."""
        with single_blas_thread():
            inner = self._spectrum.inner(self.l2s[index])
            return self._scaling.outside(*self._objective.to_outside(self._spectrum.params(inner)))

    def fit(self, index: int) -> LinearFit:
        """The fit, refined until its gradient is rounding: a few passes over the rows."""
        objective = self._objective.with_l2(float(self.l2s[index]))
        exact = objective.examples.rows.dtype == np.float64
        with single_blas_thread():
            inner = self._spectrum.inner(self.l2s[index])
            solver = ClosedForm(self._spectrum.inverse(inner), 1e-10 if exact else 1e-6)
            solution = solver.minimise(objective, objective.at(self._spectrum.params(inner)))
            found = finish(objective, solution, "closed_form")
        W, b = self._scaling.outside(found.weights, found.bias)
        value = solution.value * self._scaling.scale**2
        return replace(found, weights=W, bias=b, solution=replace(found.solution, value=value))

    def choose(self, scoring: Scoring = "squared", rule: Rule = "best") -> int:
        """Index of the λ to take.

        Parameters
        ----------
        scoring : {"squared", "accuracy"}
            Least mean squared error, or most rows right.
        rule : {"best", "one_standard_error"}
            The best, ties to the strongest penalty; or the strongest penalty that is no worse than the best by more
            than a standard error of it (Breiman et al. 1984, section 3.4.3).

        Raises
        ------
        InputError
            Without leave-one-out errors, for the accuracy of real targets, and where no λ can be judged.
        """
        loo = self.leave_one_out
        if loo is None:
            raise InputError("this ridge path has no leave-one-out errors", "Make it with leave_one_out=True")
        if scoring == "squared":
            price, error = loo.loss, loo.standard_error
        elif loo.right is None:
            raise InputError("real targets have no accuracy", "Take scoring='squared'")
        else:
            wrong = 1.0 - loo.right / loo.n_rows
            price = np.where(np.isnan(loo.loss), np.nan, wrong)
            error = np.sqrt(wrong * (1.0 - wrong) / loo.n_rows)
        if np.isnan(price).all():
            raise InputError(
                "leave-one-out errors are undetermined for every l2: the fits pass through their rows",
                "Give a larger l2, or the features as float64",
            )
        best = int(np.nanargmin(price))
        limit = price[best] + (error[best] if rule == "one_standard_error" else 0.0)
        fair = np.flatnonzero(price <= limit)
        return int(fair[np.argmax(self.l2s[fair])])


def ridge_path(
    Z: Array,
    y: Array,
    l2s: Sequence[float] | Float64,
    *,
    n_classes: int | None = None,
    sample_weight: Array | None = None,
    fit_intercept: bool = True,
    leave_one_out: bool = True,
    keep_predictions: bool = False,
    threads: int | None = None,
    progress: Progress = SILENT,
) -> RidgePath:
    """Minimise ``Σ sᵢ ½‖zᵢ W + b - yᵢ‖² / Σ sᵢ + (λ/2)‖W‖²`` for every λ, and judge each by leaving out every row.

    Parameters
    ----------
    Z : ndarray
        (N, D) features of any real type. Products are made in float64 for float64 and small data, else in float32; Z
        is not copied.
    y : ndarray
        (N,) integer labels 0..K-1, which stand for one-hot targets, or real targets (N,) or (N, K).
    l2s : sequence of float
        λ ≥ 0. scikit-learn's alpha is ``λ Σ s``. λ = 0 gives the solution of least norm.
    n_classes : int, optional
        K for labels; one more than the largest when None.
    sample_weight : ndarray, optional
        (N,) non-negative; scaling all of them changes nothing.
    fit_intercept : bool
        Whether there is a b.
    leave_one_out : bool
        Whether to judge; without, only the fits are prepared.
    keep_predictions : bool
        Whether to keep the leave-one-out scores, L N K numbers.
    threads : int, optional
        Threads in use (all cores when None); changes no bit of the result.
    progress : Progress

    Returns
    -------
    RidgePath

    Raises
    ------
    InputError
        For λ that are negative or not finite, labels of one class only, and data that cannot be used (`prepare`).

    Notes
    -----
    Leaving a row out keeps ``λ Σ s`` fixed, as scikit-learn does. Work: ``N D²`` for the second moments, about ``8 D³``
    for the eigendecomposition, ``2 N D²`` for rotating the rows, ``2 N D K L`` for the predictions; memory beyond Z: a
    few D², and a block of rows for each thread. With about as many rows as columns, or fewer, N takes the place of D.

    With float32 products (features that are not float64, more than a million numbers) the leave-one-out loss is right
    to 6e-6, and to 1e-8 from λ = 1e-3 of the largest eigenvalue, where the best λ are; the predictions to 6e-5 and 1e-7
    (root mean square, targets 0 and 1; 4,000 rows and 768 columns of CIFAR-10 pixels against float64). Where
    rounding would reach a twentieth of an eigenvalue and λ together, or λ is 0, all is made again in float64, which
    takes three times as long; there the loss is right to about 1e-12. Eigenvalues are known to 1e-16 of the largest:
    columns of ranges that differ by more than 1e6 are better brought to one scale.
    """
    path = _check_l2s(l2s)
    y, n_classes, scaling = _read_targets(np.asarray(y), n_classes, fit_intercept)
    with single_blas_thread(), progress.task("ridge", 2.0 + leave_one_out) as task:
        objective = Objective(Z, y, n_classes, Squared(), 0.0, sample_weight, threads, fit_intercept)
        refuse_one_class(objective)
        if not path.all():
            objective.examples = _in_float64(objective.examples, sample_weight)
        targets, spectrum = _decompose(objective)
        single = objective.examples.rows.dtype == np.float32
        if single and spectrum.rounding(spectrum.inner(path.min())) > ROUNDING:
            del spectrum
            objective.examples = _in_float64(objective.examples, sample_weight)
            targets, spectrum = _decompose(objective)
        task.advance(2, "eigenvectors")
        examples = objective.examples
        result = RidgePath(path, _degrees(spectrum, path) + fit_intercept, None, objective, spectrum, scaling)
        if not leave_one_out:
            return result
        kept = np.empty((len(path), len(examples.rows), examples.n_outputs)) if keep_predictions else None
        judged = judge(examples, targets, spectrum, path, scaling, kept)
        task.advance(1, "left out in turn")
    if kept is not None:
        judged = replace(judged, predictions=_for_all_rows(result, kept, Z))
    return replace(result, leave_one_out=judged)


def _decompose(objective: Objective) -> tuple[Targets, Spectrum]:
    examples = objective.examples
    targets = Targets(examples.y, objective.start()[-1])
    wide = len(examples.rows) <= NEAR_SQUARE * examples.rows.n_features + 1
    return targets, (by_rows if wide else by_columns)(examples, targets)


def _in_float64(examples: Examples, sample_weight: Array | None) -> Examples:
    """The same rows with all products in float64."""
    rows = replace(examples.rows, in_float64=True)
    weights = None
    if examples.weights is not None and sample_weight is not None:
        weights = np.asarray(sample_weight, dtype=np.float64)[... if rows.rows is None else rows.rows]
        weights = weights * (len(weights) / weights.sum())
    centre = examples.centre
    if examples.intercept:
        centre = np.where(examples.live, rows.column_sums(weights) / len(rows), 0.0)
    return replace(examples, rows=rows, weights=weights, centre=centre)


def _check_l2s(l2s: Sequence[float] | Float64) -> Float64:
    path = np.array(l2s, dtype=np.float64)
    if path.ndim != 1 or not len(path) or not (np.isfinite(path).all() and (path >= 0).all()):
        raise InputError(f"l2s is {l2s}; finite numbers of at least 0 are needed")
    return path


def _read_targets(y: Array, n_classes: int | None, fit_intercept: bool) -> tuple[Array, int, Scaling]:
    """Labels as they are; real targets (N, K) shifted and scaled, by a power of two."""
    if y.ndim == 1 and y.dtype.kind in "iu":
        n_classes = n_classes or (int(y.max()) + 1 if len(y) else 0)
        return y, n_classes, Scaling(np.zeros(n_classes), 1.0)
    Y = check_matrix(np.asarray(y.reshape(-1, 1) if y.ndim == 1 else y), "targets").astype(np.float64)
    low, high = Y.min(axis=0), Y.max(axis=0)
    shift = low + (high / 2 - low / 2) if fit_intercept else np.zeros(Y.shape[1])
    Y -= shift
    size = float(np.abs(Y).max())
    scale = 1.0 if 2.0**-20 <= size <= 2.0**20 or size == 0 else float(np.exp2(np.rint(np.log2(size))))
    Y /= scale
    return Y, Y.shape[1], Scaling(shift, scale)


def _degrees(spectrum: Spectrum, path: Float64) -> Float64:
    """``Σ d / (d + λ)``, (L,)."""
    d = spectrum.values[:, None]
    total = d + spectrum.inner(path)
    return np.asarray(np.divide(d, total, out=np.zeros_like(total), where=total > 0).sum(axis=0))


def _for_all_rows(path: RidgePath, kept: Float64, Z: Array) -> Float64:
    """Predictions for rows of weight zero too: leaving them out changes nothing."""
    used = path._objective.examples.rows.rows
    if used is None:
        return kept
    absent = np.setdiff1d(np.arange(len(Z)), used)
    out = np.empty((len(kept), len(Z), kept.shape[2]))
    out[:, used] = kept
    for i in range(len(out)):
        out[i, absent] = scores(Z[absent], *path.weights(i))
    return out
