"""The truth that the numerical tests compare with: the same problem solved by other means, in more digits.

``J(W, b) = Σᵢ sᵢ L(zᵢ W + b, yᵢ) / Σᵢ sᵢ + (λ/2) ‖W‖²``. Columns are centred and scaled, the penalty carried over;
values and gradients are in extended precision (`numpy.longdouble`: 64 bits of mantissa where there are so many), the
Newton equation in float64, solved again until nothing is left of the gradient. Nothing of lastlayer is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Wide = np.longdouble
Array = np.ndarray[Any, Any]
LOSSES = ("cross_entropy", "squared_hinge", "squared", "hinge")


@dataclass(frozen=True)
class Truth:
    """The least J; its W (D, K) and b (K,), for the columns as given, in extended precision."""

    value: float
    W: Array
    b: Array


def losses_and_slopes(loss: str, scores: Array, y: Array) -> tuple[Array, Array]:
    """L of each row (N,) and its derivatives in the scores (N, K)."""
    rows = np.arange(len(scores))
    if loss == "cross_entropy":
        top = scores.max(axis=1, keepdims=True)
        P = np.exp(scores - top)
        total = P.sum(axis=1, keepdims=True)
        value = (np.log(total) + top)[:, 0] - scores[rows, y]
        P /= total
        P[rows, y] -= 1
        return value, P
    if loss == "squared":
        P = scores - (one_hot(scores, y) if y.ndim == 1 else y)
        return (P * P).sum(axis=1) / 2, P
    sign = 2 * one_hot(scores, y) - 1
    short = np.maximum(1 - sign * scores, 0)
    if loss == "squared_hinge":
        return (short * short).sum(axis=1), -2 * sign * short
    return short.sum(axis=1), -sign * (short > 0)


def one_hot(scores: Array, y: Array) -> Array:
    target = np.zeros_like(scores)
    target[np.arange(len(y)), y] = 1
    return target


def price(Z: Array, y: Array, loss: str, l2: float, W: Array, b: Array, weights: Array | None = None) -> float:
    """J at W and b for the columns as given, about their middles, so that large offsets lose no digits here."""
    Z, W, b = Z.astype(Wide), np.asarray(W, dtype=Wide), np.asarray(b, dtype=Wide)
    middle = Z.min(axis=0) / 2 + Z.max(axis=0) / 2
    values, _ = losses_and_slopes(loss, (Z - middle) @ W + (b + middle @ W), y)
    return float(mean(values, weights) + Wide(l2) / 2 * (W * W).sum())


def mean(values: Array, weights: Array | None) -> Any:
    return values.mean() if weights is None else values @ shares(weights, len(values))


def shares(weights: Array | None, n: int) -> Array:
    if weights is None:
        return np.full(n, Wide(1) / n)
    s = weights.astype(Wide) / Wide(weights.max())
    return s / s.sum()


@dataclass(frozen=True)
class Standardised:
    """Columns of mean 0 and size 1 with a column of ones, and the penalty of each (0 for the bias)."""

    B: Array
    cost: Array
    middle: Array
    size: Array
    share: Array

    @classmethod
    def of(cls, Z: Array, l2: float, weights: Array | None, intercept: bool) -> Standardised:
        Z, share = Z.astype(Wide), shares(weights, len(Z))
        used = Z[share > 0]
        middle = (used.min(axis=0) / 2 + used.max(axis=0) / 2) * intercept
        middle += (share @ (Z - middle)) * intercept
        A = Z - middle
        size = np.abs(A[share > 0]).max(axis=0)
        size[size == 0] = 1
        size *= np.sqrt(share @ (A / size) ** 2)
        size[size == 0] = 1
        B = np.column_stack([A / size, np.full(len(Z), Wide(intercept))])
        return cls(B, np.r_[Wide(l2) / size / size, Wide(0)], middle, size, share)

    def outside(self, x: Array) -> tuple[Array, Array]:
        W = x[:-1] / self.size[:, None]
        return W, x[-1] - self.middle @ W


def truth(
    Z: Array, y: Array, k: int, loss: str, l2: float, weights: Array | None = None, *, intercept: bool = True
) -> Truth:
    """The optimum of a small problem; for λ = 0 and dependent columns one of them. Fails when it is not reached."""
    problem = Standardised.of(Z, l2, weights, intercept)
    if loss == "hinge":
        columns = [_hinge(problem, np.where(y == c, 1.0, -1.0)) for c in range(k)]
        x = np.column_stack(columns)
    else:
        x = _newton(problem, y, k, loss)
    return Truth(float(_value(problem, y, loss, x)), *problem.outside(x))


def _value(problem: Standardised, y: Array, loss: str, x: Array) -> Any:
    return problem.share @ losses_and_slopes(loss, problem.B @ x, y)[0] + (problem.cost @ (x * x)).sum() / 2


def _hessian(problem: Standardised, y: Array, loss: str, scores: Array) -> Array:
    """In float64, (D + 1, K, D + 1, K)."""
    B, k = problem.B.astype(float), scores.shape[1]
    s = problem.share.astype(float)
    if loss == "cross_entropy":
        P = losses_and_slopes(loss, scores, y)[1].astype(float)
        P[np.arange(len(y)), y] += 1
        inner = np.einsum("ij,jk->ijk", P, np.eye(k)) - P[:, :, None] * P[:, None, :]
    else:
        curved = np.ones_like(scores)
        if loss == "squared_hinge":
            curved = 2 * ((2 * one_hot(scores, y) - 1) * scores < 1)
        inner = np.einsum("ij,jk->ijk", curved.astype(float), np.eye(k))
    H: Array = np.einsum("ia,ijk,ib->ajbk", B, inner * s[:, None, None], B, optimize=True)
    return H


def _newton(problem: Standardised, y: Array, k: int, loss: str) -> Array:
    x = np.zeros((problem.B.shape[1], k), dtype=Wide)
    now = _value(problem, y, loss, x)
    for _ in range(500):
        scores = problem.B @ x
        slopes = losses_and_slopes(loss, scores, y)[1]
        gradient = problem.B.T @ (slopes * problem.share[:, None]) + problem.cost[:, None] * x
        H = _hessian(problem, y, loss, scores).reshape(x.size, x.size)
        H[np.diag_indices_from(H)] += np.repeat(problem.cost.astype(float), k)
        move = _solve(H, gradient.astype(float).ravel()).reshape(x.shape)
        promise = float((gradient * move).sum())
        if promise <= 1e-20 * float(now):
            return x
        step = Wide(1)
        while step > 1e-12:
            there = _value(problem, y, loss, x - step * move)
            if there <= now - Wide(1e-4) * step * promise or (promise < 1e-16 * now and there <= now):
                break
            step /= 2
        else:
            break
        x, now = x - step * move, there
    assert promise <= 1e-12 * float(now), f"the reference stopped with a promise of {promise:.1e} at {float(now):.3g}"
    return x


def _solve(H: Array, g: Array) -> Array:
    """``H⁺ g`` with the unknowns scaled to a unit diagonal."""
    diagonal = H.diagonal()
    scale = np.where(diagonal > 0, 1 / np.sqrt(np.where(diagonal > 0, diagonal, 1)), 0)
    values, vectors = np.linalg.eigh(H * np.outer(scale, scale))
    keep = values > 1e-13 * values[-1]
    found: Array = scale * (vectors[:, keep] @ ((vectors[:, keep].T @ (scale * g)) / values[keep]))
    return found


def _hinge(problem: Standardised, t: Array) -> Array:
    """One class against the rest: an interior point method on both the primal and the dual, the bias exact at the end.

    ``min ½ x'Λx + c'ξ,  t (B x) + ξ - 1 = s ≥ 0,  ξ ≥ 0``; α and c - α are the multipliers of s and ξ.
    """
    B, cost, c = problem.B.astype(float), problem.cost.astype(float), problem.share.astype(float)
    B, t, c = B[c > 0], t[c > 0], c[c > 0]
    TB = t[:, None] * B
    x, alpha, z = np.zeros(B.shape[1]), c / 2, c / 2
    xi, s = np.full(len(c), 2.0), np.ones(len(c))
    best, kept = np.inf, x
    for _ in range(200):
        gap, value = float(alpha @ s + z @ xi), float(c @ xi + cost @ (x * x) / 2)
        rest = cost * x - TB.T @ alpha
        bound = gap + float(np.abs(rest) @ np.abs(x))
        if bound < best:
            best, kept = bound, x
        if bound <= 1e-12 * value or bound > 10 * best:
            break
        target = 0.1 * gap / (2 * len(c))
        theta = s + alpha * xi / z
        rho = target - alpha * s - alpha * target / z + alpha * xi
        H = np.diag(cost) + TB.T @ ((alpha / theta)[:, None] * TB)
        dx = _solve(H, TB.T @ (rho / theta) - rest)
        m = TB @ dx
        dalpha = (rho - alpha * m) / theta
        dxi = (target - z * xi + xi * dalpha) / z
        ds = m + dxi
        step = 1.0
        for now, change in ((alpha, dalpha), (z, -dalpha), (xi, dxi), (s, ds)):
            falling = change < 0
            step = min(step, float((0.995 * now[falling] / -change[falling]).min(initial=1.0)))
        x, xi, alpha, z = x + step * dx, xi + step * dxi, alpha + step * dalpha, z - step * dalpha
        s = np.maximum(TB @ x + xi - 1, 1e-3 * s)
    assert best <= 1e-9 * value, f"the reference stopped at a gap of {best:.1e}"
    return _best_bias(problem, np.where(problem.share > 0, 1, 0), t, kept)


def _best_bias(problem: Standardised, used: Array, t: Array, x: Array) -> Array:
    """x with the bias that minimises the hinge, which is one of the rows' kinks (where there is a bias)."""
    wide = x.astype(Wide)
    B, share = problem.B[used > 0], problem.share[used > 0]
    if B[0, -1] == 0:
        return wide
    plain = B[:, :-1] @ wide[:-1]
    kinks = t - plain
    values = np.maximum(1 - t * (plain + kinks[:, None]), 0) @ share
    wide[-1] = kinks[int(np.argmin(values))]
    return wide


