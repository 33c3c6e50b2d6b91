"""A mapping as a small file, so that the next data of the same form need not be mapped again."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, fields, replace
from typing import Any

from ..core.errors import LoadError
from ..core.message import say
from .limits import STRANGERS, parse_json
from .mapping import KINDS, TYPES, Mapping

LONGEST = 4096  # tokens of a text
PARTS = 32


def to_json(mapping: Mapping) -> str:
    """The mapping as JSON."""
    return json.dumps(asdict(mapping), ensure_ascii=False, indent=1)


def from_json(text: bytes | str, where: str = "mapping") -> Mapping:
    """The mapping of a file that :func:`to_json` wrote, perhaps a stranger's. Raises :class:`LoadError`, naming the field."""
    return _made(parse_json(text, where, STRANGERS), where)


def _made(given: Any, where: str, inner: bool = False) -> Mapping:
    known = {one.name for one in fields(Mapping)}
    if not isinstance(given, dict) or not set(given) <= known or "inputs" not in given:
        raise LoadError(
            say(
                "{where}: accepted: a mapping saved here, with the fields {fields}",
                where=where,
                fields=", ".join(sorted(known)),
            )
        )
    out: dict[str, Any] = {}
    for name, value in given.items():
        if name == "parts":
            if inner and value or not isinstance(value, list) or len(value) > PARTS or not all(_pair(one) for one in value):
                raise LoadError(
                    say(
                        "{where}: {field}: accepted: up to {most} pairs of a name and a mapping",
                        where=where,
                        field=name,
                        most=PARTS,
                    )
                )
            out[name] = tuple((one[0], _made(one[1], where, inner=True)) for one in value)
        else:
            out[name] = tuple(value) if isinstance(value, list) else value
            if not _CHECKS[name](out[name]):
                raise LoadError(
                    say("{where}: {field}={value}; not accepted", where=where, field=name, value=repr(value)[:80])
                )
    return Mapping(**out)


def _pair(one: Any) -> bool:
    return isinstance(one, list) and len(one) == 2 and isinstance(one[0], str)


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _whole(value: Any, most: int, least: int = 0) -> bool:
    return type(value) is int and least <= value <= most


def _all(value: Any, fits: Any) -> bool:
    return isinstance(value, tuple) and all(map(fits, value))


_CHECKS: dict[str, Any] = {
    "inputs": lambda v: _all(v, lambda one: isinstance(one, str)), "target": lambda v: v is None or isinstance(v, str),
    "kind": lambda v: isinstance(v, str) and v in KINDS, "shape": lambda v: _all(v, lambda n: _whole(n, 10**6, 1)), "dtype": lambda v: isinstance(v, str) and v in TYPES,
    "scale": _number, "mean": lambda v: bool(v) and _all(v, _number), "std": lambda v: bool(v) and _all(v, lambda n: _number(n) and n != 0),
    "length": lambda v: _whole(v, LONGEST, 1), "validation": _number, "test": _number, "seed": lambda v: _whole(v, 2**31 - 1),
}  # fmt: skip


def fitted(mapping: Mapping, columns: Any, inputs: tuple[str, ...]) -> Mapping:
    """A saved mapping for a file of these ``columns`` and a model of these ``inputs``: what neither has is left out."""

    def there(one: Mapping) -> Mapping:
        return replace(
            one,
            inputs=tuple(name for name in one.inputs if name in columns),
            target=one.target if one.target in columns else None,
        )

    parts = tuple((name, there(one)) for name, one in mapping.parts if name in inputs)
    return replace(there(mapping), parts=parts)
