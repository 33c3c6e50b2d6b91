"""Checks of the settings of a training, of its schedules and of distillation, and the errors that name them."""

from __future__ import annotations

import math

from ..core.checks import shown, whole
from ..core.errors import SettingsError
from ..core.message import say


def between(name: str, value: object, low: float = 0.0, high: float = 1.0) -> None:
    """Raises :class:`SettingsError` for what is no finite number from ``low`` to ``high``."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not low <= value <= high or not math.isfinite(value):  # type: ignore[operator, arg-type]
        raise SettingsError(
            say(
                "{name}={value}; accepted: a number from {low:g} to {high:g}",
                name=name,
                value=shown(value),
                low=low,
                high=high,
            )
        )


def count(name: str, value: object, least: int = 1) -> None:
    """Raises :class:`SettingsError` for what is no whole number from ``least`` to a thousand million."""
    if not whole(value) or not least <= value <= 10**9:  # type: ignore[operator]
        raise SettingsError(
            say("{name}={value}; accepted: a whole number from {least}", name=name, value=shown(value), least=least)
        )
