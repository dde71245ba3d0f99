"""The objective as a `Problem` for the solvers.

Inside, columns are centred and, where their ranges are extreme, scaled by powers of two. Neither changes the answer:
the shift moves into the bias, the scale into the penalty (`penalties.L2`), both exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import numpy as np

from lastlayer._arrays import Array, Float64, FloatArray, InputError, IntArray, aligned_empty
from lastlayer._threads import parallel
from lastlayer.linear.device import is_tensor
from lastlayer.linear.examples import Examples, prepare
from lastlayer.losses.base import Loss
from lastlayer.objective.point import ObjectivePoint
from lastlayer.objective.terms import N_SUMS, Terms, choose_terms, refuse_off_host
from lastlayer.penalties import L2
from lastlayer.solvers.base import (
    CURVATURE_BOUND,
    GRADIENT,
    HESSIAN,
    MISTAKES,
    QUADRATIC,
    ROWS,
    SAMPLES,
    SMOOTH,
    RowProblem,
)


@final
@dataclass
class _Counter:
    """Passes over the data."""

    passes: float = 0.0


@final
@dataclass
class _Shared:
    """What objectives of the same rows and different λ share: the count of passes, and what is computed once."""

    counter: _Counter
    yardstick: float | None = None
    moment: float | None = None
    terms: tuple[Loss, Terms] | None = None


def _largest_eigenvalue(S: FloatArray) -> float:
    """By power iteration from a fixed vector, with a margin of 0.1%."""
    v = 1.0 + np.arange(len(S)) / len(S)
    largest = 0.0
    for _ in range(500):
        v = S @ v
        size = float(np.linalg.norm(v))
        if size == 0.0 or abs(size - largest) <= 1e-7 * size:
            return 1.001 * size
        largest, v = size, v / size
    return 1.001 * largest


@final
class Objective(RowProblem):
    """Regularised mean loss of a linear classifier, as a `Problem` for the solvers.

    ``J(W, b) = Σᵢ sᵢ L(zᵢ W + b, yᵢ) / Σᵢ sᵢ + (λ/2) ‖W‖²``, the bias unpenalised.

    Its parameters are (D + 1, K) float64, the bias last, for centred columns; `to_outside` and `to_inside` convert.
    ``gradient_norm`` is relative to the gradient at the best constant prediction, in the units of the columns as
    given.

    Parameters
    ----------
    Z : (N, D) features. Products are made in float64 for float64 features, else in float32; sums in float64.
    y : (N,) labels 0..K-1, or (N, K) real targets for the squared loss.
    n_classes : int
        K.
    loss : Loss
    l2 : float
        λ ≥ 0.
    sample_weight : (N,) or None
    threads : int or None
        Threads in use (all cores when None); changes no bit of the result.
    intercept : bool
        Whether there is a bias; without one columns are not centred, and the last row of the parameters stays zero.
    """

    def __init__(
        self,
        Z: Array,
        y: Array,
        n_classes: int,
        loss: Loss,
        l2: float,
        sample_weight: Array | None = None,
        threads: int | None = None,
        intercept: bool = True,
    ) -> None:
        self._build(prepare(Z, y, n_classes, sample_weight, threads, intercept), loss, l2, _Shared(_Counter()))

    def _build(self, examples: Examples, loss: Loss, l2: float, shared: _Shared, share: float = 1.0) -> None:
        if not (np.isfinite(l2) and l2 >= 0):
            raise InputError(f"l2 is {l2}; a finite number of at least 0 is needed")
        if examples.y.ndim == 2 and not loss.is_quadratic:
            raise InputError(f"loss {loss.name} needs class labels", "Real targets go with the squared loss")
        if is_tensor(examples.rows.Z):
            refuse_off_host(loss)
        self.examples = examples
        self.loss = loss
        self.l2 = float(l2)
        self.penalty = L2(self.l2 * examples.scale() ** 2)
        self._shared = shared
        self._share = share

    def with_l2(self, l2: float) -> Objective:
        """The same objective with another λ; rows, statistics and the count of passes are shared."""
        other = Objective.__new__(Objective)
        other._build(self.examples, self.loss, l2, self._shared, self._share)
        return other

    def with_loss(self, loss: Loss) -> Objective:
        """The same rows and λ under another loss; the count of passes is shared."""
        other = Objective.__new__(Objective)
        other._build(
            self.examples, loss, self.l2, _Shared(self._shared.counter, moment=self._shared.moment), self._share
        )
        return other

    def with_weights(self, weights: Float64) -> Objective:
        """The same rows with other weights (N,), one for every row as given.

        Rows whose weight is now zero stay: they cost their share of a pass, but no copy, and keep their scores.
        Columns, their centre and the meaning of the parameters are the same: solutions of one are starts for the other.
        """
        rows = self.examples.rows.rows
        used = weights if rows is None else weights[rows]
        equal = bool((used == used[0]).all())
        scaled = None if equal else (used * (len(used) / used.sum())).astype(self.examples.rows.dtype)
        other = Objective.__new__(Objective)
        other._build(replace(self.examples, weights=scaled), self.loss, self.l2, _Shared(_Counter()))
        return other

    def part(self, chosen: IntArray, weights: Array) -> Objective:
        """The same objective over some rows, each counting `weights` times; passes are shared, and no row is copied."""
        ex = self.examples
        rows = ex.rows.among(chosen)
        # The mean divides by the rows there are: weights bring it back to the mean over all of them.
        weights = weights * (len(chosen) / len(ex.rows))
        if ex.weights is not None:
            weights = weights * ex.weights[chosen]
        part = replace(ex, rows=rows, y=ex.y[chosen], weights=weights.astype(rows.dtype))
        other = Objective.__new__(Objective)
        share = self._share * len(chosen) / len(ex.rows)
        other._build(part, self.loss, self.l2, _Shared(self._shared.counter), share)
        return other

    @property
    def name(self) -> str:
        """Name for refusals."""
        return f"the {self.loss.name} loss"

    @property
    def provides(self) -> frozenset[str]:
        """What the loss allows."""
        # Minibatches are made on the host: rows on a device are not taken there batch by batch.
        offered = set() if is_tensor(self.examples.rows.Z) else {ROWS}
        if self.loss.has_mistake_rule:
            offered.add(MISTAKES)
        if self.loss.has_gradient:
            offered.add(GRADIENT)
        if self.loss.is_smooth:
            offered |= {SMOOTH, CURVATURE_BOUND, HESSIAN, SAMPLES}
        if self.loss.is_quadratic:
            offered.add(QUADRATIC)
        return frozenset(offered)

    @property
    def passes(self) -> float:
        """Passes so far; half a pass is one product."""
        return self._shared.counter.passes

    def start(self) -> Float64:
        """Zero weights and the best constant prediction (zeros without a bias)."""
        ex = self.examples
        params = np.zeros((ex.rows.n_features + 1, ex.n_outputs))
        if ex.intercept:
            params[-1] = self.loss.constant_scores(ex.shares())
        return params

    def value(self, params: Float64) -> float:
        """J at `params`."""
        return self.at(params).value

    def value_and_gradient(self, params: Float64) -> tuple[float, Float64]:
        """J and its gradient at `params`: one pass."""
        point = self.at(params)
        return point.value, point.gradient

    def at(self, params: Float64) -> ObjectivePoint:
        """J at `params`: one forward product now, one backward when the gradient is asked for."""
        params = np.array(params, dtype=np.float64)
        return ObjectivePoint(self, params, self.scores(params))

    @property
    def terms(self) -> Terms:
        """How a leaf's sums are computed."""
        if self._shared.terms is None or self._shared.terms[0] is not self.loss:
            self._shared.terms = (self.loss, choose_terms(self.examples, self.loss))
        return self._shared.terms[1]

    def scores(self, params: Float64) -> FloatArray:
        """Scores (K, N) at `params`."""
        ex = self.examples
        right, added = self.factors(params)
        if not right.any():
            return ex.rows.constant(added)
        self.count(1)
        return ex.rows.scores(right, added)

    def factors(self, params: Float64) -> tuple[FloatArray, FloatArray]:
        """What the rows are multiplied with, and what is added, in the products' type.

        Class by class in memory, as compiled loops read it: it is turned here once, and not for every leaf.
        """
        dtype = self.examples.rows.dtype
        added = params[-1] - self.examples.centre @ params[:-1]
        W = aligned_empty((params.shape[1], len(params) - 1), dtype)
        W[...] = params[:-1].T
        return W.T, added.astype(dtype)

    def count(self, products: int) -> None:
        """Half a pass more for each product with all rows."""
        self._shared.counter.passes += 0.5 * products * self._share

    def traces(self, scores: FloatArray) -> FloatArray:
        """Trace of each row's Hessian in z at scores (K, N), times the row's weight, (N,)."""
        ex = self.examples
        out: FloatArray = np.empty(len(ex.rows), dtype=ex.rows.dtype)
        parallel(lambda leaf: self.terms.traces(leaf, scores, out), ex.rows.leaves(), ex.rows.threads)
        return out if ex.weights is None else out * ex.weights

    def means(self, sums: Float64) -> tuple[float, Float64]:
        """Mean loss and its gradient (D + 1, K) from the sum of the leaves' parts."""
        gradient = sums[N_SUMS:].reshape(self.examples.n_outputs, -1)
        return float(sums[0] / len(self.examples.rows)), self.finish(gradient)

    def finish(self, sums: Float64) -> Float64:
        """Means over centred columns, (D + 1, K), from sums (K, D + 1) over the columns as stored."""
        means = np.ascontiguousarray(sums.T) / len(self.examples.rows)
        means[:-1] -= np.outer(self.examples.centre, means[-1])
        means[:-1][~self.examples.live] = 0.0
        if not self.examples.intercept:
            means[-1] = 0.0
        return means

    def norm(self, gradient: Float64) -> float:
        """Size of a gradient relative to the one at the start, weights in the units of the columns as given.

        The bias, whose gradient is zero at the start, is measured by the same share of the largest gradient possible.
        """
        if self._shared.yardstick is None:
            self._shared.yardstick = self._sizes(self.with_l2(0.0).at(self.start()).gradient)[0]
        weights, bias = self._sizes(gradient)
        # Where the features say next to nothing the gradient at the start is rounding; their range is the measure.
        ranges = float(np.linalg.norm(self.examples.half_range)) or 1.0
        share = max(self._shared.yardstick / ranges, 1e-3)
        return float(np.hypot(weights / ranges, bias) / share)

    def see(self, params: Float64, gradient: Float64) -> None:
        """Keep the size of the loss's gradient at the start, the yardstick of `norm`."""
        if self._shared.yardstick is None and not params[:-1].any() and np.array_equal(params, self.start()):
            self._shared.yardstick = self._sizes(gradient)[0]

    def _sizes(self, gradient: Float64) -> tuple[float, float]:
        """Norms of the weights' part, in the units of the columns as given, and of the bias's."""
        scale = self.examples.scale()
        return float(np.linalg.norm(gradient[:-1] / scale[:, None])), float(np.linalg.norm(gradient[-1]))

    @property
    def rounding(self) -> float:
        """That of the products' type: row losses are summed in float64."""
        return float(np.finfo(self.examples.rows.dtype).eps)

    def curvature_bound(self) -> float:
        """``c · σ + max λⱼ`` with c the loss's own bound and σ the largest moment."""
        return self.loss.curvature_bound * self.largest_moment() + float(self.penalty.strength.max())

    def largest_moment(self) -> float:
        """Largest eigenvalue of the second moments of the centred columns and the column of ones."""
        if self._shared.moment is None:
            self._shared.moment = max(1.0, _largest_eigenvalue(self.examples.second_moments(None)))
        return self._shared.moment

    @property
    def n_rows(self) -> int:
        """Rows of non-zero weight."""
        return len(self.examples.rows)

    def take(self, rows: IntArray) -> tuple[Float64, IntArray, Float64]:
        """Centred features with a column of ones (zeros without a bias), labels and weights of some rows."""
        ex = self.examples
        X = np.full((len(rows), ex.rows.n_features + 1), float(ex.intercept))
        X[:, :-1] = ex.rows.pick(rows)
        X[:, :-1] -= ex.centre
        X[:, :-1][:, ~ex.live] = 0.0
        weights = np.ones(len(rows)) if ex.weights is None else ex.weights[rows].astype(np.float64)
        return X, ex.y[rows], weights

    def batch(self, params: Float64, rows: IntArray) -> tuple[float, Float64]:
        """Mean loss over some rows plus the penalty, and its gradient; products and sums in float64."""
        X, y, weights = self.take(rows)
        P = X @ params
        losses = self.loss.gradient(P, y) * weights
        P *= weights[:, None]
        gradient = X.T @ P / len(rows)
        gradient[:-1] += self.penalty.gradient(params[:-1])
        self._shared.counter.passes += self._share * len(rows) / self.n_rows
        return float(losses.sum() / len(rows) + self.penalty.value(params[:-1])), gradient

    def to_outside(self, params: Float64) -> tuple[Float64, Float64]:
        """W (D, K) and b (K,) for the columns as given."""
        return self.examples.to_outside(params)

    def to_inside(self, W: Float64, b: Float64) -> Float64:
        """Parameters (D + 1, K) from W and b for the columns as given."""
        return self.examples.to_inside(W, b)
