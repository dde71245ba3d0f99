"""An inverse Hessian that knows which classes are confused: for many weakly penalised fits of the same rows.

The Hessian of a loss of linear scores is ``Σᵢ sᵢ Cᵢ ⊗ zᵢ zᵢᵀ + λ I`` with Cᵢ (K, K) the loss's own Hessian at row i.
The preconditioner of a single fit takes every Cᵢ for the same multiple of the identity (`selection.inverses`). Here the
eigenvectors of the pooled, weighted moments ``Σ sᵢ (tr Cᵢ / K) zᵢ zᵢᵀ`` are the axes: in the R leading ones the block
of all classes is kept whole, in the others its diagonal, both from a sample of rows. That costs some fifty passes to
make. On MNIST at λ = 8e-7 a fold's fit then takes 19 passes instead of 68, and 10 instead of 60 at λ = 8e-5. A path
over folds makes it a few times: folds, and neighbouring values of λ, have about the same Hessian.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from lastlayer._arrays import Array, Float32, Float64, FloatArray
from lastlayer.linear import parallel, tree_sum
from lastlayer.linear.inverse import inverse_factor
from lastlayer.objective import Objective
from lastlayer.solvers import Preconditioner

UNKNOWNS = 1536
"""Most unknowns of the coupled block, (R + 1) K."""
FEWEST, WIDEST = 48, 1024
"""Least R and most columns D for which it pays."""
SAMPLE = 16_384
"""Rows drawn, by how much of the Hessian is theirs. Half as many cost a third more passes on MNIST."""
CHUNK = 2048
FLOOR = 1e-6
"""Least eigenvalue of the coupled block, as a share of its mean: raising all scores alike changes no loss."""


@final
@dataclass(frozen=True, eq=False)
class CoupledInverse(Preconditioner):
    """The approximate inverse for one λ.

    Attributes
    ----------
    basis : ndarray
        (D, D) orthonormal columns, leading ones first.
    factor : ndarray
        M ((R + 1) K, (R + 1) K): ``Mᵀ M`` is the inverse of the coupled block, the bias its last direction.
    rest : ndarray
        (D - R, K) of the other directions, class by class.
    """

    basis: Float32
    factor: Float32
    rest: Float32

    def apply(self, gradient: Float64) -> Float64:
        """Multiply a gradient (D + 1, K) by it."""
        size = float(np.abs(gradient).max()) or 1.0
        inside = self.basis.T @ (gradient[:-1] / size).astype(np.float32)
        r, k = len(inside) - len(self.rest), gradient.shape[1]
        leading = np.concatenate([inside[:r], (gradient[-1:] / size).astype(np.float32)]).ravel()
        solved = (self.factor.T @ (self.factor @ leading)).reshape(r + 1, k)
        inside[:r] = solved[:r]
        inside[r:] *= self.rest
        out = np.empty_like(gradient)
        out[:-1] = self.basis @ inside
        out[-1] = solved[r]
        out *= size
        return out


@final
@dataclass(frozen=True, eq=False)
class CoupledHessian:
    """The Hessian of the mean loss around one point, without the penalty.

    Attributes
    ----------
    basis : ndarray
        (D, D), see `CoupledInverse`.
    block : ndarray
        ((R + 1) K, (R + 1) K).
    rest : ndarray
        (D - R, K) the Hessian's diagonal in the other directions.
    threads : int
    """

    basis: Float32
    block: Float32
    rest: Float64
    threads: int

    @classmethod
    def at(cls, objective: Objective, scores: FloatArray) -> CoupledHessian:
        """Around the point whose scores (K, N) are given."""
        ex = objective.examples
        rows, weights = _sample(objective.traces(scores).astype(np.float64))
        weights = weights * _weights_of(objective, rows) / len(ex.rows)
        classes = _class_hessians(objective, scores[:, rows], ex.y[rows])
        pooled = weights * np.einsum("kkn->n", classes) / ex.n_outputs
        _, vectors = np.linalg.eigh(_moments(objective, rows, pooled))
        basis = np.ascontiguousarray(vectors[:, ::-1], dtype=np.float32)
        A, rest = _rotated(objective, rows, weights, classes, basis, leading_directions(objective))
        return cls(basis, _block(A, weights, classes, ex.rows.threads), rest, ex.rows.threads)

    def inverse(self, l2: float) -> CoupledInverse:
        """With the penalty λ; not to be called by several threads at a time."""
        A = self.block  # only its diagonal is changed, and put back: a copy would be as large as all else
        k = len(A) // (self.basis.shape[1] - len(self.rest) + 1)
        diagonal = A.diagonal().copy()
        floor = FLOOR * float(diagonal.mean())
        try:
            while True:
                A[np.diag_indices_from(A)] = diagonal + floor
                A[np.diag_indices(len(A) - k)] += l2
                try:
                    factor: Float32 = inverse_factor(A, self.threads)
                    break
                except np.linalg.LinAlgError:
                    floor *= 10.0
        finally:
            A[np.diag_indices_from(A)] = diagonal
        rest = (1.0 / (self.rest + l2 + floor)).astype(np.float32)
        return CoupledInverse(self.basis, factor, rest)


def _weights_of(objective: Objective, rows: Array) -> Float64:
    """Weights of some rows."""
    weights = objective.examples.weights
    return np.ones(len(rows)) if weights is None else weights[rows].astype(np.float64)


def leading_directions(objective: Objective) -> int:
    """R."""
    ex = objective.examples
    return min(ex.rows.n_features, UNKNOWNS // ex.n_outputs - 1)


def is_worth_it(objective: Objective, passes: float) -> bool:
    """Whether making it costs less than the passes that are ahead, of which it saves half or more.

    It takes a wide enough block, columns that were not scaled, and float32 products, whose rows are many.
    """
    ex = objective.examples
    r, d, k = leading_directions(objective), ex.rows.n_features, ex.n_outputs
    if d > WIDEST or r < min(FEWEST, d) or ex.rows.scale is not None or ex.rows.dtype != np.float32:
        return False
    n = min(SAMPLE, len(ex.rows))
    # products in float32, then the factor and the eigenvectors, in float64 and at lower rates
    operations = 4.0 * n * d * d + k * (k + 1) * n * r * r + 4.0 * ((r + 1) * k) ** 3 + 20.0 * d**3
    return passes * 4.0 * len(ex.rows) * d * k > operations


def _unit(Z: FloatArray, k: int) -> FloatArray:
    V = np.zeros_like(Z)
    V[:, k] = 1.0
    return V


def _sample(trace: Float64) -> tuple[Array, Float64]:
    """Row numbers drawn evenly along the cumulated trace, a tenth of it shared by all, and their weights.

    Where there are fewer rows than draws all rows are taken once.
    """
    n = len(trace)
    if n <= SAMPLE:
        return np.arange(n), np.ones(n)
    used = trace > 0
    share = np.where(used, 0.9 * trace / max(float(trace.sum()), 1e-300) + 0.1 / max(1, int(used.sum())), 0.0)
    ends = np.cumsum(share)
    rows = np.searchsorted(ends, (np.arange(SAMPLE) + 0.5) * (ends[-1] / SAMPLE))
    rows = np.minimum(rows, n - 1)
    return rows, ends[-1] / (SAMPLE * share[rows])


def _class_hessians(objective: Objective, scores: FloatArray, labels: Array) -> FloatArray:
    """Cᵢ of some rows with scores (K, n), as (K, K, n)."""
    Z = scores.T
    columns = [objective.loss.hessian_times(Z.copy(), _unit(Z, k), labels).T for k in range(Z.shape[1])]
    return np.ascontiguousarray(columns)


def _centred(objective: Objective, rows: Array) -> FloatArray:
    """Features of some rows as the Hessian sees them, (n, D)."""
    ex = objective.examples
    Z = ex.rows.pick(rows) - ex.centre.astype(ex.rows.dtype)
    Z[:, ~ex.live] = 0.0
    return np.asarray(Z)


def _moments(objective: Objective, rows: Array, weights: Float64) -> Float64:
    """``Σ w z zᵀ`` over the rows drawn, (D, D)."""

    def of_chunk(start: int, stop: int) -> Float64:
        Z = _centred(objective, rows[start:stop])
        return np.asarray((Z * weights[start:stop, None].astype(Z.dtype)).T @ Z, dtype=np.float64)

    drawn = objective.examples.rows.among(rows)
    return drawn.sum_over(of_chunk, CHUNK, size=drawn.n_features**2)


def _rotated(
    objective: Objective, rows: Array, weights: Float64, classes: FloatArray, vectors: Float32, r: int
) -> tuple[Float32, Float64]:
    """Leading coordinates of the rows drawn with a one for the bias, (n, R + 1), and ``Σ w C_kk a²`` of the others."""
    threads, d = objective.examples.rows.threads, len(vectors)
    A = np.ones((len(rows), r + 1), dtype=np.float32)
    diagonals = (weights * np.einsum("kkn->kn", classes)).astype(np.float32)

    def rotate(start: int) -> Float64:
        span = slice(start, start + CHUNK)
        inside = _centred(objective, rows[span]) @ vectors
        A[span, :r] = inside[:, :r]
        others = inside[:, r:d]
        others *= others
        return np.asarray(others.T @ diagonals[:, span].T, dtype=np.float64)

    rest = tree_sum(parallel(rotate, range(0, len(rows), CHUNK), threads))
    if not objective.examples.intercept:
        A[:, r] = 0.0
    return A, rest


def _block(A: Float32, weights: Float64, classes: FloatArray, threads: int) -> Float32:
    """``Σ w C ⊗ a aᵀ``; coordinates outside, classes inside. Sums are float64, what is kept is float32: a sample's."""
    k, width = len(classes), A.shape[1]
    H = np.empty((width, k, width, k), np.float32)

    def pair(ab: tuple[int, int]) -> None:
        w = (weights * classes[ab]).astype(np.float32)
        total = np.zeros((width, width))
        for start in range(0, len(A), CHUNK):
            part = A[start : start + CHUNK]
            total += (part * w[start : start + CHUNK, None]).T @ part
        H[:, ab[0], :, ab[1]] = total
        H[:, ab[1], :, ab[0]] = total

    parallel(pair, [(a, b) for a in range(k) for b in range(a, k)], threads)
    return H.reshape(width * k, width * k)
