"""Values of an object that are computed when they are first read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")


class kept_property(Generic[T]):
    """As functools.cached_property has been since Python 3.12. Before, one lock over all instances made every session wait for the
    others' reports; two threads that ask at once now compute the same value twice, at worst."""

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self.compute, self.__doc__, self.name = compute, compute.__doc__, compute.__name__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> kept_property[T]: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None) -> T: ...
    def __get__(self, instance: object | None, owner: type | None = None) -> kept_property[T] | T:
        if instance is None:
            return self
        value = instance.__dict__[self.name] = self.compute(instance)  # found there from now on, before this descriptor
        return value
