"""Rows, labels and weights as the objective uses them: checked once, centred through the bias or block by block."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np

from lastlayer._arrays import Array, Float64, FloatArray, InputError, check_matrix
from lastlayer._threads import available_threads
from lastlayer.linear.device import DeviceRows, check_tensor, is_tensor, on_host, refuse_not_finite
from lastlayer.linear.rows import Rows

MOMENT_ROWS = 8_192
"""Rows that are enough for a preconditioner, measured on MNIST and CIFAR-10 pixels."""
FLOAT64_UP_TO = 2**20
"""Numbers in Z up to which products are made in float64 whatever its type: the time is nothing, the answer exact."""

LARGEST = 1e60
"""Columns wider than this, or narrower than its inverse, are refused: their squares leave the range of float64."""


@final
@dataclass(frozen=True, eq=False)
class Examples:
    """Rows, labels and weights as the objective uses them: checked, and ready to be centred.

    Attributes
    ----------
    rows : Rows
        The rows of non-zero weight.
    y : ndarray
        (N,) labels 0..K-1, or (N, K) real targets.
    weights : ndarray or None
        (N,) weights with mean 1, of the products' type; None when all are equal.
    centre : ndarray
        (D,) what is subtracted from each column of `rows`: through the bias, not by a copy.
    half_range : ndarray
        (D,) of the columns as given.
    live : ndarray
        (D,) False for constant columns; their weights stay zero.
    n_outputs : int
        K.
    intercept : bool
        Whether there is a bias; without one nothing is centred.
    """

    rows: Rows
    y: Array
    weights: FloatArray | None
    centre: Float64
    half_range: Float64
    live: Array
    n_outputs: int
    intercept: bool = True

    def shares(self) -> Float64:
        """Share of the weight that each class has, (K,); the mean target for real targets."""
        if self.y.ndim == 2:
            w = np.ones(len(self.y)) if self.weights is None else self.weights.astype(np.float64)
            return np.asarray(w @ self.y / len(self.y))
        counts = np.bincount(self.y, self.weights, minlength=self.n_outputs)
        return np.asarray(counts / len(self.y), dtype=np.float64)

    def scale(self) -> Float64:
        """(D,) by which columns were multiplied."""
        return np.ones(self.rows.n_features) if self.rows.scale is None else self.rows.scale

    def to_inside(self, W: Float64, b: Float64) -> Float64:
        """Parameters (D + 1, K) of the centred, scaled columns; weights of constant columns move into the bias."""
        W = np.asarray(W, dtype=np.float64)
        inside = W / self.scale()[:, None]
        bias = b + self._moved(W, inside)
        if not self.live.all():
            constants = self.rows.pick(np.zeros(1, np.intp))[0, ~self.live].astype(np.float64)
            bias = bias + constants @ inside[~self.live]
            inside[~self.live] = 0.0
        return np.vstack([inside, bias])

    def to_outside(self, params: Float64) -> tuple[Float64, Float64]:
        """W (D, K) and b (K,) for the columns as given."""
        W = params[:-1] * self.scale()[:, None]
        return W, (params[-1] - self._moved(W, params[:-1])).astype(np.float64)

    def _moved(self, W: Float64, inside: Float64) -> Array:
        """What the bias takes over, ``shift W + centre W̃``, in extended precision where there is one."""
        wide = np.longdouble
        shift = 0.0 if self.rows.shift is None else self.rows.shift.astype(wide) @ W.astype(wide)
        return np.asarray(shift + self.centre.astype(wide) @ inside.astype(wide))

    def second_moments(self, n_rows: int | None = MOMENT_ROWS) -> FloatArray:
        """Centred, weighted second moments S (D, D) of at least `n_rows` rows (all when None)."""
        every = 1 if n_rows is None else max(1, len(self.rows) // n_rows)
        S, sums, total = self.rows.second_moments(self.weights, every)
        S /= total
        if self.intercept:
            mean = sums / total
            for j in range(len(S)):
                S[j] -= mean[j] * mean
        S[~self.live] = 0.0
        S[:, ~self.live] = 0.0
        return S


def prepare(
    Z: Array,
    y: Array,
    n_classes: int,
    sample_weight: Array | None = None,
    threads: int | None = None,
    intercept: bool = True,
) -> Examples:
    """Check rows, labels and weights, drop rows of weight zero, and decide how columns are centred.

    Raises
    ------
    InputError
        For NaN or infinite features (row and column named), labels outside 0..K-1, weights that are negative, not
        finite, all zero or of the wrong length, and columns of extreme range.
    """
    _check_shape_and_type(Z)
    y = _check_labels(on_host(y), len(Z), n_classes)
    keep, weights = _check_weights(on_host(sample_weight), len(Z))
    small = (len(Z) if keep is None else len(keep)) * Z.shape[1] <= FLOAT64_UP_TO
    rows = _rows(Z, keep, threads or available_threads(), small)
    if keep is not None:
        y = y[keep]
    low, high = rows.ranges()
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        used = Z if keep is None else Z[keep]
        refuse_not_finite(used, "features") if is_tensor(Z) else check_matrix(used, "features")
    if not intercept:
        high = np.maximum(np.abs(low), np.abs(high))
        low = -high
    rows, centre = _centre(rows, weights, low, high, intercept)
    weights = None if weights is None else weights.astype(rows.dtype)
    half_range = high / 2 - low / 2
    return Examples(
        rows, y, weights, centre, half_range, half_range > 0, y.shape[1] if y.ndim == 2 else n_classes, intercept
    )


def _check_shape_and_type(Z: Any) -> None:
    if is_tensor(Z):
        check_tensor(Z, "features")
    elif Z.ndim != 2 or Z.size == 0 or Z.dtype.kind not in "fiub":
        check_matrix(Z, "features")


def _rows(Z: Any, keep: Any, threads: int, in_float64: bool) -> Any:
    """`Rows`, or for a tensor its twin `DeviceRows`."""
    if is_tensor(Z):
        return DeviceRows(Z.detach(), keep, threads=threads, in_float64=in_float64)
    return Rows(Z, keep, threads=threads, in_float64=in_float64)


def _check_labels(y: Array, n: int, n_classes: int) -> Array:
    y = np.asarray(y)
    if len(y) != n:
        raise InputError(f"{n} rows of features but {len(y)} labels", "Give one label a row")
    if y.ndim == 2:
        return check_matrix(np.ascontiguousarray(y, dtype=np.float64), "targets")
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise InputError(f"labels have shape {y.shape} and type {y.dtype}; (N,) integers are needed")
    if n_classes < 2:
        raise InputError(f"{n_classes} class; at least two are needed", "Add examples of another class")
    wrong = np.flatnonzero((y < 0) | (y >= n_classes))
    if len(wrong):
        raise InputError(f"label {y[wrong[0]]} in row {wrong[0]} is outside 0..{n_classes - 1}")
    return y.astype(np.intp)


def _check_weights(weights: Array | None, n: int) -> tuple[Any, Float64 | None]:
    """Rows of non-zero weight (None: all) and their weights scaled to mean 1 (None: all equal)."""
    if weights is None:
        return None, None
    s = np.asarray(weights, dtype=np.float64)
    if s.shape != (n,):
        raise InputError(f"sample weights have shape {s.shape}; ({n},) is needed")
    if not np.isfinite(s).all():
        row = int(np.flatnonzero(~np.isfinite(s))[0])
        raise InputError(f"sample weight {s[row]} in row {row}", "Weights are finite numbers", "LL030")
    if (s < 0).any():
        row = int(np.flatnonzero(s < 0)[0])
        raise InputError(f"sample weight {s[row]} in row {row} is negative", "Weights are at least 0")
    if not s.any():
        raise InputError("all sample weights are zero", "Give at least one row a positive weight")
    keep = None if s.all() else np.flatnonzero(s)
    s = s / s.max()
    s = s if keep is None else s[keep]
    return keep, (None if (s == s[0]).all() else s * (len(s) / s.sum()))


def _centre(rows: Rows, weights: Float64 | None, low: Float64, high: Float64, intercept: bool) -> tuple[Rows, Float64]:
    """Through the bias where that loses no digits, else by shifting and scaling blocks when they are used.

    Returns the rows to use and what is to be subtracted through the bias.
    """
    half_range = high / 2 - low / 2
    live = half_range > 0
    _refuse_extreme(low, high, live & ((half_range > LARGEST) | (half_range < 1 / LARGEST)))
    middle = low + half_range
    far = live & (np.abs(middle) > (32.0 if rows.dtype == np.float32 else 1e4) * half_range)
    extreme = live & ((half_range > 2.0**20) | (half_range < 2.0**-20))
    if far.any() or extreme.any():
        # In the type of Z, so that subtracting is exact where the digits are scarce.
        exact = rows.stored if rows.stored.kind == "f" else rows.dtype
        shift = np.where(live, middle, low).astype(exact).astype(np.float64) if intercept else 0.0 * middle
        scale = np.exp2(-np.rint(np.log2(np.where(live, half_range, 1.0)))) if extreme.any() else None
        rows = replace(rows, shift=shift, scale=scale)
    if not intercept:
        return rows, np.zeros(rows.n_features)
    centre = rows.column_sums(None if weights is None else weights.astype(rows.dtype)) / len(rows)
    return rows, np.where(live, centre, 0.0)


def _refuse_extreme(low: Float64, high: Float64, extreme: Array) -> None:
    if extreme.any():
        j = int(np.flatnonzero(extreme)[0])
        raise InputError(
            f"column {j} of the features runs from {low[j]:.3g} to {high[j]:.3g}, beyond what can be squared",
            "Scale that column",
        )
