"""The Nyström map: finitely many features whose scalar products are nearly a kernel's values.

With landmarks z₁ … zₘ, ``K_mm = U diag(s) Uᵀ`` their kernel values and ``k(x) = (k(x, z₁), …, k(x, zₘ))``::

    φ(x) = diag(s)^(-½) Uᵀ k(x),        φ(x)·φ(x') = k(x)ᵀ K_mm⁻¹ k(x')

(Williams & Seeger 2001, "Using the Nyström method to speed up kernel machines", NIPS 13). It is the projection of the
kernel's own features onto the span of the landmarks'; where every row is a landmark it is exact for them. Directions
whose eigenvalue is rounding (landmarks given twice, or nearly) are left out.

Shapes
------
X : (N, D) rows, landmarks : (m, D), projection P = U diag(s)^(-½) : (m, r) with r ≤ m, features : (N, r).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, final

import numpy as np

from lastlayer._arrays import Array, Float64, FloatArray, InputError
from lastlayer.representations._checks import check_choice, check_whole
from lastlayer.representations._threads import spread
from lastlayer.representations.kernels import Against, CustomKernel, Kernel, refuse_infinite
from lastlayer.representations.landmarks import CHOICES, choose_landmarks

BLOCK_ROWS = 256
"""Rows of every block: a block of kernel values stays in the cache for a thousand landmarks."""
INDEFINITE = 1e-6
"""Share of the largest eigenvalue that a negative one may have before a kernel counts as indefinite."""

Precision = Literal["float32", "float64"]


@final
@dataclass(frozen=True, eq=False)
class NystromMap:
    """Nyström features of a kernel, a map from features (N, D) to features (N, r).

    Parameters
    ----------
    kernel : Kernel
    n_landmarks : int
        m; fewer rows are all landmarks, and the map is exact.
    choice : {"kmeans", "uniform"}
        How landmarks are chosen, see `choose_landmarks`.
    precision : {"float64", "float32"}
        Type of the products and of the features; landmarks and projection are float64.
    landmarks, projection : ndarray, optional
        (m, D) and (m, r); None before `fit`.
    """

    kernel: Kernel
    n_landmarks: int = 1000
    choice: str = "kmeans"
    precision: Precision = "float64"
    landmarks: Float64 | None = None
    projection: Float64 | None = None

    def __post_init__(self) -> None:
        check_whole("Nyström map", "n_landmarks", self.n_landmarks, 1, 2**31 - 1)
        check_choice("Nyström map", "choice", self.choice, CHOICES)
        check_choice("Nyström map", "precision", self.precision, ("float32", "float64"))
        if self.landmarks is None and self.projection is None:
            return
        if self.landmarks is None or self.projection is None or len(self.landmarks) != len(self.projection):
            raise InputError("Nyström map: landmarks (m, D) and projection (m, r) belong together")
        for name in ("landmarks", "projection"):
            array = np.array(getattr(self, name), dtype=np.float64, order="C")
            if array.ndim != 2 or not np.isfinite(array).all():
                raise InputError(f"Nyström map: {name} is no finite matrix")
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    def fit(
        self, X: Array, rng: np.random.Generator, weights: Float64 | None = None, threads: int | None = None
    ) -> NystromMap:
        """Choose landmarks from training rows X (N, D) and decompose their kernel values; returns a fitted copy.

        An eigenvalue is kept above ``m ε s₁``, with s₁ the largest and ε the rounding of float64; for features of
        float32 also above ``4 √m ε₃₂ maxᵢ k(zᵢ, zᵢ)``, below which the rounding of k(x) is larger than the feature.

        Parameters
        ----------
        X : (N, D) finite real numbers
        rng : numpy.random.Generator
        weights : (N,) or None
            Rows of weight zero are absent.
        threads : int, optional
            As many as there are cores when None. With one BLAS thread (`linear.single_blas_thread`) it changes no bit.

        Raises
        ------
        InputError
            For kernel values that are not finite, and for a function that is no positive semidefinite kernel.
        """
        # Rounded as the products will see them, so that K_mm belongs to the same points.
        landmarks = choose_landmarks(X, self.n_landmarks, self.choice, rng, weights, threads).astype(self.precision)
        landmarks = landmarks.astype(np.float64)
        return replace(self, landmarks=landmarks, projection=self._project(self._among(landmarks, threads)))

    def transform(self, X: Array, threads: int | None = None) -> FloatArray:
        """Features (N, r) of the type `precision`, block by block; a new array.

        Raises
        ------
        InputError
            Before `fit`, for rows of another number of columns, and for kernel values that are not finite.
        """
        return self._times(X, self._fitted()[1], np.dtype(self.precision), threads)

    def shares(self, W: FloatArray) -> Float64:
        """``A = P W`` (m, K), with ``φ(x) W = k(x) A``: what each landmark counts in scores of weights W (r, K)."""
        return np.ascontiguousarray(self._fitted()[1] @ W.astype(np.float64))

    def scores(self, X: Array, A: Float64, b: FloatArray, threads: int | None = None) -> Float64:
        """``k(X) A + b`` (N, K) in float64 for `shares` A (m, K) and bias b (K,).

        The features are not computed. A row's scores do not depend on the rows it comes with.
        """
        return np.asarray(self._times(X, A, np.dtype(np.float64), threads) + b)

    @property
    def n_features(self) -> int:
        """The rank r. Raises InputError before `fit`."""
        return int(self._fitted()[1].shape[1])

    def parameters(self) -> dict[str, Any]:
        """Return what the constructor takes, as JSON values; the kernel by name with its parameters."""
        own = {"n_landmarks": self.n_landmarks, "choice": self.choice, "precision": self.precision}
        return {**self.kernel.parameters(), **own}

    def arrays(self) -> dict[str, Array]:
        """Landmarks and projection by name."""
        landmarks, projection = self._fitted()
        return {"landmarks": landmarks, "projection": projection}

    def _fitted(self) -> tuple[Float64, Float64]:
        if self.landmarks is None or self.projection is None:
            raise InputError("The Nyström map is not fitted", "Call fit(X, rng) first and use what it returns")
        return self.landmarks, self.projection

    def _among(self, landmarks: Float64, threads: int | None) -> Float64:
        """``K_mm``, symmetric to the last bit."""
        values = self.kernel.against(landmarks)
        K = np.empty((len(landmarks), len(landmarks)))
        _fill(K, landmarks, values, None, np.dtype(np.float64), threads)
        refuse_infinite(K, self.kernel)
        if isinstance(self.kernel, CustomKernel) and np.abs(K - K.T).max() > 1e-8 * np.abs(K).max():
            raise InputError("the kernel function is not symmetric: k(a, b) is not k(b, a)", "Return (K + K.T) / 2")
        return np.asarray((K + K.T) / 2)

    def _project(self, K: Float64) -> Float64:
        """``U diag(s)^(-½)`` over the eigenvalues kept, largest first; one column of zeros when none is."""
        values, vectors = np.linalg.eigh(K)
        values, vectors = values[::-1], vectors[:, ::-1]
        if values[-1] < -INDEFINITE * np.abs(values).max():
            raise InputError(
                f"the kernel function is not positive semidefinite: its values among the landmarks have the eigenvalue "
                f"{values[-1]:.3g} beside {values[0]:.3g}",
                "Only scalar products have a single optimum; try kernel='rbf'",
            )
        least = len(K) * np.finfo(np.float64).eps * values[0]
        if self.precision == "float32":
            least = max(least, 4 * np.sqrt(len(K)) * np.finfo(np.float32).eps * float(K.diagonal().max()))
        kept = int((values > least).sum())
        if kept == 0:
            return np.zeros((len(K), 1))
        return np.asarray(vectors[:, :kept] / np.sqrt(values[:kept]))

    def _times(self, X: Array, right: Float64, dtype: np.dtype[Any], threads: int | None) -> FloatArray:
        """``k(X) right`` with products of a type."""
        landmarks = self._fitted()[0]
        if X.ndim != 2 or X.shape[1] != landmarks.shape[1]:
            raise InputError(f"X has shape {X.shape}; (N, {landmarks.shape[1]}) is needed")
        out = np.empty((len(X), right.shape[1]), dtype=dtype)
        values = self.kernel.against(np.ascontiguousarray(landmarks, dtype=dtype))
        _fill(out, X, values, np.ascontiguousarray(right, dtype=dtype), dtype, threads)
        refuse_infinite(out, self.kernel)
        return out


def _fill(
    out: FloatArray, X: Array, values: Against, right: FloatArray | None, dtype: np.dtype[Any], threads: int | None
) -> None:
    """Write ``values(X) right`` in blocks of the same number of rows, the last one filled up with its last row.

    In float64 a row's result then does not depend on the rows beside it.
    """

    def block(start: int) -> None:
        rows = X[start : start + BLOCK_ROWS]
        full = np.empty((BLOCK_ROWS, X.shape[1]), dtype=dtype)
        full[: len(rows)], full[len(rows) :] = rows, rows[-1]
        with np.errstate(over="ignore", invalid="ignore"):
            K = values(full)
            out[start : start + len(rows)] = (K if right is None else K @ right)[: len(rows)]

    spread(block, range(0, len(X), BLOCK_ROWS), threads)
