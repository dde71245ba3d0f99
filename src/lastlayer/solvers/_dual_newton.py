"""The end of a dual ascent: Newton's method on the few coordinates that are still between their bounds."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from lastlayer._arrays import Float64, IntArray

LOOSE, TIGHTER = 30.0, 3.0
"""First proximal weight over the mean diagonal, and its growth: small is easy, but far from the answer."""
LEAP, TIGHT = 30.0, 1e5
"""Growth where the answer hardly moves, and the weight from which a still answer is the answer."""
EASIER = 0.03
"""Factor of the weight where the start is too far away."""
STEPS, ROUNDS = 25, 15
SEARCHES = 30


class Quadratic(NamedTuple):
    """``½ aᵀ Q a + cᵀ a`` over ``0 ≤ a ≤ box``, with ``tᵀ a = target`` where there is an intercept.

    Shapes
    ------
    Q : (m, m) positive semidefinite. linear, signs (t = -1 or 1), box : (m,).
    """

    Q: Float64
    linear: Float64
    signs: Float64
    box: Float64
    target: float
    intercept: bool

    def value(self, a: Float64) -> float:
        """At a."""
        return float(0.5 * a @ (self.Q @ a) + self.linear @ a)


def polish(problem: Quadratic, a: Float64, bias: float, enough: float) -> tuple[Float64, float]:
    """The minimum of a small box-constrained quadratic and the multiplier of its equation, from a good start.

    Proximal point method; each proximal problem is solved by semismooth Newton steps with an exact line search on its
    augmented Lagrangian, a smooth convex function of ``w = Σ β t x`` and the bias (Li, Sun & Toh 2018, section 3, for
    the lasso). A step solves one system in the coordinates that are strictly between their bounds. Rounds end when one
    of great weight lowers the value by less than `enough`.

    Parameters
    ----------
    problem : Quadratic
    a : (m,) feasible in the box.
    bias : float
        First guess of the multiplier b of ``tᵀ a = target``.
    enough : float
        See above.

    Returns
    -------
    a : (m,) inside the box, no worse than the one given; the equation holds to rounding when Newton converged.
    bias : float
    """
    weight = LOOSE / max(float(problem.Q.diagonal().mean()), np.finfo(float).tiny)
    tight = weight * TIGHT / LOOSE
    value, begun = _priced(problem, a, bias), False
    for _ in range(ROUNDS):
        new, new_bias, exact = _proximal(problem, a, bias, weight)
        if not exact:
            if begun:
                break
            weight *= EASIER
            continue
        begun = True
        lower = _priced(problem, new, new_bias)
        a, bias, gain, value = new, new_bias, value - lower, lower
        if 0 <= gain < enough and weight >= tight:
            break
        weight *= LEAP if gain < enough else TIGHTER
    return a, bias


def _priced(q: Quadratic, a: Float64, bias: float) -> float:
    """The value, with the price of a violated equation."""
    return q.value(a) + (bias * float(q.signs @ a - q.target) if q.intercept else 0.0)


def _proximal(q: Quadratic, centre: Float64, bias: float, weight: float) -> tuple[Float64, float, bool]:
    """``argmin q(a) + ‖a - centre‖²/(2 weight)`` over the box and the equation, and whether it was found."""
    beta, product = centre.copy(), q.Q @ centre
    tiny = 1e-7 * q.box
    sides = (float(q.box[q.signs > 0].sum()), float(q.box[q.signs < 0].sum()))
    balanced = 1e-7 * min(side for side in (*sides, sum(sides)) if side > 0)
    for _ in range(STEPS):
        raw = centre - weight * (product + q.linear + bias * q.signs)
        a = np.clip(raw, 0.0, q.box)
        missing = float(q.signs @ a - q.target) if q.intercept else 0.0
        if (np.abs(beta - a) <= tiny).all() and abs(missing) <= balanced:
            return a, bias, True
        free = np.flatnonzero((raw > 0.0) & (raw < q.box))
        try:
            goal, new_bias = _newton(q, a, free, centre, bias, weight, missing)
        except np.linalg.LinAlgError:  # dependent rows at a large weight: what is found so far stands
            break
        step, bias_step = goal - beta, new_bias - bias
        change = q.Q @ step
        share = _search(q, raw, beta, step, change, bias_step, weight)
        beta = beta + share * step
        product = product + share * change
        bias += share * bias_step
    return centre, bias, False


def _newton(
    q: Quadratic, a: Float64, free: IntArray, centre: Float64, bias: float, weight: float, missing: float
) -> tuple[Float64, float]:
    """Where the equations hold with the bound coordinates left at their bounds."""
    goal = a.copy()
    if len(free) == 0:  # every row is at a bound: only the bias can move, along its own gradient
        return goal, bias + missing / (weight * len(a)) if q.intercept else bias
    from scipy.linalg import cho_factor, cho_solve

    held = a.copy()
    held[free] = 0.0
    used = np.flatnonzero(held)
    right = centre[free] / weight - q.linear[free] - q.Q[np.ix_(free, used)] @ held[used]
    system = q.Q[np.ix_(free, free)]
    system[np.diag_indices_from(system)] += 1.0 / weight
    factor: Any = cho_factor(system, lower=True, overwrite_a=True, check_finite=False)
    if not q.intercept:
        goal[free] = cho_solve(factor, right, check_finite=False)
        return goal, bias
    signs = q.signs[free]
    both = cho_solve(factor, np.stack([right, signs], axis=1), check_finite=False)
    new_bias = float((signs @ both[:, 0] - q.target + q.signs[used] @ held[used]) / (signs @ both[:, 1]))
    goal[free] = both[:, 0] - new_bias * both[:, 1]
    return goal, new_bias


def _search(
    q: Quadratic, raw: Float64, beta: Float64, step: Float64, change: Float64, bias_step: float, weight: float
) -> float:
    """Share of the step at which the augmented Lagrangian is least along it, from the sign of its slope."""
    first, second = float(beta @ change), float(step @ change)
    moved = change + bias_step * q.signs

    def slope(share: float) -> float:
        a = np.clip(raw - share * weight * moved, 0.0, q.box)
        return first + share * second - float(a @ moved) + q.target * bias_step

    begin = slope(0.0)
    if slope(1.0) <= 1e-3 * abs(begin):
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(SEARCHES):
        share = 0.5 * (low + high)
        here = slope(share)
        if abs(here) < 1e-2 * abs(begin):
            break
        low, high = (low, share) if here > 0 else (share, high)
    return share
