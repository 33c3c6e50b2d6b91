"""Lists in two languages: the words change, what was chosen stays."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest


def script() -> None:
    import streamlit as st

    from explorer.ui.i18n import _
    from explorer.ui.lists import one_of, some_of

    words = {"validation": _("validation"), "test": _("test"), "train": _("train")}
    options = st.session_state.get("options", list(words))
    st.session_state["found"] = (
        one_of("one", options, options[0], "one", words.__getitem__),
        some_of("some", options, options[:1], "some", words.__getitem__),
    )


def test_what_was_chosen_stays_chosen_in_another_language() -> None:
    app = AppTest.from_function(script)
    app.session_state["language"] = "en"
    app.run()
    assert app.session_state["found"] == ("validation", ["validation"]) and app.selectbox[0].options[1] == "test"
    english = {app.selectbox[0].key, app.multiselect[0].key}
    app.selectbox[0].set_value("test")
    app.multiselect[0].set_value(["train", "test"]).run()
    assert app.session_state["found"] == ("test", ["train", "test"])
    app.session_state["language"] = "zh_CN"
    app.run()
    assert app.session_state["found"] == ("test", ["train", "test"]) and app.selectbox[0].options[1] != "test"
    assert not english & {app.selectbox[0].key, app.multiselect[0].key}  # the old widgets would go on showing the old words
    app.selectbox[0].set_value("train").run()
    app.session_state["options"] = ["validation", "test"]  # what was chosen is no longer there
    app.run()
    assert not app.exception and app.session_state["found"] == ("validation", ["test"])
