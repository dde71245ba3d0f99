"""Kernel ridge regression on all rows: conjugate gradients with a preconditioner from landmarks.

    minimise  Σ sᵢ ½‖fᵢ - tᵢ‖² / Σ s + (λ/2) tr(Aᵀ K A),      f = K A + 1 bᵀ

At the optimum ``(K + M) A + 1 bᵀ = T`` and ``1ᵀA = 0``, with M = diag(λ Σs / sᵢ). K is only multiplied: N² K_c
operations a step, where a Cholesky decomposition takes N³/3 and a second N × N matrix. The preconditioner is Nyström's
approximation of K from m of its own columns, ``K ≈ Φ Φᵀ``:

    (Φ Φᵀ + M)⁻¹ = M⁻¹ - M⁻¹ Φ (I + Φᵀ M⁻¹ Φ)⁻¹ Φᵀ M⁻¹

and the constraint on A is kept by projecting preconditioned residuals (Gould, Hribar & Nocedal 2001). What is left over
at the end bounds how far the objective is above its minimum: it is λ-strongly convex in the kernel's norm, so with
``R = λ A + s (f - T) / Σ s`` it is at most ``tr(Rᵀ K R) / (2 λ)`` above.

Sources: Rudi, Carratino & Rosasco 2017, "FALKON", NIPS; Ma & Belkin 2017, NIPS; Avron, Clarkson & Woodruff 2017, SIMAX.

Shapes
------
K : (N, N) kernel values, A : (N, K_c) one column a class, b : (K_c,), T : (N, K_c) targets, Φ : (N, r).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from lastlayer._arrays import Array, Float64, FloatArray, InputError
from lastlayer._progress import SILENT, Progress, Task
from lastlayer.linear import available_threads, parallel, single_blas_thread
from lastlayer.solvers.base import Record, StopReason

LANDMARKS = 2000
"""Columns of K in the preconditioner: N m² operations once, against N² K_c in every step."""
ROWS = 512
"""Rows of K in a product at a time."""
CHECKED = 5
"""Steps between two looks at the bound; a look costs a product."""
PATIENCE = 100
"""Steps without a smaller bound or value after which rounding is blamed: the bound does not fall at every step."""


@final
@dataclass(frozen=True, eq=False)
class KernelRidgeFit:
    """A fitted kernel machine with squared loss.

    Attributes
    ----------
    dual : ndarray
        (N, K_c) float64: scores are ``k(x, X) · dual + bias``. Rows of weight zero have zeros.
    bias : ndarray
        (K_c,) float64.
    value : float
        The objective there.
    gap : float
        The objective is at most this share of itself above its minimum.
    stop_reason : StopReason
    passes : float
        Products with K.
    history : tuple of Record
        `gradient_norm` is the relative gap.
    """

    dual: Float64
    bias: Float64
    value: float
    gap: float
    stop_reason: StopReason
    passes: float
    history: tuple[Record, ...]


def one_hot(y: Array, n_classes: int) -> Float64:
    """Targets (N, K_c) of labels 0..K_c-1."""
    T = np.zeros((len(y), n_classes))
    T[np.arange(len(y)), y] = 1.0
    return T


def fit_kernel_ridge(
    K: FloatArray,
    T: Float64,
    *,
    l2: float,
    sample_weight: Array | None = None,
    gap: float = 1e-4,
    max_iter: int = 500,
    fit_intercept: bool = True,
    landmarks: int = LANDMARKS,
    start: KernelRidgeFit | None = None,
    seed: int = 0,
    threads: int | None = None,
    progress: Progress = SILENT,
) -> KernelRidgeFit:
    """Fit targets by a kernel machine with a coefficient for every row.

    Parameters
    ----------
    K : ndarray
        (N, N) kernel values, float32 or float64, symmetric; read only. A view of the leading rows and columns of a
        larger matrix will do.
    T : ndarray
        (N, K_c) targets.
    l2 : float
        λ > 0; scikit-learn's KernelRidge has ``alpha = λ Σ s``.
    sample_weight : ndarray, optional
        (N,) non-negative; scaling all of them changes nothing, rows of weight zero are dropped.
    gap : float
        The objective may be at most this share above its minimum.
    max_iter : int
        Most steps.
    fit_intercept : bool
        Whether there is a b; it is not penalised.
    landmarks : int
        Columns of K in the preconditioner.
    start : KernelRidgeFit, optional
        Where to begin: the fit of another λ.
    seed : int
        Of the choice of those columns; changes the path, not the minimum.
    threads : int, optional
        As many as there are cores when None; changes no bit.
    progress : Progress
        Told how far the gap has come, in powers of ten, on its way to the one asked for.

    Returns
    -------
    KernelRidgeFit
        Ctrl-C returns the best so far, with `StopReason.INTERRUPTED`.

    Raises
    ------
    InputError
        For λ that is not positive, shapes and weights that do not fit, and a matrix that is not positive semidefinite.
    """
    weights = _checked(K, T, l2, sample_weight)
    system = _System(K, T, weights, l2, fit_intercept, threads or available_threads())
    with single_blas_thread(), progress.task("kernel ridge", 1.0) as task:
        inverse = _Inverse.of(system, landmarks, np.random.default_rng(seed))
        return _conjugate_gradients(system, inverse, gap, max_iter, start, task)


def _checked(K: FloatArray, T: Float64, l2: float, sample_weight: Array | None) -> Float64:
    """Weights (N,) that sum to 1."""
    n = len(T)
    if K.shape != (n, n) or T.ndim != 2 or not n:
        raise InputError(f"kernel values {K.shape} and targets {T.shape} do not fit; (N, N) and (N, K) are needed")
    if not (np.isfinite(l2) and l2 > 0):
        raise InputError(f"l2 is {l2!r}; a finite number greater than 0 is needed", "Give a finite C")
    weights = np.ones(n) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    if weights.shape != (n,) or not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise InputError(f"sample_weight must be {n} finite numbers of at least 0, not all of them 0")
    return np.asarray(weights / weights.sum())


class _System:
    """``(K + M) A + 1 bᵀ = T`` on the rows of positive weight."""

    def __init__(self, K: FloatArray, T: Float64, w: Float64, l2: float, bias: bool, threads: int) -> None:
        self.K, self.T, self.w, self.l2, self.bias, self.threads = K, T, w, l2, bias, threads
        self.present = w > 0
        self.M = np.where(self.present, l2 / np.where(self.present, w, 1.0), 0.0)[:, None]
        self.passes = 0

    def times(self, V: Float64) -> Float64:
        """``K V``, rows absent being zero in V; products of the type of K, the result float64."""
        narrow = np.ascontiguousarray(V, dtype=self.K.dtype)
        out = np.empty(V.shape)

        def block(low: int) -> None:
            out[low : low + ROWS] = self.K[low : low + ROWS] @ narrow

        parallel(block, range(0, len(V), ROWS), self.threads)
        self.passes += 1
        return out

    def applied(self, V: Float64, KV: Float64) -> Float64:
        """``(K + M) V`` where present, zero elsewhere."""
        return np.asarray((KV + self.M * V) * self.present[:, None])

    def best_bias(self, KA: Float64) -> Float64:
        """The b of least objective for these ``K A``: the mean of what is left."""
        return np.asarray(self.w @ (self.T - KA)) if self.bias else np.zeros(self.T.shape[1])

    def value(self, A: Float64, KA: Float64, b: Float64) -> float:
        """The objective."""
        missed = KA + b - self.T
        return float(0.5 * (self.w @ np.square(missed)).sum() + 0.5 * self.l2 * np.vdot(A, KA))

    def above(self, A: Float64, KA: Float64, b: Float64) -> float:
        """How far at most the objective is above its minimum; one product."""
        R = self.l2 * A + self.w[:, None] * (KA + b - self.T)
        return max(float(np.vdot(R, self.times(R))), 0.0) / (2.0 * self.l2)


@dataclass(frozen=True, eq=False)
class _Inverse:
    """``(Φ Φᵀ + M)⁻¹`` on the rows of positive weight."""

    scaled: FloatArray
    factor: tuple[Float64, bool]
    M: Float64
    present: Float64
    bordered: Float64 | None = None

    @classmethod
    def of(cls, system: _System, landmarks: int, rng: np.random.Generator) -> _Inverse:
        """From columns of K drawn among the rows of positive weight."""
        rows = np.flatnonzero(system.present)
        drawn = np.sort(rng.choice(rows, min(landmarks, len(rows)), replace=False))
        among = system.K[np.ix_(drawn, drawn)].astype(np.float64)
        values, vectors = np.linalg.eigh((among + among.T) / 2)
        small = 4 * len(drawn) * np.finfo(system.K.dtype).eps * max(values[-1], 0.0)
        if values[-1] <= 0 or values[0] < -max(small, 1e-6 * values[-1]):
            raise InputError(
                f"the kernel values are not positive semidefinite: among {len(drawn)} rows they have the eigenvalue "
                f"{values[0]:.3g} beside {values[-1]:.3g}",
                "Only scalar products have a single optimum; try kernel='rbf'",
            )
        kept = values > small
        right = (vectors[:, kept] / np.sqrt(values[kept])).astype(system.K.dtype)
        present = system.present[:, None].astype(np.float64)
        M = np.where(system.present[:, None], system.M, 1.0)
        Phi = np.empty((len(system.K), right.shape[1]), system.K.dtype)
        root = (present / np.sqrt(M)).astype(system.K.dtype)

        def block(low: int) -> Float64:
            part = slice(low, low + 4 * ROWS)
            Phi[part] = (system.K[part][:, drawn] @ right) * root[part]
            return np.asarray(Phi[part].T @ Phi[part], dtype=np.float64)

        # pairs of blocks at a time: all of their products would take N/2048 times r² numbers
        H = np.eye(right.shape[1])
        starts = range(0, len(system.K), 4 * ROWS)
        for first in range(0, len(starts), system.threads):
            for product in parallel(block, starts[first : first + system.threads], system.threads):
                H += product
        made = cls(Phi, cho_factor(H, lower=True), M, present)
        return replace(made, bordered=made._plain(present)) if system.bias else made

    def apply(self, R: Float64) -> Float64:
        """Of residuals (N, K_c), whose share along ``1 bᵀ``, which the bias takes, is removed from R itself.

        Left in R it would drown the rest in rounding as that gets smaller.
        """
        out = self._plain(R)
        if self.bordered is not None:
            share = out.sum(axis=0) / self.bordered.sum()
            out -= self.bordered * share
            R -= self.present * share
        return out

    def _plain(self, R: Float64) -> Float64:
        scaled = R * self.present / np.sqrt(self.M)
        inner = self.scaled.T @ scaled.astype(self.scaled.dtype)
        outer = self.scaled @ cho_solve(self.factor, inner.astype(np.float64)).astype(self.scaled.dtype)
        return np.asarray((scaled - outer) * self.present / np.sqrt(self.M))


class _Way:
    """The share of the way from one gap to another that is made, on a scale of powers of ten."""

    def __init__(self, task: Task, begin: float, end: float) -> None:
        self.task, self.begin, self.done = task, begin, 0.0
        self.length = np.log(max(begin, 1e-300) / max(end, 1e-300))

    def moved_to(self, gap: float) -> None:
        """Tell the progress of it."""
        share = np.log(self.begin / max(gap, 1e-300)) / self.length if self.length > 0 and self.begin > 0 else 1.0
        further = max(0.0, min(float(share), 1.0) - self.done)
        self.done += further
        self.task.advance(further, f"gap {gap:.1e}")


def _conjugate_gradients(
    system: _System, inverse: _Inverse, gap: float, max_iter: int, start: KernelRidgeFit | None, task: Task
) -> KernelRidgeFit:
    clock, history = time.perf_counter(), list[Record]()
    A = np.zeros(system.T.shape) if start is None else start.dual * system.present[:, None]
    KA = system.times(A) if start is not None else np.zeros(system.T.shape)
    reason, best = StopReason.MAX_ITER, None

    def look(step: int) -> KernelRidgeFit:
        """The fit as it stands, with its bound."""
        b = system.best_bias(KA)
        value = system.value(A, KA, b)
        share = system.above(A, KA, b) / value if value > 0 else 0.0
        history.append(Record(step, value, share, 1.0, float(system.passes), time.perf_counter() - clock))
        return KernelRidgeFit(A.copy(), b, value, share, StopReason.MAX_ITER, float(system.passes), tuple(history))

    try:
        best = look(0)
        way = _Way(task, best.gap, gap)
        r = (system.T - KA) * system.present[:, None] - system.M * A
        z = inverse.apply(r)
        p, rz = z, np.einsum("ij,ij->j", r, z)
        best_step, smallest, least = 0, best.gap, np.finfo(system.K.dtype).eps ** 2 * rz
        for step in range(1, max_iter + 1):
            if best.gap <= gap:
                break
            Kp = system.times(p)
            q = system.applied(p, Kp)
            curvature = np.einsum("ij,ij->j", p, q)
            alpha = np.divide(rz, curvature, out=np.zeros_like(rz), where=(curvature > 0) & (rz > least))
            A, KA, r = A + alpha * p, KA + alpha * Kp, r - alpha * q
            z = inverse.apply(r)
            before, rz = rz, np.einsum("ij,ij->j", r, z)
            p = z + np.divide(rz, before, out=np.zeros_like(rz), where=before > 0) * p
            if step % CHECKED == 0 or step == max_iter:
                found = look(step)
                way.moved_to(found.gap)
                if found.gap < smallest or found.value < best.value:
                    smallest, best_step = min(found.gap, smallest), step
                    best = found if found.value < best.value or found.gap <= gap else best
                elif step - best_step >= PATIENCE:
                    reason = StopReason.PRECISION
                    break
    except KeyboardInterrupt:
        if best is None:
            raise
        reason = StopReason.INTERRUPTED
    if best.gap <= gap:
        reason = StopReason.CONVERGED
    return replace(best, stop_reason=reason, passes=float(system.passes), history=tuple(history))
