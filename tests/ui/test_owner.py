"""The cookie by which jobs are told apart: once a browser, unguessable, out of a script's reach."""

from __future__ import annotations

from http.cookies import SimpleCookie

import pytest
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from explorer.ui.owner import LENGTH, NAME, middleware, valid

APP = Starlette(
    routes=[Route("/", lambda _: HTMLResponse("<p>")), Route("/file", lambda _: PlainTextResponse("x"))],
    middleware=middleware(),
)


def given(headers: list[tuple[str, str]]) -> str | None:
    set_cookie = next((value for name, value in headers if name == "set-cookie"), None)
    return SimpleCookie(set_cookie)[NAME].value if set_cookie else None


def test_a_page_gives_one_and_only_once() -> None:
    with TestClient(APP) as client:
        first = client.get("/")
        token = given(list(first.headers.items()))
        assert (
            valid(token) and "HttpOnly" in first.headers["set-cookie"] and "SameSite=Lax" in first.headers["set-cookie"]
        )
        assert "set-cookie" not in client.get("/").headers
    with TestClient(APP) as other:
        assert given(list(other.get("/").headers.items())) != token


def test_files_give_none() -> None:
    with TestClient(APP) as client:
        assert "set-cookie" not in client.get("/file").headers


@pytest.mark.parametrize("value", ["", "x", "a" * (LENGTH + 1), "../" + "a" * (LENGTH - 3), '"' + "a" * (LENGTH - 1)])
def test_a_made_up_one_is_replaced(value: str) -> None:
    assert not valid(value)
    with TestClient(APP) as client:
        assert valid(given(list(client.get("/", headers={"cookie": f"{NAME}={value}"}).headers.items())))


def test_https_keeps_it_to_https() -> None:
    with TestClient(APP, base_url="https://testserver") as client:
        assert "Secure" in client.get("/").headers["set-cookie"]
