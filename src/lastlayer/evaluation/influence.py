r"""What each training image did to an answer: the effect of removing it, from the head's exact Hessian.

With the parameters θ = (W, b) at the optimum of ``J(θ) = (1/n) Σ sᵢ L(zᵢ θ, yᵢ) + (λ/2) ‖W‖²``, its Hessian H, and a
quantity f of one image's scores, f = u · (z_t θ) near θ, removing row i changes f to first order by

    Δf ≈ (1/n) vᵀ H⁻¹ gᵢ,        v = z_t ⊗ u,    gᵢ = sᵢ zᵢ ⊗ rᵢ,    rᵢ = ∂L/∂scores of row i,

which is one solve ``H S = v`` for all rows together: ``Δfᵢ ≈ (sᵢ/n) (zᵢ S) · rᵢ`` (Koh & Liang 2017, "Understanding
black-box predictions via influence functions"). Taking the row's own curvature Cᵢ out of H as well is one Newton step
of the problem without it,

    Δf ≈ (sᵢ/n) (zᵢ S) · (I - sᵢ Cᵢ Gᵢ)⁻¹ rᵢ,        Gᵢ = (1/n) (zᵢ ⊗ I) H⁻¹ (zᵢ ⊗ I)ᵀ    (K, K),

with Gᵢ the row's leverage: it is exact for the squared loss, where it is the textbook's ``1 / (1 - hᵢᵢ)``, and matters
for rows that few others are like (Pregibon 1981, "Logistic regression diagnostics").

What is removed is the row's loss alone: the penalty's total weight n λ stays (C is kept), and so do φ, its
standardisation and the choice of C. The bias is not penalised, in H as in J.

Shapes
------
N : rows, D : features, K : classes, Z : (N, D), v and S : (D + 1, K), the bias last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from lastlayer._arrays import Array, Float64, FloatArray, InputError, IntArray
from lastlayer._threads import single_blas_thread
from lastlayer.evaluation.influence_leverage import (
    Leverage,
    coupling_pays,
    dense_inverse,
    dense_pays,
    squared_leverage,
)
from lastlayer.losses import by_name
from lastlayer.objective import Objective, ObjectivePoint
from lastlayer.selection.coupled import CoupledHessian
from lastlayer.selection.fit import rotation_pays
from lastlayer.selection.inverses import exact_inverse, preconditioner
from lastlayer.selection.thin import ThinBasis, thin
from lastlayer.selection.wide import moments
from lastlayer.solvers import Preconditioner

TOLERANCE = 3e-3
"""Residual of the solve: effects are then within 0.3% of the largest one (measured on MNIST)."""


@final
@dataclass(frozen=True, eq=False)
class Effects:
    """What removing each row would do to one quantity of one image.

    Attributes
    ----------
    first_order : float64 (N,)
        Change of the quantity; 0 for rows of weight zero.
    solution : float64 (D + 1, K)
        S = H⁻¹ v, for the columns as the objective has them.
    products : int
        Products with the Hessian that the solve took.
    residual : float
        ``‖H S - v‖ / ‖v‖`` in the preconditioner's norm.
    """

    first_order: Float64
    solution: Float64
    products: int
    residual: float


@final
@dataclass(frozen=True, eq=False)
class Influence:
    """A fitted head with what its influences are made of; one for all images that are asked about.

    Attributes
    ----------
    objective : Objective
    point : ObjectivePoint
        The head's parameters, where J is smallest.
    inverse : Preconditioner
        H⁻¹, exactly or about.
    exact : bool
        Whether it is exact, so that nothing is left to iterate.
    leverage : Leverage or None
        Gᵢ; None where nothing affordable comes close.
    basis : ThinBasis or None
        Where there are fewer rows than columns: the span of the rows, in which everything happens.
    """

    objective: Objective
    point: ObjectivePoint
    inverse: Preconditioner
    exact: bool
    leverage: Leverage | None
    basis: ThinBasis | None = None

    @classmethod
    def at(
        cls,
        Z: Array,
        y: IntArray,
        n_classes: int,
        loss: str,
        l2: float,
        W: FloatArray,
        b: FloatArray,
        *,
        sample_weight: Array | None = None,
        threads: int | None = None,
    ) -> Influence:
        """Of the head (W, b) that was fitted to the rows Z (N, D) with labels y, `loss` and λ = `l2`.

        Raises
        ------
        InputError
            For a loss without second derivatives, for which a single row changes nothing or everything.
        """
        made = by_name(loss)
        if not made.is_smooth:
            raise InputError(
                f"the {loss} loss has no second derivatives, and so no influences",
                "Heads logistic, svm (squared hinge) and ridge have them",
            )
        weights, bias, basis = np.asarray(W, np.float64), np.asarray(b, np.float64), None
        with single_blas_thread():
            if l2 > 0 and rotation_pays(Z):
                Z, basis = thin(Z)
                weights, bias = basis.start(weights, bias)
            objective = Objective(Z, y, n_classes, made, l2, sample_weight, threads)
            point = objective.at(objective.to_inside(weights, bias))
            if made.is_quadratic and objective.examples.rows.n_features < WIDE_SQUARED:
                inverse: Preconditioner = exact_inverse(objective, objective.examples.second_moments(None))
                return cls(objective, point, inverse, True, squared_leverage(objective, inverse), basis)
            if dense_pays(objective):
                dense = dense_inverse(point)
                return cls(objective, point, dense, True, dense, basis)
            if coupling_pays(objective):
                coupled = CoupledHessian.at(objective, point.scores).inverse(objective.l2)
                return cls(objective, point, coupled, False, Leverage.of_coupled(objective, coupled), basis)
            about = preconditioner(objective, moments(objective.examples), spend=True)
            return cls(objective, point, about, False, None, basis)

    @property
    def gradient_norm(self) -> float:
        """Relative gradient norm of J at the head: influences suppose that it is small."""
        return float(self.objective.norm(self.point.gradient))

    def on_margin(self, z: FloatArray, a: int, b: int, tol: float = TOLERANCE) -> Effects:
        """Effects on the margin of class a over b, score a minus score b, of the image with features z (D,)."""
        u = np.zeros(self.objective.examples.n_outputs)
        u[a] += 1.0
        u[b] -= 1.0
        return self.on_scores(z, u, tol)

    def on_loss(self, z: FloatArray, label: int, tol: float = TOLERANCE) -> Effects:
        """Effects on the loss of the image with features z (D,) and that label: what removing helps is below zero."""
        inside = self._inside(z)
        scores = (inside @ self.point.params)[None].astype(np.float64)
        self.objective.loss.gradient(scores, np.array([label]))
        return self.on_scores(z, scores[0], tol)

    def on_scores(self, z: FloatArray, u: Float64, tol: float = TOLERANCE) -> Effects:
        """Effects on ``u · scores`` of the image with features z (D,).

        Parameters
        ----------
        z : float (D,)
        u : float (K,)
        tol : float
            Residual at which the solve stops, in the preconditioner's norm, as a share of the right-hand side's.
        """
        with single_blas_thread():
            v = np.outer(self._inside(z), u)
            solution, products, residual = self._solve(v, tol)
            T = self._along(solution)
            r, weights = self._residuals(), self._weights()
            n = len(self.objective.examples.rows)
            effects = weights * np.einsum("kn,kn->n", T, r, dtype=np.float64) / n
        return Effects(self._spread(effects), solution, products, residual)

    def corrected(self, effects: Effects, rows: IntArray) -> Float64:
        """Changes by one Newton step without the row, for some rows (m,) in the caller's numbering.

        Raises
        ------
        InputError
            When there is no leverage to correct with (`Influence.leverage`).
        """
        if self.leverage is None:
            raise InputError("leverages of these features cost too much", "Use the first order: effects.first_order")
        ex = self.objective.examples
        inside = self._numbers(rows)
        known = np.flatnonzero(inside >= 0)
        out = np.zeros(len(rows))
        if not len(known):
            return out
        inside = inside[known]
        with single_blas_thread():
            X = self._rows(inside)
            T = X @ effects.solution
            scores = self.point.scores[:, inside].T.astype(np.float64)
            y, s = ex.y[inside], self._weights()[inside]
            r = scores.copy()
            self.objective.loss.gradient(r, y)
            G = self.leverage.of(X)
            C = np.stack([self.objective.loss.hessian_times(scores.copy(), _unit(scores, k), y) for k in _count(r)], 2)
            system = np.eye(r.shape[1]) - s[:, None, None] * (C @ G)
            out[known] = s * np.einsum("nk,nk->n", T, np.linalg.solve(system, r[..., None])[..., 0]) / len(ex.rows)
        return out

    def _solve(self, v: Float64, tol: float) -> tuple[Float64, int, float]:
        """``H S = v``: at once, or by preconditioned conjugate gradients."""
        if self.exact:
            return self.inverse.apply(v), 0, 0.0
        return conjugate_gradients(self.point, self.inverse, v, tol)

    def _inside(self, z: FloatArray) -> Float64:
        """Features (D,) and a one, as the objective has its columns."""
        ex = self.objective.examples
        z = np.asarray(z, np.float64)
        D = ex.rows.n_features if self.basis is None else len(self.basis.mean)
        if z.shape != (D,):
            raise InputError(f"the features have shape {z.shape}; ({D},) is needed")
        if self.basis is not None:  # nothing outside of the rows' span has a weight, with or without a row
            z = self.basis.Q.T @ (z - self.basis.mean)
        if ex.rows.shift is not None:
            z = z - ex.rows.shift
        if ex.rows.scale is not None:
            z = z * ex.rows.scale
        return np.append(np.where(ex.live, z - ex.centre, 0.0), 1.0)

    def _rows(self, inside: IntArray) -> Float64:
        """Rows (m, D + 1) of those numbers, as the objective has their columns."""
        X, _, _ = self.objective.take(inside)
        return X

    def _along(self, solution: Float64) -> FloatArray:
        """``zᵢ S`` of every row, (K, N)."""
        right, added = self.objective.factors(solution)
        return self.objective.examples.rows.scores(right, added)

    def _residuals(self) -> FloatArray:
        """∂L/∂scores of every row, (K, N)."""
        r = self.point.scores.T.copy()
        self.objective.loss.gradient(r, self.objective.examples.y)
        return np.asarray(r.T)

    def _weights(self) -> Float64:
        weights = self.objective.examples.weights
        n = len(self.objective.examples.rows)
        return np.ones(n) if weights is None else weights.astype(np.float64)

    def _spread(self, effects: Float64) -> Float64:
        """By the caller's row numbers."""
        rows = self.objective.examples.rows
        if rows.rows is None:
            return effects
        out = np.zeros(len(rows.Z))
        out[rows.rows] = effects
        return out

    def _numbers(self, rows: IntArray) -> IntArray:
        """The objective's numbers of the caller's rows, -1 for rows of weight zero."""
        used = self.objective.examples.rows.rows
        rows = np.asarray(rows, np.intp)
        if used is None:
            return rows
        table = np.full(len(self.objective.examples.rows.Z), -1)
        table[used] = np.arange(len(used))
        return np.asarray(table[rows])


