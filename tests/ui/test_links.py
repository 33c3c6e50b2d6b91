"""Addresses: a recovered model comes back to its owner alone, a link to an opened file waits for that file."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import streamlit as st

import explorer
from explorer.core.errors import LoadError
from explorer.core.recipe import Recipe
from explorer.models.subject import Subject
from explorer.recover.jobs import Job, Jobs
from explorer.recover.orders import Order
from explorer.recover.settings import Settings
from explorer.recover.store import Store
from explorer.ui import links, models, recovered
from explorer.ui.owner import LENGTH, NAME
from explorer.ui.state import workspace
from tests.contract.nets import tiny
from tests.recover.small import same_weights, small

ANN, BOB = "a" * LENGTH, "b" * LENGTH
MODEL, LAYER = "vowels-rnn", "rnn.weight_hh_l0"
RECIPE = Recipe().prune(LAYER, sparsity=0.5)


class Query(dict):
    """The address bar's parameters."""

    def from_dict(self, values: dict[str, str]) -> None:
        self.clear()
        self.update(values)


Visit = Callable[..., str]


@pytest.fixture
def visit(monkeypatch: pytest.MonkeyPatch) -> Visit:
    """A new session of a browser at an address; the name of the model that it shows."""

    def begin(browser: str, query: dict[str, str] | None = None) -> str:
        monkeypatch.setattr(st, "session_state", {"language": "en"})
        monkeypatch.setattr(st, "query_params", Query(query or {}))
        monkeypatch.setattr(st, "context", SimpleNamespace(cookies={NAME: browser}))
        return links.read()

    monkeypatch.setattr(st, "spinner", lambda _text, **_how: nullcontext())
    return begin


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Jobs]:
    """Start the server (again): its jobs are those on disk."""

    def start() -> Jobs:
        made = Jobs(Store(tmp_path / "jobs"))
        monkeypatch.setattr(recovered, "jobs", lambda: made)
        return made

    return start


def done(jobs: Jobs, subject: Subject | None, device: str, recipe: Recipe = RECIPE) -> Job:
    """Ann's job, when it has ended."""
    assert subject is not None
    job = jobs.submit(ANN, Order("fine-tuning", subject, recipe, Settings(epochs=1, samples=64, batch=32), device=device))
    while not job.over:
        job._stop.wait(0.01)
    assert job.result is not None, job.error
    return job


def use(subject: Subject) -> dict[str, str]:
    """Take a subject over and change something; the address then."""
    space = workspace(models.keep_once(subject))
    space.layer = LAYER
    space.replace(space.history.push(RECIPE.quantize(LAYER, bits=4)))
    st.session_state["model"] = space.model
    links.write(space)
    return dict(st.query_params)


def shown(name: str) -> tuple[str, Recipe]:
    return workspace(name).layer, workspace(name).history.present


def test_a_recovered_model_comes_back_after_a_reload_and_after_a_restart(visit: Visit, server: Callable[[], Jobs], device: str) -> None:
    jobs = server()
    visit(ANN)
    first = done(jobs, explorer.load(MODEL), device)
    second = done(jobs, first.result, device)
    assert first.result is not None and second.result is not None
    address = use(second.result)
    assert address["job"] == second.id and address["model"] == second.result.name
    for restarted in (False, True):
        if restarted:
            server()
        name = visit(ANN, address)
        found = models.open_subject(name)
        assert shown(name) == (LAYER, RECIPE.quantize(LAYER, bits=4))
        assert (found is second.result) is not restarted and same_weights(found.module, second.result.module)
        assert found.parent is not None and found.parent.digest == first.result.digest
        links.write(workspace(name))
        assert dict(st.query_params) == address


def test_nobody_else_opens_it(visit: Visit, server: Callable[[], Jobs], device: str) -> None:
    jobs = server()
    visit(ANN)
    address = use(done(jobs, explorer.load(MODEL), device).result)  # type: ignore[arg-type]
    for query in (address, address | {"job": "0" * 16}, address | {"job": ".."}):
        name = visit(BOB, query)
        assert name == models.default() and shown(name) == ("", Recipe())  # the recipe is another model's
        waits = links.waiting(workspace(name))
        assert waits is not None and "another browser, or its job was removed" in waits.reason
        links.write(workspace(name))
        assert "job" not in st.query_params and st.query_params["model"] == name
    assert visit(ANN, address) == address["model"]
    jobs.remove(ANN, address["job"])
    assert visit(ANN, address) == models.default()


