"""What a person sent: opened from a folder of its own that is gone before the page is drawn, and kept in that session alone."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import streamlit as st

from explorer.core.errors import ExplorerError, LoadError, cause
from explorer.core.message import Message, say
from explorer.files.data import Source, read_upload
from explorer.files.limits import no_paths
from explorer.files.load import digest_of, load, load_upload
from explorer.models.subject import Subject

T = TypeVar("T")
MODELS = 4  # a session keeps this many of its own; the oldest goes
SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_")


@dataclass(frozen=True, eq=False)
class Received:
    """One upload: what it became, or the error that says why not. digest: SHA-256 of its bytes."""

    name: str
    digest: str
    value: Any = None
    error: ExplorerError | None = None


def safe(name: str) -> str:
    """A file name that is nothing but one: no folder, no odd character; the suffix stays."""
    last = name.replace("\\", "/").rpartition("/")[2]
    kept = "".join(c if c in SAFE or c.isalpha() else "_" for c in last).lstrip(".")[-80:]
    return kept or "file"


def model(upload: Any) -> Received:
    """The uploaded model as a subject without data; opened once."""
    return _once("model", upload, load_upload)


def data(upload: Any) -> Received:
    """The uploaded data's columns; read once."""
    return _once("data", upload, read_upload)


def _once(what: str, upload: Any, read: Callable[[Path], T]) -> Received:
    kept: dict[str, tuple[str, Received]] = st.session_state.setdefault("received", {})
    if what not in kept or kept[what][0] != upload.file_id:
        kept[what] = (upload.file_id, receive(upload.name, upload.getvalue(), read))
    return kept[what][1]


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


def local(text: str) -> Received:
    """The model at a path of this machine; opened again when the file changes. Refused on a shared server."""
    kept: dict[str, tuple[object, Received]] = st.session_state.setdefault("received", {})
    try:
        path = no_paths(Path(text.strip().strip("\"'")).expanduser())
        key = (str(path), path.stat().st_mtime_ns if path.exists() else 0)
        if "local" not in kept or kept["local"][0] != key:
            found = load(path)
            kept["local"] = key, Received(path.name, found.card["digest"] or digest_of(path), found)
        return kept["local"][1]
    except ExplorerError as error:
        return Received(safe(text), "", error=error)
    except (OSError, RuntimeError, ValueError) as error:  # no such home, a name that is too long, a zero byte
        return Received(safe(text), "", error=LoadError(say("{path}: cannot be read ({cause})", path=text[:80], cause=cause(error, 160))))


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
    """No more of a session's own models than its share; never the one that is shown."""
    for name in list(own):
        if len(own) <= MODELS:
            break
        if name != shown:
            del own[name]


__all__ = ["Received", "Source", "data", "local", "model", "receive", "safe", "trim"]
