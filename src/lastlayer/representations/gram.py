"""Gram matrices: a kernel's values among N rows, and scores that are sums over all of them.

    K_ij = k(x_i, x_j),        z(x) = Σ_j k(x, x_j) a_j + b

N² numbers are held, in float32 10 GB for 50,000 rows; of the features only a block of rows at a time is ever float.
Every block is the work of one BLAS thread, so that the number of threads changes no bit.
"""

from __future__ import annotations

import numpy as np

from lastlayer._arrays import Array, Float64, FloatArray, InputError
from lastlayer._progress import SILENT, Progress, Task
from lastlayer._threads import single_blas_thread
from lastlayer.representations._threads import spread
from lastlayer.representations.kernels import Against, Kernel, refuse_infinite

FIXED_NUMBERS = 2**27
"""Numbers of float features in the rows that a block of columns belongs to: they are converted once."""
MOVING_NUMBERS = 2**24
"""Numbers of float features in the rows that meet them, on each thread."""


def gram(
    kernel: Kernel,
    X: Array,
    precision: str = "float32",
    threads: int | None = None,
    progress: Progress = SILENT,
) -> FloatArray:
    """Kernel values (N, N) among the rows of X (N, D), symmetric to the last bit.

    Parameters
    ----------
    kernel : Kernel
    X : (N, D) finite real numbers of any type; whole numbers in bytes stay bytes but for a block at a time.
    precision : {"float32", "float64"}
        Of products and values.
    threads : int, optional
        As many as there are cores when None.
    progress : Progress
        Told of the share of the products made.

    Raises
    ------
    InputError
        When N² values do not fit into memory, and for values that are not finite.
    """
    n = len(X)
    K = _empty(n, np.dtype(precision))
    columns, rows = _block_rows(X, FIXED_NUMBERS), _block_rows(X, MOVING_NUMBERS)
    with (
        single_blas_thread(),
        np.errstate(over="ignore", invalid="ignore"),
        progress.task("kernel values", n * (n + columns) / 2) as task,
    ):
        for start in range(0, n, columns):
            _fill_columns(K, X, kernel, slice(start, min(start + columns, n)), rows, threads, task)
    return K


def gram_scores(
    kernel: Kernel,
    X: Array,
    A: Float64,
    b: FloatArray,
    new: Array,
    precision: str = "float32",
    threads: int | None = None,
    progress: Progress = SILENT,
) -> Float64:
    """``k(new, X) A + b`` (n, K): scores of rows `new` (n, D) by coefficients A (N, K) of rows X (N, D).

    Kernel values have the type `precision`; they are summed in float64. Rows of X without a coefficient are left out.
    """
    if new.ndim != 2 or new.shape[1] != X.shape[1]:
        raise InputError(f"rows have shape {new.shape}; (n, {X.shape[1]}) is needed")
    used = np.flatnonzero(np.any(A != 0, axis=1))
    out = np.zeros((len(new), A.shape[1]))
    columns, rows = _block_rows(X, FIXED_NUMBERS), _block_rows(X, MOVING_NUMBERS)
    with (
        single_blas_thread(),
        np.errstate(over="ignore", invalid="ignore"),
        progress.task("kernel scores", float(len(used) * len(new))) as task,
    ):
        for start in range(0, len(used), columns):
            chosen = used[start : start + columns]
            values = kernel.against(np.ascontiguousarray(X[chosen], dtype=precision))
            _add_scores(out, new, kernel, values, A[chosen], np.dtype(precision), rows, threads, task)
    return out + b


def _fill_columns(
    K: FloatArray, X: Array, kernel: Kernel, part: slice, rows: int, threads: int | None, task: Task
) -> None:
    """Columns of K, from their own diagonal block down, and the rows that mirror them."""
    n = len(K)
    values = kernel.against(np.ascontiguousarray(X[part], dtype=K.dtype))

    def block(low: int) -> None:
        high = min(low + rows, n)
        found = values(X[low:high].astype(K.dtype))
        refuse_infinite(found, kernel)
        K[low:high, part] = found
        task.advance(found.size)

    spread(block, range(part.start, n, rows), threads)
    corner = K[part, part]
    corner[:] = np.tril(corner) + np.tril(corner, -1).T
    for low in range(part.stop, n, rows):  # a block at a time: turning all at once would miss the cache
        K[part, low : low + rows] = K[low : low + rows, part].T


def _add_scores(
    out: Float64,
    new: Array,
    kernel: Kernel,
    values: Against,
    A: Float64,
    dtype: np.dtype[np.floating],
    rows: int,
    threads: int | None,
    task: Task,
) -> None:
    """Add what some rows with coefficients A contribute."""

    def block(low: int) -> None:
        part = new[low : low + rows]
        # of the same number of rows always: BLAS may treat the places of a shorter block differently
        full = np.empty((rows, new.shape[1]), dtype)
        full[: len(part)], full[len(part) :] = part, part[-1]
        found = values(full)[: len(part)]
        refuse_infinite(found, kernel)
        out[low : low + rows] += found.astype(np.float64) @ A
        task.advance(found.size)

    spread(block, range(0, len(new), rows), threads)


def _block_rows(X: Array, numbers: int) -> int:
    return int(np.clip(numbers // X.shape[1], 64, 4096))


def _empty(n: int, dtype: np.dtype[np.floating]) -> FloatArray:
    try:
        return np.empty((n, n), dtype)
    except MemoryError as problem:
        raise InputError(
            f"the kernel values of {n} rows take {n * n * dtype.itemsize / 1e9:.1f} GB: not on this machine",
            "Give a number of landmarks: memory then grows with rows times landmarks",
        ) from problem
