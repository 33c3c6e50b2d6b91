"""A message is its English text, and keeps what it was made of."""

import ast
import copy
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

import explorer
from explorer.core import errors
from explorer.core.errors import ExplorerError, RecipeError, cause, near
from explorer.core.message import Message, joined, say

PACKAGE = Path(explorer.__file__).parent
ERRORS = {name for name, made in vars(errors).items() if isinstance(made, type) and issubclass(made, ExplorerError)}


def test_it_is_the_english_text() -> None:
    text = say("{layer}: bits={bits}", layer="fc1.weight", bits=9)
    assert text == "fc1.weight: bits=9"
    assert (text.template, text.values) == ("{layer}: bits={bits}", {"layer": "fc1.weight", "bits": 9})


def test_braces_stay_where_there_is_nothing_to_fill() -> None:
    assert say("accepted: {name: Tensor[N]}") == "accepted: {name: Tensor[N]}"


def test_an_error_carries_it() -> None:
    error = RecipeError(say("{what}; {near}", what="no such layer", near=say("did you mean {name}?", name="fc")))
    assert str(error) == "no such layer; did you mean fc?"
    assert isinstance(error.args[0], Message) and isinstance(error.args[0].values["near"], Message)


def test_it_survives_copies() -> None:
    text = say("{a} of {b}", a=1, b=2)
    for other in (copy.deepcopy(text), pickle.loads(pickle.dumps(text))):
        assert other == text and other.template == text.template and other.values == text.values


def test_parts_are_joined_and_stay_messages() -> None:
    text = joined([say("{n} stay", n=2), "fc1"], say(" or "))
    assert text == "2 stay or fc1"
    assert [type(value) for value in text.values.values()] == [Message, Message, str]
    assert joined([], ", ") == ""


@pytest.mark.parametrize("options", [["fc1", "fc2"], ["x"], [], [f"layer{i}" for i in range(20)]])
def test_what_is_proposed_is_a_message(options: list[str]) -> None:
    assert isinstance(near("fc3", options), Message)


def test_a_cause_is_a_message_of_ours_or_the_start_of_a_foreign_text() -> None:
    said = say("no layer {name}", name="fc")
    assert cause(RecipeError(said), 3) is said
    assert cause(ValueError("12345"), 3) == "ValueError: 123"
    assert ExplorerError("plain").message == "plain" and ExplorerError().message == ""


def unsaid(source: str) -> Iterator[str]:
    """Errors of this package that are made with another text than ``say("...")`` or what another error said."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS:
            text = node.args[0] if node.args else None
            said = isinstance(text, ast.Call) and isinstance(text.func, ast.Name) and text.func.id == "say"
            if not said and not (isinstance(text, ast.Attribute) and text.attr == "message"):
                yield f"{node.lineno}: {ast.unparse(node)}"


def test_a_text_that_is_not_said_is_found() -> None:
    assert list(unsaid('raise RecipeError(say("{a}", a=1))\nraise LoadError(error.message)\nraise KeyError("a")')) == []
    assert (
        len(list(unsaid('raise RecipeError("a")\nraise LoadError(f"{a}")\nLoadError(str(error))\nraise TaskError()')))
        == 4
    )


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_every_error_can_be_said_in_another_language(path: Path) -> None:
    assert not list(unsaid(path.read_text(encoding="utf-8"))), 'raise it with say("...", value=...)'
