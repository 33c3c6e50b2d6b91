"""Layouts that are remembered between counts: the same figures, without computing them anew."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest

from explorer.compress.resolve import resolve
from explorer.core.recipe import Recipe
from explorer.evaluate import macs
from explorer.evaluate.macs import _count
from tests.structure.zoo import CASES, RECURRENT, Case

CHOSEN = [*CASES[::6], RECURRENT[0]]


@pytest.mark.parametrize("case", CHOSEN, ids=lambda case: case.name)
def test_counts_are_those_of_a_plain_count(case: Case, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    subject = case.subject(device)
    dropped: list[Any] = [{}]
    if subject.groups:
        dropped.append(resolve(subject, Recipe().prune("*", sparsity=0.5, granularity="unit")).dropped)
    for one in dropped:
        found, again = _count(subject, one), _count(subject, one)
        with monkeypatch.context() as plain:
            plain.setattr(macs, "_Remembered", nullcontext)
            assert found == again == _count(subject, one) and found.total


def test_an_operation_on_shapes_that_were_seen_is_not_computed_again(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setattr(macs, "_known", {})
    subject = next(case for case in CASES if case.name == "mlp").subject(device)
    _count(subject, {})
    before = dict(macs._known)
    _count(subject, {})
    assert macs._known == before and before
    monkeypatch.setattr(macs, "KNOWN", 2)  # it does not grow without end
    _count(subject, resolve(subject, Recipe().prune("*", sparsity=0.5, granularity="unit")).dropped)
    assert len(macs._known) <= 2
