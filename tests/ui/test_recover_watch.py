"""What the page Recover says about a job: its decisions, its line in the list, its event files."""

from __future__ import annotations

import io
import zipfile
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
import streamlit as st

from explorer.core.report import Figure
from explorer.core.training import Epoch, Note, Step
from explorer.recover.checkpoint import Stand
from explorer.recover.jobs import CANCELLED, DONE, FAILED, RUNNING, WAITING, Job
from explorer.ui.panels import recover_list, recover_result, recover_watch
from explorer.ui.panels.recover_watch import about, goes_on, progress, share, state_name, stood, zipped

NOON = datetime(2026, 3, 1, 12, 0).astimezone().timestamp()


def job(schedule: str = "one-shot", state: str = DONE) -> Job:
    told = {"what": "fine-tuning", "subject": "bikes-mlp", "schedule": {"name": schedule}}
    return Job("1", told, set(), "", state=state, created=NOON)


@pytest.fixture(autouse=True)
def visitor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(st, "session_state", {"language": "en"})
    monkeypatch.setattr(st, "context", SimpleNamespace(timezone="Asia/Shanghai"))


def test_how_far_it_is_is_said_as_far_as_it_is_known() -> None:
    going = job(state=WAITING)
    assert progress(going) == "waiting for the device"
    going.state = RUNNING
    assert progress(going) == "preparing" and share(going) == 0
    going.does("evaluating the original", 0, 0)
    assert progress(going) == "evaluating the original" and share(going) == 0
    going.does("evaluating the original", 256, 1024)
    assert progress(going) == "evaluating the original · 256 of 1,024 samples" and share(going) == 0.25
    going.stage = None
    going.moved(3, 8)
    assert progress(going) == "3 of 8"
    going.tell(Epoch(0, 4, 0, None, {"r2": Figure(0.5, "measured")}, "r2", 0.9, 1e-3, 1.0, 0.0))
    going.does("taking the first steps", 0, 0)
    assert progress(going) == "taking the first steps"
    going.tell(Step(2, 1500, 4000, 1.0, 1e-3, 0.9, 30.0, 50.0))
    assert progress(going) == "epoch 2 of 4, step 1,500 of 4,000 · 50 s left"
    going.does("evaluating epoch 2", 30, 60)
    assert progress(going) == "epoch 2 of 4, step 1,500 of 4,000 · evaluating epoch 2 · 30 of 60 samples" and share(going) == 0.375
    going._stop.set()
    assert going.ending and progress(going) == "Cancelling …"
    going.state = "cancelled"
    assert not going.ending and state_name(going) == "cancelled; nothing was changed"
    going.made = "of something"
    assert state_name(going) == "cancelled; the best so far is kept"


class Redrawn(Exception):
    pass


def test_the_page_is_drawn_anew_when_a_job_begins_or_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    def again() -> None:
        raise Redrawn

    monkeypatch.setattr(st, "rerun", again)
    one = job(state=WAITING)
    recover_list._follow([one], [WAITING])
    one.state = RUNNING
    with pytest.raises(Redrawn):
        recover_watch._draw(SimpleNamespace(), one, WAITING, None)  # type: ignore[arg-type]
    with pytest.raises(Redrawn):
        recover_list._follow([one], [WAITING])


@pytest.mark.parametrize(("state", "final", "shown"), [("interrupted", False, True), (FAILED, False, True), (FAILED, True, False), (DONE, False, False)])
def test_what_would_end_the_same_way_again_does_not_go_on(state: str, final: bool, shown: bool) -> None:
    broken = job(state=state)
    broken.final = final
    assert goes_on(broken) is shown


def test_a_decision_names_its_unit() -> None:
    assert about(Note(3, 40, "goes", {"group": "fc1", "unit": 7})) == ("epoch 3", "fc1, unit 7")
    assert about(Note(3, 40, "goes", {"group": "fc1", "unit": 7}), "neuron") == ("epoch 3", "fc1, neuron 7")
    assert about(Note(0, 0, "norms", {"step": "norms"})) == ("", "")


def test_what_was_broken_off_says_how_far_it_was() -> None:
    def epoch(at: int, value: float, best: bool) -> Epoch:
        return Epoch(at, 40, 391 * at, 0.5, {"accuracy": Figure(value, "measured")}, "accuracy", 0.9, 1e-3, 1.0, 0.0, best=best)

    start, good, worse = epoch(0, 0.23, True), epoch(1, 0.881, True), epoch(2, 0.88, False)
    assert stood(None) == "There is no checkpoint of it yet: it begins anew."
    assert stood(Stand(1, 40, 100, 15640, (start,), ())) == (
        "Its checkpoint: epoch 1 of 40, step 100 of 15,640 · Accuracy 23.0 % before the first epoch. It goes on from there."
    )
    assert stood(Stand(3, 40, 900, 15640, (start, good, worse), ())) == (
        "Its checkpoint: epoch 3 of 40, step 900 of 15,640 · Accuracy 88.0 % after epoch 2 · best so far 88.1 %. It goes on from there."
    )
    assert stood(Stand(1, 40, 391, 0, (start, good), ())) == "Its checkpoint: epoch 1 of 40 · Accuracy 88.1 % after epoch 1. It goes on from there."


@pytest.mark.parametrize(("state", "made", "said"), [(DONE, "a", "not opened yet"), (CANCELLED, "a", "not opened yet"), (CANCELLED, "", "not yet")])
def test_a_result_is_to_be_opened_only_where_there_is_one(state: str, made: str, said: str) -> None:
    one = job(state=state)
    one.made = made
    card = recover_result._recovered(SimpleNamespace(), SimpleNamespace(main="accuracy"), one)  # type: ignore[arg-type]
    assert (card.value, card.note) == ("–", (("", said),))


def test_a_job_in_a_line_is_on_the_visitors_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    there = datetime.fromtimestamp(NOON, recover_list.ZoneInfo("Asia/Shanghai"))
    assert recover_list.said(job("gradual")) == f"{there:%Y-%m-%d %H:%M} · bikes-mlp · Fine-tuning, gradual (cubic) · done"
    for unknown in (None, "No/Where", "../etc/passwd"):
        monkeypatch.setattr(st, "context", SimpleNamespace(timezone=unknown))
        assert recover_list.said(job(state=FAILED)) == "2026-03-01 12:00 · bikes-mlp · Fine-tuning · failed"


def test_event_files_in_one_zip(tmp_path: Path) -> None:
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "events.1").write_bytes(b"1")
    (tmp_path / "events.2").write_bytes(b"22")
    with zipfile.ZipFile(io.BytesIO(zipped(tmp_path))) as archive:
        assert {one.filename: one.file_size for one in archive.infolist()} == {"loss/events.1": 1, "events.2": 2}


def test_a_card_keeps_how_many_samples_it_is_of_in_one_piece() -> None:
    subject = SimpleNamespace(task=SimpleNamespace(lower_is_better=()))
    seen, change = Figure(0.43, "measured", "validation", 150), Figure(-0.53, "measured", "validation", 150, -0.6, -0.44)
    for one in (None, change):
        card = recover_result._card("damaged", "Damaged", "accuracy", seen, one, subject)  # type: ignore[arg-type]
        assert card.note[-1] == ("x-seen", "validation, n = 150")
