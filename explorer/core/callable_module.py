"""Packages that are also functions: ``explorer.compress(...)`` beside ``explorer.compress.masks``.

Importing a subpackage makes it an attribute of its parent, which would hide a function of the same name. So the package
itself is callable, in whatever order things are imported.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from functools import cached_property
from types import ModuleType
from typing import Any


class CallableModule(ModuleType):
    """A module whose call is that of ``_target``, "module:function", imported at the first call."""

    _target: str

    @cached_property
    def __wrapped__(self) -> Callable[..., Any]:  # inspect.signature and help() look here
        module, _, name = self._target.partition(":")
        return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__wrapped__(*args, **kwargs)


def make_callable(package: str, target: str) -> None:
    """Let ``package`` be called as ``target``; for use in the package's own ``__init__``."""
    module = sys.modules[package]
    module.__class__ = CallableModule
    module._target = target  # type: ignore[attr-defined]
