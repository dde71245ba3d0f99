"""Losses of a few rows at a time, compiled: value, slope, curvature and gradient in one go.

Each function takes scores Z (K, n), their change C (K, n) along a line, labels y (n,), weights w (n,), a work space of
seven rows, and the three sums to add to; it overwrites Z with the weighted gradient. Everything is float32, class by
class, so that every loop runs along the rows; the sums are float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lastlayer._compiled import compiled, float_of_bits

COMPILED = {"cross_entropy": 0, "squared_hinge": 1, "squared": 2}
"""The losses there are, with the number that `differentiate` knows them by."""

CLASSES = 32
"""Classes whose terms are summed in float32 before they join the rest: the error of a sum grows with its length."""
ONE, TWO, HALF, ZERO = np.float32(1), np.float32(2), np.float32(0.5), np.float32(0)
LOG2_E = np.float32(1.4426950408889634)
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
LOWEST = np.float32(-87.0)
C5, C4, C3 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
C2, C1, C0 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)


@compiled
def exp_below_one(x: Any) -> Any:
    """``exp(x)`` for x ≤ 0 to a relative error of 3e-7 (from -87 down: 1.6e-38), in operations that vectorise.

    ``exp(x) = 2ⁿ exp(r)``, n the whole number nearest to x / ln 2, with the polynomial of Cephes (Moshier 1992).
    """
    x = max(x, LOWEST)
    n = np.floor(x * LOG2_E + HALF)
    r = x - n * LN2_HIGH
    r = r - n * LN2_LOW
    series = ((((C5 * r + C4) * r + C3) * r + C2) * r + C1) * r + C0
    return (series * (r * r) + r + ONE) * float_of_bits((np.int32(n) + np.int32(127)) << np.int32(23))


@compiled
def _cross_entropy(Z: Any, C: Any, y: Any, w: Any, n: Any, work: Any, sums: Any) -> None:
    K = Z.shape[0]
    top, total, mean, square = work[0], work[1], work[2], work[3]
    value = slope = curvature = 0.0
    for i in range(n):
        top[i] = Z[0, i]
        total[i] = mean[i] = square[i] = ZERO
    for k in range(1, K):
        for i in range(n):
            top[i] = max(top[i], Z[k, i])
    for i in range(n):
        value += w[i] * (top[i] - Z[y[i], i])
    some, part, parts = work[4], work[5], work[6]
    for first in range(0, K, CLASSES):
        for i in range(n):
            some[i] = part[i] = parts[i] = ZERO
        for k in range(first, min(first + CLASSES, K)):
            for i in range(n):
                e = exp_below_one(Z[k, i] - top[i])
                ec = e * C[k, i]
                Z[k, i] = e
                some[i] += e
                part[i] += ec
                parts[i] += ec * C[k, i]
        for i in range(n):
            total[i] += some[i]
            mean[i] += part[i]
            square[i] += parts[i]
    for i in range(n):
        share = ONE / total[i]
        value += w[i] * np.log(total[i])
        m = mean[i] * share
        slope += w[i] * (m - C[y[i], i])
        curvature += w[i] * max(square[i] * share - m * m, ZERO)
        total[i] = w[i] * share
    for k in range(K):
        for i in range(n):
            Z[k, i] *= total[i]
    for i in range(n):
        Z[y[i], i] -= w[i]
    sums[0] += value
    sums[1] += slope
    sums[2] += curvature


@compiled
def _squared_hinge(Z: Any, C: Any, y: Any, w: Any, n: Any, work: Any, sums: Any) -> None:
    value = slope = curvature = 0.0
    for i in range(n):
        # For the row's own class the score counts with its sign turned, as in `losses.hinge`.
        Z[y[i], i] = -Z[y[i], i]
        C[y[i], i] = -C[y[i], i]
    for k in range(Z.shape[0]):
        for i in range(n):
            short = max(ZERO, ONE + Z[k, i])
            value += w[i] * short * short
            slope += TWO * w[i] * short * C[k, i]
            if short > ZERO:
                curvature += TWO * w[i] * C[k, i] * C[k, i]
            Z[k, i] = TWO * w[i] * short
    for i in range(n):
        Z[y[i], i] = -Z[y[i], i]
        C[y[i], i] = -C[y[i], i]
    sums[0] += value
    sums[1] += slope
    sums[2] += curvature


@compiled
def _squared(Z: Any, C: Any, y: Any, w: Any, n: Any, work: Any, sums: Any) -> None:
    value = slope = curvature = 0.0
    for i in range(n):
        Z[y[i], i] -= ONE
    for k in range(Z.shape[0]):
        for i in range(n):
            value += HALF * w[i] * Z[k, i] * Z[k, i]
            slope += w[i] * Z[k, i] * C[k, i]
            curvature += w[i] * C[k, i] * C[k, i]
            Z[k, i] *= w[i]
    sums[0] += value
    sums[1] += slope
    sums[2] += curvature


@compiled
def differentiate(code: Any, Z: Any, C: Any, y: Any, w: Any, n: Any, work: Any, sums: Any) -> None:
    """Overwrite the first n columns of Z with the gradient of the loss with that number, and add to the sums."""
    if code == 0:
        _cross_entropy(Z, C, y, w, n, work, sums)
    elif code == 1:
        _squared_hinge(Z, C, y, w, n, work, sums)
    else:
        _squared(Z, C, y, w, n, work, sums)


@compiled
def _softmax(Z: Any, n: Any, work: Any) -> None:
    top, total = work[0], work[1]
    for i in range(n):
        top[i] = Z[0, i]
        total[i] = ZERO
    for k in range(1, Z.shape[0]):
        for i in range(n):
            top[i] = max(top[i], Z[k, i])
    some = work[4]
    for first in range(0, Z.shape[0], CLASSES):
        for i in range(n):
            some[i] = ZERO
        for k in range(first, min(first + CLASSES, Z.shape[0])):
            for i in range(n):
                e = exp_below_one(Z[k, i] - top[i])
                Z[k, i] = e
                some[i] += e
        for i in range(n):
            total[i] += some[i]
    for i in range(n):
        total[i] = ONE / total[i]
    for k in range(Z.shape[0]):
        for i in range(n):
            Z[k, i] *= total[i]


@compiled
def bend(code: Any, Z: Any, V: Any, y: Any, w: Any, n: Any, work: Any) -> None:
    """Overwrite the first n columns of V (K, n) with the weighted Hessian in z times V; Z is overwritten as well."""
    K = Z.shape[0]
    if code == 0:
        _softmax(Z, n, work)
        mean = work[2]
        for i in range(n):
            mean[i] = ZERO
        for k in range(K):
            for i in range(n):
                mean[i] += Z[k, i] * V[k, i]
        for k in range(K):
            for i in range(n):
                V[k, i] = w[i] * Z[k, i] * (V[k, i] - mean[i])
    elif code == 1:
        for i in range(n):
            Z[y[i], i] = -Z[y[i], i]
        for k in range(K):
            for i in range(n):
                V[k, i] = TWO * w[i] * V[k, i] if ONE + Z[k, i] > ZERO else ZERO
    else:
        for k in range(K):
            for i in range(n):
                V[k, i] *= w[i]


@compiled
def trace(code: Any, Z: Any, y: Any, n: Any, work: Any, out: Any) -> None:
    """Trace of the Hessian in z of the first n columns of Z (K, n), which is overwritten, into `out`."""
    K = Z.shape[0]
    if code == 0:
        _softmax(Z, n, work)
        for i in range(n):
            out[i] = ONE
        for k in range(K):
            for i in range(n):
                out[i] -= Z[k, i] * Z[k, i]
    elif code == 1:
        for i in range(n):
            Z[y[i], i] = -Z[y[i], i]
            out[i] = ZERO
        for k in range(K):
            for i in range(n):
                out[i] += TWO if ONE + Z[k, i] > ZERO else ZERO
    else:
        for i in range(n):
            out[i] = np.float32(K)
