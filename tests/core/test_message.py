"""A message is its English text, and keeps what it was made of."""

import copy
import pickle

from explorer.core.errors import RecipeError
from explorer.core.message import Message, say


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
