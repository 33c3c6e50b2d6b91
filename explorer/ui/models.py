"""Subjects as the screen sees them, shared by every session."""

from __future__ import annotations

import gc
import threading

import explorer
from explorer.models.subject import Subject

_lock = threading.Lock()
_opened: set[str] = set()


def open_subject(name: str) -> Subject:
    """A sample, loaded once a process. Afterwards its objects are left out of garbage collection, which would
    otherwise walk all of torch at every collection and hold up everybody's drags."""
    subject: Subject = explorer.load(name)
    with _lock:
        if name not in _opened:
            _opened.add(name)
            _ = subject.layers
            gc.collect()
            gc.freeze()
    return subject
