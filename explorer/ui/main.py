"""The app's script: look, navigation, language. Run through ``app.py``."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from explorer.ui import state, style
from explorer.ui.components.shell import shell
from explorer.ui.i18n import _, language
from explorer.ui.pages import pages

st.set_page_config(page_title="Compression Explorer", page_icon=str(Path(__file__).parent / "icon.png"), layout="wide")
style.inject()
shell(language().replace("_", "-"), _("Skip to main content"))

# Each page keeps a fixed URL path whatever the language; only pages that exist are shown.
entries = {
    page.PATH: st.Page(page.render, title=_(page.TITLE), icon=page.ICON, url_path=page.PATH, default=index == 0)
    for index, page in enumerate(pages())
}
state.arrive(entries)
st.navigation(list(entries.values()), position="hidden").run()  # the pages' own heads link to each other
