"""What a large checkpoint holds, from its headers: no weight is read, whatever its size."""

from __future__ import annotations

from pathlib import Path

from . import kinds
from .header import Header, read_header
from .limits import OWN, Limits
from .load import INDEX, shards


def headers(path: Path, least: int = 0, limits: Limits = OWN) -> list[Header] | None:
    """The headers of a safetensors file, or of all shards of a folder with an index, of at least ``least`` bytes; None for
    anything else. Raises :class:`LoadError` for a damaged one."""
    if path.is_dir():
        if not (path / INDEX).is_file():
            return None
        files = shards(path / INDEX, limits)
    elif path.suffix.lower() == ".json" and path.name == INDEX:
        files = shards(path, limits)
    elif path.is_file() and path.stat().st_size and kinds.kind_of(path, limits) == kinds.SAFETENSORS:
        files = [path]
    else:
        return None
    if sum(file.stat().st_size for file in files) < least:
        return None
    return [read_header(file, limits) for file in files]
