"""Numbers of things in words: one of them, or several."""

from __future__ import annotations

from . import format as fmt
from .i18n import _


def epochs(n: int) -> str:
    """1 -> "1 epoch"."""
    return _("1 epoch") if n == 1 else _("{epochs} epochs", epochs=n)


def evaluations(n: int) -> str:
    """3 -> "3 evaluations"."""
    return _("1 evaluation") if n == 1 else _("{evaluations} evaluations", evaluations=n)


def parameters(n: int) -> str:
    """431080 -> "431 k parameters"."""
    return _("1 parameter") if n == 1 else _("{n} parameters", n=fmt.count(n))


def size(n: int, layers: int) -> str:
    """(431080, 4) -> "431 k parameters in 4 layers"."""
    said = parameters(n)
    return (
        _("{parameters} in 1 layer", parameters=said)
        if layers == 1
        else _("{parameters} in {layers} layers", parameters=said, layers=layers)
    )
