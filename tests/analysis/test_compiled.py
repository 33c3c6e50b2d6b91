"""Compiled code where nothing can be kept on disk."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from explorer.analysis import compiled as module


def test_without_a_place_to_keep_it_the_code_is_compiled_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, bool]] = []

    def njit(**how: bool) -> object:
        asked.append(how)
        if how.get("cache"):
            return lambda _: (_ for _ in ()).throw(RuntimeError("cannot cache function: no locator available"))
        return numba.njit(**how)

    monkeypatch.setattr(module, "njit", njit)

    @module.compiled
    def total(values: np.ndarray) -> int:
        found = 0
        for i in range(values.size):
            found += values[i]
        return found

    assert total(np.arange(10)) == 45 and asked == [{"nogil": True, "cache": True}, {"nogil": True}]
