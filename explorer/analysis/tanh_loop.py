"""tanh for compiled loops: in single precision a quotient of polynomials, which a core works out for 8 or 16 at once; a library's would be called for each."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

# tanh(x) = x P(x^2) / Q(x^2) for |x| <= 8, where the rest is 1 to the last bit. Of 1, x^2 ... x^8, fitted for the least largest relative error: 7e-9,
# so that what is wrong, at most 4e-7, is rounding.
LIMIT = np.float32(8)
P = tuple(np.float32(c) for c in (0.999999994, 0.134444711, 0.00357156501, 2.18940681e-05, 1.52294767e-08))
Q = tuple(np.float32(c) for c in (1, 0.467777984, 0.0261643202, 0.000341123595, 8.5220881e-07))
P0, P1, P2, P3, P4 = P
Q0, Q1, Q2, Q3, Q4 = Q


def tanh(x: Any) -> Any:
    """In compiled code only; the type of x is that of the result."""
    raise NotImplementedError


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
