"""Eigenvectors of a symmetric matrix: the same bits on any number of threads, and nearly as fast as with all of them.

LAPACK's three steps (Golub & Van Loan 2013, section 8.3): reduce to a tridiagonal T, decompose T by divide and conquer,
turn its eigenvectors back. With several BLAS threads the bits would depend on their number, and on fewer cores than
threads each step takes many times as long. So the first two run on one thread; the third, which would take as long as
both, is cut into strips of eigenvectors for the pool.

SciPy is imported with this module: a BLAS that is loaded inside `single_blas_thread` would escape it.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import lapack

from lastlayer._arrays import Float64
from lastlayer._threads import parallel

SMALL = 512
"""Columns up to which NumPy does all three steps."""
PANEL = 64
STRIP = 256


def eigen(A: Float64, threads: int = 1) -> tuple[Float64, Float64]:
    """Eigenvalues, ascending and at least 0, and eigenvectors in columns, of a positive semi-definite matrix.

    To be called inside `single_blas_thread`.

    Parameters
    ----------
    A : (D, D) in C order; overwritten.
    threads : int
        Changes no bit.

    Raises
    ------
    numpy.linalg.LinAlgError
        When the iteration does not converge (NaN in A).
    """
    if len(A) <= SMALL:
        values, vectors = np.linalg.eigh(A)
        return np.maximum(values, 0.0), vectors
    n = len(A)
    work = int(lapack.dsytrd_lwork(n, lower=1)[0])
    # The transpose of a symmetric matrix in C order is itself in Fortran order.
    reduced, diagonal, beside, tau, info = lapack.dsytrd(A.T, lower=1, lwork=work, overwrite_a=1)
    if info == 0:
        values, vectors, info = lapack.dstevd(diagonal, beside)
    if info != 0:
        raise np.linalg.LinAlgError(f"eigenvalues did not converge (LAPACK's info is {info})")
    _turn_back(reduced, tau, vectors, threads)
    return np.maximum(values, 0.0), vectors


def _turn_back(reduced: Float64, tau: Float64, vectors: Float64, threads: int) -> None:
    """Overwrite the eigenvectors of T, (D, D), by those of the matrix: the reflections, panel by panel from the last.

    A panel of reflections ``I - τ v vᵀ`` is ``I - V K Vᵀ`` with a small triangular K (Schreiber & Van Loan 1989).
    """
    panels = []
    for first in range(0, len(tau), PANEL):
        last = min(first + PANEL, len(tau))
        V = np.tril(reduced[first + 1 :, first:last])
        V[np.diag_indices(last - first)] = 1.0
        panels.append((first + 1, V, V @ _kernel(V, tau[first:last])))

    def strip(start: int) -> None:
        part = np.ascontiguousarray(vectors[:, start : start + STRIP])
        for top, V, VK in reversed(panels):
            part[top:] -= VK @ (V.T @ part[top:])
        vectors[:, start : start + STRIP] = part

    parallel(strip, range(0, vectors.shape[1], STRIP), threads)


def _kernel(V: Float64, tau: Float64) -> Float64:
    """K, upper triangular, of a panel."""
    inner = V.T @ V
    K = np.zeros_like(inner)
    for j in range(len(tau)):
        K[:j, j] = -tau[j] * (K[:j, :j] @ inner[:j, j])
        K[j, j] = tau[j]
    return K
