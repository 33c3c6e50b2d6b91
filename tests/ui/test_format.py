from __future__ import annotations

import math

import pytest

from explorer.ui import format as fmt


@pytest.mark.parametrize("n,text", [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (1_066_440, "1.07 MB"), (76_500, "76.5 kB"), (2.5e9, "2.50 GB"), (999_999, "1.00 MB")])
def test_sizes_are_powers_of_ten(n: float, text: str) -> None:
    assert fmt.size(n) == text


@pytest.mark.parametrize("n,text", [(0, "0"), (41, "41"), (266_610, "267 k"), (2_293_000, "2.29 M"), (1_500_000_000, "1.50 G"), (999_999, "1.00 M")])
def test_counts(n: float, text: str) -> None:
    assert fmt.count(n) == text


@pytest.mark.parametrize("value,text", [(0.0, "0"), (0.012345, "0.0123"), (1.5, "1.50"), (12345.6, "12,346"), (9.999, "10.0"), (-0.5, "-0.500"), (math.inf, "∞"), (-math.inf, "-inf")])
def test_three_digits_without_an_exponent(value: float, text: str) -> None:
    assert fmt.significant(value) == text


@pytest.mark.parametrize(
    "name,value,text",
    [("accuracy", 0.8713, "87.1 %"), ("r2", 0.953, "0.953"), ("loss", 0.2345, "0.234"), ("perplexity", 123.45, "123.5"), ("loss", math.inf, "∞"), ("loss", math.nan, "–")],
)
def test_metrics(name: str, value: float, text: str) -> None:
    assert fmt.metric(name, value) == text


@pytest.mark.parametrize(
    "name,value,text",
    [("accuracy", 0.0123, "+1.2 pt"), ("accuracy", -0.5, "−50.0 pt"), ("accuracy", 0.0, "±0.0 pt"), ("loss", -0.25, "−0.250"), ("loss", 250.0, "+250.0"), ("loss", math.inf, "+∞"), ("loss", math.nan, "–")],
)
def test_changes_have_a_sign_and_points(name: str, value: float, text: str) -> None:
    assert fmt.change(name, value) == text


def test_a_change_that_rounds_to_nothing_has_no_direction_and_beside_an_interval_as_many_places() -> None:
    assert fmt.change("accuracy", -0.0002) == "±0.0 pt" and fmt.change("loss", -0.0002) == "±0.000"
    assert fmt.change("loss", -0.0002, -0.0033, 0.0029) == "−0.0002" and fmt.half_width("loss", -0.0033, 0.0029) == "± 0.0031"
    assert fmt.change("loss", 0.25, -4.0, 4.5) == "+0.250" and fmt.change("perplexity", 1234.5, 1200, 1300) == "+1,234.5"


def test_half_of_an_interval() -> None:
    assert fmt.half_width("accuracy", -0.012, 0.004) == "± 0.8"
    assert fmt.half_width("loss", 0.0, 0.05) == "± 0.025"
    assert fmt.half_width("loss", None, 0.05) == ""


def test_how_many_times_smaller() -> None:
    assert (fmt.times(1000, 80), fmt.times(1017, 1000), fmt.times(1, 0)) == ("12.5×", "1.017×", "∞")
