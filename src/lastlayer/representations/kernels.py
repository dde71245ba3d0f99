"""Kernels k(x, z) = φ(x)·φ(z): how alike two rows of features are, in a space that is never written down.

    linear      x·z
    polynomial  (γ x·z + c)^d,  c ≥ 0, d a whole number
    rbf         exp(-γ ‖x - z‖²)
    laplacian   exp(-γ ‖x - z‖₁)

All of them are positive semidefinite: every matrix of their values is one of scalar products, so that a linear
classifier on φ has one optimum (Schölkopf & Smola 2002, "Learning with Kernels", chapter 2). tanh(γ x·z + c) is not,
and is refused.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, final

import numpy as np

from lastlayer._arrays import Array, Float64, FloatArray, InputError

Against = Callable[[FloatArray], FloatArray]
"""Rows (n, D) to their kernel values (n, m) with m fixed rows."""
KernelFunction = Callable[[Array, Array], Array]

TOLERATED = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-9}
"""Error of a value of the Gaussian, which is at most 1, that is left as it is, for each type of product."""
COMPILED_FROM = 2**16
"""Numbers in the fixed rows from which a compiled loop is worth loading; it is 3 to 6 times as fast."""
PAIRS = 2**20
"""Numbers held at a time where distances are computed pair by pair."""


class Kernel(ABC):
    """A positive semidefinite kernel: a frozen dataclass of its parameters."""

    name: ClassVar[str]

    @abstractmethod
    def against(self, Z: FloatArray) -> Against:
        """Prepare what depends on the rows Z (m, D) alone; the answer maps X (n, D) to values (n, m) of the type of Z.

        A value depends on its two rows alone; values too large for the type come out as infinite.
        """

    def parameters(self) -> dict[str, Any]:
        """Name and parameters, as JSON values."""
        return {"kernel": self.name, **asdict(self)}  # type: ignore[call-overload]


@final
@dataclass(frozen=True)
class LinearKernel(Kernel):
    """``x·z``."""

    name: ClassVar[str] = "linear"

    def against(self, Z: FloatArray) -> Against:
        """See `Kernel`."""
        right = Z.T
        return lambda X: np.asarray(X @ right)


@final
@dataclass(frozen=True)
class Polynomial(Kernel):
    """``(γ x·z + c)^d``.

    Parameters
    ----------
    gamma : float
        γ > 0.
    degree : int
        d ≥ 1.
    coef0 : float
        c ≥ 0: below, the kernel is not positive semidefinite.
    """

    gamma: float
    degree: int = 3
    coef0: float = 0.0

    name: ClassVar[str] = "poly"

    def __post_init__(self) -> None:
        _check_gamma(self.gamma)
        if isinstance(self.degree, bool) or not isinstance(self.degree, int | np.integer) or self.degree < 1:
            raise InputError(f"degree is {self.degree!r}; a whole number of at least 1 is needed")
        if not (np.isfinite(self.coef0) and self.coef0 >= 0):
            raise InputError(
                f"coef0 is {self.coef0!r}; a finite number of at least 0 is needed",
                "With a negative one the polynomial is not positive semidefinite",
            )

    def against(self, Z: FloatArray) -> Against:
        """See `Kernel`."""
        right = Z.T

        def values(X: FloatArray) -> FloatArray:
            with np.errstate(over="ignore", invalid="ignore"):
                base = X @ right
                base *= base.dtype.type(self.gamma)
                base += base.dtype.type(self.coef0)
                power = base.copy()
                for bit in f"{self.degree:b}"[1:]:  # square and multiply: np.power takes ten times as long
                    power *= power
                    if bit == "1":
                        power *= base
            return np.asarray(power)

        return values


@final
@dataclass(frozen=True)
class RBF(Kernel):
    """``exp(-γ ‖x - z‖²)``.

    The distance is made of products, ``‖x‖² + ‖z‖² - 2 x·z``, after subtracting the mean of the fixed rows. Where these
    cancel so far that the kernel value would be wrong by more than `TOLERATED` (tight groups of rows far from each
    other), it is summed over the differences in float64.

    Parameters
    ----------
    gamma : float
        γ > 0.
    """

    gamma: float

    name: ClassVar[str] = "rbf"

    def __post_init__(self) -> None:
        _check_gamma(self.gamma)

    def against(self, Z: FloatArray) -> Against:
        """See `Kernel`."""
        centre = Z.mean(axis=0, dtype=np.float64).astype(Z.dtype)
        fixed = Z - centre
        right = np.ascontiguousarray(fixed.T)
        size = _squares(fixed)
        slack, limit = 8.0 * float(np.finfo(Z.dtype).eps) * self.gamma, TOLERATED[Z.dtype]

        def values(X: FloatArray) -> FloatArray:
            moved = X - centre
            own = _squares(moved)
            K = moved @ right
            K *= -2
            K += own[:, None].astype(K.dtype)
            K += size.astype(K.dtype)
            np.maximum(K, 0, out=K)
            if slack * (own.max() + size.max()) > limit:
                both = slack * (own[:, None] + size)
                # of the value, exp(-γK), the error is `both` times as much: rows far from all others are left alone
                _sum_differences(K, moved, fixed, both * np.exp(np.minimum(both - self.gamma * K, 0.0)) > limit)
            K *= -K.dtype.type(self.gamma)
            return np.asarray(np.exp(K, out=K))

        return values


@final
@dataclass(frozen=True)
class Laplacian(Kernel):
    """``exp(-γ ‖x - z‖₁)``, the distance summed over the columns' differences.

    Parameters
    ----------
    gamma : float
        γ > 0.
    """

    gamma: float

    name: ClassVar[str] = "laplacian"

    def __post_init__(self) -> None:
        _check_gamma(self.gamma)

    def against(self, Z: FloatArray) -> Against:
        """See `Kernel`."""

        def values(X: FloatArray) -> FloatArray:
            K = _city_block(np.ascontiguousarray(X), Z)
            K *= -K.dtype.type(self.gamma)
            return np.asarray(np.exp(K, out=K))

        return values


@final
@dataclass(frozen=True)
class CustomKernel(Kernel):
    """A function of two matrices, ``(n, D), (m, D) -> (n, m)``, which its author holds to be positive semidefinite.

    Parameters
    ----------
    function : callable
        Called with blocks of rows, from several threads at a time.
    """

    function: KernelFunction

    name: ClassVar[str] = "custom"

    def against(self, Z: FloatArray) -> Against:
        """See `Kernel`."""
        Z = Z.copy()  # functions written in Cython often ask for memory they may write to

        def values(X: FloatArray) -> FloatArray:
            K = np.asarray(self.function(X, Z))
            if K.shape != (len(X), len(Z)) or K.dtype.kind not in "fiub":
                raise InputError(
                    f"the kernel function gave {K.dtype} of shape {K.shape} for {len(X)} and {len(Z)} rows",
                    f"It must return real numbers of shape {(len(X), len(Z))}",
                )
            return K.astype(Z.dtype)

        return values

    def parameters(self) -> dict[str, Any]:
        """Refused: a function is no JSON value."""
        raise InputError("a kernel function cannot be saved", "Use one of the named kernels: " + ", ".join(KERNELS))


KERNELS = ("linear", "poly", "rbf", "laplacian")
"""Names that `kernel_named` knows."""


def kernel_named(name: str, gamma: float = 1.0, degree: int = 3, coef0: float = 0.0) -> Kernel:
    """The kernel of that name; parameters it has no use for are not looked at.

    Raises
    ------
    InputError
        For names that do not exist, and for "sigmoid" and "precomputed" with what to use instead.

    >>> kernel_named("rbf", 0.5)
    RBF(gamma=0.5)
    """
    if name == "linear":
        return LinearKernel()
    if name == "poly":
        return Polynomial(gamma, degree, coef0)
    if name == "rbf":
        return RBF(gamma)
    if name == "laplacian":
        return Laplacian(gamma)
    if name == "sigmoid":
        raise InputError(
            "kernel 'sigmoid' is not positive semidefinite: it is no scalar product, and there is no single optimum",
            "Use kernel='rbf', or scikit-learn's SVC(kernel='sigmoid'), which stops at a stationary point",
        )
    if name == "precomputed":
        raise InputError(
            "kernel 'precomputed' has no rows to take landmarks from",
            "Give the features and the kernel as a function, or use scikit-learn's SVC(kernel='precomputed')",
        )
    raise InputError(f"No kernel is called {name!r}", f"There are {', '.join(KERNELS)}, or a function of two matrices")


def refuse_infinite(values: FloatArray, kernel: Kernel) -> None:
    """Refuse kernel values that are not finite."""
    if not np.isfinite(values).all():
        raise InputError(
            f"kernel {kernel.name} has values beyond {values.dtype} for these rows",
            "Scale the features, or lower gamma and degree",
        )


def _check_gamma(gamma: float) -> None:
    if not (np.isfinite(gamma) and gamma > 0):
        raise InputError(f"gamma is {gamma!r}; a finite number greater than 0 is needed")


def _squares(A: FloatArray) -> Float64:
    """``‖a‖²`` of every row, summed in float64."""
    wide = A.astype(np.float64, copy=False)
    return np.asarray(np.einsum("ij,ij->i", wide, wide))


def _city_block(X: FloatArray, Z: FloatArray) -> FloatArray:
    """``‖x - z‖₁`` (n, m), of the type of Z."""
    if Z.size >= COMPILED_FROM:
        from lastlayer.representations._city_block import city_block

        return city_block(X, Z)
    from scipy.spatial.distance import cdist

    return np.asarray(cdist(X, Z, "cityblock"), dtype=Z.dtype)


def _sum_differences(K: FloatArray, X: FloatArray, Z: FloatArray, wanted: Array) -> None:
    """Write ``Σ (x - z)²``, summed in float64, where wanted."""
    i, j = np.nonzero(wanted)
    step = max(1, PAIRS // X.shape[1])
    for start in range(0, len(i), step):
        part = slice(start, start + step)
        K[i[part], j[part]] = _squares(X[i[part]].astype(np.float64) - Z[j[part]])
