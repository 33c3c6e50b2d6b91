"""Errors that are said in one way wherever they arise."""

from __future__ import annotations

from explorer.core.errors import EvaluationError, failed
from explorer.core.message import say


def test_a_failing_forward_is_said_with_its_place_and_what_would_do() -> None:
    found = failed(say("mine: forward failed on sample 3"), ValueError("no"))
    assert isinstance(found, EvaluationError)
    assert str(found) == "mine: forward failed on sample 3; accepted: inputs that the model takes (ValueError: no)"
