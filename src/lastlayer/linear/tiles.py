"""Tiles of a product of rows with class weights, held in vector registers: LLVM instructions, written by hand.

A loop vectoriser keeps sums in registers along one loop only. Both products of a pass want a small block of results
there while the third index runs:

    scores    Z[k, i] += Σ_d W[k, d] X[i, d]     R rows × C classes of sums; d runs in vectors
    gradient  G[k, d] += Σ_i P[k, i] X[i, d]     C classes × V vectors of sums; i runs, P[k, i] in every lane

so that each number loaded is used C or R, or C or V, times, and no sum is loaded or stored on the way. Rows are read in
place: with few classes a BLAS spends its time packing them (Goto & van de Geijn 2008 say why it has to).

Everything is float32 and row-major; what is left of D at the end of a row goes through masked vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic


def _processor_has(feature: str) -> bool:
    """Whether code is compiled for processors with that feature, which `NUMBA_CPU_NAME` and `_FEATURES` may change."""
    if config.CPU_FEATURES is not None:
        return f"+{feature}" in config.CPU_FEATURES.split(",")
    return config.CPU_NAME != "generic" and bool(binding.get_host_cpu_features().get(feature))


WIDE = _processor_has("avx512f")
"""Whether there are 32 registers of 16 numbers; else 16 of 8 are assumed (fewer lanes are joined by the compiler)."""
LANES = 16 if WIDE else 8
ROWS = 4
"""Rows in a tile of scores."""
SCORE_CLASSES = (5, 2, 1) if WIDE else (2, 1)
"""Classes in tiles of scores, the most that stay in registers beside R rows and one weight first."""
VECTORS = 2
"""Vectors of columns in a tile of the gradient."""
GRADIENT_CLASSES = (10, 5, 2, 1) if WIDE else (5, 2, 1)
"""Classes in tiles of the gradient."""
COLUMNS = VECTORS * LANES
"""Columns in a tile of the gradient."""

_INT32, _INT64, _BYTE, _FLOAT = ir.IntType(32), ir.IntType(64), ir.IntType(8), ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, LANES)
_NOTHING = ir.Constant(_VECTOR, [0.0] * LANES)
_CONTRACT = ("contract",)  # a product and a sum may be one instruction, where there is one


def _int(value: int) -> Any:
    return ir.Constant(_INT64, value)


def _multiply_add(builder: Any, x: Any, y: Any, total: Any) -> Any:
    return builder.fadd(builder.fmul(x, y, flags=_CONTRACT), total, flags=_CONTRACT)


def _in_all_lanes(builder: Any, scalar: Any, element: Any) -> Any:
    vector = ir.VectorType(element, LANES)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(_INT32, 0))
    lanes = ir.Constant(ir.VectorType(_INT32, LANES), [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), lanes)


def _load(builder: Any, pointer: Any) -> Any:
    found = builder.load(builder.bitcast(pointer, _VECTOR.as_pointer()))
    found.align = 4
    return found


def _store(builder: Any, vector: Any, pointer: Any) -> None:
    builder.store(vector, builder.bitcast(pointer, _VECTOR.as_pointer())).align = 4


def _first_lanes(builder: Any, count: Any) -> Any:
    """The mask of the lanes below `count`."""
    numbers = ir.Constant(ir.VectorType(_INT64, LANES), list(range(LANES)))
    return builder.icmp_signed("<", numbers, _in_all_lanes(builder, count, _INT64))


def _masked_load(builder: Any, pointer: Any, mask: Any) -> Any:
    kind = ir.FunctionType(_VECTOR, [_VECTOR.as_pointer(), _INT32, mask.type, _VECTOR])
    load = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.load.v{LANES}f32.p0")
    return builder.call(
        load, [builder.bitcast(pointer, _VECTOR.as_pointer()), ir.Constant(_INT32, 4), mask, _NOTHING]
    )  # fmt: skip


def _masked_store(builder: Any, vector: Any, pointer: Any, mask: Any) -> None:
    kind = ir.FunctionType(ir.VoidType(), [_VECTOR, _VECTOR.as_pointer(), _INT32, mask.type])
    store = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.store.v{LANES}f32.p0")
    builder.call(store, [vector, builder.bitcast(pointer, _VECTOR.as_pointer()), ir.Constant(_INT32, 4), mask])


def _lanes_of(builder: Any, a: Any, b: Any, numbers: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_INT32, len(numbers)), numbers))


def _sums_of_lanes(builder: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """The sums of the lanes of four vectors, as a vector of four; in one order for each of them.

    Pairs of vectors are added first, within every four lanes, so that 13 instructions do for all.
    """

    def fours(first: tuple[int, ...]) -> list[int]:
        """Lane numbers of two vectors end to end, for every four lanes as for the first four."""
        return [(n if n < 4 else LANES + n - 4) + four for four in range(0, LANES, 4) for n in first]

    def added(p: Any, q: Any, low: tuple[int, ...], high: tuple[int, ...]) -> Any:
        return builder.fadd(_lanes_of(builder, p, q, fours(low)), _lanes_of(builder, p, q, fours(high)))

    ab, cd = (added(p, q, (0, 4, 1, 5), (2, 6, 3, 7)) for p, q in ((a, b), (c, d)))
    total = added(ab, cd, (0, 1, 4, 5), (2, 3, 6, 7))
    while (half := total.type.count // 2) >= 4:
        nothing = ir.Constant(total.type, ir.Undefined)
        low, high = (_lanes_of(builder, total, nothing, list(range(start, start + half))) for start in (0, half))
        total = builder.fadd(low, high)
    return total


def _prefetch(builder: Any, pointer: Any) -> None:
    """Ask for a cache line, into the second level, to be read."""
    kind = ir.FunctionType(ir.VoidType(), [_BYTE.as_pointer(), _INT32, _INT32, _INT32])
    fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    read, second_level, data = (ir.Constant(_INT32, value) for value in (0, 2, 1))
    builder.call(fetch, [builder.bitcast(pointer, _BYTE.as_pointer()), read, second_level, data])


@intrinsic  # type: ignore[untyped-decorator]
def ask_for(_context: Any, A: Any, row: Any, column: Any) -> Any:
    """For compiled code: ask for the cache line of one number of a matrix; nothing else is changed by it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        A, row, column = arguments
        _prefetch(builder, _Matrix(context, builder, signature.args[0], A).at(row, column))
        return context.get_dummy_value()

    return types.void(A, types.intp, types.intp), generate


