"""Words of the toolkit that it cannot be told in another language."""

from __future__ import annotations

import pytest
import streamlit as st

from explorer.ui import style


@pytest.mark.parametrize(("language", "words"), [("en", ()), ("zh_CN", ('"上传"', "200 MB"))])
def test_the_uploader_speaks_the_visitors_language(language: str, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(st, "session_state", {"language": language})
    rules = style.uploader()
    assert bool(rules) == bool(words) and all(word in rules for word in words)
