"""The screen's two languages: nothing is missing, stale, or filled with other values than the English."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace

import pytest
from babel.messages.catalog import Catalog
from babel.messages.mofile import read_mo

from explorer.ui import catalogue, i18n
from explorer.ui.catalogue import Entry
from explorer.ui.terms import TERMS

KINDS = {"criterion", "cost", "quantizer", "observer", "exporter", "schedule", "term", "card"}
CHINESE = re.compile(r"[\u4e00-\u9fff]")


@pytest.fixture(scope="module")
def book() -> Catalog:
    """The Chinese catalogue."""
    return catalogue.read()


def session(monkeypatch: pytest.MonkeyPatch, locale: str | None, **state: str) -> dict[str, str]:
    """A session of a browser with that locale."""
    monkeypatch.setattr(i18n, "st", SimpleNamespace(session_state=state, context=SimpleNamespace(locale=locale)))
    return state


# The catalogue


def test_every_text_on_screen_is_translated(book: Catalog) -> None:
    left = catalogue.problems(book, catalogue.wanted())
    assert not left, "\n".join([*left, "update with: python -m explorer.ui.catalogue"])


def test_the_compiled_catalogue_is_that_of_the_text(book: Catalog) -> None:
    assert texts(catalogue.MO.read_bytes()) == texts(catalogue.compiled(book)), "stale; run: python -m explorer.ui.catalogue"


def texts(compiled: bytes) -> dict[object, object]:
    """What a .mo file translates; its header names the version of Babel that wrote it, which is another one on another machine."""
    found = {(one.context, one.id): one.string for one in read_mo(io.BytesIO(compiled)) if one.id}
    assert len(found) > 1000
    return found


def test_everything_that_explains_itself_is_asked_for() -> None:
    from explorer.ui.pages import pages

    found = {(entry.context, entry.id) for entry in catalogue.wanted()}
    for kind, registry in catalogue.registries().items():
        assert {(kind, name) for name in registry} <= found
        assert {(None, registry[name].title) for name in registry} <= found
    assert {("term", name) for name in TERMS} <= found
    assert {(None, page.TITLE) for page in pages()} <= found
    assert {context for context, _ in found} == {None, *KINDS}


@pytest.mark.parametrize("entry", [e for e in catalogue.wanted() if e.context], ids=lambda e: f"{e.context}-{e.id}")
def test_a_help_text_is_chinese_and_keeps_its_source(book: Catalog, entry: Entry) -> None:
    message = book.get(entry.id, entry.context)
    assert message is not None and CHINESE.search(str(message.string))
    for source in re.findall(r"arXiv\s+(\d{4}\.\d{5})", entry.english):
        assert source in str(message.string), f"{entry.id}: arXiv {source} is not in the Chinese text"


def test_a_text_that_is_not_a_literal_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    (tmp_path / "explorer" / "ui").mkdir(parents=True)
    (tmp_path / "explorer" / "ui" / "page.py").write_text("_('fine')\n_(f'{n} layers')\n", encoding="utf-8")
    monkeypatch.setattr(catalogue, "PACKAGE", tmp_path / "explorer")
    with pytest.raises(ValueError, match=r"explorer/ui/page\.py:2: _\(\) takes a literal"):
        list(catalogue.literals())


def entry(text: str, context: str | None = None, english: str = "") -> Entry:
    """A text of a test."""
    return Entry(text, context, english or text, "here.py")


def test_what_is_left_to_do_is_found() -> None:
    book = catalogue.updated(
        catalogue.Catalog(locale="zh_CN"), [entry("a"), entry("{n} b"), entry("c"), entry("l1", "criterion", "Old.")]
    )
    book.get("a").string, book.get("{n} b").string, book.get("l1", "criterion").string = "甲", "{m} 乙", "幅值"
    changed = [entry("a"), entry("{n} b"), entry("d"), entry("l1", "criterion", "New.")]
    assert catalogue.problems(book, changed) == [
        "placeholders differ: {n} b: ['n'] and ['m']",
        "missing: d",
        "English has changed: criterion: l1",
        "obsolete: c",
    ]
    again = catalogue.updated(book, changed)
    assert again.get("l1", "criterion").fuzzy and again.get("l1", "criterion").string == "幅值"
    assert again.get("c") is None and again.get("a").string == "甲" and not again.get("a").fuzzy


def test_a_reworded_text_keeps_its_translation_as_fuzzy() -> None:
    book = catalogue.updated(catalogue.Catalog(locale="zh_CN"), [entry("Every answer is the original's.")])
    book.get("Every answer is the original's.").string = "都相同。"
    message = catalogue.updated(book, [entry("Every answer is the original one's.")]).get(
        "Every answer is the original one's."
    )
    assert (message.string, message.fuzzy) == ("都相同。", True)


# What a session sees


@pytest.mark.parametrize(
    ("locale", "language"),
    [("zh-CN", "zh_CN"), ("zh", "zh_CN"), ("zh-TW", "zh_CN"), ("en-US", "en"), ("de", "en"), ("", "en"), (None, "en")],
)
def test_the_first_language_is_the_browsers(monkeypatch: pytest.MonkeyPatch, locale: str | None, language: str) -> None:
    state = session(monkeypatch, locale)
    assert i18n.language() == language and state["language"] == language


def test_a_chosen_language_stays_and_unknown_ones_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    session(monkeypatch, "en-US")
    i18n.set_language("zh_CN")
    assert i18n.language() == "zh_CN"
    i18n.set_language("tlh")
    assert i18n.language() == "zh_CN"


def test_outside_of_a_session_the_language_is_english() -> None:
    assert i18n.language() == "en" and i18n._("Undo") == "Undo"


def test_texts_are_translated_and_their_values_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    session(monkeypatch, "zh-CN")
    assert i18n._("Undo") == "撤销"
    assert i18n._("{n} parameters", n="431,080") == "431,080 个参数"
    assert i18n._("a text that nobody translated {x}") == "a text that nobody translated {x}"
    session(monkeypatch, "en")
    assert i18n._("{n} parameters", n="431,080") == "431,080 parameters"


def test_help_is_found_under_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    session(monkeypatch, "zh-CN")
    assert i18n.help_for("term", "hard pruning", "").startswith("硬剪枝")
    assert i18n.help_for("term", "soft pruning", "").startswith("软剪枝")
    assert "权重剪枝" in i18n.help_for("term", "unstructured pruning", "")
    assert "结构化剪枝" in i18n.help_for("term", "structured pruning", "")
    assert i18n.help_for("criterion", "l1", "English").startswith("幅值")
    assert i18n.help_for("criterion", "a plug-in", "English") == "English"
    session(monkeypatch, "en")
    assert i18n.help_for("term", "sparsity", "") == TERMS["sparsity"]
    assert i18n.help_for("criterion", "l1", "English") == "English"


def test_every_term_that_the_screen_asks_for_exists() -> None:
    """A misspelt name would show an empty explanation."""
    folder = catalogue.PACKAGE / "ui"
    asked = {
        name
        for path in folder.rglob("*.py")
        for name in re.findall(r'help_for\("term", "([^"]+)"', path.read_text(encoding="utf-8"))
    }
    assert asked and asked <= set(TERMS)
