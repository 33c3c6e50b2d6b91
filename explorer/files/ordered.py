"""Tensors in an order that a person expects, of files that keep them by name: layer 2 before layer 10, embeddings first, the head last."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")
NUMBERS = re.compile(r"(\d+)")
FIRST = re.compile(r"(^|[._])(embeddings?|embed_\w+|wte|wpe|tok_\w+|stem)([._]|$)")
LAST = re.compile(r"^(\w+\.)?(head|lm_head|fc|classifier|score|logits|output|out|cls)(\.\D*)?$")


def in_order(tensors: Mapping[str, T]) -> dict[str, T]:
    """The same, ordered by name; safetensors files are written in the order of the types and then of the alphabet."""
    return {name: tensors[name] for name in sorted(tensors, key=_place)}


def _place(name: str) -> tuple[int, list[tuple[int, int, str]]]:
    name = name[:1000]  # longer ones are refused later
    rank = 0 if FIRST.search(name) else 2 if LAST.match(name) else 1
    parts = [part for part in NUMBERS.split(name) if part]
    return rank, [_number(part) if part.isdecimal() else (1, 0, part) for part in parts]


def _number(digits: str) -> tuple[int, int, str]:
    """Compares as the number does; of thousands of digits Python makes none."""
    digits = digits.lstrip("0")
    return 0, len(digits), digits