def gap(
    Z: Array, y: Array, loss: str, l2: float, W: Array, b: Array, best: float, weights: Array | None = None
) -> float:
    """How far J(W, b) is above `best`, relative to it (to 1e-4 where the best is smaller)."""
    return (price(Z, y, loss, l2, W, b, weights) - best) / max(best, 1e-4)


def certified_gap(Z: Array, y: Array, loss: str, l2: float, W: Array, b: Array, weights: Array | None = None) -> float:
    """An upper bound of the relative gap for problems too large for `truth`, from strong convexity.

    With the bias at its best for these W, its gradient zero, no J is below ``J(W, b) - ‖∂J/∂W‖² / (2λ)``.
    """
    Z, W, b = Z.astype(Wide), np.asarray(W, dtype=Wide), np.asarray(b, dtype=Wide)
    middle = Z.min(axis=0) / 2 + Z.max(axis=0) / 2
    share = shares(weights, len(Z))
    A = Z - middle
    plain, moved = A @ W, b + middle @ W
    here = share @ losses_and_slopes(loss, plain + moved, y)[0] + Wide(l2) / 2 * (W * W).sum()
    for _ in range(100):
        P = losses_and_slopes(loss, plain + moved, y)[1] * share[:, None]
        slope = P.sum(axis=0)
        if np.abs(slope).sum() < 1e-13:
            break
        if loss == "cross_entropy" and len(b) <= 100:
            Q = P / share[:, None] + one_hot(plain, y)
            H = np.diag(share @ Q) - Q.T @ (Q * share[:, None])
            moved -= _solve(H.astype(float), slope.astype(float))
        elif loss == "cross_entropy":  # where no class is all but certain, iterative scaling does
            moved -= np.log1p(slope / (share @ one_hot(plain, y)))
        elif loss == "squared":
            moved -= slope
        else:
            sign = 2 * one_hot(plain, y) - 1
            moved -= slope / (2 * share @ (sign * (plain + moved) < 1))
    assert np.abs(slope).sum() < 1e-12, "the best bias was not found"
    values, P = losses_and_slopes(loss, plain + moved, y)
    G = A.T @ (P * share[:, None]) + Wide(l2) * W
    least = share @ values + Wide(l2) / 2 * (W * W).sum() - (G * G).sum() / (2 * Wide(l2))
    assert least > 0
    return float((here - least) / least)
