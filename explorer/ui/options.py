"""What stands behind ``--`` of ``streamlit run app.py -- ...``: a subject of one's own, and whether strangers share the server."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from explorer.core.errors import LoadError, cause
from explorer.core.message import say
from explorer.files.limits import SHARED_VARIABLE, shared

from . import models

USAGE = "streamlit run app.py -- [--shared] [--subject package.module:function]"


def apply(arguments: Sequence[str]) -> None:
    """Set what the options ask for, or end the program with one line that says why not."""
    try:
        read(arguments)
    except LoadError as error:
        raise SystemExit(f"error: {error}") from None


def read(arguments: Sequence[str]) -> None:
    """Set what the options ask for. Raises :class:`LoadError` for ones that are unknown or not allowed together."""
    waiting = list(arguments)
    wanted: list[str] = []
    while waiting:
        option = waiting.pop(0)
        name, equals, value = option.partition("=")
        if option == "--shared":
            os.environ[SHARED_VARIABLE] = "1"
        elif name == "--subject" and (equals or waiting):
            wanted.append(value if equals else waiting.pop(0))
        else:
            raise LoadError(say("unknown option {option!r}; accepted: {usage}", option=option[:80], usage=USAGE))
    if wanted and shared():
        raise LoadError(say("--subject runs code of this machine and is switched off on a shared server"))
    for one in wanted:
        models.register(subject_from(one))


def subject_from(place: str) -> models.Subject:
    """The subject that ``package.module:function`` returns (or is). Raises :class:`LoadError`."""
    module, _, name = place.partition(":")
    if not module or not name.isidentifier():
        raise LoadError(say("--subject {place!r}; accepted: package.module:function", place=place))
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), name)
        made = found() if callable(found) and not isinstance(found, models.Subject) else found
    except Exception as error:  # the user's own code
        raise LoadError(say("--subject {place!r}: {cause}", place=place, cause=cause(error, 200))) from error
    if not isinstance(made, models.Subject):
        raise LoadError(
            say(
                "--subject {place!r} gives a {type}; accepted: an explorer.Subject",
                place=place,
                type=type(made).__name__,
            )
        )
    return made
