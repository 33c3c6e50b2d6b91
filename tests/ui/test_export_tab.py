"""The tab Export: what stands there while it works is gone afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest


def script() -> None:
    import streamlit as st

    from explorer.ui import models
    from explorer.ui.panels import export
    from explorer.ui.state import workspace

    subject = models.open_subject("bikes-mlp")
    if "path" in st.session_state:
        export._to_path(workspace("bikes-mlp"), subject)
    else:
        export.render(workspace("bikes-mlp"), subject)


@pytest.mark.slow
def test_bar_and_cancel_go_when_the_bundle_is_there() -> None:
    app = AppTest.from_function(script, default_timeout=60)
    app.session_state["language"] = "en"
    app.session_state["formats"] = ["safetensors"]
    app.run()
    app.button(key="export-go").click().run()
    assert not app.exception and app.session_state["exported"]["checks"] == {"model.safetensors": 0.0}
    assert "export-cancel" not in {one.key for one in app.button}


def test_bar_and_cancel_go_when_the_file_is_written(tmp_path: Path) -> None:
    app = AppTest.from_function(script, default_timeout=60)
    app.session_state["language"] = "en"
    app.session_state["path"] = True
    app.run()
    app.text_input(key="export-path").set_value(str(tmp_path / "out.safetensors")).run()
    app.button(key="export-go").click().run()
    assert not app.exception and (tmp_path / "out.safetensors").exists() and app.success
    assert "export-cancel" not in {one.key for one in app.button}
