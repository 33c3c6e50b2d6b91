"""The functions of :mod:`explorer.analysis.cells`, compiled: each value is read once, where torch's own go through memory for every operation.

Short loops that write to few rows each, since a compiler has to see that these do not overlap before it does 8 or 16 entries at once.
A library's tanh would be called for each: in single precision it is a quotient of polynomials here, in this file since code that numba keeps on disk is made
anew only where its own file changed.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import overload

from .compiled import compiled

# tanh(x) = x P(x^2) / Q(x^2) for |x| <= 8, from where on it is 1 within 3e-7. P0 to P4: of 1, x^2 ... x^8, fitted for the least largest relative
# error, 7e-9; what is wrong, at most 4e-7, is rounding.
LIMIT = np.float32(8)
P0, P1, P2, P3, P4 = (np.float32(c) for c in (0.999999994, 0.134444711, 0.00357156501, 2.18940681e-05, 1.52294767e-08))
Q0, Q1, Q2, Q3, Q4 = (np.float32(c) for c in (1, 0.467777984, 0.0261643202, 0.000341123595, 8.5220881e-07))


def tanh(x: Any) -> Any:
    """The type of x is that of the result. Compiled code takes what :func:`_tanh` gives instead."""
    return np.tanh(x)


@overload(tanh, jit_options={"fastmath": {"contract"}, "error_model": "numpy"})
def _tanh(x):  # type: ignore[no-untyped-def]  # numba compares the signatures
    if x != types.float32:
        return lambda x: np.tanh(x)

    def quotient(x):  # type: ignore[no-untyped-def]  # pragma: no cover (compiled)
        x = -LIMIT if x < -LIMIT else (LIMIT if x > LIMIT else x)
        y = x * x
        above = (((P4 * y + P3) * y + P2) * y + P1) * y + P0
        below = (((Q4 * y + Q3) * y + Q2) * y + Q1) * y + Q0
        return x * above / below

    return quotient


@compiled
def lstm_cell(z: np.ndarray, added: np.ndarray, before: np.ndarray, now: np.ndarray, h: np.ndarray) -> None:  # pragma: no cover (compiled)  # fmt: skip
    size, half = now.shape[1], z.dtype.type(0.5)
    b_i, b_f, b_g, b_o = added[:size], added[size : 2 * size], added[2 * size : 3 * size], added[3 * size :]
    for k in range(len(z)):
        i, f, g, o = z[k, :size], z[k, size : 2 * size], z[k, 2 * size : 3 * size], z[k, 3 * size :]
        old, new, said = before[k], now[k], h[k]
        for j in range(size):
            i[j] = half + half * tanh(half * (i[j] + b_i[j]))
        for j in range(size):
            f[j] = half + half * tanh(half * (f[j] + b_f[j]))
        for j in range(size):
            g[j] = tanh(g[j] + b_g[j])
        for j in range(size):
            o[j] = half + half * tanh(half * (o[j] + b_o[j]))
        for j in range(size):
            new[j] = f[j] * old[j] + i[j] * g[j]
        for j in range(size):
            said[j] = o[j] * tanh(new[j])


HALF, ONE, TWO = np.float32(0.5), np.float32(1), np.float32(2)
# a division that might raise an error is made entry by entry
_as_written: Any = {"fastmath": {"contract"}, "error_model": "numpy"}
_inline: Any = njit(**_as_written)
_step: Any = partial(compiled, **_as_written)


@_inline
def _clipped(x):  # type: ignore[no-untyped-def]  # pragma: no cover (compiled)
    return -LIMIT if x < -LIMIT else (LIMIT if x > LIMIT else x)


@_inline
def _above(x):  # type: ignore[no-untyped-def]  # pragma: no cover (compiled)
    y = x * x
    return x * ((((P4 * y + P3) * y + P2) * y + P1) * y + P0)


@_inline
def _below(x):  # type: ignore[no-untyped-def]  # pragma: no cover (compiled)
    y = x * x
    return (((Q4 * y + Q3) * y + Q2) * y + Q1) * y + Q0


@_step
def lstm_step(read: np.ndarray, own: np.ndarray, added: np.ndarray, c: np.ndarray, h: np.ndarray) -> None:  # pragma: no cover (compiled)  # fmt: skip
    """A step that nobody will go back through, float32: c and h [N, H] become those after it, and own something else.

    read, own [N, 4H]: what input and state contribute to the gates; added [4H]. Quotients that are multiplied share one division.
    """
    size = c.shape[1]
    b_i, b_f, b_g, b_o = added[:size], added[size : 2 * size], added[2 * size : 3 * size], added[3 * size :]
    for k in range(len(own)):
        i, f, g, o = own[k, :size], own[k, size : 2 * size], own[k, 2 * size : 3 * size], own[k, 3 * size :]
        of_i, of_f = read[k, :size], read[k, size : 2 * size]
        of_g, of_o = read[k, 2 * size : 3 * size], read[k, 3 * size :]
        memory, said = c[k], h[k]
        for j in range(size):
            f[j] += of_f[j] + b_f[j]
        for j in range(size):
            g[j] += of_g[j] + b_g[j]
        for j in range(size):
            u, v, w = _clipped(HALF * (i[j] + of_i[j] + b_i[j])), _clipped(g[j]), _clipped(HALF * f[j])
            below = _below(u)
            new, under = (below + _above(u)) * _above(v), TWO * below * _below(v)
            below = _below(w)
            memory[j] = ((below + _above(w)) * memory[j] * under + new * TWO * below) / (TWO * below * under)
        for j in range(size):
            u, v = _clipped(HALF * (o[j] + of_o[j] + b_o[j])), _clipped(memory[j])
            below = _below(u)
            said[j] = (below + _above(u)) * _above(v) / (TWO * below * _below(v))


@_step
def gru_step(read: np.ndarray, own: np.ndarray, added: np.ndarray, more: np.ndarray, before: np.ndarray, h: np.ndarray) -> None:  # pragma: no cover (compiled)  # fmt: skip
    """As :func:`lstm_step`. added, more [3H]: of the input and of the state; before, h [N, H]: the state before and after."""
    size = h.shape[1]
    for k in range(len(own)):
        r, z, n = own[k, :size], own[k, size : 2 * size], own[k, 2 * size :]
        of_r, of_z, of_n = read[k, :size], read[k, size : 2 * size], read[k, 2 * size :]
        old, said = before[k], h[k]
        for j in range(size):
            r[j] += of_r[j] + (added[j] + more[j])
        for j in range(size):
            z[j] += of_z[j] + (added[size + j] + more[size + j])
        for j in range(size):
            u = _clipped(HALF * r[j])
            r[j] = HALF + HALF * (_above(u) / _below(u))
        for j in range(size):
            n[j] = of_n[j] + added[2 * size + j] + r[j] * (n[j] + more[2 * size + j])
        for j in range(size):
            u, v = _clipped(HALF * z[j]), _clipped(n[j])
            kept, new = HALF + HALF * (_above(u) / _below(u)), _above(v) / _below(v)
            said[j] = new + kept * (old[j] - new)


@_step
def rnn_step(read: np.ndarray, own: np.ndarray, added: np.ndarray, rectified: bool, h: np.ndarray) -> None:  # pragma: no cover (compiled)  # fmt: skip
    """As :func:`lstm_step`. added [H]; rectified: max(0, x) instead of tanh(x)."""
    size = h.shape[1]
    for k in range(len(own)):
        mine, of_input, said = own[k], read[k], h[k]
        if rectified:
            for j in range(size):
                x = mine[j] + of_input[j] + added[j]
                said[j] = np.float32(0) if x < 0 else x  # what is no number stays none
        else:
            for j in range(size):
                x = _clipped(mine[j] + of_input[j] + added[j])
                said[j] = _above(x) / _below(x)


@compiled
def lstm_back(z: np.ndarray, later: np.ndarray, own: np.ndarray, start: int, dc: np.ndarray, before: np.ndarray, now: np.ndarray) -> None:  # pragma: no cover (compiled)  # fmt: skip
    size, one = later.shape[1], z.dtype.type(1)
    for k in range(len(z)):
        i, f, g, o = z[k, :size], z[k, size : 2 * size], z[k, 2 * size : 3 * size], z[k, 3 * size :]
        of_h, more, of_c, old, new = later[k], own[k, start : start + size], dc[k], before[k], now[k]
        for j in range(size):
            d, t, v = of_h[j] + more[j], tanh(new[j]), o[j]
            of_c[j] += d * v * (one - t * t)
            o[j] = d * t * v * (one - v)
        for j in range(size):
            d, v, w = of_c[j], i[j], g[j]
            i[j] = d * w * v * (one - v)
            g[j] = d * v * (one - w * w)
        for j in range(size):
            d, v = of_c[j], f[j]
            f[j] = d * old[j] * v * (one - v)
            of_c[j] = d * v


@compiled
def gru_back(z: np.ndarray, own: np.ndarray, dh: np.ndarray, before: np.ndarray, news: np.ndarray) -> None:  # pragma: no cover (compiled)  # fmt: skip
    size, one = dh.shape[1], z.dtype.type(1)
    for k in range(len(z)):
        r, u, n, of_h = z[k, :size], z[k, size : 2 * size], z[k, 2 * size :], dh[k]
        first, second, last, old, new = own[k, :size], own[k, size : 2 * size], own[k, 2 * size :], before[k], news[k]
        for j in range(size):
            d, v, w = of_h[j], u[j], n[j]
            u[j] = (old[j] - w) * d * v * (one - v)
            n[j] = d * (one - v) * (one - w * w)
            of_h[j] = d * v
        for j in range(size):
            d, v = n[j], r[j]
            last[j] = d * v
            r[j] = d * new[j] * v * (one - v)
        for j in range(size):
            first[j] = r[j]
        for j in range(size):
            second[j] = u[j]
