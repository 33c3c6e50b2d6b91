"""What a large checkpoint holds, from its headers: no weight is read, whatever its size."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from .header import Entry
from .limits import Limits
from .sources import Checkpoint, checkpoint, is_streamed


def streamed(path: Path, least: int = 0, limits: Limits | None = None) -> Checkpoint | None:
    """The checked headers of a safetensors file, or of all shards of a folder with an index, of at least ``least`` bytes; None for
    anything else. Raises :class:`LoadError` for a damaged one."""
    if not path.exists() or not is_streamed(path, limits):
        return None
    found = checkpoint(path, limits)
    return found if found.bytes >= least else None


def headers(found: Checkpoint) -> pd.DataFrame:
    """Columns: tensor, dtype, shape, entries, bytes."""
    return pd.DataFrame([header_row(entry) for entry in found.entries.values()])


def header_row(entry: Entry) -> dict[str, object]:
    """What the header says of a tensor."""
    return {
        "tensor": entry.name, "dtype": entry.dtype, "shape": entry.shape, "entries": entry.numel, "bytes": entry.stop - entry.start,
    }  # fmt: skip
