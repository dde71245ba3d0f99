"""Inverse Cholesky factors by blocks, so that nearly all the work is matrix products.

NumPy's own factorisations work in float64 and with the BLAS threads, whose number changes their bits. Here the
products are cut into fixed strips, which a pool of threads computes.
"""

from __future__ import annotations

import numpy as np

from lastlayer._arrays import FloatArray
from lastlayer._threads import parallel

BASE = 256
STRIP = 256


def inverse_factor(A: FloatArray, threads: int = 1) -> FloatArray:
    """Lower triangular M with ``Mᵀ M = A⁻¹`` for a symmetric positive definite A.

    With ``A = [[A₁₁, A₂₁ᵀ], [A₂₁, A₂₂]]``: M₁₁ of A₁₁; ``L₂₁ = A₂₁ M₁₁ᵀ``; M₂₂ of ``A₂₂ - L₂₁ L₂₁ᵀ``;
    ``M₂₁ = -M₂₂ L₂₁ M₁₁``.

    Parameters
    ----------
    A : (D, D), of the type in which to compute; left alone.
    threads : int
        Changes no bit.

    Raises
    ------
    numpy.linalg.LinAlgError
        When A is not positive definite in its own precision.
    """
    n = len(A)
    if n <= BASE:
        factor = np.linalg.cholesky(A.astype(np.float64))
        if not (factor.diagonal() > 0).all():
            raise np.linalg.LinAlgError("not positive definite")
        return np.tril(np.linalg.inv(factor)).astype(A.dtype)
    half = -(-n // (2 * BASE)) * BASE
    M = np.zeros_like(A)
    M[:half, :half] = inverse_factor(A[:half, :half], threads)
    lower = _product(A[half:, :half], M[:half, :half].T, threads)
    M[half:, half:] = inverse_factor(A[half:, half:] - _product(lower, lower.T, threads), threads)
    M[half:, :half] = -_product(M[half:, half:], _product(lower, M[:half, :half], threads), threads)
    return M


def _product(A: FloatArray, B: FloatArray, threads: int) -> FloatArray:
    """``A B`` by strips of rows."""
    out = np.empty((len(A), B.shape[1]), dtype=A.dtype)

    def strip(start: int) -> None:
        np.matmul(A[start : start + STRIP], B, out=out[start : start + STRIP])

    parallel(strip, range(0, len(A), STRIP), threads)
    return out
