"""The loops of :mod:`explorer.analysis.reductions`, compiled. Inner loops go along the memory and add to rows, which a core does 8 or 16 at once."""

from __future__ import annotations

import numpy as np

from .compiled import compiled

ROWS, COLUMNS = 256, 1024  # added up in the values' own type before float64 takes over; what a core's first cache holds


@compiled
def moments(x: np.ndarray, found: np.ndarray) -> None:  # pragma: no cover (compiled)
    rows, columns = x.shape
    total, absolute = np.zeros(COLUMNS, x.dtype), np.zeros(COLUMNS, x.dtype)
    zero, one = x.dtype.type(0), x.dtype.type(1)  # of the same type as what is added up, for 8 or 16 at once
    squares, nonzero = np.zeros(COLUMNS, x.dtype), np.zeros(COLUMNS, x.dtype)
    for left in range(0, columns, COLUMNS):
        width = min(COLUMNS, columns - left)
        for top in range(0, rows, ROWS):
            total[:], absolute[:], squares[:], nonzero[:] = 0, 0, 0, 0
            for i in range(top, min(top + ROWS, rows)):
                row = x[i, left : left + width]
                for j in range(width):
                    v = row[j]
                    total[j] += v
                    absolute[j] += abs(v)
                    squares[j] += v * v
                    nonzero[j] += one if v != zero else zero
            for j in range(width):
                found[0, left + j] += total[j]
                found[1, left + j] += absolute[j]
                found[2, left + j] += squares[j]
                found[3, left + j] += nonzero[j]


@compiled
def products(x: np.ndarray, y: np.ndarray, found: np.ndarray) -> None:  # pragma: no cover (compiled)
    outer, samples, inner, features = x.shape
    part = np.zeros(features, x.dtype)
    for a in range(outer):
        for n in range(samples):
            for top in range(0, inner, ROWS):
                part[:] = 0
                for b in range(top, min(top + ROWS, inner)):
                    first, second = x[a, n, b], y[a, n, b]
                    for f in range(features):
                        part[f] += first[f] * second[f]
                for f in range(features):
                    found[n, f] += part[f]
