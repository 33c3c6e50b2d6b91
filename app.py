"""The launcher: ``streamlit run app.py`` serves the app and Netron's routes on one port."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import streamlit as st

ROOT = Path(__file__).resolve().parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

# Before torch is loaded: threads that wait for each other must sleep. Spinning, they took the cores from the others, and an answer
# to a drag four times as long on a busy machine, since every script run is a thread of its own with helpers of its own.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from explorer.ui import options  # noqa: E402  (the folder must be importable from any working directory)
from explorer.ui.netron import netron_routes  # noqa: E402
from explorer.ui.owner import middleware  # noqa: E402
from explorer.ui.server import few_arenas, keep_trimmed, without_pages_folder  # noqa: E402

options.apply(sys.argv[1:])
few_arenas()
keep_trimmed()
without_pages_folder()
app = st.App(ROOT / "explorer" / "ui" / "main.py", routes=netron_routes(), middleware=middleware())
