"""``explorer.open_app``: the app on a subject of this process."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
import tomllib
from pathlib import Path
from typing import Any

from explorer.models.subject import Subject

M_ARENA_MAX = -8  # in glibc's malloc.h
HERE = Path(__file__).resolve().parent
NEEDED = {
    "runner.postScriptGC": False,
    "runner.magicEnabled": False,
    "browser.gatherUsageStats": False,
    "client.toolbarMode": "minimal",
}


def settings(port: int | None, browser: bool) -> dict[str, Any]:
    """The options of the repository's .streamlit/config.toml where it is there, flat; else those that drags depend on."""
    found: dict[str, Any] = dict(NEEDED)
    file = HERE.parents[1] / ".streamlit" / "config.toml"
    if file.is_file():
        waiting = [("", tomllib.loads(file.read_text(encoding="utf-8")))]
        while waiting:
            place, values = waiting.pop()
            for key, value in values.items():
                if isinstance(value, dict):
                    waiting.append((f"{place}{key}.", value))
                else:
                    found[f"{place}{key}"] = value
    found |= {"server.headless": not browser, "server.fileWatcherType": "none", "server.address": "127.0.0.1"}
    return found | ({"server.port": port} if port is not None else {})


def without_pages_folder() -> None:
    """Streamlit takes a folder named ``pages`` beside the main script for its older kind of pages, until the script has run once: who
    comes to a fresh server by a link to /recover would be shown that file, run by itself, which is nothing."""
    from streamlit.runtime.pages_manager import PagesManager

    PagesManager.uses_pages_directory = False


def few_arenas(most: int = 2) -> bool:
    """Let glibc's malloc have no more than so many arenas in this process, unless MALLOC_ARENA_MAX says how many; whether it was told so.

    It gives every thread one of its own, up to eight a core, and each keeps much of what it ever held. Every script run is a thread.
    """
    return "MALLOC_ARENA_MAX" not in os.environ and _glibc("mallopt", M_ARENA_MAX, most)


def trim() -> bool:
    """Give back the memory that malloc holds and nobody uses, which takes milliseconds; whether there was any.

    Masked weights come and go by the megabyte beside what stays: freed, they leave holes, in all as large as what is kept.
    """
    return _glibc("malloc_trim", 0)


def keep_trimmed(every: float = 20.0) -> None:
    """:func:`trim` from now on, every so many seconds."""

    def go_on() -> None:
        while True:
            time.sleep(every)
            trim()

    threading.Thread(target=go_on, daemon=True, name="trim").start()


def _glibc(function: str, *arguments: int) -> bool:
    if sys.platform != "linux":
        return False
    try:
        return bool(getattr(ctypes.CDLL(None), function)(*arguments))
    except (OSError, AttributeError):  # another C library
        return False


def open_app(*subjects: Subject, port: int | None = None, browser: bool = True) -> None:
    """Open the app in a browser with these subjects in its list of models, the first one shown; returns when it is stopped
    (Ctrl+C). The modules stay those of this process: nothing is copied or saved. Reachable from this machine alone.

    Raises :class:`LoadError` for what is no subject.
    """
    import streamlit as st

    from . import models
    from .netron import netron_routes
    from .owner import middleware

    for subject in subjects:
        models.register(subject)
    without_pages_folder()
    arguments, sys.argv = sys.argv, [""]  # the caller's own options are none of the app's
    try:
        st.App(HERE / "main.py", routes=netron_routes(), middleware=middleware()).run(config=settings(port, browser))
    finally:
        sys.argv = arguments
