"""Netron on the app's port: what is served, to whom, and what the browser draws."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import numpy as np
import onnx
import pytest
import uvicorn
from starlette.applications import Starlette

from explorer.ui import model_store, netron

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAME = "fc1 模型.onnx"  # a file's name may hold spaces and any letters


@dataclass(frozen=True)
class Answer:
    """What a route answered."""

    status: int
    headers: dict[str, str]
    body: bytes


def get(path: str, query: str = "") -> Answer:
    """One request to the routes, without a network."""
    sent: list[dict] = []

    async def receive() -> dict:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": query.encode(),
             "headers": [(b"host", b"localhost")], "scheme": "http", "server": ("localhost", 80), "root_path": "", "http_version": "1.1"}  # fmt: skip
    request = Starlette(routes=netron.netron_routes())(scope, receive, send)
    with ThreadPoolExecutor(1) as thread:  # a loop of its own: a browser test before may have left one running in this thread
        thread.submit(asyncio.run, request).result()
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:]))


def small_model() -> bytes:
    """x -> Gemm "fc1" -> Relu "act" -> Gemm "fc2"."""
    rng = np.random.default_rng(0)
    weights = [onnx.numpy_helper.from_array(rng.normal(size=(4, 4)).astype(np.float32), name) for name in ("w1", "w2")]
    nodes = [
        onnx.helper.make_node("Gemm", ["input", "w1"], ["h"], name="fc1"),
        onnx.helper.make_node("Relu", ["h"], ["a"], name="act"),
        onnx.helper.make_node("Gemm", ["a", "w2"], ["logits"], name="fc2"),
    ]
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 4]) for name in ("input", "logits")
    ]
    nodes[0].metadata_props.add(key="sparsity", value="90.0 %")
    graph = onnx.helper.make_graph(nodes, "small", ends[:1], ends[1:], weights)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)]).SerializeToString()


# The store


def test_a_token_finds_its_content_and_no_other() -> None:
    one, other = model_store.put(b"one", "a.onnx"), model_store.put(b"one", "a.onnx")
    assert one != other and len(one) == 32  # 24 random bytes, base64
    assert model_store.get(one) == b"one"
    assert model_store.get("no-such-token") is None


def test_the_least_recently_used_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_store, "_kept", type(model_store._kept)())
    monkeypatch.setattr(model_store, "BUDGET", 10)
    first, second = model_store.put(b"1234", "1"), model_store.put(b"5678", "2")
    assert model_store.get(first) == b"1234"  # used just now, so the second is the oldest
    third = model_store.put(b"9abc", "3")
    assert [model_store.get(token) for token in (first, second, third)] == [b"1234", None, b"9abc"]
    big = model_store.put(b"x" * 11, "big")  # more than the budget: alone, but there
    assert [model_store.get(token) is None for token in (first, third, big)] == [True, True, False]


def test_many_threads_lose_nothing() -> None:
    with ThreadPoolExecutor(8) as pool:
        tokens = list(pool.map(lambda number: model_store.put(str(number).encode(), "n"), range(400)))
        read = list(pool.map(model_store.get, tokens))
    assert read == [str(number).encode() for number in range(400)] and len(set(tokens)) == 400


# The routes


def test_a_model_is_served_by_its_token_and_never_kept_by_the_browser() -> None:
    answer = get(f"/models/{model_store.put(b'graph', NAME)}/{quote(NAME)}")
    assert (answer.status, answer.body) == (200, b"graph")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize("path", ["/models/unknown/m.onnx", "/models/", "/models/../m.onnx", "/models//m.onnx"])
def test_an_unknown_token_is_not_found(path: str) -> None:
    assert get(path).status == 404


def test_the_page_keeps_to_this_host_and_does_not_lock_itself() -> None:
    answer = get("/netron/")
    text = answer.body.decode("utf-8")
    assert answer.status == 200
    assert 'name="date"' not in text and 'name="version" content="0.0.0"' in text
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["set-cookie"].lower().startswith("consent=1; path=/netron")
    assert "x-marks.js" in text and "x-marks.css" in text


def test_netron_is_found_where_streamlit_puts_the_apps_folder_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(netron.HERE))  # as it does with the main script's; there is a netron.py, too
    netron.folder.cache_clear()
    assert (netron.folder() / "index.html").is_file() and netron.folder() != netron.HERE


def test_the_address_without_a_slash_leads_to_the_folder() -> None:
    answer = get("/netron", "url=/models/t/m.onnx")
    assert (answer.status, answer.headers["location"]) == (307, "netron/?url=/models/t/m.onnx")


@pytest.mark.parametrize(
    "name", ["index.js", "grapher.css", "onnx-metadata.json", "icon.png", "favicon.ico", "x-marks.js"]
)
def test_the_pages_files_are_served(name: str) -> None:
    answer = get(f"/netron/{name}")
    assert answer.status == 200 and answer.body
    assert answer.headers["content-type"].split(";")[0] == netron.SUFFIXES[name[name.rindex(".") :]]
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "name",
    [
        "server.py",
        "__init__.py",
        "__pycache__",
        "..",
        "../netron.py",
        "..\\netron.py",
        "x-marks.py",
        "C:index.js",
        "INDEX.JS",
        "",
    ],
)
def test_nothing_else_is_served(name: str) -> None:
    answer = get(f"/netron/{name}")
    assert answer.status == 404 if name else answer.status == 200  # the folder itself is the page
    assert b"import" not in answer.body[:200]


@pytest.mark.parametrize(("theme", "media"), [("dark", "@media all"), ("light", "@media not all")])
def test_the_apps_theme_overrules_the_browsers(theme: str, media: str) -> None:
    for path in ("/netron/", "/netron/grapher.css", "/netron/x-marks.css"):
        text = get(path, f"theme={theme}").body.decode("utf-8")
        assert media in text and "prefers-color-scheme" not in text
        assert "prefers-color-scheme: dark" in get(path, "theme=%3Cscript%3E").body.decode("utf-8")
    assert f'href="grapher.css?theme={theme}"' in get("/netron/", f"theme={theme}").body.decode("utf-8")
    assert "<script>" not in get("/netron/", "theme=%3Cscript%3E").body.decode("utf-8")


# In a browser

# (kept, cut): OKLab of the palette, by the formula of Ottosson (2020); a mark mixes them by its sparsity
FILLS = {"light": ("#3b6fd4", "#d4714a"), "dark": ("#7aa2f7", "#e58a66")}
GROUND = {"light": "rgba(0, 0, 0, 0)", "dark": "rgb(23, 27, 34)"}


def oklab(colour: str) -> np.ndarray:
    """#rrggbb in OKLab: sRGB to linear, to cone responses, their cube roots to L, a, b."""
    encoded = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    cones = [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566], [0.0883024619, 0.2817188376, 0.6299787005]]  # fmt: skip
    axes = [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099], [0.0259040371, 0.7827717662, -0.8086757660]]  # fmt: skip
    return np.array(axes) @ np.cbrt(np.array(cones) @ linear)


