"""Least squares for every two classes, from the first and second moments of each class.

With n, m and A the total weight, mean and second moments ``Σ s x xᵀ`` of a class, the unit of classes i (-1) and j (+1)
is that of ``N = nᵢ + nⱼ`` rows::

    m = (nᵢ mᵢ + nⱼ mⱼ) / N,     C = (Aᵢ + Aⱼ) / N - m mᵀ
    (C + λ I) u = 2 nᵢ nⱼ (mⱼ - mᵢ) / N²,     c = (nⱼ - nᵢ) / N - u·m

so that K passes over D² numbers and P = K (K - 1) / 2 factorisations replace P passes over the rows. Moments are taken
about the mean of all rows, where there is an intercept, and in float64.
"""

from __future__ import annotations

import numpy as np

from lastlayer._arrays import Float64, IntArray
from lastlayer._threads import available_threads, parallel, single_blas_thread
from lastlayer.estimators.fitting import Coefficients
from lastlayer.estimators.training import Training

LARGEST = 2**27
"""Most numbers K D² of second moments: 1 GiB."""
_ROWS = 2048
_POOR = 1e-13
"""Ratio of the squares on a Cholesky factor's diagonal below which its digits are not trusted."""


def fit_pairs(data: Training, pairs: IntArray, l2: float, fit_intercept: bool) -> Coefficients:
    """Units (u, c) of every pair (P, 2) of classes; of least norm where many are best."""
    D = data.X.shape[1]
    with single_blas_thread():
        shift = _mean(data) if fit_intercept else np.zeros(D)
        moments = parallel(lambda k: _moments(data, k, shift), range(len(data.classes)), available_threads())

        def unit(pair: tuple[int, int]) -> tuple[Float64, float]:
            (n_i, m_i, A_i), (n_j, m_j, A_j) = (moments[k] for k in pair)
            total = n_i + n_j
            C = (A_i + A_j) / total
            if not fit_intercept:
                return _solve(C, (n_j * m_j - n_i * m_i) / total, l2), 0.0
            m = (n_i * m_i + n_j * m_j) / total
            C -= np.outer(m, m)
            u = _solve(C, 2.0 * (n_i / total) * (n_j / total) * (m_j - m_i), l2)
            return u, float((n_j - n_i) / total - u @ (m + shift))

        found = parallel(unit, [(int(i), int(j)) for i, j in pairs], available_threads())
    return Coefficients(np.array([u for u, _ in found]), np.array([c for _, c in found]), 1)


def _weights(data: Training) -> Float64:
    """Weights divided by the largest: their scale changes nothing, and sums stay finite."""
    return np.ones(len(data.X)) if data.weights is None else data.weights / data.weights.max()


def _mean(data: Training) -> Float64:
    weights, starts = _weights(data), range(0, len(data.X), _ROWS)
    sums = [weights[s : s + _ROWS] @ data.X[s : s + _ROWS].astype(np.float64) for s in starts]
    return np.asarray(np.sum(sums, axis=0) / weights.sum())


def _moments(data: Training, k: int, shift: Float64) -> tuple[float, Float64, Float64]:
    """Total weight, mean and second moments of class k, about the shift."""
    weights, rows = _weights(data), np.flatnonzero(data.codes == k)
    D = len(shift)
    first, second = np.zeros(D), np.zeros((D, D))
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS]
        X = data.X[part].astype(np.float64) - shift
        first += weights[part] @ X
        X *= np.sqrt(weights[part])[:, None]
        second += X.T @ X
    total = float(weights[rows].sum())
    return total, first / total, second


def _solve(C: Float64, r: Float64, l2: float) -> Float64:
    """``(C + λ I)⁻¹ r``; the pseudo-inverse where the matrix is singular to rounding."""
    C[np.diag_indices_from(C)] += l2
    try:
        L = np.linalg.cholesky(C)
    except np.linalg.LinAlgError:
        L = np.zeros_like(C)
    squares = L.diagonal() ** 2
    if squares.min() > _POOR * squares.max():
        from scipy.linalg import solve_triangular

        half = solve_triangular(L, r, lower=True, check_finite=False)
        return np.asarray(solve_triangular(L, half, lower=True, trans="T", check_finite=False))
    values, vectors = np.linalg.eigh(C)
    kept = values > max(l2 / 2, len(C) * np.finfo(np.float64).eps * values[-1])
    return np.asarray(vectors[:, kept] @ (vectors[:, kept].T @ r / values[kept]))
