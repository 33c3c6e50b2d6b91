"""``len(x)`` of a batch as a size of the graph: Python makes a plain number of it, which a graph would hold as a constant."""

from __future__ import annotations

import builtins
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from torch import Tensor, fx, nn

_lock = threading.Lock()
_followed: Counter[str] = Counter()  # names of modules of Python, with how many follow them now


def _length(value: Any) -> Any:
    if isinstance(value, fx.Proxy):
        return value.tracer.create_proxy("call_function", builtins.len, (value,), {})
    return value.shape[0] if isinstance(value, Tensor) and value.ndim else builtins.len(value)


def code(module: nn.Module) -> list[ModuleType]:
    """The files of a module's classes, torch's own aside."""
    names = sorted({type(child).__module__ for child in module.modules()})
    return [sys.modules[name] for name in names if name in sys.modules and not name.startswith("torch.")]


@contextmanager
def followed(module: nn.Module) -> Iterator[None]:
    """In the code of ``module`` ``len`` of a tensor follows its size, for whoever traces it; to all others it stays what it is."""
    files = [file for file in code(module) if vars(file).get("len", _length) is _length]  # one of their own stays
    with _lock:
        for file in files:
            vars(file)["len"] = _length
        _followed.update(file.__name__ for file in files)
    try:
        yield
    finally:
        with _lock:
            _followed.subtract(file.__name__ for file in files)
            for file in files:
                if not _followed[file.__name__]:
                    vars(file).pop("len", None)
