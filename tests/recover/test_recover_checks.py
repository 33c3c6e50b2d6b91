"""Checks of settings: what is accepted passes, all else is named with what would be."""

from __future__ import annotations

import math

import pytest

from explorer.core.errors import SettingsError
from explorer.recover.checks import between, count


@pytest.mark.parametrize("value", [0, 1, 0.5, 1e-300])
def test_numbers_within_pass(value: float) -> None:
    between("alpha", value)


@pytest.mark.parametrize("value", [-1e-9, 1.0001, math.nan, math.inf, True, "0.5", None, [0.5]])
def test_what_is_no_number_within_is_refused(value: object) -> None:
    with pytest.raises(SettingsError, match="alpha=.*; accepted: a number from 0 to 1"):
        between("alpha", value)


def test_a_bound_that_is_infinite_accepts_no_infinity() -> None:
    between("clip", 1e308, 0.0, math.inf)
    with pytest.raises(SettingsError, match="clip=inf"):
        between("clip", math.inf, 0.0, math.inf)


@pytest.mark.parametrize(("value", "good"), [(3, True), (10**9, True), (2, False), (10**9 + 1, False), (3.0, False), (True, False), ("3", False)])
def test_whole_numbers(value: object, good: bool) -> None:
    if good:
        count("epochs", value, 3)
    else:
        with pytest.raises(SettingsError, match="epochs=.*; accepted: a whole number from 3"):
            count("epochs", value, 3)
