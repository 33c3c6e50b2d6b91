"""Whose jobs are whose, beyond a browser session: a cookie that no script can read and nobody can guess."""

from __future__ import annotations

import secrets
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING

import streamlit as st
from starlette.middleware import Middleware

from .at_once import AtOnce
from .state import user

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

NAME = "explorer-owner"
YEAR = 365 * 24 * 3600
LENGTH = 43  # of 32 random bytes in base64


def valid(token: str | None) -> bool:
    """Whether a cookie's value can be one of ours."""
    return token is not None and len(token) == LENGTH and all(c.isalnum() or c in "-_" for c in token)


class OwnerCookie:
    """Gives every browser that asks for a page a cookie of its own, once. Sent along with the WebSocket, read by :func:`owner`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; add the cookie to the answer where it is missing."""
        if scope["type"] != "http" or valid(_sent(scope)):
            await self.app(scope, receive, send)
            return
        flags = f"Path=/; Max-Age={YEAR}; HttpOnly; SameSite=Lax" + (
            "; Secure" if scope.get("scheme") == "https" else ""
        )

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start" and _page(message):
                cookie = f"{NAME}={secrets.token_urlsafe(32)}; {flags}"
                message["headers"] = [*message["headers"], (b"set-cookie", cookie.encode())]
            await send(message)

        await self.app(scope, receive, answer)


def middleware() -> list[Middleware]:
    """For the app's stack."""
    return [Middleware(OwnerCookie), Middleware(AtOnce)]


def _page(message: Message) -> bool:
    """Whether it is an HTML page: one request of a browser asks for that, many for the files beside it."""
    return any(name.lower() == b"content-type" and value.startswith(b"text/html") for name, value in message["headers"])


def _sent(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name.lower() == b"cookie":
            try:
                found = SimpleCookie(value.decode("latin-1")).get(NAME)
            except CookieError:
                return None
            return found.value if found else None
    return None


def owner() -> str:
    """The visitor's name to jobs: of the browser, or of this session alone where it keeps no cookies."""
    token = st.context.cookies.get(NAME)
    return token if token is not None and valid(token) else user()
