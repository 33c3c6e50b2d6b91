"""Packed files of an export: the exact tensors they restore, within the limits that hold here."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ..core.errors import LoadError, cause
from ..core.message import say
from ..export.packing.container import LIMIT, loads
from .limits import Limits, check_size


def read_packed(path: Path, within: Limits, data: bytes | None = None) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors, metadata) of a packed file, or of its ``data`` within the archive ``path``. Raises :class:`LoadError`."""
    if data is None:
        check_size(path, within.file)
        data = path.read_bytes()
    try:
        tensors, metadata = loads(data, min(LIMIT, within.file))
    except LoadError as error:
        raise LoadError(say("{path}: {error}", path=path, error=error.message)) from None
    except Exception as error:  # a file made to break the reader is still only a file that cannot be loaded
        raise LoadError(say("{path}: malformed ({why})", path=path, why=cause(error, 160))) from None
    if len(tensors) > within.tensors:
        raise LoadError(
            say(
                "{path}: {count:,} tensors; accepted: at most {most:,}",
                path=path,
                count=len(tensors),
                most=within.tensors,
            )
        )
    return tensors, {str(key): str(value) for key, value in metadata.items()}
