"""Compiled sums of differences: a block of queries against a block of the database, four rows at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from lastlayer._compiled import compiled

ZERO = np.float32(0)


@intrinsic  # type: ignore[untyped-decorator]
def gap(_context: Any, _x: Any, _y: Any) -> Any:
    """``|x - y|`` of two bytes as an int32: the language would widen it to 64 bits, half as many at a time."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        from llvmlite import ir

        word = ir.IntType(32)
        difference = builder.sub(*(builder.zext(argument, word) for argument in arguments))
        opposite = builder.sub(ir.Constant(word, 0), difference)
        return builder.select(builder.icmp_signed("<", difference, ir.Constant(word, 0)), opposite, difference)

    return types.int32(types.uint8, types.uint8), generate


@intrinsic  # type: ignore[untyped-decorator]
def plus(_context: Any, _x: Any, _y: Any) -> Any:
    """Sum of two int32 as an int32."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.add(*arguments)

    return types.int32(types.int32, types.int32), generate


@compiled
def city_block(X: Any, Y: Any, out: Any) -> None:
    """``out[i, j] = Σ|xᵢ - yⱼ|`` in float32; four rows at a time, whose sums stay in registers."""
    whole = Y.shape[0] - Y.shape[0] % 4
    for j in range(0, whole, 4):
        y0, y1, y2, y3 = Y[j], Y[j + 1], Y[j + 2], Y[j + 3]
        for i in range(X.shape[0]):
            x = X[i]
            a0 = a1 = a2 = a3 = ZERO
            for d in range(x.size):
                v = x[d]
                a0 += abs(v - y0[d])
                a1 += abs(v - y1[d])
                a2 += abs(v - y2[d])
                a3 += abs(v - y3[d])
            out[i, j] = a0
            out[i, j + 1] = a1
            out[i, j + 2] = a2
            out[i, j + 3] = a3
    for j in range(whole, Y.shape[0]):
        for i in range(X.shape[0]):
            a0 = ZERO
            for d in range(X.shape[1]):
                a0 += abs(X[i, d] - Y[j, d])
            out[i, j] = a0


@compiled
def city_block_bytes(X: Any, Y: Any, out: Any) -> None:
    """`city_block` of uint8 rows, exact: processors have an instruction for sums of differences of bytes."""
    whole = Y.shape[0] - Y.shape[0] % 4
    for j in range(0, whole, 4):
        y0, y1, y2, y3 = Y[j], Y[j + 1], Y[j + 2], Y[j + 3]
        for i in range(X.shape[0]):
            x = X[i]
            a0 = a1 = a2 = a3 = np.int32(0)
            for d in range(x.size):
                v = x[d]
                a0 = plus(a0, gap(v, y0[d]))
                a1 = plus(a1, gap(v, y1[d]))
                a2 = plus(a2, gap(v, y2[d]))
                a3 = plus(a3, gap(v, y3[d]))
            out[i, j] = a0
            out[i, j + 1] = a1
            out[i, j + 2] = a2
            out[i, j + 3] = a3
    for j in range(whole, Y.shape[0]):
        for i in range(X.shape[0]):
            a0 = np.int32(0)
            for d in range(X.shape[1]):
                a0 = plus(a0, gap(X[i, d], Y[j, d]))
            out[i, j] = a0


@compiled
def cubes(X: Any, Y: Any, out: Any) -> None:
    """``out[i, j] = Σ|xᵢ - yⱼ|³`` in float32."""
    whole = Y.shape[0] - Y.shape[0] % 4
    for j in range(0, whole, 4):
        y0, y1, y2, y3 = Y[j], Y[j + 1], Y[j + 2], Y[j + 3]
        for i in range(X.shape[0]):
            x = X[i]
            a0 = a1 = a2 = a3 = ZERO
            for d in range(x.size):
                v = x[d]
                u0, u1, u2, u3 = abs(v - y0[d]), abs(v - y1[d]), abs(v - y2[d]), abs(v - y3[d])
                a0 += u0 * u0 * u0
                a1 += u1 * u1 * u1
                a2 += u2 * u2 * u2
                a3 += u3 * u3 * u3
            out[i, j] = a0
            out[i, j + 1] = a1
            out[i, j + 2] = a2
            out[i, j + 3] = a3
    for j in range(whole, Y.shape[0]):
        for i in range(X.shape[0]):
            a0 = ZERO
            for d in range(X.shape[1]):
                u0 = abs(X[i, d] - Y[j, d])
                a0 += u0 * u0 * u0
            out[i, j] = a0
