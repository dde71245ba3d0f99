"""The state of a dual coordinate ascent: visits, Newton's steps, certificates."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import final

import numpy as np

from lastlayer._arrays import Array, BoolArray, Float64, FloatArray, IntArray
from lastlayer.solvers.dual_problem import DualProblem

EASY, HARDER = 300.0, 10.0
"""Box times squared row norm up to which α = 0 is a good start; beyond, boxes grow by stages of that factor."""
STIFFNESS = 0.01
"""κ, in mean squared row norms: the stiffer the equation Σ α t = 0, the worse the condition of the ascent."""
NEWTON_ROWS, NEAR_ROWS, MOST_NEAR = 1500, 200, 3000
"""Most free coordinates for Newton's method; how many others it may change, at first and after some doublings."""
OVERHEAD, PATIENCE = 50, 20.0
"""The ascent against Newton's method: a row visited counts for its numbers and so many more, which may be spent on
``(free coordinates)³ + rows²``, and so many times more where two rounds took less than a fifth off the gap.
"""


def best_bias(scores: FloatArray, signs: Float64, box: Float64) -> float:
    """The b of least ``Σ cᵢ max(0, 1 - tᵢ (zᵢ + b))``: the middle of the flat part, by sorting its kinks ``t - z``.

    >>> best_bias(np.array([0.5, -1.0]), np.array([1.0, -1.0]), np.ones(2))
    0.25
    """
    kinks = signs - scores
    order = np.argsort(kinks, kind="stable")
    slopes = np.cumsum(box[order]) - box[signs > 0].sum()
    slopes[np.abs(slopes) <= 1e-12 * box.sum()] = 0.0
    first = int(np.argmax(slopes >= 0.0))
    left = kinks[order[first]]
    flat = slopes[first] == 0.0 and first + 1 < len(order)
    return float(0.5 * (left + kinks[order[first + 1]]) if flat else left)


