"""What a file may ask of this machine, and whether this is a server that strangers share."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import LoadError
from ..core.message import say

SHARED_VARIABLE = "EXPLORER_SHARED"


@dataclass(frozen=True)
class Limits:
    """What a reader accepts.

    file: bytes. members: entries of an archive; ratio: how many times larger than packed one may be (beyond 1 MB).
    header: bytes of a safetensors header or of one JSON document; depth: its nesting. tensors: their number.
    operations: of a pickle or a graph. seconds, memory: of the child process that looks at a shared server's files.
    """

    file: int = 1 << 38
    members: int = 100_000
    ratio: int = 200
    header: int = 64 << 20
    depth: int = 64
    tensors: int = 100_000
    operations: int = 5_000_000
    seconds: int = 600
    memory: int = 64 << 30


OWN = Limits()
STRANGERS = Limits(
    file=512 << 20, members=20_000, header=16 << 20, tensors=20_000, operations=1_000_000, seconds=60, memory=6 << 30
)


def shared() -> bool:
    """Whether strangers share this server (EXPLORER_SHARED=1, set by ``--shared``): then nothing is opened by path, and
    every file is tried in a child process first."""
    return os.environ.get(SHARED_VARIABLE, "").strip().lower() not in ("", "0", "false", "no")


def limits() -> Limits:
    """The limits that hold in this process."""
    return STRANGERS if shared() else OWN


def no_paths(path: str | Path) -> Path:
    """The path, where files may be opened by path. Raises :class:`LoadError` on a shared server."""
    if shared():
        raise LoadError(say("{path}: files are not opened by path on a shared server; upload it", path=Path(path).name))
    return Path(path)


def check_size(path: Path, most: int) -> int:
    """The file's bytes. Raises :class:`LoadError` for none, too many, or what is no plain file."""
    if not path.is_file():
        raise LoadError(say("{path}: no such file", path=path))
    size = path.stat().st_size
    if size == 0:
        raise LoadError(say("{path}: the file is empty; accepted: the whole file, saved or downloaded again", path=path))
    if size > most:
        raise LoadError(say("{path}: {size:,} bytes; accepted: at most {most:,}", path=path, size=size, most=most))
    return size


def parse_json(text: bytes | str, where: str, most: Limits) -> Any:
    """JSON within limits of length and nesting. Raises :class:`LoadError`."""
    if len(text) > most.header:
        raise LoadError(
            say("{where}: {size:,} bytes; accepted: at most {most:,}", where=where, size=len(text), most=most.header)
        )
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LoadError(say("{where}: not valid JSON ({why})", where=where, why=str(error)[:120])) from None
    level = [value]
    for _ in range(most.depth):
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, dict) else one if isinstance(one, list) else ())
        ]
        if not level:
            return value
    raise LoadError(say("{where}: nested too deeply; accepted: at most {depth} levels", where=where, depth=most.depth))
