"""Attention of few tokens, compiled: a library's begins anew for every head of every sample, which there takes longer than the work.

Sixteen numbers at a time. numba's own loops do not become vectors here, since its compiler cannot see that arrays do not overlap; so these are
intrinsics, written in LLVM's vectors, which every processor has in its own width. They take arrays, places in them and steps between. Arrays
of 16 bit hold bfloat16: they are read and written as such, and computed with in float32. All in one file, since code that numba keeps on disk is
made anew only where its own file changed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .compiled import compiled

_intrinsic: Any = intrinsic
LANES = 16
ROWS = 4  # whose sums are kept in registers together, so that what is read serves all of them
FLOAT, HALF, WORD = ir.FloatType(), ir.IntType(16), ir.IntType(32)
VECTOR = ir.VectorType(FLOAT, LANES)
WORDS, HALVES = ir.VectorType(WORD, LANES), ir.VectorType(HALF, LANES)
AT = types.intp


def _all(value: float, kind: Any = VECTOR) -> Any:
    """A vector of one number."""
    return ir.Constant(kind, [value] * LANES)


def _data(context: Any, builder: Any, signature: Any, args: Any, *which: int) -> list[Any]:
    """Pointers to the data of some of an intrinsic's arrays."""
    return [context.make_array(signature.args[i])(context, builder, args[i]).data for i in which]


def _at(builder: Any, start: Any, step: Any, times: int) -> Any:
    return builder.add(start, builder.mul(step, ir.Constant(step.type, times)))


def _read(builder: Any, data: Any, at: Any) -> Any:
    """LANES numbers from a place on."""
    place = builder.gep(data, [at])
    if data.type.pointee == HALF:
        halves = builder.load(builder.bitcast(place, HALVES.as_pointer()), align=2)
        return builder.bitcast(builder.shl(builder.zext(halves, WORDS), _all(16, WORDS)), VECTOR)
    return builder.load(builder.bitcast(place, VECTOR.as_pointer()), align=4)


def _read_for_all(builder: Any, data: Any, at: Any) -> Any:
    """The number at a place in all lanes."""
    value = builder.load(builder.gep(data, [at]))
    if data.type.pointee == HALF:
        value = builder.bitcast(builder.shl(builder.zext(value, WORD), ir.Constant(WORD, 16)), FLOAT)
    nothing = ir.Constant(VECTOR, ir.Undefined)
    first = builder.insert_element(nothing, value, ir.Constant(WORD, 0))
    return builder.shuffle_vector(first, nothing, _all(0, WORDS))


def _write(builder: Any, value: Any, data: Any, at: Any) -> None:
    """LANES numbers from a place on; bfloat16 rounded to nearest, ties to even, as torch does; what is no number stays none."""
    place = builder.gep(data, [at])
    if data.type.pointee != HALF:
        builder.store(value, builder.bitcast(place, VECTOR.as_pointer()), align=4)
        return
    bits = builder.bitcast(value, WORDS)
    odd = builder.and_(builder.lshr(bits, _all(16, WORDS)), _all(1, WORDS))
    up = builder.add(bits, builder.add(odd, _all(0x7FFF, WORDS)))
    up = builder.select(builder.fcmp_unordered("uno", value, value), _all(0x7FC00000, WORDS), up)
    halves = builder.trunc(builder.lshr(up, _all(16, WORDS)), HALVES)
    builder.store(halves, builder.bitcast(place, HALVES.as_pointer()), align=2)


def _sum(builder: Any, x: Any, y: Any, z: Any) -> Any:
    """x y + z, at once where the processor can."""
    at_once = ("contract",)
    return builder.fadd(builder.fmul(x, y, flags=at_once), z, flags=at_once)


@_intrinsic
def turned(typing, x, at, row, last, out, out_at, out_row):  # type: ignore[no-untyped-def]  # numba compares the signatures
    """out[d, t] = x[min(t, last), d] for d, t < LANES; rows are ``row`` and ``out_row`` apart."""

    def code(context, builder, signature, args):  # type: ignore[no-untyped-def]
        x, out = _data(context, builder, signature, args, 0, 4)
        _, at, row, last, _, out_at, out_row = args
        lines = []
        for t in range(LANES):
            which = ir.Constant(last.type, t)
            which = builder.select(builder.icmp_signed("<", which, last), which, last)
            lines.append(_read(builder, x, builder.add(at, builder.mul(row, which))))
        half = LANES // 2
        while half:  # blocks of this size change places, then those within them
            for t in range(LANES):
                if not t & half:
                    one, two = lines[t], lines[t + half]
                    low = [i if not i & half else LANES + i - half for i in range(LANES)]
                    high = [i + half if not i & half else LANES + i for i in range(LANES)]
                    lines[t] = builder.shuffle_vector(one, two, ir.Constant(WORDS, low))
                    lines[t + half] = builder.shuffle_vector(one, two, ir.Constant(WORDS, high))
            half //= 2
        for d in range(LANES):
            _write(builder, lines[d], out, _at(builder, out_at, out_row, d))
        return context.get_dummy_value()

    return types.void(x, AT, AT, AT, out, AT, AT), code