def test_one_that_was_recovered_from_a_file_waits_for_it(visit: Visit, server: Callable[[], Jobs], device: str) -> None:
    jobs = server()
    visit(ANN)
    start = small(device)
    job = done(jobs, start, device, Recipe().prune("*", sparsity=0.5))
    assert job.result is not None
    address = use(job.result)
    assert visit(ANN, address) == job.result.name  # the job has the file's model in memory
    server()
    name = visit(ANN, address)
    waits = links.waiting(workspace(name))
    assert name == models.default() and waits is not None and f"{start.name}, from which" in waits.reason
    with pytest.raises(LoadError, match="accepted: to open it again"):
        recovered.open_job(job.id)
    links.write(workspace(name))
    assert dict(st.query_params) == address  # so that another reload asks for it again
    other = models.keep(tiny(device=device))
    assert links.opened(other) == other
    again = models.keep(small(device))
    assert models.open_subject(links.opened(again)).digest == job.made


def opened(device: str, digest: str) -> str:
    """What the dialog does with a file."""
    subject = tiny(device=device)
    subject.card["digest"] = digest
    return links.opened(models.keep(subject))


def test_a_link_to_a_file_waits_for_the_same_content(visit: Visit, server: Callable[[], Jobs], device: str) -> None:
    server()
    visit(ANN)
    name, layer = opened(device, "1" * 64), "fc1.weight"
    space = workspace(name)
    space.layer = layer
    space.replace(space.history.push(Recipe().prune(layer, sparsity=0.25)))
    links.write(space)
    address = dict(st.query_params)
    assert address["file"] == "1" * links.DIGITS and address["model"] == name
    default = visit(BOB, address)
    assert default == models.default() and shown(default) == ("", Recipe())
    links.write(workspace(default))
    assert dict(st.query_params) == address
    assert not shown(opened(device, "2" * 64))[1].rules  # another file of that name
    name = opened(device, "1" * 64)
    assert shown(name) == (layer, Recipe().prune(layer, sparsity=0.25)) and links.WAITS not in st.session_state


def test_a_waiting_link_ends_when_something_else_is_done(visit: Visit, server: Callable[[], Jobs]) -> None:
    server()
    space = workspace(visit(BOB, {"model": "x.onnx", "file": "1" * links.DIGITS, "r": "AAAA"}))
    assert links.waiting(space) is not None
    space.commit(Recipe().prune("fc1.weight", sparsity=0.5))
    assert links.waiting(space) is None
    links.write(space)
    assert st.query_params["model"] == space.model and "file" not in st.query_params


def test_back_and_forward_undo_and_redo(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(links.time, "monotonic", lambda: now)
    space = workspace(visit(ANN, {"model": MODEL, "layer": LAYER}))
    addresses = []
    for recipe in (Recipe(), RECIPE, RECIPE.quantize(LAYER, bits=4)):
        space.history = space.history.push(recipe)
        links.write(space)
        addresses.append(dict(st.query_params))

    def go(address: dict[str, str]) -> Recipe:
        st.query_params.from_dict(address)
        assert links.read() == MODEL
        links.write(space)
        return space.history.present

    assert go(addresses[1]) == RECIPE.quantize(LAYER, bits=4) and st.query_params == addresses[2], "too early: may be a late message"
    monkeypatch.setattr(links, "get_script_run_ctx", lambda: SimpleNamespace(is_history_navigation=True))
    assert go(addresses[1]) == RECIPE, "the browser says that it went back"
    assert go(addresses[2]) == RECIPE.quantize(LAYER, bits=4)
    monkeypatch.setattr(links, "get_script_run_ctx", lambda: None)
    now += 10
    assert go(addresses[1]) == RECIPE and st.query_params == addresses[1] and len(space.history.future) == 1
    now += 10
    assert go(addresses[0]) == Recipe() and not space.history.past
    now += 10
    assert go(addresses[2]) == RECIPE.quantize(LAYER, bits=4) and not space.history.future and len(space.history.past) == 2
    now += 10
    assert go({}) == RECIPE.quantize(LAYER, bits=4), "another page's address says nothing"
    assert go(addresses[0] | {"r": "%%%"}) == RECIPE.quantize(LAYER, bits=4)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"job": "gone"}, "No model 'gone' here"),
        ({"model": "x" * 3000}, f"No model '{'x' * 59}…' here"),
        ({"model": "[free](http://elsewhere)"}, r"No model '\[free\]\(http\://elsewhere\)' here"),
    ],
)
def test_a_name_from_an_address_is_shown_short_and_as_it_is(
    query: dict[str, str], said: str, visit: Visit, server: Callable[[], Jobs], monkeypatch: pytest.MonkeyPatch
) -> None:
    server()
    model = visit(ANN, query)
    shown: list[str] = []
    monkeypatch.setattr(st, "warning", lambda text, **_: shown.append(text))
    links.say_waiting(workspace(model))
    assert len(shown) == 1 and shown[0].startswith(said)
