"""Files that a browser may fetch by an unguessable token. Content in memory, least recently used goes first."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict

BUDGET = 512 << 20  # bytes

_lock = threading.Lock()
_kept: OrderedDict[str, tuple[bytes, str]] = OrderedDict()


def put(data: bytes, name: str) -> str:
    """Keep ``data`` under a fresh token, a bearer capability: whoever has it can read the file."""
    token = secrets.token_urlsafe(24)
    with _lock:
        _kept[token] = (data, name)
        used = sum(len(content) for content, _ in _kept.values())
        while used > BUDGET and len(_kept) > 1:
            used -= len(_kept.popitem(last=False)[1][0])
    return token


def get(token: str) -> bytes | None:
    """The content, or None where the token is unknown or its content has gone."""
    with _lock:
        if token not in _kept:
            return None
        _kept.move_to_end(token)
        return _kept[token][0]
