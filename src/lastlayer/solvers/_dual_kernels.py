"""Compiled loops of the dual coordinate ascent: numba, without the interpreter's lock.

Rows are read one after the other in a random order, and serve all classes of the thread while they are in the cache:
reading them is what a pass costs. Arithmetic on a row is in the type of the weights, sums over rows are in float64.

Shapes
------
X : (N, D) rows as stored; rows : (n,) the rows in use; W : (C, D) weights of C classes; alpha, active : (C, n).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from lastlayer._arrays import Array, BoolArray, Float64, FloatArray, IntArray

# Reordered sums and fused products; infinities and NaN keep their meaning.
FAST = {"reassoc", "contract", "arcp", "nsz"}


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")  # type: ignore[untyped-decorator]
def row_sizes(X: Array, rows: IntArray, centre: Float64, squares: Float64, products: Float64) -> None:
    """``‖x - m‖²`` and ``x·m`` of every row, m the centre."""
    for i in range(rows.shape[0]):
        x = X[rows[i]]
        square = 0.0
        product = 0.0
        for j in range(x.shape[0]):
            value = np.float64(x[j])
            square += (value - centre[j]) * (value - centre[j])
            product += value * centre[j]
        squares[i] = square
        products[i] = product


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")  # type: ignore[untyped-decorator]
def epoch(
    X: Array,
    rows: IntArray,
    order: IntArray,
    y: IntArray,
    classes: IntArray,
    box: Float64,
    squares: Float64,
    products: Float64,
    centre_square: float,
    stiffness: float,
    alpha: Float64,
    W: FloatArray,
    state: Float64,
    active: BoolArray,
    counts: IntArray,
) -> None:
    """One visit of every active coordinate (class, row), in the order given.

    The score of row x is ``u·x - γ m·x - u·m + γ m·m + b + κ γ``: u = Σ α t x is what is stored, w = u - γ m with
    γ = Σ α t is the weight for the centred rows, and κ γ the pull of the equation γ = 0 (the stiffness κ). A
    coordinate is left out until the next check when it is at its bound and its gradient points outwards beyond
    everything seen in the visit before (Hsieh et al. 2008, section 3.2).

    state : (C, 7): γ, u·m, b, the largest and smallest projected gradient of the visit before, and of this one.
    counts : (2,) scores and updates made, added to.
    """
    for k in range(W.shape[0]):
        state[k, 5] = -np.inf
        state[k, 6] = np.inf
    for position in range(order.shape[0]):
        i = order[position]
        x = X[rows[i]]
        for k in range(W.shape[0]):
            if not active[k, i]:
                continue
            w = W[k]
            total = w[0] * 0
            for j in range(w.shape[0]):
                total += w[j] * x[j]
            counts[0] += 1
            shift = state[k, 0] * (centre_square - products[i] + stiffness) - state[k, 1] + state[k, 2]
            t = 1.0 if y[i] == classes[k] else -1.0
            slope = t * (np.float64(total) + shift) - 1.0
            a = alpha[k, i]
            projected = slope
            if a <= 0.0:
                if slope > state[k, 3]:
                    active[k, i] = False
                    continue
                projected = min(slope, 0.0)
            elif a >= box[i]:
                if slope < state[k, 4]:
                    active[k, i] = False
                    continue
                projected = max(slope, 0.0)
            state[k, 5] = max(state[k, 5], projected)
            state[k, 6] = min(state[k, 6], projected)
            if projected == 0.0:
                continue
            new = min(max(a - slope / squares[i], 0.0), box[i])
            step = t * (new - a)
            if step == 0.0:
                continue
            alpha[k, i] = new
            factor = w[0] * 0 + step
            for j in range(w.shape[0]):
                w[j] += factor * x[j]
            state[k, 0] += step
            state[k, 1] += step * products[i]
            counts[1] += 1
    for k in range(W.shape[0]):
        state[k, 3] = state[k, 5] if state[k, 5] > 0.0 else np.inf
        state[k, 4] = state[k, 6] if state[k, 6] < 0.0 else -np.inf


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")  # type: ignore[untyped-decorator]
def hinge_sum(scores: FloatArray, bias: float, y: IntArray, own: int, box: Float64) -> Any:
    """``Σ cᵢ max(0, 1 - tᵢ (zᵢ + b))`` in float64."""
    total = 0.0
    for i in range(y.shape[0]):
        t = 1.0 if y[i] == own else -1.0
        total += box[i] * max(0.0, 1.0 - t * (np.float64(scores[i]) + bias))
    return total


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")  # type: ignore[untyped-decorator]
def best_share(
    old: FloatArray, new: FloatArray, biases: Float64, squares: Float64, y: IntArray, own: int, box: Float64
) -> Any:
    """θ in 0..1 at which the primal is least between two points, by bisection of its slope.

    squares : ``‖w₀‖², w₀·w₁, ‖w₁‖²``; biases : b₀, b₁.
    """
    low = 0.0
    high = 1.0
    for _ in range(24):
        share = 0.5 * (low + high)
        slope = share * squares[2] + (1.0 - 2.0 * share) * squares[1] - (1.0 - share) * squares[0]
        for i in range(y.shape[0]):
            t = 1.0 if y[i] == own else -1.0
            first = np.float64(old[i]) + biases[0]
            change = np.float64(new[i]) + biases[1] - first
            if t * (first + share * change) < 1.0:
                slope -= box[i] * t * change
        if slope > 0.0:
            high = share
        else:
            low = share
    return 0.5 * (low + high)