@_intrinsic
def products(typing, x, at, row, last, step, depth, m, m_at, m_row, out, out_at, out_row):  # type: ignore[no-untyped-def]
    """out[r, :LANES] = sum over d < depth of x[r, d] m[d, :LANES] for r < ROWS, where min(r, last) stands for r.

    x[r, d] lies at ``at + r row + d step``.
    """

    def code(context, builder, signature, args):  # type: ignore[no-untyped-def]
        x, m, out = _data(context, builder, signature, args, 0, 6, 9)
        _, at, row, last, step, depth, _, m_at, m_row, _, out_at, out_row = args
        which = []
        for r in range(ROWS):
            one = ir.Constant(last.type, r)
            which.append(builder.select(builder.icmp_signed("<", one, last), one, last))
        starts = [builder.add(at, builder.mul(row, one)) for one in which]
        sums = [cgutils.alloca_once_value(builder, _all(0.0)) for _ in range(ROWS)]
        with cgutils.for_range(builder, depth) as loop:
            line = _read(builder, m, builder.add(m_at, builder.mul(m_row, loop.index)))
            further = builder.mul(step, loop.index)
            for start, total in zip(starts, sums, strict=True):
                value = _read_for_all(builder, x, builder.add(start, further))
                builder.store(_sum(builder, value, line, builder.load(total)), total)
        for one, total in zip(which, sums, strict=True):
            _write(builder, builder.load(total), out, builder.add(out_at, builder.mul(out_row, one)))
        return context.get_dummy_value()

    return types.void(x, AT, AT, AT, AT, AT, m, AT, AT, out, AT, AT), code


# exp(f ln 2) for |f| <= 0.5: its series, of which what is left out is below 2e-7
SERIES = [1.0, 0.69314718056, 0.24022650696, 0.05550410866, 0.00961812911, 0.00133335581, 0.00015403530]
LOG2E = 1.44269504089


def _exp(builder: Any, x: Any) -> Any:
    """exp of what is at most zero: 2^n by the exponent's bits, the rest by its series. What is no number stays none."""
    y = builder.fmul(x, _all(LOG2E))
    y = builder.select(builder.fcmp_ordered("olt", y, _all(-126.0)), _all(-126.0), y)
    floor = cgutils.get_or_insert_function(builder.module, ir.FunctionType(VECTOR, [VECTOR]), f"llvm.floor.v{LANES}f32")
    n = builder.call(floor, [builder.fadd(y, _all(0.5))])
    f, power = builder.fsub(y, n), _all(SERIES[-1])
    for factor in reversed(SERIES[:-1]):
        power = _sum(builder, power, f, _all(factor))
    whole = builder.select(builder.fcmp_ordered("ord", n, n), n, _all(0.0))
    bits = builder.shl(builder.add(builder.fptosi(whole, WORDS), _all(127, WORDS)), _all(23, WORDS))
    return builder.fmul(power, builder.bitcast(bits, VECTOR))


@_intrinsic
def softmax(typing, x, at, row, count):  # type: ignore[no-untyped-def]
    """x[:count, :LANES] in place: each column's exponentials over their sum. float32."""

    def code(context, builder, signature, args):  # type: ignore[no-untyped-def]
        (x,) = _data(context, builder, signature, args, 0)
        _, at, row, count = args
        largest = cgutils.alloca_once_value(builder, _read(builder, x, at))
        total = cgutils.alloca_once_value(builder, _all(0.0))

        def place(index: Any) -> Any:
            return builder.add(at, builder.mul(row, index))

        with cgutils.for_range(builder, count) as loop:
            value, best = _read(builder, x, place(loop.index)), builder.load(largest)
            builder.store(builder.select(builder.fcmp_ordered("ogt", value, best), value, best), largest)
        with cgutils.for_range(builder, count) as loop:
            value = _exp(builder, builder.fsub(_read(builder, x, place(loop.index)), builder.load(largest)))
            _write(builder, value, x, place(loop.index))
            builder.store(builder.fadd(builder.load(total), value), total)
        factor = builder.fdiv(_all(1.0), builder.load(total))
        with cgutils.for_range(builder, count) as loop:
            _write(builder, builder.fmul(_read(builder, x, place(loop.index)), factor), x, place(loop.index))
        return context.get_dummy_value()

    return types.void(x, AT, AT, AT), code


@compiled
def attend(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, out: np.ndarray, at: tuple[int, ...], sizes: tuple[int, ...], scale: float
) -> None:  # pragma: no cover (compiled)
    """out = softmax(q k^T scale) v for every head of every sample.

    q, k, v, out: all of their memory in one dimension, float32, or uint16 that holds bfloat16. at: how far samples, heads and tokens of each are
    apart. sizes: (samples, heads, tokens, channels), the last a multiple of LANES.
    """
    samples, heads, tokens, channels = sizes
    q_sample, q_head, q_token, k_sample, k_head, k_token, v_sample, v_head, v_token, o_sample, o_head, o_token = at
    factor = np.float32(scale)
    wide = (tokens + LANES - 1) // LANES * LANES
    turned_q = np.empty(channels * wide, np.float32)
    weights = np.empty(wide * wide, np.float32)
    for b in range(samples):
        for h in range(heads):
            start = b * q_sample + h * q_head
            for t in range(0, tokens, LANES):
                for d in range(0, channels, LANES):
                    turned(q, start + t * q_token + d, q_token, tokens - 1 - t, turned_q, d * wide + t, wide)
            for i in range(channels * wide):
                turned_q[i] *= factor
            start = b * k_sample + h * k_head
            for j in range(0, tokens, ROWS):
                for i in range(0, wide, LANES):
                    products(k, start + j * k_token, k_token, tokens - 1 - j, 1, channels, turned_q, i, wide, weights, j * wide + i, wide)
            for i in range(0, wide, LANES):
                softmax(weights, i, wide, tokens)
            start, into = b * v_sample + h * v_head, b * o_sample + h * o_head
            for i in range(0, tokens, ROWS):
                for d in range(0, channels, LANES):
                    products(weights, i, 1, tokens - 1 - i, wide, tokens, v, start + d, v_token, out, into + i * o_token + d, o_token)
