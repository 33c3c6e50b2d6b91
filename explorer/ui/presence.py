"""Which sessions are still there: what one brought is let go when it is over, and not whenever Python happens to find out."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from streamlit import runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

log = logging.getLogger(__name__)

GONE = 150.0  # seconds without its browser after which Streamlit takes no session up again (it keeps them for 120)
EVERY = 30.0  # seconds between two looks


@dataclass
class Watched:
    """One session. end: what lets go of all that it brought. seen: when its browser was there last."""

    end: Callable[[], object]
    seen: float = field(default_factory=time.monotonic)


_watched: dict[str, Watched] = {}
_lock = threading.Lock()
_watcher: list[threading.Thread] = []


def watch(end: Callable[[], object]) -> None:
    """Call ``end`` once, when the session that runs this script is over. Without a server nothing is watched."""
    context = get_script_run_ctx(suppress_warning=True)
    if context is None or not runtime.exists():
        return
    with _lock:
        _watched.setdefault(context.session_id, Watched(end))
        if not _watcher:
            _watcher.append(threading.Thread(target=_go_on, daemon=True, name="presence"))
            _watcher[0].start()


def _go_on() -> None:
    while True:
        time.sleep(EVERY)
        look(runtime.get_instance().is_active_session if runtime.exists() else lambda _: False)


def look(active: Callable[[str], bool]) -> int:
    """End what is over; how many sessions. Models are left out of garbage collection once they are open (``models.open_subject``), and so is
    whatever was there by then: after an end all is looked through once."""
    now, over = time.monotonic(), []
    with _lock:
        for name, one in list(_watched.items()):
            if active(name):
                one.seen = now
            elif now - one.seen >= GONE:
                over.append(_watched.pop(name))
    for one in over:
        try:
            one.end()
        except Exception:  # of one session; the others end all the same, and the watch goes on
            log.exception("a session could not be ended whole")
    if over:
        gc.unfreeze()
        gc.collect()
        gc.freeze()
    return len(over)
