"""Both components in the smallest app, run by Streamlit itself; echoes what arrived."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import streamlit as st

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from explorer.ui.components.overview import overview  # noqa: E402
from explorer.ui.components.threshold import threshold  # noqa: E402

WEIGHTS = np.random.default_rng(0).laplace(0, 0.05, 100_000)
SCORES = np.abs(WEIGHTS)
REACH = float(SCORES.max())
KEYS = "threshold sparsity size approx score factor label factor_label kept cut unit units levels of error hint attenuated locked"
TEXT = {key: key for key in KEYS.split()}
STRIP = {key: key for key in "label parameters sparsity left bits locked coupled lock unlock".split()}
NAMES = ["fc1.weight", "fc2.weight", "fc3.weight"]
state = st.session_state
state.setdefault("selected", NAMES[0])
state.setdefault("locked", "")


def select() -> None:
    state.selected = state["strip"]["select"] or state.selected


def lock() -> None:
    state.locked = state["strip"]["lock"] or state.locked


@st.fragment
def handle() -> None:
    value = (state.get("handle") or {}).get("value") or {"t": 0.02, "k": 0, "factor": 0.5, "seq": 0, "final": True}
    exact = float((SCORES <= value["t"]).mean())
    counts, _ = np.histogram(WEIGHTS, 161, (-REACH, REACH))
    data = {
        "id": state.selected, "layer": state.selected, "ack": value["seq"], "value": value, "view": "weights", "mode": "hard", "log": False,
        "lo": -REACH, "hi": REACH, "counts": counts.tolist(), "q": np.quantile(SCORES, np.linspace(0, 1, 513)).tolist(), "n": SCORES.size,
        "levels": None, "locked": None, "hint": False, "text": TEXT, "layers": {state.selected: {"sparsity": exact, "bits": 32, "attenuated": 0}},
        "readout": {"sparsity": exact, "bytes": 1234, "sqnr": None, "attenuated": 0},
        "size": {"n": SCORES.size, "rows": 100, "bits": 32, "overhead": 0},
    }  # fmt: skip
    threshold(data, key="handle")
    st.html(f'<p id="handle">seq={value["seq"]} final={value["final"]} t={value["t"]:.6f} sparsity={exact:.4f}</p>')


rows = [
    {
        "name": name, "label": name, "block": "fc", "kind": "linear", "shape": "10 × 10", "numel": 100, "sparsity": 0.0, "bits": 32,
        "attenuated": 0.0, "locked": name == state.locked, "coupled": [],
    }
    for name in NAMES
]  # fmt: skip
overview({"layers": rows, "selected": state.selected, "text": STRIP}, key="strip", on_select=select, on_lock=lock)
handle()
st.html(f'<p id="strip">selected={state.selected} locked={state.locked}</p>')
