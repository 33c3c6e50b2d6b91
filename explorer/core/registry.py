"""A registry that discovers the modules of its folder: adding something is adding one file."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from .errors import RecipeError, near
from .message import say

T = TypeVar("T")


class Registry(Generic[T]):
    """Named entries of one kind, found by importing every module of a package once.

    ``Registry("criterion", "explorer.analysis.criteria")``; an entry's module calls ``register(name)(entry)``.
    The entry's docstring is its help on screen. Unknown names raise :class:`RecipeError` with near matches.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._entries: dict[str, T] = {}
        self._discovered = False
        self._lock = threading.RLock()

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator that adds an entry under ``name``."""

        def add(entry: T) -> T:
            if self._entries.get(name, entry) is not entry:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._entries[name] = entry
            return entry

        return add

    def _discover(self) -> None:
        if self._discovered:
            return
        with self._lock:
            if self._discovered:
                return
            package = importlib.import_module(self._package)
            for module in pkgutil.iter_modules(package.__path__):
                if not module.name.startswith("_"):
                    importlib.import_module(f"{self._package}.{module.name}")
            self._discovered = True

    def __iter__(self) -> Iterator[str]:
        self._discover()
        return iter(sorted(self._entries))

    def __contains__(self, name: object) -> bool:
        self._discover()
        return name in self._entries

    def __getitem__(self, name: str) -> T:
        self._discover()
        try:
            return self._entries[name]
        except KeyError:
            raise RecipeError(
                say("unknown {kind} {name!r}; {hint}", kind=self.kind, name=name, hint=near(name, self))
            ) from None

    def help(self, name: str) -> str:
        """The entry's docstring, dedented: what the screen shows."""
        return inspect.getdoc(self[name]) or ""
