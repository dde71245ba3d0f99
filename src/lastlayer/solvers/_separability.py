"""Whether a linear rule separates small data: a linear program and its certificate."""

from __future__ import annotations

import numpy as np

from lastlayer._arrays import Float64, IntArray


def margin_bound(X: Float64, y: IntArray, n_classes: int, largest: int) -> float | None:
    """Upper bound of the margin that any weights reach on scaled rows; about 0 when no rule separates them.

    Row x of class y asks ``(w_y - w_r)·x > 0`` of every other class r, that is ``A w > 0`` for a matrix A. By Gordan's
    theorem (1873) either such w exist or some ``λ ≥ 0, Σ λ = 1`` with ``Aᵀ λ = 0``. The program looks for the λ of
    least ``‖Aᵀ λ‖∞``. As ``min A w ≤ λᵀ A w ≤ ‖Aᵀ λ‖∞ ‖w‖₁``, that bounds the margin of all w with ``‖w‖₁ = 1``; it is
    computed from λ itself, so that the solver's tolerance cannot make it too small.

    Parameters
    ----------
    X : (N, D) rows with their column of ones.
    y : (N,) labels.
    n_classes : int
    largest : int
        Most coefficients of A.

    Returns
    -------
    float or None
        None when A would be larger, or the program was not solved.
    """
    from scipy.optimize import linprog

    A = _demands(X / _sizes(X, 0), y, n_classes, largest)
    if A is None:
        return None
    A /= _sizes(A, 1)
    m, p = A.shape
    objective = np.append(np.zeros(m), 1.0)
    ones = -np.ones((p, 1))
    limits = np.vstack([np.hstack([A.T, ones]), np.hstack([-A.T, ones])])
    total = np.append(np.ones(m), 0.0)[None]
    options = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    answer = linprog(objective, limits, np.zeros(2 * p), total, [1.0], (0.0, None), "highs", options=options)
    if answer.status != 0:
        return None
    shares = np.maximum(answer.x[:m], 0.0)
    return float(np.abs(A.T @ (shares / shares.sum())).max())


def _sizes(X: Float64, axis: int) -> Float64:
    """Greatest absolute value of each column (axis 0) or row (axis 1), 1 for zeros."""
    sizes = np.abs(X).max(axis=axis, keepdims=True)
    return np.where(sizes > 0.0, sizes, 1.0)


def _demands(X: Float64, y: IntArray, n_classes: int, largest: int) -> Float64 | None:
    """A, one row a demand; two classes need one column of weights, more need one each."""
    n, d = X.shape
    if n_classes == 2:
        return np.where(y == 1, 1.0, -1.0)[:, None] * X if n * d <= largest else None
    if n * (n_classes - 1) * d * n_classes > largest:
        return None
    A = np.zeros((n, n_classes - 1, n_classes, d))
    for i in range(n):
        for place, rival in enumerate(r for r in range(n_classes) if r != y[i]):
            A[i, place, y[i]] = X[i]
            A[i, place, rival] = -X[i]
    return A.reshape(n * (n_classes - 1), n_classes * d)
