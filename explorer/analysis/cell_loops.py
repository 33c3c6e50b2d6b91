"""The functions of :mod:`explorer.analysis.cells`, compiled: each value is read once, where torch's own go through memory for every operation.

Short loops that write to few rows each, since a compiler has to see that these do not overlap before it does 8 or 16 entries at once.
A library's tanh would be called for each: in single precision it is a quotient of polynomials here, in this file since code that numba keeps on disk is made
anew only where its own file changed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
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
