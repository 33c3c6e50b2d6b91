"""Numbers as people read them."""

from __future__ import annotations

import math

from explorer.core.report import FRACTIONS


def size(nbytes: float) -> str:
    """1,066,440 -> "1.07 MB" (powers of ten)."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if nbytes >= 0.9995 * scale:
            return f"{significant(nbytes / scale)} {unit}"
    return f"{nbytes:.0f} B"


def count(value: float) -> str:
    """266,610 -> "267 k"."""
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= 0.9995 * scale:
            return f"{significant(value / scale)} {unit}"
    return f"{value:.0f}"


def significant(value: float, digits: int = 3) -> str:
    """Three significant digits, without an exponent."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else ("∞" if value > 0 else str(value))
    rounded = abs(float(f"{value:.{digits - 1}e}"))  # 0.9999 has as many places as 1
    places = max(0, digits - 1 - math.floor(math.log10(rounded)))
    return f"{value:,.{places}f}"


def percent(value: float, places: int = 1) -> str:
    """0.8713 -> "87.1 %"."""
    return f"{100 * value:.{places}f} %"


def is_fraction(name: str) -> bool:
    """Whether a metric is shown in percent."""
    return name in FRACTIONS


def metric(name: str, value: float) -> str:
    """A metric's value as shown: percent for fractions, else three or four digits."""
    if not math.isfinite(value):
        return "∞" if value > 0 else "–"
    return percent(value) if is_fraction(name) else f"{value:.3f}" if abs(value) < 100 else f"{value:,.1f}"


def change(name: str, value: float, low: float | None = None, high: float | None = None) -> str:
    """A metric's change with its sign: points for fractions; beside an interval with as many places as its half width."""
    if not math.isfinite(value):
        return "+∞" if value > 0 else "–"
    if is_fraction(name):
        return f"{_signed(100 * value, 1)} pt"
    return _signed(value, max(3, len(half_width(name, low, high).partition(".")[2])) if abs(value) < 100 else 1)


def _signed(value: float, places: int) -> str:
    """No direction where the digits shown are all zero."""
    shown = f"{abs(value):,.{places}f}"
    return f"{'±' if not shown.strip('0.') else '+' if value > 0 else '−'}{shown}"


def half_width(name: str, low: float | None, high: float | None) -> str:
    """Half of an interval's width, "± 0.3", or nothing."""
    if low is None or high is None:
        return ""
    half = (high - low) / 2
    return f"± {100 * half:.1f}" if is_fraction(name) else f"± {significant(half, 2)}"


def times(before: float, after: float) -> str:
    """1,066 kB -> 76 kB: "13.9×"."""
    found = before / after if after else math.inf
    return f"{found:.{3 if 1 < found < 1.1 else 1}f}×" if after else "∞"


def duration(seconds: float) -> str:
    """75.2 -> "1 min 15 s"."""
    if seconds < 59.5:
        return f"{seconds:.0f} s" if seconds >= 9.5 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