@final
class Ascent:
    """Where the ascent is: α, the weights it stands for, and the best certificate of each class."""

    def __init__(self, problem: DualProblem, seed: int, gap: float) -> None:
        from lastlayer.solvers import _dual_kernels

        self.problem, self.data, self.seed, self.goal = problem, problem.dual, seed, gap
        self.kernels, self.share = _dual_kernels, 1.0
        data = self.data
        n, d, c = len(data.rows), data.X.shape[1], len(data.classes)
        self.dtype = np.dtype(np.float64 if data.X.dtype == np.float64 else np.float32)
        self.signs = np.where(data.y == data.classes[:, None], 1.0, -1.0)
        self.squares, self.products = np.empty(n), np.empty(n)
        self._sizes()
        self.centre_square = float(data.centre @ data.centre)
        self.stiffness = STIFFNESS * float(self.squares.mean()) if data.intercept else 0.0
        self.squares += self.stiffness
        self.alpha = np.zeros((c, n))
        self.W = np.zeros((c, d), dtype=self.dtype)
        self.state = np.zeros((c, 7))
        self.state[:, 3], self.state[:, 4] = np.inf, -np.inf
        self.active: BoolArray = np.ones((c, n), dtype=bool)
        self.work = np.zeros((c, 2), dtype=np.int64)
        self.spent = np.zeros(c)
        self.best_W, self.best_bias = np.zeros((c, d)), np.zeros(c)
        self.best_scores = np.zeros((c, n), dtype=self.dtype)
        self.primal, self.dual = np.full(c, np.inf), np.zeros(c)
        self.near: list[IntArray] = [np.empty(0, dtype=np.intp)] * c
        self.reach, self.stuck = np.full(c, NEAR_ROWS), np.zeros(c, dtype=np.intp)
        self.doubt, self.polished = np.ones(c), np.zeros(c, dtype=bool)
        self.stopped = threading.Event()

    def _sizes(self) -> None:
        data, n = self.data, len(self.data.rows)
        edges = np.linspace(0, n, min(n, 4 * self.problem.threads) + 1).astype(int)

        def part(i: int) -> None:
            span = slice(edges[i], edges[i + 1])
            self.kernels.row_sizes(data.X, data.rows[span], data.centre, self.squares[span], self.products[span])

        self.problem.spread(part, list(range(len(edges) - 1)))

    def stages(self) -> list[float]:
        """Shares of the boxes to begin with, smallest first; none where the boxes are easy.

        From α = 0 an ascent in wide boxes takes very many visits to fill them. The solution in boxes a tenth as wide,
        scaled up, has most coordinates at the right bounds already (as along a regularisation path).
        """
        hard = float(self.data.box.max()) * float(self.squares.mean()) / EASY
        count = min(12, int(np.ceil(np.log(hard) / np.log(HARDER)))) if hard > 1.0 else 0
        return [HARDER ** -float(j) for j in range(count, 0, -1)]

    def rescale(self, share: float, goal: float) -> None:
        """Boxes of that share of their full width, α scaled alike; certificates start afresh."""
        factor, self.share, self.goal = share / self.share, share, goal
        self.data = self.data._replace(box=self.problem.dual.box * share)
        if not self.alpha.any():
            return
        self.alpha = np.minimum(self.alpha * factor, self.data.box)
        self.primal[:], self.dual[:] = np.inf, 0.0
        self.state[:, 3], self.state[:, 4] = np.inf, -np.inf
        self.active[:] = True
        self.check()

    def round(self, done: int, epochs: int) -> int:
        """Some epochs, Newton's method where it pays, and a check; epochs made in all."""
        if len(self.open()):
            self.visit(done, epochs)
            self.newton()
            self.check()
        return done + epochs

    def gap(self) -> float:
        """Relative gap of all classes together."""
        total = float(self.primal.sum())
        if not np.isfinite(total):
            return 1.0
        return max(0.0, float((self.primal - self.dual).sum())) / total if total > 0 else 0.0

    def value(self) -> float:
        """The problem's value at the best weights."""
        return float(self.primal.sum()) * self.problem.unit

    def params(self) -> Float64:
        """The problem's parameters there."""
        return self.problem.params_of(self.best_W, self.best_bias)

    def open(self) -> IntArray:
        """Classes whose own gap is still too wide."""
        wide = self.primal - self.dual > self.goal * self.primal
        return np.flatnonzero(np.isinf(self.primal) | wide)

    def visit(self, done: int, epochs: int) -> None:
        """Some epochs for the open classes, side by side; no bit depends on how classes are shared out."""
        open_classes = self.open()
        live = np.flatnonzero(self.active[open_classes].any(axis=0))
        orders = [live[np.random.default_rng((self.seed, done + e)).permutation(len(live))] for e in range(epochs)]
        self.work[:] = 0
        groups = [g for g in np.array_split(open_classes, min(self.problem.threads, len(open_classes))) if len(g)]
        self.problem.spread(lambda group: self._visit(group, orders), groups)
        size = self.alpha.size
        self.problem.count(0.5 * float(self.work.sum()) / size)

    def _visit(self, group: IntArray, orders: Sequence[Array]) -> None:
        """Epochs of one thread's classes."""
        data = self.data
        alpha, W, state, active = self.alpha[group], self.W[group], self.state[group], self.active[group]
        counts = np.zeros(2, dtype=np.int64)
        for order in orders:
            if self.stopped.is_set():
                return
            some = order[np.any(active, axis=0)[order]]
            self.kernels.epoch(
                data.X, data.rows, some, data.y, data.classes[group], data.box, self.squares, self.products,
                self.centre_square, self.stiffness, alpha, W, state, active, counts,
            )  # fmt: skip
            if data.intercept:
                state[:, 2] += self.stiffness * state[:, 0]
        self.alpha[group], self.W[group], self.state[group], self.active[group] = alpha, W, state, active
        self.work[group[0]] = counts
        self.spent[group] += counts.sum() / len(group)

    def newton(self) -> None:
        """Newton's method for the classes of which few coordinates are free, where it costs less than was spent."""
        chosen = []
        for k in self.open():
            a = self.alpha[k]
            free = int(((a > 0.0) & (a < self.data.box)).sum())
            cost = free**3 + len(self.near[k]) ** 2
            budget = (
                self.spent[k]
                * (OVERHEAD + self.data.X.shape[1])
                * (PATIENCE if self.stuck[k] > 1 else 1.0)
                / self.doubt[k]
            )
            if free <= NEWTON_ROWS and len(self.near[k]) and cost <= budget:
                chosen.append(int(k))
        self.problem.spread(self._newton, chosen)

    def _newton(self, k: int) -> None:
        from lastlayer.solvers._dual_newton import Quadratic, polish

        data, alpha = self.data, self.alpha[k]
        self.spent[k], self.polished[k] = 0.0, True
        self.reach[k] = min((2 if self.stuck[k] > 1 else 1) * self.reach[k], MOST_NEAR)
        chosen = np.union1d(np.flatnonzero((alpha > 0.0) & (alpha < data.box)), self.near[k])
        rows = data.X[data.rows[chosen]].astype(self.dtype)
        rows -= data.centre.astype(self.dtype)
        signs = self.signs[k, chosen]
        Q = (rows @ rows.T).astype(np.float64)
        Q *= signs[:, None]
        Q *= signs
        gamma, _, bias = self.state[k, :3]
        w = self.W[k] - (gamma * data.centre).astype(self.dtype)
        linear = signs * (rows @ w) - Q @ alpha[chosen] - 1.0
        target = float(alpha[chosen] @ signs - alpha @ self.signs[k])
        q = Quadratic(Q, linear, signs, data.box[chosen], target, data.intercept)
        enough = 0.01 * self.goal * float(self.primal[k])
        alpha[chosen], self.state[k, 2] = polish(q, alpha[chosen], bias + self.stiffness * gamma, enough)

    def check(self) -> None:
        """Weights of α afresh, a certificate for the open classes, and the rows to visit next."""
        classes = self.open()
        alpha, mine = self.alpha[classes], self.signs[classes] > 0
        both = self.problem.combine(np.concatenate([alpha * mine, alpha * ~mine]))
        plus, minus = both[: len(classes)], both[len(classes) :]
        up, down = (alpha * mine).sum(axis=1), (alpha * ~mine).sum(axis=1)
        self.W[classes] = plus - minus
        self.state[classes, 0] = up - down
        self.state[classes, 1] = (alpha * self.signs[classes]) @ self.products
        if self.data.intercept:  # the heavier side is scaled down, so that Σ α t = 0 exactly
            less = np.minimum(up, down)
            shares = less / np.where(up > 0, up, 1.0), less / np.where(down > 0, down, 1.0)
        else:
            shares = np.ones_like(up), np.ones_like(down)
        feasible = plus * shares[0][:, None] - minus * shares[1][:, None]
        sums = up * shares[0] + down * shares[1]
        scores = self.problem.scores(feasible)
        self.problem.count(1.0 * len(classes) / len(self.alpha))
        self.problem.spread(
            lambda i: self._certify(int(classes[i]), feasible[i], scores[i], float(sums[i])), list(range(len(classes)))
        )

    def _certify(self, k: int, w: Float64, scores: FloatArray, total: float) -> None:
        """Primal and dual value of one class, its best weights, and the coordinates that may move."""
        signs, box = self.signs[k], self.data.box
        before = float(self.primal[k] - self.dual[k])
        square = float(w @ w)
        self.dual[k] = max(self.dual[k], total - 0.5 * square)
        bias = best_bias(scores, signs, box) if self.data.intercept else 0.0
        slope = signs * (scores + bias) - 1.0
        value = self._primal(k, scores, bias, square)
        if np.isfinite(self.primal[k]):
            self._between(k, w, scores, bias)
        if value < self.primal[k]:
            self._keep(k, w, scores, bias, value)
        slow = np.isfinite(before) and self.primal[k] - self.dual[k] > 0.8 * before
        self.stuck[k] = self.stuck[k] + 1 if slow else 0
        if self.polished[k]:  # what Newton's method did not help it may not help the next time
            self.doubt[k] = 4.0 * self.doubt[k] if slow else 1.0
            self.polished[k] = False
        self.spent[k] += 2 * len(box)
        high, low = (x if np.isfinite(x) else y for x, y in zip(self.state[k, 3:5], (1.0, -1.0)))
        a = self.alpha[k]
        self.active[k] = ~(((a <= 0.0) & (slope > high)) | ((a >= box) & (slope < low)))
        # Newton's method is given the free coordinates and, to bind or to free, the rows nearest to their margin.
        free = int(np.count_nonzero((a > 0.0) & (a < box)))
        count = min(len(a), min(free, NEWTON_ROWS) + int(self.reach[k]))
        self.near[k] = np.arange(len(a)) if count == len(a) else np.argpartition(np.abs(slope), count)[:count]

    def _between(self, k: int, w: Float64, scores: FloatArray, bias: float) -> None:
        """The best point on the segment from the best weights so far to new ones: the last α need not be it."""
        old, data = self.best_W[k], self.data
        squares = np.array([old @ old, old @ w, w @ w])
        biases = np.array([self.best_bias[k], bias])
        share = self.kernels.best_share(self.best_scores[k], scores, biases, squares, data.y, data.classes[k], data.box)
        mixed = old + share * (w - old)
        z = self.best_scores[k] + self.dtype.type(share) * (scores - self.best_scores[k])
        b = best_bias(z, self.signs[k], data.box) if data.intercept else 0.0
        value = self._primal(k, z, b, float(mixed @ mixed))
        if value < self.primal[k]:
            self._keep(k, mixed, z, b, value)

    def _primal(self, k: int, scores: FloatArray, bias: float, square: float) -> float:
        data = self.data
        return 0.5 * square + float(self.kernels.hinge_sum(scores, bias, data.y, data.classes[k], data.box))

    def _keep(self, k: int, w: Float64, scores: FloatArray, bias: float, value: float) -> None:
        self.best_W[k], self.best_scores[k], self.best_bias[k], self.primal[k] = w, scores, bias, value
