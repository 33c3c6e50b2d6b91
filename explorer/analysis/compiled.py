"""Functions compiled by numba, without Python's lock while they run, kept on disk where that can be written to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F, **how: Any) -> F:
    """The function in machine code, made at its first call with new types; how: numba's further options."""
    try:
        return njit(nogil=True, cache=True, **how)(function)  # type: ignore[return-value]
    except RuntimeError:  # neither beside the source nor in the user's folder: compiled once a process
        return njit(nogil=True, **how)(function)  # type: ignore[return-value]
