"""Approximate inverse Hessians of the objective, from second moments of the features: where a solver begins."""

from __future__ import annotations

import numpy as np

from lastlayer._arrays import FloatArray
from lastlayer.linear.inverse import inverse_factor
from lastlayer.linear.rows import WIDE
from lastlayer.objective import Objective
from lastlayer.selection.wide import SampledMoments
from lastlayer.solvers import FactoredInverse, Preconditioner, PseudoInverse


def preconditioner(objective: Objective, S: FloatArray | SampledMoments, spend: bool = False) -> Preconditioner:
    """``(α S + diag(λ))⁻¹`` with the loss's typical curvature α; with `spend` in the memory of S, which it ends."""
    if isinstance(S, SampledMoments):
        alpha = _curvature(objective, S.mean_square())
        return S.inverse(alpha, float(objective.penalty.strength.mean()), alpha)
    alpha = _curvature(objective, float(S.diagonal().mean()))
    return _inverse(objective, S, alpha, floor=1e-8 if len(S) <= WIDE else 1e-5, spend=spend)


def exact_inverse(objective: Objective, S: FloatArray) -> Preconditioner:
    """``(S + diag(λ))⁻¹`` as exact as its entries; the pseudo-inverse without a penalty."""
    precision = float(np.finfo(np.result_type(S, objective.examples.rows.dtype)).eps)
    if objective.l2 > 0:
        return _inverse(objective, S, 1.0, floor=precision)
    rounding = float(np.finfo(objective.examples.rows.dtype).eps)
    return PseudoInverse.of(S.astype(np.float64), 1.0, rounding)


def _inverse(objective: Objective, S: FloatArray, alpha: float, floor: float, spend: bool = False) -> Preconditioner:
    """``(α S + diag(max(λ, floor · largest)))⁻¹``, the floor raised until the matrix is positive definite.

    The floor is for constant and dependent columns. It changes the way to the optimum, not the optimum: L-BFGS and
    conjugate gradients need an approximate inverse only.
    """
    strength = objective.penalty.strength
    A = S if spend else S.copy()
    A *= alpha
    diagonal = A.diagonal().astype(np.float64)
    largest = float(diagonal.max()) or 1.0
    while True:
        A[np.diag_indices_from(A)] = diagonal + np.maximum(strength, floor * largest)
        try:
            return FactoredInverse(inverse_factor(A, objective.examples.rows.threads), alpha)
        except np.linalg.LinAlgError:
            floor *= 10.0


def _curvature(objective: Objective, size: float) -> float:
    """α: the loss's typical curvature, less where the penalty is weak and most rows are told apart with confidence.

    The exponent and the threshold are fitted to pass counts on MNIST and CIFAR-10 pixels (docs/solver-notes.md).
    """
    ratio = float(objective.penalty.strength.mean()) / size if size > 0 else 1.0
    confidence = min(1.0, max(1e-7, ratio) / 1e-3) ** 0.4
    return float(objective.loss.typical_curvature(objective.examples.n_outputs) * confidence)
