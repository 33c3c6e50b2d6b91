"""The launcher: ``streamlit run app.py`` serves the app and Netron's routes on one port."""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st

ROOT = Path(__file__).resolve().parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from explorer.ui import options  # noqa: E402  (the folder must be importable from any working directory)
from explorer.ui.netron import netron_routes  # noqa: E402
from explorer.ui.owner import middleware  # noqa: E402
from explorer.ui.server import without_pages_folder  # noqa: E402

options.apply(sys.argv[1:])
without_pages_folder()
app = st.App(ROOT / "explorer" / "ui" / "main.py", routes=netron_routes(), middleware=middleware())