WIDE_SQUARED = 6144
"""Columns from which on even the squared loss is solved step by step."""


def conjugate_gradients(
    point: ObjectivePoint, inverse: Preconditioner, v: Float64, tol: float, most: int = 500
) -> tuple[Float64, int, float]:
    """``H S = v`` by conjugate gradients, preconditioned (Hestenes & Stiefel 1952).

    Returns
    -------
    S : (D + 1, K)
    products : int
        With the Hessian.
    residual : float
        What is left of v, in the preconditioner's norm, as a share.
    """
    S = np.zeros_like(v)
    residual = v.copy()
    towards = inverse.apply(residual)
    product = begin = float(np.vdot(residual, towards))
    if not begin > 0.0:
        return S, 0, 0.0
    p, products = towards, 0
    while products < most and product > tol * tol * begin:
        Hp = point.hessian_times(p)
        products += 1
        curvature = float(np.vdot(p, Hp))
        if not curvature > 0.0:
            break  # rounding is all that is left
        S += (product / curvature) * p
        residual -= (product / curvature) * Hp
        towards = inverse.apply(residual)
        before, product = product, float(np.vdot(residual, towards))
        p = towards + (product / before) * p
    return S, products, float(np.sqrt(max(product, 0.0) / begin))


def _unit(like: Float64, k: int) -> Float64:
    out = np.zeros_like(like)
    out[:, k] = 1.0
    return out


def _count(r: Float64) -> range:
    return range(r.shape[1])
