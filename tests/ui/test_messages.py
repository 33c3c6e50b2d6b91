"""Errors and reasons of the package, in the session's language."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from streamlit.testing.v1 import AppTest

from explorer.core.errors import RecipeError, near
from explorer.core.message import joined, say
from explorer.core.recipe import Recipe
from explorer.ui import i18n
from explorer.ui.i18n import translated
from explorer.ui.panels.card import rows
from explorer.ui.state import pack
from tests.contract.nets import few, sample

MODEL = "bikes-mlp"
FOREIGN = re.compile(r"[A-Za-z]{3,} [a-z]{2,} ")  # three English words in a row
BAD = {
    "an output's units": (Recipe().prune("head.weight", sparsity=0.5, granularity="unit"), "其单元直达模型输出"),
    "an unknown layer": (Recipe().prune("fc9", sparsity=0.5), "'fc9' 不是 bikes-mlp 的任何一层；您是否指 fc2 或 fc1？"),
}


@pytest.fixture
def chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session in 简体中文."""
    monkeypatch.setattr(i18n, "st", SimpleNamespace(session_state={"language": "zh_CN"}))


def test_outside_of_a_session_a_message_stays_english() -> None:
    assert translated(say("no units")) == "no units"
    assert translated(RecipeError(say("{name}: {why}", name="fc", why=say("no units")))) == "fc: no units"


@pytest.mark.usefixtures("chinese")
def test_a_model_card_calls_its_layers_in_the_language_of_the_session(device: str) -> None:
    assert rows(few("fashion-lenet5", device=device))["种类"] == ["卷积", "卷积", "线性", "线性"]
    assert set(rows(few("vowels-lstm", device=device))["种类"]) == {"lstm", "线性"}  # a name that is the same everywhere


@pytest.mark.usefixtures("chinese")
def test_messages_within_messages_are_translated_too() -> None:
    error = RecipeError(
        say(
            "{where}: {what}", where="fc1.weight", what=say("bits={bits}; accepted: a whole number from 1 to 8, or 16", bits=9)
        )
    )
    assert translated(error) == "fc1.weight：bits=9；可接受：1 至 8 的整数，或 16"
    assert str(error) == "fc1.weight: bits=9; accepted: a whole number from 1 to 8, or 16"
    assert translated(near("fc3", ["fc1", "fc2"])) == "您是否指 fc2 或 fc1？"
    assert translated(joined([say("no units"), "a text"], "; ")) == "无单元; a text"


@pytest.mark.usefixtures("chinese")
def test_formats_of_values_are_kept() -> None:
    assert translated(say("recipe: {count:,} characters; at most {limit:,} are read", count=12345, limit=9)) == (
        "方案：12,345 个字符；最多读取 9 个"
    )


@pytest.mark.usefixtures("chinese")
@pytest.mark.parametrize(
    "text", ["a foreign text {with} braces", "", RecipeError("plain"), say("nobody translated {x}", x=1)]
)
def test_what_nobody_translated_stays(text: object) -> None:
    assert translated(text) == str(text)


@pytest.mark.usefixtures("chinese")
@pytest.mark.parametrize("name", ["bikes-mlp", "vowels-lstm", "fashion-vit"])
def test_reasons_why_units_stay_are_translated(name: str, device: str) -> None:
    refused = sample(name, device).structure.refused
    assert refused
    for reason in refused.values():
        assert translated(reason) != reason and not FOREIGN.search(translated(reason))


# On the page


def opened(link: str) -> AppTest:
    """The page under 简体中文, opened by a link."""

    def script() -> None:
        from explorer.ui.pages import explore

        explore.render()

    app = AppTest.from_function(script, default_timeout=60)
    app.session_state["language"] = "zh_CN"
    app.query_params["model"], app.query_params["r"] = MODEL, link
    return app.run()


@pytest.mark.parametrize(("recipe", "said"), BAD.values(), ids=BAD)
def test_a_recipe_that_cannot_be_used_says_why_in_chinese(recipe: Recipe, said: str) -> None:
    app = opened(pack(recipe))
    (error,) = app.error
    assert not app.exception and error.value.startswith("未采用该方案：") and said in error.value
    assert not FOREIGN.search(error.value)


def test_a_link_that_was_cut_short_says_so_in_chinese() -> None:
    (error,) = opened(pack(Recipe().prune("fc1.weight", sparsity=0.5))[:-12]).error
    assert error.value == "未采用该方案：链接中的方案被截断"