def as_css(lab: np.ndarray) -> re.Pattern[str]:
    """How a browser writes an OKLab colour, to three digits (truncated)."""
    numbers = " ".join(re.escape(f"{np.trunc(value * 1000) / 1000:.3f}") + r"\d*" for value in lab)
    return re.compile(rf"^oklab\({numbers}\)$")


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    """The routes alone, in this process, so that a test can put models into the store."""
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=netron.netron_routes()), port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    end = time.monotonic() + 20
    while not server.started and time.monotonic() < end:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def address(host: str) -> Callable[[str], str]:
    """Puts the small model and its marks into the store; returns Netron's address for them."""

    def make(theme: str) -> str:
        marks = {
            "fc1": {"sparsity": 0.9, "bits": 32},
            "fc2": {"sparsity": 0.0, "bits": 4},
            "gone": {"sparsity": 1, "bits": 8},
        }
        model, marked = model_store.put(small_model(), NAME), model_store.put(json.dumps(marks).encode(), "marks.json")
        named = quote(NAME)
        return f"{host}/netron/?url=/models/{model}/{named}&identifier={named}&marks=/models/{marked}/marks.json&theme={theme}"

    return make


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_graph_is_drawn_and_marked_in_the_apps_theme(
    browser: Browser, host: str, address: Callable[[str], str], theme: str
) -> None:
    from playwright.sync_api import expect

    # the browser prefers the other theme: the app's must win
    context = browser.new_context(
        color_scheme="light" if theme == "dark" else "dark", viewport={"width": 900, "height": 700}
    )
    errors: list[str] = []
    requests: list[str] = []
    context.on("request", lambda request: requests.append(request.url))
    page = context.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(
        "console", lambda message: errors.append(message.text) if "Content Security Policy" in message.text else None
    )
    page.goto(address(theme))

    marked = page.locator(".node-item.x-mark")
    expect(marked).to_have_count(2, timeout=20_000)
    expect(page.locator("#node-name-fc2 .x-quantized, #node-name-fc2.x-quantized")).to_have_count(1)
    expect(page.locator("#node-name-fc1 .x-quantized, #node-name-fc1.x-quantized")).to_have_count(0)
    kept, cut = (oklab(colour) for colour in FILLS[theme])
    expect(page.locator("#node-name-fc2 .x-mark path, #node-name-fc2.x-mark path").first).to_have_css(
        "fill", as_css(kept)
    )
    expect(page.locator("#node-name-fc1 .x-mark path, #node-name-fc1.x-mark path").first).to_have_css(
        "fill", as_css(0.1 * kept + 0.9 * cut)
    )
    expect(page.locator("#target")).to_have_css("background-color", GROUND[theme])
    page.locator("#node-name-fc1").first.click()
    sections = page.locator(".sidebar-object .sidebar-section")
    expect(sections.first).to_have_text("Metadata")  # our figures, which Netron lists last
    expect(page.locator(".sidebar-object .sidebar-item input").first).to_have_value("sparsity")
    context.close()
    assert not errors
    assert {urlsplit(url).netloc for url in requests if not url.startswith(("data:", "blob:"))} == {
        urlsplit(host).netloc
    }
