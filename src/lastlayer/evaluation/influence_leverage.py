"""The leverage of a row: how much of the Hessian's inverse it sees, ``Gᵢ = (1/n) (zᵢ ⊗ I) H⁻¹ (zᵢ ⊗ I)ᵀ`` (K, K)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from lastlayer._arrays import Float64, FloatArray
from lastlayer.linear.inverse import inverse_factor
from lastlayer.objective import Objective, ObjectivePoint
from lastlayer.selection.coupled import FEWEST, WIDEST, CoupledInverse, leading_directions
from lastlayer.solvers import FactoredInverse, Preconditioner
from lastlayer.solvers.newton import hessian

MOST_PARAMETERS, MOST_OPERATIONS = 1500, 2e11
"""Up to which the Hessian is put together whole: one product with it a parameter."""
FLOOR = 1e-13
"""Share of the mean diagonal that is added where the Hessian is singular to rounding."""
CHUNK = 256


@final
@dataclass(frozen=True, eq=False)
class Leverage(Preconditioner):
    """A form of ``H⁻¹`` that leverages are read off, in rotated coordinates whose leading ones know all classes.

    Attributes
    ----------
    basis : ndarray or None
        (D, D) orthonormal columns; None: the columns themselves.
    block : ndarray
        (R + 1, K, R + 1, K) the inverse over the R leading coordinates and the bias; K = 1 where all classes have the
        same and are not coupled.
    rest : ndarray
        (D - R, K) the inverse in the other coordinates, class by class.
    n_rows, n_outputs : int
    """

    basis: FloatArray | None
    block: FloatArray
    rest: FloatArray
    n_rows: int
    n_outputs: int

    @classmethod
    def of_coupled(cls, objective: Objective, inverse: CoupledInverse) -> Leverage:
        """About, from a preconditioner that couples the classes in the leading directions."""
        K = objective.examples.n_outputs
        width = len(inverse.factor) // K
        factor = inverse.factor.astype(np.float64).reshape(-1, width, K)
        if shift_is_free(objective):
            factor[:, -1] -= factor[:, -1].mean(axis=1, keepdims=True)
        flat = factor.reshape(-1, width * K)
        block = (flat.T @ flat).reshape(width, K, width, K).astype(np.float32)
        return cls(inverse.basis, block, inverse.rest, len(objective.examples.rows), K)

    def apply(self, gradient: Float64) -> Float64:
        """Multiply a gradient (D + 1, K) by it."""
        inside = gradient[:-1] if self.basis is None else self.basis.T @ gradient[:-1]
        R = len(self.block) - 1
        leading = np.vstack([inside[:R], gradient[-1:]])
        solved = np.tensordot(self.block, leading, 2)
        inside = np.vstack([solved[:R], inside[R:] * self.rest])
        return np.vstack([inside if self.basis is None else self.basis @ inside, solved[R:]])

    def of(self, X: Float64) -> Float64:
        """Gᵢ (m, K, K) of rows (m, D + 1), the ones last."""
        out = np.empty((len(X), self.n_outputs, self.n_outputs))
        for start in range(0, len(X), CHUNK):
            out[start : start + CHUNK] = self._of(X[start : start + CHUNK])
        return out

    def _of(self, X: Float64) -> Float64:
        R = len(self.block) - 1
        inside = X[:, :-1] if self.basis is None else X[:, :-1].astype(self.basis.dtype) @ self.basis
        A = np.hstack([inside[:, :R], X[:, -1:]]).astype(self.block.dtype)
        coupled = self.block.shape[1]
        G = np.empty((len(X), coupled, coupled))
        for k in range(coupled):
            for m in range(k, coupled):
                G[:, k, m] = G[:, m, k] = np.einsum("nd,nd->n", A @ self.block[:, k, :, m], A)
        if coupled < self.n_outputs:
            G = G * np.eye(self.n_outputs)
        if R < inside.shape[1]:
            others = np.square(inside[:, R:]) @ self.rest
            G[:, range(self.n_outputs), range(self.n_outputs)] += others
        return np.asarray(G / self.n_rows)


def shift_is_free(objective: Objective) -> bool:
    """Whether raising all scores alike changes no loss, as with the softmax: the Hessian then is singular.

    No row pulls in that direction, so that any curvature may be put there.
    """
    K = objective.examples.n_outputs
    label = np.zeros(1, np.intp)
    return bool(np.abs(objective.loss.hessian_times(np.zeros((1, K)), np.ones((1, K)), label)).max() < 1e-12)


def squared_leverage(objective: Objective, inverse: Preconditioner) -> Leverage | None:
    """Of the squared loss, whose Hessian is the same (D, D) matrix for every class; None without a factor of it."""
    if not isinstance(inverse, FactoredInverse):
        return None
    D, K = objective.examples.rows.n_features, objective.examples.n_outputs
    block = np.zeros((D + 1, 1, D + 1, 1))
    block[:D, 0, :D, 0] = inverse.factor.T @ inverse.factor
    block[D, 0, D, 0] = 1.0 / inverse.curvature
    return Leverage(None, block, np.zeros((0, K)), len(objective.examples.rows), K)


def dense_pays(objective: Objective) -> bool:
    """Whether there are so few parameters that the whole Hessian is quicker than solving with it."""
    ex = objective.examples
    parameters = (ex.rows.n_features + 1) * ex.n_outputs
    return parameters <= MOST_PARAMETERS and 4.0 * len(ex.rows) * parameters**2 <= MOST_OPERATIONS


def coupling_pays(objective: Objective) -> bool:
    """Whether a preconditioner that couples the classes can be had: it solves in few steps and knows leverages."""
    ex = objective.examples
    directions = leading_directions(objective)
    return ex.rows.n_features <= WIDEST and directions >= min(FEWEST, ex.rows.n_features) and ex.rows.scale is None


def dense_inverse(point: ObjectivePoint) -> Leverage:
    """``H⁻¹`` in full, from one product with H a parameter."""
    objective = point.problem
    K = objective.examples.n_outputs
    H = hessian(point)
    size = float(np.abs(H.diagonal()).mean()) or 1.0
    if shift_is_free(objective):
        H[-K:, -K:] += size / K
    diagonal, floor = H.diagonal().copy(), FLOOR * size
    while True:
        H[np.diag_indices_from(H)] = diagonal + floor
        try:
            factor = inverse_factor(H, objective.examples.rows.threads)
            break
        except np.linalg.LinAlgError:
            floor *= 10.0
    width = len(H) // K
    block = (factor.T @ factor).reshape(width, K, width, K)
    return Leverage(None, block, np.zeros((0, K)), len(objective.examples.rows), K)
