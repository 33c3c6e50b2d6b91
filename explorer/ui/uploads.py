"""What a person sent: opened from a folder of its own that is gone before the page is drawn, and kept in that session alone."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import streamlit as st

from explorer.core.errors import ExplorerError
from explorer.core.message import Message
from explorer.files.data import Source, read_upload
from explorer.files.limits import shared
from explorer.files.load import load, load_upload
from explorer.files.prefill import count_weights
from explorer.models.subject import Subject

from . import models

T = TypeVar("T")
MODELS = 4  # a session keeps this many of its own; the oldest goes
QUOTA = 512 << 20  # bytes of files that a session may have open where strangers share the server
SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_")


@dataclass(frozen=True, eq=False)
class Received:
    """One upload, or one file of this machine: what it became, or the error that says why not. digest: SHA-256 of its bytes, ""
    where they were not all read. key: tells it from another one."""

    name: str
    digest: str
    value: Any = None
    error: ExplorerError | None = None
    key: object = None


def safe(name: str) -> str:
    """A file name that is nothing but one: no folder, no odd character; the suffix stays."""
    last = name.replace("\\", "/").rpartition("/")[2]
    kept = "".join(c if c in SAFE or c.isalpha() else "_" for c in last).lstrip(".")[-80:]
    return kept or "file"


def limit() -> int:
    """Megabytes that one upload may have."""
    return int(st.get_option("server.maxUploadSize"))


def model(upload: Any, place: str = "open") -> Received:
    """The uploaded model as a subject without data; opened once. place: where on the page it was sent."""
    return _once(f"{place} model", upload.file_id, lambda: receive(upload.name, upload.getvalue(), load_upload))


def data(upload: Any) -> Received:
    """The uploaded data's columns; read once."""
    return _once("data", upload.file_id, lambda: receive(upload.name, upload.getvalue(), read_upload))


def at_path(text: str, place: str = "open", progress: Callable[[int, int], None] | None = None) -> Received:
    """The model at a path of this machine, mapped where its format allows; opened once, and again when it has changed. The weights of
    a large one are counted, with ``progress(done, total)``. On a shared server every path is refused."""
    path = Path(text.strip().strip("\"'")).expanduser()
    try:
        state = path.stat() if not shared() else None
        key = (str(path), state and (state.st_mtime_ns, state.st_size))
    except OSError:
        key = (str(path), None)
    return _once(f"{place} model", key, lambda: _mapped(path, progress))


def _mapped(path: Path, progress: Callable[[int, int], None] | None) -> Received:
    try:
        found = load(path)
        if not found.card["digest"]:  # too large to be read for it
            count_weights(found, path, progress)
        return Received(path.name, found.card["digest"], found)
    except ExplorerError as error:
        return Received(path.name, "", error=error)


def _once(what: str, key: object, read: Callable[[], Received]) -> Received:
    kept: dict[str, Received] = st.session_state.setdefault("received", {})
    models.leave_with_session(kept)
    if what not in kept or kept[what].key != key:
        kept[what] = replace(read(), key=key)
    return kept[what]


def receive(name: str, content: bytes, read: Callable[[Path], T]) -> Received:
    """Read one upload. The file lies in a new folder for as long as that takes, and for nobody else to see."""
    digest = hashlib.sha256(content).hexdigest()
    with tempfile.TemporaryDirectory(prefix="explorer-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / safe(name)
        path.write_bytes(content)
        try:
            return Received(path.name, digest, read(path))
        except ExplorerError as error:
            return Received(path.name, digest, error=_without(error, folder))


def _without(error: ExplorerError, folder: str) -> ExplorerError:
    """The error without the folder's name, which says nothing to anybody."""
    if folder not in str(error):
        return error
    made = type(error)(_shorter(error.message, folder))
    made.lines = getattr(error, "lines", "")  # type: ignore[attr-defined]
    return made


def _shorter(value: Any, folder: str) -> Any:
    if isinstance(value, Message):
        return Message(value.template, {key: _shorter(one, folder) for key, one in value.values.items()})
    if isinstance(value, (Path, str)):
        return str(value).replace(f"{folder}/", "").replace(f"{folder}\\", "")
    return value


def trim(own: dict[str, Subject], shown: str) -> None:
    """No more of a session's own models than its share, in number and, on a shared server, in bytes; never the one that is shown."""
    for name in list(own):
        if len(own) <= MODELS and (not shared() or sum(one.card.get("bytes", 0) for one in own.values()) <= QUOTA):
            break
        if name != shown:
            del own[name]


__all__ = ["Received", "Source", "at_path", "data", "limit", "model", "receive", "safe", "trim"]
