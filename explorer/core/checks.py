"""Checks of what a rule is given, and the errors that name it."""

from __future__ import annotations

import math
import reprlib
from typing import Any

from .errors import RecipeError
from .message import say

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


def shown(value: object) -> str:
    """``repr`` for a message: short, also of what is huge or deeply nested."""
    return _SHORT.repr(value)


def place(rule: str, targets: tuple[str, ...]) -> str:
    """A rule, for a message: ``prune(fc1, fc2)``."""
    named = ", ".join(targets)
    return f"{rule}({named if len(named) <= 200 else named[:200] + '...'})"


def wrong(where: str, what: str) -> RecipeError:
    """The error of a rule, or of a place in a file."""
    return RecipeError(say("{where}: {what}", where=where, what=what))


def is_text(value: object) -> bool:
    """Whether a value is a text that UTF-8 can hold (a lone surrogate cannot be hashed or written to a file)."""
    try:
        return isinstance(value, str) and bool(value.encode() or True)
    except UnicodeEncodeError:
        return False


def number(name: str, value: object, where: str, accepted: str) -> float:
    """A finite number, or an error that says what would be accepted."""
    try:
        found = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise wrong(
            where,
            say(
                "{name}={value} is not a finite number; accepted: {accepted}",
                name=name,
                value=shown(value),
                accepted=accepted,
            ),
        )
    return found + 0.0  # -0.0 and 0.0 are one value, and one digest


def whole(value: object) -> bool:
    """Whether a value is an int, and no bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def choice(name: str, value: object, where: str, accepted: tuple[str, ...]) -> None:
    """Refuse a value that is none of the accepted ones."""
    if value not in accepted:
        raise wrong(
            where,
            say("{name}={value}; accepted: {accepted}", name=name, value=shown(value), accepted=", ".join(accepted)),
        )


def as_targets(targets: object, name: str = "targets", *, empty: bool = False) -> tuple[str, ...]:
    """A name, a pattern or a list of these, as a tuple. name: what the caller calls it; empty: whether the list may be."""
    found = (targets,) if isinstance(targets, str) else targets
    try:
        listed: tuple[Any, ...] = tuple(found)  # type: ignore[arg-type]
    except TypeError:
        listed, empty = (), False
    if not (listed or empty) or not all(one and is_text(one) for one in listed):
        raise RecipeError(
            say(
                "{name}={targets}; accepted: a parameter or module name, a pattern, or a list of these",
                name=name, targets=shown(targets),
            )
        )  # fmt: skip
    return listed