class _Matrix:
    """A two-dimensional array of the compiled code: where its numbers are."""

    def __init__(self, context: Any, builder: Any, kind: Any, value: Any) -> None:
        array = context.make_array(kind)(context, builder, value)
        self.builder, self.data = builder, array.data
        self.columns = cgutils.unpack_tuple(builder, array.shape)[1]

    def at(self, row: Any, column: Any) -> Any:
        """Pointer to one number."""
        builder = self.builder
        return builder.gep(self.data, [builder.add(builder.mul(row, self.columns), column)])


def score_tile(rows: int, classes: int) -> Any:
    """For compiled code: ``out[k + c, i + r] += W[k + c] · X[i + r]`` for c < classes, r < rows; rows is 1 or 4.

    Only the columns `first` … `last` count.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        X, W, out = (_Matrix(context, builder, signature.args[n], arguments[n]) for n in (0, 2, 4))
        i, k, first, last = arguments[1], arguments[3], arguments[5], arguments[6]
        x = [X.at(builder.add(i, _int(r)), _int(0)) for r in range(rows)]
        w = [W.at(builder.add(k, _int(c)), _int(0)) for c in range(classes)]
        sums = [[cgutils.alloca_once_value(builder, _NOTHING) for _ in x] for _ in w]

        def step(load: Callable[[Any], Any]) -> None:
            loaded = [load(p) for p in x]
            for weight, row in zip(w, sums):
                value = load(weight)
                for u, total in zip(loaded, row):
                    builder.store(_multiply_add(builder, u, value, builder.load(total)), total)

        width = builder.sub(last, first)
        whole, rest = builder.udiv(width, _int(LANES)), builder.urem(width, _int(LANES))
        with cgutils.for_range(builder, whole) as loop:
            start = builder.add(first, builder.mul(loop.index, _int(LANES)))
            step(lambda p: _load(builder, builder.gep(p, [start])))
        with builder.if_then(builder.icmp_unsigned("!=", rest, _int(0))):
            mask = _first_lanes(builder, rest)
            start = builder.add(first, builder.mul(whole, _int(LANES)))
            step(lambda p: _masked_load(builder, builder.gep(p, [start]), mask))
        for c, row in enumerate(sums):
            loaded = [builder.load(total) for total in row]
            found = _sums_of_lanes(builder, *(loaded if rows == 4 else 4 * loaded))
            if rows == 1:
                found = builder.extract_element(found, ir.Constant(_INT32, 0))
            target = builder.bitcast(out.at(builder.add(k, _int(c)), i), found.type.as_pointer())
            before = builder.load(target)
            before.align = 4
            builder.store(builder.fadd(before, found), target).align = 4
        return context.get_dummy_value()

    @intrinsic  # type: ignore[untyped-decorator]
    def tile(_context: Any, X: Any, i: Any, W: Any, k: Any, out: Any, first: Any, last: Any) -> Any:
        return types.void(X, types.intp, W, types.intp, out, types.intp, types.intp), generate

    return tile


def gradient_tile(classes: int) -> Any:
    """For compiled code: ``G[k + c, d + j] += Σ_i P[k + c, i] X[i, d + j]``, i < n, c < classes, j < `COLUMNS`.

    Asks for the same columns of the rows `ahead` further on (0: for none), so that memory works, too.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        X, P, G = (_Matrix(context, builder, signature.args[n], arguments[n]) for n in (0, 2, 4))
        n, k, d, ahead = arguments[1], arguments[3], arguments[5], arguments[6]
        left = builder.sub(X.columns, d)

        def run(load: Callable[[Any, int], Any], store: Callable[[Any, Any, int], None]) -> None:
            columns = [builder.add(d, _int(v * LANES)) for v in range(VECTORS)]
            places = [[G.at(builder.add(k, _int(c)), column) for column in columns] for c in range(classes)]
            sums = [
                [cgutils.alloca_once_value(builder, load(p, v)) for v, p in enumerate(row)] for row in places
            ]  # fmt: skip
            p = [P.at(builder.add(k, _int(c)), _int(0)) for c in range(classes)]
            with cgutils.for_range(builder, n) as loop:
                with builder.if_then(builder.icmp_unsigned("!=", ahead, _int(0))):
                    for column in columns:
                        _prefetch(builder, X.at(builder.add(loop.index, ahead), column))
                u = [load(X.at(loop.index, column), v) for v, column in enumerate(columns)]
                for pointer, row in zip(p, sums):
                    share = _in_all_lanes(builder, builder.load(builder.gep(pointer, [loop.index])), _FLOAT)
                    for value, total in zip(u, row):
                        builder.store(_multiply_add(builder, value, share, builder.load(total)), total)
            for row, targets in zip(sums, places):
                for v, (total, target) in enumerate(zip(row, targets)):
                    store(builder.load(total), target, v)

        with builder.if_else(builder.icmp_unsigned(">=", left, _int(COLUMNS))) as (whole, part):
            with whole:
                run(lambda q, _: _load(builder, q), lambda value, q, _: _store(builder, value, q))
            with part:
                masks = [_first_lanes(builder, builder.sub(left, _int(v * LANES))) for v in range(VECTORS)]
                run(
                    lambda q, v: _masked_load(builder, q, masks[v]),
                    lambda value, q, v: _masked_store(builder, value, q, masks[v]),
                )
        return context.get_dummy_value()

    @intrinsic  # type: ignore[untyped-decorator]
    def tile(_context: Any, X: Any, n: Any, P: Any, k: Any, G: Any, d: Any, ahead: Any) -> Any:
        return types.void(X, types.intp, P, types.intp, G, types.intp, types.intp), generate

    return tile
